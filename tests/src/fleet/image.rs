//! The snapshot of a stopped node's state, altered so that nothing shows: the checksum holds, and the
//! state is another.

use std::path::Path;

use portcullis_policy::{Snapshot, decode_snapshot, encode_snapshot};
use sha2::{Digest, Sha256};

/// Before it stand 16 bytes of a name, the length of what consensus says of it, and that; behind it
/// the SHA-256 of all.
const HEAD: usize = 16;
const SUM: usize = 32;

/// Alters the snapshot in a stopped node's data directory.
///
/// # Panics
/// When there is not one that can be understood.
pub fn alter(data: &Path, with: impl FnOnce(&mut Snapshot)) {
    rewrite(data, |image| {
        let mut snapshot = decode_snapshot(image).expect("a snapshot's bytes");
        with(&mut snapshot);
        encode_snapshot(&snapshot).expect("a snapshot")
    });
}

fn rewrite(data: &Path, with: impl FnOnce(&[u8]) -> Vec<u8>) {
    let files = std::fs::read_dir(data).expect("a data directory").flatten();
    let mut images = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("state-") && name.ends_with(".img"))
    });
    let path = images.next().expect("a snapshot");
    assert!(images.next().is_none(), "one snapshot only");
    let bytes = std::fs::read(&path).expect("it can be read");
    let length = bytes[HEAD..HEAD + 8].try_into().expect("eight bytes");
    let begins = HEAD + 8 + usize::try_from(u64::from_be_bytes(length)).expect("a length");
    let mut altered = bytes[..begins].to_vec();
    altered.extend(with(&bytes[begins..bytes.len() - SUM]));
    let sum = Sha256::digest(&altered);
    altered.extend(sum);
    assert_ne!(altered, bytes, "nothing was altered");
    std::fs::write(&path, altered).expect("it can be written");
}

/// Alters the audit logs alone in the snapshot of a stopped node that had none yet: the fleet's log has
/// one entry before all others that nobody else has, and the state is as it was.
///
/// # Panics
/// When there is not one that can be understood.
pub fn alter_log(data: &Path) {
    rewrite(data, |image| {
        assert!(decode_snapshot(image).is_ok(), "it has no logs yet");
        // A fleet's log of one entry with its hash, never sealed; no tenants, none grown; the chain.
        let mut logs = vec![1, 1];
        logs.extend([7; 32]);
        logs.extend([0, 0, 0]);
        logs.extend([9; 32]);
        let mut altered = vec![WITH_LOGS];
        let length = u64::try_from(logs.len()).expect("a short one");
        altered.extend(length.to_be_bytes());
        altered.extend(logs);
        altered.extend(image);
        altered
    });
}

/// Before a state that audit logs precede.
const WITH_LOGS: u8 = 0xa1;

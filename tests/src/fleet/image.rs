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
    let image = &bytes[begins..bytes.len() - SUM];
    let mut snapshot = decode_snapshot(image).expect("a snapshot's bytes");
    with(&mut snapshot);
    let mut altered = bytes[..begins].to_vec();
    altered.extend(encode_snapshot(&snapshot).expect("a snapshot"));
    let sum = Sha256::digest(&altered);
    altered.extend(sum);
    assert_ne!(altered, bytes, "nothing was altered");
    std::fs::write(&path, altered).expect("it can be written");
}

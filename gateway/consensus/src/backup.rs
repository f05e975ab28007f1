//! A state as a file to keep elsewhere: sixteen bytes that say what it is, the SHA-256 of what
//! follows, and the state as `portcullis_policy::encode_snapshot` writes it. No key is in it.

use crate::image::Image;
use portcullis_policy::State;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

const MAGIC: &[u8; 16] = b"portcullis bak 1";

/// The largest back-up, in bytes.
pub const MAX_BACKUP: usize = 1 << 30;

/// Why something is not a back-up, or could not be made one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupError(String);

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BackupError {}

/// The bytes to keep.
///
/// # Errors
/// [`BackupError`] if the state is too large.
pub fn to_backup(state: &State) -> Result<Vec<u8>, BackupError> {
    let Image(body) = Image::of_state(state).map_err(|error| BackupError(error.to_string()))?;
    let bytes = [MAGIC.as_slice(), &Sha256::digest(body.as_slice()), &body].concat();
    if bytes.len() > MAX_BACKUP {
        return Err(BackupError(
            "the state is too large for a back-up".to_owned(),
        ));
    }
    Ok(bytes)
}

/// The state that was kept, if the bytes are whole.
///
/// # Errors
/// [`BackupError`]
pub fn from_backup(bytes: &[u8]) -> Result<State, BackupError> {
    let rest = bytes
        .strip_prefix(MAGIC.as_slice())
        .ok_or_else(|| BackupError("it is no back-up, or one of a later version".to_owned()))?;
    let (sum, body) = rest
        .split_first_chunk::<32>()
        .ok_or_else(|| BackupError("it is cut off".to_owned()))?;
    if Sha256::digest(body).as_slice() != sum {
        return Err(BackupError(
            "it is damaged: its checksum is wrong".to_owned(),
        ));
    }
    Image(Arc::new(body.to_vec()))
        .state()
        .map_err(|error| BackupError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::{Command, Proposal, Tenant, Timestamp};

    #[test]
    fn a_backup_is_the_state_and_any_other_byte_is_found() {
        let mut state = State::default();
        let command = Command::Apply {
            base: None,
            expected: std::collections::BTreeMap::new(),
            put: vec![Tenant::new("acme".parse().unwrap())],
            remove: vec![],
        };
        let proposal = Proposal::local("test", Timestamp::from_millis(1), command);
        state.apply(&proposal).unwrap();
        let bytes = to_backup(&state).unwrap();
        assert_eq!(from_backup(&bytes).unwrap().root(), state.root());
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(from_backup(&other).is_err(), "byte {at}");
            assert!(from_backup(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}

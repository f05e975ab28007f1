//! How far the state's file has come, told beside it.
//!
//! A file that was damaged where its latest transaction lies can still be read as it was before
//! that: whole, and behind. A voter that forgot entries or a vote that others count on must not
//! come back, so each transaction has a number, and the number of the last one that is durable
//! stands here too. A file that is behind its mark is refused.
//!
//! The mark itself is not synced: it is never ahead of what is durable, and survives whatever kills
//! the process. A loss of power may leave it behind the file, which is no harm.

use crate::image::damaged;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A number, and half a hash of it.
const BYTES: usize = 8 + 16;

/// The file beside the state's.
pub(crate) struct Mark(File);

impl Mark {
    /// Makes one that says nothing yet, in the place of one that may be there.
    pub(crate) fn begin(state: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path(state))?;
        file.write_all_at(&written(0), 0)?;
        file.sync_all()
    }

    /// The mark beside a state's file, and the number that it has.
    pub(crate) fn open(state: &Path) -> io::Result<(Self, u64)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path(state))?;
        let mut bytes = [0; BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let number = bytes.first_chunk::<8>().map(|it| u64::from_be_bytes(*it));
        match number {
            Some(number) if written(number) == bytes => Ok((Self(file), number)),
            Some(_) | None => Err(damaged("the mark of how far it has come is damaged")),
        }
    }

    /// Takes note of a transaction that is durable.
    pub(crate) fn set(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&written(number), 0)
    }
}

fn path(state: &Path) -> PathBuf {
    state.with_extension("mark")
}

fn written(number: u64) -> [u8; BYTES] {
    let number = number.to_be_bytes();
    let hash: [u8; 32] = Sha256::digest(number).into();
    let mut bytes = [0; BYTES];
    let halves = number.iter().chain(hash.iter());
    for (to, from) in bytes.iter_mut().zip(halves) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_set_and_not_when_it_is_damaged() {
        let state = std::env::temp_dir().join(format!("portcullis-mark-{}", std::process::id()));
        Mark::begin(&state).unwrap();
        let (mark, number) = Mark::open(&state).unwrap();
        assert_eq!(number, 0);
        mark.set(812).unwrap();
        assert_eq!(Mark::open(&state).unwrap().1, 812);
        let file = OpenOptions::new().write(true).open(path(&state)).unwrap();
        file.write_all_at(&[9], 7).unwrap();
        assert!(Mark::open(&state).is_err());
        std::fs::remove_file(path(&state)).unwrap();
    }
}

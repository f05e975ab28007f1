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

/// A number, and half a hash of it: of another kind where the file is suspect.
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
        match read(&bytes) {
            Some((number, _)) => Ok((Self(file), number)),
            None => Err(damaged("the mark of how far it has come is damaged")),
        }
    }

    /// Takes note that a write of the file failed, after the one of this number: what can be read of it
    /// may not be on the disk.
    pub(crate) fn suspect(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&hashed(number, Kind::Suspect), 0)
    }

    /// Whether a write of the file failed and it was not written anew since. A mark that is not there
    /// or damaged does not say so; opening it does.
    pub(crate) fn is_suspect(state: &Path) -> io::Result<bool> {
        let file = match File::open(path(state)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; BYTES];
        if file.metadata()?.len() < BYTES as u64 {
            return Ok(false);
        }
        file.read_exact_at(&mut bytes, 0)?;
        Ok(read(&bytes).is_some_and(|(_, kind)| kind == Kind::Suspect))
    }

    /// Waits for its turn among processes that write the file anew; it lasts until the result is dropped.
    pub(crate) fn lock(state: &Path) -> io::Result<File> {
        let file = File::open(path(state))?;
        file.lock()?;
        Ok(file)
    }

    /// Takes note that the file was written anew.
    pub(crate) fn trust(state: &Path) -> io::Result<()> {
        let (mark, number) = Self::open(state)?;
        mark.set(number)
    }

    /// Takes note of a transaction that is durable.
    pub(crate) fn set(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&written(number), 0)
    }
}

fn path(state: &Path) -> PathBuf {
    state.with_extension("mark")
}

/// What a mark says of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its writes up to the number are durable.
    Sound,
    /// They are, and one after them failed.
    Suspect,
}

fn read(bytes: &[u8; BYTES]) -> Option<(u64, Kind)> {
    let number = u64::from_be_bytes(*bytes.first_chunk::<8>()?);
    let kinds = [Kind::Sound, Kind::Suspect];
    let kind = kinds
        .into_iter()
        .find(|kind| hashed(number, *kind) == *bytes)?;
    Some((number, kind))
}

fn written(number: u64) -> [u8; BYTES] {
    hashed(number, Kind::Sound)
}

fn hashed(number: u64, kind: Kind) -> [u8; BYTES] {
    let number = number.to_be_bytes();
    let hash: [u8; 32] = match kind {
        Kind::Sound => Sha256::digest(number).into(),
        Kind::Suspect => Sha256::new()
            .chain_update(number)
            .chain_update(b"suspect")
            .finalize()
            .into(),
    };
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
        assert!(!Mark::is_suspect(&state).unwrap());
        mark.suspect(812).unwrap();
        assert!(Mark::is_suspect(&state).unwrap());
        assert_eq!(Mark::open(&state).unwrap().1, 812);
        Mark::trust(&state).unwrap();
        assert!(!Mark::is_suspect(&state).unwrap());
        assert_eq!(Mark::open(&state).unwrap().1, 812);
        let file = OpenOptions::new().write(true).open(path(&state)).unwrap();
        file.write_all_at(&[9], 7).unwrap();
        assert!(Mark::open(&state).is_err());
        std::fs::remove_file(path(&state)).unwrap();
    }
}

//! The record that is on its way into the audit logs, on disk before it is given to anybody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use portcullis_audit::tlog::Hash;
use serde::{Deserialize, Serialize};

use super::super::tail::Place;

/// A record, and where the node goes on reading its events once it is in the logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outgoing {
    pub(super) sequence: u64,
    pub(super) next: Place,
    /// The number of the last batch file that was written.
    pub(super) batch: u64,
    pub(super) events: Vec<Vec<u8>>,
}

/// The format, then the record in postcard, then the hash of both as of a leaf.
const FORMAT: u8 = 1;
const SUM: usize = 32;

/// Bytes of such a file at most: a record, and what is around it.
const MOST: u64 = 128 * 1024;

impl Outgoing {
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = postcard::to_extend(self, vec![FORMAT]).map_err(io::Error::other)?;
        let sum = Hash::of_leaf(&bytes);
        bytes.extend_from_slice(&sum.0);
        Ok(bytes)
    }

    /// What bytes say, if they are whole and of a format that is known.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
        if Hash::of_leaf(body).0 != sum {
            return None;
        }
        let (&FORMAT, body) = body.split_first()? else {
            return None;
        };
        let (outgoing, rest) = postcard::take_from_bytes(body).ok()?;
        rest.is_empty().then_some(outgoing)
    }
}

/// What the file says; none if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => {
            let mut bytes = Vec::new();
            opened?.take(MOST).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
    }
}

/// Puts these bytes in the place of the file: whoever looks finds the old ones or all of these, also
/// after the power went.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

//! Reading on from a place, behind the writer, whatever is rotated meanwhile.

use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::files::Files;

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file: the number that it gets when it is rotated.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// What lies behind a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Tail {
    /// Whole lines, each with its newline, and where the next begins: nothing is durable behind
    /// that yet if there are none. Where there is no newline, no line of ours is that long.
    Lines(Vec<u8>, Place),
    /// The place is not there: its file was let go of, or is shorter.
    Gone,
}

pub(super) fn read(files: &Files, from: Place, most: usize) -> io::Result<Tail> {
    let mut from = from;
    loop {
        let Some(numbered) = files.open_numbered(from.file)? else {
            return Ok(Tail::Gone);
        };
        let Some(left) = numbered.end.checked_sub(from.offset) else {
            return Ok(Tail::Gone);
        };
        if left == 0 && !numbered.last {
            from = Place {
                file: from.file.saturating_add(1),
                offset: 0,
            };
            continue;
        }
        let window = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; window];
        numbered.file.read_exact_at(&mut bytes, from.offset)?;
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            bytes.truncate(end.saturating_add(1));
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let next = Place {
            offset: from.offset.saturating_add(length),
            ..from
        };
        return Ok(Tail::Lines(bytes, next));
    }
}

//! Checkpoints (C2SP tlog-checkpoint): a log's name, size and root, as the text of a signed note.

use std::fmt;

use super::hash::Hash;
use super::proof::MAX_SIZE;

/// What a log was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Reads a text that is signed. Lines after the third, which other logs may add, are passed over.
    ///
    /// # Errors
    /// [`NotACheckpoint`]
    pub fn parse(text: &str) -> Result<Self, NotACheckpoint> {
        let text = text.strip_suffix('\n').ok_or(NotACheckpoint::Form)?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let origin = line().ok_or(NotACheckpoint::Form)?.to_owned();
        let size_text = line().ok_or(NotACheckpoint::Form)?;
        let size: u64 = size_text.parse().map_err(|_| NotACheckpoint::Size)?;
        // `+1` and `01` are numbers elsewhere.
        if size > MAX_SIZE || size.to_string() != size_text {
            return Err(NotACheckpoint::Size);
        }
        let root = line().and_then(Hash::parse).ok_or(NotACheckpoint::Root)?;
        if lines.any(str::is_empty) {
            return Err(NotACheckpoint::Form);
        }
        Ok(Self { origin, size, root })
    }
}

/// A text is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotACheckpoint {
    /// It has fewer than three lines, an empty one among them, or no newline at its end.
    Form,
    /// The second line is no size.
    Size,
    /// The third line is no hash.
    Root,
}

impl fmt::Display for NotACheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a checkpoint has a line for the origin, the size and the root",
            Self::Size => "the second line is no size",
            Self::Root => "the third line is no root hash",
        })
    }
}

impl std::error::Error for NotACheckpoint {}

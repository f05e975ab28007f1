//! What can be found in a log that is checked ([`verify()`](fn@super::verify)).

use std::fmt;

use super::tile::Tile;

/// Findings that are told one by one; more are counted.
pub const MAX_FINDINGS: usize = 1_000;

/// Something about a log that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The entry is not the one that the checkpoint's tree has here.
    Entry {
        /// Its place, from 0.
        index: u64,
    },
    /// These entries are not all those of the checkpoint's tree, and which of them is not can no longer be told.
    Entries {
        /// The first of them,
        from: u64,
        /// and the first after them.
        to: u64,
    },
    /// A tile's hash is not that of what lies below it.
    Hash {
        /// Its file,
        tile: Tile,
        /// and which of its hashes, from 0.
        position: u16,
    },
    /// A file cannot be read as what it should be.
    Malformed {
        /// Which,
        tile: Tile,
        /// and why.
        problem: String,
    },
    /// A file is not there.
    Missing {
        /// Which.
        tile: Tile,
    },
}

impl Finding {
    /// Whether something is not there, rather than wrong.
    pub fn is_gap(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// The first entry that it concerns.
    pub(super) fn place(&self) -> u64 {
        match self {
            Self::Entry { index } => *index,
            Self::Entries { from, .. } => *from,
            Self::Malformed { tile, .. } | Self::Missing { tile } => span(tile).0,
            Self::Hash { tile, position } => {
                let subtree = tile.subtrees().nth(usize::from(*position));
                subtree.map_or(0, |at| at.index << at.level)
            }
        }
    }
}

/// The entries below a tile: the first, and the first after them.
pub(super) fn span(tile: &Tile) -> (u64, u64) {
    let first = tile.subtrees().next();
    let last = tile.subtrees().last();
    let from = first.map_or(0, |at| at.index << at.level);
    (from, last.map_or(from, |at| (at.index + 1) << at.level))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { index } => write!(f, "entry {index} was changed"),
            Self::Entries { from, to } => {
                write!(
                    f,
                    "entries {from} to {} are not those of the checkpoint",
                    to - 1
                )
            }
            Self::Hash { tile, position } => {
                write!(f, "{}: hash {position} was changed", tile.path())
            }
            Self::Malformed { tile, problem } => write!(f, "{}: {problem}", tile.path()),
            Self::Missing { tile } => {
                let (from, to) = span(tile);
                write!(
                    f,
                    "{} is missing (entries {from} to {})",
                    tile.path(),
                    to - 1
                )
            }
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Each, up to [`MAX_FINDINGS`].
    pub all: Vec<Finding>,
    /// How many more.
    pub more: u64,
    /// Entries that are not there and need not be: they were let go of.
    pub gone: u64,
}

impl Findings {
    /// Whether every file is there and as it should be.
    pub fn is_clean(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether something is wrong, not only missing.
    pub fn is_tampered(&self) -> bool {
        !self.all.iter().all(Finding::is_gap)
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.all.len() < MAX_FINDINGS {
            self.all.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

//! What can be wrong with a log that is being written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{MAX_ENTRY_BYTES, NotACheckpoint};

use super::place::LogId;

/// Why something was not done. Whatever was not done can be done again, but after [`LogError::NotSynced`].
#[derive(Debug)]
pub enum LogError {
    /// The system said no.
    Io {
        /// The file or folder,
        path: PathBuf,
        /// and why.
        error: io::Error,
    },
    /// What was written may not be on disk. Nothing more is done: all must be opened again at sizes that an earlier
    /// [`super::Logs::durable`] covers, and what came after them appended again.
    NotSynced {
        /// What the system said when syncing.
        problem: String,
    },
    /// A file is missing or does not hold what the log has there.
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        problem: String,
    },
    /// The log was not begun.
    Unknown(LogId),
    /// More than this many logs.
    TooMany(usize),
    /// Entries between the log's end and this one are not known.
    Gap {
        /// The log,
        log: LogId,
        /// where it should go on,
        size: u64,
        /// and the index that was given.
        index: u64,
    },
    /// The log has another entry here.
    Differs {
        /// The log,
        log: LogId,
        /// and the entry's index.
        index: u64,
    },
    /// The log did not declare that it may lack this bundle.
    NotDeclared {
        /// The log,
        log: LogId,
        /// and the bundle's first entry.
        index: u64,
    },
    /// An entry is longer than a log can hold.
    TooLong {
        /// The log,
        log: LogId,
        /// the entry's index,
        index: u64,
        /// and its length.
        bytes: usize,
    },
    /// The published checkpoint has another tree of this size.
    Fork {
        /// The log,
        log: LogId,
        /// and the checkpoint's size.
        size: u64,
    },
    /// A note to be published is no checkpoint.
    NotACheckpoint(LogId, NotACheckpoint),
    /// A checkpoint to be published is of another log; its origin.
    OtherLog(LogId, String),
    /// A checkpoint to be published is older than the published one.
    Older {
        /// The log,
        log: LogId,
        /// the size of the published one,
        published: u64,
        /// and of this.
        size: u64,
    },
    /// A checkpoint to be published has more entries than the log.
    Ahead {
        /// The log,
        log: LogId,
        /// its size,
        has: u64,
        /// and the checkpoint's.
        size: u64,
    },
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    /// What is wrong with what it comes from, in one line.
    pub(crate) fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether the disk takes nothing more: whatever is tried next fails as well.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(self, Self::Io { error, .. }
            if matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem))
    }

    pub(super) fn damaged(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "{}", path.display()),
            Self::NotSynced { problem } => write!(
                f,
                "what was written may not be on disk, the logs must be opened again: {problem}"
            ),
            Self::Damaged { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Unknown(log) => write!(f, "the log {log} was not begun"),
            Self::TooMany(limit) => write!(f, "more than {limit} logs"),
            Self::Gap { log, size, index } => write!(
                f,
                "the log {log} goes on at entry {size}, entry {index} was given"
            ),
            Self::Differs { log, index } => {
                write!(f, "entry {index} of the log {log} is another already")
            }
            Self::NotDeclared { log, index } => write!(
                f,
                "the log {log} did not declare that it may lack the entries from {index} on"
            ),
            Self::TooLong { log, index, bytes } => write!(
                f,
                "entry {index} of the log {log} would have {bytes} bytes, more than {MAX_ENTRY_BYTES}"
            ),
            Self::Fork { log, size } => write!(
                f,
                "the published checkpoint of the log {log} has other entries among its first {size}"
            ),
            Self::NotACheckpoint(log, _) => {
                write!(
                    f,
                    "what should be published of the log {log} is no checkpoint"
                )
            }
            Self::OtherLog(log, origin) => {
                write!(f, "a checkpoint of {origin} is none of the log {log}")
            }
            Self::Older {
                log,
                published,
                size,
            } => write!(
                f,
                "a checkpoint of the log {log} with {published} entries is published, one with {size} is older"
            ),
            Self::Ahead { log, has, size } => write!(
                f,
                "the log {log} has {has} entries, a checkpoint with {size} is ahead of it"
            ),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::NotACheckpoint(_, error) => Some(error),
            Self::NotSynced { .. }
            | Self::Damaged { .. }
            | Self::Unknown(_)
            | Self::TooMany(_)
            | Self::Gap { .. }
            | Self::Differs { .. }
            | Self::NotDeclared { .. }
            | Self::TooLong { .. }
            | Self::Fork { .. }
            | Self::OtherLog(..)
            | Self::Older { .. }
            | Self::Ahead { .. } => None,
        }
    }
}

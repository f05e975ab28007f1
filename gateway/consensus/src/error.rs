//! What can go wrong, and whose doing it is.

use portcullis_policy::Rejection;
use std::fmt;
use std::path::PathBuf;

/// Why a state could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the file open.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is damaged, or not a state at all.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The file was written by a later version of this program.
    Newer {
        /// The file.
        path: PathBuf,
        /// The format that it is in.
        format: u64,
    },
    /// The documents in the file do not fit together by today's rules.
    Rejected {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        rejection: Rejection,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                write!(f, "another process has {} open", path.display())
            }
            Self::Io { path, .. } => write!(f, "cannot open {}", path.display()),
            Self::Corrupt { path, found } => write!(
                f,
                "{} is damaged ({found}); restore it from a back-up, or move it away and apply the policy directory anew",
                path.display()
            ),
            Self::Newer { path, format } => write!(
                f,
                "{} was written by a later version of portcullis (format {format}); run that version",
                path.display()
            ),
            Self::Rejected { path, .. } => write!(
                f,
                "the documents in {} do not fit together by the rules of this version",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Rejected { rejection, .. } => Some(rejection),
            Self::InUse { .. } | Self::Corrupt { .. } | Self::Newer { .. } => None,
        }
    }
}

/// Why a proposal has no effect.
#[derive(Debug)]
pub enum ProposeError {
    /// The state refuses it: the proposer's to mend.
    Rejected(Rejection),
    /// It could not be made durable: ours to mend.
    Storage(StorageError),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("the change is refused"),
            Self::Storage(_) => f.write_str("the change could not be made durable"),
        }
    }
}

impl std::error::Error for ProposeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Storage(error) => Some(error),
        }
    }
}

/// Why the state's file could not be written.
#[derive(Debug)]
pub enum StorageError {
    /// The database under it failed.
    Database(Box<dyn std::error::Error + Send + Sync>),
    /// A document could not be put into bytes.
    Encode(postcard::Error),
    /// An earlier write failed; the node must be started again.
    FailedBefore,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(_) => f.write_str("the state's file could not be written"),
            Self::Encode(_) => f.write_str("a document could not be encoded"),
            Self::FailedBefore => {
                f.write_str("an earlier write to the state's file failed; restart this node")
            }
        }
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(&**error),
            Self::Encode(error) => Some(error),
            Self::FailedBefore => None,
        }
    }
}

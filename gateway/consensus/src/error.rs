//! What can go wrong, and whose doing it is.

use portcullis_policy::{NodeId, Rejection};
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
    /// The file is another node's.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        node: u64,
    },
    /// The file is not there, of a node that must have one.
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// Consensus could not start.
    Engine(String),
    /// The documents in the file do not fit together by today's rules.
    Rejected {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        rejection: Rejection,
    },
}

impl OpenError {
    /// Whether it may pass without anybody mending the state's file: a full disk, a file that is still
    /// open. What is damaged never does.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Io { .. } | Self::Engine(_) => true,
            Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Lost { .. }
            | Self::Rejected { .. } => false,
        }
    }
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
            Self::Foreign { path, node } => write!(
                f,
                "{} is the state of node {node}, not of this one; each node has its own data directory",
                path.display()
            ),
            Self::Lost { path } => write!(
                f,
                "{} is gone, and this node must not come back under its id without it; remove the node from its fleet and join anew with an empty data directory",
                path.display()
            ),
            Self::Engine(problem) => write!(f, "consensus could not start: {problem}"),
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
            Self::InUse { .. }
            | Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Lost { .. }
            | Self::Engine(_) => None,
        }
    }
}

/// Why a proposal has no effect, or is not known to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// The state refuses it: the proposer's to mend.
    Rejected(Rejection),
    /// Another node leads, if one is known to. It was not executed.
    NotLeader(Option<NodeId>),
    /// Nobody leads. It was not executed.
    NoQuorum,
    /// It was given to the log, and nobody knows yet what became of it.
    Unknown,
    /// It is larger than a proposal may be, in bytes.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest.
        maximum: usize,
    },
    /// It could not be made durable: ours to mend. The state must be opened again.
    Storage(String),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("the change is refused"),
            Self::NotLeader(Some(leader)) => write!(f, "node {leader} leads"),
            Self::NotLeader(None) => f.write_str("another node leads"),
            Self::NoQuorum => f.write_str("no quorum of control nodes answers"),
            Self::Unknown => f.write_str("nobody confirmed the change in time"),
            Self::TooLarge { bytes, maximum } => {
                write!(f, "the proposal has {bytes} bytes; {maximum} is the limit")
            }
            Self::Storage(problem) => {
                write!(f, "the change could not be made durable: {problem}")
            }
        }
    }
}

impl std::error::Error for ProposeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::NotLeader(_)
            | Self::NoQuorum
            | Self::Unknown
            | Self::TooLarge { .. }
            | Self::Storage(_) => None,
        }
    }
}

//! Why a call came to nothing.

use std::fmt;

use super::closing::Closing;
use super::frame::FrameError;

/// A handler's no; the text is told to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// Why a mesh does not start.
#[derive(Debug)]
pub enum StartError {
    /// The socket.
    Socket(std::io::Error),
    /// The TLS configuration is not one for QUIC, or missing where one listens.
    Tls(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "the mesh's socket: {error}"),
            Self::Tls(problem) => write!(f, "the mesh's TLS: {problem}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Why a call came to nothing. After [`TimedOut`](Self::TimedOut) and [`Broken`](Self::Broken) the peer may have done what was asked; after
/// all others it has not, or has said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshError {
    /// Nobody of that number is a member.
    NotAMember(u64),
    /// It is not connected, and where it is called is not known.
    NoAddress(u64),
    /// It could not be reached, now or a moment ago.
    Unreachable(String),
    /// It would not have us, or we would not have it.
    Denied(Closing),
    /// No answer in time.
    TimedOut,
    /// The connection ended amid the call.
    Broken(String),
    /// The peer's handler said no.
    Refused(Refused),
    /// A frame was too large or cut off.
    Frame(FrameError),
    /// There is no service of that number.
    NoService(u8),
    /// This node stops.
    ShutDown,
}

impl MeshError {
    /// The word in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotAMember(_) => "not_a_member",
            Self::NoAddress(_) => "no_address",
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::TimedOut => "timed_out",
            Self::Broken(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Frame(_) => "frame",
            Self::NoService(_) => "no_service",
            Self::ShutDown => "shut_down",
        }
    }
}

impl fmt::Display for MeshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMember(node) => write!(f, "node {node} is no member of the fleet"),
            Self::NoAddress(node) => {
                write!(f, "node {node} is not connected, and has no address")
            }
            Self::Unreachable(problem) => write!(f, "unreachable: {problem}"),
            Self::Denied(reason) => write!(f, "the connection was denied: {reason}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Broken(problem) => write!(f, "the connection broke: {problem}"),
            Self::Refused(Refused(reason)) => write!(f, "the peer refused: {reason}"),
            Self::Frame(error) => error.fmt(f),
            Self::NoService(service) => write!(f, "there is no service {service}"),
            Self::ShutDown => f.write_str("this node stops"),
        }
    }
}

impl std::error::Error for MeshError {}

impl From<FrameError> for MeshError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<quinn::ConnectionError> for MeshError {
    fn from(error: quinn::ConnectionError) -> Self {
        if let quinn::ConnectionError::ApplicationClosed(closed) = &error
            && let Some(reason) = Closing::from_code(closed.error_code.into_inner())
        {
            return Self::Denied(reason);
        }
        Self::Broken(error.to_string())
    }
}

impl From<quinn::ReadError> for MeshError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::ConnectionLost(error) => error.into(),
            quinn::ReadError::Reset(_)
            | quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => Self::Broken(error.to_string()),
        }
    }
}

impl From<quinn::WriteError> for MeshError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(error) => error.into(),
            quinn::WriteError::Stopped(_)
            | quinn::WriteError::ClosedStream
            | quinn::WriteError::ZeroRttRejected => Self::Broken(error.to_string()),
        }
    }
}

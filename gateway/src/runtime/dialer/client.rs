//! The gateway's side: asks the dialer for sockets, or makes them itself.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::Via;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use socket2::{Socket, Type};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};

use super::making;
use super::protocol::{
    LENGTH_BYTES, MAX_FRAME, Make, Place, PlaceError, Refusal, Reply, Request, frame, unframe,
};
use crate::runtime::sockets::{self, Family};

/// The dialer has answered within this time, or is treated as gone.
pub const DIALER_DEADLINE: Duration = Duration::from_secs(2);
/// Requests that one gateway has under way at once; further ones wait their turn. Below the
/// dialer's own limit, so that a storm of connections queues here instead of being told "busy".
pub const MAX_UNDER_WAY: usize = 32;

/// Makes sockets in the places that policy and configuration name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// In this process; places elsewhere take privilege that a gateway should not have.
    Local,
    /// Through the dialer at this path.
    Remote {
        socket: Arc<Path>,
        turns: Arc<Semaphore>,
    },
}

impl Dialer {
    /// A dialer that makes every socket in this process. With a `via` that works only where this
    /// process itself may enter namespaces.
    #[must_use]
    pub fn local() -> Self {
        Self { way: Way::Local }
    }

    /// A dialer that asks the process listening at `socket` for everything that has a `via`.
    #[must_use]
    pub fn remote(socket: impl AsRef<Path>) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        Self {
            way: Way::Remote {
                socket: Arc::from(socket.as_ref()),
                turns,
            },
        }
    }

    /// An unconnected, non-blocking, tuned TCP socket in the place that `via` names, or here.
    ///
    /// # Errors
    /// [`DialerError`].
    pub async fn tcp_socket(
        &self,
        via: Option<&Via>,
        family: Family,
    ) -> Result<Socket, DialerError> {
        match via {
            None => sockets::unconnected(family).map_err(DialerError::Kernel),
            Some(via) => {
                let socket = self.ask(Make::Socket { family }, via).await?;
                sockets::tune(&socket).map_err(DialerError::Kernel)?;
                Ok(socket)
            }
        }
    }

    /// A bound, listening, non-blocking TCP listener with `SO_REUSEPORT` in the place that `via`
    /// names, or here. `backlog` is at most [`sockets::BACKLOG`].
    ///
    /// # Errors
    /// [`DialerError`].
    pub async fn listener(
        &self,
        via: Option<&Via>,
        address: SocketAddr,
        backlog: u32,
    ) -> Result<std::net::TcpListener, DialerError> {
        let socket = match via {
            None => sockets::listener(address, backlog, |_| Ok(())).map_err(DialerError::Kernel)?,
            Some(via) => self.ask(Make::Listener { address, backlog }, via).await?,
        };
        Ok(socket.into())
    }

    async fn ask(&self, make: Make, via: &Via) -> Result<Socket, DialerError> {
        let place = Place::of(via).map_err(DialerError::Place)?;
        let request = Request { make, place };
        match &self.way {
            Way::Local => make_here(request).await,
            Way::Remote { socket, turns } => {
                let exchange = async {
                    let _turn = turns.acquire().await;
                    exchange(socket, &request).await
                };
                match tokio::time::timeout(DIALER_DEADLINE, exchange).await {
                    Ok(result) => result,
                    Err(_) => Err(DialerError::Late {
                        dialer: socket.to_path_buf(),
                    }),
                }
            }
        }
    }
}

/// Entering a namespace spoils a thread for everything else, so each request has one of its own,
/// and never one of the runtime's.
async fn make_here(request: Request) -> Result<Socket, DialerError> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("place".into())
        .spawn(move || {
            let _ = answer.send(making::make(&request, Path::new(making::NAMESPACES)));
        })
        .map_err(DialerError::Kernel)?;
    match answered.await {
        Ok(made) => made.map_err(DialerError::Here),
        Err(_) => Err(DialerError::Kernel(io::Error::other(
            "the thread ended early",
        ))),
    }
}

async fn exchange(dialer: &Path, request: &Request) -> Result<Socket, DialerError> {
    let unreachable = |source| DialerError::Unreachable {
        dialer: dialer.to_owned(),
        source,
    };
    let unclear = |what: String| DialerError::Unclear {
        dialer: dialer.to_owned(),
        what,
    };

    let bytes = frame(request).map_err(|e| unclear(e.to_string()))?;
    let mut connection = UnixStream::connect(dialer).await.map_err(unreachable)?;
    // A dialer that refuses at once may have closed before this is written: its answer counts.
    let written = connection.write_all(&bytes).await;
    let (reply, descriptor) = match receive(&connection).await {
        Ok(received) => received,
        Err(Unreceived::Broken(source)) => {
            return Err(unreachable(written.err().unwrap_or(source)));
        }
        Err(Unreceived::Unclear(what)) => return Err(unclear(what)),
    };
    match (reply, descriptor) {
        (Reply::Refused(refusal), _) => Err(DialerError::Refused {
            dialer: dialer.to_owned(),
            refusal,
        }),
        (Reply::Made, None) => Err(unclear("it sent no socket".into())),
        (Reply::Made, Some(descriptor)) => {
            let socket = Socket::from(descriptor);
            fits(&socket, request).map_err(unclear)?;
            Ok(socket)
        }
    }
}

/// The dialer is trusted with privilege, not with correctness: what it sent is what was asked for.
fn fits(socket: &Socket, request: &Request) -> Result<(), String> {
    let (family, listening) = match request.make {
        Make::Socket { family } => (family, false),
        Make::Listener { address, .. } => (Family::of(address), true),
    };
    let as_asked = socket.r#type().is_ok_and(|t| t == Type::STREAM)
        && socket.domain().is_ok_and(|d| d == family.domain())
        && rustix::net::sockopt::socket_acceptconn(socket).is_ok_and(|l| l == listening);
    if !as_asked {
        return Err("it sent another kind of socket than was asked for".into());
    }
    // Non-blocking is a property of the open file and travels with it, but a blocking one would
    // stop a whole worker: it is not left to the other side.
    socket.set_nonblocking(true).map_err(|e| e.to_string())
}

enum Unreceived {
    Broken(io::Error),
    Unclear(String),
}

async fn receive(connection: &UnixStream) -> Result<(Reply, Option<OwnedFd>), Unreceived> {
    let mut received = Vec::new();
    let mut descriptor = None;
    loop {
        let mut chunk = [0u8; LENGTH_BYTES + MAX_FRAME];
        let (count, descriptors) = connection
            .async_io(Interest::READABLE, || receive_some(connection, &mut chunk))
            .await
            .map_err(Unreceived::Broken)?;
        if count == 0 {
            return Err(Unreceived::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        for one in descriptors {
            if descriptor.replace(one).is_some() {
                return Err(Unreceived::Unclear(
                    "it sent more than one descriptor".into(),
                ));
            }
        }
        match unframe(&received) {
            Ok(Some(reply)) => return Ok((reply, descriptor)),
            Ok(None) => {}
            Err(e) => return Err(Unreceived::Unclear(e.to_string())),
        }
    }
}

fn receive_some(connection: &UnixStream, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = rustix::net::recvmsg(
        connection,
        &mut [IoSliceMut::new(chunk)],
        &mut ancillary,
        flags,
    )?;
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    Ok((message.bytes, descriptors))
}

/// Why there is no socket. The text says what to do.
#[derive(Debug)]
pub enum DialerError {
    /// The name of the place breaks the grammar.
    Place(PlaceError),
    /// This process tried and failed.
    Here(Refusal),
    /// The dialer refused.
    Refused {
        /// The path of its socket.
        dialer: PathBuf,
        /// Its reason.
        refusal: Refusal,
    },
    /// There is no dialer at the path, or it went away.
    Unreachable {
        /// The path of its socket.
        dialer: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It did not answer within [`DIALER_DEADLINE`].
    Late {
        /// The path of its socket.
        dialer: PathBuf,
    },
    /// It answered with something else than was asked for.
    Unclear {
        /// The path of its socket.
        dialer: PathBuf,
        /// What is wrong with the answer.
        what: String,
    },
    /// The kernel gave no socket (out of descriptors, address in use).
    Kernel(io::Error),
}

impl DialerError {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Place(_) => "dialer_place",
            Self::Here(_) | Self::Refused { .. } => "dialer_refused",
            Self::Unreachable { .. } => "dialer_unreachable",
            Self::Late { .. } => "dialer_late",
            Self::Unclear { .. } => "dialer_unclear",
            Self::Kernel(_) => "socket",
        }
    }
}

impl fmt::Display for DialerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(error) => write!(f, "no socket can be made there: {error}"),
            Self::Here(refusal @ Refusal::Failed { .. }) => write!(
                f,
                "this process made no socket: {refusal}; or run `portcullis dialer` beside it and \
                 name its socket under [dialer]"
            ),
            Self::Here(refusal) => write!(f, "this process made no socket: {refusal}"),
            Self::Refused { dialer, refusal } => {
                write!(f, "the dialer at {} refused: {refusal}", dialer.display())
            }
            Self::Unreachable { dialer, source } => write!(
                f,
                "the dialer at {} cannot be reached ({source}); is `portcullis dialer` running?",
                dialer.display()
            ),
            Self::Late { dialer } => write!(
                f,
                "the dialer at {} did not answer within {} s",
                dialer.display(),
                DIALER_DEADLINE.as_secs()
            ),
            Self::Unclear { dialer, what } => write!(
                f,
                "the answer of the dialer at {} makes no sense: {what}",
                dialer.display()
            ),
            Self::Kernel(source) => write!(f, "no socket could be made: {source}"),
        }
    }
}

impl std::error::Error for DialerError {}

impl From<DialerError> for io::Error {
    fn from(error: DialerError) -> Self {
        let kind = match &error {
            DialerError::Late { .. } => io::ErrorKind::TimedOut,
            DialerError::Kernel(source) | DialerError::Unreachable { source, .. } => source.kind(),
            DialerError::Place(_) => io::ErrorKind::InvalidInput,
            DialerError::Here(_) | DialerError::Refused { .. } => io::ErrorKind::PermissionDenied,
            DialerError::Unclear { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

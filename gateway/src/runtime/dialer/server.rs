//! The privileged side: `portcullis dialer`. One thread accepts; each request is served by a
//! thread of its own that may enter a namespace and ends.
//!
//! What it will not do is most of its worth: it never connects, resolves, reads or writes; it
//! serves only users it was told to, only places it was told to, one request to a connection,
//! within a deadline, so many at once.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use socket2::Socket;
use tracing::{debug, warn};

use super::making;
use super::protocol::{LENGTH_BYTES, MAX_FRAME, Place, Refusal, Reply, Request, frame, unframe};
use crate::runtime::clock;

/// A request must be complete and its answer taken within this time.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(2);
/// So many requests are served at once; the next is told that the dialer is busy.
pub const MAX_CONCURRENT: usize = 64;
/// How long the dialer waits after the kernel refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves requests until the process ends: [`Server::bind`], then [`Server::run`].
///
/// # Errors
/// [`ServeError`] when the socket cannot be made or stops working.
pub fn serve(options: Options) -> Result<(), ServeError> {
    Server::bind(options)?.run()
}

/// What the dialer is told when it is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its Unix socket is made.
    pub socket: PathBuf,
    /// Users (uids) whose processes may ask. Nobody else may, root included.
    pub allowed_uids: BTreeSet<u32>,
    /// Places in which it may make sockets.
    pub allowed: Allowed,
    /// The directory of named network namespaces.
    pub namespaces: PathBuf,
}

impl Options {
    /// The directory in which `ip netns` keeps its namespaces.
    #[must_use]
    pub fn default_namespaces() -> PathBuf {
        PathBuf::from(making::NAMESPACES)
    }
}

/// The places in which a dialer may make sockets. There is no default: somebody names them, or
/// says "any" in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every namespace and interface of this machine (`--allow-any`).
    Any,
    /// These and no others (`--allow PLACE`, repeated). None named means none.
    Only(BTreeSet<Place>),
}

impl Allowed {
    fn permits(&self, place: &Place) -> bool {
        match self {
            Self::Any => true,
            Self::Only(places) => places.contains(place),
        }
    }
}

/// A bound dialer.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    serving: AtomicUsize,
}

impl Server {
    /// Makes the Unix socket. A socket left behind by a dialer that is gone is replaced; one that
    /// a living dialer answers on, or a file of another kind, is left alone and refused.
    ///
    /// # Errors
    /// [`ServeError::Occupied`], [`ServeError::Bind`].
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        let path = &options.socket;
        clear(path)?;
        let failed = |source| ServeError::Bind {
            path: path.clone(),
            source,
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Who may ask is decided by the peer's credentials, not by the mode of a file.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        let shared = Arc::new(Shared {
            options,
            serving: AtomicUsize::new(0),
        });
        Ok(Self { listener, shared })
    }

    /// A handle that ends [`Server::run`] from another thread.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper(self.listener.try_clone()?))
    }

    /// Accepts until stopped. Requests being served are finished by their own threads, within
    /// their deadline.
    ///
    /// # Errors
    /// [`ServeError::Accept`] when the listener is broken.
    pub fn run(self) -> Result<(), ServeError> {
        loop {
            match self.listener.accept() {
                Ok((connection, _)) => self.take(connection),
                // What a listener that was shut down answers.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(()),
                Err(e) if is_passing(&e) => {
                    warn!(error = %e, "the dialer could not accept a request");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
                Err(source) => return Err(ServeError::Accept { source }),
            }
        }
    }

    /// Looks at who is asking before anything of theirs is read or any thread is spent on them.
    fn take(&self, connection: UnixStream) {
        if let Err(refusal) = self.admit(&connection) {
            warn!(%refusal, "the dialer turned a request away");
            answer_refusal(&connection, refusal);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let slot = Slot::take(&shared);
        let spawned = std::thread::Builder::new()
            .name("dialer-request".into())
            .spawn(move || {
                let _slot = slot;
                serve_one(&connection, &shared.options);
            });
        if let Err(error) = spawned {
            warn!(%error, "the dialer could not start a thread");
        }
    }

    fn admit(&self, connection: &UnixStream) -> Result<(), Refusal> {
        let peer =
            rustix::net::sockopt::socket_peercred(connection).map_err(|e| Refusal::Malformed {
                what: format!("peer credentials: {e}"),
            })?;
        let uid = peer.uid.as_raw();
        if !self.shared.options.allowed_uids.contains(&uid) {
            return Err(Refusal::Stranger { uid });
        }
        // Only this thread adds, so the count cannot pass the limit between look and take.
        if self.shared.serving.load(Ordering::Acquire) >= MAX_CONCURRENT {
            return Err(Refusal::Busy);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.shared.options.socket);
    }
}

/// Ends a running [`Server`].
#[derive(Debug)]
pub struct Stopper(UnixListener);

impl Stopper {
    /// Makes [`Server::run`] return.
    pub fn stop(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// One of the places among those served at once, given back when dropped.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Self {
        shared.serving.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs on a thread that ends afterwards: it may be left in another namespace.
fn serve_one(connection: &UnixStream, options: &Options) {
    let made = read_request(connection).and_then(|request| {
        if !options.allowed.permits(&request.place) {
            return Err(Refusal::NotAllowed {
                place: request.place,
            });
        }
        let socket = making::make(&request, &options.namespaces)?;
        Ok((request, socket))
    });
    match made {
        Ok((request, socket)) => {
            debug!(place = %request.place, make = ?request.make, "the dialer made a socket");
            answer_made(connection, &socket);
        }
        Err(refusal) => {
            warn!(%refusal, "the dialer refused a request");
            answer_refusal(connection, refusal);
        }
    }
}

fn read_request(mut connection: &UnixStream) -> Result<Request, Refusal> {
    let malformed = |what: &dyn fmt::Display| Refusal::Malformed {
        what: what.to_string(),
    };
    let deadline = clock::instant() + REQUEST_DEADLINE;
    let mut received = Vec::new();
    let mut chunk = [0u8; LENGTH_BYTES + MAX_FRAME];
    loop {
        let left = deadline.saturating_duration_since(clock::instant());
        if left.is_zero() {
            return Err(malformed(&"it was not complete in time"));
        }
        connection
            .set_read_timeout(Some(left))
            .map_err(|e| malformed(&e))?;
        let count = match connection.read(&mut chunk) {
            Ok(0) => return Err(malformed(&"it ended early")),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(malformed(&e)),
        };
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        // unframe refuses a frame that is too long or has bytes behind it, so this cannot grow.
        if let Some(request) = unframe(&received).map_err(|e| malformed(&e))? {
            return Ok(request);
        }
    }
}

fn answer_made(connection: &UnixStream, socket: &Socket) {
    answer(connection, &Reply::Made, &[socket.as_fd()]);
}

fn answer_refusal(connection: &UnixStream, refusal: Refusal) {
    answer(connection, &Reply::Refused(refusal), &[]);
}

fn answer(connection: &UnixStream, reply: &Reply, descriptors: &[BorrowedFd<'_>]) {
    let Ok(bytes) = frame(reply) else {
        warn!("the dialer's reply is longer than a frame");
        return;
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        warn!("the dialer's reply has no room for its descriptor");
        return;
    }
    // A frame fits an empty socket buffer many times over: it is sent whole or not at all, and a
    // peer that does not read cannot hold the sender up.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::net::sendmsg(connection, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
        Ok(sent) if sent == bytes.len() => {}
        Ok(_) => warn!("the dialer's reply was cut short"),
        Err(error) => warn!(%error, "the dialer's reply could not be sent"),
    }
}

/// Removes a socket that nobody answers on any more.
fn clear(path: &Path) -> Result<(), ServeError> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() || UnixStream::connect(path).is_ok() {
        return Err(ServeError::Occupied {
            path: path.to_owned(),
        });
    }
    std::fs::remove_file(path).map_err(|source| ServeError::Bind {
        path: path.to_owned(),
        source,
    })
}

fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| passing.iter().any(|p| p.raw_os_error() == errno))
}

/// Why the dialer does not serve.
#[derive(Debug)]
pub enum ServeError {
    /// Another dialer, or something that is no socket, is at the path.
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    Bind {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The socket stopped accepting.
    Accept {
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied { path } => write!(
                f,
                "{} is taken: another dialer answers there, or it is not a socket",
                path.display()
            ),
            Self::Bind { path, .. } => {
                write!(f, "the dialer's socket {} cannot be made", path.display())
            }
            Self::Accept { .. } => f.write_str("the dialer's socket stopped accepting"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Occupied { .. } => None,
            Self::Bind { source, .. } | Self::Accept { source } => Some(source),
        }
    }
}

//! The path of bytes: one poll function moves both directions of a connection.
//!
//! rustls is driven directly on both legs. Each worker thread owns one scratch buffer; a
//! connection that has nothing to say holds none. Backpressure is the sockets' own: what one side
//! has not taken stays in a bounded buffer and the other side is not read.
//!
//! A connection that lapses stops here, in both directions, before anything else is looked at.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_wire::boundary::Boundary;
use portcullis_wire::error::ErrorResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::Connection;

use super::live::{Lapse, LiveHandle};
use crate::runtime::limits::{FAREWELL, SPLICE_READS_PER_POLL, SPLICE_SCRATCH_BYTES};
use crate::runtime::send_queue::unsent;
use crate::runtime::sockets;

/// One side of a connection: a socket, and TLS on it unless policy says in words that it is not.
pub(super) struct Leg {
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// Bytes read from the socket that found no room further on. Empty unless the other side is
    /// slow; never more than one scratch buffer.
    held: Vec<u8>,
    eof: bool,
}

/// How a spliced connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed its side, and everything it had sent was delivered.
    ClientClosed,
    /// The database closed its side, and everything it had sent was delivered.
    UpstreamClosed,
    /// The permit lapsed; `told` says whether the client could be told why.
    Lapsed { told: bool },
    /// A socket or a TLS session failed on the named side.
    Broken { side: Side, error: io::Error },
}

/// The side of a connection that an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

impl Side {
    /// The code of a connection that ended because this side broke.
    pub(super) fn broken(self) -> &'static str {
        match self {
            Self::Client => "client_broken",
            Self::Upstream => "database_broken",
        }
    }
}

/// A future that moves bytes until one side ends or the permit lapses.
pub(super) struct Splice {
    client: Leg,
    upstream: Leg,
    to_client: Boundary,
    up: Up,
    live: Arc<LiveHandle>,
}

/// The direction from the client to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    /// Bytes pass.
    Open,
    /// The client ended its side, and everything it had sent was delivered.
    ClientEnded,
    /// The database takes no more.
    DatabaseDeaf,
}

impl Splice {
    pub(super) fn new(client: Leg, upstream: Leg, live: Arc<LiveHandle>) -> Self {
        Self {
            client,
            upstream,
            to_client: Boundary::default(),
            up: Up::Open,
            live,
        }
    }

    /// Closes after a lapse: whatever is still in the kernel's buffers must not arrive either, save
    /// a farewell. Returns the client's leg where there is one to linger on.
    pub(super) fn cut(self, told: bool) -> Option<Leg> {
        self.upstream.abort();
        if told {
            return Some(self.client);
        }
        self.client.abort();
        None
    }

    fn step(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        if let Poll::Ready(lapse) = self.live.poll_lapsed(cx) {
            let told = self.farewell(&lapse, cx);
            return Poll::Ready(End::Lapsed { told });
        }
        let mut again = false;
        if self.up == Up::Open {
            match pump(cx, &mut self.client, &mut self.upstream, scratch, None) {
                Ok(flow) => {
                    self.live.count(flow.moved(), 0);
                    match flow {
                        Flow::Waiting { .. } => {}
                        Flow::Spent { .. } => again = true,
                        // The client may still read: the answer to its last query, for one.
                        Flow::Ended { .. } => self.up = Up::ClientEnded,
                    }
                }
                // What a server says last, and then closes, is still to be read and delivered.
                Err(Fault::Writing(_)) => self.up = Up::DatabaseDeaf,
                Err(Fault::Reading(error)) => {
                    return Poll::Ready(End::Broken {
                        side: Side::Client,
                        error,
                    });
                }
            }
        }
        let down = pump(
            cx,
            &mut self.upstream,
            &mut self.client,
            scratch,
            Some(&mut self.to_client),
        );
        match down {
            Ok(flow) => {
                self.live.count(0, flow.moved());
                match flow {
                    Flow::Waiting { .. } => {}
                    Flow::Spent { .. } => again = true,
                    Flow::Ended { .. } => {
                        return Poll::Ready(match self.up {
                            Up::ClientEnded => End::ClientClosed,
                            Up::Open | Up::DatabaseDeaf => End::UpstreamClosed,
                        });
                    }
                }
            }
            // A client that ended its side may be gone altogether.
            Err(_) if self.up == Up::ClientEnded => return Poll::Ready(End::ClientClosed),
            Err(Fault::Reading(error)) => {
                return Poll::Ready(End::Broken {
                    side: Side::Upstream,
                    error,
                });
            }
            Err(Fault::Writing(error)) => {
                return Poll::Ready(End::Broken {
                    side: Side::Client,
                    error,
                });
            }
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Tells the client why, if and only if it stands between two messages: anywhere else the
    /// bytes would land inside a message and corrupt the stream.
    fn farewell(&mut self, lapse: &Lapse, cx: &mut Context<'_>) -> bool {
        let between_messages = self.to_client.at_start() && !self.client.wants_write();
        // Behind what the kernel has not sent yet a farewell would come too late: all of that would
        // have to be delivered first.
        if !between_messages || !matches!(unsent(&self.client.tcp), Ok(0)) {
            return false;
        }
        let told = ErrorResponse::fatal(lapse.sqlstate, &lapse.text)
            .with_hint(lapse.hint)
            .encode();
        matches!(self.client.offer(cx, &told), Ok(n) if n == told.len())
            && matches!(self.client.poll_finish(cx), Poll::Ready(Ok(())))
    }
}

impl Future for Splice {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.is_empty() {
                scratch.resize(SPLICE_SCRATCH_BYTES, 0);
            }
            self.step(cx, scratch)
        })
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What one direction did in one poll. `moved` counts plaintext bytes.
enum Flow {
    /// Both sides are registered for a wake-up.
    Waiting { moved: u64 },
    /// The poll's share is used up and there may be more.
    Spent { moved: u64 },
    /// The reading side ended and everything it sent has left.
    Ended { moved: u64 },
}

impl Flow {
    fn moved(&self) -> u64 {
        match self {
            Self::Waiting { moved } | Self::Spent { moved } | Self::Ended { moved } => *moved,
        }
    }
}

enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

fn pump(
    cx: &mut Context<'_>,
    from: &mut Leg,
    to: &mut Leg,
    scratch: &mut [u8],
    mut boundary: Option<&mut Boundary>,
) -> Result<Flow, Fault> {
    let mut moved = 0;
    for _ in 0..SPLICE_READS_PER_POLL {
        // What was taken must leave before more is taken.
        if !from.pass_held(cx, to, boundary.as_deref_mut(), &mut moved)?
            || to.poll_flush(cx).map_err(Fault::Writing)?.is_pending()
        {
            return Ok(Flow::Waiting { moved });
        }
        if from.eof {
            return match to.poll_finish(cx) {
                Poll::Ready(Ok(())) => Ok(Flow::Ended { moved }),
                Poll::Ready(Err(error)) => Err(Fault::Writing(error)),
                Poll::Pending => Ok(Flow::Waiting { moved }),
            };
        }
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut from.tcp).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Flow::Waiting { moved }),
            Poll::Ready(Err(error)) => return Err(Fault::Reading(error)),
            Poll::Ready(Ok(())) => {}
        }
        match buffer.filled() {
            // Without a TLS close_notify this is the end all the same: PostgreSQL clients commonly
            // close without one, and PostgreSQL's own framing tells a cut from an end.
            [] => from.eof = true,
            fresh => {
                from.pass(cx, fresh, to, boundary.as_deref_mut(), &mut moved)?;
            }
        }
    }
    Ok(Flow::Spent { moved })
}

impl Leg {
    /// A leg whose handshake is complete. Plaintext already decrypted inside `tls` is passed on.
    pub(super) fn new(tcp: TcpStream, tls: Option<Connection>) -> Self {
        Self {
            tcp,
            tls: tls.map(Box::new),
            held: Vec::new(),
            eof: false,
        }
    }

    fn abort(&self) {
        if let Err(error) = sockets::abort_on_close(&self.tcp) {
            tracing::warn!(%error, "a socket could not be set to reset");
        }
    }

    fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Passes on what was read earlier. `true` when nothing is left over.
    fn pass_held(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Leg,
        boundary: Option<&mut Boundary>,
        moved: &mut u64,
    ) -> Result<bool, Fault> {
        let held = std::mem::take(&mut self.held);
        self.pass(cx, &held, to, boundary, moved)
    }

    /// Decrypts `bytes` as far as there is room further on, and keeps the rest. `false` means that
    /// `to` is blocked and will wake this task.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
        to: &mut Leg,
        mut boundary: Option<&mut Boundary>,
        moved: &mut u64,
    ) -> Result<bool, Fault> {
        let Some(tls) = self.tls.as_mut() else {
            let taken = deliver(cx, bytes, to, boundary, moved)?;
            let rest = bytes.get(taken..).unwrap_or_default();
            self.held.extend_from_slice(rest);
            return Ok(rest.is_empty());
        };
        let fed = bytes.len();
        loop {
            // Plaintext first, so that rustls always has room for the next record.
            loop {
                let mut reader = tls.reader();
                let plain = match reader.fill_buf() {
                    Ok([]) => {
                        self.eof = true;
                        break;
                    }
                    Ok(plain) => plain,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Fault::Reading(error)),
                };
                let taken = deliver(cx, plain, to, boundary.as_deref_mut(), moved)?;
                let blocked = taken < plain.len();
                reader.consume(taken);
                if blocked {
                    self.held.extend_from_slice(bytes);
                    return Ok(false);
                }
            }
            if bytes.is_empty() || self.eof {
                if fed > RUSTLS_READ_BYTES {
                    // rustls gives back a buffer that has grown only when it is asked to read again.
                    drop(tls.read_tls(&mut Nothing));
                }
                return Ok(true);
            }
            tls.read_tls(&mut bytes).map_err(Fault::Reading)?;
            tls.process_new_packets().map_err(|error| {
                Fault::Reading(io::Error::new(io::ErrorKind::InvalidData, error))
            })?;
        }
    }

    /// Offers plaintext; answers how much was taken. Zero means blocked and registered.
    fn offer(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> io::Result<usize> {
        let Some(tls) = self.tls.as_mut() else {
            return match Pin::new(&mut self.tcp).poll_write(cx, plain) {
                Poll::Ready(written) => written,
                Poll::Pending => Ok(0),
            };
        };
        let taken = tls.writer().write(plain)?;
        if taken == plain.len() {
            return Ok(taken);
        }
        // The TLS buffer is full: empty it into the socket and go on if it went.
        match self.poll_flush(cx)? {
            Poll::Pending => Ok(taken),
            Poll::Ready(()) => {
                let rest = plain.get(taken..).unwrap_or_default();
                let more = self
                    .tls
                    .as_mut()
                    .map_or(Ok(0), |tls| tls.writer().write(rest))?;
                Ok(taken + more)
            }
        }
    }

    /// Moves encrypted bytes to the socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Some(tls) = self.tls.as_mut() else {
            return Ok(Poll::Ready(()));
        };
        while tls.wants_write() {
            match tls.write_tls(&mut Ready {
                tcp: &mut self.tcp,
                cx,
            }) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Poll::Pending);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Says goodbye on this leg: close_notify, then FIN. Safe to call again.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = self.tls.as_mut() {
            tls.send_close_notify();
        }
        if self.poll_flush(cx)?.is_pending() {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the peer closes, at most for a moment, so that a farewell in flight
    /// is not destroyed by the reset that closing a socket with unread bytes would send. What was
    /// not delivered by then is thrown away.
    pub(super) async fn linger(mut self) {
        let mut waste = [0u8; 1024];
        let heard = timeout(FAREWELL, async {
            while matches!(AsyncReadExt::read(&mut self.tcp, &mut waste).await, Ok(n) if n > 0) {}
        });
        if heard.await.is_err() {
            self.abort();
        }
    }
}

/// Offers `plain` to `to` until it blocks; walks the message boundary over what was taken.
fn deliver(
    cx: &mut Context<'_>,
    plain: &[u8],
    to: &mut Leg,
    boundary: Option<&mut Boundary>,
    moved: &mut u64,
) -> Result<usize, Fault> {
    let mut taken = 0;
    while let Some(rest) = plain.get(taken..)
        && !rest.is_empty()
    {
        match to.offer(cx, rest).map_err(Fault::Writing)? {
            0 => break,
            n => taken += n,
        }
    }
    if let (Some(boundary), Some(walked)) = (boundary, plain.get(..taken)) {
        boundary.advance(walked).map_err(|complaint| {
            Fault::Reading(io::Error::new(io::ErrorKind::InvalidData, complaint))
        })?;
    }
    *moved += taken as u64;
    Ok(taken)
}

/// What rustls's buffer for encrypted bytes has room for while a connection is idle.
const RUSTLS_READ_BYTES: usize = 4096;

/// A reader that has nothing now. An empty slice would say that the stream has ended.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A socket as rustls wants to see it: blocking calls that answer `WouldBlock`.
struct Ready<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Write for Ready<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.tcp).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;

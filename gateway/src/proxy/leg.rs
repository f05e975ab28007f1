//! One side of a spliced connection: its socket, TLS driven directly on it, and the little that it
//! may hold back.
//!
//! Before each write to the socket it looks whether this process slept since the connection was
//! looked at last; then what there is stays here, as if the socket took nothing.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_wire::boundary::Boundary;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::Connection;

use crate::runtime::limits::FAREWELL;
use crate::runtime::sockets;
use crate::runtime::vigil::{Clearance, Vigil};

/// One side of a connection: a socket, and TLS on it unless policy says in words that it is not.
pub(super) struct Leg {
    pub(super) tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// Bytes read from the socket that found no room further on. Empty unless the other side is
    /// slow; never more than one scratch buffer.
    held: Vec<u8>,
    pub(super) eof: bool,
    vigil: Arc<Vigil>,
    leave: Leave,
}

/// What of a leg's bytes may leave.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// Whatever there is, unless the process slept since.
    Since(Clearance),
    /// None.
    Nothing,
    /// A farewell, and nothing is left but that.
    Farewell,
}

impl Leg {
    /// A leg whose handshake is complete. Plaintext already decrypted inside `tls` is passed on.
    pub(super) fn new(tcp: TcpStream, tls: Option<Connection>, vigil: &Arc<Vigil>) -> Self {
        Self {
            tcp,
            tls: tls.map(Box::new),
            held: Vec::new(),
            eof: false,
            vigil: Arc::clone(vigil),
            leave: Leave::Nothing,
        }
    }

    /// From now on bytes leave, until the process sleeps.
    pub(super) fn clear(&mut self, clearance: Clearance) {
        self.leave = Leave::Since(clearance);
    }

    /// From now on a farewell leaves, whatever was noticed.
    pub(super) fn clear_for_farewell(&mut self) {
        self.leave = Leave::Farewell;
    }

    /// Asked right before each write.
    fn may_write(&self) -> bool {
        match self.leave {
            Leave::Since(clearance) => self.vigil.holds(clearance),
            Leave::Nothing => false,
            Leave::Farewell => true,
        }
    }

    pub(super) fn abort(&self) {
        if let Err(error) = sockets::abort_on_close(&self.tcp) {
            tracing::warn!(%error, "a socket could not be set to reset");
        }
    }

    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Passes on what was read earlier. `true` when nothing is left over.
    pub(super) fn pass_held(
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
    pub(super) fn pass(
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
    pub(super) fn offer(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() && !self.may_write() {
            return Ok(0);
        }
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
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while self.wants_write() {
            if !self.may_write() {
                return Ok(Poll::Pending);
            }
            let Some(tls) = self.tls.as_mut() else { break };
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
        if !self.may_write() {
            return Poll::Pending;
        }
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

/// What went wrong while bytes moved from one leg to another.
pub(super) enum Fault {
    Reading(io::Error),
    Writing(io::Error),
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

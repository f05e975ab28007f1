//! The path of bytes: one poll function moves both directions of a connection.
//!
//! rustls is driven directly on both legs. Each worker thread owns one scratch buffer; a
//! connection that has nothing to say holds none. Backpressure is the sockets' own: what one side
//! has not taken stays in a bounded buffer and the other side is not read.
//!
//! A connection that lapses stops here, in both directions, before anything else is looked at; and
//! after this process slept nothing passes until it is known who lapsed meanwhile.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use portcullis_wire::boundary::Boundary;
use portcullis_wire::error::ErrorResponse;
use tokio::io::{AsyncRead, ReadBuf};

use super::leg::{Fault, Leg};
use super::live::{Lapse, LiveHandle};
use crate::runtime::limits::{SPLICE_READS_PER_POLL, SPLICE_SCRATCH_BYTES};
use crate::runtime::send_queue::unsent;
use crate::runtime::vigil::Vigil;

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
    vigil: Arc<Vigil>,
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
    pub(super) fn new(
        client: Leg,
        upstream: Leg,
        live: Arc<LiveHandle>,
        vigil: Arc<Vigil>,
    ) -> Self {
        Self {
            client,
            upstream,
            to_client: Boundary::default(),
            up: Up::Open,
            live,
            vigil,
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
        // Whoever sees to a sleep looks at every live connection again afterwards.
        let Some(clearance) = self.vigil.clearance() else {
            return Poll::Pending;
        };
        self.client.clear(clearance);
        self.upstream.clear(clearance);
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
        self.client.clear_for_farewell();
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

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;

//! A change of policy, enforced on live connections, with a receipt.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_policy::{Change, Timestamp, View};
use portcullis_wire::error::SqlState;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::handle::{Lapse, LiveHandle};
use super::registry::{Lapsed, Live, decide_again};
use super::{ClosedConnection, Enforcement, LiveConnection};
use crate::proxy::refuse::DRAINING;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::{BACKENDS_GONE, ENFORCEMENT};

/// What the task of a lapsed connection reports back.
#[derive(Debug)]
pub(in crate::proxy) enum Receipt {
    /// From now on no byte passes in either direction.
    Closed {
        reference: String,
        after: Duration,
        told: bool,
        has_backend: bool,
    },
    /// What became of the backend.
    Backend {
        reference: String,
        after: Duration,
        ending: &'static str,
    },
}

impl Live {
    /// The live connections that would lapse if `candidate` were the view.
    pub(in crate::proxy) fn would_lapse(
        &self,
        candidate: &View,
        changes: &[Change],
        at: Timestamp,
    ) -> Vec<LiveConnection> {
        self.affected(changes)
            .iter()
            .filter(|handle| decide_again(candidate, handle, at).is_err())
            .map(|handle| handle.describe())
            .collect()
    }

    /// Decides again what `changes` can affect, under the view that is already published, and tells
    /// what lapses to close, before it returns: so views that follow each other are decided in
    /// their order. The future waits until it is closed and its backends are gone, each within a
    /// limit.
    pub(in crate::proxy) fn enforce(
        &self,
        view: &View,
        changes: &[Change],
        since: Instant,
    ) -> impl Future<Output = Enforcement> + Send + use<> {
        let affected = self.affected(changes);
        let (receipts, arriving) = mpsc::channel(2 * affected.len().max(1));
        let lapsed = self.decide_all(view, &affected, clock::now(), since, Some(&receipts));
        Ending {
            revision: view.revision().get(),
            decided_again: affected.len(),
            lapsed,
            arriving,
            since,
        }
        .seen()
    }

    /// Closes what expired. Called on every tick.
    pub(in crate::proxy) fn expire(&self, view: &View, at: Timestamp, since: Instant) {
        let due = self.due(at);
        if !due.is_empty() {
            self.decide_all(view, &due, at, since, None);
        }
    }

    /// Ends every connection, for a drain that is over.
    pub(in crate::proxy) fn end_all(&self, since: Instant) {
        for handle in self.all() {
            handle.lapse(Lapse {
                code: DRAINING,
                sqlstate: SqlState::ADMIN_SHUTDOWN,
                text: format!("this gateway is shutting down (reference {})", handle.facts.arrival.reference),
                hint: "Connect again; another gateway will answer.",
                story: "the node was drained and the time for connections to end by themselves was over".to_owned(),
                since,
                receipts: None,
            });
        }
    }

    fn decide_all(
        &self,
        view: &View,
        handles: &[Arc<LiveHandle>],
        at: Timestamp,
        since: Instant,
        receipts: Option<&mpsc::Sender<Receipt>>,
    ) -> BTreeMap<String, (LiveConnection, String)> {
        let mut lapsed = BTreeMap::new();
        for handle in handles {
            match decide_again(view, handle, at) {
                Ok(permit) => self.stand(handle, &permit),
                Err(reason) => {
                    let described = handle.describe();
                    if handle.lapse(lapse(handle, &reason, since, receipts.cloned())) {
                        let code = reason.code().to_owned();
                        lapsed.insert(described.reference.clone(), (described, code));
                    }
                }
            }
        }
        lapsed
    }
}

/// What was told to close, and what is heard of it.
struct Ending {
    revision: u64,
    decided_again: usize,
    lapsed: BTreeMap<String, (LiveConnection, String)>,
    arriving: mpsc::Receiver<Receipt>,
    since: Instant,
}

impl Ending {
    async fn seen(self) -> Enforcement {
        let Self {
            revision,
            decided_again,
            lapsed,
            mut arriving,
            since,
        } = self;
        let mut closed = BTreeMap::new();
        let mut waiting = lapsed;
        let closing = tokio::time::Instant::from_std(since + ENFORCEMENT);
        let leaving = tokio::time::Instant::from_std(since + BACKENDS_GONE);
        let mut backends = 0;
        while !waiting.is_empty() || backends > 0 {
            let deadline = if waiting.is_empty() { leaving } else { closing };
            match timeout_at(deadline, arriving.recv()).await {
                Ok(Some(Receipt::Closed {
                    reference,
                    after,
                    told,
                    has_backend,
                })) => {
                    backends += usize::from(has_backend);
                    if let Some((connection, code)) = waiting.remove(&reference) {
                        closed.insert(
                            reference,
                            ClosedConnection {
                                connection,
                                code,
                                after_ms: milliseconds(after),
                                told,
                                backend: if has_backend { "unconfirmed" } else { "none" }
                                    .to_owned(),
                                backend_after_ms: 0.0,
                            },
                        );
                    }
                }
                Ok(Some(Receipt::Backend {
                    reference,
                    after,
                    ending,
                })) => {
                    backends = backends.saturating_sub(1);
                    if let Some(connection) = closed.get_mut(&reference) {
                        ending.clone_into(&mut connection.backend);
                        connection.backend_after_ms = milliseconds(after);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        Enforcement {
            revision,
            decided_again,
            closed: closed.into_values().collect(),
            unfinished: waiting.len(),
        }
    }
}

fn lapse(
    handle: &LiveHandle,
    reason: &Lapsed,
    since: Instant,
    receipts: Option<mpsc::Sender<Receipt>>,
) -> Lapse {
    Lapse {
        code: reason.code(),
        sqlstate: SqlState::ADMIN_SHUTDOWN,
        text: format!(
            "this connection is no longer permitted (reference {})",
            handle.facts.arrival.reference
        ),
        hint: portcullis_policy::CLIENT_HINT,
        story: reason.story().to_owned(),
        since,
        receipts,
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

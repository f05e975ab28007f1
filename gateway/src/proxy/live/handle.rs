//! One live connection: its facts, its standing, and the signal that its permit lapsed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use portcullis_policy::{
    Address, Attempt, EndpointId, Footing, Origin, Permit, Purpose, Reference, Revision, Serial,
    ServerName, TenantId, Timestamp,
};
use tokio::sync::mpsc;

use super::LiveConnection;
use super::enforce::Receipt;
use crate::database::backend::Backend;
use crate::runtime::clock::{self, Instant};

/// Where an attempt comes from, as we established it, and what it is called.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Arrival {
    pub(in crate::proxy) reference: Reference,
    pub(in crate::proxy) origin: Origin,
    pub(in crate::proxy) address: Address,
    pub(in crate::proxy) port: u16,
    /// The load balancer that said so.
    pub(in crate::proxy) balancer: Option<Address>,
}

/// What is known of an attempt for as long as it lives; the input of every later decision.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Facts {
    pub(in crate::proxy) arrival: Arrival,
    pub(in crate::proxy) server_name: Option<ServerName>,
    pub(in crate::proxy) user: String,
    pub(in crate::proxy) database: String,
    pub(in crate::proxy) replication: bool,
    /// The serial number of the certificate that it has shown.
    pub(in crate::proxy) certificate: Option<Serial>,
}

impl Facts {
    /// The attempt that these facts make, for `decide`, of one who was let in before.
    pub(in crate::proxy) fn attempt(&self, purpose: Purpose) -> Attempt<'_> {
        Attempt {
            origin: &self.arrival.origin,
            address: self.arrival.address,
            server_name: self.server_name.as_ref(),
            user: &self.user,
            database: &self.database,
            replication: self.replication,
            certificate: self.certificate.as_ref(),
            purpose,
            unconfirmed: 0,
        }
    }
}

/// Why a connection is stopped, and to whom its end is reported.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Lapse {
    /// A denial's code, or `draining`.
    pub(in crate::proxy) code: &'static str,
    /// What the client is told where it can be told.
    pub(in crate::proxy) sqlstate: portcullis_wire::error::SqlState,
    pub(in crate::proxy) text: String,
    pub(in crate::proxy) hint: &'static str,
    /// The operator's voice.
    pub(in crate::proxy) story: String,
    /// The moment the change took effect on this node.
    pub(in crate::proxy) since: Instant,
    pub(in crate::proxy) receipts: Option<mpsc::Sender<Receipt>>,
}

/// What the last decision said. Deliberately not the permit itself: that would keep the whole
/// allow list of its revision in memory for as long as the connection lives.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    footing: Arc<Footing>,
    revision: Revision,
    entry: String,
    pub(super) expires: Option<Timestamp>,
}

impl Standing {
    pub(super) fn of(permit: &Permit) -> Self {
        Self {
            footing: Arc::new(permit.footing()),
            revision: permit.revision(),
            entry: permit.entry().to_string(),
            expires: permit.expires(),
        }
    }
}

/// A live connection. Shared between the task that moves its bytes and those that may stop it.
pub(in crate::proxy) struct LiveHandle {
    /// Its serial number. Counted, never reused while the process runs.
    pub(in crate::proxy) id: u64,
    pub(in crate::proxy) tenant: TenantId,
    pub(super) endpoint: EndpointId,
    pub(in crate::proxy) facts: Facts,
    since: Timestamp,
    standing: Mutex<Standing>,
    backend: OnceLock<Backend>,
    /// When the proof itself, a token or a certificate, stops being good.
    proof_expires: OnceLock<Timestamp>,
    open: AtomicBool,
    up: AtomicU64,
    down: AtomicU64,
    signal: Mutex<Signal>,
}

#[derive(Default)]
struct Signal {
    lapse: Option<Lapse>,
    waker: Option<Waker>,
    /// Its task has let go of it: nothing can be stopped any more.
    ended: bool,
    /// Whoever stopped it was told that it is closed.
    reported: bool,
}

impl LiveHandle {
    pub(super) fn new(id: u64, facts: Facts, permit: &Permit, since: Timestamp) -> Self {
        Self {
            id,
            tenant: permit.tenant().clone(),
            endpoint: permit.endpoint_id().clone(),
            facts,
            since,
            standing: Mutex::new(Standing::of(permit)),
            backend: OnceLock::new(),
            proof_expires: OnceLock::new(),
            open: AtomicBool::new(false),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            signal: Mutex::new(Signal::default()),
        }
    }

    /// Adds plaintext bytes that passed, client to database and back.
    pub(in crate::proxy) fn count(&self, up: u64, down: u64) {
        if up > 0 {
            self.up.fetch_add(up, Ordering::Relaxed);
        }
        if down > 0 {
            self.down.fetch_add(down, Ordering::Relaxed);
        }
    }

    /// Bytes that passed so far: client to database, database to client.
    pub(in crate::proxy) fn counted(&self) -> (u64, u64) {
        (
            self.up.load(Ordering::Relaxed),
            self.down.load(Ordering::Relaxed),
        )
    }

    /// There is a backend now; it can be cancelled and its end can be seen to.
    pub(in crate::proxy) fn served_by(&self, backend: Backend) {
        drop(self.backend.set(backend));
    }

    /// The client may speak to the database.
    pub(in crate::proxy) fn opened(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The backend, once there is one.
    pub(in crate::proxy) fn backend(&self) -> Option<&Backend> {
        self.backend.get()
    }

    /// Stops the connection, unless it was stopped before or has ended; answers whether it did.
    pub(in crate::proxy) fn lapse(&self, lapse: Lapse) -> bool {
        let mut signal = self.signal.lock();
        if signal.ended || signal.lapse.is_some() {
            return false;
        }
        signal.lapse = Some(lapse);
        if let Some(waker) = signal.waker.take() {
            waker.wake();
        }
        true
    }

    /// Lets its task look again.
    pub(in crate::proxy) fn rouse(&self) {
        if let Some(waker) = &self.signal.lock().waker {
            waker.wake_by_ref();
        }
    }

    /// The lapse, if there is one that nobody has reported on; from now on it counts as reported.
    pub(in crate::proxy) fn take_unreported(&self) -> Option<Lapse> {
        let mut signal = self.signal.lock();
        if signal.reported {
            return None;
        }
        let lapse = signal.lapse.clone()?;
        signal.reported = true;
        Some(lapse)
    }

    /// Nothing of the connection is left. Whoever stopped it and heard nothing yet hears it now.
    pub(super) fn end(&self) {
        self.signal.lock().ended = true;
        let Some(lapse) = self.take_unreported() else {
            return;
        };
        if let Some(receipts) = &lapse.receipts {
            let closed = Receipt::Closed {
                reference: self.facts.arrival.reference.to_string(),
                after: clock::instant().saturating_duration_since(lapse.since),
                told: false,
                has_backend: false,
            };
            drop(receipts.try_send(closed));
        }
    }

    /// Ready when the permit lapsed; otherwise wakes this task when it does. One task at a time.
    pub(in crate::proxy) fn poll_lapsed(&self, cx: &mut Context<'_>) -> Poll<Lapse> {
        let mut signal = self.signal.lock();
        if let Some(lapse) = &signal.lapse {
            return Poll::Ready(lapse.clone());
        }
        if !signal
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            signal.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until the permit lapses.
    pub(in crate::proxy) async fn lapsed(&self) -> Lapse {
        std::future::poll_fn(|cx| self.poll_lapsed(cx)).await
    }

    /// Takes note of a decision, unless a later one was noted already.
    pub(super) fn stand(&self, standing: Standing) {
        let mut current = self.standing.lock();
        if standing.revision >= current.revision {
            *current = standing;
        }
    }

    /// Whether the connection may go on under `permit`: the same endpoint, the same cluster behind
    /// it, the same proof asked of the client.
    pub(in crate::proxy) fn continues_under(&self, permit: &Permit) -> bool {
        let footing = Arc::clone(&self.standing.lock().footing);
        permit.continues(&footing)
    }

    /// When it lapses by itself: by its entry, or by its proof.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        let by_entry = self.standing.lock().expires;
        let by_proof = self.proof_expires.get().copied();
        match (by_entry, by_proof) {
            (Some(entry), Some(proof)) => Some(entry.min(proof)),
            (one, other) => one.or(other),
        }
    }

    pub(super) fn proof_lasts_until(&self, moment: Timestamp) {
        // Set once: a connection is authenticated once.
        self.proof_expires.get_or_init(|| moment);
    }

    pub(super) fn proof_has_expired(&self, at: Timestamp) -> bool {
        self.proof_expires.get().is_some_and(|moment| *moment <= at)
    }

    /// The connection as the operator sees it.
    pub(in crate::proxy) fn describe(&self) -> LiveConnection {
        let standing = self.standing.lock().clone();
        let (bytes_in, bytes_out) = self.counted();
        LiveConnection {
            reference: self.facts.arrival.reference.to_string(),
            tenant: self.tenant.to_string(),
            endpoint: self.endpoint.to_string(),
            origin: self.facts.arrival.origin.to_string(),
            address: self.facts.arrival.address.to_string(),
            port: self.facts.arrival.port,
            user: self.facts.user.clone(),
            database: self.facts.database.clone(),
            entry: standing.entry,
            since_ms: self.since.as_millis(),
            revision: standing.revision.get(),
            state: if self.open.load(Ordering::Acquire) {
                "open"
            } else {
                "opening"
            }
            .to_owned(),
            bytes_in,
            bytes_out,
        }
    }
}

//! What every connection of this node shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use portcullis_audit::{Event, kinds};
use portcullis_certs::cancel_key::{CancelKeys, Issuer};
use portcullis_certs::{Identity, ServerIdentities, TlsError};
use portcullis_policy::{
    Authentication, Change, Decision, Purpose, ServerName, Silent, TenantId, Timestamp, View,
    decide,
};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::authenticate::Issuers;
use super::certificates::{Certificates, Shown};
use super::failures::{FailedSignIns, Who};
use super::limits::FrontLimits;
use super::live::{Arrival, Claims, Enforcement, Live, LiveConnection};
use super::others::{Elsewhere, OpenAt, Others, Untold};
use super::throttle::cancels::Cancels;
use super::throttle::{Limit, Opening, Sheds, Throttle};
use crate::database::Upstreams;
use crate::database::service::Services;
use crate::database::verifiers::Verifiers;
use crate::ledger::Ledger;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::vigil::{Sleep, Vigil};

/// The front door of one node.
pub struct Front {
    view: ArcSwap<View>,
    pub(super) live: Arc<Live>,
    pub(super) claims: Arc<Claims>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) sheds: Arc<Sheds>,
    limits: Arc<FrontLimits>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) services: Arc<Services>,
    pub(super) verifiers: Arc<Verifiers>,
    pub(super) issuers: Issuers,
    pub(super) mock_secret: [u8; 32],
    pub(super) cancel_keys: CancelKeys,
    pub(super) cancels: Arc<Cancels>,
    pub(super) failures: Arc<FailedSignIns>,
    background: Handle,
    after_work: TaskTracker,
    draining: AtomicBool,
    vigil: Arc<Vigil>,
    /// The other nodes, once this one is of a fleet.
    others: OnceLock<Arc<dyn Others>>,
    certificates: ArcSwap<Certificates>,
}

/// What of a node's limits is used.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Authenticated connections of the node,
    pub connections: usize,
    /// of each tenant that has any,
    pub tenants: Vec<(TenantId, u32)>,
    /// and of the endpoint that has most.
    pub largest_endpoint: u32,
    /// Those that are not authenticated yet.
    pub opening: Opening,
    /// Cancel requests that are being carried out.
    pub cancels: usize,
}

/// The parts of a front door, made by the composition root.
pub struct FrontParts {
    /// The policy in force.
    pub view: Arc<View>,
    /// The certificates that listeners can show.
    pub identities: ServerIdentities,
    /// Where evidence goes.
    pub ledger: Arc<Ledger>,
    /// The service connections to the clusters.
    pub services: Arc<Services>,
    /// What SCRAM needs to know of roles.
    pub verifiers: Arc<Verifiers>,
    /// From which mock verifiers of unknown roles are derived. The same on every node and after
    /// every restart, or two attempts would tell that a role does not exist.
    pub mock_secret: [u8; 32],
    /// The cancel keys of this run of the node.
    pub cancel_keys: CancelKeys,
    /// What it takes on at most.
    pub limits: FrontLimits,
    /// The runtime of background work.
    pub background: Handle,
}

impl Front {
    /// A front door that serves nobody yet.
    ///
    /// # Errors
    /// [`TlsError`] if an identity makes no server configuration.
    pub fn new(parts: FrontParts) -> Result<Self, TlsError> {
        let certificates = Certificates::new(parts.identities)?;
        let limits = Arc::new(parts.limits);
        let sheds = Arc::<Sheds>::default();
        Ok(Self {
            view: ArcSwap::new(parts.view),
            live: Arc::default(),
            claims: Arc::new(Claims::new(limits.customers())),
            throttle: Arc::new(Throttle::new(Arc::clone(&limits), Arc::clone(&sheds))),
            sheds,
            limits,
            ledger: parts.ledger,
            services: parts.services,
            verifiers: parts.verifiers,
            issuers: Issuers::default(),
            mock_secret: parts.mock_secret,
            cancel_keys: parts.cancel_keys,
            cancels: Arc::new(Cancels::new()),
            failures: Arc::new(FailedSignIns::new()),
            background: parts.background,
            after_work: TaskTracker::new(),
            draining: AtomicBool::new(false),
            vigil: Arc::default(),
            others: OnceLock::new(),
            certificates: ArcSwap::from_pointee(certificates),
        })
    }

    /// The policy in force on this node.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Every live connection, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<LiveConnection> {
        self.live.describe()
    }

    /// How many connections are live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// The live connections that `changes` would close if `candidate` were in force.
    #[must_use]
    pub fn would_lapse(
        &self,
        candidate: &View,
        changes: &[Change],
        at: Timestamp,
    ) -> Vec<LiveConnection> {
        self.live.would_lapse(candidate, changes, at)
    }

    /// Puts `view` in force, `changes` away from the one before, and stops exactly the live
    /// connections that lapse by it, all before it returns. The future waits (bounded) until they
    /// are closed and their backends are seen gone. Views come one after the other.
    pub fn enforce(
        &self,
        view: Arc<View>,
        changes: &[Change],
    ) -> impl Future<Output = Enforcement> + Send + use<> {
        let since = clock::instant();
        // Published before live connections are looked for: whoever registers after this sees it.
        self.view.store(Arc::clone(&view));
        self.live.enforce(&view, changes, since)
    }

    /// Closes what expired since the last tick.
    pub fn expire(&self) {
        self.live
            .expire(&self.view(), clock::now(), clock::instant());
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &FrontLimits {
        &self.limits
    }

    /// What of the limits is used now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (connections, tenants) = self.claims.taken();
        Usage {
            connections,
            tenants,
            largest_endpoint: self.claims.largest_endpoint(),
            opening: self.throttle.opening(),
            cancels: self.cancels.carried(),
        }
    }

    /// How often `limit` turned somebody away since the node started.
    #[must_use]
    pub fn shed(&self, limit: Limit) -> u64 {
        self.sheds.total(limit)
    }

    /// Writes down who was shed since the last time, and forgets who came at what pace long ago.
    pub fn tick(&self) {
        for event in self.sheds.take(|| self.event(kinds::LIMIT_SHED)) {
            self.ledger.record(event);
        }
        self.throttle.forget_idle(clock::instant());
    }

    /// From now on there are other nodes.
    pub fn join(&self, others: Arc<dyn Others>) {
        // Once, when the node takes its place in a fleet.
        drop(self.others.set(others));
    }

    /// The other nodes, if there are any.
    pub(super) fn others(&self) -> Option<&Arc<dyn Others>> {
        self.others.get()
    }

    /// For how many seconds nobody has confirmed the policy to this node; 0 where it decides alone.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.others()
            .map_or(0, |others| others.unconfirmed().as_secs())
    }

    /// The authenticated connections to each endpoint.
    pub(super) fn open_endpoints(&self) -> Vec<OpenAt> {
        self.claims.endpoints()
    }

    /// What other nodes hold.
    pub(super) fn elsewhere(&self) -> &Elsewhere {
        self.claims.elsewhere()
    }

    /// Failed sign-ins that the others were not told yet.
    pub(super) fn untold(&self) -> &Untold {
        self.failures.untold()
    }

    /// Takes note of a proof that another node found wrong.
    pub(super) fn count_failure(&self, who: &Who) {
        self.failures.failed_elsewhere(who);
    }

    /// Whether `node` may have issued a cancel key.
    #[must_use]
    pub fn issued(&self, issuer: Issuer, node: &str) -> bool {
        self.cancel_keys.issued(issuer, node)
    }

    /// From now on nobody new is let in, also of those who are on their way.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether this process slept: nothing passes after that until [`Front::woke`].
    #[must_use]
    pub fn vigil(&self) -> &Arc<Vigil> {
        &self.vigil
    }

    /// What is in force was confirmed after this sleep, or cannot be: traffic goes on, without those
    /// who lapsed meanwhile.
    pub fn woke(&self, sleep: Sleep) {
        // Entries and proofs that expired in the sleep, before the first byte.
        self.expire();
        self.vigil.saw_to(sleep);
        self.live.rouse();
    }

    /// Whether the node is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Work that outlives its connection: a cancel, seeing a backend gone. It has an owner: the
    /// node waits for it before it stops.
    pub(super) fn after(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.after_work.spawn_on(work, &self.background);
    }

    /// Waits until such work is done.
    pub async fn settled(&self) {
        self.after_work.close();
        self.after_work.wait().await;
    }

    /// Ends every live connection, for a drain that is over.
    pub fn end_all(&self, since: Instant) {
        self.live.end_all(since);
    }

    /// The way to every cluster.
    #[must_use]
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        self.services.upstreams()
    }

    /// An audit event of this node, now.
    pub(super) fn event(&self, kind: &'static str) -> Event {
        Event::new(clock::now().as_millis(), kind, self.ledger.node())
    }

    /// The TLS configuration for a client that named `server_name`, and the identity it shows.
    ///
    /// A client certificate is asked for only where policy would let the client in, so that a
    /// stranger cannot learn from the handshake that an endpoint exists.
    pub(super) fn server_config(
        &self,
        arrival: &Arrival,
        server_name: Option<&ServerName>,
    ) -> Result<Shown, TlsError> {
        let vouching = self.vouching_authorities(arrival, server_name);
        let certificates = self.certificates.load();
        certificates.shown(server_name.map(ServerName::as_str), vouching)
    }

    /// From now on handshakes show these. Connections that are open stay as they are. It computes for long where there are many: not for a
    /// thread that serves.
    ///
    /// # Errors
    /// [`TlsError`] if one makes no server configuration: nothing is changed.
    pub fn show(&self, identities: ServerIdentities) -> Result<(), TlsError> {
        let before = self
            .certificates
            .swap(Arc::new(Certificates::new(identities)?));
        // A handshake may hold the former ones for the microseconds of choosing one. Whoever lets go of them last takes them apart, which
        // takes milliseconds where there are thousands: that must be here and not on the path of a connection.
        let until = clock::instant() + LET_GO_WITHIN;
        while Arc::strong_count(&before) > 1 && clock::instant() < until {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// What handshakes show now, the default first.
    #[must_use]
    pub fn shows(&self) -> Vec<Arc<Identity>> {
        self.certificates.load().identities().to_vec()
    }

    fn vouching_authorities(
        &self,
        arrival: &Arrival,
        server_name: Option<&ServerName>,
    ) -> Option<Arc<str>> {
        let view = self.view();
        let attempt = portcullis_policy::Attempt {
            origin: &arrival.origin,
            address: arrival.address,
            server_name,
            user: "",
            database: "",
            replication: false,
            certificate: None,
            purpose: Purpose::Connect,
            unconfirmed: 0,
        };
        match decide(&view, &attempt, clock::now(), &mut Silent) {
            Decision::Permitted(permit) => match &permit.endpoint().authentication {
                Authentication::Certificate { authorities, .. } => {
                    Some(Arc::from(authorities.as_str()))
                }
                Authentication::Scram | Authentication::Relay | Authentication::Token { .. } => {
                    None
                }
            },
            Decision::Denied(_) => None,
        }
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("revision", &self.view().revision())
            .finish_non_exhaustive()
    }
}

/// For so long whoever replaces certificates waits for handshakes that chose one of the former ones.
const LET_GO_WITHIN: Duration = Duration::from_millis(100);

//! A node's place among others: writes from anywhere, one view in force everywhere, and who is
//! known to enforce it.
//!
//! Control nodes agree through `portcullis-consensus`; what they say to each other travels over
//! the mesh (`words`). Each node puts every view in force in order (`enforcer`) and reports
//! it (`reports`). A command may be given to any control node: it is carried to the leader and
//! executed once (`writes`). The leader makes the set of voters what the state says it should
//! be (`voters`). [`found`] and [`joining`] make a node of a process.
//!
//! A node without `[fleet]` in its configuration is a fleet by itself: the same code with one
//! voter and no mesh.
//!
//! Deliberately absent: any decision about who may connect or command (policy), and anything that
//! needs the clock of another node.

mod admission;
mod aging;
mod agreeing;
mod agreement;
mod answers;
mod authority;
pub mod backup;
mod clocks;
mod distance;
mod enforcer;
mod epochs;
mod exchanging;
mod filling;
pub mod finding;
mod following;
mod forked;
pub mod found;
mod heads;
mod health;
pub mod home;
pub mod joining;
mod keeping;
mod lease;
mod leaving;
mod mending;
mod objects;
mod opened;
pub mod operators;
pub mod paces;
mod peers;
mod recording;
pub mod recover;
mod relay;
mod renewing;
mod report;
mod reports;
mod rounds;
mod sealing;
mod signing;
mod skew;
mod soft;
mod source;
mod staleness;
mod standing;
pub mod starts;
mod subscription;
mod sweeping;
mod voters;
mod vouching;
mod waking;
mod witnesses;
mod words;
mod writes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use portcullis_policy::{
    FEATURE_LEVEL, KeyHash, Node as FleetNode, NodeId, NodeName, NodeRole, Revision, View,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::aging::Aging;
use self::agreeing::Agreement;
use self::answers::Answers;
use self::authority::HeldAuthorities;
use self::enforcer::Enforcer;
use self::epochs::Epochs;
use self::following::Following;
use self::home::{Home, Membership};
use self::lease::Lease;
use self::report::Condition;
use self::reports::Reports;
use self::sealing::Sealing;
use self::signing::Signing;
use self::source::{Source, epoch};
use self::starts::{Starts, Votes};
use crate::config::node::{NodeConfig, NodeRoles};
use crate::ledger::Ledger;
use crate::mesh::Mesh;
use crate::proxy::Front;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::random;
use crate::vault::Vault;

pub use agreeing::REINSTALLS;
pub use clocks::SKEW_LOOKS;
pub use distance::{FARTHER_LOOKS, NEARER_LOOKS};
pub use enforcer::{Step, Stepped};
pub use exchanging::{EXCHANGE_AGAIN, EXCHANGE_LOOK, Waiting};
pub use mending::{REOPEN_FIRST, REOPEN_MOST, REOPENINGS};
pub use opened::Opened;
pub use renewing::{ISSUED_AGAIN, OwnCertificate};
pub use reports::NodeReceipt;
pub use rounds::{SLOW_AGAIN, SLOW_DISK};
pub use skew::{OFF, OFF_ENDS, TIME_AGE, TIMES, WRONG, WRONG_ENDS};
pub use standing::{Known, Standing};
pub use writes::{JOINING, Made, WRITE_LIMIT, WriteError, Written};

/// This node's place in its fleet.
pub struct Fleet {
    me: NodeId,
    name: NodeName,
    source: Source,
    /// What a control node was told beside its own state; none on others.
    relay: Option<Arc<Following>>,
    /// None on a node that does not vote in a fleet.
    signing: Option<Arc<Signing>>,
    /// None on a node that keeps no audit logs: one that does not vote.
    sealing: Option<Arc<Sealing>>,
    /// None where no object store is to have the audit logs.
    mirror: Option<Arc<objects::Mirror>>,
    /// Who is asked to cosign the audit logs.
    witnesses: witnesses::Witnesses,
    front: Arc<Front>,
    enforcer: Arc<Enforcer>,
    reports: Reports,
    /// This start of the process, as its reports name it, and how many there were.
    start: u64,
    reported: AtomicU64,
    agreement: Agreement,
    clocks: clocks::Clocks,
    /// Why this node takes part in no decision, and what to do.
    failure: Mutex<Option<String>>,
    /// Whether customers come in here: they must not lose their connections to a restart.
    doors: bool,
    ledger: Arc<Ledger>,
    gathered: soft::Gathered,
    searches: tokio::sync::Semaphore,
    lease: Lease,
    /// Of a node that votes and carries the traffic of a fleet.
    aging: Option<Arc<Aging>>,
    /// None on a node that is a fleet by itself.
    mesh: Option<Mesh>,
    /// What it was told when it became a node; none on a node that is a fleet by itself.
    membership: Option<Membership>,
    /// None on a node that is a fleet by itself.
    epochs: Option<Epochs>,
    /// None on a node that is a fleet by itself.
    starts: Option<Starts>,
    /// None on a node that lets nobody in.
    admission: Option<Admission>,
    /// None on a node that is a fleet by itself.
    identity: Option<peers::Identity>,
    issued: renewing::Issued,
    said: exchanging::Said,
    stale_limit: Duration,
    /// Where others reach this node.
    address: Option<String>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled once this node is of the fleet no longer.
    removed: CancellationToken,
    peers: Arc<peers::Peers>,
}

/// What a node's place in its fleet is made of.
pub struct FleetParts {
    /// The node's configuration.
    pub config: Arc<NodeConfig>,
    /// Its state and identity.
    pub opened: Opened,
    /// Its front door.
    pub front: Arc<Front>,
    /// Where evidence goes.
    pub ledger: Arc<Ledger>,
}

impl Fleet {
    /// Takes the node's place: from now on it answers others, and puts in force what is decided.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn start(parts: FleetParts) -> Result<Arc<Self>, String> {
        let FleetParts {
            config,
            opened:
                Opened {
                    source,
                    aging,
                    relay,
                    keeping,
                    place,
                },
            front,
            ledger,
        } = parts;
        let recording = recording::open(&ledger, &config.data)?;
        let objects = config.audit.objects.as_ref();
        let mirror = objects.map(objects::Mirror::open).transpose()?;
        let tasks = TaskTracker::new();
        let answers = Arc::<Answers>::default();
        let (mut mesh, mut membership, mut admission) = (None, None, None);
        let (mut signing, mut sealing, mut epochs, mut starts) = (None, None, None, None);
        let mut own = None;
        if let Some((member, identity, wire)) = place {
            let epoch = epoch(&source.view());
            let home = Home::of(&config.data);
            let epoch = epoch.max(member.epoch);
            let votes = source.consensus().map_or(Votes::No, |_| Votes::Yes);
            let (begun, start) = Starts::begin(&home, &identity, epoch, votes, &wire)?;
            starts = Some(begun);
            let heard = Arc::clone(&answers);
            let opened = peers::mesh(&config, &member, &identity, start, heard, &ledger)?;
            wire.connect(opened.clone());
            epochs = Some(Epochs::load(
                &home,
                &member,
                epoch,
                wire,
                Arc::clone(&ledger),
            )?);
            if source.consensus().is_some() {
                signing = Signing::load(&home, member.node)?;
            }
            if let Some(keeping) = keeping {
                sealing = Sealing::load(&home, member.fleet, member.node, keeping)?;
            }
            if source.consensus().is_some() {
                let vault = Vault::at(&config.data, &config.root_key);
                let held = HeldAuthorities::new(&home, &vault, &identity.trust);
                admission = Some(Admission::load(&home, &config.data, held)?);
            }
            (mesh, membership, own) = (Some(opened), Some(member), Some(identity));
        } else if let Some(keeping) = keeping {
            let home = Home::of(&config.data);
            let fleet = found::alone(&home)?;
            sealing = Sealing::load(&home, fleet, NodeId::FIRST, keeping)?;
        }
        let reinstalling = source.consensus().is_some_and(|it| it.fence().is_some());
        if let Some(signing) = signing.as_ref().filter(|_| reinstalling) {
            signing.be_silent();
        }
        let agreement = Agreement::new(if reinstalling {
            Condition::Reinstalling
        } else {
            Condition::InStep
        });
        let fleet = Arc::new(Self {
            me: membership
                .as_ref()
                .map_or(NodeId::FIRST, |membership| membership.node),
            name: config
                .name
                .parse()
                .map_err(|error| format!("the node's name: {error}"))?,
            enforcer: Enforcer::new(Arc::clone(&front), tasks.clone()),
            source,
            relay,
            signing,
            sealing,
            mirror,
            witnesses: witnesses::Witnesses::load(&config)?,
            front,
            reports: Reports::default(),
            start: u64::from_be_bytes(random::bytes()),
            reported: AtomicU64::new(0),
            agreement,
            clocks: clocks::Clocks::default(),
            failure: Mutex::default(),
            doors: !config.listeners.is_empty(),
            ledger,
            gathered: soft::Gathered::default(),
            searches: tokio::sync::Semaphore::new(finding::SEARCHES_AT_ONCE),
            lease: Lease::over(clock::boottime()),
            aging,
            mesh,
            membership,
            epochs,
            starts,
            admission,
            identity: own,
            issued: renewing::Issued::default(),
            said: exchanging::Said::default(),
            stale_limit: config
                .fleet
                .as_ref()
                .map_or(Duration::ZERO, |fleet| fleet.stale_limit),
            address: config
                .fleet
                .as_ref()
                .and_then(|fleet| fleet.address.clone()),
            tasks,
            stop: CancellationToken::new(),
            removed: CancellationToken::new(),
            peers: peers::Peers::load(Home::of(&config.data)),
        });
        fleet.set_members();
        answers.speak_for(&fleet);
        if fleet.mesh.is_some() {
            let way = soft::Way(Arc::downgrade(&fleet));
            fleet.front.join(Arc::new(way));
        }
        rounds::spawn(&fleet);
        fleet
            .tasks
            .spawn(recording::record(Arc::clone(&fleet), recording));
        let home = Home::of(&config.data);
        let exchange = exchanging::follow(Arc::clone(&fleet), home.clone());
        fleet.tasks.spawn(exchange);
        fleet.tasks.spawn(renewing::keep(Arc::clone(&fleet), home));
        fleet.tasks.spawn(waking::watch(Arc::clone(&fleet)));
        Ok(fleet)
    }

    /// The view that this node has decided on, which may not be enforced to the end yet.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.source.view()
    }

    /// The step that a command made, once this node has its revision in force.
    pub async fn step(&self, written: &Written, deadline: Instant) -> Stepped {
        // Given again, it is not told whether it changed anything, but that it was executed.
        let changed = written.changed || written.made != Made::Now;
        self.enforcer
            .step(written.revision, written.at, changed, deadline)
            .await
    }

    /// Stops: the mesh says farewell, the state is closed.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        // Whoever waits for another node is not waited for: with the mesh its call ends too.
        drop(timeout(ENDING, self.tasks.wait()).await);
        if let Some(mesh) = &self.mesh {
            mesh.shutdown(FAREWELL).await;
        }
        if timeout(ENDING, self.tasks.wait()).await.is_err() {
            tracing::warn!("a task of the fleet does not end; the node stops without it");
        }
        if let Some(consensus) = self.source.consensus() {
            consensus.shutdown().await;
        }
    }

    /// All nodes; on a node that is a fleet by itself, that one.
    fn nodes(&self) -> Vec<FleetNode> {
        let view = self.source.view();
        match view.fleet() {
            Some(fleet) => fleet.nodes.values().cloned().collect(),
            None => vec![self.itself()],
        }
    }

    /// A node that is a fleet by itself, as if it were one of many.
    fn itself(&self) -> FleetNode {
        FleetNode {
            id: self.me,
            name: self.name.clone(),
            roles: [NodeRole::Control, NodeRole::Gateway].into(),
            key: KeyHash::new([0; 32]),
            view_key: None,
            address: None,
            level: FEATURE_LEVEL,
            admitted: Revision::default(),
        }
    }

    /// Whether this node leads, as far as it knows; one that is a fleet by itself does.
    #[must_use]
    pub fn leads(&self) -> bool {
        let status = self.source.status();
        status.is_some_and(|status| status.leader == Some(self.me))
    }

    fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Tells the mesh who belongs to the fleet. A node that was removed is spoken to until it votes
    /// no longer: of two voters, the one that stays cannot decide alone that it is alone.
    fn set_members(&self) {
        let (Some(mesh), Some(membership)) = (&self.mesh, &self.membership) else {
            return;
        };
        let _turn = self.peers.turn();
        let view = self.source.view();
        let (epoch, mut wanted) = peers::members(self.known_fleet(&view), membership, self.me);
        if let Some(status) = self.source.status() {
            for voter in status.voters.union(&status.learners) {
                let voter = voter.get();
                if let (false, Some(known)) = (wanted.contains_key(&voter), self.peers.get(voter)) {
                    wanted.insert(voter, known);
                }
            }
        }
        if let Some(proof) = self.source.state().as_ref().and_then(|it| it.recovery()) {
            mesh.set_proof(proof.to_vec());
        }
        if self.peers.are(&wanted) {
            let peers = Arc::clone(&self.peers);
            self.tasks.spawn_blocking(move || peers.write());
        }
        let told = self.source.following();
        let epoch = told.map_or(epoch, |told| epoch.max(told.trusted_epoch()));
        mesh.set_members(epoch, self.spoken_to(wanted));
        if let Some(fleet) = view.fleet() {
            self.reports.keep(&fleet.nodes.keys().copied().collect());
            // A node's id is the revision of its admission: before that it is of no fleet yet.
            let admitted = view.revision().get() >= self.me.get();
            if admitted && !fleet.nodes.contains_key(&self.me) {
                self.removed.cancel();
            }
        }
    }

    /// The fleet as a view has it, once that is one to which this node belongs: its id is the
    /// revision of its admission, and what a log says of before is not who its peers are.
    fn known_fleet<'a>(&self, view: &'a View) -> Option<&'a portcullis_policy::Fleet> {
        let admitted = view.revision().get() >= self.me.get();
        view.fleet().filter(|_| admitted)
    }

    /// Puts the latest view in force though not every step to it is known.
    fn catch_up(&self) {
        if self.was_reinstalled() {
            return self.begin_again();
        }
        let view = self.source.view();
        if let Some(signing) = &self.signing {
            signing.show(Arc::clone(&view), None);
        }
        self.put_in_force(|| self.enforcer.take_over(view));
        self.set_members();
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("me", &self.me)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How long the fleet's own tasks may take to end.
const ENDING: Duration = Duration::from_secs(1);
/// How long calls that are being answered may take to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The roles of a node.toml, as the state has them.
pub(crate) fn roles_of(roles: NodeRoles) -> BTreeSet<NodeRole> {
    let control = roles.control.then_some(NodeRole::Control);
    let gateway = roles.gateway.then_some(NodeRole::Gateway);
    control.into_iter().chain(gateway).collect()
}

//! What a node does again and again: puts views in force, reports, renews its lease, keeps its
//! mesh's members right, and, where it leads, makes the voters what the state says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_consensus::{Consensus, Heard, Status};
use portcullis_policy::{Author, Command, FEATURE_LEVEL, NodeId, Principal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::lease::{LEASE, Lent, RENEW_EVERY};
use super::report::Report;
use super::source::{Source, at};
use super::voters::{self, Change};
use super::{
    Fleet, aging, agreeing, clocks, distance, filling, leaving, mending, objects, relay, sealing,
    signing, soft, starts, subscription, sweeping, witnesses, words,
};
use crate::mesh::MeshError;
use crate::runtime::clock::{self, Duration, Instant};

/// How often a node reports though nothing changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a report may take.
pub(super) const REPORT_LIMIT: Duration = Duration::from_secs(2);
/// How long a quorum may take to confirm that it follows.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);
/// How often a node looks whether it has what its lender knew: no longer than [`CONFIRM_LIMIT`].
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often a node looks whether it knows the fleet, to say what it is.
const INTRODUCE_SOON: Duration = Duration::from_millis(100);
/// The pause before it says so again.
const INTRODUCE_AGAIN: Duration = Duration::from_secs(2);
/// How often the leader compares voters with the state.
const VOTERS_EVERY: Duration = Duration::from_millis(250);
/// The pause after a change of voters that failed.
const VOTERS_AGAIN: Duration = Duration::from_secs(1);

/// Starts all of it; it ends with the fleet.
pub(super) fn spawn(fleet: &Arc<Fleet>) {
    match &fleet.source {
        Source::Own(consensus) => {
            let enforcing = enforce(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(enforcing);
            // Where nobody comes in, the process ends instead.
            if fleet.doors {
                let mending = mending::mend(Arc::clone(fleet), Arc::clone(consensus));
                fleet.tasks.spawn(mending);
            }
            if let Some(relay) = &fleet.relay {
                let relaying = relay::watch(Arc::clone(fleet), Arc::clone(relay));
                fleet.tasks.spawn(relaying);
            }
        }
        Source::Told(following) => {
            let told = subscription::follow(Arc::clone(fleet), Arc::clone(following));
            fleet.tasks.spawn(told);
            let aging = subscription::watch_age(Arc::clone(fleet), Arc::clone(following));
            fleet.tasks.spawn(aging);
        }
    }
    if let Some(signing) = &fleet.signing {
        let telling = signing::tell(Arc::clone(fleet), Arc::clone(signing));
        fleet.tasks.spawn(telling);
    }
    if let (Some(sealing), Some(consensus)) = (&fleet.sealing, fleet.source.consensus()) {
        let (to_seal, decided) = (Arc::clone(sealing), Arc::clone(consensus));
        let sealed = sealing::seal(Arc::clone(fleet), to_seal, decided);
        fleet.tasks.spawn(sealed);
        let filling = filling::fill(Arc::clone(fleet), Arc::clone(sealing));
        fleet.tasks.spawn(filling);
        let (keeping, decides) = (Arc::clone(sealing.keeping()), Arc::clone(consensus));
        fleet
            .tasks
            .spawn(sweeping::sweep(Arc::clone(fleet), keeping, decides));
        if let Some(mirror) = &fleet.mirror {
            let mirroring =
                objects::mirror(Arc::clone(fleet), Arc::clone(sealing), Arc::clone(mirror));
            fleet.tasks.spawn(mirroring);
        }
        witnesses::spawn(fleet, sealing);
    }
    if fleet.aging.is_some() {
        fleet.tasks.spawn(aging::watch(Arc::clone(fleet)));
    }
    fleet.tasks.spawn(confirm(Arc::clone(fleet)));
    fleet.tasks.spawn(report(Arc::clone(fleet)));
    if fleet.mesh.is_some() {
        if let Some(consensus) = fleet.source.consensus() {
            let keeping = keep_voters(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(keeping);
            let distance = distance::keep(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(distance);
            let clocks = clocks::watch(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(clocks);
            let agreeing = agreeing::agree(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(agreeing);
            fleet.tasks.spawn(starts::greet(Arc::clone(fleet)));
        }
        fleet.tasks.spawn(soft::tell(Arc::clone(fleet)));
        fleet.tasks.spawn(introduce(Arc::clone(fleet)));
        fleet.tasks.spawn(leaving::watch(Arc::clone(fleet)));
    }
}

/// Puts every view in force, in order, and keeps the mesh's members right.
async fn enforce(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut published = consensus.subscribe();
    // What was decided between the opening of the state and now.
    fleet.catch_up();
    while let Some(next) = fleet.stop.run_until_cancelled(published.next()).await {
        match next {
            Heard::Next(next) => {
                let fleet_changed = next.applied.fleet_changed;
                if let Some(signing) = &fleet.signing {
                    let touched = next.applied.tenants.iter().cloned().collect();
                    signing.show(Arc::clone(&next.view), Some(touched));
                }
                fleet.put_in_force(|| {
                    let (view, applied) = (Arc::clone(&next.view), Arc::clone(&next.applied));
                    fleet.enforcer.take(view, applied);
                });
                if fleet_changed {
                    fleet.set_members();
                }
            }
            Heard::CatchUp => fleet.catch_up(),
            Heard::Reinstalled => fleet.begin_again(),
            Heard::Closed => return,
        }
    }
}

/// Renews the lease.
async fn confirm(fleet: Arc<Fleet>) {
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let asked = clock::boottime();
        let failed = fleet.source.status().is_some_and(|it| it.failed.is_some());
        if failed {
            fleet.lease.give_up(asked);
            continue;
        }
        if fleet.is_out() {
            fleet.lease.give_up(asked);
            continue;
        }
        // A voter that was removed is let go once it votes no longer.
        fleet.set_members();
        if !fleet.agreement.in_step() {
            fleet.lease.give_up(asked);
            continue;
        }
        let confirmed = fleet.confirmed().await;
        let failed = fleet.source.status().is_some_and(|it| it.failed.is_some());
        if let Some(lasting) = confirmed
            && fleet.agreement.in_step()
            && !fleet.is_out()
            && !failed
        {
            // Its policy is as new as anybody's; what it would do by its clock is not right.
            if fleet.clock_is_wrong() {
                fleet.lease.give_up(asked);
            } else {
                fleet.lease.confirmed(asked, lasting);
            }
            fleet.policy_confirmed(lasting);
        }
    }
}

/// Tells every control node what is enforced here, when that changes and each second.
async fn report(fleet: Arc<Fleet>) {
    let mut finished = fleet.enforcer.finished();
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        fleet.send_report();
        let next = async {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = finished.changed() => {}
            }
        };
        if fleet.stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

/// Says what this node understands and where it is reached, until the state has it so: what an
/// older node does not understand cannot be used while it is of the fleet.
async fn introduce(fleet: Arc<Fleet>) {
    let mut pause = Duration::ZERO;
    while fleet.stop.run_until_cancelled(sleep(pause)).await.is_some() {
        let view = fleet.source.view();
        let Some(known) = view.fleet().and_then(|all| all.nodes.get(&fleet.me)) else {
            pause = INTRODUCE_SOON;
            continue;
        };
        pause = INTRODUCE_AGAIN;
        if known.level == FEATURE_LEVEL && known.address == fleet.address {
            return;
        }
        let author = Author {
            name: fleet.name.to_string(),
            principal: Principal::Node(fleet.me),
        };
        let command = Command::Report {
            node: fleet.me,
            level: FEATURE_LEVEL,
            address: fleet.address.clone(),
        };
        let written = fleet.write(None, author, command);
        // Without a quorum it takes its time, which a node that stops does not have.
        let Some(written) = fleet.stop.run_until_cancelled(written).await else {
            return;
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the fleet could not be told what this node is; it is tried again");
        }
    }
}

async fn keep_voters(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    // When the lead was last given away because of a slow disk.
    let mut slow = None;
    // Who was to lead and did not.
    let mut failed = BTreeSet::new();
    let mut ticks = interval(VOTERS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let status = consensus.status();
        if status.leader != Some(fleet.me) {
            continue;
        }
        let wrong = fleet.differing();
        let state = consensus.state();
        // Whoever may not lead is asked after all others.
        let mut last = fleet.clocks.wrong();
        last.extend(&failed);
        let step = voters::next(fleet.me, &state, &status, &wrong, &last).or_else(|| {
            if fleet.clock_is_wrong() {
                return voters::heir(fleet.me, status.voters.iter(), &status, &last)
                    .map(Change::HandOver);
            }
            let now = clock::instant();
            let lately = |at: Instant| now.saturating_duration_since(at) < SLOW_AGAIN;
            let heir = (!slow.is_some_and(lately)).then(|| fleet.faster(&consensus, &status))?;
            heir.map(|heir| {
                slow = Some(now);
                tracing::warn!(%heir, "this node's disk is slow, and another's is not: that one is to lead");
                Change::HandOver(heir)
            })
        });
        let Some(step) = step else {
            continue;
        };
        let taking = async {
            match step {
                Change::Learn(node) => consensus.add_learner(node).await,
                Change::Promote(node) => consensus.promote(node).await,
                Change::Drop(node) => consensus.drop_member(node).await,
                Change::HandOver(heir) => consensus.step_down(heir).await,
            }
        };
        // Without a quorum a step takes its time, which a node that stops does not have.
        let Some(taken) = fleet.stop.run_until_cancelled(taking).await else {
            return;
        };
        match taken {
            Ok(()) => {
                failed.clear();
                tracing::info!(?step, "the set of voters changes");
            }
            Err(error) => {
                if let Change::HandOver(heir) = step {
                    failed.insert(heir);
                }
                tracing::warn!(?step, %error, "the set of voters could not be changed; it is tried again");
                sleep(VOTERS_AGAIN).await;
            }
        }
    }
}

/// A leader whose disk takes longer than this to make a write durable gives the lead away, if another's
/// disk is at least twice as fast.
pub const SLOW_DISK: Duration = Duration::from_millis(500);
/// How often it does so at most.
pub const SLOW_AGAIN: Duration = Duration::from_secs(60);

impl Fleet {
    /// Who should lead because this node's disk is slow: one whose disk is not, as it says itself.
    fn faster(&self, consensus: &Consensus, status: &Status) -> Option<NodeId> {
        let own = consensus.write_pace().filter(|own| *own > SLOW_DISK)?;
        let wrong = self.differing();
        let is_faster = |node: &&NodeId| {
            let heard = self.reports.of(**node);
            let pace = heard.and_then(|heard| heard.report.write_pace_ms);
            pace.is_some_and(|pace| Duration::from_millis(pace) * 2 < own)
        };
        let clocks = self.clocks.wrong();
        let others = status.voters.iter();
        let others = others.filter(|node| !wrong.contains(*node) && !clocks.contains(*node));
        voters::heir(self.me, others.filter(is_faster), status, &BTreeSet::new())
    }

    /// For how long, counted from now, a quorum or somebody who asked one lets this node do what
    /// needs one.
    async fn confirmed(&self) -> Option<Duration> {
        // Only the leader can ask a quorum; everybody else asks the leader, or who may know it.
        let leader = match self.source.consensus() {
            Some(consensus) if consensus.confirm(CONFIRM_LIMIT).await.is_ok() => {
                return Some(LEASE);
            }
            Some(consensus) => consensus.status().leader?,
            None => self.a_control_node()?,
        };
        if leader == self.me {
            return None;
        }
        let answer = self
            .mesh()?
            .call(leader.get(), words::CONFIRM, Lent::asked(), CONFIRM_LIMIT)
            .await
            .ok()?;
        let lent = Lent::read(&answer).ok()?;
        if lent.left == 0 || !self.comes_to(lent.known).await {
            return None;
        }
        Some(Duration::from_millis(lent.left))
    }

    /// Whether this node has what its lender knew, now or within moments: whoever does what needs a
    /// quorum does it by what a quorum had decided.
    async fn comes_to(&self, known: (u64, u64)) -> bool {
        let coming = async {
            while at(&self.source.view()) < known {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(CONFIRM_LIMIT, coming).await.is_ok()
    }

    /// For how long nobody has confirmed the view that is in force here.
    pub(super) fn stale(&self) -> Duration {
        match self.source.following() {
            Some(following) => following.staleness.stale(),
            None => match (self.lease.stale(), &self.aging) {
                (None, _) => Duration::ZERO,
                (Some(_), Some(aging)) => aging.stale(),
                (Some(since), None) => since,
            },
        }
    }

    fn own_report(&self) -> Report {
        let consensus = self.source.consensus();
        Report {
            start: self.start,
            sequence: self.reported.fetch_add(1, Ordering::SeqCst),
            through: self.enforcer.through(),
            recent: self.enforcer.recent(),
            connections: u64::try_from(self.front.count()).unwrap_or(u64::MAX),
            stale_limit: self.stale_limit.as_secs(),
            stale: self.stale().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            condition: self.agreement.condition(),
            at: Some(clock::now()),
            roots: consensus.map(|it| it.roots_told()).unwrap_or_default(),
            write_pace_ms: consensus
                .and_then(|it| it.write_pace())
                .map(|pace| u64::try_from(pace.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    pub(super) fn send_report(self: &Arc<Self>) {
        let report = self.own_report();
        self.reports.take(self.me, report.clone());
        let Some(mesh) = self.mesh.clone() else {
            return;
        };
        let Ok(bytes) = report.to_bytes() else {
            return;
        };
        for to in self.other_control_nodes() {
            let (mesh, bytes) = (mesh.clone(), bytes.clone());
            let fleet = Arc::clone(self);
            // A report that is lost is made good by the next.
            self.tasks.spawn(async move {
                let asked = clock::instant();
                let told = mesh.call(to.get(), words::REPORT, bytes.clone(), REPORT_LIMIT);
                let told = told.await;
                if told.is_ok() {
                    let took = clock::instant().saturating_duration_since(asked);
                    fleet.reports.trips.answered(to, took);
                }
                if matches!(
                    told,
                    Err(MeshError::Unreachable(_) | MeshError::TimedOut | MeshError::Broken(_))
                ) {
                    let passing = fleet.pass_report(to, bytes);
                    let _ended = fleet.stop.run_until_cancelled(passing).await;
                }
            });
        }
    }
}

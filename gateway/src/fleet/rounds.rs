//! What a node does again and again: puts views in force, reports, renews its lease, keeps its
//! mesh's members right, and, where it leads, makes the voters what the state says.

use std::sync::Arc;

use portcullis_consensus::{Consensus, Heard};
use portcullis_policy::{Author, Command, FEATURE_LEVEL, Principal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::lease::{LEASE, RENEW_EVERY};
use super::source::Source;
use super::voters::{self, Change};
use super::{Fleet, relay, signing, soft, subscription, words};
use crate::runtime::clock::{self, Duration};

/// How often a node reports though nothing changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a report may take.
pub(super) const REPORT_LIMIT: Duration = Duration::from_secs(2);
/// How long a quorum may take to confirm that it follows.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);
/// How often a node tries to say what it is.
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
    fleet.tasks.spawn(confirm(Arc::clone(fleet)));
    fleet.tasks.spawn(report(Arc::clone(fleet)));
    if fleet.mesh.is_some() {
        if let Some(consensus) = fleet.source.consensus() {
            let keeping = keep_voters(Arc::clone(fleet), Arc::clone(consensus));
            fleet.tasks.spawn(keeping);
        }
        fleet.tasks.spawn(soft::tell(Arc::clone(fleet)));
        fleet.tasks.spawn(introduce(Arc::clone(fleet)));
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
                fleet
                    .enforcer
                    .take(Arc::clone(&next.view), Arc::clone(&next.applied));
                if fleet_changed {
                    fleet.set_members();
                }
            }
            Heard::CatchUp => fleet.catch_up(),
            Heard::Closed => return,
        }
    }
}

/// Renews the lease.
async fn confirm(fleet: Arc<Fleet>) {
    let mut failed = false;
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let asked = clock::boottime();
        let failure = fleet.source.status().and_then(|status| status.failed);
        if let Some(problem) = failure {
            fleet.lease.give_up(asked);
            if !std::mem::replace(&mut failed, true) {
                tracing::error!(
                    problem,
                    "this node takes part in deciding no longer and must be started again; customers are served as before"
                );
                if let Some(consensus) = fleet.source.consensus() {
                    // It would go on complaining.
                    consensus.shutdown().await;
                }
            }
            continue;
        }
        if fleet.fenced().is_some() {
            fleet.lease.give_up(asked);
            continue;
        }
        // A voter that was removed is let go once it votes no longer.
        fleet.set_members();
        if let Some(lasting) = fleet.confirmed().await {
            fleet.lease.confirmed(asked, lasting);
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
    let mut ticks = interval(INTRODUCE_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let view = fleet.source.view();
        let Some(known) = view.fleet().and_then(|all| all.nodes.get(&fleet.me)) else {
            continue;
        };
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
        if let Err(error) = fleet.write(None, author, command).await {
            tracing::warn!(%error, "the fleet could not be told what this node is; it is tried again");
        }
    }
}

async fn keep_voters(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut ticks = interval(VOTERS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let status = consensus.status();
        if status.leader != Some(fleet.me) {
            continue;
        }
        let Some(step) = voters::next(fleet.me, &consensus.state(), &status) else {
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
            Ok(()) => tracing::info!(?step, "the set of voters changes"),
            Err(error) => {
                tracing::warn!(?step, %error, "the set of voters could not be changed; it is tried again");
                sleep(VOTERS_AGAIN).await;
            }
        }
    }
}

impl Fleet {
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
            .call(leader.get(), words::CONFIRM, Vec::new(), CONFIRM_LIMIT)
            .await
            .ok()?;
        let left: u64 = words::decode(&answer).ok()?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    fn send_report(self: &Arc<Self>) {
        let report = self.own_report();
        self.reports.take(self.me, report.clone());
        let Some(mesh) = self.mesh.clone() else {
            return;
        };
        let Ok(bytes) = words::encode(&report) else {
            return;
        };
        let view = self.source.view();
        let others = view
            .fleet()
            .into_iter()
            .flat_map(|fleet| fleet.control())
            .filter(|node| node.id != self.me);
        for node in others {
            let (mesh, bytes, to) = (mesh.clone(), bytes.clone(), node.id);
            let (fleet, report) = (Arc::clone(self), report.clone());
            // A report that is lost is made good by the next.
            self.tasks.spawn(async move {
                let told = mesh.call(to.get(), words::REPORT, bytes, REPORT_LIMIT);
                if told.await.is_err() && !fleet.stop.is_cancelled() {
                    fleet.pass_report(to, &report).await;
                }
            });
        }
    }
}

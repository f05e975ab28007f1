//! What a control node does about states that differ: it says so, and one that is wrong itself keeps
//! out, lets go of its state once the leader has taken it out of the voters, and is given it anew.
//!
//! ```text
//!   in step ── a majority of voters had another state ──► differs: no vote, no lease, no signature
//!      ▲                                                     │ the leader has taken it out, durably
//!      └── as far as the leader was ── reinstalling ◄────────┘ its state is emptied, its vote kept
//! ```
//!
//! It does not depend on the wrong node alone: the leader sees the same and takes it out of the
//! voters, and no other node lends it a lease. Customers go on meanwhile from the view that is in
//! force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::{Event, kinds};
use portcullis_consensus::Consensus;
use portcullis_policy::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::agreement::{Comparison, Difference, Split, compare};
use super::report::Condition;
use super::{Fleet, words};
use crate::mesh::Refused;
use crate::runtime::clock::{self, Duration};

/// How often states are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Comparisons in a row without a majority before that is said: somebody may not have spoken yet.
const SPLIT_AFTER: u32 = 5;
/// How long a control node may take to say whether this one may let go of its state.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long a quorum may take to say that it follows.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);
/// How often one process reinstalls its state. One that differs again and again is not mended by
/// that.
pub const REINSTALLS: u32 = 3;

/// What a control node says of one that it knows to be out of voters and learners.
#[derive(Serialize, Deserialize)]
pub(super) struct LetGo {
    /// Whether it leads, with a quorum.
    leads: bool,
    /// How far its own state has come.
    applied: u64,
}

/// What this node knows of the states of all.
#[derive(Debug)]
pub(super) struct Agreement(Mutex<(Condition, Comparison)>);

impl Agreement {
    pub(super) fn new(condition: Condition) -> Self {
        Self(Mutex::new((condition, Comparison::default())))
    }

    /// How this node's own state stands.
    pub(super) fn condition(&self) -> Condition {
        self.0.lock().0
    }

    pub(super) fn in_step(&self) -> bool {
        self.condition() == Condition::InStep
    }

    /// The latest comparison.
    pub(super) fn comparison(&self) -> Comparison {
        self.0.lock().1.clone()
    }

    fn become_(&self, condition: Condition) {
        self.0.lock().0 = condition;
    }
}

/// Compares states, says what differs, and reinstalls this node's own when it is the wrong one.
pub(super) async fn agree(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut said = Said::default();
    let mut reinstalled = 0;
    let mut ticks = interval(COMPARE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let comparison = fleet.compare_states(&consensus);
        fleet.agreement.0.lock().1 = comparison.clone();
        fleet.say(&comparison, &mut said);
        fleet.say_gone_back(&consensus, &mut said);
        match fleet.agreement.condition() {
            Condition::InStep if comparison.wrong.contains_key(&fleet.me) => {
                fleet.agreement.become_(Condition::Differs);
                fleet.lease.give_up(clock::boottime());
                if let Some(signing) = &fleet.signing {
                    signing.be_silent();
                }
                consensus.pause().await;
                fleet.send_report();
            }
            Condition::Differs if reinstalled < REINSTALLS => {
                let asking = fleet.may_let_go();
                let Some(Some(fence)) = fleet.stop.run_until_cancelled(asking).await else {
                    continue;
                };
                match consensus.reinstall(fence).await {
                    Ok(()) => {
                        reinstalled += 1;
                        fleet.agreement.become_(Condition::Reinstalling);
                    }
                    Err(error) => {
                        tracing::error!(%error, "this node's state could not be emptied; it is tried again");
                    }
                }
                fleet.send_report();
            }
            Condition::Reinstalling if consensus.fence().is_none() => {
                fleet.agreement.become_(Condition::InStep);
                let revision = fleet.source.view().revision();
                tracing::info!(%revision, "this node's state is reinstalled: it takes part again");
                fleet.record(kinds::FLEET_REINSTALLED, |event| {
                    event.with("name", fleet.name.to_string())
                });
                fleet.send_report();
            }
            Condition::InStep | Condition::Differs | Condition::Reinstalling => {}
        }
    }
}

/// What was said already, so that it is said once.
#[derive(Default)]
struct Said {
    wrong: BTreeSet<NodeId>,
    gone_back: BTreeSet<NodeId>,
    split: u32,
}

impl Fleet {
    /// Compares what the control nodes of this version had. Another version may write the same state
    /// down in another way.
    fn compare_states(&self, consensus: &Consensus) -> Comparison {
        let view = self.source.view();
        let mut told = BTreeMap::from([(self.me, consensus.roots_known())]);
        for node in view.fleet().into_iter().flat_map(|fleet| fleet.control()) {
            if let Some(heard) = self.reports.of(node.id)
                && node.id != self.me
                && heard.report.version == env!("CARGO_PKG_VERSION")
            {
                told.insert(node.id, heard.report.roots);
            }
        }
        compare(&consensus.status().voters, &told)
    }

    /// Whose state the leader does not let take part.
    pub(super) fn differing(&self) -> BTreeSet<NodeId> {
        let mut wrong: BTreeSet<NodeId> = self.agreement.comparison().wrong.into_keys().collect();
        let view = self.source.view();
        for node in view.fleet().into_iter().flat_map(|fleet| fleet.control()) {
            let heard = self.reports.of(node.id);
            match heard.map(|heard| heard.report.condition) {
                Some(Condition::Differs) => wrong.insert(node.id),
                // What it had is gone.
                Some(Condition::Reinstalling) => wrong.remove(&node.id),
                Some(Condition::InStep) | None => false,
            };
        }
        wrong
    }

    fn say(&self, comparison: &Comparison, said: &mut Said) {
        for (node, difference) in &comparison.wrong {
            if said.wrong.insert(*node) {
                self.say_wrong(*node, difference);
            }
        }
        said.wrong
            .retain(|node| comparison.wrong.contains_key(node));
        said.split = match &comparison.split {
            None => 0,
            Some(split) => {
                if said.split + 1 == SPLIT_AFTER {
                    self.say_split(split);
                }
                said.split.saturating_add(1)
            }
        };
        let split = comparison
            .split
            .as_ref()
            .filter(|_| said.split >= SPLIT_AFTER);
        let differ = comparison.wrong.len() + split.map_or(0, |split| split.roots.len());
        let differ = u32::try_from(differ).unwrap_or(u32::MAX);
        metrics::gauge!("portcullis_fleet_diverged").set(f64::from(differ));
    }

    fn say_wrong(&self, node: NodeId, difference: &Difference) {
        let name = self.name_of(node);
        let by: Vec<String> = difference.by.iter().map(|it| self.name_of(*it)).collect();
        if node == self.me {
            tracing::error!(
                position = difference.position,
                ?by,
                "this node's state is not that of a majority: it votes and signs no more and lets its state be reinstalled; customers are served as before"
            );
        } else {
            tracing::error!(
                name,
                position = difference.position,
                ?by,
                "a control node's state is not that of a majority: it is taken out of the voters until its state is reinstalled"
            );
        }
        self.record(kinds::FLEET_DIVERGED, |event| {
            event
                .with("name", name)
                .with("position", difference.position)
                .with("root", hex(&difference.root))
                .with("majority", hex(&difference.majority))
                .with("by", by)
        });
    }

    /// As the leader sees it.
    fn say_gone_back(&self, consensus: &Consensus, said: &mut Said) {
        let status = consensus.status();
        let leads = status.leader == Some(self.me);
        said.gone_back.retain(|_| leads);
        for node in status.gone_back.iter().filter(|_| leads) {
            if !said.gone_back.insert(*node) {
                continue;
            }
            metrics::counter!("portcullis_consensus_gone_back_total").increment(1);
            let name = self.name_of(*node);
            tracing::error!("{}", gone_back(&name));
            self.record(kinds::FLEET_DIVERGED, |event| {
                event.with("name", name).with("code", "log_went_back")
            });
        }
    }

    fn say_split(&self, split: &Split) {
        let said: Vec<String> = split
            .roots
            .iter()
            .map(|(node, root)| format!("{} {}", self.name_of(*node), hex(root)))
            .collect();
        tracing::error!(
            position = split.position,
            ?said,
            "control nodes have different states, and none is that of a majority: nobody can be told wrong, and nothing is reinstalled"
        );
        self.record(kinds::FLEET_DIVERGED, |event| {
            event.with("position", split.position).with("states", said)
        });
    }

    pub(super) fn record(&self, kind: &'static str, with: impl FnOnce(Event) -> Event) {
        let event = Event::new(clock::now().as_millis(), kind, self.ledger.node());
        self.ledger.record(with(event));
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        let view = self.source.view();
        let known = view.fleet().and_then(|fleet| fleet.nodes.get(&node));
        known.map_or_else(|| node.to_string(), |node| node.name.to_string())
    }

    /// Asks the others whether this node was taken out; up to which entry its state must then come anew.
    /// More than half of the control nodes must say so, one that leads among them.
    async fn may_let_go(&self) -> Option<u64> {
        let mesh = self.mesh()?;
        let view = self.source.view();
        let fleet = view.fleet()?;
        let (mut yes, mut led, mut fence) = (0, false, 0);
        for node in fleet.control().filter(|node| node.id != self.me) {
            let asked = mesh.call(node.id.get(), words::LET_GO, Vec::new(), ANSWER_LIMIT);
            if let Ok(answer) = asked.await
                && let Ok(Some(out)) = words::decode::<Option<LetGo>>(&answer)
            {
                yes += 1;
                led |= out.leads;
                fence = fence.max(out.applied);
            }
        }
        (led && yes * 2 > fleet.control().count()).then_some(fence)
    }

    /// Whether a node may let go of its state, as this one sees it: `from` is neither voter nor learner,
    /// by a change that is done. Where one that leads with a quorum says so, every majority from now
    /// on is one without it.
    pub(super) async fn let_go(&self, from: NodeId) -> Result<Option<LetGo>, Refused> {
        let Some(consensus) = self.source.consensus() else {
            return Err(Refused("this node does not vote".to_owned()));
        };
        let confirmed = consensus.confirm(CONFIRM_LIMIT).await.is_ok();
        let status = consensus.status();
        let out = !status.voters.contains(&from) && !status.learners.contains(&from);
        Ok((out && status.settled).then_some(LetGo {
            leads: confirmed && status.leader == Some(self.me),
            applied: status.applied,
        }))
    }

    /// Whether the state was reinstalled, and this node has not begun again.
    pub(super) fn was_reinstalled(&self) -> bool {
        let silent = self.signing.as_ref().is_some_and(|it| it.is_silent());
        let fence = self.source.consensus().and_then(|it| it.fence());
        silent && fence.is_none() && self.agreement.condition() != Condition::Differs
    }

    /// What is wrong with the fleet's state or this node's part in it, for whoever looks after it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.failure.lock().clone().into_iter().collect();
        if let Some(later) = self.overtaken() {
            problems.push(format!(
                "FENCED: another process runs with the data of {} (its {later}) and is this node from now on: this one decides nothing any more. Stop it; one of the two was a copy. `portcullis fleet remove` and a new `join` with an empty data directory make it a node of its own",
                self.name
            ));
        }
        problems.extend(self.clock_problems());
        problems.extend(self.witnesses.problems());
        problems.extend(self.sealing.as_ref().and_then(|it| it.problem()));
        match self.agreement.condition() {
            Condition::InStep => {}
            Condition::Differs => problems.push(
                "this node's state is not that of a majority: it votes and signs no more until its state is reinstalled; where that does not happen by itself, `portcullis fleet remove` it and let it join anew".to_owned(),
            ),
            Condition::Reinstalling => problems.push(
                "this node's state is being reinstalled: it votes when it has come as far as the others".to_owned(),
            ),
        }
        let comparison = self.agreement.comparison();
        for node in comparison.wrong.keys().filter(|node| **node != self.me) {
            problems.push(format!(
                "the state of {} is not that of a majority: it is taken out of the voters until it is reinstalled",
                self.name_of(*node)
            ));
        }
        let status = self.source.status();
        let back = status.iter().filter(|it| it.leader == Some(self.me));
        for node in back.flat_map(|it| &it.gone_back) {
            problems.push(gone_back(&self.name_of(*node)));
        }
        if let Some(split) = comparison.split {
            let names: Vec<String> = split.roots.keys().map(|it| self.name_of(*it)).collect();
            problems.push(format!(
                "the control nodes {} have different states at position {} of the log, and none is that of a majority: compare `portcullis policy show` on each, remove the one that is wrong and let it join anew",
                names.join(", "),
                split.position
            ));
        }
        problems
    }

    /// How a control node's state stands, as this one knows it: `same`, `differs`, `reinstalling`,
    /// or `unknown` where nothing could be compared lately.
    pub(super) fn state_of(&self, node: NodeId) -> &'static str {
        let own = (node == self.me).then(|| self.agreement.condition());
        let heard = self.reports.of(node).map(|heard| heard.report.condition);
        let comparison = self.agreement.comparison();
        match own.or(heard) {
            Some(Condition::Reinstalling) => "reinstalling",
            Some(Condition::Differs) => "differs",
            Some(Condition::InStep) | None if comparison.wrong.contains_key(&node) => "differs",
            Some(Condition::InStep) | None if comparison.same.contains(&node) => "same",
            Some(Condition::InStep) | None => "unknown",
        }
    }

    /// The state was reinstalled: what this node shows and signs from now on is that, whatever it
    /// showed before.
    pub(super) fn begin_again(&self) {
        let view = self.source.view();
        if let Some(signing) = &self.signing {
            signing.speak_again();
            signing.show(Arc::clone(&view), None);
        }
        let applied = view.applied_since(&self.front.view(), clock::now());
        self.put_in_force(|| self.enforcer.replace(view, Arc::new(applied)));
        self.go_by_relay();
        self.set_members();
    }
}

fn gone_back(name: &str) -> String {
    format!(
        "the log of {name} lacks what was acknowledged in its name: a copy of its data runs somewhere, or an older copy was put in its place; it counts as dead meanwhile. Stop the copy, or remove {name} and let it join anew with an empty data directory"
    )
}

fn hex(root: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    root.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! What a control node does about clocks that differ: it says whose is off, and one whose own is wrong
//! does not lead and does nothing that needs a quorum until it is right again.
//!
//! Every report says what the time is where it comes from. The leader stamps commands by its clock, and
//! each node ends what expires by its own, so a wrong one is to be seen to; customers are served as
//! before meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::kinds;
use portcullis_consensus::Consensus;
use portcullis_policy::{NodeId, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use super::Fleet;
use super::skew::{Clock, Level, OFF, Times, judge};
use super::writes::WriteError;
use crate::runtime::clock::{self, Boottime, Duration};

/// How often clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Comparisons in a row that must find a clock off: after a stop of this process what others said
/// meanwhile comes late.
pub const SKEW_LOOKS: usize = 3;

/// What this node knows of the clocks of all.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    times: Times,
    /// The latest comparisons, the last one at the end; at most [`SKEW_LOOKS`].
    looks: VecDeque<BTreeMap<NodeId, Clock>>,
    /// How far this node's own was ahead of boot time at the latest.
    own: Option<i64>,
}

impl Clocks {
    /// A node said what time it is there; it takes `half` as long as a round trip to be heard.
    pub(super) fn heard(&self, node: NodeId, at: Timestamp, half: Duration) {
        let heard = clock::boottime();
        self.0.lock().times.said(node, at, heard, half);
    }

    /// How a node's clock stands; none where that cannot be told.
    pub(super) fn of(&self, node: NodeId) -> Option<Clock> {
        self.0.lock().of(node)
    }

    /// Whether a node's clock is so far off that it may not lead.
    pub(super) fn is_wrong(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|it| it.level == Level::Wrong)
    }

    /// Whose clocks are.
    pub(super) fn wrong(&self) -> BTreeSet<NodeId> {
        let known = self.0.lock();
        let nodes = known.looks.back().into_iter().flat_map(BTreeMap::keys);
        let is_wrong = |node: &&NodeId| known.of(**node).is_some_and(|it| it.level == Level::Wrong);
        nodes.filter(is_wrong).copied().collect()
    }

    /// Whether commands may bear this node's time: not if its clock is wrong, by the latest comparison
    /// alone, nor if it was set since. What is stamped with another time would be wrong for good.
    pub(super) fn may_stamp(&self, me: NodeId) -> bool {
        let known = self.0.lock();
        let latest = known.looks.back().and_then(|look| look.get(&me));
        let wrong = latest.is_some_and(|it| it.level == Level::Wrong);
        let now = own_ahead(clock::now(), clock::boottime());
        let set = known
            .own
            .is_some_and(|own| u128::from(own.abs_diff(now)) > OFF.as_millis());
        !wrong && !set
    }

    /// Compares; whose clocks stand otherwise than before, and how.
    fn compare(
        &self,
        me: NodeId,
        control: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
    ) -> BTreeMap<NodeId, Clock> {
        let (now, boot) = (clock::now(), clock::boottime());
        let mut known = self.0.lock();
        known.own = Some(own_ahead(now, boot));
        known.times.said(me, now, boot, Duration::ZERO);
        known.times.keep(members);
        let before: BTreeMap<NodeId, Option<Clock>> = members
            .iter()
            .map(|node| (*node, known.of(*node)))
            .collect();
        let last = known.looks.back().cloned().unwrap_or_default();
        // Where nobody can tell, all are what they were.
        let look = judge(&known.times.ahead(boot), control, &last).unwrap_or(last);
        known.looks.push_back(look);
        if known.looks.len() > SKEW_LOOKS {
            known.looks.pop_front();
        }
        let level = |clock: Option<Clock>| clock.map_or(Level::Right, |it| it.level);
        let other = |(node, before): (NodeId, Option<Clock>)| {
            let now = known.of(node)?;
            (level(Some(now)) != level(before)).then_some((node, now))
        };
        before.into_iter().filter_map(other).collect()
    }
}

impl Known {
    /// As the latest comparison has it, and no worse than each of those before.
    fn of(&self, node: NodeId) -> Option<Clock> {
        let latest = self.looks.back()?.get(&node)?;
        let of =
            |look: &BTreeMap<NodeId, Clock>| look.get(&node).map_or(Level::Right, |it| it.level);
        let level = match self.looks.len() {
            SKEW_LOOKS => self.looks.iter().map(of).min().unwrap_or(Level::Right),
            _ => Level::Right,
        };
        Some(Clock { level, ..*latest })
    }
}

fn own_ahead(now: Timestamp, boot: Boottime) -> i64 {
    let boot = i64::try_from(boot.as_millis()).unwrap_or(i64::MAX);
    now.as_millis().saturating_sub(boot)
}

/// Compares clocks, says whose is off, and keeps this node from leading while its own is wrong.
pub(super) async fn watch(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut ticks = interval(COMPARE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let view = fleet.source.view();
        let Some(all) = view.fleet() else {
            continue;
        };
        let control = all.control().map(|node| node.id).collect();
        let members = all.nodes.keys().copied().collect();
        for (node, clock) in fleet.clocks.compare(fleet.me, &control, &members) {
            fleet.say_clock(node, clock);
        }
        for node in all.nodes.values() {
            if let Some(clock) = fleet.clocks.of(node.id) {
                let seconds = Duration::from_millis(clock.skew.unsigned_abs()).as_secs_f64();
                metrics::gauge!("portcullis_fleet_clock_skew_seconds", "node" => node.name.to_string())
                    .set(if clock.skew < 0 { -seconds } else { seconds });
            }
        }
        let wrong = fleet.clocks.is_wrong(fleet.me);
        if wrong {
            fleet.lease.give_up(clock::boottime());
        }
        consensus.stand(!wrong);
    }
}

impl Fleet {
    /// Half a round trip to a node, as its connection has it.
    pub(super) fn half_way(&self, node: NodeId) -> Duration {
        let links = self.mesh().map(|mesh| mesh.links()).unwrap_or_default();
        let trips = links.iter().filter(|link| link.peer == node.get());
        let shortest = trips.map(|link| link.round_trip).min();
        shortest.unwrap_or_default() / 2
    }

    /// Whether this node's clock is so far off that it does nothing that needs a quorum.
    #[must_use]
    pub fn clock_is_wrong(&self) -> bool {
        self.clocks.is_wrong(self.me)
    }

    /// Whether what is issued here may say by this node's clock until when it is good.
    pub(super) fn may_date(&self) -> Result<(), WriteError> {
        if self.clocks.may_stamp(self.me) {
            return Ok(());
        }
        Err(WriteError::Rejected {
            code: "clock_wrong".to_owned(),
            message:
                "this node's clock is wrong, or was just set: set it, or ask another control node"
                    .to_owned(),
            status: 503,
        })
    }

    fn say_clock(&self, node: NodeId, clock: Clock) {
        let (name, skew_ms) = (self.name_of(node), clock.skew);
        match clock.level {
            Level::Right => tracing::info!(name, skew_ms, "a node's clock is right again"),
            Level::Off => tracing::warn!(name, skew_ms, "a node's clock is off: it is to be set"),
            Level::Wrong => tracing::error!(
                name,
                skew_ms,
                "a node's clock is wrong: a control node does not lead and does nothing that needs a quorum until it is set; customers are served as before"
            ),
        }
        self.record(kinds::TIME_SKEW, |event| {
            event
                .with("name", name)
                .with("outcome", word(clock.level))
                .with("skew_ms", skew_ms)
        });
    }

    /// Whose clocks are to be set, for whoever looks after the fleet.
    pub(super) fn clock_problems(&self) -> Vec<String> {
        let nodes = self.nodes();
        let told = nodes.iter().filter_map(|node| {
            let clock = self.clocks.of(node.id)?;
            let side = if clock.skew < 0 { "behind" } else { "ahead of" };
            let by = Duration::from_millis(clock.skew.unsigned_abs()).as_secs();
            let what = match clock.level {
                Level::Right => return None,
                Level::Off => "set it",
                Level::Wrong if node.is_control() => {
                    "it does not lead and does nothing that needs a quorum until it is set"
                }
                Level::Wrong => "what expires ends there too early or too late until it is set",
            };
            Some(format!(
                "the clock of {} is {by} s {side} the median of the control nodes': {what}",
                node.name
            ))
        });
        told.collect()
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Right => "right",
        Level::Off => "off",
        Level::Wrong => "wrong",
    }
}

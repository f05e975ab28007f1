//! How far apart the control nodes are, and the times of consensus that fit that.
//!
//! Every second this node looks how long the farthest control node takes to answer a report, at the
//! shortest of the latest. What all of the last few looks say is taken at once when it is more than
//! the times in force are for: with those nobody would stay leader. It is taken late when it is less:
//! then they only take longer to replace a leader that was lost. A look that came late itself says
//! nothing: this machine is busy, and not far from anywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_consensus::{Consensus, TIMINGS, Timing};
use portcullis_policy::NodeId;
use tokio::time::{MissedTickBehavior, interval};

use super::Fleet;
use crate::runtime::clock::{self, Duration, Instant};

/// Between two looks at how far the other control nodes are.
const LOOK: Duration = Duration::from_secs(1);
/// A look that is later than this is not counted.
const LATE: Duration = Duration::from_millis(30);
/// Looks in a row that found the nodes further apart than the times in force are for, before longer ones
/// are taken: a busy machine answers late now and then.
pub const FARTHER_LOOKS: usize = 5;
/// Looks in a row that found them near enough for shorter ones.
pub const NEARER_LOOKS: usize = 60;

/// Keeps the times of consensus fit for the distance.
pub(super) async fn keep(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut distance = Distance::default();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = clock::instant();
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = clock::instant();
        let late = now.saturating_duration_since(last).saturating_sub(LOOK);
        last = now;
        let Some(farthest) = fleet.farthest().filter(|_| late < LATE) else {
            continue;
        };
        metrics::gauge!("portcullis_fleet_round_trip_seconds").set(farthest.as_secs_f64());
        let Some(timing) = distance.look(farthest) else {
            continue;
        };
        tracing::info!(
            ?farthest,
            heartbeat = ?timing.heartbeat,
            election = ?timing.election_most,
            "the control nodes are not as far apart as they were: consensus goes by other times"
        );
        if let Err(error) = consensus.keep_time(timing).await {
            tracing::error!(%error, "consensus could not be started with other times");
        }
    }
}

impl Fleet {
    /// The round trip to the control node that is farthest, of those that answer.
    fn farthest(&self) -> Option<Duration> {
        let view = self.source.view();
        let control = view.fleet()?.control();
        let trips = control.filter_map(|node| self.reports.trips.shortest(node.id));
        trips.max()
    }
}

/// What reports of this node took to be answered, lately, by whom.
#[derive(Debug, Default)]
pub(super) struct Trips(Mutex<BTreeMap<NodeId, VecDeque<(Instant, Duration)>>>);

/// Reports to one node whose answers are remembered,
const TRIPS: usize = 5;
/// for at most so long.
const TRIP_AGE: Duration = Duration::from_secs(15);

impl Trips {
    /// A node answered, which took so long.
    pub(super) fn answered(&self, by: NodeId, took: Duration) {
        let mut all = self.0.lock();
        let trips = all.entry(by).or_default();
        trips.push_back((clock::instant(), took));
        if trips.len() > TRIPS {
            trips.pop_front();
        }
    }

    /// The shortest: how far that node is. One that is busy, or on a busy machine, answers one late and
    /// another in time.
    fn shortest(&self, node: NodeId) -> Option<Duration> {
        let now = clock::instant();
        let all = self.0.lock();
        let lately = |at: Instant| now.saturating_duration_since(at) <= TRIP_AGE;
        let trips = all.get(&node)?.iter().filter(|(at, _)| lately(*at));
        trips.map(|(_, took)| *took).min()
    }

    /// Forgets nodes that are no longer of the fleet.
    pub(super) fn keep(&self, members: &BTreeSet<NodeId>) {
        self.0.lock().retain(|node, _| members.contains(node));
    }
}

/// What was seen lately, and which of [`TIMINGS`] it led to.
#[derive(Debug, Default)]
struct Distance {
    step: usize,
    lately: VecDeque<Duration>,
}

impl Distance {
    /// Takes what one look found; the times to go by from now on, where they are others.
    fn look(&mut self, farthest: Duration) -> Option<Timing> {
        self.lately.push_back(farthest);
        if self.lately.len() > NEARER_LOOKS {
            self.lately.pop_front();
        }
        let last = self.lately.iter().rev().take(FARTHER_LOOKS);
        let at_least = last.min().copied()?;
        let at_most = self.lately.iter().max().copied()?;
        let (least, most) = (step_for(at_least), step_for(at_most.saturating_mul(4) / 3));
        let next = if self.lately.len() >= FARTHER_LOOKS && least > self.step {
            least
        } else if self.lately.len() >= NEARER_LOOKS && most < self.step {
            most
        } else {
            return None;
        };
        self.step = next;
        self.lately.clear();
        TIMINGS.get(next).map(|(_, timing)| *timing)
    }
}

/// Which of [`TIMINGS`] is for this round trip.
fn step_for(round_trip: Duration) -> usize {
    let fits = |(up_to, _): &(Duration, Timing)| round_trip <= *up_to;
    TIMINGS.iter().position(fits).unwrap_or(TIMINGS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What so many equal looks lead to, and after how many.
    fn looks(distance: &mut Distance, found: u64, many: usize) -> Option<(usize, Timing)> {
        let found = Duration::from_millis(found);
        (1..=many).find_map(|look| Some((look, distance.look(found)?)))
    }

    #[test]
    fn longer_times_are_taken_soon_and_shorter_ones_late() {
        let [_, _, (_, far), (_, farthest)] = TIMINGS;
        let mut distance = Distance::default();
        assert_eq!(looks(&mut distance, 70, 1_000), None);
        // One look in five that is near: a machine that was busy.
        for _ in 0..100 {
            assert_eq!(looks(&mut distance, 300, FARTHER_LOOKS - 1), None);
            assert_eq!(looks(&mut distance, 2, 1), None);
        }
        let soon = looks(&mut distance, 200, 100);
        assert_eq!(soon, Some((FARTHER_LOOKS, far)));
        let soon = looks(&mut distance, 9_000, 100);
        assert_eq!(soon, Some((FARTHER_LOOKS, farthest)));
        assert_eq!(looks(&mut distance, 9_000, 1_000), None);
        let late = looks(&mut distance, 190, 100);
        assert_eq!(late, Some((NEARER_LOOKS, far)));
        // Hardly less is not less: the next look would be more again.
        assert_eq!(looks(&mut distance, 110, 1_000), None);
        let late = looks(&mut distance, 40, 1_000);
        assert_eq!(late.map(|(_, timing)| timing), Some(Timing::default()));
    }

    #[test]
    fn the_times_leave_room_for_the_round_trip_that_they_are_for() {
        for (up_to, timing) in TIMINGS {
            assert!(timing.heartbeat * 10 >= up_to * 14, "{timing:?}");
            assert!(
                timing.election_least * 2 >= timing.heartbeat * 5,
                "{timing:?}"
            );
            // Two heartbeats may be missed.
            assert!(
                timing.election_most > timing.heartbeat * 2 + up_to,
                "{timing:?}"
            );
            let spread = timing.election_most - timing.election_least;
            assert!(spread >= up_to, "{timing:?}");
        }
    }

    #[test]
    fn how_far_a_node_is_is_the_shortest_of_its_latest_answers() {
        let trips = Trips::default();
        let [near, far] = [2, 3].map(|id| NodeId::new(id).unwrap());
        let took = |milliseconds| {
            trips.answered(near, Duration::from_millis(milliseconds));
            trips.shortest(near).unwrap().as_millis()
        };
        assert_eq!(took(900), 900);
        assert_eq!(took(3), 3);
        assert_eq!(trips.shortest(far), None);
        for _ in 0..4 {
            assert_eq!(took(200), 3);
        }
        assert_eq!(took(200), 200);
        assert_eq!(trips.0.lock()[&near].len(), TRIPS);
        trips.keep(&BTreeSet::from([far]));
        assert_eq!(trips.shortest(near), None);
    }
}

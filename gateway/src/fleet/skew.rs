//! Whose clock is off: what the nodes say the time is, compared.
//!
//! Each is measured against this node's boot time, which nobody can set: a clock that is set here
//! does not make those of all others look set. What a node said is never early and may be late, so the
//! most of what it said lately is what counts. Nobody is called wrong by less than a majority of the
//! control nodes that agree with each other: of two that differ nobody can tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portcullis_policy::{NodeId, Timestamp};

use crate::runtime::clock::{Boottime, Duration};

/// A clock that is further than this from the median of the control nodes' is off.
pub const OFF: Duration = Duration::from_secs(5);
/// It is right again when it is nearer than this.
pub const OFF_ENDS: Duration = Duration::from_secs(4);
/// A control node whose clock is further than this does not lead and does nothing that needs a quorum.
pub const WRONG: Duration = Duration::from_secs(30);
/// It may again when it is nearer than this.
pub const WRONG_ENDS: Duration = Duration::from_secs(25);
/// Times that a node said and that are remembered.
pub const TIMES: usize = 8;
/// What was said longer ago says nothing any more.
pub const TIME_AGE: Duration = Duration::from_secs(30);

/// What nodes said the time is, lately.
#[derive(Debug, Default)]
pub(super) struct Times(BTreeMap<NodeId, VecDeque<Said>>);

#[derive(Debug, Clone, Copy)]
struct Said {
    heard: Boottime,
    /// Milliseconds from boot time here to the clock there.
    ahead: i64,
}

impl Times {
    /// A node said that it is `at`, and was heard at `heard`, half a round trip later.
    pub(super) fn said(&mut self, node: NodeId, at: Timestamp, heard: Boottime, half: Duration) {
        let half = i64::try_from(half.as_millis()).unwrap_or(i64::MAX);
        let ahead = at.as_millis().saturating_add(half);
        let said = Said {
            heard,
            ahead: ahead.saturating_sub(milliseconds(heard)),
        };
        let times = self.0.entry(node).or_default();
        times.push_back(said);
        if times.len() > TIMES {
            times.pop_front();
        }
    }

    /// Forgets nodes that are no longer of the fleet.
    pub(super) fn keep(&mut self, members: &BTreeSet<NodeId>) {
        self.0.retain(|node, _| members.contains(node));
    }

    /// How far ahead of boot time the clock of each node is that spoke lately. A clock that was set
    /// counts from the first that it said since.
    pub(super) fn ahead(&self, now: Boottime) -> BTreeMap<NodeId, i64> {
        let lately = |said: &&Said| {
            let ago = now.as_millis().saturating_sub(said.heard.as_millis());
            u128::from(ago) <= TIME_AGE.as_millis()
        };
        let of = |times: &VecDeque<Said>| {
            let latest = times.back().filter(lately)?;
            let mut ahead = latest.ahead;
            for said in times.iter().rev().filter(lately) {
                if distance(said.ahead, latest.ahead) > SET {
                    break;
                }
                ahead = ahead.max(said.ahead);
            }
            Some(ahead)
        };
        let each = self.0.iter();
        each.filter_map(|(node, times)| Some((*node, of(times)?)))
            .collect()
    }
}

/// Two times of one node that are further apart than a message can be late: its clock was set between.
const SET: Duration = OFF_ENDS;

/// How a node's clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Near enough.
    Right,
    /// To be seen to.
    Off,
    /// Nothing that needs a clock is to be done by it.
    Wrong,
}

/// A node's clock beside those of the control nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// How far it is ahead of their median, in milliseconds; less than 0 is behind.
    pub(super) skew: i64,
    pub(super) level: Level,
}

/// How the clocks stand. What a node was `before` decides between two bounds, so that one at a bound
/// is not now this and now that. Nothing where no majority of the `control` nodes is near the
/// median: nobody can be told wrong then.
pub(super) fn judge(
    ahead: &BTreeMap<NodeId, i64>,
    control: &BTreeSet<NodeId>,
    before: &BTreeMap<NodeId, Clock>,
) -> Option<BTreeMap<NodeId, Clock>> {
    let mut theirs: Vec<i64> = control
        .iter()
        .filter_map(|node| ahead.get(node).copied())
        .collect();
    theirs.sort_unstable();
    let middle = theirs.len().saturating_sub(1) / 2;
    let median = *theirs.get(middle)?;
    let near = theirs.iter().filter(|one| distance(**one, median) <= OFF);
    if near.count() * 2 <= control.len() {
        return None;
    }
    let of = |(node, ahead): (&NodeId, &i64)| {
        let before = before.get(node).map_or(Level::Right, |it| it.level);
        let far = distance(*ahead, median);
        let level = match before {
            _ if far > WRONG => Level::Wrong,
            Level::Wrong if far > WRONG_ENDS => Level::Wrong,
            _ if far > OFF => Level::Off,
            Level::Off | Level::Wrong if far > OFF_ENDS => Level::Off,
            Level::Right | Level::Off | Level::Wrong => Level::Right,
        };
        let skew = ahead.saturating_sub(median);
        (*node, Clock { skew, level })
    };
    Some(ahead.iter().map(of).collect())
}

fn distance(one: i64, other: i64) -> Duration {
    Duration::from_millis(one.abs_diff(other))
}

fn milliseconds(time: Boottime) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn boot(seconds: i64) -> Boottime {
        Boottime::from_millis(u64::try_from(seconds).unwrap() * 1000)
    }

    /// Milliseconds by which each control node is ahead, `None` for one that is silent; what was
    /// before; what comes of it.
    fn check(ahead: &[Option<i64>], before: &[(u64, Level)], expected: Option<&[(u64, Level)]>) {
        let ids = || (1..).map(node);
        let control = ids().take(ahead.len()).collect();
        let ahead: BTreeMap<NodeId, i64> = ids()
            .zip(ahead)
            .filter_map(|(node, ahead)| Some((node, (*ahead)?)))
            .collect();
        let before = before
            .iter()
            .map(|(id, level)| {
                (
                    node(*id),
                    Clock {
                        skew: 0,
                        level: *level,
                    },
                )
            })
            .collect();
        let found = judge(&ahead, &control, &before);
        let other = |found: BTreeMap<NodeId, Clock>| -> Vec<(u64, Level)> {
            let levels = found.iter().map(|(node, it)| (node.get(), it.level));
            levels.filter(|(_, level)| *level != Level::Right).collect()
        };
        assert_eq!(found.map(other).as_deref(), expected, "{ahead:?}");
    }

    #[test]
    fn a_clock_is_right_off_or_wrong_by_its_distance_from_the_median() {
        use Level::{Off, Wrong};
        check(&[Some(0), Some(0), Some(5_000)], &[], Some(&[]));
        check(&[Some(0), Some(0), Some(5_001)], &[], Some(&[(3, Off)]));
        check(&[Some(0), Some(-5_001), Some(0)], &[], Some(&[(2, Off)]));
        check(&[Some(30_000), Some(0), Some(0)], &[], Some(&[(1, Off)]));
        check(&[Some(30_001), Some(0), Some(0)], &[], Some(&[(1, Wrong)]));
        check(
            &[Some(0), Some(-3_600_000), Some(1)],
            &[],
            Some(&[(2, Wrong)]),
        );
        check(
            &[Some(i64::MAX), Some(0), Some(0)],
            &[],
            Some(&[(1, Wrong)]),
        );
        let five = [Some(0), Some(9), Some(i64::MIN), Some(40_000), Some(3)];
        check(&five, &[], Some(&[(3, Wrong), (4, Wrong)]));
    }

    #[test]
    fn a_clock_at_a_bound_stays_what_it_was() {
        use Level::{Off, Right, Wrong};
        let at = |ahead| [Some(0), Some(0), Some(ahead)];
        check(&at(25_001), &[(3, Wrong)], Some(&[(3, Wrong)]));
        check(&at(25_000), &[(3, Wrong)], Some(&[(3, Off)]));
        check(&at(29_000), &[(3, Off)], Some(&[(3, Off)]));
        check(&at(4_001), &[(3, Off)], Some(&[(3, Off)]));
        check(&at(4_001), &[(3, Wrong)], Some(&[(3, Off)]));
        check(&at(4_001), &[(3, Right)], Some(&[]));
        check(&at(4_000), &[(3, Off)], Some(&[]));
    }

    #[test]
    fn without_a_majority_that_agrees_nobody_is_wrong() {
        check(&[Some(0)], &[], Some(&[]));
        check(&[None], &[], None);
        check(&[Some(0), Some(3_600_000)], &[], None);
        check(&[Some(0), Some(3_600_000), None], &[], None);
        check(&[Some(0), Some(10), None], &[], Some(&[]));
        check(&[Some(0), None, None], &[], None);
        check(&[Some(0), Some(60_000), Some(120_000)], &[], None);
        let halves = [Some(0), Some(0), Some(60_000), Some(60_000)];
        check(&halves, &[], None);
    }

    #[test]
    fn gateways_are_judged_and_judge_nobody() {
        let ahead = BTreeMap::from([(node(1), 0), (node(2), 60_000), (node(3), 60_000)]);
        let found = judge(&ahead, &BTreeSet::from([node(1)]), &BTreeMap::new()).unwrap();
        assert_eq!(found[&node(1)].level, Level::Right);
        assert_eq!(
            found[&node(3)],
            Clock {
                skew: 60_000,
                level: Level::Wrong
            }
        );
    }

    #[test]
    fn a_time_that_came_late_is_not_a_clock_that_is_behind_and_a_clock_that_is_set_counts_at_once()
    {
        let at = |millis: i64| Timestamp::from_millis(1_800_000_000_000 + millis);
        let ahead = |times: &Times, now| {
            let ahead = times.ahead(boot(now));
            ahead.get(&node(1)).map(|it| it - 1_800_000_000_000)
        };
        let mut times = Times::default();
        let half = Duration::from_millis(100);
        assert_eq!(ahead(&times, 0), None);
        times.said(node(1), at(0), boot(1), half);
        assert_eq!(ahead(&times, 1), Some(-900));
        times.said(node(1), at(1_900), boot(2), half);
        times.said(node(1), at(2_000), boot(3), half);
        assert_eq!(ahead(&times, 3), Some(0));
        // Set back an hour, and forth again.
        times.said(node(1), at(3_900 - 3_600_000), boot(4), half);
        assert_eq!(ahead(&times, 4), Some(-3_600_000));
        times.said(node(1), at(4_900), boot(5), half);
        assert_eq!(ahead(&times, 5), Some(0));
        // So many are remembered, and not for ever.
        for late in 6..60 {
            times.said(node(1), at(late * 1000 - 1_100), boot(late), half);
        }
        assert_eq!(ahead(&times, 60), Some(-1_000));
        assert_eq!(times.0[&node(1)].len(), TIMES);
        assert_eq!(ahead(&times, 89), Some(-1_000));
        assert_eq!(ahead(&times, 90), None);
        times.keep(&BTreeSet::new());
        assert!(times.0.is_empty());
    }
}

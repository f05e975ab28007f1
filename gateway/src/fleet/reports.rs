//! Which revision each node enforces, as the nodes say it.
//!
//! A node reports to every control node whenever it has enforced a change, and each second. A
//! receipt is made of that: it waits until every node that carries traffic has reported the
//! revision, and names those that stay silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use portcullis_consensus::{ROOTS_TOLD, Rooted};
use portcullis_policy::{NodeId, Revision, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::distance::Trips;
use super::vouching::Vouched;
use super::words;
use crate::runtime::clock::{self, Duration, Instant};

/// What one node says of itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Report {
    /// Which start of its process says so: drawn anew at each.
    pub start: u64,
    /// Counts the reports of one start.
    pub sequence: u64,
    /// Every change up to this revision is enforced there.
    pub through: Revision,
    /// What it took to enforce the latest of them, oldest first; at most [`RECENT`].
    pub recent: Vec<Summary>,
    /// Live connections.
    pub connections: u64,
    /// How long it serves customers from a policy that no control node confirms, in seconds.
    pub stale_limit: u64,
    /// Since when no control node has confirmed its policy, in seconds; 0 on one that votes with a
    /// quorum.
    pub stale: u64,
    /// Its version.
    pub version: String,
    /// How its state stands among those of the others.
    pub condition: Condition,
    /// What its state hashed to, and at which positions of the log; at most [`ROOTS_TOLD`]. Nothing
    /// on a node that does not vote.
    pub roots: Vec<Rooted>,
    /// How long its disk takes to make a write of the state durable, in milliseconds: the middle of
    /// the latest; none where there were few.
    pub write_pace_ms: Option<u64>,
    /// What time it is there when it says so; none of a version that does not.
    #[serde(skip)]
    pub at: Option<Timestamp>,
}

/// How a node's state stands among those of the others, as the node itself knows it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is what the others have, as far as is known.
    InStep,
    /// It is not what a majority has: the node keeps out until it may let go of it.
    Differs,
    /// The node has let go of it and is given it anew.
    Reinstalling,
}

/// A report on its way: versions are added at the end.
#[derive(Serialize, Deserialize)]
enum Message {
    First(Report),
}

/// What was added to its end, each after the other.
#[derive(Serialize, Deserialize)]
struct Added {
    /// Unix milliseconds.
    at: Option<i64>,
}

impl Report {
    /// As it is sent.
    ///
    /// # Errors
    /// In words: it cannot be encoded.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = words::encode(&Message::First(self.clone()))?;
        let at = self.at.map(Timestamp::as_millis);
        bytes.extend(words::encode(&Added { at })?);
        Ok(bytes)
    }

    /// As it came, of this version or a later one that adds to its end. It is no longer than ours
    /// are.
    ///
    /// # Errors
    /// In words: what is wrong with the bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let unclear = |error: postcard::Error| error.to_string();
        let (Message::First(mut report), added) =
            postcard::take_from_bytes(bytes).map_err(unclear)?;
        if !added.is_empty() {
            let (Added { at }, _) = postcard::take_from_bytes(added).map_err(unclear)?;
            report.at = at.map(Timestamp::from_millis);
        }
        report.recent.truncate(RECENT);
        report.roots.truncate(ROOTS_TOLD);
        Ok(report)
    }
}

/// What enforcing one change took on one node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Summary {
    /// The change.
    pub revision: Revision,
    /// Live connections that were decided again.
    pub decided_again: u64,
    /// Those that lapsed and were closed.
    pub closed: u64,
    /// Those that were not seen closed within the limit.
    pub unfinished: u64,
    /// Closed connections whose backend was not seen gone.
    pub backends_left: u64,
    /// From the moment the node knew the change to the moment from which the last of them passed
    /// no byte, milliseconds.
    pub slowest_ms: Option<f64>,
}

/// How one node took a change.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct NodeReceipt {
    /// The node.
    pub name: String,
    /// Whether it enforces the change.
    pub in_force: bool,
    /// Up to which revision it enforces every change; none if it was never heard.
    pub revision: Option<u64>,
    /// Connections that it closed; none if it did not say.
    pub closed: Option<u64>,
    /// Those that it did not see closed within the limit.
    pub unfinished: u64,
    /// Closed connections whose backend it did not see gone.
    pub backends_left: u64,
    /// From the moment it knew of the change to the moment from which the last of them passed no
    /// byte, milliseconds.
    pub slowest_ms: Option<f64>,
    /// How long ago it was last heard, in milliseconds; none if never.
    pub heard_ms: Option<u64>,
    /// After how long without confirmation it serves customers no more, in seconds.
    pub stale_limit: Option<u64>,
}

/// Changes that a report tells of; whoever missed more learns only that they are enforced.
pub(super) const RECENT: usize = 32;
/// Changes of one node that are remembered for receipts.
const REMEMBERED: usize = 256;

/// What every node last said.
#[derive(Debug)]
pub(super) struct Reports {
    nodes: Mutex<BTreeMap<NodeId, Known>>,
    changed: watch::Sender<u64>,
    /// How far the nodes are that answer reports of this one.
    pub(super) trips: Trips,
}

#[derive(Debug)]
struct Known {
    heard: Instant,
    report: Report,
    summaries: VecDeque<Summary>,
    /// Earlier starts of its process: what arrives late of them is not believed.
    over: VecDeque<u64>,
    /// The latest that another node passed on: of which start, and its number there.
    passed: Option<(u64, u64)>,
}

/// Earlier starts of a node that are remembered.
const STARTS: usize = 4;

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its last report.
    pub report: Report,
    /// How long ago that came.
    pub ago: Duration,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            nodes: Mutex::default(),
            changed: watch::Sender::new(0),
            trips: Trips::default(),
        }
    }
}

impl Reports {
    /// Takes what a node says of itself. A report that was overtaken by a newer one of the same
    /// start adds what it tells of changes and takes nothing back. The first of a new start replaces
    /// what was known: a node that was started again may be behind what it had in force before.
    pub(super) fn take(&self, node: NodeId, report: Report) {
        let mut nodes = self.nodes.lock();
        let heard = clock::instant();
        match nodes.get_mut(&node) {
            None => {
                let summaries = report.recent.iter().cloned().collect();
                let known = Known {
                    heard,
                    report,
                    summaries,
                    over: VecDeque::new(),
                    passed: None,
                };
                nodes.insert(node, known);
            }
            Some(known) if known.over.contains(&report.start) => {}
            Some(known) => {
                known.remember(&report.recent);
                known.heard = heard;
                if report.start != known.report.start {
                    known.over.push_back(known.report.start);
                    if known.over.len() > STARTS {
                        known.over.pop_front();
                    }
                    known.report = report;
                } else if report.sequence > known.report.sequence {
                    known.report = report;
                }
            }
        }
        drop(nodes);
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes what a node has signed and another passed on. That may bring forward what is in force
    /// there, until the node says so itself; whether its state is right, and that it was started again,
    /// is believed of nobody but the node at first hand. What was passed on before says nothing new:
    /// whoever keeps it can show it again.
    pub(super) fn take_passed(&self, node: NodeId, vouched: Vouched) {
        let Vouched { started, report } = vouched;
        let at = report.sequence;
        let mut nodes = self.nodes.lock();
        let heard = clock::instant();
        match nodes.get_mut(&node) {
            None => {
                let report = Report {
                    condition: Condition::InStep,
                    roots: Vec::new(),
                    write_pace_ms: None,
                    ..report
                };
                let known = Known {
                    heard,
                    summaries: report.recent.iter().cloned().collect(),
                    report,
                    over: VecDeque::new(),
                    passed: Some((started, at)),
                };
                nodes.insert(node, known);
            }
            Some(known) if known.passed.is_some_and(|latest| (started, at) <= latest) => {}
            Some(known) if known.report.start == report.start => {
                known.remember(&report.recent);
                known.heard = heard;
                known.passed = Some((started, at));
                known.report.through = known.report.through.max(report.through);
            }
            Some(_) => {}
        }
        drop(nodes);
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Forgets nodes that are no longer of the fleet.
    pub(super) fn keep(&self, members: &BTreeSet<NodeId>) {
        self.nodes.lock().retain(|node, _| members.contains(node));
        self.trips.keep(members);
    }

    /// What is known of a node.
    #[must_use]
    pub(super) fn of(&self, node: NodeId) -> Option<Heard> {
        let nodes = self.nodes.lock();
        let known = nodes.get(&node)?;
        Some(Heard {
            report: known.report.clone(),
            ago: clock::instant().saturating_duration_since(known.heard),
        })
    }

    /// What a node said of one change.
    #[must_use]
    pub(super) fn summary(&self, node: NodeId, revision: Revision) -> Option<Summary> {
        let nodes = self.nodes.lock();
        let summaries = &nodes.get(&node)?.summaries;
        summaries
            .iter()
            .find(|summary| summary.revision == revision)
            .cloned()
    }

    /// Waits until all of `nodes` enforce `revision`, or until the deadline; those that do not.
    pub(super) async fn in_force(
        &self,
        revision: Revision,
        nodes: &BTreeSet<NodeId>,
        deadline: Instant,
    ) -> BTreeSet<NodeId> {
        let mut changed = self.changed.subscribe();
        loop {
            let missing = self.missing(revision, nodes);
            if missing.is_empty() {
                return missing;
            }
            match timeout_at(deadline.into(), changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return self.missing(revision, nodes),
            }
        }
    }

    fn missing(&self, revision: Revision, nodes: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let known = self.nodes.lock();
        let lacks = |node: &&NodeId| {
            known
                .get(node)
                .is_none_or(|known| known.report.through < revision)
        };
        nodes.iter().filter(lacks).copied().collect()
    }
}

impl Known {
    fn remember(&mut self, recent: &[Summary]) {
        for summary in recent {
            if !self
                .summaries
                .iter()
                .any(|known| known.revision == summary.revision)
            {
                self.summaries.push_back(summary.clone());
            }
        }
        while self.summaries.len() > REMEMBERED {
            self.summaries.pop_front();
        }
    }
}

/// A report for tests.
#[cfg(test)]
pub(super) fn sample(through: u64) -> Report {
    tests::report(through, &[through])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_on_once_says_nothing_new_when_it_is_passed_on_again() {
        let reports = Reports::default();
        let passed = |started, sequence, through| Vouched {
            started,
            report: Report {
                start: 1,
                sequence,
                ..report(through, &[])
            },
        };
        let heard = || reports.nodes.lock()[&node(1)].heard;
        reports.take_passed(node(1), passed(2, 5, 7));
        let first = heard();
        // Again, and what was said before it: the node is as silent as it was.
        for (started, sequence) in [(2, 5), (2, 4), (1, 9)] {
            reports.take_passed(node(1), passed(started, sequence, 9));
            let known = reports.of(node(1)).unwrap().report.through;
            assert_eq!((known, heard()), (Revision::new(7), first));
        }
        reports.take_passed(node(1), passed(2, 6, 8));
        assert!(heard() > first);
        let known = reports.of(node(1)).unwrap().report.through;
        assert_eq!(known, Revision::new(8));
    }

    pub(super) fn report(through: u64, recent: &[u64]) -> Report {
        let summary = |revision: &u64| Summary {
            revision: Revision::new(*revision),
            decided_again: 3,
            closed: 1,
            unfinished: 0,
            backends_left: 0,
            slowest_ms: Some(1.5),
        };
        Report {
            start: 1,
            sequence: through,
            through: Revision::new(through),
            recent: recent.iter().map(summary).collect(),
            connections: 0,
            stale_limit: 60,
            stale: 0,
            version: String::new(),
            condition: Condition::InStep,
            roots: Vec::new(),
            write_pace_ms: None,
            at: None,
        }
    }

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[tokio::test]
    async fn a_receipt_waits_for_all_and_names_the_silent() {
        let reports = Reports::default();
        reports.take(node(1), report(7, &[7]));
        reports.take(node(2), report(6, &[6]));
        let both = BTreeSet::from([node(1), node(2)]);
        let soon = clock::instant() + Duration::from_millis(200);
        let silent = reports.in_force(Revision::new(7), &both, soon).await;
        assert_eq!(silent, [node(2)].into());
        let waiting = reports.in_force(
            Revision::new(7),
            &both,
            clock::instant() + Duration::from_secs(5),
        );
        let (silent, ()) = tokio::join!(waiting, async {
            reports.take(node(2), report(7, &[6, 7]));
        });
        assert!(silent.is_empty());
        assert!(reports.summary(node(2), Revision::new(7)).is_some());
    }

    #[test]
    fn a_report_that_was_overtaken_takes_nothing_back() {
        let reports = Reports::default();
        reports.take(node(1), report(9, &[9]));
        reports.take(node(1), report(8, &[8]));
        assert_eq!(
            reports.of(node(1)).unwrap().report.through,
            Revision::new(9)
        );
        assert!(reports.summary(node(1), Revision::new(8)).is_some());
    }

    #[test]
    fn a_node_that_was_started_again_behind_what_it_had_no_longer_counts() {
        let reports = Reports::default();
        reports.take(node(1), report(9, &[9]));
        let again = |start, sequence, through| Report {
            start,
            sequence,
            ..report(through, &[])
        };
        reports.take(node(1), again(2, 1, 5));
        let one = BTreeSet::from([node(1)]);
        assert_eq!(reports.missing(Revision::new(9), &one), one);
        assert!(reports.missing(Revision::new(5), &one).is_empty());
        // What the process before still said arrives late.
        reports.take(node(1), report(9, &[9]));
        assert_eq!(reports.missing(Revision::new(9), &one), one);
        reports.take(node(1), again(2, 3, 9));
        assert!(reports.missing(Revision::new(9), &one).is_empty());
        reports.take(node(1), again(2, 2, 6));
        assert!(reports.missing(Revision::new(9), &one).is_empty());
        for start in 3..100 {
            reports.take(node(1), again(start, 1, 9));
        }
        assert_eq!(reports.nodes.lock()[&node(1)].over.len(), STARTS);
    }

    fn written(version: u32, meant: &Report) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("testdata/mesh/report.v{version}.bin"));
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, meant.to_bytes().unwrap()).unwrap();
        }
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn a_report_is_read_as_it_was_first_written_and_a_later_one_may_say_more() {
        let first = Report {
            start: u64::MAX - 1,
            connections: 300,
            version: "0.1.0".to_owned(),
            condition: Condition::Reinstalling,
            roots: vec![Rooted {
                position: 812,
                root: [7; 32],
            }],
            write_pace_ms: Some(1_000),
            ..report(811, &[810, 811])
        };
        let meant = Report {
            at: Some(Timestamp::from_millis(1_800_000_000_123)),
            ..first.clone()
        };
        let before = written(1, &first);
        assert_eq!(Report::from_bytes(&before).unwrap(), first);
        let mut written = written(2, &meant);
        assert_eq!(Report::from_bytes(&written).unwrap(), meant);
        assert_eq!(meant.to_bytes().unwrap(), written);
        for end in 0..written.len() {
            // What was all once is whole.
            let whole = end == before.len();
            let read = Report::from_bytes(&written[..end]);
            assert_eq!(read.is_ok(), whole, "cut at {end}");
        }
        written.extend([1, 2, 3]);
        assert_eq!(Report::from_bytes(&written).unwrap(), meant);
    }

    #[test]
    fn summaries_are_bounded() {
        let reports = Reports::default();
        for revision in 1..1_000 {
            reports.take(node(1), report(revision, &[revision]));
        }
        assert!(reports.summary(node(1), Revision::new(1)).is_none());
        assert!(reports.summary(node(1), Revision::new(999)).is_some());
        assert_eq!(reports.nodes.lock()[&node(1)].summaries.len(), REMEMBERED);
    }
}

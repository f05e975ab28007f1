//! Which revision each node enforces, as the nodes say it.
//!
//! A node reports to every control node whenever it has enforced a change, and each second. A
//! receipt is made of that: it waits until every node that carries traffic has reported the
//! revision, and names those that stay silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use portcullis_policy::{NodeId, Revision};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::distance::Trips;
use super::report::{Condition, Report, Summary};
use super::vouching::Vouched;
use crate::runtime::clock::{self, Duration, Instant};

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

#[cfg(test)]
mod tests {
    use super::super::report::sample as report;
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

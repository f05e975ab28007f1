//! Where a node stands, what it knows of the others, and the receipts made of that.

use std::collections::BTreeSet;

use portcullis_consensus::Status;
use portcullis_policy::{FleetId, Node as FleetNode, NodeId, NodeName, Revision};

use super::Fleet;
use super::reports::{Heard, NodeReceipt};
use crate::runtime::clock::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How often a lease is looked for that somebody waits for.
const LOOK: Duration = Duration::from_millis(20);

/// Where this node stands, and what it knows of the others.
pub struct Standing {
    /// The fleet; none where a node is by itself.
    pub fleet: Option<FleetId>,
    /// Its epoch; 0 where there is no fleet.
    pub epoch: u64,
    /// The newer epoch that began without this node, which has no part in deciding any more.
    pub fenced: Option<u64>,
    /// Who leads, as this node knows it.
    pub leader: Option<NodeName>,
    /// For how much longer what needs a quorum may be done here; none is not at all.
    pub lease: Option<Duration>,
    /// The nodes, by id.
    pub nodes: Vec<Known>,
}

/// One node, as this one knows it.
pub struct Known {
    /// The node.
    pub node: FleetNode,
    /// Its part in consensus: `leader`, `voter`, `learner`, `none`, or of this
    /// very node `failed` or `fenced`.
    pub part: &'static str,
    /// How its state stands: `same` as that of a majority, `differs`, `reinstalling`, or `unknown`;
    /// none of one that has only the view.
    pub state: Option<&'static str>,
    /// What it last said of itself.
    pub heard: Option<Heard>,
    /// How far its clock is ahead of the median of the control nodes', in milliseconds; none where that
    /// cannot be told.
    pub clock_skew_ms: Option<i64>,
}

impl Fleet {
    /// Waits until every node enforces `revision`, or until the deadline; how each of them took it.
    pub async fn receipts(&self, revision: Revision, deadline: Instant) -> Vec<NodeReceipt> {
        let ids: BTreeSet<NodeId> = self.nodes().iter().map(|node| node.id).collect();
        self.reports.in_force(revision, &ids, deadline).await;
        self.receipts_now(revision)
    }

    /// How each node took `revision`, as far as it is known now.
    #[must_use]
    pub fn receipts_now(&self, revision: Revision) -> Vec<NodeReceipt> {
        self.nodes()
            .iter()
            .map(|node| self.receipt(node, revision))
            .collect()
    }

    fn receipt(&self, node: &FleetNode, revision: Revision) -> NodeReceipt {
        let heard = self.reports.of(node.id);
        let summary = self.reports.summary(node.id, revision);
        let report = heard.as_ref().map(|heard| &heard.report);
        NodeReceipt {
            name: node.name.to_string(),
            in_force: report.is_some_and(|report| report.through >= revision),
            revision: report.map(|report| report.through.get()),
            closed: summary.as_ref().map(|summary| summary.closed),
            unfinished: summary.as_ref().map_or(0, |summary| summary.unfinished),
            backends_left: summary.as_ref().map_or(0, |summary| summary.backends_left),
            slowest_ms: summary.and_then(|summary| summary.slowest_ms),
            heard_ms: heard
                .as_ref()
                .map(|heard| u64::try_from(heard.ago.as_millis()).unwrap_or(u64::MAX)),
            stale_limit: report
                .map(|report| report.stale_limit)
                .filter(|limit| *limit > 0),
        }
    }

    /// Whether what needs a quorum may be done here, as far as is known now.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.lease.remaining().is_some()
    }

    /// The same, waiting so long for a yes.
    pub async fn obtains_lease(&self, within: Duration) -> bool {
        let obtained = async {
            while !self.has_lease() {
                sleep(LOOK).await;
            }
        };
        timeout(within, obtained).await.is_ok()
    }

    /// Where this node stands, and what it knows of the others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let view = self.source.view();
        let status = self.source.status();
        let fleet = view.fleet();
        let nodes = self.nodes().into_iter().map(|node| Known {
            part: match &status {
                Some(_) if node.id == self.me && self.is_out() => "fenced",
                Some(_) if node.id == self.me && !self.agreement.in_step() => "none",
                Some(status) => part(status, node.id, self.me),
                None => "none",
            },
            state: (status.is_some() && fleet.is_some() && node.is_control())
                .then(|| self.state_of(node.id)),
            heard: self.reports.of(node.id),
            clock_skew_ms: self.clocks.of(node.id).map(|clock| clock.skew),
            node,
        });
        Standing {
            fleet: fleet.map(|fleet| fleet.id),
            epoch: fleet.map_or(0, |fleet| fleet.epoch),
            fenced: self.fenced(),
            leader: status
                .as_ref()
                .filter(|_| !self.is_out())
                .and_then(|status| status.leader)
                .and_then(|leader| Some(fleet?.nodes.get(&leader)?.name.clone())),
            lease: self.lease.remaining(),
            nodes: nodes.collect(),
        }
    }
}

fn part(status: &Status, node: NodeId, me: NodeId) -> &'static str {
    if node == me && status.failed.is_some() {
        "failed"
    } else if status.leader == Some(node) {
        "leader"
    } else if status.voters.contains(&node) {
        "voter"
    } else if status.learners.contains(&node) {
        "learner"
    } else {
        "none"
    }
}

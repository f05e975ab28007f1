//! Where consensus stands.

use portcullis_policy::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where consensus stands, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The last entry of this node's log.
    pub log: u64,
    /// The last entry that this node applied.
    pub applied: u64,
    /// On the leader: up to which entry each other node has the log; one that has never said so is not
    /// there.
    pub reached: BTreeMap<NodeId, u64>,
    /// On the leader: how long ago each other node acknowledged anything; a node that never did is
    /// not there.
    pub silent: BTreeMap<NodeId, Duration>,
    /// A node that acknowledged nothing for longer than this may be gone.
    pub patience: Duration,
    /// On the leader: whose log lacks what was acknowledged in its name. They count as not reached.
    pub gone_back: BTreeSet<NodeId>,
    /// Whether who votes is agreed on to the end: no change of it is under way, as far as this node
    /// has applied.
    pub settled: bool,
    /// Set once this node can take part no longer, until its state is opened again.
    pub failed: Option<String>,
}

/// Entries by which a node may be behind and still count as having caught up.
const NEARLY: u64 = 100;

impl Status {
    /// On the leader: whether a node has the log but for its last entries.
    #[must_use]
    pub fn caught_up(&self, node: NodeId) -> bool {
        self.reached
            .get(&node)
            .is_some_and(|reached| reached.saturating_add(NEARLY) >= self.log)
    }
}

//! The leader makes the set of voters what the state says it should be.
//!
//! Who belongs to the fleet is decided by commands; who votes follows from it, step by step, each
//! of which finds out anew what is to be done: a leader that dies in the middle leaves nothing to
//! repair, the next one goes on.

use std::collections::BTreeSet;

use portcullis_consensus::Status;
use portcullis_policy::{NodeId, State};

/// The next step towards the voters that the state wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Let it follow the log, without a vote yet.
    Learn(NodeId),
    /// Give it a vote: it has caught up.
    Promote(NodeId),
    /// It is no longer of the fleet.
    Drop(NodeId),
    /// This node itself is to go, so another must lead first.
    HandOver(NodeId),
}

/// What the leader `me` does next; nothing when voters and state agree, or when it must wait for
/// a learner to catch up.
pub(super) fn next(me: NodeId, state: &State, status: &Status) -> Option<Change> {
    let wanted: BTreeSet<NodeId> = state.fleet()?.control().map(|node| node.id).collect();
    let voters = &status.voters;
    let learners = &status.learners;
    // First whoever is to go, one at a time: a dead voter still counts for the quorum.
    let surplus = voters.union(learners).find(|node| !wanted.contains(node));
    if let Some(surplus) = surplus {
        if *surplus != me {
            return Some(Change::Drop(*surplus));
        }
        let heir = voters.iter().find(|node| wanted.contains(node))?;
        return Some(Change::HandOver(*heir));
    }
    if let Some(new) = wanted
        .iter()
        .find(|node| !voters.contains(node) && !learners.contains(node))
    {
        return Some(Change::Learn(*new));
    }
    learners
        .iter()
        .find(|node| status.caught_up(**node))
        .map(|node| Change::Promote(*node))
}

//! What other nodes have acknowledged to this one as their leader.
//!
//! A log only goes forward: whoever says that it has an entry has it for good, and openraft takes a node
//! that suddenly lacks one for a bug of its own, and stops. It happens all the same, when a copy of a
//! node's data runs beside the node or in its place. Such a node is answered here: as long as it lacks
//! what was acknowledged in its name it counts as one that is not reached.

use crate::types::Vote;
use portcullis_policy::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Up to which entry each node has the log, as it said itself.
#[derive(Default)]
pub(crate) struct Acknowledged(Mutex<BTreeMap<NodeId, Known>>);

struct Known {
    /// Under which leadership.
    vote: Vote,
    index: u64,
    /// Whether its log was found to lack that.
    gone_back: bool,
}

impl Acknowledged {
    /// A node has the log up to this entry.
    pub(crate) fn has(&self, node: NodeId, vote: Vote, index: u64) {
        let mut all = self.all();
        match all.get_mut(&node) {
            Some(known) if known.vote == vote => {
                if index >= known.index {
                    known.index = index;
                    known.gone_back = false;
                }
            }
            Some(_) | None => {
                let gone_back = false;
                let known = Known {
                    vote,
                    index,
                    gone_back,
                };
                all.insert(node, known);
            }
        }
    }

    /// A node does not have this entry; whether it had acknowledged it.
    pub(crate) fn lacks(&self, node: NodeId, vote: Vote, index: u64) -> bool {
        let mut all = self.all();
        let known = all.get_mut(&node).filter(|known| known.vote == vote);
        let Some(known) = known.filter(|known| index <= known.index) else {
            return false;
        };
        known.gone_back = true;
        true
    }

    /// What a node said counts no more: it is let go, and may come back with nothing.
    pub(crate) fn forget(&self, node: NodeId) {
        self.all().remove(&node);
    }

    /// Whose logs lack what was acknowledged in their names.
    pub(crate) fn gone_back(&self) -> BTreeSet<NodeId> {
        let all = self.all();
        let back = all.iter().filter(|(_, known)| known.gone_back);
        back.map(|(node, _)| *node).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_goes_back_is_noticed_until_it_is_there_again() {
        let (node, vote) = (NodeId::FIRST, Vote::new_committed(3, 1));
        let all = Acknowledged::default();
        // Where the log of a node ends is found out by what it lacks.
        assert!(!all.lacks(node, vote, 90));
        all.has(node, vote, 40);
        assert!(!all.lacks(node, vote, 60));
        all.has(node, vote, 50);
        assert!(all.gone_back().is_empty());
        assert!(all.lacks(node, vote, 50));
        assert_eq!(all.gone_back(), BTreeSet::from([node]));
        // What it had before is not what it must have.
        all.has(node, vote, 45);
        assert!(all.lacks(node, vote, 50));
        all.has(node, vote, 50);
        assert!(all.gone_back().is_empty());
    }

    #[test]
    fn another_leadership_and_a_member_that_was_let_go_begin_anew() {
        let (node, vote) = (NodeId::FIRST, Vote::new_committed(3, 1));
        let all = Acknowledged::default();
        all.has(node, vote, 50);
        let later = Vote::new_committed(4, 1);
        assert!(!all.lacks(node, later, 50));
        all.has(node, later, 20);
        assert!(!all.lacks(node, later, 50));
        assert!(all.lacks(node, later, 20));
        all.forget(node);
        assert!(!all.lacks(node, later, 20));
        assert!(all.gone_back().is_empty());
    }
}

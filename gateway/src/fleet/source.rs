//! Where this node's view comes from: its own vote, or those who vote.

use std::sync::Arc;

use portcullis_consensus::{Consensus, Status};
use portcullis_policy::{State, View};

use super::following::Following;

/// How far a view has come: its epoch and revision, of which the epoch counts first. After a recovery,
/// revisions may begin again below those of the epoch before.
pub(super) fn at(view: &View) -> (u64, u64) {
    (epoch(view), view.revision().get())
}

/// The epoch of a view; 0 without a fleet.
pub(super) fn epoch(view: &View) -> u64 {
    view.fleet().map_or(0, |fleet| fleet.epoch)
}

/// Where the view comes from.
#[derive(Clone)]
pub(super) enum Source {
    /// This node votes, or is a fleet by itself.
    Own(Arc<Consensus>),
    /// It is told.
    Told(Arc<Following>),
}

impl Source {
    /// The latest view that this node knows to be decided.
    pub(super) fn view(&self) -> Arc<View> {
        match self {
            Self::Own(consensus) => consensus.view(),
            Self::Told(following) => following.view(),
        }
    }

    /// The whole state, where this node has it.
    pub(super) fn state(&self) -> Option<Arc<State>> {
        self.consensus().map(|consensus| consensus.state())
    }

    /// Where consensus stands, where this node takes part in it.
    pub(super) fn status(&self) -> Option<Status> {
        self.consensus().map(|consensus| consensus.status())
    }

    pub(super) fn consensus(&self) -> Option<&Arc<Consensus>> {
        match self {
            Self::Own(consensus) => Some(consensus),
            Self::Told(_) => None,
        }
    }

    pub(super) fn following(&self) -> Option<&Arc<Following>> {
        match self {
            Self::Own(_) => None,
            Self::Told(following) => Some(following),
        }
    }
}

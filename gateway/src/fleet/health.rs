//! Whether this node can go on, and what it holds.

use std::sync::Arc;

use portcullis_policy::State;

use super::Fleet;

impl Fleet {
    /// Waits until this node's state can be kept no longer, and says why: the process must end.
    pub async fn failed(&self) -> String {
        match self.source.consensus() {
            Some(consensus) => consensus.failed().await,
            None => std::future::pending().await,
        }
    }

    /// The whole state; none on a node that holds the view alone.
    #[must_use]
    pub fn state(&self) -> Option<Arc<State>> {
        self.source.state()
    }
}

//! Letting go of the log of consensus before it has become long.

use crate::consensus::Consensus;
use openraft::async_runtime::WatchReceiver;
use std::time::Duration;

/// How long a snapshot may take to be made.
const SNAPSHOT_MADE: Duration = Duration::from_secs(60);

impl Consensus {
    /// Makes a snapshot and lets go of the log behind it: what commands said is here then nowhere but in the state that they left. A node that
    /// is behind is given the snapshot. What fails is for the next time.
    pub async fn compact(&self) {
        let raft = self.raft();
        let applied = raft.metrics().borrow_watched().last_applied;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let wait = raft.wait(Some(SNAPSHOT_MADE));
        let made = wait
            .metrics(|it| it.snapshot >= applied, "a snapshot")
            .await;
        match made.map(|it| it.snapshot) {
            Ok(Some(snapshot)) => drop(raft.trigger().purge_log(snapshot.index).await),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the log of consensus was not let go of; it is tried again")
            }
        }
    }
}

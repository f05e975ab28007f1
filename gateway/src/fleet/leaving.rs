//! Nodes that leave the fleet for good: they are removed, serve nobody from then on, and vote a last
//! time where that takes their vote.

use portcullis_policy::{Author, Command, NodeId, NodeName};
use tokio::time::{sleep, timeout};

use super::{Fleet, WriteError, Written, words};
use crate::mesh::MeshError;
use crate::runtime::clock::Duration;

/// How long a node that was removed stays there to vote.
const LAST_VOTE: Duration = Duration::from_secs(30);
/// How often it looks whether it still may.
const LAST_VOTE_LOOK: Duration = Duration::from_millis(250);

impl Fleet {
    /// Takes a node out of the fleet for good.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn remove(
        &self,
        author: Author,
        name: &NodeName,
    ) -> Result<(NodeId, Written), WriteError> {
        let state = self.source.state().ok_or(WriteError::NotControl)?;
        let fleet = state.fleet().ok_or(WriteError::NotControl)?;
        let node = fleet.named(name).ok_or_else(|| WriteError::Rejected {
            code: "no_such_node".to_owned(),
            message: format!("no node of this fleet is called {name}"),
            status: 404,
        })?;
        let command = Command::Remove { node: node.id };
        let written = self.write(None, author, command).await?;
        Ok((node.id, written))
    }

    /// Ends when this node is of its fleet no longer: it must not serve another day.
    pub async fn until_removed(&self) {
        self.removed.cancelled().await;
    }

    /// Of a node that was removed and serves nobody any more: waits until the others have let it
    /// go, or until nobody can wait for its vote any longer.
    pub async fn last_vote(&self) {
        let let_go = async {
            while self.may_vote().await {
                sleep(LAST_VOTE_LOOK).await;
            }
        };
        if timeout(LAST_VOTE, let_go).await.is_err() {
            tracing::warn!("nobody has let this node go, which was removed: it ends all the same");
        }
    }

    async fn may_vote(&self) -> bool {
        let status = self.source.status();
        let Some(status) = status.filter(|status| status.voters.contains(&self.me)) else {
            return false;
        };
        // Whoever is let go may be told nothing more, also not that.
        let (Some(mesh), Some(other)) = (
            &self.mesh,
            status.voters.iter().find(|voter| **voter != self.me),
        ) else {
            return false;
        };
        let asked = mesh.call(other.get(), words::CONFIRM, Vec::new(), LAST_VOTE_LOOK);
        !matches!(asked.await, Err(MeshError::Denied(_)))
    }
}

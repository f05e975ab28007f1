//! A node is taken out of the fleet, or lets another lead.

use portcullis_policy::{Author, Command, NodeId, NodeName};

use super::{Fleet, WriteError, Written};

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

    /// Lets another control node lead, where this one does.
    ///
    /// # Errors
    /// In words: it does not lead, or nobody else can.
    pub async fn step_down(&self) -> Result<(), String> {
        let consensus = self.source.consensus().ok_or("this node does not vote")?;
        let status = consensus.status();
        if status.leader != Some(self.me) {
            return Err(
                "this node does not lead; `portcullis fleet status` says who does".to_owned(),
            );
        }
        let heir = status
            .voters
            .iter()
            .find(|voter| **voter != self.me && status.caught_up(**voter))
            .ok_or("no other control node has caught up")?;
        consensus
            .step_down(*heir)
            .await
            .map_err(|error| error.to_string())
    }
}

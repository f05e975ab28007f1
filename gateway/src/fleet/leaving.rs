//! Nodes that leave: one that leads lets another lead; one that is removed for good serves nobody from
//! then on, and votes a last time where that takes its vote.

use std::sync::Arc;

use portcullis_policy::{Author, Command, Node as FleetNode, NodeId, NodeName};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Fleet, WriteError, Written, voters, words};
use crate::mesh::{Closing, MeshError};
use crate::runtime::clock::Duration;

/// How long a node that was removed stays there to vote.
const LAST_VOTE: Duration = Duration::from_secs(30);
/// How often it looks whether it still may.
const LAST_VOTE_LOOK: Duration = Duration::from_millis(250);

/// A control node that reported no longer ago than this is there.
const THERE: Duration = Duration::from_secs(5);

/// How often a node that nobody lends a lease asks whether it is of the fleet at all.
const REFUSED_LOOK: Duration = Duration::from_secs(3);
/// How long one node may take to answer that.
const REFUSED_LIMIT: Duration = Duration::from_secs(2);
/// How often in a row a majority must refuse it: a node that has just joined is not known to all yet.
const REFUSALS: u32 = 3;

/// Ends this node's part where a majority of the others refuses it as one that is not of the fleet: it
/// was removed while it was away, and its own state will never say so.
pub(super) async fn watch(fleet: Arc<Fleet>) {
    let mut refusals = 0;
    let mut ticks = interval(REFUSED_LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let refused = match fleet.lease.remaining() {
            Some(_) => Some(false),
            None => fleet.stop.run_until_cancelled(fleet.is_refused()).await,
        };
        match refused {
            Some(true) => {}
            Some(false) => {
                refusals = 0;
                continue;
            }
            None => return,
        }
        refusals += 1;
        if refusals == REFUSALS {
            tracing::error!(
                "a majority of the control nodes says that this node is not of the fleet: it was removed while it was away"
            );
            fleet.removed.cancel();
            return;
        }
    }
}

impl Fleet {
    /// Whether more than half of the other control nodes have nothing to do with this one.
    async fn is_refused(&self) -> bool {
        let Some(mesh) = &self.mesh else {
            return false;
        };
        let others = self.other_control_nodes();
        let mut refused = 0;
        for other in &others {
            let asked = mesh.call(other.get(), words::CONFIRM, Vec::new(), REFUSED_LIMIT);
            if matches!(asked.await, Err(MeshError::Denied(Closing::NotAMember))) {
                refused += 1;
            }
        }
        refused * 2 > others.len()
    }

    /// Takes a node out of the fleet for good.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn remove(
        &self,
        author: Author,
        name: &NodeName,
    ) -> Result<(NodeId, Written), WriteError> {
        let state = self.known_state().await?;
        let fleet = state.fleet().ok_or(WriteError::NotControl)?;
        let node = fleet.named(name).ok_or_else(|| WriteError::Rejected {
            code: "no_such_node".to_owned(),
            message: format!("no node of this fleet is called {name}"),
            status: 404,
        })?;
        self.may_spare(node)?;
        let command = Command::Remove { node: node.id };
        let written = self.write(None, author, command).await?;
        Ok((node.id, written))
    }

    /// Refuses to take out a control node that is there, where those that stay would be no majority with
    /// whoever is there: nothing could be decided any more, its removal neither.
    fn may_spare(&self, node: &FleetNode) -> Result<(), WriteError> {
        let is_there = |id: NodeId| {
            let heard = self.reports.of(id);
            id == self.me || heard.is_some_and(|heard| heard.ago <= THERE)
        };
        if !node.is_control() || !is_there(node.id) {
            return Ok(());
        }
        let all = self.nodes();
        let stay = all
            .iter()
            .filter(|one| one.is_control() && one.id != node.id);
        let there = stay.clone().filter(|one| is_there(one.id)).count();
        let stay = stay.count();
        if stay == 0 || there * 2 > stay {
            return Ok(());
        }
        Err(WriteError::Rejected {
            code: "quorum_needs_it".to_owned(),
            message: format!(
                "without {}, only {there} of {stay} control nodes are heard from here, which is no quorum: bring one back, or remove one that is gone first",
                node.name
            ),
            status: 409,
        })
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
        let mut failed = self.differing();
        failed.extend(self.clocks.wrong());
        // Each of the others once.
        for _ in 1..status.voters.len() {
            let status = consensus.status();
            let heir = voters::heir(self.me, status.voters.iter(), &status, &failed);
            let Some(heir) = heir.filter(|heir| !failed.contains(heir)) else {
                break;
            };
            tracing::info!(%heir, "another control node is asked to lead");
            match consensus.step_down(heir).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%heir, %error, "it does not lead; another is asked"),
            }
            failed.insert(heir);
        }
        Err("no other control node that has caught up could lead".to_owned())
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

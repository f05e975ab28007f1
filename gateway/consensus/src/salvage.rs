//! What a node holds, read without the others.

use crate::OpenError;
use crate::logs::{AuditLog, Leaf, Logs};
use crate::payload;
use crate::settings::FILE;
use crate::tables::{self, Beginning, corrupt};
use crate::whole::Whole;
use openraft::EntryPayload;
use portcullis_audit::personal::Salt;
use portcullis_audit::tlog::Tree;
use portcullis_policy::{Applied, NodeId, Proposal, Rejection, State};
use std::collections::BTreeSet;
use std::path::Path;

/// All that a node holds.
#[derive(Debug)]
pub struct Salvaged {
    whole: Whole,
    last: u64,
    /// The audit logs' trees as the snapshot has them.
    pub begun: Vec<(AuditLog, Tree)>,
    /// What the entries after that left in them: whoever keeps the leaves may not have them yet.
    pub leaves: Vec<Leaf>,
    /// Who votes, as this node last knew it.
    pub voters: BTreeSet<NodeId>,
}

impl Salvaged {
    /// The state after the last entry of its log.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.whole.state
    }

    /// The audit logs then.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.whole.logs
    }

    /// Executes one more command, that no log has. `salt` is for what it leaves in the audit logs.
    ///
    /// # Errors
    /// The [`Rejection`]
    pub fn apply(
        &mut self,
        proposal: &Proposal,
        salt: Option<&Salt>,
    ) -> Result<Applied, Rejection> {
        self.last = self.last.saturating_add(1);
        let outcome = self.whole.apply(proposal, salt, self.last);
        self.leaves.extend(outcome.leaves);
        outcome.answer
    }
}

/// Reads what a stopped node holds, to the last entry of its log: whatever a majority acknowledged
/// and this node has is in it, and it never goes back behind what the node showed. An entry that
/// no majority had may be in it too.
///
/// # Errors
/// [`OpenError`]
pub fn salvage(data: &Path, node: NodeId) -> Result<Salvaged, OpenError> {
    let path = data.join(FILE);
    let loaded = tables::open(&path, node, Beginning::Never)?;
    let meta = loaded.snapshot.map(|(meta, _)| meta).unwrap_or_default();
    let mut voters: BTreeSet<u64> = meta.last_membership.voter_ids().collect();
    let covered = meta.last_log_id.map(|last| last.index);
    let mut salvaged = Salvaged {
        begun: loaded.whole.logs.trees(),
        whole: loaded.whole,
        last: covered.unwrap_or_default(),
        leaves: Vec::new(),
        voters: BTreeSet::new(),
    };
    for (index, (entry, _)) in loaded.entries {
        if Some(index) <= covered {
            continue;
        }
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => voters = membership.voter_ids().collect(),
            EntryPayload::Normal(payload) => {
                let (salt, proposal) = payload::decode(&payload.0)
                    .map_err(|error| corrupt(&path, format!("entry {index}: {error}")))?;
                salvaged.last = index.saturating_sub(1);
                // A refusal changes nothing, here as on every node.
                drop(salvaged.apply(&proposal, salt.as_ref()));
            }
        }
    }
    salvaged.voters = voters.into_iter().filter_map(NodeId::new).collect();
    Ok(salvaged)
}

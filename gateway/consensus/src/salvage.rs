//! What a node holds, read without the others.

use crate::OpenError;
use crate::settings::FILE;
use crate::tables::{self, Beginning, corrupt};
use openraft::EntryPayload;
use portcullis_policy::{NodeId, State, decode_proposal};
use std::collections::BTreeSet;
use std::path::Path;

/// All that a node holds.
#[derive(Debug)]
pub struct Salvaged {
    /// The state after the last entry of its log.
    pub state: State,
    /// Who votes, as this node last knew it.
    pub voters: BTreeSet<NodeId>,
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
    let mut state = loaded.state;
    let mut voters: BTreeSet<u64> = meta.last_membership.voter_ids().collect();
    let covered = meta.last_log_id.map(|last| last.index);
    for (index, (entry, _)) in loaded.entries {
        if Some(index) <= covered {
            continue;
        }
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => voters = membership.voter_ids().collect(),
            EntryPayload::Normal(payload) => {
                let proposal = decode_proposal(&payload.0)
                    .map_err(|error| corrupt(&path, format!("entry {index}: {error}")))?;
                // A refusal changes nothing, here as on every node.
                drop(state.apply(&proposal));
            }
        }
    }
    let voters = voters.into_iter().filter_map(NodeId::new).collect();
    Ok(Salvaged { state, voters })
}

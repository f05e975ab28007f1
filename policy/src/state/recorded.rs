//! Up to where each node's events are in the audit logs, so that none gets there twice.

use super::applied::{Applied, Told};
use super::apply::{Done, State};
use super::command::Command;
use super::fleet::Fleet;
use super::proposal::{Principal, Proposal};
use super::rejection::Rejection;
use super::root::HashedMap;
use crate::fleet_id::{Digest, NodeId};
use crate::limits::{MAX_RECORD_BYTES, MAX_RECORDED, MAX_RECORDED_EVENT};

/// For each node that recorded something: the sequence of its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded(HashedMap<NodeId, u64>);

impl Recorded {
    pub(super) fn new() -> Self {
        Self(HashedMap::new())
    }

    /// The sequence of a node's last record; 0 before the first.
    pub(super) fn through(&self, node: NodeId) -> u64 {
        self.0.get(&node).copied().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// None while nobody recorded anything: as it was before there were records.
    pub(super) fn root(&self) -> Option<Digest> {
        (self.0.len() > 0).then(|| self.0.root())
    }

    pub(super) fn snapshot(&self) -> Vec<(NodeId, u64)> {
        let each = self.0.iter();
        each.map(|(node, sequence)| (*node, *sequence)).collect()
    }

    pub(super) fn restore(
        recorded: Vec<(NodeId, u64)>,
        fleet: Option<&Fleet>,
    ) -> Result<Self, Rejection> {
        let mut kept = Self::new();
        for (node, sequence) in recorded {
            let known = fleet.map_or(node == NodeId::FIRST, |it| it.nodes.contains_key(&node));
            if !known || sequence == 0 || kept.through(node) != 0 {
                return Err(Rejection::Snapshot("its records are of nobody"));
            }
            kept.0.insert(node, sequence);
        }
        Ok(kept)
    }
}

impl State {
    /// The sequence of a node's last [`Command::Record`]; 0 before its first.
    #[must_use]
    pub fn recorded(&self, node: NodeId) -> u64 {
        self.recorded.through(node)
    }

    /// What a record is told that was executed before.
    pub(super) fn recorded_before(&self, proposal: &Proposal) -> Option<Applied> {
        let (Command::Record { sequence, .. }, Principal::Node(node)) =
            (&proposal.command, &proposal.author.principal)
        else {
            return None;
        };
        let through = self.recorded.through(*node);
        (*sequence <= through).then(|| Applied {
            revision: self.view.revision,
            at: self.at,
            tenants: Vec::new(),
            changes: Vec::new(),
            repeated: true,
            fleet_changed: false,
            told: Told::Recorded(through),
        })
    }

    pub(super) fn record(
        &mut self,
        author: &Principal,
        sequence: u64,
        events: &[Vec<u8>],
    ) -> Result<Done, Rejection> {
        let Principal::Node(node) = author else {
            return Err(Rejection::NotPermitted(author.clone()));
        };
        if !may_be_recorded(events) {
            return Err(Rejection::RecordSize);
        }
        let through = self.recorded.through(*node);
        if through.checked_add(1) != Some(sequence) {
            return Err(Rejection::RecordGap { sequence, through });
        }
        self.recorded.0.insert(*node, sequence);
        Ok(Done {
            told: Told::Recorded(sequence),
            ..Done::quietly(false)
        })
    }
}

/// Whether these are events that are neither none, too many nor too large.
fn may_be_recorded(events: &[Vec<u8>]) -> bool {
    let mut bytes = 0_usize;
    let each = events.iter().all(|event| {
        bytes = bytes.saturating_add(event.len());
        !event.is_empty() && event.len() <= MAX_RECORDED_EVENT
    });
    each && !events.is_empty() && events.len() <= MAX_RECORDED && bytes <= MAX_RECORD_BYTES
}

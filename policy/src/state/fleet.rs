//! The nodes of the fleet: who is one, who votes, and what all of them understand.

use super::authorities::Authorities;
use super::rejection::Rejection;
use super::root::hash_of;
use crate::document::{DocumentPath, line};
use crate::fleet_id::{Digest, FleetId, KeyHash, NodeId};
use crate::id::{NodeName, Revision};
use crate::limits::{MAX_NODE_ADDRESS, MAX_NODES, MAX_REMOVED_NODES};
use crate::text::unique;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// It votes, and holds the whole state.
    Control,
    /// It carries customers' traffic.
    Gateway,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Gateway => "gateway",
        })
    }
}

impl FromStr for NodeRole {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        match text {
            "control" => Ok(Self::Control),
            "gateway" => Ok(Self::Gateway),
            _ => Err(NoSuchRole),
        }
    }
}

/// A word that is no role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchRole;

impl fmt::Display for NoSuchRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node's role is `control` or `gateway`")
    }
}

impl std::error::Error for NoSuchRole {}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Node {
    /// Its id, never used for another.
    pub id: NodeId,
    /// Its name, of no other node of the fleet.
    pub name: NodeName,
    /// What it does.
    #[serde(deserialize_with = "unique::set")]
    pub roles: BTreeSet<NodeRole>,
    /// Its key.
    pub key: KeyHash,
    /// The key by which it signs views.
    pub view_key: Option<[u8; 32]>,
    /// Where other nodes reach it.
    pub address: Option<String>,
    /// The highest level of commands that it understands, as it last said.
    pub level: u32,
    /// The revision at which it was admitted.
    pub admitted: Revision,
}

impl Node {
    /// Whether it votes.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.roles.contains(&NodeRole::Control)
    }

    fn check(&self) -> Result<(), Rejection> {
        if self.roles.is_empty() {
            return Err(Rejection::NodeLacks("a role"));
        }
        check_address(self.address.as_deref())?;
        if self.is_control() && self.view_key.is_none() {
            return Err(Rejection::NodeLacks("a key for signing views"));
        }
        match self.is_control() && self.address.is_none() {
            true => Err(Rejection::NodeLacks("an address")),
            false => Ok(()),
        }
    }
}

/// The level of a node that has not said any yet: that of the first version that could join a fleet.
pub(super) const FIRST_LEVEL: u32 = 1;

/// The fleet as gateways know it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    /// Its id.
    pub id: FleetId,
    /// How often it began anew after a majority was lost; from 1.
    pub epoch: u64,
    /// The key that can declare a new epoch.
    pub recovery_key: [u8; 32],
    /// Its nodes.
    #[serde(deserialize_with = "unique::map")]
    pub nodes: BTreeMap<NodeId, Node>,
    /// Its authorities. Written apart: earlier versions know of none.
    #[serde(skip)]
    pub authorities: Authorities,
}

impl Fleet {
    /// The nodes that vote.
    pub fn control(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.is_control())
    }

    /// A node by its name.
    #[must_use]
    pub fn named(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == *name)
    }

    /// The nodes that do not understand commands of this level.
    #[must_use]
    pub fn lacking(&self, level: u32) -> Vec<NodeName> {
        let lacking = self.nodes.values().filter(|node| node.level < level);
        lacking.map(|node| node.name.clone()).collect()
    }

    pub(super) fn digest(&self) -> Digest {
        // As it was before there were any, where there are none.
        match self.authorities.is_empty() {
            true => hash_of(b"fleet", self),
            false => hash_of(b"fleet and authorities", &(self, &self.authorities)),
        }
    }

    /// Whether its parts fit together: whoever says so is not believed more than a command.
    pub(super) fn check(&self) -> Result<(), Rejection> {
        if self.nodes.len() > MAX_NODES {
            return Err(too_many("nodes", MAX_NODES));
        }
        let mut names = BTreeSet::new();
        for (id, node) in &self.nodes {
            node.check()?;
            if node.id != *id {
                return Err(Rejection::Snapshot("a node stands under another's id"));
            }
            if !names.insert(&node.name) {
                return Err(Rejection::NodeNameTaken(node.name.clone()));
            }
        }
        self.check_authorities()?;
        match self.control().next() {
            Some(_) => Ok(()),
            None => Err(Rejection::NodeLacks("the role control")),
        }
    }

    /// A new fleet with its first node.
    pub(super) fn found(
        id: FleetId,
        recovery_key: [u8; 32],
        first: Node,
    ) -> Result<Self, Rejection> {
        let fleet = Self {
            id,
            epoch: 1,
            recovery_key,
            nodes: BTreeMap::from([(first.id, first)]),
            authorities: Authorities::new(),
        };
        fleet.check()?;
        Ok(fleet)
    }

    pub(super) fn admit(&mut self, node: Node) -> Result<(), Rejection> {
        node.check()?;
        self.check_name(&node.name)?;
        if self.nodes.len() >= MAX_NODES {
            return Err(too_many("nodes", MAX_NODES));
        }
        self.nodes.insert(node.id, node);
        Ok(())
    }

    pub(super) fn check_name(&self, name: &NodeName) -> Result<(), Rejection> {
        match self.named(name) {
            Some(_) => Err(Rejection::NodeNameTaken(name.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Result<(), Rejection> {
        let Some(node) = self.nodes.get(&id) else {
            return Err(Rejection::NoSuchNode(id));
        };
        if node.is_control() && self.control().count() == 1 {
            return Err(Rejection::LastControlNode(node.name.clone()));
        }
        self.nodes.remove(&id);
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        id: NodeId,
        level: u32,
        address: Option<&String>,
    ) -> Result<(), Rejection> {
        let node = self.nodes.get_mut(&id).ok_or(Rejection::NoSuchNode(id))?;
        node.level = level;
        node.address = address.cloned();
        node.check()
    }

    /// One control node goes on alone, in a new epoch. Answers who is no longer of the fleet.
    pub(super) fn recover(
        &mut self,
        epoch: u64,
        survivor: NodeId,
    ) -> Result<Vec<NodeId>, Rejection> {
        if self.epoch.checked_add(1) != Some(epoch) {
            let current = self.epoch;
            return Err(Rejection::Epoch { epoch, current });
        }
        match self.nodes.get(&survivor) {
            None => return Err(Rejection::NoSuchNode(survivor)),
            Some(node) if !node.is_control() => {
                return Err(Rejection::NotControl(node.name.clone()));
            }
            Some(_) => {}
        }
        let others = self.control().map(|node| node.id);
        let lost: Vec<NodeId> = others.filter(|id| *id != survivor).collect();
        for id in &lost {
            self.nodes.remove(id);
        }
        self.epoch = epoch;
        Ok(lost)
    }
}

/// The ids that are used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UsedIds {
    /// The highest that any node ever had; 0 before the first.
    highest: u64,
    /// Those of removed nodes; the oldest are forgotten.
    #[serde(deserialize_with = "unique::set")]
    removed: BTreeSet<NodeId>,
}

impl UsedIds {
    pub(super) fn none() -> Self {
        Self {
            highest: 0,
            removed: BTreeSet::new(),
        }
    }

    /// The id of the node that is admitted at this revision.
    pub(super) fn take(&mut self, revision: Revision) -> NodeId {
        let after_highest = NodeId::new(self.highest).map_or(NodeId::FIRST, NodeId::next);
        let id = NodeId::new(revision.get()).map_or(after_highest, |id| id.max(after_highest));
        self.highest = id.get();
        id
    }

    pub(super) fn first(&mut self) -> NodeId {
        self.highest = NodeId::FIRST.get();
        NodeId::FIRST
    }

    pub(super) fn was_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.removed.insert(id);
        while self.removed.len() > MAX_REMOVED_NODES {
            self.removed.pop_first();
        }
    }

    pub(super) fn check(&self, fleet: Option<&Fleet>) -> Result<(), Rejection> {
        let living = fleet.and_then(|fleet| fleet.nodes.keys().next_back());
        let used = living.into_iter().chain(&self.removed);
        let reused =
            fleet.is_some_and(|fleet| self.removed.iter().any(|id| fleet.nodes.contains_key(id)));
        match reused || used.into_iter().any(|id| id.get() > self.highest) {
            true => Err(Rejection::Snapshot("a node's id could be used again")),
            false => Ok(()),
        }
    }
}

pub(super) const fn too_many(what: &'static str, maximum: usize) -> Rejection {
    Rejection::TooMany { what, maximum }
}

/// `host:port`, `[address]:port`; whether it leads anywhere shows when it is dialled.
fn check_address(address: Option<&str>) -> Result<(), Rejection> {
    let Some(address) = address else {
        return Ok(());
    };
    let port = |(host, port): (&str, &str)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let plain = line(DocumentPath::root(), "the address", address).is_ok()
        && !address.contains(char::is_whitespace);
    match plain && address.len() <= MAX_NODE_ADDRESS && address.rsplit_once(':').is_some_and(port) {
        true => Ok(()),
        false => Err(Rejection::NodeAddress),
    }
}

//! openraft's types, chosen once.
//!
//! One leader a term (`leader_id_std`): the classic rule, and the shape of what is on disk.

use openraft::impls::EmptyNode;
use openraft::impls::leader_id_std::LeaderId;
use portcullis_policy::{Applied, Rejection};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

openraft::declare_raft_types!(
    /// See the module.
    pub(crate) Types:
        D = Payload,
        R = Answer,
        NodeId = u64,
        Node = EmptyNode,
        LeaderId = LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, crate::image::Image>;

/// A proposal as it stands in the log: bytes of `portcullis_policy::encode_proposal`. They are
/// understood when they are applied, on every node alike.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying an entry led to, for whoever proposed it on this very node: it is never sent, and
/// of another node's it is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer(pub(crate) Option<Result<Arc<Applied>, Rejection>>);

impl Serialize for Answer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self(None))
    }
}

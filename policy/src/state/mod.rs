//! The state that every node agrees on, and the only way to change it.
//!
//! A [`Proposal`] carries a [`Command`] into the state; [`State::apply`] executes it whole or refuses it whole with a
//! [`Rejection`]. The same proposals in the same order give the same state on every node: maps are ordered and time comes
//! with the proposal. A [`View`] is what gateways hold: a cheap, immutable picture of the state at one revision.
//!
//! Rooms: `documents` (tenants), `fleet`, `invitations` and `membership` (nodes), `operators` and `guard` and `pending`
//! (people), `revoking` (certificates), `requests`, `recorded` and `staged` (how commands arrive), `questions` (what is read), `root` (hashes), `codec` and `snapshot`
//! (bytes).
//!
//! Absent: storage and transport. A [`Snapshot`] is plain data for whoever writes it down. Signatures: whoever proposes a
//! signed statement has verified it.

mod applied;
mod apply;
mod authorities;
mod change;
mod codec;
mod command;
mod documents;
mod fleet;
mod guard;
mod invitations;
mod keeping;
mod membership;
mod operators;
mod pending;
mod proposal;
mod questions;
mod recorded;
mod rejection;
mod requests;
mod revoking;
mod root;
mod snapshot;
mod staged;
mod tenant_at;
mod view;

pub use applied::{Applied, Told};
pub use apply::{Rehearsed, State};
pub use authorities::{
    Authorities, Authority, AuthorityPhase, AuthorityPurpose, AuthorityStep, PreviousAuthority,
    Successor,
};
pub use change::{Affected, Change, ChangeKind};
pub use codec::{
    CodecError, decode_command, decode_proposal, decode_snapshot, encode_command, encode_proposal,
    encode_snapshot,
};
pub use command::{AUDIT_LEVEL, AUTHORITY_LEVEL, Command, FEATURE_LEVEL};
pub use documents::ViewUpdate;
pub use fleet::{Fleet, NoSuchRole, Node, NodeRole, UsedIds};
pub use guard::{GuardRails, People};
pub use invitations::Invitation;
pub use keeping::{Hold, Keeping};
pub use pending::Pending;
pub use proposal::{Author, Principal, Proposal};
pub use rejection::Rejection;
pub use requests::Remembered;
pub use snapshot::Snapshot;
pub use staged::StagedPieces;
pub use tenant_at::TenantAt;
pub use view::{EndpointView, TenantView, View};

pub(crate) use change::{difference, open_doors};

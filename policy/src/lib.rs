//! The law: who may reach which database endpoint, and why not.
//!
//! This crate decides and remembers; it never acts. [`decide()`] is the one place where a connection is permitted or
//! denied, [`State::apply`] the one place where policy changes, and both are plain functions of their arguments: the same
//! inputs give the same answer on every node, in a test and a year later. Everything else here is in their service: the
//! documents that people write ([`Tenant`]), exact sets of addresses ([`AddressSet`]), what changed for whom
//! ([`Change`]), who can reach an endpoint ([`reach()`]) and what a reviewer should look at ([`warnings`]).
//!
//! Deliberately absent: I/O, clocks, randomness, threads and `async` (time is an argument, and `Cargo.toml` offers
//! nothing that could break the rule); unordered maps (their order would differ between nodes); parsing of policy files
//! (YAML and its line numbers belong to the gateway's `config`; a problem found here says *where in the document* by a
//! [`DocumentPath`]); authentication (it is only described here, and happens in the gateway); a `Default` for anything
//! that could let somebody in.
//!
//! Public: everything is re-exported flat from this page. Ids and names are parsed once, at the border, and do not turn
//! back into strings by accident. A [`Permit`] has no public constructor.

mod access;
mod decide;
mod denial;
mod document;
mod fleet_id;
mod id;
pub mod limits;
mod narrate;
mod network;
mod origin;
mod reach;
mod reference;
mod review;
mod revocations;
mod server_name;
mod state;
mod tenant;
mod tenant_limits;
mod text;
mod time;

pub use access::{Action, Role, may, only_allow_lists_differ};
pub use decide::{
    Attempt, Decision, EntryRef, Explanation, Footing, Permit, Purpose, decide, explain,
};
pub use denial::{CLIENT_HINT, Denial, DenialCode};
pub use document::{DocumentError, DocumentPath, DocumentProblem, PathSegment};
pub use fleet_id::{Digest, FleetId, HexError, KeyHash, NodeId, PendingId, RequestId};
pub use id::{
    ClusterId, EndpointId, HoldId, NameError, NameProblem, NetworkId, NodeName, OperatorId,
    Revision, TenantId,
};
pub use narrate::{Check, Fact, Line, Narrator, Outcome, Silent, Story};
pub use network::{Address, AddressError, AddressSet, Count, Family, Prefix, PrefixError};
pub use origin::{AwsEndpointId, Cloud, Origin, PrivateLinkId};
pub use reach::{Reach, ReachDifference, difference, reach};
pub use reference::{Reference, ReferenceError};
pub use review::{Caution, UnusedBecause, Warning, warnings};
pub use revocations::{Revocation, Revocations, Serial, SerialError};
pub use server_name::ServerName;
pub use state::{
    AUDIT_LEVEL, AUTHORITY_LEVEL, Affected, Applied, Author, Authorities, Authority,
    AuthorityPhase, AuthorityPurpose, AuthorityStep, Change, ChangeKind, CodecError, Command,
    EndpointView, FEATURE_LEVEL, Fleet, GuardRails, Hold, Invitation, Keeping, NoSuchRole, Node,
    NodeRole, Pending, People, PreviousAuthority, Principal, Proposal, Rehearsed, Rejection,
    Remembered, Snapshot, StagedPieces, State, Successor, TenantAt, TenantView, Told, UsedIds,
    View, ViewUpdate, decode_command, decode_proposal, decode_snapshot, encode_command,
    encode_proposal, encode_snapshot,
};
pub use tenant::{
    Addresses, Authentication, Backend, CertificateRule, Cluster, Endpoint, Engine, Entry,
    Replication, Service, Tenant, TokenKeys, TokenRule, UpstreamTls, Via,
};
pub use tenant_limits::{OnStale, TenantLimits};
pub use time::{Timestamp, TimestampError};

//! Proposed writes.

use super::authorities::{AuthorityPurpose, AuthorityStep};
use super::fleet::NodeRole;
use super::guard::GuardRails;
use super::keeping::Keeping;
use crate::access::Role;
use crate::fleet_id::{Digest, FleetId, KeyHash, NodeId, PendingId, RequestId};
use crate::id::{NodeName, OperatorId, Revision, TenantId};
use crate::revocations::Serial;
use crate::tenant::Tenant;
use crate::tenant_limits::OnStale;
use crate::text::unique;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A proposed write. Executed whole or not at all. The log is made of these: variants and fields are only ever added at the
/// end, and what was written once is read for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Command {
    /// Put these documents in the place of what their tenants had, and remove those tenants. Tenants that are not named
    /// stay as they are.
    Apply {
        /// The revision that the author looked at; refused when any tenant changed since. `None`: whatever it is.
        base: Option<Revision>,
        /// When each of these tenants last changed as far as the author knows (`None`: it was not there); refused when
        /// one has changed since. Tenants that are not named here are not asked about.
        #[serde(deserialize_with = "unique::map")]
        expected: BTreeMap<TenantId, Option<Revision>>,
        /// Whole documents, one for a tenant.
        put: Vec<Tenant>,
        /// Tenants to remove with all that they own.
        remove: Vec<TenantId>,
    },
    /// Make a fleet of one node.
    #[serde(rename_all = "kebab-case")]
    Found {
        /// The fleet's id.
        fleet: FleetId,
        /// The first node's name.
        name: NodeName,
        /// The first node's roles: `control` is among them.
        #[serde(deserialize_with = "unique::set")]
        roles: BTreeSet<NodeRole>,
        /// The first node's key.
        key: KeyHash,
        /// The key by which it signs views.
        view_key: [u8; 32],
        /// Where other nodes reach it.
        address: String,
        /// The key that can declare a new epoch.
        recovery_key: [u8; 32],
        /// What needs a second person.
        guard_rails: GuardRails,
    },
    /// Let one node join who has this token.
    Invite {
        /// The hash of the token's secret.
        token: KeyHash,
        /// The name that the node will have.
        name: NodeName,
        /// The roles that it will have.
        #[serde(deserialize_with = "unique::set")]
        roles: BTreeSet<NodeRole>,
        /// From this moment on the token no longer holds.
        expires: Timestamp,
    },
    /// Take back a token that nobody has used.
    Withdraw {
        /// The hash of the token's secret.
        token: KeyHash,
    },
    /// A node that has shown a token joins. Repeated with the same token and key, it is the same node.
    #[serde(rename_all = "kebab-case")]
    Admit {
        /// The hash of the token's secret.
        token: KeyHash,
        /// The name to which the token is bound.
        name: NodeName,
        /// The roles to which the token is bound.
        #[serde(deserialize_with = "unique::set")]
        roles: BTreeSet<NodeRole>,
        /// The node's key.
        key: KeyHash,
        /// The key by which it signs views, when it is a control node.
        view_key: Option<[u8; 32]>,
        /// Where other nodes reach it. A control node has one.
        address: Option<String>,
    },
    /// A node is no longer of the fleet.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// What a node says of itself.
    Report {
        /// The node.
        node: NodeId,
        /// The highest [`Command::required_level`] that it understands.
        level: u32,
        /// Where other nodes reach it.
        address: Option<String>,
    },
    /// One piece of a command that is too big for one message.
    Stage {
        /// By which its pieces are known.
        stage: RequestId,
        /// Which piece, from 0.
        index: u32,
        /// How many there will be.
        of: u32,
        /// The piece: all together are an [`Command::Apply`] as [`encode_command`](super::encode_command) writes it.
        bytes: Vec<u8>,
    },
    /// Execute the command whose pieces are all there.
    Commit {
        /// By which its pieces are known.
        stage: RequestId,
        /// The SHA-256 of all pieces together.
        digest: Digest,
    },
    /// Drop the pieces.
    Discard {
        /// By which they are known.
        stage: RequestId,
    },
    /// Begin a new epoch with one control node after a majority was lost. The others are no longer of the fleet.
    Recover {
        /// The new epoch: one more than the last.
        epoch: u64,
        /// The control node that goes on.
        survivor: NodeId,
        /// The statement, signed by the recovery key. Whoever proposes this has verified it.
        statement: Vec<u8>,
    },
    /// A signed statement by the voters about who votes after them, kept for gateways that were away.
    Succession {
        /// As the view's format has it. Whoever proposes this has verified it.
        statement: Vec<u8>,
    },
    /// A person may command the fleet in these roles, and in no others.
    PutOperator {
        /// The operator.
        operator: OperatorId,
        /// What they may do.
        roles: Vec<Role>,
    },
    /// A person may no longer command the fleet.
    RemoveOperator {
        /// The operator.
        operator: OperatorId,
    },
    /// A second person agrees with a pending change.
    Approve {
        /// The change.
        pending: PendingId,
        /// What the person looked at.
        digest: Digest,
    },
    /// A pending change is dropped.
    Reject {
        /// The change.
        pending: PendingId,
    },
    /// What needs a second person from now on.
    #[serde(rename_all = "kebab-case")]
    SetGuardRails {
        /// The guard rails.
        guard_rails: GuardRails,
    },
    /// An operator is known by this key from now on, and by no other.
    BindOperator {
        /// The operator.
        operator: OperatorId,
        /// The key in their certificate.
        key: KeyHash,
    },
    /// Fix the heads of the audit logs at this position of the log, for those who vote to sign. Changes nothing that is policy's.
    Seal,
    /// What the author, a node, saw, for the audit logs. Nothing that is decided by.
    Record {
        /// Counts the records of this node, from 1: one that was executed is not executed again.
        sequence: u64,
        /// Events, each as one line of an audit log. Their meaning is nothing to this crate.
        events: Vec<Vec<u8>>,
    },
    /// For how long the audit logs are kept from now on.
    SetKeeping {
        /// All of it.
        keeping: Keeping,
        /// What it was made from, as [`Keeping::digest`] tells it: refused if it has changed since. None: whatever it is.
        replaces: Option<Digest>,
    },
    /// An authority is exchanged for another, step by step.
    Authority {
        /// The authority's purpose.
        purpose: AuthorityPurpose,
        /// The step.
        step: AuthorityStep,
    },
    /// A certificate of a tenant's client no longer counts.
    Revoke {
        /// Whose authority issued it.
        tenant: TenantId,
        /// Its serial number.
        serial: Serial,
        /// Why; 1 to [`MAX_REVOKED_REASON`](crate::limits::MAX_REVOKED_REASON) bytes.
        reason: String,
        /// When it ends by itself, where that is known.
        until: Option<Timestamp>,
    },
    /// It was a mistake to revoke this certificate: it counts again.
    Unrevoke {
        /// Whose authority issued it.
        tenant: TenantId,
        /// Its serial number.
        serial: Serial,
    },
}

/// The highest [`Command::required_level`] of this version: what a node that runs it reports.
pub const FEATURE_LEVEL: u32 = 4;

/// From this level on commands leave leaves in the audit logs: once every node has it.
pub const AUDIT_LEVEL: u32 = 3;

/// From this level on the state knows authorities.
pub const AUTHORITY_LEVEL: u32 = 4;

/// The level of a version that knows which certificates of tenants' clients are revoked.
const REVOKING_LEVEL: u32 = 4;

impl Command {
    /// The level that every node must have before this may be used. Level 0 is what gets a fleet out of trouble.
    #[must_use]
    pub fn required_level(&self) -> u32 {
        match self {
            Self::Found { .. }
            | Self::Remove { .. }
            | Self::Report { .. }
            | Self::Recover { .. }
            | Self::Succession { .. }
            | Self::Discard { .. }
            | Self::Reject { .. }
            | Self::Withdraw { .. } => 0,
            // Earlier versions cannot read such a document.
            Self::Apply { put, .. } if put.iter().any(uses_on_stale) => 2,
            Self::Apply { .. }
            | Self::Invite { .. }
            | Self::Admit { .. }
            | Self::Stage { .. }
            | Self::Commit { .. }
            | Self::PutOperator { .. }
            | Self::RemoveOperator { .. }
            | Self::BindOperator { .. }
            | Self::Approve { .. }
            | Self::SetGuardRails { .. } => 1,
            Self::Seal | Self::Record { .. } | Self::SetKeeping { .. } => AUDIT_LEVEL,
            Self::Authority { .. } => AUTHORITY_LEVEL,
            Self::Revoke { .. } | Self::Unrevoke { .. } => REVOKING_LEVEL,
        }
    }
}

fn uses_on_stale(tenant: &Tenant) -> bool {
    tenant.limits.on_stale != OnStale::Serve
}

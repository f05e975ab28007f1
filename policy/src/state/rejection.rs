//! Why a command is refused.

use super::authorities::{AuthorityPhase, AuthorityPurpose};
use super::proposal::Principal;
use crate::document::DocumentError;
use crate::fleet_id::{FleetId, NodeId, PendingId, RequestId};
use crate::id::{HoldId, NetworkId, NodeName, OperatorId, Revision, TenantId};
use crate::origin::PrivateLinkId;
use crate::revocations::Serial;
use crate::server_name::ServerName;
use crate::tenant::Via;

/// Why a command was refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The author looked at a state that has since changed.
    StaleBase {
        /// The revision that the author looked at.
        base: Revision,
        /// The current one.
        current: Revision,
    },
    /// A document does not hold together.
    Document {
        /// The document's tenant.
        tenant: TenantId,
        /// Where and why.
        error: DocumentError,
    },
    /// A network belongs to one tenant.
    NetworkClaimed {
        /// The network.
        network: NetworkId,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A private link belongs to one tenant.
    PrivateLinkClaimed {
        /// The private link.
        private_link: PrivateLinkId,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A network namespace or interface is the way into one tenant's VPC.
    PlaceClaimed {
        /// The place.
        place: Via,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A server name leads to one endpoint.
    ServerNameClaimed {
        /// The name.
        name: ServerName,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// The allow lists of all tenants together would be too long.
    FleetLimit {
        /// How many entries and excepts there would be.
        entries: usize,
        /// How many there may be.
        maximum: usize,
    },
    /// The command names a tenant twice.
    NamedTwice(TenantId),
    /// The command removes a tenant that is not there.
    NoSuchTenant(TenantId),
    /// There is no such tenant.
    UnknownTenant(TenantId),
    /// There is nothing to take back.
    NotRevoked {
        /// The tenant.
        tenant: TenantId,
        /// What is not revoked.
        serial: Serial,
    },
    /// A revoked certificate has a reason that can be read.
    RevokedReason,
    /// A certificate that has ended needs no revoking.
    RevokedTooLate,
    /// The author's name is too long or not one line of plain text.
    Author,
    /// A tenant changed since the author looked at it.
    Conflict {
        /// The tenant.
        tenant: TenantId,
        /// When it last changed as far as the author knew; `None`: it was not there.
        expected: Option<Revision>,
        /// When it did; `None`: it is not there.
        current: Option<Revision>,
    },
    /// The author may not propose this.
    NotPermitted(Principal),
    /// The number of an executed request came back with another command or author.
    RequestReused(RequestId),
    /// Some nodes run a version that does not understand this command.
    NodesLack {
        /// The level that the command needs.
        level: u32,
        /// The nodes that do not have it.
        nodes: Vec<NodeName>,
    },
    /// There is no fleet yet.
    NoFleet,
    /// There is a fleet already, and it is another.
    AlreadyFounded(FleetId),
    /// There is no such node.
    NoSuchNode(NodeId),
    /// A node of the fleet has this name.
    NodeNameTaken(NodeName),
    /// A node must have this.
    NodeLacks(&'static str),
    /// A node's address is not a host and a port.
    NodeAddress,
    /// Without this node nobody would vote.
    LastControlNode(NodeName),
    /// This node does not vote.
    NotControl(NodeName),
    /// A new epoch is one more than the last.
    Epoch {
        /// The epoch that was to begin.
        epoch: u64,
        /// The one that holds.
        current: u64,
    },
    /// There is no such join token.
    NoSuchToken,
    /// A join token with this secret is out, with other terms.
    TokenTaken,
    /// The join token was used by somebody else.
    TokenUsed,
    /// The join token no longer holds.
    TokenExpired,
    /// The join token is for another name or for other roles.
    TokenOfAnother,
    /// The join token would hold for no time, or for too long.
    TokenLife,
    /// There would be more of these than the state keeps.
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there may be.
        maximum: usize,
    },
    /// A piece of a staged command is empty, too big, or out of its own count.
    Piece,
    /// Another piece stands there under the same number.
    OtherPiece(RequestId),
    /// Nothing is staged under this number.
    NoSuchStage(RequestId),
    /// Not all pieces are there.
    PiecesMissing {
        /// How many are.
        present: u32,
        /// Of how many.
        of: u32,
    },
    /// What is there is not what was looked at.
    DigestDiffers,
    /// The pieces together are not a command that may be staged.
    StagedCommand(String),
    /// A signed statement is empty or too long to keep.
    Statement,
    /// A record has no events, too many, or too large ones.
    RecordSize,
    /// A record holds what no node saw, and why; said by whoever knows what events mean.
    RecordEvent(String),
    /// Audit logs are kept for no time, or for too long.
    KeptFor,
    /// For how long audit logs are kept was set by somebody else meanwhile.
    KeepingChanged,
    /// The state knows no authority of this purpose.
    NoAuthority(AuthorityPurpose),
    /// The state knows another authority of this purpose.
    AuthorityKnown(AuthorityPurpose),
    /// An authority's certificate is empty, too long, or the one that it should replace.
    AuthorityCertificate,
    /// Too many words about why a node cannot do what is asked.
    AuthorityProblem,
    /// The exchange of an authority is elsewhere.
    AuthorityPhase {
        /// The authority.
        purpose: AuthorityPurpose,
        /// Where it is.
        phase: AuthorityPhase,
    },
    /// Nodes have not done what the exchange of an authority asks of them.
    AuthorityUnconfirmed {
        /// The authority.
        purpose: AuthorityPurpose,
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// Two legal holds have this name.
    HoldTwice(HoldId),
    /// A legal hold says no reason, or too much of one.
    HoldReason(HoldId),
    /// A record is not the one after the node's last.
    RecordGap {
        /// Which it says that it is.
        sequence: u64,
        /// The node's last.
        through: u64,
    },
    /// The operator's roles are none, too many, or for no tenant.
    OperatorRoles(OperatorId),
    /// There is no such operator.
    NoSuchOperator(OperatorId),
    /// Nothing waits under this number.
    NoSuchPending(PendingId),
    /// It waited too long.
    PendingExpired(PendingId),
    /// Who proposed a change cannot also be the second person.
    SamePerson(PendingId),
    /// What was written down does not fit together.
    Snapshot(&'static str),
}

impl Rejection {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::StaleBase { .. } => "stale_base",
            Self::Document { .. } => "document",
            Self::NetworkClaimed { .. } => "network_claimed",
            Self::PrivateLinkClaimed { .. } => "private_link_claimed",
            Self::PlaceClaimed { .. } => "place_claimed",
            Self::ServerNameClaimed { .. } => "server_name_claimed",
            Self::FleetLimit { .. } => "fleet_limit",
            Self::NamedTwice(_) => "named_twice",
            Self::NoSuchTenant(_) => "no_such_tenant",
            Self::Author => "author",
            Self::Conflict { .. } => "conflict",
            Self::NotPermitted(_) => "not_permitted",
            Self::RequestReused(_) => "request_reused",
            Self::NodesLack { .. } => "nodes_lack",
            Self::NoFleet => "no_fleet",
            Self::AlreadyFounded(_) => "already_founded",
            Self::NoSuchNode(_) => "no_such_node",
            Self::NodeNameTaken(_) => "node_name_taken",
            Self::NodeLacks(_) => "node_lacks",
            Self::NodeAddress => "node_address",
            Self::LastControlNode(_) => "last_control_node",
            Self::NotControl(_) => "not_control",
            Self::Epoch { .. } => "epoch",
            Self::NoSuchToken => "no_such_token",
            Self::TokenTaken => "token_taken",
            Self::TokenUsed => "token_used",
            Self::TokenExpired => "token_expired",
            Self::TokenOfAnother => "token_of_another",
            Self::TokenLife => "token_life",
            Self::TooMany { .. } => "too_many",
            Self::Piece => "piece",
            Self::OtherPiece(_) => "other_piece",
            Self::NoSuchStage(_) => "no_such_stage",
            Self::PiecesMissing { .. } => "pieces_missing",
            Self::DigestDiffers => "digest_differs",
            Self::StagedCommand(_) => "staged_command",
            Self::Statement => "statement",
            Self::RecordSize => "record_size",
            Self::RecordEvent(_) => "record_event",
            Self::KeptFor => "kept_for",
            Self::KeepingChanged => "keeping_changed",
            Self::NoAuthority(_) => "no_authority",
            Self::AuthorityKnown(_) => "authority_known",
            Self::AuthorityCertificate => "authority_certificate",
            Self::AuthorityProblem => "authority_problem",
            Self::AuthorityPhase { .. } => "authority_phase",
            Self::AuthorityUnconfirmed { .. } => "authority_unconfirmed",
            Self::HoldTwice(_) => "hold_twice",
            Self::HoldReason(_) => "hold_reason",
            Self::RecordGap { .. } => "record_gap",
            Self::OperatorRoles(_) => "operator_roles",
            Self::NoSuchOperator(_) => "no_such_operator",
            Self::NoSuchPending(_) => "no_such_pending",
            Self::PendingExpired(_) => "pending_expired",
            Self::SamePerson(_) => "same_person",
            Self::Snapshot(_) => "snapshot",
            Self::UnknownTenant(_) => "no_such_tenant",
            Self::NotRevoked { .. } => "not_revoked",
            Self::RevokedReason => "revoked_reason",
            Self::RevokedTooLate => "certificate_ended",
        }
    }
}

impl std::error::Error for Rejection {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all but one refusal are their own whole story"
    )]
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Document { error, .. } => Some(error),
            _ => None,
        }
    }
}

mod words;

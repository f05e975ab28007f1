//! What is said to whoever is refused.

use super::Rejection;
use crate::id::{NodeName, Revision, TenantId};
use crate::limits::{
    MAX_AUTHORITY_CERTIFICATE, MAX_AUTHORITY_PROBLEM, MAX_HOLD_REASON, MAX_INVITATION_LIFE_MS,
    MAX_KEPT_SECONDS, MAX_PIECE, MAX_PIECES, MAX_RECORD_BYTES, MAX_RECORDED, MAX_RECORDED_EVENT,
    MAX_REVOKED_REASON, MAX_STATEMENT,
};
use crate::state::authorities::AuthorityPhase;
use std::fmt;

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleBase { base, current } => write!(
                f,
                "this was made against revision {base}, but revision {current} is in force; plan again"
            ),
            Self::Document { tenant, .. } => {
                write!(f, "the document of tenant {tenant} is refused")
            }
            Self::NetworkClaimed {
                network,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims network {network}, which belongs to tenant {owner}"
            ),
            Self::PrivateLinkClaimed {
                private_link,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims private link {private_link}, which belongs to tenant {owner}"
            ),
            Self::PlaceClaimed {
                place,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} has a cluster in {place}, which belongs to tenant {owner}"
            ),
            Self::ServerNameClaimed {
                name,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims the name {name}, which belongs to tenant {owner}"
            ),
            Self::FleetLimit { entries, maximum } => write!(
                f,
                "all tenants together would have {entries} entries and excepts; {maximum} is the limit"
            ),
            Self::NamedTwice(tenant) => write!(f, "the command names tenant {tenant} twice"),
            Self::NoSuchTenant(tenant) => write!(f, "there is no tenant {tenant} to remove"),
            Self::Author => f.write_str("the author is not one short line of plain text"),
            Self::Conflict {
                tenant,
                expected,
                current,
            } => conflict(f, tenant, *expected, *current),
            Self::NotPermitted(who) => write!(f, "{who} may not do this"),
            Self::RequestReused(request) => write!(
                f,
                "request {request} was executed and was another; take a new number for a new request"
            ),
            Self::NodesLack { level, nodes } => {
                let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                let nodes = nodes.join(", ");
                write!(
                    f,
                    "this needs level {level}, which these nodes do not have: {nodes}; upgrade them first"
                )
            }
            Self::NoFleet => f.write_str("there is no fleet yet"),
            Self::AlreadyFounded(fleet) => write!(f, "this is fleet {fleet} already"),
            Self::NoSuchNode(node) => write!(f, "the fleet has no node {node}"),
            Self::NodeNameTaken(name) => write!(
                f,
                "the fleet has a node {name}; remove it first, or take another name"
            ),
            Self::NodeLacks(what) => write!(f, "the node needs {what}"),
            Self::NodeAddress => f.write_str(
                "the node's address is not a host and a port, such as node-1.example.net:7400",
            ),
            Self::LastControlNode(name) => write!(
                f,
                "{name} is the last control node; without it nobody could decide anything"
            ),
            Self::NotControl(name) => write!(f, "{name} is not a control node"),
            Self::Epoch { epoch, current } => write!(
                f,
                "epoch {epoch} cannot begin: epoch {current} holds, and the next is one more"
            ),
            Self::NoSuchToken => {
                f.write_str("there is no such join token; it may have been withdrawn")
            }
            Self::TokenTaken => f.write_str("this join token is out, with other terms"),
            Self::TokenUsed => f.write_str("this join token has been used; make a new one"),
            Self::TokenExpired => f.write_str("this join token has expired; make a new one"),
            Self::TokenOfAnother => {
                f.write_str("this join token is for another name or for other roles")
            }
            Self::TokenLife => write!(
                f,
                "a join token holds for more than no time and at most {} days",
                MAX_INVITATION_LIFE_MS / DAY_MS
            ),
            Self::TooMany { what, maximum } => {
                write!(f, "there are too many {what}; {maximum} is the limit")
            }
            Self::Piece => write!(
                f,
                "a piece has 1 to {MAX_PIECE} bytes, and there are at most {MAX_PIECES} of them"
            ),
            Self::OtherPiece(stage) => {
                write!(
                    f,
                    "another piece of staged command {stage} is there already"
                )
            }
            Self::NoSuchStage(stage) => write!(f, "nothing is staged as {stage}"),
            Self::PiecesMissing { present, of } => {
                write!(f, "only {present} of {of} pieces are there")
            }
            Self::DigestDiffers => {
                f.write_str("what is there is not what the digest was made of; look again")
            }
            Self::StagedCommand(why) => write!(f, "what was staged is not executed: {why}"),
            Self::Statement => write!(f, "a signed statement has 1 to {MAX_STATEMENT} bytes"),
            Self::RecordSize => write!(
                f,
                "a record has 1 to {MAX_RECORDED} events of 1 to {MAX_RECORDED_EVENT} bytes, and at most {MAX_RECORD_BYTES} bytes of them"
            ),
            Self::KeptFor => write!(
                f,
                "audit logs are kept for ever, or for 1 second to {} days",
                MAX_KEPT_SECONDS / 86_400
            ),
            Self::KeepingChanged => f.write_str(
                "for how long the audit logs are kept was changed by somebody else meanwhile: look again",
            ),
            Self::NoAuthority(purpose) => {
                write!(f, "the {purpose} authority is not being exchanged, and never was")
            }
            Self::AuthorityKnown(purpose) => {
                write!(f, "the state knows another {purpose} authority")
            }
            Self::AuthorityCertificate => write!(
                f,
                "an authority's certificate has 1 to {MAX_AUTHORITY_CERTIFICATE} bytes, and is not the one that it replaces"
            ),
            Self::AuthorityProblem => write!(
                f,
                "a node says in {MAX_AUTHORITY_PROBLEM} bytes what it cannot do"
            ),
            Self::AuthorityPhase {
                purpose,
                phase: AuthorityPhase::Settled,
            } => write!(f, "the {purpose} authority is not being exchanged"),
            Self::AuthorityPhase { purpose, phase } => write!(
                f,
                "the exchange of the {purpose} authority is elsewhere: {phase}"
            ),
            Self::AuthorityUnconfirmed { purpose, nodes } => {
                let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                write!(
                    f,
                    "the exchange of the {purpose} authority waits for {}",
                    nodes.join(", ")
                )
            }
            Self::HoldTwice(hold) => write!(f, "there are two legal holds {hold}"),
            Self::HoldReason(hold) => write!(
                f,
                "legal hold {hold} needs a reason of at most {MAX_HOLD_REASON} bytes"
            ),
            Self::RecordEvent(why) => write!(f, "an event is not recorded: {why}"),
            Self::RecordGap { sequence, through } => write!(
                f,
                "record {sequence} is not the one after the node's last, which is {through}"
            ),
            Self::OperatorRoles(operator) => write!(
                f,
                "the roles of operator {operator} are none, too many, or for no tenant"
            ),
            Self::NoSuchOperator(operator) => write!(f, "there is no operator {operator}"),
            Self::NoSuchPending(pending) => {
                write!(f, "no change {pending} waits; it may have been answered")
            }
            Self::PendingExpired(pending) => {
                write!(f, "change {pending} waited too long; propose it again")
            }
            Self::SamePerson(pending) => write!(
                f,
                "change {pending} was proposed by the same person; somebody else must approve it"
            ),
            Self::UnknownTenant(tenant) => write!(f, "there is no tenant {tenant}"),
            Self::NotRevoked { tenant, serial } => {
                write!(f, "no certificate {serial} is revoked for tenant {tenant}")
            }
            Self::RevokedReason => write!(
                f,
                "a certificate is revoked with a reason, in one line of plain text of at most {MAX_REVOKED_REASON} bytes"
            ),
            Self::RevokedTooLate => {
                f.write_str("this certificate has ended by itself: nobody gets in with it")
            }
            Self::Snapshot(what) => {
                write!(f, "what was written down does not fit together: {what}")
            }
        }
    }
}

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3_600_000;

fn conflict(
    f: &mut fmt::Formatter<'_>,
    tenant: &TenantId,
    expected: Option<Revision>,
    current: Option<Revision>,
) -> fmt::Result {
    match expected {
        Some(expected) => write!(
            f,
            "this was made against tenant {tenant} of revision {expected}, "
        )?,
        None => write!(f, "this was made when there was no tenant {tenant}, ")?,
    }
    match current {
        Some(current) => write!(f, "but it changed at revision {current}; look again"),
        None => f.write_str("but it is gone; look again"),
    }
}

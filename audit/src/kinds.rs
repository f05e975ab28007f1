//! The vocabulary of audit events: one word per thing that happens, spelled here and nowhere else.
//!
//! A kind is public API: alerts and searches are written against it. Kinds are added, never renamed.

/// A connection was decided on, proved who it is, and is open.
pub const CONNECTION_PERMITTED: &str = "connection.permitted";
/// A connection was decided on, and is refused.
pub const CONNECTION_DENIED: &str = "connection.denied";
/// A permitted connection ended by itself: one of its ends closed it.
pub const CONNECTION_CLOSED: &str = "connection.closed";
/// A live connection's permit stopped being true, and it was stopped.
pub const CONNECTION_LAPSED: &str = "connection.lapsed";
/// What became of the backend of a connection that lapsed.
pub const BACKEND_ENDED: &str = "backend.ended";
/// A permitted client did not prove who it is.
pub const AUTHENTICATION_FAILED: &str = "authentication.failed";
/// The fleet has another authority, or a step towards one was made.
pub const AUTHORITY_CHANGED: &str = "authority.changed";
/// A peer sent what the protocol does not allow; the field `code` names what.
pub const PROTOCOL_VIOLATION: &str = "protocol.violation";
/// A cancel request was passed on to the database.
pub const CANCEL_FORWARDED: &str = "cancel.forwarded";
/// A cancel request was not passed on.
pub const CANCEL_DENIED: &str = "cancel.denied";
/// A certificate was issued.
pub const CERTIFICATE_ISSUED: &str = "certificate.issued";
/// A certificate is due, or over, and another one could not be had.
pub const CERTIFICATE_OVERDUE: &str = "certificate.overdue";
/// A request for a certificate was refused.
pub const CERTIFICATE_REFUSED: &str = "certificate.refused";
/// A node shows a new certificate.
pub const CERTIFICATE_RENEWED: &str = "certificate.renewed";
/// A policy change took effect.
pub const POLICY_APPLIED: &str = "policy.applied";
/// A part of a tenant's document that is too large for the one event of the change that follows.
pub const POLICY_DOCUMENT: &str = "policy.document";
/// A policy change was refused whole.
pub const POLICY_REJECTED: &str = "policy.rejected";
/// A policy change is decided and was not in force in time on the node that was asked, or nobody said whether it is decided.
pub const POLICY_UNCONFIRMED: &str = "policy.unconfirmed";
/// A node began to serve.
pub const NODE_STARTED: &str = "node.started";
/// A node stopped in order.
pub const NODE_STOPPED: &str = "node.stopped";
/// A node had slept, and went on once its policy was confirmed or nobody could confirm it.
pub const NODE_WOKE: &str = "node.woke";
/// A database could not be reached, verified or signed in to.
pub const UPSTREAM_FAILED: &str = "upstream.failed";
/// Work was turned away because a limit was reached; the field `code` names it.
pub const LIMIT_SHED: &str = "limit.shed";
/// Somebody who may not command this node called its admin API.
pub const ADMIN_REFUSED: &str = "admin.refused";
/// The audit log ended in half a line when it was opened, as after a power cut; the half was kept aside.
pub const LEDGER_TORN: &str = "ledger.torn";
/// The object store does not take the audit logs any more.
pub const OBJECTS_STALLED: &str = "objects.stalled";
/// The object store has the audit logs again.
pub const OBJECTS_RESUMED: &str = "objects.resumed";
/// The object store has another file of an audit log than this node.
pub const OBJECTS_CONTRADICTED: &str = "objects.contradicted";
/// A fleet was founded.
pub const FLEET_FOUNDED: &str = "fleet.founded";
/// A node was admitted.
pub const FLEET_ADMITTED: &str = "fleet.admitted";
/// A node says another version or address of itself than before.
pub const FLEET_REPORTED: &str = "fleet.reported";
/// A token was taken back that nobody had used.
pub const FLEET_UNINVITED: &str = "fleet.uninvited";
/// The head of a tenant's log, as a leaf of the fleet's.
pub const LOG_HEAD: &str = "log.head";
/// A witness did not cosign an audit log because, as it says, the log is not what it was; the field `cause` says how.
pub const LOG_CONTRADICTED: &str = "log.contradicted";
/// A node could not record some of its events in the fleet's audit logs; the field `cause` says why.
pub const LOG_GAP: &str = "log.gap";
/// A log may lack its older entries from now on: they were kept for as long as was decided.
pub const LOG_PRUNED: &str = "log.pruned";
/// What opened commitments about persons was erased on a node: it was kept for as long as was decided.
pub const OPENINGS_ERASED: &str = "openings.erased";
/// The root of a node's events of connections, whose lines are in a file of that node.
pub const CONNECTIONS_BATCH: &str = "connections.batch";
/// Somebody was told what evidence says under a reference, or began to read an audit log.
pub const EVIDENCE_READ: &str = "evidence.read";
/// A token was made with which a node may join.
pub const FLEET_INVITED: &str = "fleet.invited";
/// A node was taken out of the fleet.
pub const FLEET_REMOVED: &str = "fleet.removed";
/// A node heard that the recovery key began a newer epoch.
pub const FLEET_EPOCH: &str = "fleet.epoch";
/// Another node, or a stranger, was refused a connection.
pub const FLEET_DENIED: &str = "fleet.denied";
/// Another process with this node's data was started later: this one takes part in deciding no more.
pub const FLEET_OVERTAKEN: &str = "fleet.overtaken";
/// A node's clock is further from those of the control nodes than it should be, or is no longer.
pub const TIME_SKEW: &str = "time.skew";
/// A control node's state is not what a majority of the voters have, or none is a majority's.
pub const FLEET_DIVERGED: &str = "fleet.diverged";
/// This control node's state was reinstalled, and it takes part again.
pub const FLEET_REINSTALLED: &str = "fleet.reinstalled";
/// An operator was made, or what one may do was changed.
pub const OPERATOR_ADDED: &str = "operator.added";
/// An operator is known by another key from now on: one was given a certificate.
pub const OPERATOR_BOUND: &str = "operator.bound";
/// An operator was removed.
pub const OPERATOR_REMOVED: &str = "operator.removed";
/// A change waits for a second person.
pub const CHANGE_WAITING: &str = "change.waiting";
/// A second person agreed with a change.
pub const CHANGE_APPROVED: &str = "change.approved";
/// A change that waited for a second person was dropped.
pub const CHANGE_REJECTED: &str = "change.rejected";
/// A certificate of a tenant's client counts again: to revoke it was a mistake.
pub const CERTIFICATE_RESTORED: &str = "certificate.restored";
/// A certificate of a tenant's client no longer counts.
pub const CERTIFICATE_REVOKED: &str = "certificate.revoked";
/// For how long the audit logs are kept was changed, or a legal hold was put or lifted.
pub const KEEPING_SET: &str = "keeping.set";
/// What needs two people was changed.
pub const GUARD_RAILS_SET: &str = "guardrails.set";
/// Entries of a log could not be brought to a sink.
pub const SHIP_GAP: &str = "ship.gap";
/// Entries of the audit logs cannot be brought to a sink.
pub const SHIP_STALLED: &str = "ship.stalled";
/// Entries of the audit logs come to that sink again.
pub const SHIP_RESUMED: &str = "ship.resumed";
/// The index of the audit logs has other entries than a log.
pub const INDEX_CONTRADICTED: &str = "index.contradicted";
/// The index of the audit logs lacked entries that it had had; they are written again.
pub const INDEX_REBUILT: &str = "index.rebuilt";

/// Every kind, sorted.
pub const ALL: [&str; 62] = [
    ADMIN_REFUSED,
    AUTHENTICATION_FAILED,
    AUTHORITY_CHANGED,
    BACKEND_ENDED,
    CANCEL_DENIED,
    CANCEL_FORWARDED,
    CERTIFICATE_ISSUED,
    CERTIFICATE_OVERDUE,
    CERTIFICATE_REFUSED,
    CERTIFICATE_RENEWED,
    CERTIFICATE_RESTORED,
    CERTIFICATE_REVOKED,
    CHANGE_APPROVED,
    CHANGE_REJECTED,
    CHANGE_WAITING,
    CONNECTION_CLOSED,
    CONNECTION_DENIED,
    CONNECTION_LAPSED,
    CONNECTION_PERMITTED,
    CONNECTIONS_BATCH,
    EVIDENCE_READ,
    FLEET_ADMITTED,
    FLEET_DENIED,
    FLEET_DIVERGED,
    FLEET_EPOCH,
    FLEET_FOUNDED,
    FLEET_INVITED,
    FLEET_OVERTAKEN,
    FLEET_REINSTALLED,
    FLEET_REMOVED,
    FLEET_REPORTED,
    FLEET_UNINVITED,
    GUARD_RAILS_SET,
    INDEX_CONTRADICTED,
    INDEX_REBUILT,
    KEEPING_SET,
    LEDGER_TORN,
    LIMIT_SHED,
    LOG_CONTRADICTED,
    LOG_GAP,
    LOG_HEAD,
    LOG_PRUNED,
    NODE_STARTED,
    NODE_STOPPED,
    NODE_WOKE,
    OBJECTS_CONTRADICTED,
    OBJECTS_RESUMED,
    OBJECTS_STALLED,
    OPENINGS_ERASED,
    OPERATOR_ADDED,
    OPERATOR_BOUND,
    OPERATOR_REMOVED,
    POLICY_APPLIED,
    POLICY_DOCUMENT,
    POLICY_REJECTED,
    POLICY_UNCONFIRMED,
    PROTOCOL_VIOLATION,
    SHIP_GAP,
    SHIP_RESUMED,
    SHIP_STALLED,
    TIME_SKEW,
    UPSTREAM_FAILED,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn kinds_are_sorted_distinct_and_made_of_a_thing_and_what_became_of_it() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for kind in ALL {
            let (thing, became) = kind.split_once('.').expect("a dot");
            let lower =
                |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(lower(thing) && lower(became), "{kind}");
        }
    }
}

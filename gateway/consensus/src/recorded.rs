//! What nodes record: which events they may say, and whose log each goes to.
//!
//! Every node must judge alike, in every version, as of the leaves that it makes itself: what is
//! refused here is never refused less, and nothing more, but at another level.

use crate::logs::{Logs, Said};
use portcullis_audit::{Event, MAX_EVENT_BYTES, kinds};
use portcullis_policy::{Command, NodeId, Principal, Proposal, Rejection, State};

/// Kinds of which every node of the fleet makes the leaf by itself: from one node alone nobody takes
/// them.
const FLEETS_OWN: [&str; 20] = [
    kinds::POLICY_APPLIED,
    kinds::POLICY_DOCUMENT,
    kinds::FLEET_FOUNDED,
    kinds::FLEET_INVITED,
    kinds::FLEET_UNINVITED,
    kinds::FLEET_ADMITTED,
    kinds::FLEET_REMOVED,
    kinds::FLEET_REPORTED,
    kinds::FLEET_EPOCH,
    kinds::OPERATOR_ADDED,
    kinds::OPERATOR_REMOVED,
    kinds::OPERATOR_BOUND,
    kinds::CHANGE_WAITING,
    kinds::CHANGE_APPROVED,
    kinds::CHANGE_REJECTED,
    kinds::GUARD_RAILS_SET,
    kinds::KEEPING_SET,
    kinds::CERTIFICATE_REVOKED,
    kinds::CERTIFICATE_RESTORED,
    kinds::LOG_HEAD,
];

/// The fields of nodes' events that are about a person: who asked, from where, as whom.
const PERSONAL: &[&str] = &[
    "address",
    "by",
    "gid",
    "proposed_by",
    "source",
    "uid",
    "user",
];

/// Whether events of this kind are made by all nodes together, as leaves of what they decided. A
/// node does not record them.
#[must_use]
pub fn is_fleets_own(kind: &str) -> bool {
    FLEETS_OWN.contains(&kind)
}

/// The events of a record, each with the tenant to whose log it belongs; none: to the fleet's. Of other commands
/// there are none.
pub(crate) fn events_of(
    proposal: &Proposal,
    state: &State,
    logs: &Logs,
) -> Result<Vec<Said>, Rejection> {
    let Command::Record { events: lines, .. } = &proposal.command else {
        return Ok(Vec::new());
    };
    let Principal::Node(id) = &proposal.author.principal else {
        return Err(Rejection::NotPermitted(proposal.author.principal.clone()));
    };
    let name = match state.fleet() {
        Some(fleet) => fleet.nodes.get(id).map(|node| node.name.as_str()),
        // Before there is a fleet there is one node, and nobody whose name it could take.
        None => Some(proposal.author.name.as_str()).filter(|_| *id == NodeId::FIRST),
    };
    let Some(name) = name else {
        return Err(Rejection::NotPermitted(proposal.author.principal.clone()));
    };
    let refused = |number: usize, why: &dyn std::fmt::Display| {
        Rejection::RecordEvent(format!("number {number} of the record: {why}"))
    };
    let events = lines.iter().enumerate().map(|(number, line)| {
        let line = std::str::from_utf8(line).map_err(|error| refused(number, &error))?;
        let event = Event::parse(line).map_err(|error| refused(number, &error))?;
        // `parse` lets a newline at the end pass, and a leaf has none.
        if line.ends_with('\n') || line.len() > MAX_EVENT_BYTES {
            return Err(refused(number, &"it is no line of a log"));
        }
        if event.node != name {
            return Err(refused(number, &"another node is said to have seen it"));
        }
        if is_fleets_own(&event.kind) {
            return Err(refused(number, &"only all nodes together say such a thing"));
        }
        let tenant = event.tenant.as_deref().and_then(|it| it.parse().ok());
        // Also the log of a tenant that is gone says for itself what it lacks.
        let tenant = tenant.filter(|it| {
            state.view().tenant(it).is_some() || event.kind == kinds::LOG_PRUNED && logs.has(it)
        });
        Ok(Said {
            tenant,
            event,
            personal: PERSONAL,
        })
    });
    events.collect()
}

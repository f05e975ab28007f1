//! What an accepted command leaves in the audit logs.
//!
//! Every node makes these events by itself and must make the same bytes, in every version: what is
//! written here is never edited. A field more, or another kind, is for commands that need a level
//! which nodes with this code do not have. `testdata/leaves` keeps what was written.

use crate::logs::{FLEET, Said};
use portcullis_audit::{Event, kinds};
use portcullis_policy::{
    AddressSet, Applied, AuthorityStep, Change, Command, Origin, Principal, Proposal, State,
    TenantId, Timestamp, Told,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The events of a command that was executed at this position and left this state: of the fleet, and
/// of every tenant that it touched.
pub(crate) fn leaves_of(
    proposal: &Proposal,
    applied: &Applied,
    after: &State,
    position: u64,
) -> Vec<Said> {
    let Some(kind) = kind_of(proposal, applied) else {
        return Vec::new();
    };
    let about = |kind| {
        let mut event = Event::new(applied.at.as_millis(), kind, FLEET)
            .with("position", position)
            .with("by", proposal.author.name.as_str())
            .with("principal", proposal.author.principal.to_string());
        event.revision = Some(applied.revision.get());
        event
    };
    let mut own = about(kind);
    for (name, value) in facts(&proposal.command, applied) {
        own = own.with(name, value);
    }
    if !applied.tenants.is_empty() {
        let names: Vec<&str> = applied.tenants.iter().map(TenantId::as_str).collect();
        own = own.with("tenants", json!(names));
    }
    let personal = match proposal.author.principal {
        Principal::Node(_) => BY_NODES,
        Principal::Local => LOCALLY,
        Principal::Operator(_) => BY_OPERATORS,
    };
    let said = |tenant, event| Said {
        tenant,
        event,
        personal,
    };
    let mut leaves = vec![said(None, own)];
    let revoking = matches!(
        proposal.command,
        Command::Revoke { .. } | Command::Unrevoke { .. }
    );
    for tenant in &applied.tenants {
        if revoking {
            // The document is as it was.
            let mut event = about(kind);
            event.tenant = Some(tenant.to_string());
            let facts = self::facts(&proposal.command, applied).into_iter();
            let event = facts.fold(event, |event, (name, value)| event.with(name, value));
            leaves.push(said(Some(tenant.clone()), event));
            continue;
        }
        let mut event = about(kinds::POLICY_APPLIED);
        event.tenant = Some(tenant.to_string());
        let changes = applied.changes.iter().filter(|it| it.tenant == *tenant);
        let changes: Vec<Value> = changes.map(difference).collect();
        let document = after.view().tenant(tenant).map(|view| view.document());
        let document = document.and_then(|it| serde_json::to_value(it).ok());
        let (document, parts) = whole_or_parts(document);
        for part in parts {
            let mut leaf = about(kinds::POLICY_DOCUMENT);
            leaf.tenant = Some(tenant.to_string());
            let leaf = part
                .into_iter()
                .fold(leaf, |leaf, (name, value)| leaf.with(name, value));
            leaves.push(said(Some(tenant.clone()), leaf));
        }
        event = event
            .with("endpoints", changes)
            // None: the tenant is gone.
            .with("document", document);
        leaves.push(said(Some(tenant.clone()), event));
    }
    leaves
}

/// What is about a person, by who proposed.
const BY_OPERATORS: &[&str] = &["by", "operator", "principal"];
const LOCALLY: &[&str] = &["by", "operator"];
const BY_NODES: &[&str] = &["operator"];

/// What one part of a large document says.
type Part = [(&'static str, Value); 3];

/// A document that fits into an event, or what it is told apart by and its parts, which are leaves
/// of their own: an event that is too large would leave it out.
fn whole_or_parts(document: Option<Value>) -> (Value, Vec<Part>) {
    let Some(document) = document else {
        return (Value::Null, Vec::new());
    };
    // Its members are sorted, as maps of serde_json's are: everybody writes the same text.
    let text = document.to_string();
    if text.len() <= PART {
        return (document, Vec::new());
    }
    let mut texts = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.floor_char_boundary(PART));
        texts.push(part);
        rest = after;
    }
    let count = texts.len();
    let parts = texts.into_iter().enumerate();
    let parts = parts.map(|(part, text)| {
        [
            ("part", json!(part)),
            ("parts", json!(count)),
            ("text", json!(text)),
        ]
    });
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let told = json!({ "parts": count, "bytes": text.len(), "sha256": digest });
    (told, parts.collect())
}

/// Bytes of a document in one event. Escaped twice they are still less than a field may have.
const PART: usize = 7 * 1024;

/// What a command is called in the fleet's log; none for what changes nothing that counts, or is a
/// part of another.
fn kind_of(proposal: &Proposal, applied: &Applied) -> Option<&'static str> {
    if matches!(applied.told, Told::Pending { .. }) {
        return Some(kinds::CHANGE_WAITING);
    }
    let touched = applied.fleet_changed || !applied.tenants.is_empty();
    match &proposal.command {
        // Nothing differed: nothing happened.
        Command::Apply { .. } | Command::Commit { .. } => touched.then_some(kinds::POLICY_APPLIED),
        Command::Found { .. } => Some(kinds::FLEET_FOUNDED),
        Command::Invite { .. } => Some(kinds::FLEET_INVITED),
        Command::Withdraw { .. } => Some(kinds::FLEET_UNINVITED),
        Command::Admit { .. } => applied.fleet_changed.then_some(kinds::FLEET_ADMITTED),
        Command::Remove { .. } => applied.fleet_changed.then_some(kinds::FLEET_REMOVED),
        Command::Report { .. } => applied.fleet_changed.then_some(kinds::FLEET_REPORTED),
        Command::Recover { .. } => Some(kinds::FLEET_EPOCH),
        Command::PutOperator { .. } => Some(kinds::OPERATOR_ADDED),
        Command::RemoveOperator { .. } => Some(kinds::OPERATOR_REMOVED),
        Command::BindOperator { .. } => Some(kinds::OPERATOR_BOUND),
        Command::Approve { .. } => Some(kinds::CHANGE_APPROVED),
        Command::Reject { .. } => Some(kinds::CHANGE_REJECTED),
        Command::SetGuardRails { .. } => Some(kinds::GUARD_RAILS_SET),
        Command::SetKeeping { .. } => Some(kinds::KEEPING_SET),
        Command::Authority { .. } => applied.fleet_changed.then_some(kinds::AUTHORITY_CHANGED),
        Command::Revoke { .. } => touched.then_some(kinds::CERTIFICATE_REVOKED),
        Command::Unrevoke { .. } => touched.then_some(kinds::CERTIFICATE_RESTORED),
        // Pieces of a command that has its own leaf once it is whole; who votes, as the leaves of
        // admissions and removals say; what a seal leaves is made by the
        // logs, and what a record leaves by its node.
        Command::Stage { .. }
        | Command::Discard { .. }
        | Command::Succession { .. }
        | Command::Seal
        | Command::Record { .. } => None,
    }
}

/// What a command says besides tenants.
fn facts(command: &Command, applied: &Applied) -> Vec<(&'static str, Value)> {
    let text = |it: &dyn std::fmt::Display| Value::String(it.to_string());
    let mut facts = match command {
        Command::Found {
            fleet,
            name,
            roles,
            key,
            view_key,
            address,
            recovery_key,
            guard_rails,
        } => vec![
            ("fleet", text(fleet)),
            ("name", text(name)),
            ("roles", json!(roles)),
            ("key", text(key)),
            ("view_key", hex(view_key)),
            ("address", text(address)),
            ("recovery_key", hex(recovery_key)),
            ("guard_rails", json!(guard_rails)),
        ],
        Command::Invite {
            name,
            roles,
            expires,
            ..
        } => vec![
            ("name", text(name)),
            ("roles", json!(roles)),
            ("expires", moment(*expires)),
        ],
        Command::Admit {
            token: _,
            name,
            roles,
            key,
            view_key,
            address,
        } => vec![
            ("name", text(name)),
            ("roles", json!(roles)),
            ("key", text(key)),
            ("view_key", view_key.as_ref().map_or(Value::Null, hex)),
            ("address", json!(address)),
        ],
        Command::Remove { node } => vec![("id", text(node))],
        Command::Report {
            node,
            level,
            address,
        } => vec![
            ("id", text(node)),
            ("level", json!(level)),
            ("address", json!(address)),
        ],
        Command::Recover {
            epoch, survivor, ..
        } => vec![("epoch", json!(epoch)), ("id", text(survivor))],
        Command::PutOperator { operator, roles } => {
            vec![("operator", text(operator)), ("roles", json!(roles))]
        }
        Command::RemoveOperator { operator } => vec![("operator", text(operator))],
        Command::BindOperator { operator, key } => {
            vec![("operator", text(operator)), ("key", text(key))]
        }
        Command::Approve { pending, digest } => {
            vec![("pending", text(pending)), ("digest", text(digest))]
        }
        Command::Reject { pending } => vec![("pending", text(pending))],
        Command::SetGuardRails { guard_rails } => vec![("guard_rails", json!(guard_rails))],
        Command::SetKeeping { keeping, .. } => vec![("keeping", json!(keeping))],
        Command::Authority { purpose, step } => {
            let mut facts = vec![("purpose", text(purpose))];
            facts.extend(step_facts(step));
            facts
        }
        Command::Revoke {
            tenant: _,
            serial,
            reason,
            until,
        } => vec![
            ("serial", text(serial)),
            ("reason", text(reason)),
            ("until", until.map_or(Value::Null, moment)),
        ],
        Command::Unrevoke { tenant: _, serial } => vec![("serial", text(serial))],
        Command::Apply { .. }
        | Command::Commit { .. }
        | Command::Withdraw { .. }
        | Command::Stage { .. }
        | Command::Discard { .. }
        | Command::Succession { .. }
        | Command::Seal
        | Command::Record { .. } => Vec::new(),
    };
    match &applied.told {
        Told::Pending {
            pending,
            digest,
            expires,
        } => facts.extend([
            ("pending", text(pending)),
            ("digest", text(digest)),
            ("expires", moment(*expires)),
        ]),
        Told::Admitted(node) => facts.push(("id", text(node))),
        Told::Done | Told::Staged { .. } | Told::Recorded(_) => {}
    }
    facts
}

/// What became of an authority, and which of two it is about.
fn step_facts(step: &AuthorityStep) -> Vec<(&'static str, Value)> {
    let hash = |certificate: &[u8]| hex(&Sha256::digest(certificate).into());
    match step {
        AuthorityStep::Known { certificate } => {
            vec![("step", json!("known")), ("authority", hash(certificate))]
        }
        AuthorityStep::Rotate(next) => vec![
            ("step", json!("rotate")),
            ("authority", hash(&next.certificate)),
        ],
        AuthorityStep::Advance { successor, from } => vec![
            ("step", json!("advance")),
            ("authority", Value::String(successor.to_string())),
            ("from", Value::String(from.to_string())),
        ],
        AuthorityStep::Return { successor } => vec![
            ("step", json!("return")),
            ("authority", Value::String(successor.to_string())),
        ],
        // Nobody's view changes by it.
        AuthorityStep::Confirm { .. } => Vec::new(),
    }
}

fn hex(key: &[u8; 32]) -> Value {
    Value::String(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn moment(at: Timestamp) -> Value {
    Value::String(portcullis_audit::moment::to_text(at.as_millis()))
}

/// What differs for an endpoint, door by door, as the smallest lists of prefixes.
fn difference(change: &Change) -> Value {
    let sets = |sets: &BTreeMap<Origin, AddressSet>| -> Value {
        let doors = sets.iter().map(|(door, set)| {
            let prefixes = set.prefixes().map(|prefix| prefix.to_string());
            (door.to_string(), prefixes.collect())
        });
        Value::Object(doors.collect::<Map<String, Value>>())
    };
    json!({
        "endpoint": change.endpoint.to_string(),
        "kind": change.kind.to_string(),
        "opened": sets(&change.opened),
        "shut": sets(&change.shut),
        "retimed": sets(&change.retimed),
    })
}

#[cfg(test)]
mod corpus;

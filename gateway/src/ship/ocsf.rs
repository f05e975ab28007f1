//! Entries as events of the Open Cybersecurity Schema Framework (<https://schema.ocsf.io>), version 1.1.0.
//!
//! Whole in themselves: what OCSF has no word for stands under `unmapped`, with every field of the entry. The class only says on which
//! shelf it goes.

use std::net::IpAddr;

use portcullis_audit::{Event, moment};
use serde_json::{Map, Value, json};

use super::tail::Item;

const VERSION: &str = "1.1.0";

/// The event as one JSON object.
pub(super) fn encode(item: &Item) -> Value {
    let event = &item.event;
    let shelf = shelf(&event.kind);
    let of_class = of_class(shelf.class, event);
    let mut out = json!({
        "category_uid": shelf.class / 1000,
        "class_uid": shelf.class,
        "activity_id": shelf.activity,
        "type_uid": u64::from(shelf.class) * 100 + u64::from(shelf.activity),
        "time": event.at_ms,
        "severity_id": severity(&event.kind) as u32,
        "status_id": if severity(&event.kind) == Severity::Informational { SUCCESS } else { FAILURE },
        "message": &*event.kind,
        "metadata": metadata(item, &of_class),
        "unmapped": unmapped(item),
    });
    if let Some(members) = out.as_object_mut() {
        members.extend(of_class);
    }
    out
}

/// How bad it is, by OCSF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Informational = 1,
    /// Somebody was refused, or something failed.
    Medium = 3,
    /// Evidence is missing, or nodes contradict each other.
    High = 4,
}

/// How bad what this kind says is.
pub(super) fn severity(kind: &str) -> Severity {
    match kind {
        "fleet.diverged" | "fleet.overtaken" | "ledger.torn" | "log.gap" | "ship.gap" => {
            return Severity::High;
        }
        _ => {}
    }
    let became = kind.split_once('.').map_or("", |(_, became)| became);
    match became {
        "denied" | "failed" | "rejected" | "refused" | "violation" | "shed" | "unconfirmed"
        | "skew" | "stalled" | "overdue" => Severity::Medium,
        "contradicted" => Severity::High,
        _ => Severity::Informational,
    }
}

/// A field of an entry as text. Personal ones may be withheld: a commitment stands there instead.
pub(super) fn text(event: &Event, name: &str) -> Option<String> {
    match event.field(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Object(withheld) => {
            let hex = withheld.get("commitment")?.as_str()?;
            let short: String = hex.chars().take(12).collect();
            Some(format!("commitment:{short}"))
        }
        Value::Null | Value::Array(_) => None,
        other @ (Value::Bool(_) | Value::Number(_)) => Some(other.to_string()),
    }
}

fn metadata(item: &Item, of_class: &Map<String, Value>) -> Map<String, Value> {
    let event = &item.event;
    // Who did it is part of a profile; only calls of an API have it without one.
    let profiles = of_class.contains_key("actor") && !of_class.contains_key("api");
    let members = [
        ("version", Some(Value::from(VERSION))),
        ("uid", Some(Value::from(item.uid()))),
        ("sequence", Some(Value::from(item.first))),
        ("event_code", Some(Value::from(&*event.kind))),
        ("log_name", Some(Value::from(&*item.origin))),
        ("log_provider", Some(Value::from(&*event.node))),
        (
            "original_time",
            Some(Value::from(moment::to_text(event.at_ms))),
        ),
        ("product", Some(product(event))),
        ("profiles", profiles.then(|| json!(["host"]))),
        ("tenant_uid", event.tenant.as_deref().map(Value::from)),
        (
            "correlation_uid",
            event.reference.as_deref().map(Value::from),
        ),
    ];
    present(members)
}

fn unmapped(item: &Item) -> Map<String, Value> {
    let event = &item.event;
    let fields: Map<String, Value> = event
        .fields()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let members = [
        ("kind", Some(Value::from(&*event.kind))),
        ("node", Some(Value::from(&*event.node))),
        ("tenant", event.tenant.as_deref().map(Value::from)),
        ("reference", event.reference.as_deref().map(Value::from)),
        ("revision", event.revision.map(Value::from)),
        ("log", Some(Value::from(&*item.log))),
        ("index", Some(Value::from(item.first))),
        ("fields", Some(Value::Object(fields))),
    ];
    present(members)
}

/// What the class demands besides what every event has.
fn of_class(class: u32, event: &Event) -> Map<String, Value> {
    let members = match class {
        NETWORK_ACTIVITY => vec![
            ("src_endpoint", Some(source(event))),
            ("dst_endpoint", Some(destination(event))),
        ],
        AUTHENTICATION => vec![
            ("user", Some(user(text(event, "user")))),
            ("src_endpoint", Some(source(event))),
            ("dst_endpoint", Some(destination(event))),
        ],
        ACCOUNT_CHANGE => vec![
            ("user", Some(user(text(event, "name")))),
            ("actor", actor(event)),
        ],
        ENTITY_MANAGEMENT => vec![("entity", Some(entity(event))), ("actor", actor(event))],
        API_ACTIVITY => vec![
            (
                "actor",
                Some(json!({"user": user(text(event, "principal").or_else(|| text(event, "by")))})),
            ),
            (
                "api",
                Some(
                    json!({"operation": text(event, "asked").unwrap_or_else(|| event.kind.to_string())}),
                ),
            ),
            ("src_endpoint", Some(source(event))),
        ],
        APPLICATION_LIFECYCLE => vec![("app", Some(product(event)))],
        _ => Vec::new(),
    };
    present(members)
}

fn present<'a>(members: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Map<String, Value> {
    let members = members.into_iter();
    members
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn product(event: &Event) -> Value {
    Value::Object(present([
        ("name", Some(Value::from("Portcullis"))),
        ("vendor_name", Some(Value::from("Portcullis"))),
        ("version", text(event, "version").map(Value::from)),
    ]))
}

fn user(name: Option<String>) -> Value {
    match name {
        Some(name) => json!({"name": name}),
        None => json!({"name": "unknown", "type_id": 0}),
    }
}

fn actor(event: &Event) -> Option<Value> {
    let who = text(event, "principal").or_else(|| text(event, "by"))?;
    Some(json!({"user": {"name": who}}))
}

/// Where it came from; where an entry says nothing of that, the node that saw it.
fn source(event: &Event) -> Value {
    let address = text(event, "address").and_then(|text| text.parse::<IpAddr>().ok());
    let port = event.field("port").and_then(Value::as_u64);
    match address {
        Some(address) => Value::Object(present([
            ("ip", Some(Value::from(address.to_string()))),
            ("port", port.filter(|port| *port <= 65_535).map(Value::from)),
        ])),
        None => json!({"name": &*event.node}),
    }
}

fn destination(event: &Event) -> Value {
    Value::Object(present([
        ("name", Some(Value::from(&*event.node))),
        ("svc_name", text(event, "endpoint").map(Value::from)),
    ]))
}

/// What was changed: the policy of a tenant or of all, a node, a change that waits, what was read.
fn entity(event: &Event) -> Value {
    let thing = event.kind.split_once('.').map_or("", |(thing, _)| thing);
    let named = match thing {
        "evidence" => text(event, "asked"),
        "change" => text(event, "pending"),
        "policy" => event.tenant.clone(),
        _ => text(event, "name").or_else(|| text(event, "id")),
    };
    json!({"type": thing, "name": named.unwrap_or_else(|| "fleet".to_owned())})
}

const SUCCESS: u32 = 1;
const FAILURE: u32 = 2;

const BASE_EVENT: u32 = 0;
const ACCOUNT_CHANGE: u32 = 3001;
const AUTHENTICATION: u32 = 3002;
const ENTITY_MANAGEMENT: u32 = 3004;
const NETWORK_ACTIVITY: u32 = 4001;
const APPLICATION_LIFECYCLE: u32 = 6002;
const API_ACTIVITY: u32 = 6003;
const OTHER: u32 = 99;

/// A class of events and what was done, by their numbers.
struct Shelf {
    class: u32,
    activity: u32,
}

/// On which shelf a kind of event goes. A kind that is newer than this table is an event of no class.
fn shelf(kind: &str) -> Shelf {
    let (class, activity) = match kind {
        "connection.permitted" => (NETWORK_ACTIVITY, 1),
        "connection.closed" | "backend.ended" => (NETWORK_ACTIVITY, 2),
        "connection.lapsed" => (NETWORK_ACTIVITY, 3),
        "upstream.failed" => (NETWORK_ACTIVITY, 4),
        "connection.denied" | "protocol.violation" | "cancel.denied" | "fleet.denied" => {
            (NETWORK_ACTIVITY, 5)
        }
        "cancel.forwarded" => (NETWORK_ACTIVITY, OTHER),
        "authentication.failed" => (AUTHENTICATION, 1),
        "operator.added" => (ACCOUNT_CHANGE, 1),
        "operator.removed" => (ACCOUNT_CHANGE, 6),
        "operator.bound" => (ACCOUNT_CHANGE, OTHER),
        "fleet.founded" | "fleet.invited" | "fleet.admitted" | "change.waiting"
        | "certificate.issued" => (ENTITY_MANAGEMENT, 1),
        "evidence.read" => (ENTITY_MANAGEMENT, 2),
        "policy.applied"
        | "policy.document"
        | "policy.rejected"
        | "policy.unconfirmed"
        | "guardrails.set"
        | "keeping.set"
        | "authority.changed"
        | "fleet.reported"
        | "fleet.epoch"
        | "fleet.reinstalled"
        | "certificate.renewed"
        | "certificate.restored"
        | "certificate.revoked" => (ENTITY_MANAGEMENT, 3),
        "fleet.removed" | "fleet.uninvited" | "log.pruned" | "openings.erased" => {
            (ENTITY_MANAGEMENT, 4)
        }
        "change.approved" | "change.rejected" => (ENTITY_MANAGEMENT, OTHER),
        "node.started" => (APPLICATION_LIFECYCLE, 3),
        "node.stopped" => (APPLICATION_LIFECYCLE, 4),
        "node.woke" => (APPLICATION_LIFECYCLE, OTHER),
        "admin.refused" => (API_ACTIVITY, OTHER),
        _ => (BASE_EVENT, OTHER),
    };
    Shelf { class, activity }
}

#[cfg(test)]
mod tests;

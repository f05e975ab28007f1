//! What the index has of one entry.

use portcullis_audit::Event;
use portcullis_audit::tlog::Hash;
use serde_json::Value;

use super::limits::INDEX_ACTOR_CHARACTERS;

/// One entry as the index has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its log: `fleet` or `tenants/TENANT`.
    pub log: String,
    /// Its place there, from 0.
    pub index: i64,
    /// When it happened, Unix milliseconds.
    pub at_ms: i64,
    /// What happened.
    pub kind: String,
    /// The tenant it concerns.
    pub tenant: Option<String>,
    /// Who did it; where that is kept apart, `commitment:HEX`.
    pub actor: Option<String>,
    /// The position in the log of consensus.
    pub position: Option<i64>,
    /// The policy's revision that held.
    pub revision: Option<i64>,
    /// The entry as JSON. A zero character, which the database cannot keep, is U+FFFD.
    pub event: Value,
    /// The hash of the entry as it stands in the log.
    pub leaf_hash: Hash,
}

impl Row {
    /// Of an entry of a log; nothing if it is no event, or none that a database can count.
    #[must_use]
    pub fn of(log: &str, index: u64, line: &[u8]) -> Option<Self> {
        let event = Event::parse(std::str::from_utf8(line).ok()?).ok()?;
        let number = |name| event.field(name).and_then(Value::as_i64);
        let json = serde_json::from_slice(line).ok()?;
        Some(Self {
            log: log.to_owned(),
            index: i64::try_from(index).ok()?,
            at_ms: event.at_ms,
            kind: kept(&event.kind),
            tenant: event.tenant.as_deref().map(kept),
            actor: actor(&event),
            position: number("position"),
            revision: event.revision.and_then(|it| i64::try_from(it).ok()),
            event: storable(json),
            leaf_hash: Hash::of_leaf(line),
        })
    }
}

/// Who did it, by the first name that the entry says for that; if it says none, by the first commitment to one.
fn actor(event: &Event) -> Option<String> {
    let fields = ["by", "principal", "operator"];
    let fields = || fields.iter().filter_map(|name| event.field(name));
    let name = fields().find_map(|field| field.as_str().map(str::to_owned));
    let name = name.or_else(|| {
        let commitment = fields().find_map(|field| field.get("commitment")?.as_str())?;
        Some(format!("commitment:{commitment}"))
    });
    Some(kept(&name?).chars().take(INDEX_ACTOR_CHARACTERS).collect())
}

fn kept(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The database has no zero character.
fn storable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(kept(&text)),
        Value::Array(items) => items.into_iter().map(storable).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (kept(&name), storable(value)))
            .collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_audit::kinds;
    use serde_json::json;

    use super::*;

    fn row(event: &Event) -> Row {
        Row::of("fleet", 7, event.line().as_bytes()).unwrap()
    }

    #[test]
    fn who_did_it_is_a_name_or_a_commitment() {
        let event = |by: Value| Event::new(1, kinds::POLICY_APPLIED, "n1").with("by", by);
        assert_eq!(row(&event(json!("tess"))).actor.unwrap(), "tess");
        let withheld = row(&event(json!({ "commitment": "00ff" })));
        assert_eq!(withheld.actor.unwrap(), "commitment:00ff");
        assert_eq!(row(&event(json!(3))).actor, None);
        let known = event(json!({ "commitment": "00ff" })).with("principal", "a local user");
        assert_eq!(row(&known).actor.unwrap(), "a local user");
        let long = row(&event(json!("ä".repeat(1000)))).actor.unwrap();
        assert_eq!(long, "ä".repeat(INDEX_ACTOR_CHARACTERS));
    }

    #[test]
    fn what_a_database_cannot_keep_is_marked_and_the_hash_is_the_entrys_own() {
        let event =
            Event::new(1, kinds::POLICY_APPLIED, "n1").with("note", json!({ "a\0": ["b\0"] }));
        let row = row(&event);
        assert_eq!(row.event["note"], json!({ "a\u{fffd}": ["b\u{fffd}"] }));
        assert_eq!(row.leaf_hash, Hash::of_leaf(event.line().as_bytes()));
        assert_eq!(Row::of("fleet", 7, b"no event"), None);
    }
}

//! One thing that happened, and its one line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{canonical, moment};

/// An audit event: a few facts that every event has, and fields.
///
/// `parse(line(event))` is the event again unless something in it was oversize, and `line(parse(line))` is always the line again.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When it happened, Unix milliseconds. Years outside 0000 to 9999 are written as the nearest end.
    pub at_ms: i64,
    /// What happened: one of [`crate::kinds`].
    pub kind: Cow<'static, str>,
    /// The reference that a client was told (`PC-…`), if it concerns an attempt.
    pub reference: Option<String>,
    /// The node that saw it.
    pub node: String,
    /// The policy's revision that held.
    pub revision: Option<u64>,
    /// The tenant it concerns.
    pub tenant: Option<String>,
    fields: BTreeMap<String, Value>,
}

impl Event {
    /// An event with nothing but its kind, node and moment (Unix milliseconds).
    pub fn new(at_ms: i64, kind: &'static str, node: impl Into<String>) -> Self {
        Self {
            at_ms,
            kind: Cow::Borrowed(kind),
            reference: None,
            node: node.into(),
            revision: None,
            tenant: None,
            fields: BTreeMap::new(),
        }
    }

    /// Adds a field, or replaces it.
    ///
    /// Any text may be a value, whoever sent it. A name that an event has already for itself (`at`, `kind`, `node`, `reference`,
    /// `revision`, `tenant`) or that begins with `field_` gets the prefix `field_`. Fractions are kept as text, because they do not
    /// survive every reader.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let name = match HEAD.contains(&name) || name.starts_with(PREFIX) {
            true => format!("{PREFIX}{name}"),
            false => name.to_owned(),
        };
        self.fields.insert(name, without_fractions(value.into()));
        self
    }

    /// The value of a field, by the name it was added with.
    pub fn field(&self, name: &str) -> Option<&Value> {
        if HEAD.contains(&name) || name.starts_with(PREFIX) {
            return self.fields.get(&format!("{PREFIX}{name}"));
        }
        self.fields.get(name)
    }

    /// Every field as it is written, sorted by name.
    pub fn fields(&self) -> &BTreeMap<String, Value> {
        &self.fields
    }

    /// The event's one line: canonical JSON, without the newline that ends it, never longer than [`MAX_EVENT_BYTES`].
    ///
    /// A field longer than [`MAX_FIELD_BYTES`] is replaced by `{"oversize": LENGTH, "sha256": HEX}` (of the text itself for a text, of its
    /// JSON otherwise), so that what was left out can be told and compared. If the line is still too long, the longest fields follow, and
    /// if names alone are too long, all fields become one such mark under `field_oversize`. Nothing is left out unsaid.
    pub fn line(&self) -> String {
        let mut fields = self.fields.clone();
        let mut sizes: Vec<(usize, String)> = Vec::with_capacity(fields.len());
        for (name, value) in &mut fields {
            let mut size = json_of(value).len();
            if size > MAX_FIELD_BYTES {
                *value = mark(value);
                size = json_of(value).len();
            }
            sizes.push((size, name.clone()));
        }
        sizes.sort_unstable();
        let mut line = self.line_with(&fields);
        while line.len() > MAX_EVENT_BYTES {
            match sizes.pop() {
                Some((size, longest)) if size > MARK_BYTES => {
                    if let Some(value) = fields.get_mut(&longest) {
                        *value = mark(value);
                    }
                }
                _ => {
                    let all = Value::Object(self.fields.clone().into_iter().collect());
                    let only = (format!("{PREFIX}oversize"), mark(&all));
                    return self.line_with(&BTreeMap::from([only]));
                }
            }
            line = self.line_with(&fields);
        }
        line
    }

    /// Reads a line as [`Event::line`] writes it (a newline at its end is allowed).
    ///
    /// # Errors
    /// [`NotAnEvent`]; also for JSON that says the same in other words: an event has one spelling, and another was not written by us.
    pub fn parse(line: &str) -> Result<Self, NotAnEvent> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        if line.len() > MAX_EVENT_BYTES {
            return Err(NotAnEvent::TooLong);
        }
        let mut members: Map<String, Value> =
            serde_json::from_str(line).map_err(|_| NotAnEvent::NotJson)?;
        let mut text = |name: &'static str| match members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(NotAnEvent::Head(name)),
        };
        let at = text("at")?.ok_or(NotAnEvent::Head("at"))?;
        let event = Self {
            at_ms: moment::from_text(&at).ok_or(NotAnEvent::Head("at"))?,
            kind: Cow::Owned(text("kind")?.ok_or(NotAnEvent::Head("kind"))?),
            reference: text("reference")?,
            node: text("node")?.ok_or(NotAnEvent::Head("node"))?,
            tenant: text("tenant")?,
            revision: match members.remove("revision") {
                None => None,
                Some(revision) => Some(revision.as_u64().ok_or(NotAnEvent::Head("revision"))?),
            },
            fields: members.into_iter().collect(),
        };
        match event.line() == line {
            true => Ok(event),
            false => Err(NotAnEvent::OtherSpelling),
        }
    }

    fn line_with(&self, fields: &BTreeMap<String, Value>) -> String {
        let mut members: BTreeMap<&String, &Value> = fields.iter().collect();
        let head = self.head();
        members.extend(head.iter().map(|(name, value)| (name, value)));
        let mut line = String::new();
        canonical::write_members(members.into_iter(), &mut line);
        line
    }

    fn head(&self) -> Vec<(String, Value)> {
        let mut head = vec![
            ("at".to_owned(), json!(moment::to_text(self.at_ms))),
            ("kind".to_owned(), short(&self.kind)),
            ("node".to_owned(), short(&self.node)),
        ];
        for (name, text) in [("reference", &self.reference), ("tenant", &self.tenant)] {
            head.extend(text.as_ref().map(|text| (name.to_owned(), short(text))));
        }
        head.extend(
            self.revision
                .map(|revision| ("revision".to_owned(), json!(revision))),
        );
        head
    }
}

/// Bytes of a line, its newline not counted.
pub const MAX_EVENT_BYTES: usize = 60 * 1024;

/// Bytes of one field's JSON.
pub const MAX_FIELD_BYTES: usize = 16 * 1024;

/// Bytes of the kind, the node, the reference and the tenant, each; ids are shorter by far.
pub const MAX_HEAD_BYTES: usize = 256;

const HEAD: [&str; 6] = ["at", "kind", "node", "reference", "revision", "tenant"];

/// Set before a field's name that would be mistaken for something else.
const PREFIX: &str = "field_";

/// No mark is longer: `{"oversize":18446744073709551615,"sha256":"…64…"}`.
const MARK_BYTES: usize = 110;

fn json_of(value: &Value) -> String {
    let mut json = String::new();
    canonical::write(value, &mut json);
    json
}

fn mark(value: &Value) -> Value {
    if let Value::String(text) = value {
        mark_of(text)
    } else {
        mark_of(&json_of(value))
    }
}

fn mark_of(text: &str) -> Value {
    json!({ "oversize": text.len(), "sha256": sha256_hex(text) })
}

/// A text of the head stays a text, so that every reader finds the type it expects.
fn short(text: &str) -> Value {
    if text.len() <= MAX_HEAD_BYTES {
        return json!(text);
    }
    json!(format!("oversize:{}:{}", text.len(), sha256_hex(text)))
}

/// The SHA-256 of a text, in hex: as marks of what was left out name it.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

fn without_fractions(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::String(number.to_string()),
        Value::Array(members) => members.into_iter().map(without_fractions).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, without_fractions(value)))
            .collect(),
        whole @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => whole,
    }
}

/// A line is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAnEvent {
    /// Longer than [`MAX_EVENT_BYTES`].
    TooLong,
    /// Not a JSON object.
    NotJson,
    /// A fact that every event has is missing or of the wrong type; its name.
    Head(&'static str),
    /// The same could be said in the canonical spelling, and is not: the line was edited, or is another program's.
    OtherSpelling,
}

impl fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {MAX_EVENT_BYTES} bytes"),
            Self::NotJson => f.write_str("not a JSON object"),
            Self::Head(name) => write!(f, "`{name}` is missing or of the wrong type"),
            Self::OtherSpelling => f.write_str("not in the spelling of an audit event"),
        }
    }
}

impl std::error::Error for NotAnEvent {}

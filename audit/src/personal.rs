//! What an event says about a person, kept apart from the logs that nobody can change.
//!
//! In a leaf of a log such a field is a commitment, `{"commitment": HEX}`. Its opening, which says the value and the salt, is kept beside
//! the log. Whoever has it can check that the log meant this value; once it is erased, the commitment says nothing to anybody, and the log's
//! tree is what it was.
//!
//! The commitment is the SHA-256 of [`DOMAIN`], the field's salt and the value's canonical JSON. A field's salt is half a SHA-256 over
//! its entry's and its place, so that one opening gives away no other field.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Event, canonical, moment};

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;

/// What is hashed before a field's salt.
pub const DOMAIN: &[u8] = b"portcullis commitment v1\0";

/// What is hashed before an entry's salt.
const FIELD_DOMAIN: &[u8] = b"portcullis field salt v1\0";

/// Bytes of an opening's line, its newline not counted; a longer one is none of ours.
pub const MAX_OPENING_BYTES: usize = crate::MAX_EVENT_BYTES;

/// The member under which a commitment stands in place of a value.
const COMMITMENT: &str = "commitment";

/// Random bytes that nobody outside the fleet knows. Shown to nobody by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; SALT_BYTES]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

impl Salt {
    /// The salt of one field of the entry with this index of the log of that name.
    fn of_field(&self, log: &str, index: u64, field: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(FIELD_DOMAIN);
        hash.update(self.0);
        hash.update(log.as_bytes());
        hash.update([0]);
        hash.update(index.to_be_bytes());
        hash.update(field.as_bytes());
        // Half of it: no longer message's hash comes of that.
        let mut salt = [0; SALT_BYTES];
        for (byte, from) in salt.iter_mut().zip(hash.finalize()) {
            *byte = from;
        }
        Self(salt)
    }

    /// The commitment to a value, in hex.
    fn commit(&self, value: &Value) -> String {
        let mut text = String::new();
        canonical::write(value, &mut text);
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.0);
        hash.update(text.as_bytes());
        hex(&hash.finalize())
    }
}

/// What opens one commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The entry's index in its log.
    pub index: u64,
    /// The field.
    pub field: String,
    /// When the event happened, Unix milliseconds: openings are kept for a time.
    pub at_ms: i64,
    /// The field's salt.
    pub salt: Salt,
    /// What the field says.
    pub value: Value,
}

impl Opening {
    /// Its one line: canonical JSON, without a newline.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::new();
        let members = json!({
            "at": moment::to_text(self.at_ms),
            "field": self.field,
            "index": self.index,
            "salt": hex(&self.salt.0),
            "value": self.value,
        });
        canonical::write(&members, &mut line);
        line
    }

    /// Reads a line as [`Opening::line`] writes it; nothing if it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let members: Value = (line.len() <= MAX_OPENING_BYTES)
            .then(|| serde_json::from_str(line).ok())
            .flatten()?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let opening = Self {
            index: members.get("index")?.as_u64()?,
            field: text("field")?.to_owned(),
            at_ms: moment::from_text(text("at")?)?,
            salt: Salt(unhex(text("salt")?)?),
            value: members.get("value")?.clone(),
        };
        (opening.line() == line).then_some(opening)
    }

    /// Whether this is what the event committed to.
    #[must_use]
    pub fn opens(&self, event: &Event) -> bool {
        let committed = event.field(&self.field).and_then(commitment);
        committed.is_some_and(|it| it == self.salt.commit(&self.value))
    }
}

/// What a field's value commits to, in hex, if it is a commitment.
#[must_use]
pub fn commitment(value: &Value) -> Option<&str> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    let text = members.get(COMMITMENT)?.as_str()?;
    unhex::<32>(text).map(|_| text)
}

/// A field's value as text for people: a text as it is, and a commitment by its first digits.
#[must_use]
pub fn shown(value: &Value) -> String {
    match (value, commitment(value)) {
        (_, Some(committed)) => {
            let first: String = committed.chars().take(SHOWN_DIGITS).collect();
            format!("{COMMITMENT}:{first}")
        }
        (Value::String(text), None) => text.clone(),
        (other, None) => other.to_string(),
    }
}

const SHOWN_DIGITS: usize = 12;

impl Event {
    /// Puts commitments in the place of these fields, where the event has them as a text or a number, for the entry with this index of
    /// the log of that name. What opens them.
    pub fn conceal(&mut self, fields: &[&str], salt: &Salt, log: &str, index: u64) -> Vec<Opening> {
        let mut openings = Vec::new();
        for field in fields {
            let value = match self.field(field) {
                Some(value @ (Value::String(_) | Value::Number(_))) => value.clone(),
                _ => continue,
            };
            let salt = salt.of_field(log, index, field);
            let concealed = json!({ COMMITMENT: salt.commit(&value) });
            *self = self.clone().with(field, concealed);
            openings.push(Opening {
                index,
                field: (*field).to_owned(),
                at_ms: self.at_ms,
                salt,
                value,
            });
        }
        openings
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = |it: &u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.as_bytes().iter().all(lower) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

//! What an entry of a tenant's log seems to say about an endpoint, without reading it as JSON: every entry comes by here.

use memchr::memmem;
use portcullis_audit::moment;
use portcullis_audit::tlog::Hash;
use serde_json::Value;

use super::past::{Then, opens, said_of};

/// An entry about policy, by what it takes to find it again.
pub(super) struct Known {
    pub(super) index: u64,
    pub(super) at_ms: i64,
    pub(super) hash: Hash,
    pub(super) seems: Seems,
}

/// What an entry looks as if it did. It is read again to be sure that it did; that it did not is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seems {
    /// Nothing to who can reach the endpoint.
    Elsewhere,
    /// Something to that.
    About,
    /// It let the address in, too.
    Opens,
}

/// What a line begins with, before its moment: events are written in the order of their members' names.
const BEGINS: &[u8] = b"{\"at\":\"";
/// `2027-01-15T08:00:00.000Z`.
const MOMENT: usize = 24;
const APPLIED: &[u8] = b"\"kind\":\"policy.applied\"";
const DOCUMENT: &[u8] = b"\"kind\":\"policy.document\"";
/// What comes before the differences, after the document. A quotation mark inside a text has a backslash: this stands in no text.
const DIFFERENCES: &[u8] = b",\"endpoints\":";

impl Known {
    /// Cheap, because every entry of a log comes by; whether it is what it seems is seen when it is read again.
    pub(super) fn of(index: u64, hash: Hash, line: &[u8], then: &Then) -> Option<Self> {
        let has = |wanted| last_place(line, wanted).is_some();
        let applied = has(APPLIED);
        (applied || has(DOCUMENT)).then_some(())?;
        let at = line.strip_prefix(BEGINS)?.get(..MOMENT)?;
        Some(Self {
            index,
            at_ms: moment::from_text(std::str::from_utf8(at).ok()?)?,
            hash,
            seems: match applied {
                true => Seems::at_first_sight(line, then),
                false => Seems::Elsewhere,
            },
        })
    }
}

impl Seems {
    /// By the differences alone. Where they are not to be seen, it may have done everything.
    fn at_first_sight(line: &[u8], then: &Then) -> Self {
        let place = last_place(line, DIFFERENCES);
        let differences = place.and_then(|place| line.get(place + DIFFERENCES.len()..));
        let Some(differences) = differences.filter(|it| it.starts_with(b"[")) else {
            return Self::Opens;
        };
        let endpoint = format!("\"endpoint\":\"{}\"", then.endpoint);
        if last_place(differences, endpoint.as_bytes()).is_none() {
            return Self::Elsewhere;
        }
        let Some(from) = &then.from else {
            return Self::About;
        };
        let mut read = serde_json::Deserializer::from_slice(differences).into_iter::<Vec<Value>>();
        let Some(Ok(all)) = read.next() else {
            return Self::Opens;
        };
        match said_of(&all, &then.endpoint) {
            Some(said) if !opens(said, from) => Self::About,
            _ => Self::Opens,
        }
    }
}

/// Where this stands for the last time. What is looked for stands near the end: after the document, which is most of a line.
fn last_place(line: &[u8], wanted: &[u8]) -> Option<usize> {
    memmem::rfind(line, wanted)
}

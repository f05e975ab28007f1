//! What one record takes of the node's events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use portcullis_audit::{Event, kinds};
use portcullis_policy::limits::{MAX_RECORD_BYTES, MAX_RECORDED};
use serde::Deserialize;
use serde_json::json;

use super::batches::Batch;
use crate::ledger::limits::{
    ANCHOR_BYTES, ANCHOR_KIND_BYTES, GAP_BYTES, GAP_CAUSES, GAP_KINDS, RECORDED_OF_A_KIND,
    RecordLimits,
};

/// Kinds that come with every connection, and are anchored in batches.
const OF_CONNECTIONS: [&str; 8] = [
    kinds::AUTHENTICATION_FAILED,
    kinds::BACKEND_ENDED,
    kinds::CANCEL_DENIED,
    kinds::CANCEL_FORWARDED,
    kinds::CONNECTION_CLOSED,
    kinds::CONNECTION_DENIED,
    kinds::CONNECTION_LAPSED,
    kinds::CONNECTION_PERMITTED,
];

/// Kinds that are never anchored: what somebody who may see evidence did, and what a log must say for itself. Who does much of it waits.
const ONE_BY_ONE: [&str; 6] = [
    kinds::EVIDENCE_READ,
    kinds::LOG_CONTRADICTED,
    kinds::LOG_PRUNED,
    kinds::NODE_STARTED,
    kinds::NODE_STOPPED,
    kinds::OPENINGS_ERASED,
];

/// What all nodes together make by themselves.
pub(super) type Own = fn(&str) -> bool;

/// The facts of a line by which it is sorted.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Option<Cow<'a, str>>,
}

/// Events that are not recorded, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps(BTreeMap<&'static str, Gap>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Gap {
    kinds: BTreeMap<String, u64>,
    events: u64,
}

impl Gaps {
    /// Something is missing of which nobody knows how much.
    pub(super) fn note(&mut self, cause: &'static str) {
        self.0.entry(cause).or_default();
    }

    pub(super) fn count(&mut self, cause: &'static str, kind: &str) {
        let gap = self.0.entry(cause).or_default();
        let full = gap.kinds.len() >= GAP_KINDS && !gap.kinds.contains_key(kind);
        let known = kinds::ALL.contains(&kind) && !full;
        let kind = if known { kind } else { "other" };
        let count = gap.kinds.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
        gap.events = gap.events.saturating_add(1);
    }

    pub(super) fn events(&self, node: &str, at_ms: i64) -> Vec<Event> {
        let gaps = self.0.iter().take(GAP_CAUSES);
        let event = |(cause, gap): (&&'static str, &Gap)| {
            let event = Event::new(at_ms, kinds::LOG_GAP, node).with("cause", *cause);
            match gap.events {
                0 => event,
                events => event.with("events", events).with("kinds", json!(gap.kinds)),
            }
        };
        gaps.map(event).collect()
    }
}

/// Whether a line found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Taken,
    /// Not in this record.
    Full,
}

/// A record in the making.
pub(super) struct Step<'a> {
    node: &'a str,
    own: Own,
    limits: RecordLimits,
    pub(super) singles: Vec<Vec<u8>>,
    of_kind: BTreeMap<String, usize>,
    pub(super) batches: BTreeMap<Option<String>, Batch>,
    batched: usize,
    pub(super) gaps: Gaps,
    /// What its events will need at most, in bytes.
    bytes: usize,
    /// It holds one that leaves no room for anything.
    closed: bool,
}

impl<'a> Step<'a> {
    pub(super) fn new(node: &'a str, own: Own, limits: RecordLimits) -> Self {
        Self {
            node,
            own,
            limits,
            singles: Vec::new(),
            of_kind: BTreeMap::new(),
            batches: BTreeMap::new(),
            batched: 0,
            gaps: Gaps::default(),
            bytes: GAP_BYTES * GAP_CAUSES,
            closed: false,
        }
    }

    /// Whether there is anything to record.
    pub(super) fn is_empty(&self) -> bool {
        self.singles.is_empty() && self.batches.is_empty() && self.gaps == Gaps::default()
    }

    /// Takes a line (without its newline), counts it, or leaves it for the next record.
    pub(super) fn take(&mut self, line: &[u8]) -> Room {
        if self.closed {
            return Room::Full;
        }
        let text = std::str::from_utf8(line).ok();
        let head = text.and_then(|text| serde_json::from_str::<Head<'_>>(text).ok());
        let (Some(text), Some(head)) = (text, head) else {
            self.gaps.count("unreadable", "");
            return Room::Taken;
        };
        if head.node != self.node {
            self.gaps.count("another_node", &head.kind);
            return Room::Taken;
        }
        if (self.own)(&head.kind) {
            return Room::Taken;
        }
        let same = self.of_kind.get(head.kind.as_ref()).copied();
        let same = same.unwrap_or_default();
        if same >= RECORDED_OF_A_KIND && ONE_BY_ONE.contains(&head.kind.as_ref()) {
            return Room::Full;
        }
        if OF_CONNECTIONS.contains(&head.kind.as_ref())
            || head.kind == kinds::PROTOCOL_VIOLATION
            || same >= RECORDED_OF_A_KIND
        {
            return self.anchor(text, &head);
        }
        // What an edited file holds is refused by everybody, with all that is in the same record.
        if Event::parse(text).is_err() {
            self.gaps.count("unreadable", &head.kind);
            return Room::Taken;
        }
        if !self.fits(text.len(), 1) {
            return Room::Full;
        }
        self.of_kind.insert(head.kind.into_owned(), same + 1);
        self.singles.push(line.to_vec());
        Room::Taken
    }

    fn anchor(&mut self, text: &str, head: &Head<'_>) -> Room {
        let tenant = head.tenant.as_deref().map(str::to_owned);
        let batch = self.batches.get(&tenant);
        let known = batch.is_some_and(|it| it.kinds.contains_key(head.kind.as_ref()));
        let name = tenant.as_deref().map_or(0, str::len);
        let kind = match known {
            true => 0,
            false => ANCHOR_KIND_BYTES + head.kind.len(),
        };
        let (anchor, more) = match batch {
            Some(_) => (0, 0),
            None => (ANCHOR_BYTES + name, 1),
        };
        if self.batched >= self.limits.batch_events || !self.fits(kind + anchor, more) {
            return Room::Full;
        }
        self.batched += 1;
        let batch = self.batches.entry(tenant).or_default();
        batch.push(text, &head.kind, &head.at);
        Room::Taken
    }

    /// Makes room for so many bytes and events, if there is.
    fn fits(&mut self, bytes: usize, events: usize) -> bool {
        let after = self.bytes.saturating_add(bytes);
        let count = self.singles.len() + self.batches.len() + GAP_CAUSES + events;
        // A large one is recorded by itself.
        let large = after > MAX_RECORD_BYTES;
        if (large && !(self.is_empty() && bytes <= MAX_RECORD_BYTES)) || count > MAX_RECORDED {
            return false;
        }
        self.closed = large;
        self.bytes = after;
        true
    }
}

//! The one thread that writes: takes what waits, writes it with one call, syncs when somebody
//! waits for that or when it is time.

use std::collections::BTreeMap;
use std::io;

use portcullis_audit::{Event, kinds};
use serde_json::json;

use super::files::{Files, Torn};
use super::limits::SYNC_EVERY;
use super::queue::{Batch, Queue};
use crate::runtime::clock::{self, Instant};

/// Writes until the queue is closed and empty.
pub(super) fn run(node: &str, queue: &Queue, files: &Files) {
    let mut unfinished = Unfinished::Nothing;
    loop {
        let now = clock::instant();
        let patience = match unfinished {
            Unfinished::Nothing => None,
            Unfinished::Sync { due } => Some(due.saturating_duration_since(now)),
            Unfinished::Shed => Some(SYNC_EVERY),
        };
        let batch = queue.take(patience);
        let last = batch.last;
        unfinished = write(node, queue, files, batch, unfinished);
        if last {
            return;
        }
    }
}

/// What the writer must come back for even if no event wakes it.
#[derive(Clone, Copy)]
enum Unfinished {
    Nothing,
    /// What was written is not synced, and has to be by then.
    Sync {
        due: Instant,
    },
    Shed,
}

fn write(node: &str, queue: &Queue, files: &Files, batch: Batch, before: Unfinished) -> Unfinished {
    let now = clock::instant();
    let due = match before {
        Unfinished::Sync { due } => due,
        Unfinished::Nothing | Unfinished::Shed => now + SYNC_EVERY,
    };
    let mut lines = String::new();
    for waiting in &batch.events {
        lines.push_str(&waiting.event.line());
        lines.push('\n');
    }
    if !batch.shed.is_empty() {
        lines.push_str(&shed_event(node, &batch.shed).line());
        lines.push('\n');
    }
    if lines.is_empty() && !batch.last && !batch.readers.is_empty() {
        // Nobody recorded anything; somebody only wants to read.
        return Unfinished::Sync { due };
    }
    let must_sync = batch.last
        || lines.is_empty()
        || now >= due
        || batch.events.iter().any(|waiting| waiting.done.is_some());
    let written = files
        .append(lines.as_bytes())
        .and_then(|()| if must_sync { files.sync() } else { Ok(()) });
    let unfinished = match &written {
        Ok(()) if must_sync => Unfinished::Nothing,
        Ok(()) => Unfinished::Sync { due },
        Err(error) => {
            tracing::error!(%error, events = batch.events.len(), "audit events could not be written; they are counted");
            queue.count_shed(lost(&batch));
            Unfinished::Shed
        }
    };
    for done in batch.events.into_iter().filter_map(|waiting| waiting.done) {
        let answer = match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // Whoever waited may have gone; the event is written all the same.
        drop(done.send(answer));
    }
    unfinished
}

/// What a failed batch leaves to be told later. A durable event's caller is told by the error.
fn lost(batch: &Batch) -> BTreeMap<String, u64> {
    let mut lost = batch.shed.clone();
    for waiting in &batch.events {
        let count = lost
            .entry(waiting.event.kind.clone().into_owned())
            .or_default();
        *count = count.saturating_add(1);
    }
    lost
}

fn shed_event(node: &str, shed: &BTreeMap<String, u64>) -> Event {
    let total = shed
        .values()
        .fold(0_u64, |total, count| total.saturating_add(*count));
    Event::new(clock::now().as_millis(), kinds::LIMIT_SHED, node)
        .with("limit", "audit_queue")
        .with("shed", json!(shed))
        .with("total", total)
}

/// Says that a crash left half a line, and where its bytes are now.
pub(super) fn torn_event(node: &str, torn: &Torn) -> Event {
    Event::new(clock::now().as_millis(), kinds::LEDGER_TORN, node)
        .with("bytes", torn.bytes)
        .with("kept_in", torn.kept_in)
}

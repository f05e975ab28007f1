//! The evidence of policy changes: made, refused, or with an outcome that is not known here.

use portcullis_audit::{Event, kinds};
use serde_json::json;

use super::fleet::UNKNOWN_OUTCOME;
use super::policy::{Decided, NOT_IN_FORCE_HERE};
use super::types::Difference;
use super::{Node, Refusal, describe};
use crate::config::FileError;
use crate::fleet::Made;
use crate::runtime::clock;

/// A policy change took effect, or is known to have.
pub(super) fn applied_event(node: &Node, author: &str, decided: &Decided) -> Event {
    let Difference {
        added,
        altered,
        removed,
        ..
    } = &decided.difference;
    let mut event = Event::new(decided.at.as_millis(), decided.kind, &*node.name)
        .with("by", author)
        .with("added", json!(added))
        .with("altered", json!(altered))
        .with("removed", json!(removed));
    event.revision = Some(decided.revision.get());
    if let Some(note) = &decided.note {
        event = event.with("note", note.as_str());
    }
    if decided.made == Made::Before {
        event = event.with("repeated", true);
    }
    let Some(step) = &decided.step else {
        return event;
    };
    event = event.with(
        "reachability",
        describe::difference_for_event(&step.applied),
    );
    if let [only] = step.applied.tenants.as_slice() {
        event.tenant = Some(only.to_string());
    }
    event
}

/// A policy change was refused, or what became of it is not known here.
pub(super) async fn record_refusal(node: &Node, author: &str, refusal: &Refusal) {
    let body = refusal.body();
    let (kind, outcome) = match body.code.as_str() {
        NOT_IN_FORCE_HERE | UNKNOWN_OUTCOME => (kinds::POLICY_UNCONFIRMED, "unconfirmed"),
        _ => (kinds::POLICY_REJECTED, "rejected"),
    };
    metrics::counter!("portcullis_policy_applies_total", "outcome" => outcome).increment(1);
    tracing::warn!(
        author,
        code = body.code,
        "policy {outcome}: {}",
        body.message
    );
    // Where they are, and not what stands there: it may be a secret in the wrong place. Whoever applied it was told all.
    let mistakes = body.files.iter().take(MAX_EVENT_MISTAKES);
    let mistakes: Vec<String> = mistakes.map(FileError::place).collect();
    let mut event = Event::new(clock::now().as_millis(), kind, &*node.name)
        .with("by", author)
        .with("code", body.code.as_str())
        .with("story", body.message.as_str())
        .with("mistakes", json!(mistakes))
        .with("mistakes_in_all", body.files.len());
    event.revision = Some(node.fleet.view().revision().get());
    if let Err(error) = node.ledger.record_durable(event).await {
        tracing::error!(%error, "the audit event of a refused policy could not be made durable");
    }
}

/// Mistakes that the event of a refused apply carries; the rest is counted.
const MAX_EVENT_MISTAKES: usize = 16;

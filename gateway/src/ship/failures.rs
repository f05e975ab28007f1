//! What is told of a sink: how far behind it is, what it lacks, and that it cannot be reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Event, kinds};
use serde_json::json;

use super::limits::{
    SHIP_FIRST_PAUSE, SHIP_LONGEST_PAUSE, SHIP_REJECTED_EVERY, SHIP_RETRY_AFTER, SHIP_STALLED_AFTER,
};
use super::{Failed, Item, Taken};
use crate::ledger::Ledger;
use crate::runtime::clock::{self, Instant};

/// Of one sink.
pub(super) struct Failures {
    sink: &'static str,
    ledger: Arc<Ledger>,
    /// Failures in a row.
    count: u32,
    /// Looks in a row at which a log could not be read.
    unreadable: u32,
    /// What no event has told of yet, and when one last did.
    rejected: Rejected,
    told: Option<Instant>,
}

/// Entries that the receiver would not have.
#[derive(Default)]
struct Rejected {
    count: u64,
    /// They are among these of each log: the first and the last.
    among: BTreeMap<String, (u64, u64)>,
    why: String,
}

impl Failures {
    pub(super) fn new(sink: &'static str, ledger: Arc<Ledger>) -> Self {
        // Shown before the first failure, so that a rule can be written over them.
        metrics::counter!("portcullis_audit_ship_failures_total", "sink" => sink).absolute(0);
        metrics::counter!("portcullis_audit_ship_rejected_total", "sink" => sink).absolute(0);
        metrics::counter!("portcullis_audit_ship_gaps_total", "sink" => sink).absolute(0);
        Self {
            sink,
            ledger,
            count: 0,
            unreadable: 0,
            rejected: Rejected::default(),
            told: None,
        }
    }

    /// How many entries it lacks.
    pub(super) fn lag(&self, entries: u64) {
        #[allow(clippy::cast_precision_loss)]
        metrics::gauge!("portcullis_audit_ship_lag_entries", "sink" => self.sink)
            .set(entries as f64);
    }

    /// It was sent these: gaps among them, and what it rejects, are events.
    pub(super) fn told(&mut self, items: &[Item], taken: Taken) {
        let entries = items.iter().filter(|item| !item.is_gap()).count();
        metrics::counter!("portcullis_audit_ship_entries_total", "sink" => self.sink)
            .increment(u64::try_from(entries).unwrap_or_default());
        for gap in items.iter().filter(|item| item.is_gap()) {
            metrics::counter!("portcullis_audit_ship_gaps_total", "sink" => self.sink).increment(1);
            self.ledger.record(gap.event.clone());
        }
        if let Some((rejected, why)) = taken.rejected {
            metrics::counter!("portcullis_audit_ship_rejected_total", "sink" => self.sink)
                .increment(rejected);
            tracing::error!(
                sink = self.sink,
                rejected,
                why,
                "a receiver rejected entries of the audit logs; they are not sent again"
            );
            self.rejected.count = self.rejected.count.saturating_add(rejected);
            self.rejected.why = why;
            for item in items {
                let among = self.rejected.among.entry(item.log.clone());
                let range = among.or_insert((item.first, item.last));
                *range = (range.0.min(item.first), range.1.max(item.last));
            }
            self.tell_in_time();
        }
    }

    /// Tells of what was rejected, once a minute: each such event is an entry, which may be rejected in its turn.
    pub(super) fn tell_in_time(&mut self) {
        let now = clock::instant();
        let soon = |told: Instant| now.duration_since(told) < SHIP_REJECTED_EVERY;
        if self.rejected.count > 0 && !self.told.is_some_and(soon) {
            self.tell();
            self.told = Some(now);
        }
    }

    fn tell(&mut self) {
        let Rejected { count, among, why } = std::mem::take(&mut self.rejected);
        let event = self.event(kinds::SHIP_GAP).with("rejected", count);
        let event = event.with("among", json!(among)).with("why", why);
        self.ledger.record(event);
    }

    /// Takes a failure down; how long to wait then.
    pub(super) fn one(&mut self, why: &Failed) -> Duration {
        self.count = self.count.saturating_add(1);
        metrics::counter!("portcullis_audit_ship_failures_total", "sink" => self.sink).increment(1);
        if self.count == SHIP_STALLED_AFTER {
            tracing::warn!(sink = self.sink, %why, "entries of the audit logs cannot be shipped");
            let event = self.event(kinds::SHIP_STALLED);
            self.ledger.record(event.with("why", why.to_string()));
        }
        let doubled = 2_u32.saturating_pow(self.count.saturating_sub(1).min(16));
        let pause = SHIP_FIRST_PAUSE
            .saturating_mul(doubled)
            .min(SHIP_LONGEST_PAUSE);
        pause.max(why.after.unwrap_or_default().min(SHIP_RETRY_AFTER))
    }

    /// Takes down that a log cannot be read, or that all can be. The others are shipped all the same.
    pub(super) fn unreadable(&mut self, problem: Option<&str>) {
        let told = self.unreadable >= SHIP_STALLED_AFTER;
        let Some(why) = problem else {
            self.unreadable = 0;
            if told {
                tracing::info!(sink = self.sink, "all audit logs can be read again");
                self.ledger.record(self.event(kinds::SHIP_RESUMED));
            }
            return;
        };
        self.unreadable = self.unreadable.saturating_add(1);
        if !told && self.unreadable >= SHIP_STALLED_AFTER {
            tracing::warn!(sink = self.sink, %why, "an audit log cannot be read, and is not shipped");
            let event = self.event(kinds::SHIP_STALLED);
            self.ledger.record(event.with("why", why));
        }
    }

    /// It went well.
    pub(super) fn over(&mut self) {
        if self.count >= SHIP_STALLED_AFTER {
            tracing::info!(
                sink = self.sink,
                "entries of the audit logs are shipped again"
            );
            self.ledger.record(self.event(kinds::SHIP_RESUMED));
        }
        self.count = 0;
    }

    fn event(&self, kind: &'static str) -> Event {
        let now = clock::now().as_millis();
        Event::new(now, kind, self.ledger.node()).with("sink", self.sink)
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        if self.rejected.count > 0 {
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejected_entry_is_told_in_few_events() {
        let folder = std::env::temp_dir().join(format!("portcullis-told-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        let ledger = Arc::new(Ledger::open(&folder, "n1").unwrap());
        let mut failures = Failures::new("otlp", Arc::clone(&ledger));
        let item = |index| {
            let line = Event::new(0, kinds::NODE_STARTED, "n1").line();
            Item::entry("fleet", "here", index, line.as_bytes()).unwrap()
        };
        for index in 0..10 {
            let rejected = Some((1, "old".to_owned()));
            failures.told(&[item(index)], Taken { rejected });
        }
        failures.tell_in_time();
        drop(failures);
        ledger.flush_and_close();
        let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
        let told = text.lines().map(|line| {
            let event = Event::parse(line).unwrap();
            assert_eq!(event.kind, kinds::SHIP_GAP);
            let of = |name| event.field(name).unwrap().clone();
            (of("rejected"), of("among"))
        });
        let expected = [
            (json!(1), json!({"fleet": [0, 0]})),
            (json!(9), json!({"fleet": [1, 9]})),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

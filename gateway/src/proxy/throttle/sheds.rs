//! What is shed before it has a reference of its own, counted exactly and written down sparingly.
//!
//! A flood must not become a flood of events: each second, one event for each limit, door and
//! source block, at most [`SHED_EVENTS`] of them, and one more that counts the rest. The sum of
//! their counts is exact.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use portcullis_audit::Event;

use super::limit::Limit;
use super::source::Party;
use crate::runtime::limits::SHED_EVENTS;

/// How often each limit turned somebody away, and what of that is not written down yet.
#[derive(Default)]
pub(in crate::proxy) struct Sheds {
    totals: [AtomicU64; Limit::ALL.len()],
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    known: HashMap<(Limit, Party), Tally>,
    others: BTreeMap<Limit, Tally>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    count: u64,
    /// Of these, those that had a place and gave way to somebody else.
    displaced: u64,
}

/// How somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It never had a place.
    Refused,
    /// It had to give way.
    Displaced,
}

impl Sheds {
    /// Counts somebody who is told, and written down, apart.
    pub(in crate::proxy) fn count(&self, limit: Limit) {
        metrics::counter!("portcullis_shed_total", "limit" => limit.name()).increment(1);
        if let Some(total) = self.totals.get(limit as usize) {
            total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts somebody who leaves no other trace.
    pub(super) fn note(&self, limit: Limit, party: &Party, how: How) {
        self.count(limit);
        let mut waiting = self.waiting.lock();
        let room = waiting.known.len() < SHED_EVENTS;
        let key = (limit, party.clone());
        let tally = match waiting.known.contains_key(&key) || room {
            true => waiting.known.entry(key).or_default(),
            false => waiting.others.entry(limit).or_default(),
        };
        tally.count += 1;
        tally.displaced += u64::from(how == How::Displaced);
    }

    /// How often `limit` turned somebody away since the node started.
    pub(in crate::proxy) fn total(&self, limit: Limit) -> u64 {
        self.totals
            .get(limit as usize)
            .map_or(0, |total| total.load(Ordering::Relaxed))
    }

    /// The events about what was noted since the last time. `blank` makes one of the right kind.
    pub(in crate::proxy) fn take(&self, blank: impl Fn() -> Event) -> Vec<Event> {
        let Waiting { known, others } = std::mem::take(&mut *self.waiting.lock());
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        let each = known.into_iter().map(|((limit, party), tally)| {
            let event = tallied(blank(), tally)
                .with("code", limit.code())
                .with("limit", limit.name())
                .with("origin", party.door());
            match party.source() {
                Some(block) => event.with("source", block.to_string()),
                None => event,
            }
        });
        let mut events: Vec<Event> = each.collect();
        if !others.is_empty() {
            let all = others.values().fold(Tally::default(), |sum, tally| Tally {
                count: sum.count + tally.count,
                displaced: sum.displaced + tally.displaced,
            });
            let limits: BTreeMap<&str, u64> = others
                .iter()
                .map(|(limit, tally)| (limit.name(), tally.count))
                .collect();
            let event = tallied(blank(), all)
                .with("code", OTHERS)
                .with("limits", serde_json::json!(limits));
            events.push(event);
        }
        events
    }
}

/// The code of the event that counts what the others of its second do not name.
const OTHERS: &str = "other_sources";

fn tallied(event: Event, tally: Tally) -> Event {
    event
        .with("count", tally.count)
        .with("displaced", tally.displaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str) -> Party {
        Party::Arriving(name.into())
    }

    fn taken(sheds: &Sheds) -> Vec<Event> {
        sheds.take(|| Event::new(0, portcullis_audit::kinds::LIMIT_SHED, "gw1"))
    }

    fn counts(events: &[Event]) -> u64 {
        let count = |event: &Event| event.fields()["count"].as_u64().unwrap();
        events.iter().map(count).sum()
    }

    #[test]
    fn one_event_tells_how_often_one_source_met_one_limit() {
        let sheds = Sheds::default();
        for _ in 0..1000 {
            sheds.note(Limit::Unauthenticated, &party("a"), How::Refused);
        }
        sheds.note(Limit::Unauthenticated, &party("a"), How::Displaced);
        sheds.note(Limit::UnauthenticatedPerBlock, &party("a"), How::Refused);
        let events = taken(&sheds);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].fields()["count"], 1001);
        assert_eq!(events[0].fields()["displaced"], 1);
        assert_eq!(events[0].fields()["limit"], "unauthenticated");
        assert_eq!(sheds.total(Limit::Unauthenticated), 1001);
        assert_eq!(taken(&sheds).len(), 0, "told once");
    }

    #[test]
    fn only_so_many_events_are_written_and_none_is_left_uncounted() {
        let sheds = Sheds::default();
        for source in 0..SHED_EVENTS {
            sheds.note(
                Limit::Unauthenticated,
                &party(&source.to_string()),
                How::Refused,
            );
        }
        assert_eq!(taken(&sheds).len(), SHED_EVENTS, "as many as may be");
        for source in 0..10 * SHED_EVENTS {
            for limit in [Limit::Unauthenticated, Limit::UnauthenticatedPerAddress] {
                sheds.note(limit, &party(&source.to_string()), How::Refused);
            }
        }
        let events = taken(&sheds);
        assert_eq!(events.len(), SHED_EVENTS + 1, "and one for the rest");
        assert_eq!(counts(&events), 20 * SHED_EVENTS as u64);
        assert_eq!(events[SHED_EVENTS].fields()["code"], OTHERS);
    }
}

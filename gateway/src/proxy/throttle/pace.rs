//! The pace of new connections: so many a second for each tenant, and of these at most a part for
//! any one block of addresses, so that one runaway application cannot starve the others. Where a
//! few together have used up the whole, blocks that were quiet lately share as much again.

use std::collections::HashMap;

use parking_lot::Mutex;
use portcullis_policy::TenantId;

use super::bucket::Bucket;
use super::limit::Limit;
use super::source::Party;
use crate::runtime::clock::{Duration, Instant};
use crate::runtime::limits::{PACE_SOURCES, SOURCE_PACE_PART};

/// The measures of every tenant that had a new connection lately.
#[derive(Default)]
pub(super) struct Pace {
    tenants: Mutex<HashMap<TenantId, Tenant>>,
}

struct Tenant {
    whole: Measure,
    sources: HashMap<Party, Measure>,
    /// What those who were quiet lately share when the whole is used up.
    quiet: Measure,
    /// What the sources beyond the most that are measured apart share.
    others: Measure,
}

struct Measure {
    bucket: Bucket,
    used: Instant,
}

impl Pace {
    /// Whether `tenant` may have one more new connection from `party` now, at `per_second` with a
    /// burst of as many; or else which limit says no.
    pub(super) fn take(
        &self,
        tenant: &TenantId,
        party: &Party,
        per_second: u32,
        now: Instant,
    ) -> Result<(), Limit> {
        let whole = f64::from(per_second);
        let part = f64::from((per_second / SOURCE_PACE_PART).max(1));
        let mut tenants = self.tenants.lock();
        let measures = match tenants.get_mut(tenant) {
            Some(measures) => measures,
            None => tenants.entry(tenant.clone()).or_insert_with(|| Tenant {
                whole: Measure::full(whole, now),
                sources: HashMap::new(),
                quiet: Measure::full(part, now),
                others: Measure::full(part, now),
            }),
        };
        let known = measures.sources.get(party);
        let quiet = known.is_none_or(|source| source.idle(now));
        let crowded = measures.sources.len() >= PACE_SOURCES;
        let source = match measures.sources.get_mut(party) {
            Some(source) => source,
            None if crowded => &mut measures.others,
            None => measures
                .sources
                .entry(party.clone())
                .or_insert_with(|| Measure::full(part, now)),
        };
        // The source is asked first: what it is refused must not be taken from the others.
        if !source.take(part, now) {
            return Err(Limit::SourcePace);
        }
        if measures.whole.take(whole, now) || (quiet && measures.quiet.take(part, now)) {
            return Ok(());
        }
        Err(Limit::TenantPace)
    }

    /// Forgets who has not come for so long that its bucket would be full again.
    pub(super) fn forget_idle(&self, now: Instant) {
        self.tenants.lock().retain(|_, tenant| {
            tenant.sources.retain(|_, source| !source.idle(now));
            !tenant.sources.is_empty() || !tenant.whole.idle(now)
        });
    }

    /// The most sources of one tenant that are measured now.
    pub(super) fn sources(&self) -> usize {
        let tenants = self.tenants.lock();
        tenants
            .values()
            .map(|tenant| tenant.sources.len())
            .max()
            .unwrap_or_default()
    }
}

/// A bucket whose burst is what it gains in a second is full again after a second.
const REFILLED: Duration = Duration::from_secs(1);

impl Measure {
    fn full(burst: f64, now: Instant) -> Self {
        Self {
            bucket: Bucket::full(burst, now),
            used: now,
        }
    }

    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        self.used = now;
        self.bucket.take(per_second, per_second, now)
    }

    fn idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) > REFILLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::instant;

    fn party(name: &str) -> Party {
        Party::Arriving(name.into())
    }

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    #[test]
    fn one_source_has_half_of_its_tenants_pace_and_others_the_rest() {
        let (pace, now) = (Pace::default(), instant());
        let take = |name: &str| pace.take(&acme(), &party(name), 10, now);
        for _ in 0..5 {
            assert_eq!(take("runaway"), Ok(()));
        }
        for _ in 0..100 {
            assert_eq!(take("runaway"), Err(Limit::SourcePace));
        }
        for other in ["a", "b", "c", "d", "e"] {
            assert_eq!(take(other), Ok(()), "nothing was taken from {other}");
        }
        for quiet in ["f", "g", "h", "i", "j"] {
            assert_eq!(take(quiet), Ok(()), "{quiet} was quiet");
        }
        assert_eq!(take("k"), Err(Limit::TenantPace));
        assert_eq!(take("a"), Err(Limit::TenantPace), "not quiet any more");
        assert_eq!(
            pace.take(&"globex".parse().unwrap(), &party("runaway"), 10, now),
            Ok(())
        );
    }

    #[test]
    fn the_pace_is_the_named_number_and_refills() {
        let (pace, start) = (Pace::default(), instant());
        let take = |name: &str, after: u64| {
            let now = start + Duration::from_millis(after);
            pace.take(&acme(), &party(name), 2, now).is_ok()
        };
        assert!(take("a", 0) && take("b", 0) && take("quiet", 0));
        assert!(!take("c", 0));
        assert!(take("d", 500));
        assert!(!take("d", 500));
    }

    #[test]
    fn the_least_pace_lets_one_source_in() {
        let (pace, now) = (Pace::default(), instant());
        assert_eq!(pace.take(&acme(), &party("only"), 1, now), Ok(()));
        assert!(pace.take(&acme(), &party("only"), 1, now).is_err());
    }

    #[test]
    fn only_so_many_sources_are_measured_and_idle_ones_are_forgotten() {
        let (pace, start) = (Pace::default(), instant());
        let enough = u32::try_from(4 * PACE_SOURCES).unwrap();
        for source in 0..PACE_SOURCES {
            let source = party(&source.to_string());
            assert_eq!(pace.take(&acme(), &source, enough, start), Ok(()));
        }
        assert_eq!(pace.take(&acme(), &party("more"), enough, start), Ok(()));
        assert_eq!(pace.sources(), PACE_SOURCES);
        pace.forget_idle(start + REFILLED);
        assert_eq!(pace.sources(), PACE_SOURCES);
        pace.forget_idle(start + 2 * REFILLED);
        assert_eq!(pace.sources(), 0);
        assert!(pace.tenants.lock().is_empty());
    }
}

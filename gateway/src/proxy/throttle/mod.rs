//! What a node takes on at once, before it knows who is asking.

mod bucket;
pub(super) mod cancels;
pub(super) mod recent;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::{Address, TenantId};

use self::bucket::Bucket;
use crate::runtime::clock::Instant;
use crate::runtime::limits::{UNAUTHENTICATED_PER_SOURCE, UNAUTHENTICATED_TOTAL};

/// Counts of connections that are not authenticated yet, and the pace of new ones per tenant.
#[derive(Default)]
pub(super) struct Throttle {
    unauthenticated: Mutex<Unauthenticated>,
    pace: Mutex<HashMap<TenantId, Bucket>>,
}

#[derive(Default)]
struct Unauthenticated {
    total: usize,
    sources: HashMap<Source, usize>,
}

/// One IPv4 address or one IPv6 /64: what a single customer of an access network is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl From<Address> for Source {
    fn from(address: Address) -> Self {
        match address.ip() {
            IpAddr::V4(v4) => Self::V4(u32::from(v4)),
            IpAddr::V6(v6) => Self::V6(u64::try_from(u128::from(v6) >> 64).unwrap_or(u64::MAX)),
        }
    }
}

impl Throttle {
    /// Takes a place among the unauthenticated, or says which limit is full. The place is given
    /// back when the ticket is dropped. Without a source (behind a load balancer, whose address all
    /// clients share) the total alone holds.
    pub(super) fn enter(self: &Arc<Self>, source: Option<Address>) -> Result<Ticket, &'static str> {
        let source = source.map(Source::from);
        let mut counts = self.unauthenticated.lock();
        if counts.total >= UNAUTHENTICATED_TOTAL {
            return Err("unauthenticated_total");
        }
        if let Some(source) = source {
            let of_source = counts.sources.entry(source).or_default();
            if *of_source >= UNAUTHENTICATED_PER_SOURCE {
                return Err("unauthenticated_per_source");
            }
            *of_source += 1;
        }
        counts.total += 1;
        Ok(Ticket {
            throttle: Arc::clone(self),
            source,
        })
    }

    /// Whether `tenant` may have one more new connection now, at `per_second` with a burst of as
    /// many.
    pub(super) fn pace(&self, tenant: &TenantId, per_second: u32, now: Instant) -> bool {
        let mut buckets = self.pace.lock();
        let bucket = match buckets.get_mut(tenant) {
            Some(bucket) => bucket,
            None => buckets
                .entry(tenant.clone())
                .or_insert_with(|| Bucket::full(f64::from(per_second), now)),
        };
        bucket.take(f64::from(per_second), f64::from(per_second), now)
    }
}

/// A place among the unauthenticated.
pub(super) struct Ticket {
    throttle: Arc<Throttle>,
    source: Option<Source>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.throttle.unauthenticated.lock();
        counts.total = counts.total.saturating_sub(1);
        let Some(source) = self.source else { return };
        if let Some(of_source) = counts.sources.get_mut(&source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                counts.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::{Duration, instant};

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn one_source_is_capped_and_another_still_enters() {
        let throttle = Arc::new(Throttle::default());
        let tickets: Vec<_> = (0..UNAUTHENTICATED_PER_SOURCE)
            .map(|_| throttle.enter(Some(address("203.0.113.7"))).ok().unwrap())
            .collect();
        assert_eq!(
            throttle.enter(Some(address("203.0.113.7"))).err(),
            Some("unauthenticated_per_source")
        );
        assert!(throttle.enter(Some(address("203.0.113.8"))).is_ok());
        drop(tickets);
        assert!(throttle.enter(Some(address("203.0.113.7"))).is_ok());
        assert!(
            throttle.unauthenticated.lock().sources.is_empty(),
            "nothing is kept of those who left"
        );
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_source() {
        assert_eq!(
            Source::from(address("2001:db8::1")),
            Source::from(address("2001:db8::ffff:1"))
        );
        assert_ne!(
            Source::from(address("2001:db8::1")),
            Source::from(address("2001:db8:0:1::1"))
        );
    }

    #[test]
    fn the_pace_is_the_named_number_and_refills() {
        let throttle = Throttle::default();
        let tenant: TenantId = "acme".parse().unwrap();
        let start = instant();
        assert!(throttle.pace(&tenant, 2, start));
        assert!(throttle.pace(&tenant, 2, start));
        assert!(!throttle.pace(&tenant, 2, start));
        assert!(throttle.pace(&tenant, 2, start + Duration::from_millis(500)));
        assert!(!throttle.pace(&tenant, 2, start + Duration::from_millis(500)));
    }
}

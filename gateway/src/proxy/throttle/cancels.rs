//! Which cancel requests are looked at, by where they come from, and which are carried out at the
//! same time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::TenantId;

use super::bucket::Bucket;
use super::recent::Recent;
use crate::proxy::source::Source;
use crate::runtime::clock::{Duration, Instant};
use crate::runtime::limits::{
    CANCEL_BURST, CANCEL_SOURCES, CANCELS_AT_ONCE, CANCELS_PER_SECOND, CANCELS_PER_TENANT,
};

/// The cancel requests of one node.
pub(in crate::proxy) struct Cancels {
    sources: Mutex<Recent<Source, Pace>>,
    carried: Mutex<Carried>,
}

/// One source's pace, and what was denied of it since somebody last said so.
struct Pace {
    bucket: Bucket,
    touched: Instant,
    untold: u64,
    told: Option<Instant>,
}

/// What is being carried out, by connection and by tenant.
#[derive(Default)]
struct Carried {
    connections: HashSet<u64>,
    tenants: HashMap<TenantId, usize>,
}

/// Whether a source's request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Paced {
    /// It is.
    Granted,
    /// It is not, and so it went with this many since the last that was told.
    Denied { since_told: u64 },
    /// It is not, and that was told less than [`TELL_EVERY`] ago.
    DeniedUntold,
}

/// One source's denied requests are told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Cancels {
    /// Nothing is being carried out, nobody was seen.
    pub(in crate::proxy) fn new() -> Self {
        Self {
            sources: Mutex::new(Recent::of(CANCEL_SOURCES)),
            carried: Mutex::default(),
        }
    }

    /// Whether one more request of `source` is looked at now.
    pub(in crate::proxy) fn pace(&self, source: &Source, now: Instant) -> Paced {
        let mut sources = self.sources.lock();
        // A bucket that has had time to fill says no more than none.
        let filled = Duration::from_secs_f64(CANCEL_BURST / CANCELS_PER_SECOND);
        sources.forget_idle(|pace| now.saturating_duration_since(pace.touched) > filled);
        let pace = sources.touch(source, || Pace {
            bucket: Bucket::full(CANCEL_BURST, now),
            touched: now,
            untold: 0,
            told: None,
        });
        pace.touched = now;
        if pace.bucket.take(CANCELS_PER_SECOND, CANCEL_BURST, now) {
            return Paced::Granted;
        }
        pace.untold += 1;
        if pace
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY)
        {
            return Paced::DeniedUntold;
        }
        pace.told = Some(now);
        Paced::Denied {
            since_told: std::mem::take(&mut pace.untold),
        }
    }

    /// How many are being carried out now.
    pub(in crate::proxy) fn carried(&self) -> usize {
        self.carried.lock().connections.len()
    }

    /// A turn to cancel what the connection `serial` of `tenant` does, or the code of what is in
    /// the way.
    pub(in crate::proxy) fn carry(
        self: &Arc<Self>,
        tenant: &TenantId,
        serial: u64,
    ) -> Result<Turn, &'static str> {
        let mut carried = self.carried.lock();
        if carried.connections.contains(&serial) {
            return Err("already_cancelling");
        }
        if carried.connections.len() >= CANCELS_AT_ONCE {
            return Err("cancels_at_once");
        }
        let of_tenant = carried.tenants.entry(tenant.clone()).or_default();
        if *of_tenant >= CANCELS_PER_TENANT {
            return Err("cancels_per_tenant");
        }
        *of_tenant += 1;
        carried.connections.insert(serial);
        drop(carried);
        Ok(Turn {
            cancels: Arc::clone(self),
            tenant: tenant.clone(),
            serial,
        })
    }
}

/// A cancel request that is being carried out.
pub(in crate::proxy) struct Turn {
    cancels: Arc<Cancels>,
    tenant: TenantId,
    serial: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut carried = self.cancels.carried.lock();
        carried.connections.remove(&self.serial);
        if let Some(count) = carried.tenants.get_mut(&self.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                carried.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portcullis_policy::{Address, Origin};

    use super::*;
    use crate::runtime::clock::instant;

    fn source(number: u32) -> Source {
        let address = IpAddr::V4(Ipv4Addr::from_bits(number << 8));
        Source::neighbourhood(&Origin::Public, Address::from(address))
    }

    fn burst() -> usize {
        (0..)
            .take_while(|count| f64::from(*count) < CANCEL_BURST)
            .count()
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn a_burst_is_looked_at_and_then_so_many_a_second_and_another_source_as_ever() {
        let cancels = Cancels::new();
        let start = instant();
        for _ in 0..burst() {
            assert_eq!(cancels.pace(&source(1), start), Paced::Granted);
        }
        assert_eq!(
            cancels.pace(&source(1), start),
            Paced::Denied { since_told: 1 }
        );
        assert_eq!(cancels.pace(&source(2), start), Paced::Granted);
        let later = start + Duration::from_secs(1);
        let granted = (0..10).filter(|_| cancels.pace(&source(1), later) == Paced::Granted);
        assert_eq!(granted.count(), 5);
    }

    #[test]
    fn the_first_denied_in_a_second_is_told_and_the_next_telling_counts_those_between() {
        let cancels = Cancels::new();
        let start = instant();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for _ in 0..burst() {
            cancels.pace(&source(1), start);
        }
        assert_eq!(
            cancels.pace(&source(1), start),
            Paced::Denied { since_told: 1 }
        );
        for _ in 0..6 {
            assert_eq!(cancels.pace(&source(1), at(100)), Paced::DeniedUntold);
        }
        for _ in 0..5 {
            assert_eq!(cancels.pace(&source(1), at(1_100)), Paced::Granted);
        }
        assert_eq!(
            cancels.pace(&source(1), at(1_100)),
            Paced::Denied { since_told: 7 }
        );
    }

    #[test]
    fn no_more_sources_are_remembered_than_may_be_and_idle_ones_are_forgotten() {
        let cancels = Cancels::new();
        let start = instant();
        let most = u32::try_from(CANCEL_SOURCES).unwrap();
        for number in 0..=most {
            cancels.pace(&source(number), start);
        }
        assert!(cancels.sources.lock().get(&source(0)).is_none());
        assert!(cancels.sources.lock().get(&source(1)).is_some());
        cancels.pace(&source(0), start + Duration::from_secs(5));
        assert!(cancels.sources.lock().get(&source(most)).is_none());
        assert!(cancels.sources.lock().get(&source(0)).is_some());
    }

    #[test]
    fn a_connection_has_one_cancel_under_way_a_tenant_a_quarter_of_them_the_node_all() {
        let cancels = Arc::new(Cancels::new());
        let carry = |name: &str, serial| cancels.carry(&tenant(name), serial);
        let first = carry("acme", 1).ok().unwrap();
        assert_eq!(carry("acme", 1).err(), Some("already_cancelling"));
        drop(first);
        let mut turns = Vec::new();
        for (name, base) in [
            ("acme", 0),
            ("globex", 1_000),
            ("initech", 2_000),
            ("umbrella", 3_000),
        ] {
            for serial in 0..CANCELS_PER_TENANT {
                let serial = base + u64::try_from(serial).unwrap();
                turns.push(carry(name, serial).ok().unwrap());
            }
            assert_eq!(
                carry(name, base + 999).err(),
                Some(match turns.len() {
                    CANCELS_AT_ONCE => "cancels_at_once",
                    _ => "cancels_per_tenant",
                })
            );
        }
        assert_eq!(carry("hooli", 4_000).err(), Some("cancels_at_once"));
        drop(turns);
        assert!(carry("hooli", 4_000).is_ok());
        assert!(cancels.carried.lock().connections.is_empty());
        assert!(cancels.carried.lock().tenants.is_empty(), "nothing is kept");
    }
}

//! What a node takes on at once, before it knows who is asking.
//!
//! Everybody who is not authenticated yet holds a [`Ticket`]: a place among the unauthenticated of
//! the node, of its address, of its block of addresses and, once policy has said where it leads,
//! of that tenant. Where places run out they are shared fairly (`crowd`). `pace` bounds how fast
//! new connections come, `sheds` counts who was turned away.
//!
//! Deliberately absent: connections that are authenticated (`live/claims`), and any answer to
//! those who are turned away.

mod bucket;
pub(super) mod cancels;
mod crowd;
mod limit;
mod pace;
pub(super) mod recent;
mod sheds;
mod source;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use portcullis_policy::{Address, Origin, TenantId};
use tokio::sync::Notify;

use self::bucket::Bucket;
use self::crowd::{Crowd, Place};
use self::pace::Pace;
use self::recent::Recent;
use self::sheds::How;
use super::limits::FrontLimits;
use super::source::Source;
use crate::runtime::clock::{self, Instant};
use crate::runtime::limits::{ARRIVAL_BLOCKS, ARRIVAL_BURST, ARRIVALS_PER_SECOND};

pub use self::limit::Limit;
pub(super) use self::sheds::Sheds;
pub(super) use self::source::Party;

/// The places of those who are not authenticated yet, and the pace of new ones.
pub(super) struct Throttle {
    limits: Arc<FrontLimits>,
    sheds: Arc<Sheds>,
    arrivals: Mutex<Recent<Party, Bucket>>,
    pace: Pace,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    holders: HashMap<u64, Holder>,
    all: Crowd,
    tenants: HashMap<TenantId, Crowd>,
    singles: HashMap<Source, usize>,
}

/// Who holds a place, and everything it is counted under.
struct Holder {
    party: Party,
    single: Option<Source>,
    tenant: Option<TenantId>,
    signal: Arc<Signal>,
}

/// Tells the holder of a place that it has to give way.
#[derive(Default)]
struct Signal {
    by: OnceLock<Limit>,
    given: Notify,
}

/// How many places are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// On the whole node.
    pub all: usize,
    /// By the address that holds most.
    pub largest_address: usize,
    /// By the block of addresses that holds most.
    pub largest_block: usize,
    /// By each tenant that holds any.
    pub tenants: Vec<(TenantId, usize)>,
    /// Source blocks whose pace is measured, of the tenant that has most.
    pub paced_sources: usize,
}

impl Throttle {
    pub(super) fn new(limits: Arc<FrontLimits>, sheds: Arc<Sheds>) -> Self {
        Self {
            limits,
            sheds,
            arrivals: Mutex::new(Recent::of(ARRIVAL_BLOCKS)),
            pace: Pace::default(),
            places: Mutex::default(),
        }
    }

    /// Takes a place for a client that came to `origin` itself, or says which limit is full. Where
    /// somebody has to give way for it, that one is told.
    pub(super) fn enter(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        address: Address,
    ) -> Result<Ticket, Limit> {
        let party = Party::block(Arc::clone(origin), address);
        let single = Source::customer(origin, address);
        self.arrives(&party)?;
        let mut places = self.places.lock();
        if let Some(full) = self.source_full(&places, &party, &single) {
            self.sheds.note(full, &party, How::Refused);
            return Err(full);
        }
        self.seat(&mut places, party, Some(single))
    }

    /// Takes a place for whoever a load balancer brings to this listener: its socket's address is
    /// the balancer's, so until its PROXY header has come the whole node's limit alone holds.
    pub(super) fn enter_behind_balancer(
        self: &Arc<Self>,
        listener: &Arc<str>,
    ) -> Result<Ticket, Limit> {
        let party = Party::Arriving(Arc::clone(listener));
        self.seat(&mut self.places.lock(), party, None)
    }

    fn seat(
        self: &Arc<Self>,
        places: &mut Places,
        party: Party,
        single: Option<Source>,
    ) -> Result<Ticket, Limit> {
        const FULL: Limit = Limit::Unauthenticated;
        match places
            .all
            .place_for(&party, self.limits.unauthenticated.value)
        {
            Place::Free => {}
            Place::Displacing(oldest) => self.displace(places, oldest, FULL),
            Place::Refused => {
                self.sheds.note(FULL, &party, How::Refused);
                return Err(FULL);
            }
        }
        let member = places.next;
        places.next += 1;
        places.all.join(&party, member);
        if let Some(single) = &single {
            *places.singles.entry(single.clone()).or_default() += 1;
        }
        let signal = Arc::new(Signal::default());
        places.holders.insert(
            member,
            Holder {
                party,
                single,
                tenant: None,
                signal: Arc::clone(&signal),
            },
        );
        Ok(Ticket {
            throttle: Arc::clone(self),
            member,
            signal,
        })
    }

    /// Even those who leave again at once cost a handshake or an event.
    fn arrives(&self, party: &Party) -> Result<(), Limit> {
        const FAST: Limit = Limit::ArrivalPace;
        let now = clock::instant();
        let mut arrivals = self.arrivals.lock();
        let bucket = arrivals.touch(party, || Bucket::full(ARRIVAL_BURST, now));
        if bucket.take(ARRIVALS_PER_SECOND, ARRIVAL_BURST, now) {
            return Ok(());
        }
        drop(arrivals);
        self.sheds.note(FAST, party, How::Refused);
        Err(FAST)
    }

    fn source_full(&self, places: &Places, party: &Party, single: &Source) -> Option<Limit> {
        let of_single = places.singles.get(single).copied().unwrap_or_default();
        if of_single >= self.limits.unauthenticated_per_address.value {
            return Some(Limit::UnauthenticatedPerAddress);
        }
        if places.all.of(party) >= self.limits.unauthenticated_per_block.value {
            return Some(Limit::UnauthenticatedPerBlock);
        }
        None
    }

    /// Takes a place away and tells whoever held it.
    fn displace(&self, places: &mut Places, member: u64, limit: Limit) {
        if let Some(holder) = places.remove(member) {
            self.sheds.note(limit, &holder.party, How::Displaced);
            holder.signal.by.get_or_init(|| limit);
            holder.signal.given.notify_one();
        }
    }

    /// Whether `tenant` may have one more new connection from there now, at `per_second` with a
    /// burst of as many.
    pub(super) fn pace(
        &self,
        tenant: &TenantId,
        party: &Party,
        per_second: u32,
        now: Instant,
    ) -> Result<(), Limit> {
        self.pace.take(tenant, party, per_second, now)
    }

    /// Forgets measures of pace that say nothing any more.
    pub(super) fn forget_idle(&self, now: Instant) {
        self.pace.forget_idle(now);
    }

    /// How many places are taken now.
    pub(super) fn opening(&self) -> Opening {
        let places = self.places.lock();
        Opening {
            all: places.all.len(),
            largest_address: places.singles.values().copied().max().unwrap_or_default(),
            largest_block: places.all.largest(),
            tenants: places
                .tenants
                .iter()
                .map(|(tenant, crowd)| (tenant.clone(), crowd.len()))
                .collect(),
            paced_sources: self.pace.sources(),
        }
    }
}

impl Places {
    /// Forgets a holder, under everything it is counted under.
    fn remove(&mut self, member: u64) -> Option<Holder> {
        let holder = self.holders.remove(&member)?;
        self.all.leave(&holder.party, member);
        if let Some(tenant) = &holder.tenant
            && let Some(crowd) = self.tenants.get_mut(tenant)
        {
            crowd.leave(&holder.party, member);
            if crowd.len() == 0 {
                self.tenants.remove(tenant);
            }
        }
        if let Some(single) = &holder.single
            && let Some(count) = self.singles.get_mut(single)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.singles.remove(single);
            }
        }
        Some(holder)
    }
}

/// A place among the unauthenticated; given back when dropped.
pub(super) struct Ticket {
    throttle: Arc<Throttle>,
    member: u64,
    signal: Arc<Signal>,
}

impl Ticket {
    /// Charges a place that was taken behind a load balancer to the client that the PROXY header
    /// names.
    pub(super) fn charge(&self, origin: &Origin, address: Address) -> Result<(), Limit> {
        let origin = Arc::new(origin.clone());
        let single = Source::customer(&origin, address);
        let party = Party::block(origin, address);
        self.throttle.arrives(&party)?;
        let mut places = self.throttle.places.lock();
        if let Some(full) = self.throttle.source_full(&places, &party, &single) {
            self.throttle.sheds.note(full, &party, How::Refused);
            return Err(full);
        }
        let Places {
            holders,
            all,
            singles,
            ..
        } = &mut *places;
        // Whoever was displaced meanwhile has no place to charge.
        if let Some(holder) = holders.get_mut(&self.member) {
            all.leave(&holder.party, self.member);
            all.join(&party, self.member);
            *singles.entry(single.clone()).or_default() += 1;
            holder.party = party;
            holder.single = Some(single);
        }
        Ok(())
    }

    /// Takes one of `most` places of `tenant` as well: policy has said that it leads there. Fair in
    /// the same way as the whole node's.
    pub(super) fn leads_to(&self, tenant: &TenantId, most: usize) -> Result<(), Limit> {
        const FULL: Limit = Limit::UnauthenticatedPerTenant;
        let mut places = self.throttle.places.lock();
        let Some(party) = places
            .holders
            .get(&self.member)
            .map(|holder| holder.party.clone())
        else {
            return Ok(());
        };
        let place = match places.tenants.get(tenant) {
            Some(crowd) => crowd.place_for(&party, most),
            None => Place::Free,
        };
        match place {
            Place::Free => {}
            Place::Displacing(oldest) => self.throttle.displace(&mut places, oldest, FULL),
            Place::Refused => return Err(FULL),
        }
        let crowd = places.tenants.entry(tenant.clone()).or_default();
        crowd.join(&party, self.member);
        if let Some(holder) = places.holders.get_mut(&self.member) {
            holder.tenant = Some(tenant.clone());
        }
        Ok(())
    }

    /// Gives the place back before the ticket is dropped: its holder is authenticated.
    pub(super) fn give_back(&self) {
        self.throttle.places.lock().remove(self.member);
    }

    /// Waits until this place is taken away; answers by which limit.
    pub(super) fn displaced(&self) -> impl Future<Output = Limit> + use<> {
        let signal = Arc::clone(&self.signal);
        async move {
            loop {
                if let Some(limit) = signal.by.get() {
                    return *limit;
                }
                signal.given.notified().await;
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;

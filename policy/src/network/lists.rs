//! The allow list of one endpoint, compiled: for each door the segments of both families.

use super::segments::{Claim, Segment, Segments, compare, live};
use super::{Address, AddressSet, Ranges, Until};
use crate::origin::Origin;
use crate::tenant::{Addresses, Entry};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An endpoint's entries by door. A door that entries speak of is here even when `except`s leave nothing of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowLists(BTreeMap<Origin, AllowList>);

/// The entries of one door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowList {
    pub(crate) entries: usize,
    v4: Segments<u32>,
    v6: Segments<u128>,
}

/// The entry that speaks for an address, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) entry: u32,
    pub(crate) until: Until,
}

impl AllowLists {
    /// O(n log n) in entries and excepts.
    pub(crate) fn compile(entries: &[Entry]) -> Self {
        let mut doors: BTreeMap<&Origin, Claims> = BTreeMap::new();
        for (index, entry) in (0_u32..).zip(entries) {
            doors.entry(&entry.origin).or_default().add(index, entry);
        }
        let compiled = doors.into_iter().map(|(origin, claims)| {
            let list = AllowList {
                entries: claims.entries,
                v4: Segments::compile(claims.v4),
                v6: Segments::compile(claims.v6),
            };
            (origin.clone(), list)
        });
        Self(compiled.collect())
    }

    pub(crate) fn door(&self, origin: &Origin) -> Option<&AllowList> {
        self.0.get(origin)
    }

    pub(crate) fn doors(&self) -> impl Iterator<Item = (&Origin, &AllowList)> {
        self.0.iter()
    }
}

impl AllowList {
    /// One binary search.
    pub(crate) fn find(&self, address: Address) -> Option<Found> {
        match address.ip() {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()).map(found),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()).map(found),
        }
    }

    /// Who can pass at a moment.
    pub(crate) fn live(&self, at: Timestamp) -> AddressSet {
        AddressSet::from_ranges(live(&self.v4, at), live(&self.v6, at))
    }

    /// The entries that speak for some address of the set, each once per run of addresses, ascending by address.
    pub(crate) fn spokesmen<'a>(&'a self, set: &'a AddressSet) -> impl Iterator<Item = Found> + 'a {
        let v4 = set
            .v4
            .iter()
            .flat_map(|(first, last)| self.v4.within(first, last).map(found));
        let v6 = set
            .v6
            .iter()
            .flat_map(|(first, last)| self.v6.within(first, last).map(found));
        v4.chain(v6)
    }

    /// The entries that speak for any address at all, each at least once.
    pub(crate) fn all_spokesmen(&self) -> impl Iterator<Item = u32> {
        let v4 = self.v4.iter().map(|segment| segment.entry);
        v4.chain(self.v6.iter().map(|segment| segment.entry))
    }

    /// What differs between two lists (`None` admits nobody) at a moment: opened, shut, retimed.
    pub(crate) fn compare(
        old: Option<&Self>,
        new: Option<&Self>,
        at: Timestamp,
    ) -> [AddressSet; 3] {
        let v4 = compare(old.map(|list| &list.v4), new.map(|list| &list.v4), at);
        let v6 = compare(old.map(|list| &list.v6), new.map(|list| &list.v6), at);
        [
            AddressSet::from_ranges(v4.opened, v6.opened),
            AddressSet::from_ranges(v4.shut, v6.shut),
            AddressSet::from_ranges(v4.retimed, v6.retimed),
        ]
    }
}

/// The addresses that an entry stands for, its excepts taken out.
pub(crate) fn entry_addresses(entry: &Entry) -> AddressSet {
    let whole = match entry.addresses {
        Addresses::Prefix(prefix) => AddressSet::of([prefix]),
        Addresses::Anywhere => AddressSet::everything(),
    };
    match entry.except.as_slice() {
        [] => whole,
        except => whole.subtract(&AddressSet::of(except.iter().copied())),
    }
}

fn found<T>(segment: &Segment<T>) -> Found {
    Found {
        entry: segment.entry,
        until: segment.until,
    }
}

#[derive(Default)]
struct Claims {
    entries: usize,
    v4: Vec<Claim<u32>>,
    v6: Vec<Claim<u128>>,
}

impl Claims {
    fn add(&mut self, index: u32, entry: &Entry) {
        let until = Until::of(entry.expires);
        let addresses = entry_addresses(entry);
        self.entries += 1;
        self.v4.extend(claims(&addresses.v4, index, until));
        self.v6.extend(claims(&addresses.v6, index, until));
    }
}

fn claims<T: super::Bits>(
    ranges: &Ranges<T>,
    index: u32,
    until: Until,
) -> impl Iterator<Item = Claim<T>> + '_ {
    ranges
        .iter()
        .map(move |(first, last)| (first, last, index, until))
}

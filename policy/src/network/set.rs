//! Exact sets of addresses of both families.

use super::prefix::Span;
use super::{Address, Bits, Count, Family, Prefix, Ranges};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A set of addresses. Equal sets are equal values, however they came about; every answer is exact, none is sampled.
/// Serialized as its minimal prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    pub(super) v4: Ranges<u32>,
    pub(super) v6: Ranges<u128>,
}

impl AddressSet {
    /// No address.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            v4: Ranges::empty(),
            v6: Ranges::empty(),
        }
    }

    /// Every address of both families.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            v4: Ranges::everything(),
            v6: Ranges::everything(),
        }
    }

    /// The addresses that are in at least one of the prefixes.
    #[must_use]
    pub fn of(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix.span() {
                Span::V4(first, last) => v4.push((first, last)),
                Span::V6(first, last) => v6.push((first, last)),
            }
        }
        Self {
            v4: Ranges::of(v4),
            v6: Ranges::of(v6),
        }
    }

    pub(crate) const fn from_ranges(v4: Ranges<u32>, v6: Ranges<u128>) -> Self {
        Self { v4, v6 }
    }

    /// The addresses in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.union(&other.v4),
            v6: self.v6.union(&other.v6),
        }
    }

    /// The addresses that are in at least one of the sets. O(n log n) in their ranges, however many sets there are.
    #[must_use]
    pub fn union_of(sets: impl IntoIterator<Item = Self>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend(set.v4.iter());
            v6.extend(set.v6.iter());
        }
        Self {
            v4: Ranges::of(v4),
            v6: Ranges::of(v6),
        }
    }

    /// The addresses in both sets.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.intersect(&other.v4),
            v6: self.v6.intersect(&other.v6),
        }
    }

    /// The addresses of this set that are not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.subtract(&other.v4),
            v6: self.v6.subtract(&other.v6),
        }
    }

    /// Whether the address is in the set. One binary search.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        match address.ip() {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// Whether there is no address in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether every address of both families is in the set.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.v4.is_everything() && self.v6.is_everything()
    }

    /// Whether every address of a family that can arrive is in the set. Mapped IPv6 addresses arrive as IPv4, so leaving them
    /// out leaves nobody out.
    pub(crate) fn is_every(&self, family: Family) -> bool {
        const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
        match family {
            Family::V4 => self.v4.is_everything(),
            Family::V6 => self.v6.union(&Ranges::of(vec![MAPPED])).is_everything(),
        }
    }

    /// How many addresses of each family.
    #[must_use]
    pub fn count(&self) -> Count {
        Count {
            v4: self.v4.count().try_into().unwrap_or(u64::MAX),
            v6: self.v6.count(),
        }
    }

    /// The fewest prefixes whose union this is: IPv4 first, ascending. (Only here does a prefix of length 0 appear.)
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.v4.prefixes().chain(self.v6.prefixes())
    }

    /// The set as ranges that neither overlap nor touch: IPv4 first, ascending. For looking up what lies within them in an
    /// index ordered by address.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<Address>> + '_ {
        fn range<T: Bits>((first, last): (T, T)) -> RangeInclusive<Address> {
            first.address()..=last.address()
        }
        self.v4.iter().map(range).chain(self.v6.iter().map(range))
    }
}

/// The minimal prefixes, separated by commas; `anywhere` for everything and `nobody` for nothing. Can be long: a set that was
/// cut out with a knife has many edges.
impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nobody");
        }
        if self.is_everything() {
            return f.write_str("anywhere");
        }
        for (position, prefix) in self.prefixes().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            prefix.fmt(f)?;
        }
        Ok(())
    }
}

impl Serialize for AddressSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.prefixes())
    }
}

//! Sets of numbers as sorted ranges: the algebra under [`AddressSet`](super::AddressSet).

use super::{Bits, Prefix};
use std::cmp::{max, min};

/// A set of addresses of one family: inclusive ranges, ascending, that neither overlap nor touch. Two equal sets are equal
/// ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges<T>(Vec<(T, T)>);

impl<T: Bits> Ranges<T> {
    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn everything() -> Self {
        Self(vec![(T::MIN, T::MAX)])
    }

    /// The union of ranges in any order; a range whose first is above its last is empty.
    pub(crate) fn of(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut set = Self(Vec::with_capacity(ranges.len()));
        for (first, last) in ranges {
            set.push(first, last);
        }
        set
    }

    /// Adds a range that begins no earlier than any range that is in the set.
    pub(crate) fn push(&mut self, first: T, last: T) {
        if first > last {
            return;
        }
        match self.0.last_mut() {
            // Overlapping or touching: one range. At the end of the space everything touches.
            Some((_, end)) if end.above().is_none_or(|next| first <= next) => {
                *end = max(*end, last)
            }
            _ => self.0.push((first, last)),
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut set = Self(Vec::with_capacity(self.0.len() + other.0.len()));
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a <= b => left.next(),
                (Some(_), None) => left.next(),
                (_, Some(_)) => right.next(),
                (None, None) => return set,
            };
            if let Some((first, last)) = next {
                set.push(first, last);
            }
        }
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut set = Self::empty();
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        while let (Some((a_first, a_last)), Some((b_first, b_last))) =
            (left.peek().copied(), right.peek().copied())
        {
            set.push(max(a_first, b_first), min(a_last, b_last));
            if a_last <= b_last {
                left.next();
            } else {
                right.next();
            }
        }
        set
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        let mut set = Self::empty();
        let mut holes = other.iter().peekable();
        for (first, last) in self.iter() {
            // What is left of this range to the right of the holes seen so far.
            let mut rest = Some(first);
            while let (Some(from), Some((hole_first, hole_last))) = (rest, holes.peek().copied()) {
                if hole_first > last {
                    break;
                }
                if let Some(end) = hole_first.below() {
                    set.push(from, min(end, last));
                }
                rest = hole_last
                    .above()
                    .map(|next| max(next, from))
                    .filter(|next| *next <= last);
                if rest.is_none() {
                    // The hole reaches to the end of this range and may reach into the next.
                    break;
                }
                holes.next();
            }
            if let Some(from) = rest {
                set.push(from, last);
            }
        }
        set
    }

    pub(crate) fn contains(&self, address: T) -> bool {
        let position = self.0.partition_point(|(_, last)| *last < address);
        self.0
            .get(position)
            .is_some_and(|(first, _)| *first <= address)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_everything(&self) -> bool {
        matches!(self.0.as_slice(), [(first, last)] if *first == T::MIN && *last == T::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }

    /// How many addresses; the whole IPv6 space, which is one more than fits, counts as the highest number.
    pub(crate) fn count(&self) -> u128 {
        self.iter()
            .map(|(first, last)| (last.wide() - first.wide()).saturating_add(1))
            .fold(0, u128::saturating_add)
    }

    /// The fewest prefixes whose union this is, ascending. Ranges do not touch, so no block can serve two of them, and within
    /// one the largest block that fits is always right.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.iter().flat_map(|(first, last)| {
            let mut rest = Some(first);
            std::iter::from_fn(move || {
                let start = rest?;
                let mut free = start.trailing_zeros();
                while start.end_of_block(free) > last {
                    free -= 1;
                }
                rest = start
                    .end_of_block(free)
                    .above()
                    .filter(|next| *next <= last);
                Some(Prefix::block(start, free))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(u32, u32)]) -> Ranges<u32> {
        Ranges::of(ranges.to_vec())
    }

    #[test]
    fn touching_and_overlapping_ranges_become_one() {
        assert_eq!(
            of(&[(5, 9), (0, 4), (7, 12), (20, 20)]),
            of(&[(0, 12), (20, 20)])
        );
        assert_eq!(
            of(&[(0, u32::MAX), (7, 9), (u32::MAX, u32::MAX)]),
            Ranges::everything()
        );
        assert_eq!(of(&[(9, 5)]), Ranges::empty());
    }

    #[test]
    fn a_hole_may_span_several_ranges_and_a_range_several_holes() {
        let three = of(&[(0, 9), (20, 29), (40, 49)]);
        assert_eq!(three.subtract(&of(&[(5, 44)])), of(&[(0, 4), (45, 49)]));
        assert_eq!(
            three.subtract(&of(&[(2, 3), (5, 6), (29, 40)])),
            of(&[(0, 1), (4, 4), (7, 9), (20, 28), (41, 49)])
        );
        assert_eq!(three.subtract(&three), Ranges::empty());
        assert_eq!(three.subtract(&Ranges::empty()), three);
        assert_eq!(
            Ranges::everything().subtract(&of(&[(0, 0), (u32::MAX, u32::MAX)])),
            of(&[(1, u32::MAX - 1)])
        );
        assert_eq!(
            Ranges::<u32>::everything().subtract(&Ranges::everything()),
            Ranges::empty()
        );
    }

    #[test]
    fn the_whole_space_is_one_prefix_of_length_zero() {
        let all: Vec<_> = Ranges::<u128>::everything()
            .prefixes()
            .map(|p| p.to_string())
            .collect();
        assert_eq!(all, ["::/0"]);
        let all: Vec<_> = Ranges::<u32>::everything()
            .prefixes()
            .map(|p| p.to_string())
            .collect();
        assert_eq!(all, ["0.0.0.0/0"]);
        let most: Vec<_> = of(&[(1, u32::MAX - 1)]).prefixes().collect();
        assert_eq!(most.len(), 62);
    }

    #[test]
    fn the_whole_ipv6_space_counts_as_the_highest_number() {
        assert_eq!(Ranges::<u128>::everything().count(), u128::MAX);
        assert_eq!(Ranges::of(vec![(1_u128, u128::MAX)]).count(), u128::MAX);
        assert_eq!(Ranges::<u32>::everything().count(), 1 << 32);
    }
}

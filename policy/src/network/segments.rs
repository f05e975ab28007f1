//! An allow list compiled for one door and one family: who covers an address, and until when, in one binary search.

use super::{Bits, Ranges};
use crate::time::Timestamp;
use std::cmp::{Reverse, min};
use std::collections::BinaryHeap;

/// A run of addresses that one entry speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment<T> {
    first: T,
    last: T,
    /// The entry that speaks for these addresses: of those that cover them the one that expires last, and of equals the
    /// one with the lowest index.
    pub(crate) entry: u32,
    pub(crate) until: Until,
}

/// When an entry stops to hold. Ordered: an entry that never expires outlasts every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Until {
    Moment(Timestamp),
    Forever,
}

impl Until {
    pub(crate) fn of(expires: Option<Timestamp>) -> Self {
        expires.map_or(Self::Forever, Self::Moment)
    }

    pub(crate) fn moment(self) -> Option<Timestamp> {
        match self {
            Self::Moment(moment) => Some(moment),
            Self::Forever => None,
        }
    }

    /// Whether it still holds: at the very moment of expiry it no longer does.
    pub(crate) fn holds(self, at: Timestamp) -> bool {
        match self {
            Self::Moment(moment) => moment > at,
            Self::Forever => true,
        }
    }
}

/// Disjoint segments, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segments<T>(Box<[Segment<T>]>);

/// What an entry contributes: a range of addresses, its index and its end.
pub(crate) type Claim<T> = (T, T, u32, Until);

impl<T: Bits> Segments<T> {
    /// Sweeps over the claims from the lowest address up. O(n log n).
    pub(crate) fn compile(mut claims: Vec<Claim<T>>) -> Self {
        claims.sort_unstable_by_key(|(first, ..)| *first);
        let mut waiting = claims.into_iter().peekable();
        // Claims that have begun, the one that speaks on top; those that ended are dropped when they come to the top.
        let mut begun: BinaryHeap<(Until, Reverse<u32>, T)> = BinaryHeap::new();
        let mut segments: Vec<Segment<T>> = Vec::new();
        let mut cursor = T::MIN;
        loop {
            while begun.peek().is_some_and(|(_, _, last)| *last < cursor) {
                begun.pop();
            }
            if begun.is_empty() {
                match waiting.peek() {
                    Some((first, ..)) => cursor = *first,
                    None => break,
                }
            }
            while let Some((_, last, entry, until)) =
                waiting.next_if(|(first, ..)| *first <= cursor)
            {
                begun.push((until, Reverse(entry), last));
            }
            let Some((until, Reverse(entry), last)) = begun.peek().copied() else {
                break;
            };
            // It speaks until it ends or another claim begins, which may or may not outlast it.
            let next = waiting.peek().and_then(|(first, ..)| first.below());
            let end = next.map_or(last, |next| min(last, next));
            append(
                &mut segments,
                Segment {
                    first: cursor,
                    last: end,
                    entry,
                    until,
                },
            );
            match end.above() {
                Some(above) => cursor = above,
                None => break,
            }
        }
        Self(segments.into_boxed_slice())
    }

    pub(crate) fn find(&self, address: T) -> Option<&Segment<T>> {
        let position = self.0.partition_point(|segment| segment.last < address);
        self.0
            .get(position)
            .filter(|segment| segment.first <= address)
    }

    /// The segments that have an address in common with the range.
    pub(crate) fn within(&self, first: T, last: T) -> impl Iterator<Item = &Segment<T>> {
        let position = self.0.partition_point(|segment| segment.last < first);
        self.0
            .get(position..)
            .unwrap_or_default()
            .iter()
            .take_while(move |segment| segment.first <= last)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Segment<T>> {
        self.0.iter()
    }
}

fn append<T: Bits>(segments: &mut Vec<Segment<T>>, next: Segment<T>) {
    match segments.last_mut() {
        Some(previous)
            if previous.entry == next.entry && previous.last.above() == Some(next.first) =>
        {
            previous.last = next.last;
        }
        _ => segments.push(next),
    }
}

/// The addresses that the segments admit at a moment.
pub(crate) fn live<T: Bits>(segments: &Segments<T>, at: Timestamp) -> Ranges<T> {
    let mut set = Ranges::empty();
    for segment in segments.iter().filter(|segment| segment.until.holds(at)) {
        set.push(segment.first, segment.last);
    }
    set
}

/// What differs between two compiled lists at a moment, address by address.
pub(crate) struct Difference<T> {
    /// Admitted by the new one alone.
    pub(crate) opened: Ranges<T>,
    /// Admitted by the old one alone.
    pub(crate) shut: Ranges<T>,
    /// Admitted by both, but until different moments.
    pub(crate) retimed: Ranges<T>,
}

/// Walks both lists once, side by side; no list is `None`.
pub(crate) fn compare<T: Bits>(
    old: Option<&Segments<T>>,
    new: Option<&Segments<T>>,
    at: Timestamp,
) -> Difference<T> {
    let mut difference = Difference {
        opened: Ranges::empty(),
        shut: Ranges::empty(),
        retimed: Ranges::empty(),
    };
    let (mut old, mut new) = (Walk::over(old, at), Walk::over(new, at));
    let mut cursor = Some(T::MIN);
    while let Some(first) = cursor {
        let ((before, before_end), (after, after_end)) = (old.step(first), new.step(first));
        let last = min(before_end, after_end);
        match (before, after) {
            (None, Some(_)) => difference.opened.push(first, last),
            (Some(_), None) => difference.shut.push(first, last),
            (Some(a), Some(b)) if a != b => difference.retimed.push(first, last),
            (Some(_), Some(_)) | (None, None) => {}
        }
        cursor = last.above();
    }
    difference
}

/// A walk over the segments that hold at a moment, from the lowest address up.
struct Walk<'a, T> {
    rest: &'a [Segment<T>],
    at: Timestamp,
}

impl<'a, T: Bits> Walk<'a, T> {
    fn over(segments: Option<&'a Segments<T>>, at: Timestamp) -> Self {
        Self {
            rest: segments.map_or(&[], |segments| &segments.0),
            at,
        }
    }

    /// Until when `address` is admitted, and the last address of which the same can be said. Addresses only ascend.
    fn step(&mut self, address: T) -> (Option<Until>, T) {
        while let Some((segment, rest)) = self.rest.split_first() {
            if segment.last < address || !segment.until.holds(self.at) {
                self.rest = rest;
            } else if segment.first <= address {
                return (Some(segment.until), segment.last);
            } else {
                return (None, segment.first.below().unwrap_or(T::MIN));
            }
        }
        (None, T::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(expires: Option<i64>) -> Until {
        Until::of(expires.map(Timestamp::from_millis))
    }

    /// Claims anywhere, many of them small and close together, some at the very ends of the space.
    fn claims() -> impl Strategy<Value = Vec<Claim<u32>>> {
        let edge = prop_oneof![0_u32..40, (u32::MAX - 20)..=u32::MAX];
        let claim = (edge.clone(), edge, proptest::option::of(0_i64..4));
        proptest::collection::vec(claim, 0..12).prop_map(|claims| {
            let ordered = |(index, (a, b, expires)): (usize, (u32, u32, Option<i64>))| {
                (
                    a.min(b),
                    a.max(b),
                    u32::try_from(index).unwrap(),
                    until(expires),
                )
            };
            claims.into_iter().enumerate().map(ordered).collect()
        })
    }

    fn spokesman(claims: &[Claim<u32>], address: u32) -> Option<(u32, Until)> {
        claims
            .iter()
            .filter(|(first, last, ..)| (*first..=*last).contains(&address))
            .max_by_key(|(_, _, entry, until)| (*until, Reverse(*entry)))
            .map(|(_, _, entry, until)| (*entry, *until))
    }

    fn probes() -> impl Iterator<Item = u32> {
        (0..45).chain(u32::MAX - 25..=u32::MAX).chain([1 << 31])
    }

    proptest! {
        #[test]
        fn a_segment_is_labelled_with_the_covering_entry_that_expires_last(claims in claims()) {
            let segments = Segments::compile(claims.clone());
            for address in probes() {
                let found = segments.find(address).map(|segment| (segment.entry, segment.until));
                prop_assert_eq!(found, spokesman(&claims, address), "{}", address);
            }
            let listed: Vec<_> = segments.iter().collect();
            prop_assert!(listed.windows(2).all(|pair| pair[0].last < pair[1].first));
        }

        #[test]
        fn comparing_two_lists_is_comparing_every_address(old in claims(), new in claims(), at in -1_i64..5) {
            let at = Timestamp::from_millis(at);
            let (a, b) = (Segments::compile(old), Segments::compile(new));
            let difference = compare(Some(&a), Some(&b), at);
            for address in probes() {
                let admitted = |segments: &Segments<u32>| {
                    segments.find(address).map(|segment| segment.until).filter(|until| until.holds(at))
                };
                let (before, after) = (admitted(&a), admitted(&b));
                prop_assert_eq!(difference.opened.contains(address), before.is_none() && after.is_some());
                prop_assert_eq!(difference.shut.contains(address), before.is_some() && after.is_none());
                let retimed = before.is_some() && after.is_some() && before != after;
                prop_assert_eq!(difference.retimed.contains(address), retimed);
                prop_assert_eq!(live(&a, at).contains(address), before.is_some());
            }
        }
    }

    #[test]
    fn an_entry_no_longer_holds_at_the_very_moment_it_expires() {
        let noon = Timestamp::from_millis(12);
        assert!(until(Some(13)).holds(noon));
        assert!(!until(Some(12)).holds(noon));
        assert!(until(None).holds(noon));
        assert!(until(None) > until(Some(i64::MAX)));
    }
}

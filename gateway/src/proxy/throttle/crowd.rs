//! A limited number of places, shared fairly between parties.
//!
//! While there is room everybody is let in. When there is none, whoever belongs to a party that
//! holds fewer places than the largest takes the place of the oldest of that largest party. So
//! nobody is kept out by the mass of another, and a flood displaces only itself.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::source::Party;

/// The places that are taken. A member is a number; a smaller one came earlier.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    parties: HashMap<Party, BTreeSet<u64>>,
    /// By size, then by the age of the oldest member: the last is the one to displace from.
    ranking: BTreeSet<(usize, Reverse<u64>, Party)>,
    count: usize,
}

/// Whether there is a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is.
    Free,
    /// This member has to give way for it.
    Displacing(u64),
    /// The newcomer's own party is among the largest: it stays outside.
    Refused,
}

impl Crowd {
    /// Whether `party` may have a place when there are `most`.
    pub(super) fn place_for(&self, party: &Party, most: usize) -> Place {
        if self.count < most {
            return Place::Free;
        }
        match self.ranking.last() {
            Some((size, Reverse(oldest), _)) if self.of(party) < *size => {
                Place::Displacing(*oldest)
            }
            Some(_) | None => Place::Refused,
        }
    }

    /// Gives `member` a place.
    pub(super) fn join(&mut self, party: &Party, member: u64) {
        if self.change(party, |members| members.insert(member)) {
            self.count += 1;
        }
    }

    /// Takes it back.
    pub(super) fn leave(&mut self, party: &Party, member: u64) {
        if self.change(party, |members| members.remove(&member)) {
            self.count = self.count.saturating_sub(1);
        }
    }

    /// The places of `party`.
    pub(super) fn of(&self, party: &Party) -> usize {
        self.parties.get(party).map_or(0, BTreeSet::len)
    }

    /// The places of the largest party.
    pub(super) fn largest(&self) -> usize {
        self.ranking.last().map_or(0, |(size, _, _)| *size)
    }

    /// All places that are taken.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn change(&mut self, party: &Party, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) -> bool {
        let members = self.parties.entry(party.clone()).or_default();
        if let Some(oldest) = members.first() {
            self.ranking
                .remove(&(members.len(), Reverse(*oldest), party.clone()));
        }
        let changed = change(members);
        match members.first() {
            Some(oldest) => {
                self.ranking
                    .insert((members.len(), Reverse(*oldest), party.clone()));
            }
            None => {
                self.parties.remove(party);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str) -> Party {
        Party::Arriving(name.into())
    }

    #[test]
    fn while_there_is_room_everybody_has_a_place() {
        let mut crowd = Crowd::default();
        for member in 0..3 {
            assert_eq!(crowd.place_for(&party("flood"), 3), Place::Free);
            crowd.join(&party("flood"), member);
        }
        assert_eq!(crowd.place_for(&party("flood"), 3), Place::Refused);
        crowd.leave(&party("flood"), 1);
        assert_eq!(crowd.place_for(&party("flood"), 3), Place::Free);
        assert_eq!((crowd.len(), crowd.largest()), (2, 2));
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest_of_the_largest_party() {
        let mut crowd = Crowd::default();
        crowd.join(&party("small"), 0);
        for member in 1..=3 {
            crowd.join(&party("large"), member);
        }
        assert_eq!(crowd.place_for(&party("new"), 4), Place::Displacing(1));
        assert_eq!(crowd.place_for(&party("small"), 4), Place::Displacing(1));
        assert_eq!(crowd.place_for(&party("large"), 4), Place::Refused);
        crowd.leave(&party("large"), 1);
        crowd.join(&party("small"), 4);
        // Two and two: neither may displace the other, a third party may displace the oldest.
        for known in ["small", "large"] {
            assert_eq!(crowd.place_for(&party(known), 4), Place::Refused);
        }
        assert_eq!(crowd.place_for(&party("new"), 4), Place::Displacing(0));
    }

    #[test]
    fn nothing_is_kept_of_those_who_left_and_leaving_twice_is_leaving_once() {
        let mut crowd = Crowd::default();
        crowd.join(&party("a"), 1);
        crowd.join(&party("b"), 2);
        crowd.leave(&party("a"), 1);
        crowd.leave(&party("a"), 1);
        assert_eq!(crowd.len(), 1);
        crowd.leave(&party("b"), 2);
        assert!(crowd.parties.is_empty() && crowd.ranking.is_empty());
    }
}

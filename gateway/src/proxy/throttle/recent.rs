//! A table that a stranger can fill: it has a size, and forgets whoever was quiet longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many entries. Looking one up for writing is what keeps it.
pub(in crate::proxy) struct Recent<K, V> {
    most: usize,
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// A table of at most `most` entries.
    pub(in crate::proxy) fn of(most: usize) -> Self {
        Self {
            most,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    /// The entry of `key`, as it stands.
    pub(in crate::proxy) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry of `key`, made by `new` where there is none; the one that nobody touched for
    /// longest goes if the table is full.
    pub(in crate::proxy) fn touch(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        if let Some((turn, _)) = self.entries.get(key) {
            self.order.remove(turn);
        } else if self.entries.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.next += 1;
        let turn = self.next;
        self.order.insert(turn, key.clone());
        let entry = self.entries.entry(key.clone());
        let (current, value) = entry.or_insert_with(|| (turn, new()));
        *current = turn;
        value
    }

    /// Changes the entry of `key` if there is one, without keeping it any longer for that.
    pub(in crate::proxy) fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some((_, value)) = self.entries.get_mut(key) {
            change(value);
        }
    }

    /// Forgets `key`.
    pub(in crate::proxy) fn forget(&mut self, key: &K) {
        if let Some((turn, _)) = self.entries.remove(key) {
            self.order.remove(&turn);
        }
    }

    /// Forgets those who were quiet longest for as long as they are `idle`.
    pub(in crate::proxy) fn forget_idle(&mut self, idle: impl Fn(&V) -> bool) {
        while let Some((_, oldest)) = self.order.first_key_value() {
            match self.entries.get(oldest) {
                Some((_, value)) if !idle(value) => return,
                Some(_) | None => {}
            }
            if let Some((_, oldest)) = self.order.pop_first() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_quiet_longest_makes_way_and_no_other() {
        let mut table = Recent::of(3);
        for key in [1, 2, 3, 1] {
            table.touch(&key, || key);
        }
        table.touch(&4, || 4);
        assert_eq!(table.get(&2), None);
        assert_eq!(
            [1, 3, 4].map(|key| table.get(&key).copied()),
            [1, 3, 4].map(Some)
        );
        assert_eq!((table.entries.len(), table.order.len()), (3, 3));
    }

    #[test]
    fn a_look_and_a_change_keep_nobody() {
        let mut table = Recent::of(2);
        table.touch(&1, || 1);
        table.touch(&2, || 2);
        table.change(&1, |value| *value = 10);
        assert_eq!(table.get(&1), Some(&10));
        table.touch(&3, || 3);
        assert_eq!(table.get(&1), None);
    }

    #[test]
    fn idle_ones_go_up_to_the_first_that_is_not() {
        let mut table = Recent::of(9);
        for (key, idle) in [(1, true), (2, true), (3, false), (4, true)] {
            table.touch(&key, || idle);
        }
        table.forget(&2);
        table.forget_idle(|idle| *idle);
        assert_eq!(
            [1, 2, 3, 4].map(|key| table.get(&key).is_some()),
            [false, false, true, true]
        );
        assert_eq!((table.entries.len(), table.order.len()), (2, 2));
    }
}

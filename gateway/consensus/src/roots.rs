//! The hash of the state at positions of the log, by which nodes see whether theirs are the same.
//!
//! Nodes are not at the same position when they say where they are. So each says what it had after
//! its latest batches, and at the latest positions that are multiples of [`NEAR`] and [`FAR`]: under
//! few writes and under many, two nodes find positions that both know.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The hash of the whole state after an entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rooted {
    /// The entry.
    pub position: u64,
    /// Of the state and the audit logs; of the state alone (`portcullis_policy::State::root`) while those have no leaf.
    pub root: [u8; 32],
}

/// The distance of positions that are told of under few writes.
const NEAR: u64 = 16;
/// The same under many.
const FAR: u64 = 512;
/// Positions of each kind that are told.
const EACH: usize = 8;
/// Positions of each kind that are remembered, to compare with what others tell.
const REMEMBERED: usize = 64;
/// The most positions that one report tells of.
pub const ROOTS_TOLD: usize = 3 * EACH;

/// What this node had, and where.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    ends: VecDeque<Rooted>,
    near: VecDeque<Rooted>,
    far: VecDeque<Rooted>,
}

impl Roots {
    /// Takes note of the state after an entry; `last` of those that were executed together.
    pub(crate) fn note(&mut self, position: u64, last: bool, root: impl FnOnce() -> [u8; 32]) {
        let near = position.is_multiple_of(NEAR);
        if !last && !near {
            return;
        }
        let rooted = Rooted {
            position,
            root: root(),
        };
        if last {
            keep(&mut self.ends, rooted);
        }
        if near {
            keep(&mut self.near, rooted);
        }
        if position.is_multiple_of(FAR) {
            keep(&mut self.far, rooted);
        }
    }

    /// What other nodes are told.
    pub(crate) fn told(&self) -> Vec<Rooted> {
        self.all(EACH)
    }

    /// All that is remembered.
    pub(crate) fn known(&self) -> Vec<Rooted> {
        self.all(REMEMBERED)
    }

    fn all(&self, each: usize) -> Vec<Rooted> {
        let mut all: Vec<Rooted> = Vec::new();
        for kind in [&self.ends, &self.near, &self.far] {
            all.extend(kind.iter().rev().take(each).copied());
        }
        all.sort_unstable_by_key(|rooted| rooted.position);
        all.dedup();
        all
    }
}

fn keep(kind: &mut VecDeque<Rooted>, rooted: Rooted) {
    kind.push_back(rooted);
    if kind.len() > REMEMBERED {
        kind.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of so many entries, up to a position.
    fn after(batch: u64, last: u64) -> Roots {
        let mut roots = Roots::default();
        for position in 1..=last {
            let end = position.is_multiple_of(batch) || position == last;
            roots.note(position, end, || [0; 32]);
        }
        roots
    }

    #[test]
    fn two_nodes_that_batch_otherwise_and_are_apart_have_positions_in_common() {
        for (first, second) in [
            (after(1, 1_003), after(1, 1_000)),
            (after(1, 1_100), after(7, 1_003)),
            (after(256, 9_000), after(100, 6_000)),
        ] {
            let known = first.known();
            let common = second.told().into_iter().filter(|it| known.contains(it));
            assert!(common.count() >= 1);
        }
    }

    #[test]
    fn what_is_told_and_remembered_is_bounded() {
        let roots = after(3, 50_000);
        assert!(roots.told().len() <= ROOTS_TOLD);
        assert!(roots.known().len() <= 3 * REMEMBERED);
        assert_eq!(roots.told().last().unwrap().position, 50_000);
    }
}

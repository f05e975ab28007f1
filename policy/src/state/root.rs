//! Hashes of maps that cost what a change touches, not what exists.
//!
//! A [`Tree`] has a fixed depth: each key falls into one of 4,096 buckets by its own hash, a bucket's hash covers its leaves
//! in the order of their keys, and three levels of sixteen stand above. The same leaves give the same root, in whatever
//! order they came.

use crate::fleet_id::Digest;
use imbl::OrdMap;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A map with the hash of all that is in it. Cloning one is a few counters.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HashedMap<K: Ord + Clone, V> {
    map: OrdMap<K, Arc<V>>,
    tree: Tree,
}

impl<K: Ord + Clone + Serialize, V: Serialize> HashedMap<K, V> {
    pub(super) fn new() -> Self {
        Self {
            map: OrdMap::new(),
            tree: Tree::default(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(Arc::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, value)| (key, value.as_ref()))
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let leaf = hash_of(b"leaf", &(&key, &value));
        self.tree.update([(bytes_of(&key), Some(leaf))]);
        self.map.insert(key, Arc::new(value));
    }

    pub(super) fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.tree.update([(bytes_of(key), None)]);
        }
    }

    pub(super) fn root(&self) -> Digest {
        self.tree.root()
    }
}

impl<K: Ord + Clone, V> fmt::Debug for HashedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of them", self.map.len())
    }
}

/// Leaves by key, and the hashes above them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    leaves: OrdMap<(u16, Arc<[u8]>), Digest>,
    /// By level (0 is the root) and position. What has no leaves beneath it is absent.
    nodes: OrdMap<(u8, u16), Digest>,
}

/// Bits of a position that one level stands for: a fan-out of sixteen.
const BITS: u16 = 4;
const FAN_OUT: u16 = 1 << BITS;
/// The level of the buckets.
const BUCKETS: u8 = 3;

impl Tree {
    /// Puts leaves in, or takes them out, and hashes again what stands above them. Answers how many bytes it hashed.
    pub(super) fn update(
        &mut self,
        leaves: impl IntoIterator<Item = (Arc<[u8]>, Option<Digest>)>,
    ) -> usize {
        let mut touched = BTreeSet::new();
        for (key, leaf) in leaves {
            let bucket = bucket_of(&key);
            touched.insert(bucket);
            match leaf {
                Some(leaf) => self.leaves.insert((bucket, key), leaf),
                None => self.leaves.remove(&(bucket, key)),
            };
        }
        let mut work = 0;
        for bucket in &touched {
            let hash = self.hash_of_bucket(*bucket, &mut work);
            self.set(BUCKETS, *bucket, hash);
        }
        for level in (0..BUCKETS).rev() {
            touched = touched.iter().map(|position| position >> BITS).collect();
            for position in &touched {
                let hash = self.hash_of_inner(level, *position, &mut work);
                self.set(level, *position, hash);
            }
        }
        work
    }

    /// The hash of everything. An empty tree has zeros.
    pub(super) fn root(&self) -> Digest {
        self.node(0, 0)
    }

    fn hash_of_bucket(&self, bucket: u16, work: &mut usize) -> Option<Digest> {
        let mut hasher = Hasher::new(b"bucket");
        let from: (u16, Arc<[u8]>) = (bucket, Arc::from([].as_slice()));
        let mut empty = true;
        for ((of, key), leaf) in self.leaves.range(from..) {
            if *of != bucket {
                break;
            }
            empty = false;
            hasher.sized(key);
            hasher.add(leaf.as_bytes());
        }
        *work += hasher.bytes;
        (!empty).then(|| hasher.finish())
    }

    fn hash_of_inner(&self, level: u8, position: u16, work: &mut usize) -> Option<Digest> {
        let mut hasher = Hasher::new(b"inner");
        let mut empty = true;
        for child in 0..FAN_OUT {
            let at = (level + 1, (position << BITS) | child);
            empty &= !self.nodes.contains_key(&at);
            hasher.add(self.node(at.0, at.1).as_bytes());
        }
        *work += hasher.bytes;
        (!empty).then(|| hasher.finish())
    }

    fn node(&self, level: u8, position: u16) -> Digest {
        const NOTHING: Digest = Digest::new([0; 32]);
        self.nodes
            .get(&(level, position))
            .copied()
            .unwrap_or(NOTHING)
    }

    fn set(&mut self, level: u8, position: u16, hash: Option<Digest>) {
        match hash {
            Some(hash) => self.nodes.insert((level, position), hash),
            None => self.nodes.remove(&(level, position)),
        };
    }
}

/// SHA-256 over parts, told apart from other uses by a first word.
pub(super) struct Hasher {
    hasher: Sha256,
    bytes: usize,
}

impl Hasher {
    pub(super) fn new(purpose: &[u8]) -> Self {
        let mut hasher = Self {
            hasher: Sha256::new(),
            bytes: 0,
        };
        hasher.sized(purpose);
        hasher
    }

    /// Adds bytes whose number is known from the place.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len();
    }

    pub(super) fn number(&mut self, number: u64) {
        self.add(&number.to_be_bytes());
    }

    /// Adds bytes with their number before them.
    fn sized(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.add(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest::new(self.hasher.finalize().into())
    }
}

/// The SHA-256 of these bytes and nothing else.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// The hash of a value as it is encoded.
pub(super) fn hash_of(purpose: &[u8], value: &impl Serialize) -> Digest {
    let mut hasher = Hasher::new(purpose);
    hasher.sized(&encoded(value));
    hasher.finish()
}

fn bytes_of(key: &impl Serialize) -> Arc<[u8]> {
    Arc::from(encoded(key))
}

/// The value in postcard. What the state is made of can always be encoded: no floats' maps, no lengths unknown.
fn encoded(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).unwrap_or_default()
}

fn bucket_of(key: &[u8]) -> u16 {
    const IN_USE: u16 = (1 << (BITS * BUCKETS as u16)) - 1;
    let [high, low, ..] = *sha256(key).as_bytes();
    u16::from_be_bytes([high, low]) & IN_USE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Arc<[u8]> {
        Arc::from(format!("tenant-{number}").as_bytes())
    }

    fn leaf(number: u32) -> Option<Digest> {
        Some(sha256(&number.to_be_bytes()))
    }

    fn tree(numbers: impl Iterator<Item = u32>) -> Tree {
        let mut tree = Tree::default();
        tree.update(numbers.map(|number| (key(number), leaf(number))));
        tree
    }

    #[test]
    fn the_order_in_which_leaves_came_does_not_show() {
        let forth = tree(0..500);
        let mut back = Tree::default();
        for number in (0..600).rev() {
            back.update([(key(number), leaf(number + 1))]);
            back.update([(key(number), leaf(number))]);
        }
        assert_ne!(forth.root(), back.root());
        for number in 500..600 {
            back.update([(key(number), None)]);
        }
        assert!(forth == back && forth.root() == back.root());
    }

    #[test]
    fn every_difference_shows_and_nothing_is_left_of_what_is_gone() {
        let mut changed = tree(0..500);
        let before = changed.root();
        changed.update([(key(250), leaf(7))]);
        assert_ne!(changed.root(), before);
        changed.update([(key(250), None)]);
        assert_ne!(changed.root(), before);
        changed.update([(key(250), leaf(250))]);
        assert_eq!(changed.root(), before);
        changed.update((0..500).map(|number| (key(number), None)));
        assert!(changed == Tree::default());
    }

    #[test]
    fn a_change_costs_what_it_touches_whatever_else_there_is() {
        let cost = |size: u32| {
            let mut tree = tree(0..size);
            let work = (0..100).map(|number| tree.update([(key(number), leaf(number + 1))]));
            work.max().unwrap()
        };
        let (small, large) = (cost(1_000), cost(40_000));
        // Four times three levels of sixteen hashes, and a bucket with some ten leaves at 40,000.
        assert!(small < 2_500, "{small}");
        assert!(large < 2 * small, "{large} against {small}");
    }
}

//! A tree that grows, kept as the few hashes that its next leaves need.

use super::hash::Hash;

/// A Merkle tree of any number of leaves (RFC 6962, section 2.1), of which only the full subtrees along its right edge are kept: at most 64
/// hashes. A leaf costs two hashes on average.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The roots of the full subtrees, largest first: one for each bit of the size that is set.
    peaks: Vec<Hash>,
}

/// The hash of a full subtree: of leaves `index << level` up to `(index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// How many levels of nodes lie below: 0 for a leaf.
    pub level: u8,
    /// How many such subtrees lie to its left.
    pub index: u64,
}

impl Tree {
    /// The tree without leaves.
    pub const EMPTY: Self = Self {
        size: 0,
        peaks: Vec::new(),
    };

    /// A tree of this size with these peaks, largest first; nothing if it would have another number of them.
    pub fn restore(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        let wanted = usize::try_from(size.count_ones()).ok()?;
        (peaks.len() == wanted).then_some(Self { size, peaks })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its full subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root hash.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().copied();
        let smallest = peaks.next();
        smallest.map_or_else(Hash::of_nothing, |smallest| {
            peaks.fold(smallest, |right, left| Hash::of_node(left, right))
        })
    }

    /// Adds a leaf by its hash, and shows each subtree that it completes, from the leaf itself upwards.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(Subtree, Hash)) {
        let mut at = Subtree {
            level: 0,
            index: self.size,
        };
        let mut hash = leaf;
        completed(at, hash);
        // A right child completes its parent, whose left child is the last peak.
        while at.index % 2 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = Hash::of_node(left, hash);
            at = Subtree {
                level: at.level + 1,
                index: at.index / 2,
            };
            completed(at, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.append(leaf, |_, _| {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// RFC 6962, section 2.1, word for word.
    fn root_of(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Hash::of_nothing(),
            [leaf] => Hash::of_leaf(leaf),
            more => {
                let split = more.len().next_power_of_two() / 2;
                let (left, right) = more.split_at(split);
                Hash::of_node(root_of(left), root_of(right))
            }
        }
    }

    #[test]
    fn its_root_is_what_the_standard_says_at_every_size() {
        let leaves: Vec<Vec<u8>> = (0_u16..300).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut tree = Tree::EMPTY;
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), root_of(&leaves[..size]), "{size}");
            tree.push(Hash::of_leaf(leaf));
            let again = Tree::restore(tree.size(), tree.peaks().to_vec());
            assert_eq!(again.as_ref(), Some(&tree));
        }
        assert_eq!(Tree::restore(3, vec![Hash::of_nothing()]), None);
    }

    #[test]
    fn each_full_subtree_is_shown_once_with_its_hash() {
        let leaves: Vec<Vec<u8>> = (0_u8..100).map(|n| vec![n]).collect();
        let (mut tree, mut seen) = (Tree::EMPTY, BTreeMap::new());
        for leaf in &leaves {
            tree.append(Hash::of_leaf(leaf), |at, hash| {
                assert_eq!(seen.insert(at, hash), None);
            });
        }
        let mut wanted = 0;
        for level in 0_u8..7 {
            for (index, leaves) in leaves.chunks_exact(1 << level).enumerate() {
                let index = u64::try_from(index).unwrap();
                assert_eq!(seen[&Subtree { level, index }], root_of(leaves));
                wanted += 1;
            }
        }
        assert_eq!(seen.len(), wanted);
    }
}

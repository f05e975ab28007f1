//! Logs in memory, of any history.

use std::collections::BTreeMap;

use portcullis_audit::tlog::{Hash, Note, Subtree, Subtrees, Tree, prove_consistency};

/// A log in memory; an entry is a number and a story.
pub(crate) struct Grown {
    hashes: BTreeMap<Subtree, Hash>,
}

impl Grown {
    pub(crate) fn new(stories: &[u32]) -> Self {
        let (mut tree, mut hashes) = (Tree::EMPTY, BTreeMap::new());
        for (index, story) in stories.iter().enumerate() {
            tree.append(leaf(index, *story), |at, hash| {
                hashes.insert(at, hash);
            });
        }
        Self { hashes }
    }

    pub(crate) fn tree(&self, size: usize) -> Tree {
        let mut tree = Tree::EMPTY;
        for index in 0..size as u64 {
            tree.push(self.hashes[&Subtree { level: 0, index }]);
        }
        tree
    }

    pub(crate) fn note(&self, size: usize) -> Note {
        super::sign(super::FLEET, &self.tree(size), &[], 1)
    }

    pub(crate) fn proof(&self, old: usize, new: usize) -> Vec<Hash> {
        prove_consistency(old as u64, new as u64, &mut Read(&self.hashes)).unwrap()
    }
}

struct Read<'a>(&'a BTreeMap<Subtree, Hash>);

impl Subtrees for Read<'_> {
    type Error = &'static str;

    fn subtree(&mut self, at: Subtree) -> Result<Hash, Self::Error> {
        self.0.get(&at).copied().ok_or("not there")
    }
}

pub(crate) fn tree(stories: &[u32]) -> Tree {
    Grown::new(stories).tree(stories.len())
}

fn leaf(index: usize, story: u32) -> Hash {
    Hash::of_leaf(format!("{index} of {story}").as_bytes())
}

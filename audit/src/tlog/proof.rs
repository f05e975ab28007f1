//! Proofs that a leaf is in a tree, and that one tree began as another (RFC 6962, sections 2.1.1 and 2.1.2; the algorithms that check them
//! are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use std::fmt;

use super::hash::Hash;
use super::tree::Subtree;

/// Hashes in a proof; a tree of 2⁶³ leaves needs no more.
pub const MAX_PROOF_HASHES: usize = 63;

/// Where the hashes of full subtrees are read.
pub trait Subtrees {
    /// Why one cannot be read.
    type Error;

    /// The hash of a full subtree.
    ///
    /// # Errors
    /// It is not there, or what is there is no such hash.
    fn subtree(&mut self, at: Subtree) -> Result<Hash, Self::Error>;
}

/// The proof that leaf `index` is in the tree of this size: from its sibling's hash up to the root's child's.
///
/// # Errors
/// [`NoProof`]
pub fn prove_inclusion<S: Subtrees>(
    index: u64,
    size: u64,
    from: &mut S,
) -> Result<Vec<Hash>, NoProof<S::Error>> {
    if index >= size || size > MAX_SIZE {
        return Err(NoProof::Outside);
    }
    let mut proof = Vec::new();
    let (mut begin, mut end) = (0, size);
    // From the root downwards: at each node the child without the leaf is needed.
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            proof.push(root_of(middle, end, from)?);
            end = middle;
        } else {
            proof.push(root_of(begin, middle, from)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of size `new` begins with the tree of size `old`.
///
/// # Errors
/// [`NoProof`]
pub fn prove_consistency<S: Subtrees>(
    old: u64,
    new: u64,
    from: &mut S,
) -> Result<Vec<Hash>, NoProof<S::Error>> {
    if old > new || new > MAX_SIZE {
        return Err(NoProof::Outside);
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut begin, mut end) = (0, new);
    // Down to the subtree whose right edge is the old tree's.
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(root_of(middle, end, from)?);
            end = middle;
        } else {
            proof.push(root_of(begin, middle, from)?);
            begin = middle;
        }
    }
    // The old tree itself is known to whoever checks.
    if begin != 0 {
        proof.push(root_of(begin, end, from)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root of the tree of this size.
///
/// # Errors
/// [`NoProof`]
pub fn root_at<S: Subtrees>(size: u64, from: &mut S) -> Result<Hash, NoProof<S::Error>> {
    match size {
        0 => Ok(Hash::of_nothing()),
        size if size > MAX_SIZE => Err(NoProof::Outside),
        size => root_of(0, size, from),
    }
}

/// Whether `proof` shows that the leaf with this hash has this index in the tree of this size and root.
///
/// # Errors
/// [`WrongProof`]
pub fn check_inclusion(
    leaf: Hash,
    index: u64,
    proof: &[Hash],
    size: u64,
    root: Hash,
) -> Result<(), WrongProof> {
    if index >= size {
        return Err(WrongProof::Outside);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(WrongProof::Length);
        }
        if node % 2 == 1 || node == last {
            hash = Hash::of_node(*sibling, hash);
            // The last node of a level without a sibling is its own parent.
            while node.is_multiple_of(2) && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            hash = Hash::of_node(hash, *sibling);
        }
        node /= 2;
        last /= 2;
    }
    match (last, hash == root) {
        (0, true) => Ok(()),
        (0, false) => Err(WrongProof::Root),
        (_, _) => Err(WrongProof::Length),
    }
}

/// Whether `proof` shows that the tree of size `new` begins with the tree of size `old`.
///
/// # Errors
/// [`WrongProof`]
pub fn check_consistency(
    (old, old_root): (u64, Hash),
    (new, new_root): (u64, Hash),
    proof: &[Hash],
) -> Result<(), WrongProof> {
    if old > new {
        return Err(WrongProof::Outside);
    }
    if old == new || old == 0 {
        let fits = old == 0 && old_root == Hash::of_nothing() || old == new && old_root == new_root;
        return match (proof, fits) {
            ([], true) => Ok(()),
            ([], false) => Err(WrongProof::Root),
            (_, _) => Err(WrongProof::Length),
        };
    }
    // A power of two is a subtree of the new tree, which the proof leaves out because it is known.
    let (first, rest) = match (old.is_power_of_two(), proof) {
        (true, rest) => (old_root, rest),
        (false, [first, rest @ ..]) => (*first, rest),
        (false, []) => return Err(WrongProof::Length),
    };
    if rest.is_empty() {
        return Err(WrongProof::Length);
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node % 2 == 1 {
        node /= 2;
        last /= 2;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(WrongProof::Length);
        }
        if node % 2 == 1 || node == last {
            old_hash = Hash::of_node(*sibling, old_hash);
            new_hash = Hash::of_node(*sibling, new_hash);
            while node.is_multiple_of(2) && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            new_hash = Hash::of_node(new_hash, *sibling);
        }
        node /= 2;
        last /= 2;
    }
    match (last, old_hash == old_root && new_hash == new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(WrongProof::Root),
        (_, _) => Err(WrongProof::Length),
    }
}

/// Leaves of the largest tree.
pub const MAX_SIZE: u64 = 1 << 62;

/// The largest power of two below `size`, which is 2 at least.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root of leaves `begin..end`: a range that a tree's own splitting leads to, so that its left parts are full subtrees.
fn root_of<S: Subtrees>(begin: u64, end: u64, from: &mut S) -> Result<Hash, NoProof<S::Error>> {
    let mut full = Vec::new();
    let mut at = begin;
    while at < end {
        let size = 1_u64 << (end - at).ilog2();
        let level = u8::try_from(size.ilog2()).map_err(|_| NoProof::Outside)?;
        let index = at >> level;
        full.push(
            from.subtree(Subtree { level, index })
                .map_err(NoProof::Source)?,
        );
        at += size;
    }
    let mut full = full.into_iter().rev();
    let smallest = full.next().ok_or(NoProof::Outside)?;
    Ok(full.fold(smallest, |right, left| Hash::of_node(left, right)))
}

/// There is no proof to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoProof<E> {
    /// The leaf or the older tree is not in the tree.
    Outside,
    /// A hash could not be read.
    Source(E),
}

impl<E: fmt::Display> fmt::Display for NoProof<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("it is not in the tree"),
            Self::Source(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for NoProof<E> {}

/// A proof does not show what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongProof {
    /// The index or the older size is not within the tree.
    Outside,
    /// It has too many hashes, or too few.
    Length,
    /// It leads to another root.
    Root,
}

impl fmt::Display for WrongProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "what it is about is not within the tree",
            Self::Length => "it has too many hashes, or too few",
            Self::Root => "it leads to another root",
        })
    }
}

impl std::error::Error for WrongProof {}

//! The hashes of the tree (RFC 6962, section 2.1): SHA-256, with leaves and nodes told apart.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A SHA-256 hash of a leaf, a node or a whole tree. Shown, and written into checkpoints and proofs, as base64 (RFC 4648, section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

impl Hash {
    /// Of the tree without leaves.
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Of a leaf with these bytes.
    pub fn of_leaf(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([LEAF]);
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    /// Of a node with these two below it.
    pub fn of_node(left: Self, right: Self) -> Self {
        let mut bytes = [NODE; 1 + 2 * HASH_BYTES];
        let (_, below) = bytes.split_at_mut(1);
        let (to_left, to_right) = below.split_at_mut(HASH_BYTES);
        to_left.copy_from_slice(&left.0);
        to_right.copy_from_slice(&right.0);
        Self(Sha256::digest(bytes).into())
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

const LEAF: u8 = 0;
const NODE: u8 = 1;

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written_and_in_no_other_spelling() {
        // SHA-256 of nothing: RFC 6962, section 2.1.
        let text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Hash::of_nothing().to_string(), text);
        assert_eq!(Hash::parse(text), Some(Hash::of_nothing()));
        for other in [
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            " 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "AAAA",
            "",
        ] {
            assert_eq!(Hash::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_leaf_is_never_a_node() {
        let (left, right) = (Hash::of_leaf(b"a"), Hash::of_leaf(b"b"));
        let node = [left.0, right.0].concat();
        assert_ne!(Hash::of_leaf(&node), Hash::of_node(left, right));
        assert_ne!(Hash::of_node(left, right), Hash::of_node(right, left));
    }
}

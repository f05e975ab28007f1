//! The one file that draws randomness for the gateway.

use portcullis_policy::Reference;

/// `N` bytes from the operating system's generator (through `rand`'s thread generator, which is
/// seeded and reseeded from it).
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    rand::fill(&mut out[..]);
    out
}

/// A fresh reference for an attempt. 60 random bits: unguessable enough to be quoted, short
/// enough to be read out on the telephone.
#[must_use]
pub fn reference() -> Reference {
    Reference::from_bits(u64::from_be_bytes(bytes()))
}

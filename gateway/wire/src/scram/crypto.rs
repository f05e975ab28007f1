//! The few operations that both sides share.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a SHA-256 hash, and of every key made with it.
pub(super) const HASH: usize = 32;

/// What a client proves to hold: HMAC(SaltedPassword, "Client Key"). A credential; see the module's introduction.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ClientKey(pub(crate) [u8; HASH]);

/// HMAC-SHA-256 (RFC 2104) over the concatenation of `parts`.
pub(super) fn hmac(key: &[u8; HASH], parts: &[&[u8]]) -> [u8; HASH] {
    // The constructor for a whole block cannot fail; HMAC pads a shorter key with zeros to just this block.
    let mut block = [0; BLOCK];
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&block).into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; HASH] {
    Sha256::digest(bytes).into()
}

pub(super) fn xor(left: &[u8; HASH], right: &[u8; HASH]) -> [u8; HASH] {
    let mut out = *left;
    for (slot, byte) in out.iter_mut().zip(right) {
        *slot ^= byte;
    }
    out
}

/// Base64 with padding, as PostgreSQL writes it.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Strict base64: the one canonical spelling of the bytes, or `None`.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Strict base64 of exactly one hash.
pub(super) fn hash_from_base64(text: &str) -> Option<[u8; HASH]> {
    let mut bytes = from_base64(text)?;
    let hash = bytes.as_slice().try_into().ok();
    bytes.zeroize();
    hash
}

/// The block of SHA-256.
const BLOCK: usize = 64;

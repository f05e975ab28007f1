//! Protocol 3.0: 31 bits of process id and 32 bits of secret, and not one to spare for a tag.
//!
//! So the key is a permutation of 63 bits: FF1 (NIST SP 800-38G) over AES-256, radix 2. Every 63 bits open to something; a stranger's hit a
//! live connection with probability (live connections) / 2^63, as if keys were drawn at random.
//!
//! ```text
//!   62        51 50        39 38                             0
//!  +------------+------------+--------------------------------+
//!  | node, not 0|  all zero  | first + serial, modulo 2^39    |
//!  +------------+------------+--------------------------------+
//! ```
//!
//! `first` is random in each run, so that a key of an earlier run names a connection of this one with probability
//! (live connections) / 2^39. The zeros tell another node's key from a forgery, but for one forgery in 4096: what will be forwarded to
//! other nodes must not be what any stranger sends. They cost nothing: a guess is as hard with them as without.

use aes::Aes256;
use fpe::ff1::{FF1, FlexibleNumeralString};

use super::{CancelKey, Issuer, SealError, Unopened};

pub(super) struct Short {
    permutation: FF1<Aes256>,
    node: u64,
    first: u64,
}

/// Serial numbers before they begin again: at 10,000 connections a second, after a year and a half.
pub(super) const SERIALS: u64 = 1 << SERIAL_BITS;
const SERIAL_BITS: u32 = 39;
const ZERO_BITS: u32 = 12;
/// Nodes are numbered from 1; see [`is_proper`].
const NODES: u64 = (1 << 12) - 1;
const BITS: u32 = 63;

impl Short {
    pub(super) fn new(key: &[u8; 32], node: u64, first: u64) -> Result<Self, SealError> {
        Ok(Self {
            permutation: FF1::new(key, 2).map_err(|_| SealError)?,
            node: shortened(node),
            first,
        })
    }

    pub(super) fn seal(&self, serial: u64) -> Result<CancelKey, SealError> {
        let counted = self.first.wrapping_add(serial) % SERIALS;
        let bits = self.permute(self.node << (SERIAL_BITS + ZERO_BITS) | counted)?;
        let [_, _, _, _, secret @ ..] = bits.to_be_bytes();
        Ok(CancelKey {
            pid: u32::try_from(bits >> 32).map_err(|_| SealError)?,
            secret: secret.to_vec(),
        })
    }

    pub(super) fn open(&self, pid: u32, secret: [u8; 4]) -> Result<u64, Unopened> {
        let bits = u64::from(pid) << 32 | u64::from(u32::from_be_bytes(secret));
        if !is_proper(bits) {
            return Err(Unopened::Unknown);
        }
        let bits = self.restore(bits).map_err(|SealError| Unopened::Unknown)?;
        let node = bits >> (SERIAL_BITS + ZERO_BITS);
        let zeros = bits >> SERIAL_BITS & ((1 << ZERO_BITS) - 1);
        if zeros != 0 || node == 0 {
            return Err(Unopened::Unknown);
        }
        if node != self.node {
            return Err(Unopened::OtherNode(Issuer::short(node)));
        }
        Ok((bits % SERIALS).wrapping_sub(self.first) % SERIALS)
    }

    /// Permuted again until it is proper ("cycle walking"): what is left is a permutation of what is proper. One key in 2^31 needs it.
    fn permute(&self, mut bits: u64) -> Result<u64, SealError> {
        loop {
            let permuted = self.permutation.encrypt(&[], &pack(bits));
            bits = unpack(permuted.map_err(|_| SealError)?);
            if is_proper(bits) {
                return Ok(bits);
            }
        }
    }

    fn restore(&self, mut bits: u64) -> Result<u64, SealError> {
        loop {
            let restored = self.permutation.decrypt(&[], &pack(bits));
            bits = unpack(restored.map_err(|_| SealError)?);
            if is_proper(bits) {
                return Ok(bits);
            }
        }
    }
}

/// What stands for a node in a short key.
pub(super) const fn shortened(node: u64) -> u64 {
    1 + node % NODES
}

/// 63 bits, of which the upper 31, the process id, are not all zero. What is sealed is so because nodes are numbered from 1.
fn is_proper(bits: u64) -> bool {
    bits >> 32 != 0 && bits >> BITS == 0
}

fn pack(bits: u64) -> FlexibleNumeralString {
    let numerals: Vec<u16> = (0..BITS)
        .rev()
        .map(|place| u16::from(bits >> place & 1 == 1))
        .collect();
    numerals.into()
}

fn unpack(numerals: FlexibleNumeralString) -> u64 {
    Vec::from(numerals)
        .iter()
        .fold(0, |bits, numeral| bits << 1 | u64::from(*numeral))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_have_the_process_id_zero_is_permuted_once_more() {
        let short = Short::new(&[7; 32], 1, 0).unwrap();
        let raw = |bits| unpack(short.permutation.encrypt(&[], &pack(bits)).unwrap());
        for without_pid in [0, 5, u64::from(u32::MAX)] {
            let before = unpack(short.permutation.decrypt(&[], &pack(without_pid)).unwrap());
            let key = short.permute(before).unwrap();
            assert_eq!((raw(before), raw(without_pid)), (without_pid, key));
            assert_eq!(short.restore(key), Ok(before));
        }
    }
}

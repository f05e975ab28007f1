//! Cancel keys that name their connection to whoever holds the fleet's secret, and tell nothing to anybody else.
//!
//! A key is sealed, not looked up: inside are a node, the run of its process and the connection's serial number. A driver keeps it for as
//! long as its connection lives and shows the process id to people, so what a stranger sees must be as good as random. What each form
//! holds, and what a guess is worth, stands in its file.
//!
//! Deliberately absent: addresses (a key that said where to go could be forged to go elsewhere), and what a key may do. Whoever opens one
//! knows which connection is meant, not that its holder may cancel it.

mod long;
mod short;

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use self::long::Long;
use self::short::Short;

/// The keys of one run of one node.
pub struct CancelKeys {
    short: Short,
    long: Long,
    secret: Zeroizing<[u8; 32]>,
}

impl CancelKeys {
    /// The keys of the node `node`. `secret` is the fleet's, `run` and `first` are random and drawn when the process starts.
    ///
    /// # Errors
    /// [`SealError`], if the library refuses a key of the right length.
    pub fn new(
        secret: &[u8; 32],
        node: &str,
        run: [u8; 8],
        first: [u8; 8],
    ) -> Result<Self, SealError> {
        let node = number(secret, node)?;
        Ok(Self {
            short: Short::new(&derived(secret, SHORT)?, node, u64::from_be_bytes(first))?,
            long: Long::new(&derived(secret, LONG)?, node, run)?,
            secret: Zeroizing::new(*secret),
        })
    }

    /// The key of the connection `serial` for a client of protocol 3.0: a secret of 4 bytes.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn short(&self, serial: u64) -> Result<CancelKey, SealError> {
        self.short.seal(serial)
    }

    /// The key of the connection `serial` for a client of protocol 3.2. `pid` and `nonce` are random, anew for
    /// each key.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn long(&self, serial: u64, pid: [u8; 4], nonce: [u8; 12]) -> Result<CancelKey, SealError> {
        self.long.seal(serial, pid, nonce)
    }

    /// The serial number of the connection that a key names.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(&self, pid: u32, secret: &[u8]) -> Result<u64, Unopened> {
        match <[u8; 4]>::try_from(secret) {
            Ok(secret) => self.short.open(pid, secret),
            Err(_) => self.long.open(pid, secret),
        }
    }
}

impl CancelKeys {
    /// Whether this node may have issued a key. Of a short key, one node in 4095 is taken for another.
    pub fn issued(&self, issuer: Issuer, node: &str) -> bool {
        let Ok(number) = number(&self.secret, node) else {
            return false;
        };
        match issuer.0 {
            Width::Short(short) => short == short::shortened(number),
            Width::Long(long) => long == number,
        }
    }
}

impl fmt::Debug for CancelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKeys").finish_non_exhaustive()
    }
}

/// A key as a client is given it in BackendKeyData.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// A number from 1 to 2^31 - 1: drivers show it to people and some take 0 for "none".
    pub pid: u32,
    /// 4 bytes, or [`LONG_SECRET`].
    pub secret: Vec<u8>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Bytes of the secret for protocol 3.2.
pub const LONG_SECRET: usize = long::SECRET;

/// Why a key names no connection of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// It is forged, garbled, or of another run of this node.
    Unknown,
    /// Another node of the fleet issued it.
    OtherNode(Issuer),
}

/// What a key says of the node that issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issuer(Width);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Short(u64),
    Long(u64),
}

impl Issuer {
    const fn short(node: u64) -> Self {
        Self(Width::Short(node))
    }

    const fn long(node: u64) -> Self {
        Self(Width::Long(node))
    }
}

/// A key could not be sealed. Nothing a client does leads to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cancel key could not be sealed")
    }
}

impl std::error::Error for SealError {}

/// What each key is for. None holds a zero byte: what mock verifiers are derived with always does.
const SHORT: &[u8] = b"portcullis cancel key, protocol 3.0";
const LONG: &[u8] = b"portcullis cancel key, protocol 3.2";
const NODE: &[u8] = b"portcullis cancel key, node ";

/// What stands for a node in a key: its name, hashed with the secret.
fn number(secret: &[u8; 32], node: &str) -> Result<u64, SealError> {
    let [a, b, c, d, e, f, g, h, ..] = derived(secret, &[NODE, node.as_bytes()].concat())?;
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn derived(secret: &[u8; 32], label: &[u8]) -> Result<[u8; 32], SealError> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label);
    // The tag of HMAC-SHA-256 is this long; were it not, no key would be better than a known one.
    tag.as_ref().try_into().map_err(|_| SealError)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn keys(node: &str, incarnation: u8) -> CancelKeys {
        CancelKeys::new(&SECRET, node, [incarnation; 8], [incarnation; 8]).unwrap()
    }

    fn both(keys: &CancelKeys, serial: u64) -> [CancelKey; 2] {
        [
            keys.short(serial).unwrap(),
            keys.long(serial, [3; 4], [3; 12]).unwrap(),
        ]
    }

    #[test]
    fn a_key_opens_to_its_serial_number_and_has_its_form() {
        let keys = keys("gw1", 1);
        for serial in [0, 1, 2, 77, u64::from(u32::MAX), short::SERIALS - 1] {
            let [short, long] = both(&keys, serial);
            assert_eq!((short.secret.len(), long.secret.len()), (4, LONG_SECRET));
            for key in [short, long] {
                assert_eq!(keys.open(key.pid, &key.secret), Ok(serial));
                assert!((1..=0x7FFF_FFFF).contains(&key.pid), "{key:?}");
            }
        }
    }

    #[test]
    fn no_single_bit_of_a_key_can_be_changed() {
        let keys = keys("gw1", 1);
        for serial in [5, 1_000_000] {
            for key in both(&keys, serial) {
                let whole = [&key.pid.to_be_bytes()[..], &key.secret].concat();
                for bit in 0..whole.len() * 8 {
                    let mut forged = whole.clone();
                    forged[bit / 8] ^= 1 << (bit % 8);
                    let (pid, secret) = forged.split_first_chunk().unwrap();
                    let opened = keys.open(u32::from_be_bytes(*pid), secret);
                    assert!(opened.is_err(), "bit {bit} of {key:?}: {opened:?}");
                }
            }
        }
    }

    #[test]
    fn a_key_of_another_length_opens_nothing() {
        let keys = keys("gw1", 1);
        let [short, long] = both(&keys, 5);
        for secret in [
            &[][..],
            &short.secret[..3],
            &[&short.secret[..], &[0]].concat(),
            &long.secret[..LONG_SECRET - 1],
            &[&long.secret[..], &[0]].concat(),
            &[0; 256],
        ] {
            assert_eq!(keys.open(long.pid, secret), Err(Unopened::Unknown));
            assert_eq!(keys.open(short.pid, secret), Err(Unopened::Unknown));
        }
    }

    #[test]
    fn another_nodes_key_is_known_for_one_and_a_key_of_an_earlier_run_for_none() {
        let keys_of_one = keys("gw1", 1);
        for key in both(&keys("gw2", 1), 5) {
            let Err(Unopened::OtherNode(issuer)) = keys_of_one.open(key.pid, &key.secret) else {
                panic!("it is gw2's");
            };
            assert!(keys_of_one.issued(issuer, "gw2"));
            assert!(!keys_of_one.issued(issuer, "gw3"));
        }
        let [short, long] = both(&keys("gw1", 2), 5);
        assert_eq!(
            keys_of_one.open(long.pid, &long.secret),
            Err(Unopened::Unknown)
        );
        // Its serial number is one of this run, but 5 is far from it.
        let other = keys_of_one.open(short.pid, &short.secret).unwrap();
        assert!(other > 1 << 30, "{other}");
    }

    #[test]
    fn a_key_of_another_fleet_opens_nothing() {
        let stranger = CancelKeys::new(&[8; 32], "gw1", [1; 8], [1; 8]).unwrap();
        for key in both(&stranger, 5) {
            assert_eq!(
                keys("gw1", 1).open(key.pid, &key.secret),
                Err(Unopened::Unknown)
            );
        }
    }

    #[test]
    fn keys_of_neighbours_have_no_more_bits_in_common_than_strangers() {
        let keys = keys("gw1", 1);
        let seal = |serial: u64| {
            let drawn = derived(&SECRET, &serial.to_be_bytes()).unwrap();
            let long = keys
                .long(
                    serial,
                    *drawn.first_chunk().unwrap(),
                    *drawn.last_chunk().unwrap(),
                )
                .unwrap();
            let short = keys.short(serial).unwrap();
            [short, long].map(|key| [&key.pid.to_be_bytes()[..], &key.secret].concat())
        };
        let mut seen = BTreeSet::new();
        let mut differing = [0_u32; 2];
        let pairs = 1_000_u32;
        for serial in 0..u64::from(pairs) {
            let (one, next) = (seal(serial), seal(serial + 1));
            for (count, (one, next)) in differing.iter_mut().zip(one.iter().zip(&next)) {
                let bits = one.iter().zip(next).map(|(a, b)| (a ^ b).count_ones());
                *count += bits.sum::<u32>();
                seen.insert(one.clone());
            }
        }
        assert_eq!(seen.len(), 2 * usize::try_from(pairs).unwrap());
        // Half of 63 bits, and half of 31 + 8 × 52. A thousand pairs: within a bit of it.
        for (count, expected) in differing.iter().zip([31.5, 223.5]) {
            let mean = f64::from(*count) / f64::from(pairs);
            assert!((mean - expected).abs() < 1.5, "{mean} of {expected}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = keys("gw1", 1).short(5).unwrap();
        assert_eq!(
            format!("{key:?}"),
            format!("CancelKey {{ pid: {}, .. }}", key.pid)
        );
    }
}

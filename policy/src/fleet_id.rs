//! Names of what makes up a fleet: nodes, operators, and the numbers by which requests and keys are known.

use crate::text::{quoted, serde_as_text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// A node of the fleet. The first is 1, each later one the revision at which it was admitted; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The node that founds a fleet.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The node with this number; `None` for 0, which is nobody.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number after this one, or this one at the end of the scale.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A change that waits for a second person: the revision at which it was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PendingId(u64);

impl PendingId {
    /// The pending change with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PendingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes that are written and read as lower-case hexadecimal digits.
macro_rules! hex {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The value that has these bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                digits(text).map(Self).ok_or_else(|| HexError {
                    what: $what,
                    digits: 2 * $bytes,
                    text: quoted(text),
                })
            }
        }
        serde_as_text!($name, $what);
    };
}

hex! {
    /// A fleet: 16 random bytes, made when it was founded.
    FleetId, 16, "a fleet id"
}
hex! {
    /// A request, by the number that its author gave it, so that a repetition is known as one.
    RequestId, 16, "a request id"
}
hex! {
    /// The SHA-256 of a key or of a secret token.
    KeyHash, 32, "the hash of a key"
}
hex! {
    /// The SHA-256 of what somebody looked at, or of a part of the state.
    Digest, 32, "a digest"
}

fn digits<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

/// The text is not the right number of lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexError {
    what: &'static str,
    digits: usize,
    text: String,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, digits, text } = self;
        write!(
            f,
            "{text} is not {what}: {digits} lower-case hexadecimal digits are needed"
        )
    }
}

impl std::error::Error for HexError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_names_are_read_as_they_are_written() {
        let mut bytes = [0; 16];
        bytes[0] = 0xab;
        bytes[15] = 7;
        let text = FleetId::new(bytes).to_string();
        assert_eq!(text, "ab000000000000000000000000000007");
        assert_eq!(text.parse(), Ok(FleetId::new(bytes)));
        for bad in [
            "",
            "ab",
            "AB000000000000000000000000000007",
            "ab00000000000000000000000000000g",
            "ab0000000000000000000000000000070",
            "ab000000000000000000000000000é",
        ] {
            assert!(bad.parse::<FleetId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_is_node_0() {
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(1), Some(NodeId::FIRST));
        assert!(serde_json::from_str::<NodeId>("0").is_err());
    }
}

//! The reference of an attempt: the one thing that a denied client and the operator both see.

use crate::text::{quoted, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// An attempt's id: 60 bits, written `PC-XXXX-XXXX-XXXX` in Crockford's base 32, to be read aloud on the telephone. It means
/// nothing by itself; the caller draws the bits at random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(u64);

impl Reference {
    /// The reference made of the low 60 bits of `bits`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & MASK)
    }

    /// The 60 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PC")?;
        for position in 0..DIGITS {
            if position % GROUP == 0 {
                f.write_str("-")?;
            }
            let shift = (DIGITS - 1 - position) * BITS_PER_DIGIT;
            let digit = usize::try_from((self.0 >> shift) & 31).unwrap_or_default();
            let digit = ALPHABET.get(digit).copied().unwrap_or_default();
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads what people type: either case, with the letters that Crockford's alphabet leaves out taken for the digits they
/// look like (`O` is 0, `I` and `L` are 1). Prefix and hyphens must be there.
impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).ok_or_else(|| ReferenceError { text: quoted(text) })
    }
}

serde_as_text!(Reference, "a reference such as PC-0123-4567-89AB");

/// The text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceError {
    text: String,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a reference such as PC-0123-4567-89AB",
            self.text
        )
    }
}

impl std::error::Error for ReferenceError {}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIGITS: u32 = 12;
const GROUP: u32 = 4;
const BITS_PER_DIGIT: u32 = 5;
const MASK: u64 = (1 << 60) - 1;

fn parse(text: &str) -> Option<Reference> {
    let mut groups = text.split('-');
    if !groups.next()?.eq_ignore_ascii_case("PC") {
        return None;
    }
    let (mut bits, mut digits) = (0_u64, 0_u32);
    for group in groups {
        if group.len() != 4 {
            return None;
        }
        for byte in group.bytes() {
            let byte = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = ALPHABET.iter().position(|letter| *letter == byte)?;
            bits = bits.checked_shl(BITS_PER_DIGIT)? | u64::try_from(value).ok()?;
            digits += 1;
            if digits > DIGITS {
                return None;
            }
        }
    }
    (digits == DIGITS).then_some(Reference(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_alphabet_leaves_out_what_looks_alike() {
        assert_eq!(Reference::from_bits(0).to_string(), "PC-0000-0000-0000");
        assert_eq!(
            Reference::from_bits(u64::MAX).to_string(),
            "PC-ZZZZ-ZZZZ-ZZZZ"
        );
        assert_eq!(
            "pc-oOiI-lL00-0000".parse(),
            Ok(Reference::from_bits(0b1_00001_00001_00001 << 30))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "PC",
            "PC-0000-0000",
            "PC-0000-0000-0000-0000",
            "PC-00000-0000-000",
            "PC000000000000",
            "XX-0000-0000-0000",
            "PC-0000-0000-000U",
            "PC-0000-0000-000é",
            " PC-0000-0000-0000",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_reference_survives_its_text(bits in any::<u64>()) {
            let reference = Reference::from_bits(bits);
            let text = reference.to_string();
            prop_assert_eq!(text.len(), 17);
            prop_assert_eq!(text.parse::<Reference>(), Ok(reference));
            prop_assert_eq!(text.to_lowercase().parse::<Reference>(), Ok(reference));
        }
    }
}

//! Prefixes as policy writes them: one spelling each.

use super::{Address, Bits, Family};
use crate::text::{quoted, serde_as_text};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, Not};
use std::str::FromStr;

/// A block of addresses of one family. IPv4 orders before IPv6, then by first address, then the wider first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: Address,
    length: u8,
}

impl Prefix {
    /// Reads `203.0.113.0/24`, `2001:db8::/32`, or a bare address, which is the prefix of that one address.
    ///
    /// # Errors
    /// [`PrefixError`] for everything that a reader could take for something else: host bits, IPv4 inside IPv6, leading
    /// zeros, white space, zones, an IPv6 address not written as RFC 5952 §4 says; and for length 0, because "anywhere" must
    /// be said in that word.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(PrefixError::NotAnAddress(quoted(text)));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PrefixError::WhiteSpace(quoted(text)));
        }
        if text.contains('%') {
            return Err(PrefixError::Zone(quoted(text)));
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        // The standard parser takes no leading zeros, octal, hexadecimal or short IPv4 forms.
        let Ok(ip) = address.parse::<IpAddr>() else {
            return Err(PrefixError::NotAnAddress(quoted(text)));
        };
        let width = width(ip);
        let length = match length {
            None => width,
            Some(length) => length
                .parse::<u8>()
                .ok()
                .filter(|number| number.to_string() == length && *number <= width)
                .ok_or_else(|| PrefixError::Length(quoted(text)))?,
        };
        let prefix = Self::checked(ip, length)?;
        let canonical = ip.to_string();
        match canonical == address {
            true => Ok(prefix),
            false => Err(PrefixError::Spelling {
                written: quoted(text),
                canonical: prefix.to_string(),
            }),
        }
    }

    /// The prefix of this length that begins at `first`.
    ///
    /// # Errors
    /// As [`Prefix::parse`]: a length out of range or zero, host bits, IPv4 inside IPv6.
    pub fn new(first: Address, length: u8) -> Result<Self, PrefixError> {
        if length > width(first.ip()) {
            return Err(PrefixError::Length(quoted(&format!("{first}/{length}"))));
        }
        Self::checked(first.ip(), length)
    }

    fn checked(ip: IpAddr, length: u8) -> Result<Self, PrefixError> {
        if length == 0 {
            return Err(PrefixError::Everyone(family(ip)));
        }
        if let IpAddr::V6(v6) = ip {
            refuse_ipv4_inside(v6, length)?;
        }
        let (truncated, host_bits) = match ip {
            IpAddr::V4(v4) => {
                let (kept, host) = cut(v4.to_bits(), length);
                (IpAddr::from(Ipv4Addr::from_bits(kept)), host)
            }
            IpAddr::V6(v6) => {
                let (kept, host) = cut(v6.to_bits(), length);
                (IpAddr::from(Ipv6Addr::from_bits(kept)), host)
            }
        };
        if host_bits {
            return Err(PrefixError::HostBits {
                written: format!("{ip}/{length}"),
                meant: format!("{truncated}/{length}"),
            });
        }
        Ok(Self {
            first: Address::from(ip),
            length,
        })
    }

    /// The block at `first` with this many free low bits, which the caller knows to be zero. Only this makes a /0, for the
    /// output of a set.
    pub(super) fn block<T: Bits>(first: T, free: u8) -> Self {
        Self {
            first: first.address(),
            length: T::WIDTH.saturating_sub(free),
        }
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> Address {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> Address {
        match self.span() {
            Span::V4(_, last) => last.address(),
            Span::V6(_, last) => last.address(),
        }
    }

    /// The number of leading bits that are fixed.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The family of its addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.first.family()
    }

    /// Whether `address` is in the block.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        match (self.span(), address.ip()) {
            (Span::V4(first, last), IpAddr::V4(v4)) => (first..=last).contains(&v4.to_bits()),
            (Span::V6(first, last), IpAddr::V6(v6)) => (first..=last).contains(&v6.to_bits()),
            (Span::V4(..), IpAddr::V6(_)) | (Span::V6(..), IpAddr::V4(_)) => false,
        }
    }

    /// Whether every address of `inner` is in the block.
    #[must_use]
    pub fn covers(&self, inner: &Self) -> bool {
        match (self.span(), inner.span()) {
            (Span::V4(first, last), Span::V4(from, to)) => first <= from && to <= last,
            (Span::V6(first, last), Span::V6(from, to)) => first <= from && to <= last,
            (Span::V4(..), Span::V6(..)) | (Span::V6(..), Span::V4(..)) => false,
        }
    }

    /// First and last address as numbers.
    pub(crate) fn span(&self) -> Span {
        match self.first.ip() {
            IpAddr::V4(v4) => {
                let first = v4.to_bits();
                Span::V4(
                    first,
                    first.end_of_block(u32::WIDTH.saturating_sub(self.length)),
                )
            }
            IpAddr::V6(v6) => {
                let first = v6.to_bits();
                Span::V6(
                    first,
                    first.end_of_block(u128::WIDTH.saturating_sub(self.length)),
                )
            }
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::parse(text)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

serde_as_text!(Prefix, "a prefix such as 203.0.113.0/24");

/// A prefix as numbers: first and last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    V4(u32, u32),
    V6(u128, u128),
}

/// Why a piece of text is not a prefix that policy may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Neither an address nor a prefix; shapes such as `10.1`, `0x7f.0.0.1` and `010.0.0.0` among them.
    NotAnAddress(String),
    /// White space or a control character.
    WhiteSpace(String),
    /// A zone id (`%eth0`): policy is not about interfaces.
    Zone(String),
    /// The length is not a plain decimal number within the family's range.
    Length(String),
    /// The address has bits set beyond the length.
    HostBits {
        /// What was written.
        written: String,
        /// The prefix that contains it.
        meant: String,
    },
    /// `::ffff:a.b.c.d`: write the IPv4 prefix. (A listener folds such clients to IPv4 before policy sees them.)
    Mapped(String),
    /// `::a.b.c.d`, deprecated since RFC 4291 §2.5.5.1; and the unspecified address.
    Compatible(String),
    /// Another spelling of an IPv6 address than that of RFC 5952 §4.
    Spelling {
        /// What was written.
        written: String,
        /// The spelling to use.
        canonical: String,
    },
    /// Length 0: everyone, which must be said in the word `anywhere`.
    Everyone(Family),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress(text) => write!(f, "{text} is not an address or prefix"),
            Self::WhiteSpace(text) => write!(f, "{text} contains white space"),
            Self::Zone(text) => write!(f, "{text} names a zone; policy has none"),
            Self::Length(text) => write!(f, "the length of {text} is not a plain number in range"),
            Self::HostBits { written, meant } => {
                write!(
                    f,
                    "{written} has bits set beyond its length; {meant} contains it"
                )
            }
            Self::Mapped(text) => write!(f, "{text} is IPv4 inside IPv6; write the IPv4 prefix"),
            Self::Compatible(text) => {
                write!(f, "{text} is in the deprecated IPv4-compatible block")
            }
            Self::Spelling { written, canonical } => write!(f, "{written} is spelled {canonical}"),
            Self::Everyone(family) => write!(
                f,
                "this prefix is every {family} address; if that is meant, say \"anywhere\""
            ),
        }
    }
}

impl std::error::Error for PrefixError {}

/// No spelling of a prefix is longer: eight groups, an embedded IPv4 address, a zone.
const MAX_TEXT: usize = 64;

/// An address inside `::ffff:0:0/96` is refused whatever the length: `::ffff:10.0.0.0/8` means an IPv4 prefix to whoever
/// wrote it. Of `::/96`, the loopback address stays, and `::` as the beginning of a wider block.
fn refuse_ipv4_inside(v6: Ipv6Addr, length: u8) -> Result<(), PrefixError> {
    const HIGH_BITS: u8 = 96;
    const MAPPED: u128 = 0xffff;
    let begins_wider_block = v6 == Ipv6Addr::UNSPECIFIED && length < HIGH_BITS;
    match v6.to_bits() >> 32 {
        MAPPED => Err(PrefixError::Mapped(format!("{v6}/{length}"))),
        0 if v6 != Ipv6Addr::LOCALHOST && !begins_wider_block => {
            Err(PrefixError::Compatible(format!("{v6}/{length}")))
        }
        _ => Ok(()),
    }
}

/// The leading `length` bits, and whether any other bit was set.
fn cut<T>(number: T, length: u8) -> (T, bool)
where
    T: Bits + BitAnd<Output = T> + Not<Output = T>,
{
    let host_mask = T::MIN.end_of_block(T::WIDTH.saturating_sub(length));
    let kept = number & !host_mask;
    (kept, kept != number)
}

const fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => u32::WIDTH,
        IpAddr::V6(_) => u128::WIDTH,
    }
}

const fn family(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_survives_its_text() {
        for text in [
            "203.0.113.0/24",
            "10.0.0.0/8",
            "128.0.0.0/1",
            "0.0.0.0/1",
            "203.0.113.9/32",
            "2001:db8::/32",
            "2001:db8::1/128",
            "::1/128",
            "8000::/1",
            "fe80::/10",
            "::/1",
            "64:ff9b::/96",
        ] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Prefix::parse("203.0.113.9"),
            Prefix::parse("203.0.113.9/32")
        );
        assert_eq!(
            Prefix::parse("2001:db8::1"),
            Prefix::parse("2001:db8::1/128")
        );
    }

    /// The rule that refuses, in one word.
    fn check(text: &str, expected: &str) {
        let word = match Prefix::parse(text) {
            Ok(prefix) => panic!("{text:?} was taken for {prefix}"),
            Err(PrefixError::NotAnAddress(_)) => "address",
            Err(PrefixError::WhiteSpace(_)) => "space",
            Err(PrefixError::Zone(_)) => "zone",
            Err(PrefixError::Length(_)) => "length",
            Err(PrefixError::HostBits { .. }) => "host bits",
            Err(PrefixError::Mapped(_)) => "mapped",
            Err(PrefixError::Compatible(_)) => "compatible",
            Err(PrefixError::Spelling { .. }) => "spelling",
            Err(PrefixError::Everyone(_)) => "everyone",
        };
        assert_eq!(word, expected, "{text:?}");
    }

    #[test]
    fn host_bits_are_refused_and_the_containing_prefix_is_named() {
        check("203.0.113.9/24", "host bits");
        check("10.0.0.1/31", "host bits");
        check("2001:db8::1/64", "host bits");
        check("128.0.0.0/0", "everyone");
        let message = Prefix::parse("203.0.113.9/24").unwrap_err().to_string();
        assert!(message.contains("203.0.113.0/24"), "{message}");
    }

    #[test]
    fn ipv4_inside_ipv6_is_refused() {
        check("::ffff:10.0.0.0/8", "mapped");
        check("::ffff:10.0.0.0/104", "mapped");
        check("::ffff:10.0.0.1", "mapped");
        check("::ffff:a00:1", "mapped");
        check("::FFFF:10.0.0.1", "mapped");
        check("0:0:0:0:0:ffff:a00:1/128", "mapped");
        check("::ffff:0:0/96", "mapped");
        check("::10.0.0.1/128", "compatible");
        check("::/96", "compatible");
        check("::", "compatible");
    }

    #[test]
    fn everyone_must_be_said_in_words() {
        check("0.0.0.0/0", "everyone");
        check("::/0", "everyone");
    }

    #[test]
    fn odd_spellings_are_refused() {
        check("", "address");
        check("/24", "address");
        check("10", "address");
        check("10.0.0/24", "address");
        check("010.0.0.0/8", "address");
        check("10.0.0.00/8", "address");
        check("0xa.0.0.0/8", "address");
        check("167772160/8", "address");
        check("10.0.0.0.0/8", "address");
        check("1١.0.0.0/8", "address");
        check("10.0.0.0/", "length");
        check("10.0.0.0/08", "length");
        check("10.0.0.0/+8", "length");
        check("10.0.0.0/-8", "length");
        check("10.0.0.0/33", "length");
        check("10.0.0.0/8/8", "length");
        check("10.0.0.0/255.0.0.0", "length");
        check("2001:db8::/129", "length");
        check("10.0.0.0/256", "length");
        check(" 10.0.0.0/8", "space");
        check("10.0.0.0/8\n", "space");
        check("10.0.0.0 /8", "space");
        check("10.0.0.0/8\0", "space");
        check("fe80::1%eth0", "zone");
        check("2001:DB8::/32", "spelling");
        check("2001:db8:0:0::/32", "spelling");
        check("2001:0db8::/32", "spelling");
        check("2001:db8:0:0:0:0:0:1", "spelling");
        check("[2001:db8::]/32", "address");
        check("anywhere", "address");
        check(&"1".repeat(1000), "address");
    }

    #[test]
    fn a_prefix_contains_its_edges_and_nothing_beyond() {
        let prefix = Prefix::parse("203.0.113.64/26").unwrap();
        for (address, inside) in [
            ("203.0.113.63", false),
            ("203.0.113.64", true),
            ("203.0.113.127", true),
            ("203.0.113.128", false),
            ("::ffff:203.0.113.64", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                prefix.contains(address.parse().unwrap()),
                inside,
                "{address}"
            );
        }
        assert_eq!(prefix.last().to_string(), "203.0.113.127");
        assert!(prefix.covers(&Prefix::parse("203.0.113.64/27").unwrap()));
        assert!(!prefix.covers(&Prefix::parse("203.0.113.0/24").unwrap()));
    }

    #[test]
    fn new_holds_to_the_same_rules_as_parse() {
        let first: Address = "10.0.0.0".parse().unwrap();
        assert_eq!(Prefix::new(first, 8), Prefix::parse("10.0.0.0/8"));
        assert!(Prefix::new(first, 0).is_err());
        assert!(Prefix::new(first, 33).is_err());
        assert!(Prefix::new(first, 4).is_err());
    }
}

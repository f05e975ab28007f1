//! One address in the one form in which it is compared.

use crate::text::{quoted, serde_as_text};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address, canonical: an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2) is folded to IPv4 when it is
/// made, so that a dual-stack listener and a plain one see the same client. IPv4 orders before IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(IpAddr);

impl Address {
    /// The address for the standard library.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// Its family, after folding.
    #[must_use]
    pub const fn family(self) -> Family {
        match self.0 {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// An IPv6 address as it stands, also a mapped one: for the edges of sets, which talk about the whole space.
    pub(crate) const fn unfolded(ip: Ipv6Addr) -> Self {
        Self(IpAddr::V6(ip))
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self(IpAddr::V4(ip))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from(IpAddr::V6(ip))
    }
}

/// Reads an address as an operator pastes it, a mapped one too: for questions, not for policy (see
/// [`Prefix::parse`](super::Prefix::parse)).
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Self::from(ip)),
            Err(_) => Err(AddressError { text: quoted(text) }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Address, "an IP address");

/// The text is not an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    text: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not an IP address", self.text)
    }
}

impl std::error::Error for AddressError {}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for() {
        let plain = Address::from(Ipv4Addr::new(127, 0, 2, 1));
        let mapped: Ipv6Addr = "::ffff:127.0.2.1".parse().unwrap();
        assert_eq!(Address::from(mapped), plain);
        assert_eq!(Address::from(IpAddr::V6(mapped)), plain);
        assert_eq!("::ffff:7f00:201".parse(), Ok(plain));
        assert_eq!(plain.family(), Family::V4);
        assert_eq!(Address::from(mapped).to_string(), "127.0.2.1");
    }

    #[test]
    fn a_compatible_address_is_not_folded() {
        // Deprecated (RFC 4291 §2.5.5.1) and never the same host: ::127.0.0.1 is not loopback.
        let compatible: Address = "::127.0.0.1".parse().unwrap();
        assert_eq!(compatible.family(), Family::V6);
    }

    #[test]
    fn odd_spellings_are_no_addresses() {
        for bad in [
            "",
            "127.1",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "2130706433",
            "fe80::1%eth0",
            " ::1",
            "[::1]",
            "::1 ",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}

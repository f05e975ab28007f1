//! Who shares a limit: an address, and the block of addresses around it, at one door.
//!
//! Addresses of two networks, or behind two private links, overlap and are strangers to each
//! other, so the origin belongs to the key.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use portcullis_policy::{Address, Origin};

/// Whose place it is among the unauthenticated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::proxy) enum Party {
    /// Behind a load balancer whose PROXY header has not come yet, at the listener of this name.
    Arriving(Arc<str>),
    /// A block of addresses at a door.
    Block(Arc<Origin>, Block),
}

impl Party {
    pub(in crate::proxy) fn block(origin: Arc<Origin>, address: Address) -> Self {
        Self::Block(origin, Block::of(address))
    }

    /// The door, as events name it: an origin, or a listener.
    pub(super) fn door(&self) -> String {
        match self {
            Self::Arriving(listener) => format!("listener {listener}"),
            Self::Block(origin, _) => origin.to_string(),
        }
    }

    /// The block of addresses, where it is known.
    pub(super) fn source(&self) -> Option<Block> {
        match self {
            Self::Arriving(_) => None,
            Self::Block(_, block) => Some(*block),
        }
    }
}

/// One IPv4 address or one IPv6 /64: what a single customer of an access network is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Single(Prefix);

/// One IPv4 /24 or one IPv6 /48: what a single site is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::proxy) struct Block(Prefix);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Prefix {
    V4(u32, u8),
    V6(u128, u8),
}

impl Single {
    pub(super) fn of(address: Address) -> Self {
        Self(prefix(address, 32, 64))
    }
}

impl Block {
    pub(in crate::proxy) fn of(address: Address) -> Self {
        Self(prefix(address, 24, 48))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Prefix::V4(bits, length) => write!(f, "{}/{length}", Ipv4Addr::from_bits(bits)),
            Prefix::V6(bits, length) => write!(f, "{}/{length}", Ipv6Addr::from_bits(bits)),
        }
    }
}

fn prefix(address: Address, v4: u8, v6: u8) -> Prefix {
    match address.ip() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
            Prefix::V4(ip.to_bits() & mask, v4)
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
            Prefix::V6(ip.to_bits() & mask, v6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv4_address_is_one_source_and_its_24_bits_are_one_block() {
        let (one, other) = (address("203.0.113.7"), address("203.0.113.8"));
        assert_ne!(Single::of(one), Single::of(other));
        assert_eq!(Block::of(one), Block::of(other));
        assert_ne!(Block::of(one), Block::of(address("203.0.112.7")));
        assert_eq!(Block::of(one).to_string(), "203.0.113.0/24");
    }

    #[test]
    fn an_ipv6_64_is_one_source_and_its_48_bits_are_one_block() {
        let one = address("2001:db8:0:1::1");
        assert_eq!(Single::of(one), Single::of(address("2001:db8:0:1:ffff::")));
        assert_ne!(Single::of(one), Single::of(address("2001:db8:0:2::1")));
        assert_eq!(Block::of(one), Block::of(address("2001:db8:0:ffff::")));
        assert_ne!(Block::of(one), Block::of(address("2001:db8:1::")));
        assert_eq!(Block::of(one).to_string(), "2001:db8::/48");
    }

    #[test]
    fn the_same_address_at_another_door_is_another_party() {
        let at =
            |origin: &str| Party::block(Arc::new(origin.parse().unwrap()), address("10.0.0.5"));
        assert_ne!(at("network:acme"), at("network:globex"));
        assert_ne!(at("private-link:aws:vpce-1"), at("private-link:aws:vpce-2"));
        assert_eq!(at("public"), at("public"));
    }
}

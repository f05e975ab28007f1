//! Who shares places fairly: a block of addresses at one door. One address at one door is a
//! `proxy::source::Source`.

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

/// One IPv4 /24 or one IPv6 /48: what a single site is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::proxy) struct Block {
    first: IpAddr,
    length: u8,
}

impl Block {
    pub(in crate::proxy) fn of(address: Address) -> Self {
        match address.ip() {
            IpAddr::V4(four) => Self {
                first: Ipv4Addr::from_bits(four.to_bits() & (u32::MAX << 8)).into(),
                length: 24,
            },
            IpAddr::V6(six) => Self {
                first: Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 80)).into(),
                length: 48,
            },
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn the_24_bits_of_an_ipv4_address_and_the_48_of_an_ipv6_are_one_block() {
        let block = |text: &str| Block::of(address(text));
        assert_eq!(block("203.0.113.7"), block("203.0.113.8"));
        assert_ne!(block("203.0.113.7"), block("203.0.112.7"));
        assert_eq!(block("203.0.113.7").to_string(), "203.0.113.0/24");
        assert_eq!(block("2001:db8:0:1::1"), block("2001:db8:0:ffff::"));
        assert_ne!(block("2001:db8:0:1::1"), block("2001:db8:1::"));
        assert_eq!(block("2001:db8:0:1::1").to_string(), "2001:db8::/48");
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

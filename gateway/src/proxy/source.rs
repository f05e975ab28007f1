//! Whom an attempt counts against: a network behind a door. The same address behind two doors is
//! two strangers, because private networks overlap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_policy::{Address, Origin};

/// A door and the first address of a network behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Source(Origin, IpAddr);

impl Source {
    /// One IPv4 address or one IPv6 /64: what a single customer of an access network is given.
    pub(super) fn customer(origin: &Origin, address: Address) -> Self {
        Self::of(origin, address, u32::MAX)
    }

    /// One IPv4 /24 or one IPv6 /64.
    pub(super) fn neighbourhood(origin: &Origin, address: Address) -> Self {
        Self::of(origin, address, 0xFFFF_FF00)
    }

    fn of(origin: &Origin, address: Address, mask_of_four: u32) -> Self {
        let network = match address.ip() {
            IpAddr::V4(four) => Ipv4Addr::from_bits(four.to_bits() & mask_of_four).into(),
            IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64)).into(),
        };
        Self(origin.clone(), network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(make: fn(&Origin, Address) -> Source, origin: &str, address: &str) -> Source {
        let address: IpAddr = address.parse().unwrap();
        make(&origin.parse().unwrap(), Address::from(address))
    }

    #[test]
    fn a_source_ends_at_its_network_and_at_its_door() {
        for (make, one, same, other) in [
            (
                Source::customer as fn(&Origin, Address) -> Source,
                "192.0.2.1",
                "::ffff:192.0.2.1",
                "192.0.2.2",
            ),
            (
                Source::customer,
                "2001:db8::1",
                "2001:db8::ffff:1",
                "2001:db8:0:1::1",
            ),
            (
                Source::neighbourhood,
                "192.0.2.1",
                "192.0.2.255",
                "192.0.3.1",
            ),
            (
                Source::neighbourhood,
                "2001:db8::1",
                "2001:db8::ffff:1",
                "2001:db8:0:1::1",
            ),
        ] {
            assert_eq!(of(make, "public", one), of(make, "public", same));
            assert_ne!(of(make, "public", one), of(make, "public", other));
            assert_ne!(of(make, "public", one), of(make, "network:acme", one));
        }
    }
}

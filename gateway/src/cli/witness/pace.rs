//! How often one peer may ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::ledger::limits::{WITNESS_BURST, WITNESS_PACE, WITNESS_PEERS};
use crate::runtime::clock::{Duration, Instant};

/// The pace of each peer: an IPv4 address, or an IPv6 /64.
#[derive(Debug, Default)]
pub(super) struct Paces {
    /// When its last request will have been paid for.
    paid: BTreeMap<IpAddr, Instant>,
}

impl Paces {
    /// Whether this peer may ask now.
    pub(super) fn admit(&mut self, peer: IpAddr, now: Instant) -> bool {
        let peer = block(peer);
        if !self.paid.contains_key(&peer) && self.paid.len() >= WITNESS_PEERS {
            self.paid.retain(|_, paid| *paid > now);
            if self.paid.len() >= WITNESS_PEERS {
                return false;
            }
        }
        let paid = self.paid.entry(peer).or_insert(now);
        let next = (*paid).max(now) + ONE;
        let within = next.saturating_duration_since(now) <= ONE * WITNESS_BURST;
        if within {
            *paid = next;
        }
        within
    }
}

/// What one request costs.
const ONE: Duration = Duration::from_millis(1_000 / WITNESS_PACE as u64);

fn block(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock;

    #[test]
    fn a_burst_is_taken_and_then_the_pace() {
        let (mut paces, begin) = (Paces::default(), clock::instant());
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let admitted = (0..2 * WITNESS_BURST).filter(|_| paces.admit(peer, begin));
        assert_eq!(admitted.count(), WITNESS_BURST as usize);
        assert!(paces.admit(other, begin));
        let later = begin + Duration::from_secs(1);
        let admitted = (0..2 * WITNESS_BURST).filter(|_| paces.admit(peer, later));
        assert_eq!(admitted.count(), WITNESS_PACE as usize);
        let much_later = begin + Duration::from_secs(3_600);
        let admitted = (0..2 * WITNESS_BURST).filter(|_| paces.admit(peer, much_later));
        assert_eq!(admitted.count(), WITNESS_BURST as usize);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_a_mapped_address_is_ipv4() {
        let (mut paces, now) = (Paces::default(), clock::instant());
        for host in 0..WITNESS_BURST {
            let peer = format!("2001:db8::{host:x}").parse().unwrap();
            assert!(paces.admit(peer, now));
        }
        assert!(!paces.admit("2001:db8::ffff".parse().unwrap(), now));
        assert!(paces.admit("2001:db8:0:1::1".parse().unwrap(), now));
        assert_eq!(
            block("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn so_many_peers_are_remembered_and_those_that_kept_quiet_give_way() {
        let (mut paces, now) = (Paces::default(), clock::instant());
        for peer in 0..u32::try_from(WITNESS_PEERS).unwrap() {
            assert!(paces.admit(IpAddr::from(peer.to_be_bytes()), now));
        }
        let new: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!paces.admit(new, now));
        assert!(paces.admit(new, now + Duration::from_secs(1)));
        assert_eq!(paces.paid.len(), 1);
    }
}

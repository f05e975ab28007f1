//! IPv6: a /64 is one address and a /48 one block, whatever is rotated within.

use std::net::SocketAddr;

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::{Dial, EndpointText, Gateway, Listener, RawClient};

use super::scene::{NAME, Trap, here};
use super::{TOKEN, assert_shed, assert_told_exactly, shed, shed_event, started, used, waiting};

#[test]
fn an_ipv6_64_has_the_places_of_one_address_however_many_it_rotates() {
    let (trap, gateway) = behind_a_balancer("unauthenticated-per-address = 3");
    let inside = |n: usize| comes(&gateway, &format!("2001:db8:1:1:{n:x}::{:x}", 7 * n));
    let _held: Vec<RawClient> = (1..=3).map(|n| waiting(&inside(n))).collect();
    for n in 4..=9 {
        assert_shed(&inside(n));
    }
    let event = shed_event(&gateway, "unauthenticated_per_address", "2001:db8:1::/48");
    assert_eq!(event["origin"], "public", "{event}");
    // Its neighbour in the same /48 is somebody else.
    let _neighbour = waiting(&comes(&gateway, "2001:db8:1:2::1"));
    assert_eq!(shed(&gateway, "unauthenticated_per_address"), 6);
    assert_eq!(shed(&gateway, "unauthenticated_per_block"), 0);
    assert_eq!(used(&gateway, "unauthenticated"), 4);
    assert_told_exactly(&gateway, "unauthenticated_per_address");
    trap.assert_untouched();
}

#[test]
fn an_ipv6_48_has_the_places_of_one_block_however_many_64s_it_rotates() {
    let (trap, gateway) = behind_a_balancer("unauthenticated-per-block = 3");
    let inside = |n: usize| comes(&gateway, &format!("2001:db8:1:{n:x}00::{n:x}"));
    let _held: Vec<RawClient> = (1..=3).map(|n| waiting(&inside(n))).collect();
    for n in 4..=9 {
        assert_shed(&inside(n));
    }
    let event = shed_event(&gateway, "unauthenticated_per_block", "2001:db8:1::/48");
    assert_eq!(event["origin"], "public", "{event}");
    let _another = waiting(&comes(&gateway, "2001:db8:2::1"));
    assert_eq!(shed(&gateway, "unauthenticated_per_block"), 6);
    assert_eq!(shed(&gateway, "unauthenticated_per_address"), 0);
    assert_eq!(used(&gateway, "unauthenticated"), 4);
    assert_told_exactly(&gateway, "unauthenticated_per_block");
    trap.assert_untouched();
}

fn behind_a_balancer(limits: &str) -> (Trap, Gateway) {
    let trap = Trap::new();
    let orders = EndpointText::new("orders", NAME).allow("2001:db8::/32", "public");
    let builder = Gateway::builder()
        .listener(Listener::public().balanced("127.0.9.1"))
        .limits(&format!("{limits}, unauthenticated-per-tenant = 9"));
    let tenant = trap.acme(orders.authentication(TOKEN));
    let gateway = started(builder.tenant(&tenant), 1);
    (trap, gateway)
}

/// A client from there, as its load balancer passes it on.
fn comes(gateway: &Gateway, from: &str) -> Dial {
    let from: SocketAddr = format!("[{from}]:4000").parse().unwrap();
    let header = proxy_v2(from, "[2001:db8:ffff::1]:5432".parse().unwrap(), &[]);
    gateway.dial(NAME).from(here(9, 1)).first(&header)
}

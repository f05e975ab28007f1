//! Places are limited, fair, and given back.

use super::*;
use crate::config::node::Limits as Said;
use crate::runtime::machine::Machine;

fn throttle(said: Said) -> Arc<Throttle> {
    let machine = Machine {
        descriptors: 1 << 20,
        memory: 64 << 30,
    };
    let limits = FrontLimits::settle(&said, machine, 1).unwrap();
    Arc::new(Throttle::new(Arc::new(limits), Arc::default()))
}

fn public() -> Arc<Origin> {
    Arc::new(Origin::Public)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// So many places from this address.
fn enter(throttle: &Arc<Throttle>, from: &str, count: usize) -> Vec<Ticket> {
    (0..count)
        .map(|_| throttle.enter(&public(), address(from)).ok().unwrap())
        .collect()
}

fn refused(throttle: &Arc<Throttle>, from: &str) -> Option<Limit> {
    throttle.enter(&public(), address(from)).err()
}

fn is_displaced(ticket: &Ticket) -> Option<Limit> {
    ticket.signal.by.get().copied()
}

#[test]
fn an_address_has_256_places_its_block_1024_and_the_node_5000() {
    let throttle = throttle(Said::default());
    let mut tickets = enter(&throttle, "203.0.113.1", 256);
    assert_eq!(
        refused(&throttle, "203.0.113.1"),
        Some(Limit::UnauthenticatedPerAddress)
    );
    for host in 2..=4 {
        tickets.extend(enter(&throttle, &format!("203.0.113.{host}"), 256));
    }
    assert_eq!(
        refused(&throttle, "203.0.113.5"),
        Some(Limit::UnauthenticatedPerBlock)
    );
    tickets.extend(enter(&throttle, "203.0.112.1", 1));
    let opening = throttle.opening();
    assert_eq!(
        (opening.all, opening.largest_address, opening.largest_block),
        (1025, 256, 1024)
    );
    drop(tickets);
    assert!(refused(&throttle, "203.0.113.1").is_none());
    let places = throttle.places.lock();
    assert!(places.holders.is_empty() && places.singles.is_empty());
}

#[test]
fn addresses_of_one_ipv6_network_share_its_places() {
    let throttle = throttle(Said {
        unauthenticated_per_address: Some(2),
        unauthenticated_per_block: Some(3),
        ..Said::default()
    });
    let _one = enter(&throttle, "2001:db8::1", 1);
    let _two = enter(&throttle, "2001:db8::2", 1);
    assert_eq!(
        refused(&throttle, "2001:db8::3"),
        Some(Limit::UnauthenticatedPerAddress)
    );
    let _three = enter(&throttle, "2001:db8:0:1::1", 1);
    assert_eq!(
        refused(&throttle, "2001:db8:0:2::1"),
        Some(Limit::UnauthenticatedPerBlock)
    );
}

#[tokio::test]
async fn in_a_full_node_the_largest_block_gives_way_its_oldest_first() {
    let throttle = throttle(Said {
        unauthenticated: Some(10),
        ..Said::default()
    });
    let mut flood = enter(&throttle, "127.0.2.1", 6);
    flood.extend(enter(&throttle, "127.0.3.1", 4));
    assert_eq!(
        refused(&throttle, "127.0.2.9"),
        Some(Limit::Unauthenticated),
        "the flood does not displace itself"
    );
    let honest = enter(&throttle, "127.0.1.1", 3);
    assert_eq!(flood[0].displaced().await, Limit::Unauthenticated);
    let gone: Vec<bool> = flood
        .iter()
        .map(|one| is_displaced(one).is_some())
        .collect();
    assert_eq!(gone, [[true; 3].as_slice(), &[false; 7]].concat());
    assert!(honest.iter().all(|one| is_displaced(one).is_none()));
    assert_eq!(throttle.opening().all, 10);
    drop(flood);
    assert_eq!(throttle.opening().all, 3, "each place is given back once");
    assert_eq!(throttle.sheds.total(Limit::Unauthenticated), 4);
}

#[test]
fn behind_a_balancer_the_client_is_charged_once_it_is_known() {
    let throttle = throttle(Said {
        unauthenticated_per_address: Some(2),
        ..Said::default()
    });
    let listener: Arc<str> = "127.0.0.1:5434".into();
    let arrive = || throttle.enter_behind_balancer(&listener).ok().unwrap();
    let (one, two, three) = (arrive(), arrive(), arrive());
    let link = |id: &str| id.parse::<Origin>().unwrap();
    let ours = link("private-link:aws:vpce-1");
    assert_eq!(one.charge(&ours, address("10.0.0.5")), Ok(()));
    assert_eq!(two.charge(&ours, address("10.0.0.5")), Ok(()));
    assert_eq!(
        three.charge(&ours, address("10.0.0.5")),
        Err(Limit::UnauthenticatedPerAddress)
    );
    let theirs = link("private-link:aws:vpce-2");
    assert_eq!(
        arrive().charge(&theirs, address("10.0.0.5")),
        Ok(()),
        "the same address by another link is somebody else"
    );
    drop((one, two, three));
    assert_eq!(throttle.opening(), Opening::default());
}

#[test]
fn one_tenants_flood_leaves_the_other_tenants_their_places() {
    let throttle = throttle(Said {
        unauthenticated: Some(8),
        ..Said::default()
    });
    let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let flood = enter(&throttle, "127.0.2.1", 3);
    assert_eq!(flood[0].leads_to(&acme, 2), Ok(()));
    assert_eq!(flood[1].leads_to(&acme, 2), Ok(()));
    assert_eq!(
        flood[2].leads_to(&acme, 2),
        Err(Limit::UnauthenticatedPerTenant)
    );
    assert_eq!(flood[2].leads_to(&globex, 2), Ok(()));
    let honest = enter(&throttle, "127.0.1.1", 1);
    assert_eq!(
        honest[0].leads_to(&acme, 2),
        Ok(()),
        "fair within the tenant"
    );
    assert_eq!(
        is_displaced(&flood[0]),
        Some(Limit::UnauthenticatedPerTenant)
    );
    drop((flood, honest));
    assert!(throttle.places.lock().tenants.is_empty());
}

#[test]
fn a_block_that_comes_and_goes_too_fast_is_not_let_in_and_others_are() {
    let throttle = throttle(Said::default());
    let public = public();
    let fast = address("203.0.113.7");
    let mut entered = 0_u32;
    // Each leaves again at once, so that no place is ever taken.
    while throttle.enter(&public, fast).is_ok() {
        entered += 1;
        assert!(f64::from(entered) < 100.0 * ARRIVAL_BURST);
    }
    assert!(f64::from(entered) >= ARRIVAL_BURST);
    assert_eq!(throttle.opening().all, 0);
    assert!(throttle.enter(&public, address("203.0.114.7")).is_ok());
    assert!(throttle.sheds.total(Limit::ArrivalPace) > 0);
}

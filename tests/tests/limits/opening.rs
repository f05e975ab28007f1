//! Connections that are not authenticated yet: of an address, a block, a tenant, the node.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::balancer::{aws_link, proxy_v2};
use portcullis_tests::{Dial, EndpointText, Gateway, Listener, RawClient, Version, wait};

use super::scene::{self, NAME, SOON, Trap, acme, clients, here, orders, server};
use super::{
    TOKEN, acme_dial, assert_shed, assert_told_exactly, at_globex, bare, begun, globex, limited,
    shed, shed_event, started, trapped, turned_away, used, waiting,
};

#[test]
fn an_address_has_its_places_and_no_more() {
    let (trap, gateway) =
        trapped("unauthenticated-per-address = 3, unauthenticated-per-tenant = 9");
    let mut held: Vec<RawClient> = (0..3)
        .map(|_| waiting(&acme_dial(&gateway, here(2, 1))))
        .collect();
    assert_eq!(used(&gateway, "unauthenticated_per_address"), 3);
    assert_shed(&bare(&gateway, here(2, 1)));
    let event = shed_event(&gateway, "unauthenticated_per_address", "127.0.2.0/24");
    assert_eq!(event["code"], "unauthenticated_per_address", "{event}");
    assert_eq!(event["origin"], "public");
    assert_eq!(event["count"], 1);
    held.push(waiting(&acme_dial(&gateway, here(2, 2))));
    held.remove(0);
    wait::wait_for("a place is free", SOON, || {
        used(&gateway, "unauthenticated_per_address") == 2
    });
    let _again = waiting(&acme_dial(&gateway, here(2, 1)));
    assert_told_exactly(&gateway, "unauthenticated_per_address");
    trap.assert_untouched();
}

#[test]
fn a_block_of_addresses_has_its_places_however_many_addresses_it_rotates() {
    let (trap, gateway) = trapped("unauthenticated-per-block = 3, unauthenticated-per-tenant = 9");
    let _held: Vec<RawClient> = (1..=3)
        .map(|host| waiting(&acme_dial(&gateway, here(2, host))))
        .collect();
    for host in 4..=9 {
        assert_shed(&bare(&gateway, here(2, host)));
    }
    let _other = waiting(&acme_dial(&gateway, here(3, 1)));
    shed_event(&gateway, "unauthenticated_per_block", "127.0.2.0/24");
    assert_eq!(shed(&gateway, "unauthenticated_per_block"), 6);
    assert_told_exactly(&gateway, "unauthenticated_per_block");
    trap.assert_untouched();
}

#[test]
fn what_was_shed_is_written_down_before_the_node_stops() {
    let (_trap, mut gateway) = trapped("unauthenticated-per-address = 1");
    let held = waiting(&acme_dial(&gateway, here(2, 1)));
    for _ in 0..5 {
        assert_shed(&bare(&gateway, here(2, 1)));
    }
    drop(held);
    gateway.terminate();
    let told = super::shed_events(&gateway);
    let told: u64 = told
        .iter()
        .filter_map(|event| event["count"].as_u64())
        .sum();
    assert_eq!(told, 5);
}

#[test]
fn a_flood_that_fills_the_node_keeps_no_honest_client_out() {
    let server = server(Version::V15);
    let builder = limited("unauthenticated = 12, unauthenticated-per-tenant = 12");
    let gateway = started(
        builder
            .tenant(&acme(server, orders()))
            .signs_in_at("acme", clients()),
        1,
    );
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Ends(&over);
        for host in 1..=3 {
            let (gateway, over) = (&gateway, &over);
            scope.spawn(move || flood(&bare(gateway, here(2, host)), over));
        }
        wait::wait_for("the flood fills the node", SOON, || {
            shed(&gateway, "unauthenticated_per_block") + shed(&gateway, "unauthenticated") > 20
        });
        for host in 1..=8 {
            wait::wait_for("no place is free", SOON, || {
                used(&gateway, "unauthenticated") == 12
            });
            let mut client =
                acme_dial(&gateway, here(1, host)).sign_in("app", "secret", "postgres");
            assert!(client.query("select 1").is_ok());
        }
        drop(ending);
    });
    wait::wait_for("those who gave way are told", SOON, || {
        let events = super::shed_events(&gateway);
        let flood = events.iter().filter(|it| it["source"] == "127.0.2.0/24");
        let gave_way: u64 = flood.filter_map(|it| it["displaced"].as_u64()).sum();
        gave_way > 0
    });
    let honest = |event: &serde_json::Value| event["source"] == "127.0.1.0/24";
    assert!(!super::shed_events(&gateway).iter().any(honest));
    for name in ["unauthenticated", "unauthenticated_per_block"] {
        assert_told_exactly(&gateway, name);
    }
}

/// Ends a flood, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens connections as fast as it can, says nothing on them and keeps the latest hundred.
fn flood(dial: &Dial, over: &AtomicBool) {
    let mut held = std::collections::VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        held.extend(dial.connect());
        if held.len() > 100 {
            held.pop_front();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn whoever_gives_way_is_closed_at_once_whatever_it_waits_for() {
    let (trap, gateway) = trapped("unauthenticated = 4, unauthenticated-per-tenant = 4");
    let mut oldest: RawClient = waiting(&acme_dial(&gateway, here(2, 1)));
    let _held: Vec<RawClient> = (0..3)
        .map(|_| waiting(&acme_dial(&gateway, here(2, 1))))
        .collect();
    let began = Instant::now();
    let _honest = waiting(&acme_dial(&gateway, here(1, 1)));
    let (heard, ending) = oldest.read_to_end();
    assert_eq!(heard, [], "not a word");
    assert_ne!(ending, portcullis_tests::Ending::Silent);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "not by its deadline"
    );
    let event = shed_event(&gateway, "unauthenticated", "127.0.2.0/24");
    assert_eq!(
        (&event["count"], &event["displaced"]),
        (&1.into(), &1.into())
    );
    assert_eq!(used(&gateway, "unauthenticated"), 4);
    trap.assert_untouched();
}

#[test]
fn one_tenants_flood_fills_neither_the_node_nor_that_tenant() {
    let trap = Trap::new();
    let builder = limited("unauthenticated = 16, unauthenticated-per-tenant = 2")
        .tenant(&trap.acme(orders().authentication(TOKEN)))
        .tenant(&globex(&trap));
    let gateway = started(builder, 2);
    let _held: Vec<RawClient> = (0..2)
        .map(|_| waiting(&acme_dial(&gateway, here(2, 1))))
        .collect();
    let refusal = turned_away(&mut begun(&acme_dial(&gateway, here(2, 2))));
    let event = scene::event_of(&gateway, "limit.shed", &refusal);
    assert_eq!(event["code"], "unauthenticated_per_tenant", "{event}");
    assert_eq!(
        (&event["tenant"], &event["limit"]),
        (&"acme".into(), &event["code"])
    );
    let _other_tenant = waiting(&at_globex(&gateway).from(here(2, 1)));
    let _same_tenant = waiting(&acme_dial(&gateway, here(1, 1)));
    let event = shed_event(&gateway, "unauthenticated_per_tenant", "127.0.2.0/24");
    assert_eq!(event["displaced"], 1, "{event}");
    let tenants = gateway.ask(&["limits"])["tenants"].clone();
    assert_eq!(tenants[0]["tenant"], "acme");
    assert_eq!(tenants[0]["unauthenticated"], 2, "{tenants}");
    trap.assert_untouched();
}

#[test]
fn behind_a_balancer_each_client_is_counted_for_itself_and_by_its_link() {
    let trap = Trap::new();
    let endpoint = |tenant: &str, link: &str| {
        EndpointText::new("orders", &format!("{tenant}.db.test"))
            .allow("10.0.0.0/8", link)
            .authentication(TOKEN)
    };
    let (ours, theirs) = ("aws:vpce-1", "aws:vpce-2");
    let acme = trap.tenant("acme").private_link(ours);
    let acme = acme.endpoint(endpoint("acme", "private-link:aws:vpce-1"));
    let globex = trap.tenant("globex").private_link(theirs);
    let globex = globex.endpoint(endpoint("globex", "private-link:aws:vpce-2"));
    let builder = Gateway::builder()
        .listener(Listener::private_links("aws", "127.0.9.1"))
        .limits("unauthenticated-per-address = 2, unauthenticated-per-tenant = 9")
        .tenant(&acme)
        .tenant(&globex);
    let gateway = started(builder, 2);
    let comes = |from: &str, tenant: &str, link: &str| {
        let from: SocketAddr = format!("{from}:4000").parse().unwrap();
        let (kind, value) = aws_link(link);
        let header = proxy_v2(from, "10.255.0.1:5432".parse().unwrap(), &[(kind, &value)]);
        let name = format!("{tenant}.db.test");
        Dial::tls(gateway.address(), &name, &gateway.authorities_pem())
            .from(here(9, 1))
            .first(&header)
    };
    let mut held: Vec<RawClient> = (0..2)
        .map(|_| waiting(&comes("10.0.0.5", "acme", "vpce-1")))
        .collect();
    assert_shed(&comes("10.0.0.5", "acme", "vpce-1"));
    let event = shed_event(&gateway, "unauthenticated_per_address", "10.0.0.0/24");
    assert_eq!(event["origin"], "private-link:aws:vpce-1", "{event}");
    // The same address by another link is somebody else, and so is its neighbour.
    held.extend((0..2).map(|_| waiting(&comes("10.0.0.5", "globex", "vpce-2"))));
    held.push(waiting(&comes("10.0.0.6", "acme", "vpce-1")));
    assert_eq!(used(&gateway, "unauthenticated"), 5);
    assert_told_exactly(&gateway, "unauthenticated_per_address");
    trap.assert_untouched();
}

#[test]
fn a_thousand_silent_clients_hold_up_nobody() {
    let server = server(Version::V15);
    let gateway = scene::gateway(&acme(server, orders()));
    let silent: Vec<RawClient> = (0..1000)
        .map(|n| bare(&gateway, here(2, 1 + u8::try_from(n / 200).unwrap())))
        .map(|dial| dial.connect().unwrap())
        .collect();
    for _ in 0..5 {
        let began = Instant::now();
        let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        assert!(client.query("select 1").is_ok());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    let port = |client: &RawClient| client.local_address().port();
    wait::wait_for("the silent are gone", Duration::from_secs(15), || {
        used(&gateway, "unauthenticated") == 0
    });
    assert_eq!(shed(&gateway, "first_bytes"), 1000);
    let mut expected: Vec<u16> = silent.iter().map(port).collect();
    expected.sort_unstable();
    wait::wait_for("an event about each of them", SOON, || {
        let events = gateway.events();
        let told = events.iter().filter(|event| {
            event["kind"] == "protocol.violation" && event["code"] == "first_bytes_timeout"
        });
        let mut ports: Vec<u16> = told
            .filter_map(|event| u16::try_from(event["port"].as_u64()?).ok())
            .collect();
        ports.sort_unstable();
        ports == expected
    });
    let passed = gateway.events();
    let passed = passed
        .iter()
        .filter(|it| it["kind"] == "connection.permitted");
    assert_eq!(passed.count(), 5);
}

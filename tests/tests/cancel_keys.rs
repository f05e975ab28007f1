//! A cancel key is sealed: nobody makes one, nobody learns from one, and one that is over is over.

mod scene;

use std::collections::BTreeMap;

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::client::{V3_0, V3_2};
use portcullis_tests::{Dial, Ending, EndpointText, Gateway, Listener, Version, wait};
use scene::session::{Session, packet};
use scene::{NAME, SOON, acme, clients, gateway, here, new_server, orders, server};
use serde_json::Value;

#[test]
fn keys_are_as_long_as_their_protocol_allows_and_look_like_strangers_to_each_other() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    for (protocol, length) in [(V3_0, 8), (V3_2, 4 + 52)] {
        let sessions: Vec<_> = (0..6).map(|_| Session::open(&gateway, protocol)).collect();
        for session in &sessions {
            assert_eq!(session.key.len(), length);
            assert!(
                session.key[0] < 0x80,
                "drivers read the id as a signed number"
            );
            assert!(session.key[..4] != [0; 4], "some take 0 for no key");
        }
        for (index, one) in sessions.iter().enumerate() {
            for other in &sessions[index + 1..] {
                let differing = one.key.iter().zip(&other.key);
                let bits: u32 = differing.map(|(a, b)| (a ^ b).count_ones()).sum();
                // Half of them, within six deviations.
                let all = f64::from(u32::try_from(length * 8 - 1).unwrap());
                let off = (f64::from(bits) - all / 2.0).abs();
                assert!(
                    off < 3.0 * all.sqrt(),
                    "{bits} of {all}: {one:?} {other:?}",
                    one = one.key,
                    other = other.key
                );
            }
        }
    }
}

#[test]
fn no_key_with_a_single_bit_changed_has_an_effect() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let mut sessions = [V3_0, V3_2].map(|protocol| Session::open(&gateway, protocol));
    let mut sent = 0;
    for session in &mut sessions {
        session.sleep(server(Version::V18));
        for bit in 0..session.key.len() * 8 {
            let mut forged = session.key.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            // A dozen from each network, which is less than it may send.
            sent += 1;
            hopeless(&from_network(&gateway, sent / 12), &forged);
        }
    }
    // A forgery of the short key names another node once in 4096 times.
    wait::wait_for("every one is denied", SOON, || {
        let codes = denied(&gateway);
        assert!(
            codes
                .keys()
                .all(|code| ["unknown_key", "other_node"].contains(&&**code)),
            "{codes:?}"
        );
        codes.values().sum::<usize>() == sent
    });
    assert!(denied(&gateway)["unknown_key"] > sent - 5);
    for session in sessions {
        assert!(session.is_running(server(Version::V18)));
        session.stop(&gateway);
    }
}

#[test]
fn a_key_of_before_a_restart_has_no_effect() {
    let mut gateway = gateway(&acme(server(Version::V15), orders()));
    let old = [V3_0, V3_2].map(|protocol| Session::open(&gateway, protocol).key);
    gateway.kill();
    gateway.start_again();
    // The same serial numbers again.
    let mut sessions = [V3_0, V3_2].map(|protocol| Session::open(&gateway, protocol));
    for session in &mut sessions {
        session.sleep(server(Version::V15));
    }
    for key in &old {
        hopeless(&Dial::plain(gateway.address()), key);
    }
    wait::wait_for("both are denied", SOON, || {
        denied(&gateway) == BTreeMap::from([("unknown_key".to_owned(), 2)])
    });
    for session in sessions {
        assert!(session.is_running(server(Version::V15)));
        session.stop(&gateway);
    }
}

#[test]
fn a_key_of_another_node_is_known_for_one_and_of_another_fleet_is_not() {
    let tenant = acme(server(Version::V15), orders());
    let (one, mut two) = (gateway(&tenant), gateway(&tenant));
    let mut sessions = [V3_0, V3_2].map(|protocol| Session::open(&one, protocol));
    for session in &mut sessions {
        session.sleep(server(Version::V15));
        hopeless(&Dial::plain(two.address()), &session.key);
    }
    wait::wait_for("both are strangers", SOON, || {
        denied(&two) == BTreeMap::from([("unknown_key".to_owned(), 2)])
    });

    two.kill();
    let secret = |gateway: &Gateway| gateway.data_directory().join("mock-secret");
    std::fs::copy(secret(&one), secret(&two)).unwrap();
    let configured = std::fs::read_to_string(two.configuration()).unwrap();
    let renamed = configured.replace("name = \"gw1\"", "name = \"gw2\"");
    std::fs::write(two.configuration(), renamed).unwrap();
    two.start_again();
    for session in sessions {
        hopeless(&Dial::plain(two.address()), &session.key);
        assert!(session.is_running(server(Version::V15)));
        session.stop(&one);
    }
    wait::wait_for("both are of the fleet", SOON, || {
        denied(&two).get("other_node") == Some(&2)
    });
}

#[test]
fn a_network_that_sends_too_many_is_not_heard_and_others_are() {
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .listener(Listener::network("acme-vpc"))
        .tenant(
            &acme(
                server(Version::V15),
                orders().allow("127.0.0.0/8", "network:acme-vpc"),
            )
            .network("acme-vpc"),
        )
        .signs_in_at("acme", clients())
        .start();
    let mut session = Session::open(&gateway, V3_0);
    let began = std::time::Instant::now();
    let sent = 60;
    for host in 1..=sent {
        let dial = Dial::plain(gateway.address()).from(here(7, host));
        hopeless(&dial, &[1; 8]);
    }
    let counted = |code: &str| counted(&gateway, code);
    wait::wait_for("all are counted", SOON, || {
        counted("unknown_key") + counted("other_node") + counted("cancel_rate") == u64::from(sent)
    });
    let looked_at = u64::from(sent) - counted("cancel_rate");
    let most = 20 + 5 * (began.elapsed().as_secs() + 1);
    assert!((20..=most).contains(&looked_at), "{looked_at}");
    let is_told = |event: &Value| event["code"] == "cancel_rate";
    gateway.event("what was not looked at", is_told);
    let mut told: Vec<Value> = gateway.events();
    told.retain(is_told);
    assert!(
        told.len() as u64 <= began.elapsed().as_secs() + 1,
        "{told:?}"
    );

    // The same address behind another door, and another network behind the same.
    for (door, network) in [(1, 7), (0, 8)] {
        session.sleep(server(Version::V15));
        let dial = Dial::plain(gateway.listener(door)).from(here(network, 1));
        let _ = session.request(&dial);
        assert_eq!(session.outcome(), "57014", "{door}, {network}");
    }
    // And the network itself after a while.
    std::thread::sleep(std::time::Duration::from_secs(1));
    session.sleep(server(Version::V15));
    let _ = session.request(&Dial::plain(gateway.address()).from(here(7, 1)));
    assert_eq!(session.outcome(), "57014");
}

#[test]
fn behind_a_balancer_the_clients_networks_are_told_apart() {
    let listed = EndpointText::new("orders", NAME)
        .allow("198.51.100.0/24", "public")
        .allow("203.0.113.0/24", "public");
    let gateway = Gateway::builder()
        .listener(Listener::public().balanced("127.0.0.0/8"))
        .tenant(&acme(server(Version::V15), listed))
        .signs_in_at("acme", clients())
        .start();
    let behind = |dial: Dial, client: &str| {
        let (client, balancer) = (client.parse().unwrap(), "192.0.2.1:5432".parse().unwrap());
        dial.first(&proxy_v2(client, balancer, &[]))
    };
    let plain = |client: &str| behind(Dial::plain(gateway.address()), client);
    let mut session = Session::by(&behind(gateway.dial(NAME), "203.0.113.7:4000"), V3_2);
    for _ in 0..60 {
        hopeless(&plain("198.51.100.7:4000"), &[1; 8]);
    }
    wait::wait_for("some are not heard", SOON, || {
        counted(&gateway, "cancel_rate") > 0
    });
    session.sleep(server(Version::V15));
    let _ = session.request(&plain("203.0.113.8:4000"));
    assert_eq!(session.outcome(), "57014");
}

#[test]
fn a_second_request_while_the_first_is_being_carried_out_is_dropped() {
    let database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders()));
    let mut session = Session::open(&gateway, V3_2);
    session.sleep(&database);
    // It takes no cancel request now, and the first one waits.
    database.freeze();
    let from = |host| Dial::plain(gateway.address()).from(here(9, host));
    let mut waiting = from(1).connect().unwrap();
    waiting.send(&packet(&session.key)).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    for host in [2, 3] {
        hopeless(&from(host), &session.key);
    }
    wait::wait_for("two are dropped", SOON, || {
        denied(&gateway) == BTreeMap::from([("already_cancelling".to_owned(), 2)])
    });
    database.thaw();
    assert_eq!(session.outcome(), "57014");
    gateway.event("the one", |event| event["kind"] == "cancel.forwarded");
    // Now it is done, the next one is heard again.
    session.sleep(&database);
    hopeless(&Dial::plain(gateway.address()), &session.key);
    assert_eq!(session.outcome(), "57014");
}

/// Sends this key and sees that nothing is answered.
fn hopeless(dial: &Dial, key: &[u8]) {
    let mut client = dial.connect().unwrap();
    client.send(&packet(key)).unwrap();
    assert_eq!(client.read_to_end(), (vec![], Ending::Closed), "{key:?}");
}

fn from_network(gateway: &Gateway, network: usize) -> Dial {
    Dial::plain(gateway.address()).from(here(u8::try_from(network).unwrap(), 1))
}

/// The codes of `cancel.denied` so far.
fn denied(gateway: &Gateway) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for event in gateway.events() {
        if event["kind"] == "cancel.denied" {
            *codes
                .entry(event["code"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    codes
}

fn counted(gateway: &Gateway, outcome: &str) -> u64 {
    let name = format!("portcullis_cancels_total{{outcome=\"{outcome}\"}} ");
    let metrics = gateway.metrics("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

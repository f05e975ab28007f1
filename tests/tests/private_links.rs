//! Private links and load balancers: who a connection is taken for is what a trusted balancer's
//! PROXY v2 header says, all of it, or the connection ends.

mod links;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use links::{
    AWS, CLOUDS, HERE, NETWORK, PLAIN, PUBLIC, Scene, assert_silence, balancer, consumer, denied,
    dial, dropped, psql, spoiled,
};
use portcullis_tests::balancer::{aws_link, azure_link, gcp_link, proxy_v2};
use portcullis_tests::{Dial, EndpointText, RawClient};

#[test]
fn a_link_is_admitted_by_its_cloud_and_its_number_together() {
    let scene = Scene::new();
    let tenants =
        ["aws", "azure", "gcp"].map(|cloud| scene.tenant(cloud, &[&format!("{cloud}:123")]));
    let gateway = scene.gateway(&tenants);
    let tlvs = [aws_link("123"), azure_link(123), gcp_link(123)];
    for (listener, heard) in CLOUDS.iter().enumerate() {
        for (written, (kind, value)) in CLOUDS.iter().zip(&tlvs) {
            for (row, asked) in CLOUDS.iter().enumerate() {
                let from = format!(
                    "127.0.9.{}",
                    1 + listener * 64 + usize::from(*kind) % 16 * 4 + row
                );
                let balancer = balancer(&gateway, listener, &from, consumer(&[(*kind, value)]));
                if heard != written {
                    let event = dropped(&gateway, &balancer, &from);
                    assert_eq!(
                        event["code"], "private_link_absent",
                        "{heard} {written}: {event}"
                    );
                } else if heard == asked {
                    let told = psql(&gateway, &balancer, asked).run("select 1");
                    assert_eq!(told.ok(), "1", "{heard}");
                } else {
                    let code = denied(&gateway, &balancer, asked);
                    assert_eq!(code["code"], "private_link_mismatch", "{heard} {asked}");
                    assert_eq!(code["origin"], format!("private-link:{heard}:123"));
                }
            }
        }
    }
    // One for each of the admitted, and the gateway's own.
    assert_eq!(scene.called("app"), 3);
}

#[test]
fn consumers_with_equal_addresses_behind_two_links_reach_their_own_databases_at_once() {
    let scenes = [("acme", Scene::new()), ("globex", Scene::new())];
    let tenants = scenes.each_ref().map(|(id, scene)| {
        scene.server.sql(&format!(
            "create table marker as select '{id}' as tenant; grant select on marker to app"
        ));
        scene.tenant(id, &[&format!("aws:vpce-{id}")])
    });
    let gateway = scenes[0].1.gateway(&tenants);
    let balancers = scenes.each_ref().map(|(id, _)| {
        let (kind, value) = aws_link(&format!("vpce-{id}"));
        balancer(&gateway, AWS, "127.0.9.1", consumer(&[(kind, &value)]))
    });
    let mut sessions = [0, 1].map(|index| {
        let dial = dial(&gateway, &balancers[index], scenes[index].0);
        dial.sign_in("app", "secret", "postgres")
    });
    let live = gateway.ask(&["connections"]);
    for connection in live["connections"].as_array().unwrap() {
        assert_eq!(
            (&connection["address"], &connection["port"]),
            (&"10.0.0.7".into(), &1111.into())
        );
    }
    for _ in 0..10 {
        for (session, (id, _)) in sessions.iter_mut().zip(&scenes) {
            let row = session.query("select tenant from marker").unwrap();
            assert_eq!(row, [[Some((*id).to_owned())]]);
        }
    }
    let before = scenes.each_ref().map(|(_, scene)| scene.called(""));
    for (balancer, other) in balancers.iter().zip(["globex", "acme"]) {
        let event = denied(&gateway, balancer, other);
        assert_eq!(event["code"], "private_link_mismatch", "{event}");
    }
    assert_eq!(scenes.each_ref().map(|(_, scene)| scene.called("")), before);

    let foreign = scenes[1]
        .1
        .tenant("globex", &["aws:vpce-globex", "aws:vpce-acme"]);
    gateway.write_policy(&foreign);
    let refused = gateway.command(&["apply", &gateway.policy_directory().display().to_string()]);
    assert!(refused.refused().contains("aws:vpce-acme"), "{refused}");
}

#[test]
fn a_header_that_is_not_whole_and_plain_ends_the_connection_before_anything_is_answered() {
    let scene = Scene::new();
    // Whoever was taken for a public client would be let in.
    let gateway = scene.gateway(&[scene.tenant("acme", &["aws:vpce-1", "azure:123", "gcp:123"])]);
    for (number, row) in (1..).zip(spoiled::headers()) {
        let from = format!("127.0.9.{number}");
        let balancer = balancer(&gateway, row.listener, &from, row.header);
        let event = dropped(&gateway, &balancer, &from);
        assert_eq!(event["code"], row.code, "{}: {event}", row.what);
        let kind = match row.code {
            "proxy_local" => "connection.closed",
            _ => "protocol.violation",
        };
        assert_eq!(event["kind"], kind, "{}: {event}", row.what);
    }
    assert_eq!(scene.called(""), 0);

    // The same header with nothing wrong about it, and with a checksum that is right.
    for header in spoiled::sound() {
        let balancer = balancer(&gateway, AWS, "127.0.9.250", header);
        let told = psql(&gateway, &balancer, "acme").run("select 1");
        assert_eq!(told.ok(), "1");
    }
}

#[test]
fn a_second_header_is_refused_whoever_wrote_it() {
    let scene = Scene::new();
    let gateway = scene.gateway(&[scene.tenant("acme", &["aws:vpce-1"])]);
    let (kind, value) = aws_link("vpce-1");
    let header = |host: u8| {
        let source = SocketAddr::new(IpAddr::from([10, 0, 1, host]), 1111);
        proxy_v2(source, HERE.parse().unwrap(), &[(kind, &value)])
    };
    let version_1 = b"PROXY TCP4 10.0.0.7 10.9.0.1 1111 5433\r\n";
    for (host, listener, second) in [
        (1, AWS, header(9)),
        (2, AWS, version_1.to_vec()),
        (3, PUBLIC, header(9)),
    ] {
        // By the balancer itself, or by its client, whose bytes it passes on.
        for (host, first, then) in [
            (host, [header(host), second.clone()].concat(), Vec::new()),
            (host + 10, header(host + 10), second),
        ] {
            let balancer = balancer(&gateway, listener, "127.0.9.1", first);
            let mut client = Dial::plain(balancer.address())
                .first(&then)
                .connect()
                .unwrap();
            assert_silence(&mut client);
            let address = format!("10.0.1.{host}");
            let event = gateway.event(&address, |event| event["address"] == address);
            assert_eq!(event["code"], "proxy_unexpected", "{event}");
            assert_eq!(event["kind"], "protocol.violation", "{event}");
        }
    }
    assert_eq!(scene.called(""), 0);
}

#[test]
fn the_header_of_a_peer_that_is_not_trusted_is_never_read() {
    let scene = Scene::new();
    let gateway = scene.gateway(&[scene.tenant("acme", &["aws:vpce-1"])]);
    let (kind, value) = aws_link("vpce-1");
    let good = consumer(&[(kind, &value)]);
    for (number, (listener, header)) in (1..).zip([
        (AWS, good.clone()),
        (AWS, b"PROXY TCP4 10.0.0.7 10.9.0.1 1111 5433\r\n".to_vec()),
        (AWS, vec![0xFF; 100]),
        (AWS, Vec::new()),
        (PUBLIC, good.clone()),
        (NETWORK, good.clone()),
    ]) {
        let from = format!("127.0.8.{number}");
        let event = dropped(
            &gateway,
            &balancer(&gateway, listener, &from, header),
            &from,
        );
        assert_eq!(event["code"], "proxy_untrusted_peer", "{event}");
    }
    // A listener that has no balancer believes nobody's header.
    let event = dropped(
        &gateway,
        &balancer(&gateway, PLAIN, "127.0.9.9", good),
        "127.0.9.9",
    );
    assert_eq!(event["code"], "proxy_unexpected", "{event}");
    assert_eq!(scene.called(""), 0);
}

#[test]
fn a_header_must_be_complete_within_a_second_and_slow_ones_hold_nobody_up() {
    let scene = Scene::new();
    let gateway = scene.gateway(&[scene.tenant("acme", &["aws:vpce-1"])]);
    let (kind, value) = aws_link("vpce-1");
    let header = consumer(&[(kind, &value)]);
    let balancer = balancer(&gateway, AWS, "127.0.9.1", header.clone());
    let slow = Dial::plain(gateway.listener(AWS)).from("127.0.9.2".parse().unwrap());
    let mut stopped: Vec<RawClient> = (0..200)
        .map(|_| slow.clone().first(&header[..20]).connect().unwrap())
        .collect();
    let mut dripping = slow.from("127.0.9.3".parse().unwrap()).connect().unwrap();
    let begun = Instant::now();
    let mut drip = dripping.socket().try_clone().unwrap();
    let drops = std::thread::spawn(move || {
        for byte in header {
            if drip.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let meanwhile = dial(&gateway, &balancer, "acme").sign_in("app", "secret", "postgres");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(meanwhile);
    assert_silence(&mut dripping);
    let took = begun.elapsed();
    assert!((900..3000).contains(&took.as_millis()), "{took:?}");
    stopped.iter_mut().for_each(assert_silence);
    for from in ["127.0.9.2", "127.0.9.3"] {
        let event = gateway.event(from, |event| event["address"] == from);
        assert_eq!(event["code"], "proxy_timeout", "{event}");
    }
    // The good one alone was let through.
    assert_eq!(scene.called("app"), 1);
    drops.join().unwrap();
}

#[test]
fn behind_a_balancer_the_address_is_the_headers_and_the_origin_the_listeners() {
    let scene = Scene::new();
    let endpoint = EndpointText::new("orders", "acme.db.test")
        .allow("203.0.113.0/24", "public")
        .allow("127.0.0.0/8", "public")
        .allow("10.0.0.0/16", "network:acme-vpc");
    let hidden = EndpointText::new("hidden", "hidden.db.test").cluster("orders");
    let hidden = hidden.allow("anywhere", "private-link:aws:vpce-1");
    let acme = scene
        .empty("acme")
        .network("acme-vpc")
        .private_link("aws:vpce-1");
    let gateway = scene.gateway(&[acme.endpoint(endpoint).endpoint(hidden)]);
    let (kind, value) = aws_link("vpce-1");
    let by = |listener, source: &str| {
        let source: SocketAddr = source.parse().unwrap();
        let here = if source.is_ipv6() {
            "[fd00::1]:5433"
        } else {
            HERE
        };
        let header = proxy_v2(source, here.parse().unwrap(), &[(kind, &value)]);
        balancer(&gateway, listener, "127.0.9.1", header)
    };
    for (listener, source, address, origin) in [
        (PUBLIC, "203.0.113.7:4001", "203.0.113.7", "public"),
        (PUBLIC, "[::ffff:203.0.113.8]:4002", "203.0.113.8", "public"),
        (NETWORK, "10.0.0.7:4003", "10.0.0.7", "network:acme-vpc"),
    ] {
        let told = psql(&gateway, &by(listener, source), "acme").run("select 1");
        assert_eq!(told.ok(), "1", "{source}");
        let event = gateway.event(source, |event| event["address"] == address);
        assert_eq!(
            (&event["kind"], &event["origin"]),
            (&"connection.permitted".into(), &origin.into())
        );
        let port: u16 = source.parse::<SocketAddr>().unwrap().port();
        assert_eq!(event["port"], port, "{event}");
        assert_eq!(event["balancer"], "127.0.9.1", "{event}");
    }
    let before = scene.called("");
    for (listener, source, asked, code) in [
        (PUBLIC, "198.51.100.7:1", "acme", "address_not_listed"),
        (PUBLIC, "10.0.0.7:1", "acme", "address_not_listed"),
        (NETWORK, "203.0.113.7:1", "acme", "address_not_listed"),
        (AWS, "203.0.113.7:1", "acme", "private_link_mismatch"),
        (PUBLIC, "203.0.113.7:1", "hidden", "public_blocked"),
        (NETWORK, "10.0.0.7:1", "hidden", "network_mismatch"),
    ] {
        let event = denied(&gateway, &by(listener, source), asked);
        assert_eq!(event["code"], code, "{source} {asked}: {event}");
    }
    assert_eq!(scene.called(""), before);
}

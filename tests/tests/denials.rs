//! Saying no in two voices: one answer for every reason on the wire, the whole story under its
//! reference.

mod scene;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::client::{Binding, V3_0, V3_2, startup};
use portcullis_tests::{
    Dial, Ending, EndpointText, Gateway, Listener, Message, RawClient, TenantText, TestAuthority,
    Version,
};
use scene::{
    NAME, Trap, acme, but_for_the_reference, certificate_mode, clients, event_of, gateway, here,
    orders, server,
};

#[test]
fn every_reason_is_told_alike_to_the_client_and_apart_to_the_operator() {
    let (trap, gateway) = every_reason();
    let trusted = gateway.authorities_pem();
    let dial = |listener: usize, name: &str| {
        Dial::tls(gateway.listener(listener), name, &trusted).from(here(1, 1))
    };
    let mut answers = BTreeSet::new();
    let mut references = BTreeSet::new();
    for (dial, code) in [
        (dial(0, "nobodys.db.test"), "unknown_endpoint"),
        (dial(0, NAME).without_server_name(), "unknown_endpoint"),
        (dial(0, "globex.db.test"), "tenant_suspended"),
        (dial(0, "acme-suspended.db.test"), "endpoint_suspended"),
        (dial(0, "acme-peered.db.test"), "public_blocked"),
        (dial(1, NAME), "network_mismatch"),
        (dial(2, NAME), "network_mismatch"),
        (dial(0, "acme-empty.db.test"), "empty_list"),
        (dial(0, NAME).from(here(2, 1)), "address_not_listed"),
        (dial(0, NAME).from(here(1, 9)), "address_not_listed"),
        (dial(0, "acme-expired.db.test"), "entry_expired"),
    ] {
        for dial in [
            dial.clone(),
            dial.clone().direct(),
            dial.clone().tls12_only(),
        ] {
            let refusal = refused(&dial, "app");
            assert_eq!(refusal.sqlstate(), "28000", "{code}");
            assert!(
                references.insert(refusal.reference()),
                "a reference is for one attempt"
            );
            answers.insert(but_for_the_reference(&refusal));
            let event = event_of(&gateway, "connection.denied", &refusal);
            assert_eq!(event["code"], code, "{event}");
            assert_eq!(event["revision"], 1);
            assert!(
                event["narration"].as_str().unwrap().lines().count() >= 1,
                "{event}"
            );
        }
        let refusal = refused(&dial, "app");
        let why = gateway.command(&["why", &refusal.reference()]);
        assert!(
            why.ok().contains(code) && why.ok().contains("Next:"),
            "{why}"
        );
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    trap.assert_untouched();
}

#[test]
fn who_is_asked_for_and_how_makes_no_difference_to_a_stranger() {
    let (trap, gateway) = every_reason();
    let stranger = gateway.dial(NAME).from(here(2, 1));
    let expected = but_for_the_reference(&refused(&stranger, "app"));
    for user in [
        "nobody",
        "postgres",
        "app'; --",
        "\u{202e}rtl",
        &"x".repeat(63),
    ] {
        assert_eq!(
            but_for_the_reference(&refused(&stranger, user)),
            expected,
            "{user:?}"
        );
    }
    for parameters in [
        &[("user", "app"), ("replication", "true")][..],
        &[
            ("user", "app"),
            ("database", "nowhere"),
            ("options", "-c role=root"),
        ],
    ] {
        let mut client = stranger.start(parameters).unwrap();
        assert_eq!(
            but_for_the_reference(&client.refusal()),
            expected,
            "{parameters:?}"
        );
    }
    // An endpoint that asks for certificates does not ask strangers, who would learn of it.
    let unknown = TestAuthority::new("Unknown").client("app", &[]);
    let with_certificate = Dial::tls(
        gateway.address(),
        "acme-certified.db.test",
        &gateway.authorities_pem(),
    )
    .credential(&unknown);
    let told = refused(&with_certificate.clone().from(here(2, 1)), "app");
    assert_eq!(but_for_the_reference(&told), expected);
    let listed = with_certificate.from(here(1, 1)).start(&[("user", "app")]);
    assert!(
        listed.is_err() || listed.unwrap().read_message().is_err(),
        "who is listed is asked"
    );
    trap.assert_untouched();
}

#[test]
fn replication_is_refused_unless_the_endpoint_allows_it() {
    let (trap, gateway) = every_reason();
    let dial = gateway.dial(NAME).from(here(1, 1));
    for value in ["true", "database", "on"] {
        let mut client = dial
            .start(&[("user", "app"), ("replication", value)])
            .unwrap();
        let refusal = client.refusal();
        assert_eq!(
            but_for_the_reference(&refusal),
            but_for_the_reference(&refused(&gateway.dial("nobodys.db.test"), "app"))
        );
        let event = event_of(&gateway, "connection.denied", &refusal);
        assert_eq!(event["code"], "replication_refused");
    }
    trap.assert_untouched();
}

#[test]
fn drivers_show_the_reference_and_what_to_do_with_it() {
    let (_trap, gateway) = every_reason();
    let trusted = gateway.authorities_pem();
    let name = "acme-empty.db.test";
    let psql = gateway
        .psql(name)
        .user("app", "secret", "postgres")
        .run("select 1");
    assert_shown(psql.refused(), "portcullis why");
    let psycopg = gateway
        .psycopg(name)
        .user("app", "secret", "postgres")
        .query("select 1");
    assert_shown(psycopg.refused(), "portcullis why");
    let node = gateway
        .node_pg(name)
        .user("app", "secret", "postgres")
        .query("select 1");
    assert_shown(node.refused(), "28000");
    // psql sends no SNI for an address.
    let psql = portcullis_tests::Psql::new(gateway.address(), "127.0.0.1", &trusted);
    let psql = psql
        .user("app", "secret", "postgres")
        .parameter("sslmode", "verify-ca")
        .run("select 1");
    assert_shown(psql.refused(), "portcullis why");
}

fn assert_shown(told: &str, hint: &str) {
    assert!(
        told.contains("connection not permitted (reference PC-"),
        "{told}"
    );
    assert!(told.contains(hint), "{told}");
}

#[test]
fn a_name_is_the_same_name_in_other_letters() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let psql = gateway
        .psql("ACME-Orders.DB.test")
        .user("app", "secret", "postgres");
    assert_eq!(psql.run("select 1").ok(), "1");
}

#[test]
fn an_address_is_the_same_address_however_it_is_written() {
    let server = server(Version::V15);
    let listed = EndpointText::new("orders", NAME)
        .allow("127.0.1.0/24", "public")
        .allow("::1", "public");
    let v6 = |listener: Listener| listener.on(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let gateway = Gateway::builder()
        .listener(v6(Listener::public()))
        .listener(v6(Listener::public().balanced("::1")))
        .tenant(&acme(server, listed))
        .signs_in_at("acme", clients())
        .start();
    scene::assert_in_force(&gateway, 1);
    let trusted = gateway.authorities_pem();
    let dial = |listener: usize| {
        let port = gateway.listener(listener).port();
        Dial::tls(
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
            NAME,
            &trusted,
        )
    };
    let _ = dial(0).sign_in("app", "secret", "postgres");
    // A load balancer with an IPv6 side writes IPv4 clients so.
    let mapped = |address: &str| {
        let source = format!("[::ffff:{address}]:1111").parse().unwrap();
        dial(1).first(&proxy_v2(source, "[::1]:5433".parse().unwrap(), &[]))
    };
    let _ = mapped("127.0.1.1").sign_in("app", "secret", "postgres");
    let told = refused(&mapped("127.0.2.1"), "app");
    let event = event_of(&gateway, "connection.denied", &told);
    assert_eq!(
        (&event["address"], &event["code"]),
        (&"127.0.2.1".into(), &"address_not_listed".into())
    );
}

#[test]
fn a_tenants_limits_turn_away_its_own_clients_and_nobody_elses() {
    let server = server(Version::V15);
    let globex = EndpointText::new("orders", "globex.db.test").allow("127.0.0.0/8", "public");
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .tenant(&acme(server, orders()).limits("{connections: 2}"))
        .tenant(
            &TenantText::new("globex")
                .cluster("orders", server)
                .endpoint(globex)
                .limits("{new-connections-per-second: 1}"),
        )
        .signs_in_at("acme", clients())
        .signs_in_at("globex", clients())
        .start();
    scene::assert_in_force(&gateway, 2);
    let open = || gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let (first, _second) = (open(), open());
    let again = || attempt(&gateway.dial(NAME), "app").authenticate("app", "secret", Binding::None);
    let Err(Ending::Refused(refusal)) = again() else {
        panic!("let in as the third of two")
    };
    assert_eq!(refusal.sqlstate(), "53300");
    event_of(&gateway, "limit.shed", &refusal);
    drop(first);
    portcullis_tests::wait::wait_for("a place is free again", scene::SOON, || again().is_ok());
    let other = Dial::tls(
        gateway.address(),
        "globex.db.test",
        &gateway.authorities_pem(),
    );
    let mut both = [other.connect().unwrap(), other.connect().unwrap()];
    for client in &mut both {
        client.send(&startup(V3_0, &[("user", "app")])).unwrap();
    }
    let answers = both.each_mut().map(|client| client.read_message().unwrap());
    let too_soon = answers.iter().find(|answer| answer.kind == b'E').unwrap();
    assert_eq!(too_soon.sqlstate(), "53300");
    assert!(answers.iter().any(|answer| answer.kind == b'R'));
}

#[test]
fn a_client_of_a_newer_protocol_is_refused_in_words_that_it_understands() {
    let (_trap, gateway) = every_reason();
    for version in [V3_2, 0x0003_270F] {
        let mut client = gateway.dial("nobodys.db.test").connect().unwrap();
        client
            .send(&startup(version, &[("user", "app"), ("_pq_.x", "1")]))
            .unwrap();
        assert_eq!(client.refusal().sqlstate(), "28000");
    }
}

/// An endpoint for each reason to say no, before a database that must never be reached. Doors: the
/// internet, a network that is acme's, and one that is globex's.
fn every_reason() -> (Trap, Gateway) {
    let trap = Trap::new();
    let endpoint =
        |id: &str| EndpointText::new(id, &format!("acme-{id}.db.test")).cluster("orders");
    let certificate = certificate_mode(&clients().pem(), &[("cn:app", "app")]);
    let acme = trap
        .acme(orders_of_the_office())
        .network("acme-vpc")
        .endpoint(
            endpoint("suspended")
                .allow("127.0.0.0/8", "public")
                .more("    suspended: true\n"),
        )
        .endpoint(endpoint("peered").allow("127.0.0.0/8", "network:acme-vpc"))
        .endpoint(
            endpoint("empty")
                .door("public")
                .allow("127.0.0.0/8", "network:acme-vpc"),
        )
        .endpoint(endpoint("expired").allow_with(
            "127.0.0.0/8",
            "public",
            ", expires: 2026-01-01T00:00:00Z",
        ))
        .endpoint(
            endpoint("certified")
                .allow("127.0.1.0/24", "public")
                .authentication(&certificate),
        );
    let globex = EndpointText::new("orders", "globex.db.test").allow("127.0.0.0/8", "public");
    let globex = trap.tenant("globex").network("globex-vpc").endpoint(globex);
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .listener(Listener::network("acme-vpc"))
        .listener(Listener::network("globex-vpc"))
        .tenant(&acme)
        .policy_text(
            "globex.yaml",
            &format!("{}suspended: true\n", globex.yaml()),
        )
        .start();
    scene::assert_in_force(&gateway, 2);
    (trap, gateway)
}

fn orders_of_the_office() -> EndpointText {
    EndpointText::new("orders", NAME).allow_with("127.0.1.0/24", "public", ", except: [127.0.1.9]")
}

fn attempt(dial: &Dial, user: &str) -> RawClient {
    dial.start(&[("user", user), ("database", "postgres")])
        .unwrap()
}

fn refused(dial: &Dial, user: &str) -> Message {
    attempt(dial, user).refusal()
}

//! Connections that are authenticated: of a tenant, an endpoint, the node; and the pace of new
//! ones.

use portcullis_tests::client::Binding;
use portcullis_tests::{Dial, EndpointText, Gateway, RawClient, Version, wait};
use serde_json::Value;

use super::scene::{self, BOTH, NAME, SOON, acme, backends, clients, here, orders, with_role};
use super::{acme_dial, asks_for_a_token, begun_as, limit, limited, started, turned_away, used};

#[test]
fn strangers_who_know_no_password_do_not_fill_a_tenants_cap() {
    let server = with_role(Version::V15, "cap_tenant");
    let tenant = acme(server, orders()).limits("{connections: 2}");
    let gateway = gateway(&tenant, "unauthenticated-per-tenant = 100");
    // They have their start-up packet behind them and are asked for a proof.
    let _strangers: Vec<RawClient> = (0..6)
        .map(|_| {
            let mut client = begun_as("cap_tenant", &acme_dial(&gateway, here(2, 1)));
            assert_eq!(client.read_message().unwrap().authentication(), Some(10));
            client
        })
        .collect();
    let sign_in = || {
        gateway
            .dial(NAME)
            .sign_in("cap_tenant", "secret", "postgres")
    };
    let (first, _second) = (sign_in(), sign_in());
    let event = one_too_many(&gateway, "cap_tenant", &gateway.dial(NAME));
    assert_eq!(event["code"], "connection_limit", "{event}");
    assert_eq!(event["limit"], "tenant_connections");
    assert_eq!(event["tenant"], "acme");
    backends(server, "cap_tenant", 2);
    drop(first);
    wait::wait_for("a place is free", SOON, || {
        used(&gateway, "tenant_connections") == 1
    });
    let _again = sign_in();
}

#[test]
fn an_endpoint_has_its_places_and_the_next_endpoint_its_own() {
    let server = with_role(Version::V15, "cap_endpoint");
    let reports = EndpointText::new("reports", "acme-reports.db.test").cluster("orders");
    let tenant = acme(server, orders())
        .endpoint(reports.allow("127.0.0.0/8", "public"))
        .limits("{connections-per-endpoint: 1}");
    let gateway = gateway(&tenant, "");
    let _first = gateway
        .dial(NAME)
        .sign_in("cap_endpoint", "secret", "postgres");
    let event = one_too_many(&gateway, "cap_endpoint", &gateway.dial(NAME));
    assert_eq!(event["code"], "connection_limit", "{event}");
    assert_eq!(event["limit"], "endpoint_connections");
    backends(server, "cap_endpoint", 1);
    let other = gateway.dial("acme-reports.db.test");
    let _other = other.sign_in("cap_endpoint", "secret", "postgres");
}

#[test]
fn in_relay_a_place_is_taken_before_the_database_is_asked() {
    for version in BOTH {
        let server = with_role(version, "cap_relay");
        let tenant = acme(server, orders().authentication("relay")).limits("{connections: 1}");
        let gateway = gateway(&tenant, "");
        let first = gateway
            .dial(NAME)
            .sign_in("cap_relay", "secret", "postgres");
        let refusal = turned_away(&mut begun_as("cap_relay", &gateway.dial(NAME)));
        let event = scene::event_of(&gateway, "limit.shed", &refusal);
        assert_eq!(event["limit"], "tenant_connections", "{event}");
        backends(server, "cap_relay", 1);
        drop(first);
        wait::wait_for("a place is free", SOON, || {
            used(&gateway, "tenant_connections") == 0
        });
        let _again = gateway
            .dial(NAME)
            .sign_in("cap_relay", "secret", "postgres");
    }
}

/// 513 open files are the node's own: 512 for all but connections, and one for its listener. Of
/// the 13 beyond them 2 are for clients on their way in, so there are 5 connections, and one of
/// them is kept for staff.
#[test]
fn a_node_holds_what_its_open_files_allow_and_keeps_a_reserve_for_staff() {
    let server = with_role(Version::V15, "cap_node");
    let builder = limited("connections = 1000")
        .more("workers = 1\n")
        .open_files(526)
        .tenant(&acme(server, orders()))
        .signs_in_at("acme", clients());
    let gateway = started(builder, 1);
    let node = limit(&gateway, "node_connections");
    assert_eq!(
        (&node["value"], &node["set"]),
        (&5.0.into(), &"machine".into())
    );
    assert_eq!(limit(&gateway, "staff_reserve")["value"], 1.0);
    assert_eq!(limit(&gateway, "unauthenticated")["value"], 1.0);
    let said = gateway.log();
    let at_start = said
        .iter()
        .find(|line| line["fields"]["message"] == "limits");
    assert_eq!(
        at_start.unwrap()["fields"]["connections"],
        5,
        "{}",
        gateway.log_text()
    );
    let mut open: Vec<RawClient> = (0..4)
        .map(|_| gateway.dial(NAME).sign_in("cap_node", "secret", "postgres"))
        .collect();
    let event = one_too_many(&gateway, "cap_node", &gateway.dial(NAME));
    assert_eq!(event["code"], "node_connections", "{event}");
    assert_eq!(
        used(&gateway, "node_connections"),
        4,
        "the fifth is staff's"
    );
    backends(server, "cap_node", 4);
    open.pop();
    wait::wait_for("a place is free", SOON, || {
        used(&gateway, "node_connections") == 3
    });
    let _again = gateway.dial(NAME).sign_in("cap_node", "secret", "postgres");
}

#[test]
fn with_too_few_open_files_a_node_says_so_and_does_not_start() {
    let told = limited("")
        .more("workers = 1\n")
        .open_files(514)
        .try_start();
    let told = told.map(drop).unwrap_err();
    assert!(told.contains("RLIMIT_NOFILE"), "{told}");
}

#[test]
fn one_source_has_half_of_its_tenants_pace_and_leaves_the_rest_to_others() {
    let (trap, gateway) = paced("{new-connections-per-second: 8}");
    let (asked, refused) = all_at_once(&gateway, (0..16).map(|_| here(2, 1)).collect());
    assert!(asked >= 4, "its half: {asked}");
    assert!(!refused.is_empty(), "and no more at once");
    for event in &refused {
        assert_eq!(event["limit"], "source_pace", "{event}");
        assert_eq!(event["code"], "connection_rate");
    }
    let (asked, refused) = all_at_once(&gateway, vec![here(1, 1), here(3, 1)]);
    assert_eq!((asked, refused.len()), (2, 0), "others have their own");
    trap.assert_untouched();
}

#[test]
fn a_tenant_has_its_pace_however_many_sources_share_it() {
    let (trap, gateway) = paced("{new-connections-per-second: 2}");
    let (asked, refused) = all_at_once(&gateway, (1..=16).map(|n| here(n, 1)).collect());
    assert!(asked >= 2, "{asked}");
    assert!(!refused.is_empty());
    for event in &refused {
        assert_eq!(event["limit"], "tenant_pace", "{event}");
    }
    trap.assert_untouched();
}

fn paced(limits: &str) -> (scene::Trap, Gateway) {
    let trap = scene::Trap::new();
    let tenant = trap.acme(asks_for_a_token()).limits(limits);
    let gateway = started(
        limited("unauthenticated-per-tenant = 100").tenant(&tenant),
        1,
    );
    (trap, gateway)
}

/// Clients that send their start-up packets in one moment, however long their handshakes took: how
/// many were let in to sign in, and the events of those who were not.
fn all_at_once(gateway: &Gateway, from: Vec<std::net::IpAddr>) -> (usize, Vec<Value>) {
    let dials = from.iter().map(|from| acme_dial(gateway, *from));
    let mut clients: Vec<RawClient> = dials.map(|dial| dial.connect().unwrap()).collect();
    let startup = portcullis_tests::client::startup(
        portcullis_tests::client::V3_0,
        &[("user", "app"), ("database", "postgres")],
    );
    for client in &mut clients {
        client.send(&startup).unwrap();
    }
    let mut asked = 0;
    let mut refused = Vec::new();
    for client in &mut clients {
        let answer = client.read_message().unwrap();
        if answer.kind == b'R' {
            asked += 1;
        } else {
            assert_eq!(answer.sqlstate(), "53300", "{answer:?}");
            refused.push(scene::event_of(gateway, "limit.shed", &answer));
        }
    }
    (asked, refused)
}

fn gateway(tenant: &portcullis_tests::TenantText, limits: &str) -> Gateway {
    let builder = limited(limits).tenant(tenant);
    started(builder.signs_in_at(tenant.id(), clients()), 1)
}

/// Somebody who knows the password, and for whom there is no place: the event about it.
fn one_too_many(gateway: &Gateway, role: &str, dial: &Dial) -> Value {
    let told = begun_as(role, dial).authenticate(role, "secret", Binding::None);
    let Err(portcullis_tests::Ending::Refused(refusal)) = told else {
        panic!("{told:?}")
    };
    assert_eq!(refusal.sqlstate(), "53300", "{refusal:?}");
    scene::event_of(gateway, "limit.shed", &refusal)
}

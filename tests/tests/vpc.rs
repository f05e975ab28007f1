//! Two tenants, acme and globex, whose networks are both 10.0.0.0/16, with equal addresses for
//! clients, databases and the gateway's legs: everything is equal but the network itself. One
//! gateway without any privilege stands between; its sockets come from the dialer.

mod overlap;

use std::net::SocketAddr;
use std::sync::Barrier;

use overlap::{Boundary, Family, PUBLIC, SOON, Site, World};
use portcullis_tests::client::{Binding, tagged};
use portcullis_tests::{Dial, Ending, EndpointText, Psql, RawClient, requires_root, wait};
use serde_json::Value;

#[test]
fn in_namespaces_clients_with_equal_addresses_and_ports_reach_their_own_databases_at_once() {
    requires_root!();
    for family in [Family::V4, Family::V6] {
        everybody_is_at_home(&World::new(Boundary::Namespaces, family));
    }
}

#[test]
fn on_interfaces_clients_with_equal_addresses_and_ports_reach_their_own_databases_at_once() {
    requires_root!();
    for family in [Family::V4, Family::V6] {
        everybody_is_at_home(&World::new(Boundary::Interfaces, family));
    }
}

fn everybody_is_at_home(world: &World) {
    world.few_upstream_ports();
    let from = SocketAddr::new(world.plan.client, 40_000);
    let own = |site: &Site| world.dial(site, &site.name());
    let together = Barrier::new(world.sites.len());
    let mut sessions: Vec<RawClient> = std::thread::scope(|scope| {
        let calling = world.sites.each_ref().map(|site| {
            scope.spawn(|| {
                together.wait();
                let dial = own(site).from_port(from);
                dial.sign_in("app", site.id, "postgres")
            })
        });
        let sessions = calling.map(|thread| thread.join().unwrap());
        sessions.into()
    });
    for session in &sessions {
        let socket = session.socket();
        assert_eq!(socket.local_addr().unwrap(), from);
        let listener = SocketAddr::new(world.plan.leg, 5433);
        assert_eq!(socket.peer_addr().unwrap(), listener);
    }
    for _ in 0..20 {
        for (site, session) in world.sites.iter().zip(&mut sessions) {
            let row = session.query("select tenant from marker").unwrap();
            assert_eq!(row, [[Some(site.id.to_owned())]]);
        }
    }
    let listed = world.gateway.ask(&["connections"]);
    let listed = listed["connections"].as_array().unwrap();
    for (site, connection) in world.sites.iter().zip(by_tenant(listed)) {
        assert_eq!(connection["tenant"], site.id);
        assert_eq!(connection["origin"], site.origin());
        let address = format!("{}", world.plan.client);
        assert_eq!(
            (&connection["address"], &connection["port"]),
            (&address.into(), &40_000.into())
        );
    }

    // With the gateway's own, four connections to each database from six ports: two serve both.
    for site in world.sites.iter().cycle().take(4) {
        sessions.push(own(site).sign_in("app", site.id, "postgres"));
    }
    let ports = "select client_port from pg_stat_activity where client_port > 0";
    let [acme, globex] = world.sites.each_ref().map(|site| site.server.sql(ports));
    let shared = acme
        .lines()
        .filter(|port| globex.lines().any(|other| other == *port));
    assert!(shared.count() >= 2, "{acme:?} and {globex:?}");

    for (index, site) in world.sites.iter().enumerate() {
        let psql = Psql::new(
            world.listener(site),
            &site.name(),
            &world.gateway.authorities_pem(),
        );
        let psql = psql.user("app", site.id, "postgres").inside(&site.client);
        let told = psql
            .parameter("channel_binding", "require")
            .run("select tenant from marker");
        assert_eq!(told.ok(), site.id);
        // Role, database and cluster are called the same at both, and yet are not the same.
        let mut client = own(site)
            .start(&[("user", "app"), ("database", "postgres")])
            .unwrap();
        let foreign = world.sites[1 - index].id;
        match client.authenticate("app", foreign, Binding::None) {
            Err(Ending::Refused(error)) => assert_eq!(error.sqlstate(), "28P01"),
            other => panic!("the other tenant's password: {other:?}"),
        }
    }
}

fn by_tenant(connections: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = connections.iter().collect();
    sorted.sort_by_key(|connection| connection["tenant"].as_str());
    sorted
}

#[test]
fn nobody_reaches_the_other_tenants_endpoint_by_its_name_or_through_the_public_door() {
    requires_root!();
    for boundary in [Boundary::Namespaces, Boundary::Interfaces] {
        let world = World::new(boundary, Family::V4);
        let [acme, globex] = &world.sites;
        let wanted = [("user", "app"), ("database", "postgres")];
        for (here, there) in [(acme, globex), (globex, acme)] {
            let mut stranger = world.dial(here, &there.name()).start(&wanted).unwrap();
            let why = world.why(&mut stranger);
            for part in [
                "network_mismatch",
                &here.origin(),
                "10.0.1.7",
                &there.name(),
            ] {
                assert!(why.contains(part), "no {part} in {why}");
            }
            let public = world.gateway.listener(PUBLIC);
            let dial = Dial::tls(public, &there.name(), &world.gateway.authorities_pem());
            let why = world.why(&mut dial.start(&wanted).unwrap());
            assert!(why.contains("public_blocked"), "{why}");
        }
        assert_eq!(world.sites.each_ref().map(Site::called), [0, 0]);
    }
}

#[test]
fn an_entry_of_one_network_admits_nobody_from_another_with_the_same_addresses() {
    requires_root!();
    let world = World::new(Boundary::Namespaces, Family::V4);
    let [acme, globex] = &world.sites;
    let endpoint = || EndpointText::new("orders", &globex.name());
    let elsewhere = |prefix: &str| endpoint().allow(prefix, "network:globex-lab");
    for (listing, code) in [
        (endpoint().door(&globex.origin()), "empty_list"),
        (elsewhere("10.0.1.7").door(&globex.origin()), "empty_list"),
        (elsewhere("10.0.1.7"), "network_mismatch"),
        (
            elsewhere("10.0.1.7").allow("10.0.1.8", &globex.origin()),
            "address_not_listed",
        ),
    ] {
        world.gateway.apply(&[globex.tenant(listing)]);
        let mut client = world.dial(globex, &globex.name()).start(&[("user", "app")]);
        let why = world.why(client.as_mut().unwrap());
        assert!(why.contains(code), "no {code} in {why}");
        drop(world.sign_in(acme));
    }
    assert_eq!(globex.called(), 0);

    // Nor can globex write itself an entry for acme's network, or claim that network.
    let entry = globex.tenant(endpoint().allow("10.0.1.7", &acme.origin()));
    for foreign in [entry.clone(), entry.network("acme-vpc")] {
        world.gateway.write_policy(&foreign);
        let directory = world.gateway.policy_directory().display().to_string();
        let refused = world.gateway.command(&["apply", &directory]);
        assert!(refused.refused().contains("acme-vpc"), "{refused}");
    }
    drop(world.sign_in(acme));
}

#[test]
fn a_withdrawal_closes_the_one_of_two_equal_connections_that_it_means() {
    requires_root!();
    let world = World::new(Boundary::Interfaces, Family::V4);
    let from = SocketAddr::new(world.plan.client, 40_000);
    let [mut acme, mut globex] = world.sites.each_ref().map(|site| {
        let dial = world.dial(site, &site.name()).from_port(from);
        dial.sign_in("app", site.id, "postgres")
    });
    let withdrawn = world.sites[1].listing("10.0.1.8");
    let receipt = world.gateway.apply(&[withdrawn]);
    let closed = receipt["enforcement"]["closed"].as_array().unwrap();
    assert_eq!(closed.len(), 1, "{receipt}");
    assert_eq!(closed[0]["connection"]["tenant"], "globex", "{receipt}");
    assert_eq!(closed[0]["backend"], "gone", "{receipt}");
    let (messages, _) = globex.read_to_end();
    assert_eq!(messages.last().unwrap().sqlstate(), "57P01");
    let row = acme.query("select tenant from marker").unwrap();
    assert_eq!(row, [[Some("acme".to_owned())]]);
}

#[test]
fn a_cancel_request_from_the_other_network_is_denied_though_key_and_address_are_right() {
    requires_root!();
    let world = World::new(Boundary::Interfaces, Family::V4);
    let [acme, globex] = &world.sites;
    let mut client = world
        .dial(acme, &acme.name())
        .start(&[("user", "app"), ("database", "postgres")])
        .unwrap();
    let welcome = client.authenticate("app", acme.id, Binding::None).unwrap();
    let key = welcome.iter().find(|message| message.kind == b'K').unwrap();
    // A CancelRequest is the length, the number 80877102 and the key: no type byte.
    let request = tagged(
        b' ',
        &[&80_877_102_u32.to_be_bytes()[..], &key.body].concat(),
    );
    let cancel = |site: &Site| {
        let dial = Dial::plain(world.listener(site)).inside(&site.client);
        let mut canceller = dial.first(&request[1..]).connect().unwrap();
        let (told, _) = canceller.read_to_end();
        assert_eq!(told, []);
    };
    client.send_query("select pg_sleep(60)").unwrap();
    let sleeping = "select count(*) from pg_stat_activity where query ~ '^select pg_sleep' and state = 'active'";
    wait::wait_for("the query", SOON, || acme.server.sql(sleeping) == "1");
    cancel(globex);
    let denied = world.gateway.event("the denied cancel", |event| {
        event["kind"] == "cancel.denied"
    });
    assert_eq!(denied["code"], "network_mismatch", "{denied}");
    assert_eq!(acme.server.sql(sleeping), "1");
    cancel(acme);
    let told = client.read_until(b'E').unwrap();
    assert_eq!(told.last().unwrap().sqlstate(), "57014");
    assert_eq!(globex.called(), 0);
}

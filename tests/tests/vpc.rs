//! Two tenants, acme and globex, whose networks are both 10.0.0.0/16, with equal addresses for
//! clients, databases and the gateway's legs: everything is equal but the network itself. One
//! gateway without any privilege stands between; its sockets come from the dialer.

mod overlap;

use std::net::SocketAddr;
use std::sync::Barrier;

use overlap::{Boundary, Family, PUBLIC, SOON, Site, World};
use portcullis_tests::client::{Binding, tagged};
use portcullis_tests::{Dial, EndpointText, Psql, RawClient, requires_root, wait};

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
    let together = Barrier::new(world.sites.len());
    let mut sessions: Vec<RawClient> = std::thread::scope(|scope| {
        let calling = world.sites.iter().map(|site| {
            scope.spawn(|| {
                together.wait();
                let mut session = world
                    .dial(site, &site.name())
                    .from_port(from)
                    .sign_in("app", site.id, "postgres");
                together.wait();
                for _ in 0..50 {
                    assert_eq!(
                        session.query("select tenant from marker").unwrap(),
                        [[Some(site.id.to_owned())]]
                    );
                }
                session
            })
        });
        let calling: Vec<_> = calling.collect();
        let sessions = calling.into_iter().map(|thread| thread.join().unwrap());
        sessions.collect()
    });
    let tuple = |session: &RawClient| {
        let socket = session.socket();
        (socket.local_addr().unwrap(), socket.peer_addr().unwrap())
    };
    let equal = (from, SocketAddr::new(world.plan.leg, 5433));
    assert_eq!(
        sessions.iter().map(tuple).collect::<Vec<_>>(),
        [equal, equal]
    );

    // Three connections to each database out of five ports: some port serves both at once.
    for site in &world.sites {
        for _ in 0..2 {
            let dial = world.dial(site, &site.name());
            sessions.push(dial.sign_in("app", site.id, "postgres"));
        }
    }
    let ports = "select client_port from pg_stat_activity where client_port > 0 order by 1";
    let [acme, globex] = [0, 1].map(|index| world.sites[index].server.sql(ports));
    let shared = acme
        .lines()
        .find(|port| globex.lines().any(|other| other == *port));
    assert!(
        shared.is_some(),
        "no port in common: {acme:?} and {globex:?}"
    );

    let listed = world.gateway.ask(&["connections"]).to_string();
    for site in &world.sites {
        assert!(listed.contains(&site.origin()), "{listed}");
        let psql = Psql::new(
            world.listener(site),
            &site.name(),
            &world.gateway.authorities_pem(),
        );
        let psql = psql
            .user("app", site.id, "postgres")
            .inside(&site.client)
            .parameter("channel_binding", "require");
        drop(sessions.pop());
        assert_eq!(psql.run("select tenant from marker").ok(), site.id);
    }
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
    for boundary in [Boundary::Namespaces, Boundary::Interfaces] {
        let world = World::new(boundary, Family::V4);
        let from = SocketAddr::new(world.plan.client, 40_000);
        let [mut acme, mut globex] = world.sites.each_ref().map(|site| {
            let dial = world.dial(site, &site.name()).from_port(from);
            dial.sign_in("app", site.id, "postgres")
        });
        let receipt = world
            .gateway
            .apply(&[world.sites[1].listing("10.0.1.8/32")]);
        let closed = receipt["enforcement"]["closed"].as_array().unwrap();
        assert_eq!(closed.len(), 1, "{receipt}");
        assert_eq!(
            closed[0]["connection"]["tenant"].as_str(),
            Some("globex"),
            "{receipt}"
        );
        let (messages, _) = globex.read_to_end();
        assert_eq!(messages.last().unwrap().sqlstate(), "57P01");
        assert_eq!(
            acme.query("select tenant from marker").unwrap(),
            [[Some("acme".to_owned())]]
        );
    }
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

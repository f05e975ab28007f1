//! The shortest way through everything: a gateway, a server behind it, a client let in and one not.

use std::net::{IpAddr, SocketAddr};

use portcullis_tests::balancer::{aws_link, proxy_v2};
use portcullis_tests::namespace::Network;
use portcullis_tests::{
    Dial, EndpointText, Gateway, Listener, LoadBalancer, Postgres, Psql, TenantText, TestAuthority,
    Version, requires_root,
};

const NAME: &str = "acme-orders.db.test";

fn server(version: Version, clients: &TestAuthority) -> Postgres {
    Postgres::builder(version)
        .client_authority(clients)
        .role("app", "secret")
        .served()
        .start()
}

#[test]
fn a_listed_client_is_let_in_and_an_unlisted_one_gets_a_reference_that_why_explains() {
    let clients = TestAuthority::new("Database clients");
    for version in [Version::V15, Version::V18] {
        let server = server(version, &clients);
        let orders = EndpointText::new("orders", NAME)
            .allow("127.0.1.0/24", "public")
            .allow("127.0.0.1", "public");
        let acme = TenantText::new("acme")
            .cluster("orders", &server)
            .endpoint(orders);
        let gateway = Gateway::builder()
            .listener(Listener::public())
            .tenant(&acme)
            .signs_in_at("acme", &clients)
            .start();

        let psql = gateway
            .psql(NAME)
            .user("app", "secret", "postgres")
            .parameter("channel_binding", "require");
        assert_eq!(psql.run("select current_user").ok(), "app", "{version:?}");

        let mut stranger = gateway
            .dial(NAME)
            .from("127.0.2.1".parse().unwrap())
            .start(&[("user", "app")])
            .unwrap();
        let refusal = stranger.refusal();
        assert_eq!(refusal.sqlstate(), "28000");
        let why = gateway.command(&["why", &refusal.reference()]);
        assert!(why.ok().contains("address_not_listed"), "{why}");
    }
}

#[test]
fn a_withdrawal_closes_the_connection_that_it_withdraws() {
    let clients = TestAuthority::new("Database clients");
    let server = server(Version::V15, &clients);
    let tenant = |prefix: &str| {
        let orders = EndpointText::new("orders", NAME).allow(prefix, "public");
        TenantText::new("acme")
            .cluster("orders", &server)
            .endpoint(orders)
    };
    let listener = Listener::public();
    let gateway = Gateway::builder()
        .listener(listener)
        .tenant(&tenant("127.0.0.1"))
        .signs_in_at("acme", &clients)
        .start();
    let mut live = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let receipt = gateway.apply(&[tenant("127.0.9.9")]);
    assert_eq!(
        receipt["enforcement"]["closed"].as_array().map(Vec::len),
        Some(1),
        "{receipt}"
    );
    let (messages, _) = live.read_to_end();
    assert_eq!(messages.last().unwrap().sqlstate(), "57P01");
}

#[test]
fn a_private_link_is_let_in_by_its_typed_id() {
    let clients = TestAuthority::new("Database clients");
    let server = server(Version::V15, &clients);
    let orders = EndpointText::new("orders", NAME).allow("10.0.0.0/16", "private-link:aws:vpce-1");
    let acme = TenantText::new("acme")
        .private_link("aws:vpce-1")
        .cluster("orders", &server)
        .endpoint(orders);
    let listener = Listener::private_links("aws", "127.0.9.0/24");
    let gateway = Gateway::builder()
        .listener(listener)
        .tenant(&acme)
        .signs_in_at("acme", &clients)
        .start();
    let via = |id: &str| {
        let (kind, value) = aws_link(id);
        let header = proxy_v2(
            "10.0.0.7:1111".parse().unwrap(),
            "10.9.0.1:5433".parse().unwrap(),
            &[(kind, &value)],
        );
        LoadBalancer::start(gateway.address(), "127.0.9.1".parse().unwrap(), header)
    };
    let psql = |balancer: &LoadBalancer| {
        let psql = Psql::new(balancer.address(), NAME, &gateway.authorities_pem());
        psql.user("app", "secret", "postgres").run("select 1")
    };
    assert_eq!(psql(&via("vpce-1")).ok(), "1");
    assert!(psql(&via("vpce-2")).refused().contains("not permitted"));
}

#[test]
fn two_tenants_with_the_same_addresses_and_ports_reach_their_own_databases_by_an_unprivileged_gateway()
 {
    requires_root!();
    let (client, leg, database): (IpAddr, IpAddr, IpAddr) = (
        "10.0.0.7".parse().unwrap(),
        "10.0.0.5".parse().unwrap(),
        "10.0.0.10".parse().unwrap(),
    );
    let clients = TestAuthority::new("Database clients");
    let mut builder = Gateway::builder().unprivileged();
    let mut sites = Vec::new();
    for id in ["acme", "globex"] {
        let network = Network::new(id, 16);
        let (host, caller, leg_host) = (
            network.host("db", &[database]),
            network.host("client", &[client]),
            network.host("gw", &[leg]),
        );
        let server = Postgres::builder(Version::V15)
            .listen(database)
            .port(5432)
            .namespace(&host)
            .client_authority(&clients)
            .role("app", "secret")
            .served()
            .start();
        server.sql(&format!("create database \"{id}\""));
        let origin = format!("network:{id}-vpc");
        let name = format!("{id}.db.test");
        let tenant = TenantText::new(id)
            .network(&format!("{id}-vpc"))
            .cluster_inside("orders", &server, &leg_host)
            .endpoint(EndpointText::new("orders", &name).allow("10.0.0.0/16", &origin));
        builder = builder
            .listener(
                Listener::network(&format!("{id}-vpc"))
                    .on(leg)
                    .port(5433)
                    .inside(&leg_host),
            )
            .tenant(&tenant)
            .signs_in_at(id, &clients);
        sites.push((id, name, network, server, caller, host, leg_host));
    }
    let gateway = builder.start();
    let from = SocketAddr::new(client, 40_000);
    let mut open = Vec::new();
    for (index, (id, name, .., caller, _, _)) in sites.iter().enumerate() {
        let dial = Dial::tls(gateway.listener(index), name, &gateway.authorities_pem())
            .inside(caller)
            .from_port(from);
        let mut session = dial.sign_in("app", "secret", id);
        assert_eq!(
            session.query("select current_database()").unwrap(),
            [[Some((*id).to_owned())]]
        );
        open.push(session);
    }
    let (_, _, _, _, acme_client, _, _) = &sites[0];
    let foreign =
        Dial::tls(gateway.listener(0), &sites[1].1, &gateway.authorities_pem()).inside(acme_client);
    let refusal = foreign
        .start(&[("user", "app"), ("database", "globex")])
        .unwrap()
        .refusal();
    let why = gateway.command(&["why", &refusal.reference()]);
    assert!(why.ok().contains("network_mismatch"), "{why}");
}

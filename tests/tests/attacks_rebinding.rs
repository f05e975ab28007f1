//! A database's name that comes to lead elsewhere (DNS rebinding): where it may lead is decided for
//! every connection anew, and inside the tenant's own network.

mod scene;

use std::net::{IpAddr, SocketAddr, TcpListener};

use portcullis_tests::policy::{cluster_lines, service_line};
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{
    Gateway, Listener, Message, Namespace, Postgres, TenantText, Version, requires_root,
};
use scene::{NAME, Trap, clients, event_of, orders};

#[test]
fn a_name_for_the_gateways_own_machine_or_for_a_metadata_service_leads_nowhere() {
    let trap = Trap::new();
    for (host, told) in [
        ("localhost", "loopback"),
        // What an old resolver takes for 127.0.0.1 and 169.254.169.254.
        ("0x7f000001", "loopback"),
        ("0xa9fea9fe", "link-local"),
    ] {
        let yaml = trap.acme(orders().authentication("relay")).yaml();
        let gateway = gateway_of(&yaml.replace("127.0.0.1:", &format!("{host}:")));
        let refusal = refused(&gateway);
        let event = event_of(&gateway, "upstream.failed", &refusal);
        assert_eq!(event["code"], "rebind", "{host}: {event}");
        assert!(event["story"].as_str().unwrap().contains(told), "{event}");
    }
    // Written out as what it is, a metadata service is refused as well.
    for address in [
        "169.254.169.254",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "0.0.0.0",
    ] {
        let yaml = trap.acme(orders().authentication("relay")).yaml();
        let gateway = gateway_of(&yaml.replace("127.0.0.1:", &format!("{address}:")));
        let event = event_of(&gateway, "upstream.failed", &refused(&gateway));
        assert_eq!(event["code"], "forbidden_address", "{address}: {event}");
    }
    trap.assert_untouched();
}

#[test]
fn a_name_that_leads_elsewhere_from_now_on_leads_no_connection_there() {
    requires_root!();
    let (acme, globex) = (Namespace::new("acme"), Namespace::new("globex"));
    let (good, others): (IpAddr, IpAddr) =
        ("10.0.0.10".parse().unwrap(), "10.0.0.20".parse().unwrap());
    acme.add_address("lo", "10.0.0.10/32");
    globex.add_address("lo", "10.0.0.20/32");
    let server = Postgres::builder(Version::V15)
        .listen(good)
        .port(5432)
        .namespace(&acme)
        .client_authority(clients())
        .role("app", "secret")
        .served()
        .start();
    // Whoever is reached instead: on acme's own loopback, and at the other tenant's.
    let traps = [(&acme, "127.0.0.1".parse().unwrap()), (&globex, others)].map(|(host, ip)| {
        let at = SocketAddr::new(ip, 5432);
        let trap = host.within(move || TcpListener::bind(at).expect("a free address"));
        trap.set_nonblocking(true).unwrap();
        trap
    });
    let gateway = Gateway::builder()
        .hosts(&hosts("10.0.0.10"))
        .dialer()
        .listener(Listener::public())
        .tenant(&tenant(&server, &acme))
        .signs_in_at("acme", clients())
        .start();
    scene::assert_in_force(&gateway, 1);
    let enter = || gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let mut live = enter();
    for (address, code) in [
        ("127.0.0.1", "rebind"),
        ("127.9.9.9", "rebind"),
        ("::1", "rebind"),
        ("::ffff:127.0.0.1", "rebind"),
        ("169.254.169.254", "rebind"),
        ("fd00:ec2::254", "rebind"),
        ("0.0.0.0", "rebind"),
        ("10.0.0.20", "connect"),
    ] {
        gateway.write_hosts(&hosts(address));
        let event = event_of(&gateway, "upstream.failed", &refused(&gateway));
        assert_eq!(event["code"], code, "{address}: {event}");
    }
    for trap in &traps {
        assert!(trap.accept().is_err(), "{trap:?} was reached");
    }
    // Whoever was connected is not asked again, and the name is good again when it is.
    assert_eq!(live.query("select 1").unwrap().len(), 1);
    gateway.write_hosts(&hosts("10.0.0.10"));
    drop(enter());
}

/// The database by its name, in acme's network.
fn tenant(server: &Postgres, network: &Namespace) -> TenantText {
    let via = format!("    via: {{network-namespace: {}}}\n", network.name());
    let lines = cluster_lines(
        &format!("{SERVER_NAME}:5432"),
        SERVER_NAME,
        &server.authorities_pem(),
        &(via + &service_line()),
    );
    TenantText::new("acme")
        .cluster_text("orders", &lines)
        .endpoint(orders().authentication("relay"))
}

fn hosts(address: &str) -> String {
    format!("127.0.0.1 localhost\n{address} {SERVER_NAME}\n")
}

fn gateway_of(yaml: &str) -> Gateway {
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .policy_text("acme.yaml", yaml)
        .start();
    scene::assert_in_force(&gateway, 1);
    gateway
}

fn refused(gateway: &Gateway) -> Message {
    let parameters = [("user", "app"), ("database", "postgres")];
    let told = gateway.dial(NAME).start(&parameters).unwrap().refusal();
    assert_eq!(told.sqlstate(), "57P03");
    told
}

//! Two tenants, acme and globex, whose networks are both 10.0.0.0/16, with equal addresses for
//! clients, databases and the gateway's legs: everything is equal but the network itself. One
//! gateway without any privilege stands between; its sockets come from the dialer.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

use portcullis_tests::client::{Binding, tagged};
use portcullis_tests::gateway::binary;
use portcullis_tests::namespace::Network;
use portcullis_tests::process::Service;
use portcullis_tests::{
    Dial, EndpointText, Gateway, Listener, Namespace, Postgres, Psql, RawClient, Scratch,
    TenantText, TestAuthority, Version, requires_root, wait,
};
use rustix::process::Signal;

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
fn a_password_of_one_tenant_is_none_at_the_other_though_role_and_cluster_are_called_the_same() {
    requires_root!();
    let world = World::new(Boundary::Namespaces, Family::V4);
    let [acme, globex] = &world.sites;
    for (here, there) in [(acme, globex), (globex, acme)] {
        let mut client = world
            .dial(here, &here.name())
            .start(&[("user", "app"), ("database", "postgres")])
            .unwrap();
        let told = client.authenticate("app", there.id, Binding::None);
        assert!(format!("{told:?}").contains("Refused"), "{told:?}");
        drop(world.sign_in(here));
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
    wait::wait_for("the query", LIMIT, || acme.server.sql(sleeping) == "1");
    cancel(globex);
    let denied = world.gateway.event("the denied cancel", |event| {
        event["kind"] == "cancel.denied"
    });
    assert_eq!(denied["fields"]["code"], "network_mismatch", "{denied}");
    assert_eq!(acme.server.sql(sleeping), "1");
    cancel(acme);
    let told = client.read_until(b'E').unwrap();
    assert_eq!(told.last().unwrap().sqlstate(), "57014");
    assert_eq!(globex.called(), 0);
}

/// How the two networks are told apart.
#[derive(Debug, Clone, Copy)]
enum Boundary {
    /// The gateway has a leg in a network namespace of each tenant.
    Namespaces,
    /// The gateway has both legs in one namespace, as two interfaces with the same address.
    Interfaces,
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Where everybody is, in either network.
struct Plan {
    client: IpAddr,
    leg: IpAddr,
    database: IpAddr,
    whole: &'static str,
    clients: &'static str,
}

impl Plan {
    fn of(family: Family) -> Self {
        let (network, hosts, whole, clients) = match family {
            Family::V4 => (
                "10.0.",
                ["1.7", "0.5", "0.10"],
                "10.0.0.0/16",
                "10.0.1.0/24",
            ),
            Family::V6 => ("fd00:", [":1:7", ":5", ":10"], "fd00::/16", "fd00::1:0/112"),
        };
        let [client, leg, database] = hosts.map(|host| format!("{network}{host}").parse().unwrap());
        Self {
            client,
            leg,
            database,
            whole,
            clients,
        }
    }
}

/// A tenant, its network and what is in it. Its id is also the password of `app`.
struct Site {
    id: &'static str,
    via: String,
    server: Postgres,
    client: Namespace,
    _network: (Network, Namespace),
}

impl Site {
    fn name(&self) -> String {
        format!("{}.db.test", self.id)
    }

    fn origin(&self) -> String {
        format!("network:{}-vpc", self.id)
    }

    fn tenant(&self, endpoint: EndpointText) -> TenantText {
        let via = format!("    via: {{{}}}\n", self.via);
        TenantText::new(self.id)
            .network(&format!("{}-vpc", self.id))
            .network(&format!("{}-lab", self.id))
            .cluster_at("orders", self.server.address(), &self.server, &via)
            .endpoint(endpoint)
    }

    fn listing(&self, prefix: &str) -> TenantText {
        self.tenant(EndpointText::new("orders", &self.name()).allow(prefix, &self.origin()))
    }

    /// How many connections from anywhere but the test itself its database has seen.
    fn called(&self) -> usize {
        let log = self.server.log();
        let received = log.matches("connection received: host=").count();
        received - log.matches("connection received: host=[local]").count()
    }
}

/// What is dropped first stands first.
struct World {
    gateway: Gateway,
    _dialer: Option<Service>,
    sites: [Site; 2],
    legs: Vec<Namespace>,
    plan: Plan,
    _scratch: Scratch,
}

const LIMIT: Duration = Duration::from_secs(10);
const NOBODY: u32 = 65_534;
/// The public listener's index; the tenants' are before it.
const PUBLIC: usize = 2;

impl World {
    fn new(boundary: Boundary, family: Family) -> Self {
        let plan = Plan::of(family);
        let clients = TestAuthority::new("Database clients");
        let scratch = Scratch::new("dialer");
        let mut builder = Gateway::builder().unprivileged();
        let mut legs = Vec::new();
        if let Boundary::Interfaces = boundary {
            legs.push(Namespace::new("gw"));
        }
        let sites = ["acme", "globex"].map(|id| {
            let network = Network::new(id, 16);
            let via = match boundary {
                Boundary::Namespaces => {
                    legs.push(network.host("gw", &[plan.leg]));
                    format!("network-namespace: {}", legs.last().unwrap().name())
                }
                Boundary::Interfaces => leg_on_an_interface(&legs[0], &network, id, &plan),
            };
            let host = network.host("db", &[plan.database]);
            let server = Postgres::builder(Version::V15)
                .listen(plan.database)
                .port(5432)
                .namespace(&host)
                .client_authority(&clients)
                .role("app", id)
                .served()
                .start();
            server.sql(&format!(
                "create table marker as select '{id}' as tenant; grant select on marker to app"
            ));
            let client = network.host("client", &[plan.client]);
            Site {
                id,
                via,
                server,
                client,
                _network: (network, host),
            }
        });
        for site in &sites {
            let place = site.via.replacen(": ", " = \"", 1) + "\"\n";
            let listener = Listener::network(&format!("{}-vpc", site.id))
                .on(plan.leg)
                .port(5433);
            builder = builder
                .listener(listener.more(&place))
                .tenant(&site.listing(plan.clients))
                .signs_in_at(site.id, &clients);
        }
        let places = sites.each_ref().map(|site| site.via.replacen(": ", ":", 1));
        let places = places.each_ref().map(String::as_str);
        let (dialer, builder) = match boundary {
            Boundary::Namespaces => (None, builder.dialer_only(&places)),
            Boundary::Interfaces => {
                let (dialer, socket) = dialer_inside(&legs[0], &scratch, &places);
                (
                    Some(dialer),
                    builder.more(&format!("[dialer]\nsocket = \"{socket}\"\n")),
                )
            }
        };
        let gateway = builder.listener(Listener::public()).start();
        assert_without_privilege(gateway.pid());
        Self {
            gateway,
            _dialer: dialer,
            sites,
            legs,
            plan,
            _scratch: scratch,
        }
    }

    fn listener(&self, site: &Site) -> SocketAddr {
        let index = self.sites.iter().position(|other| other.id == site.id);
        self.gateway.listener(index.unwrap())
    }

    /// From a site's client to its own network's listener, asking for any endpoint.
    fn dial(&self, site: &Site, name: &str) -> Dial {
        Dial::tls(self.listener(site), name, &self.gateway.authorities_pem()).inside(&site.client)
    }

    fn sign_in(&self, site: &Site) -> RawClient {
        self.dial(site, &site.name())
            .sign_in("app", site.id, "postgres")
    }

    /// What the operator is told of a denied attempt.
    fn why(&self, client: &mut RawClient) -> String {
        let refusal = client.refusal();
        assert_eq!(refusal.sqlstate(), "28000");
        self.gateway
            .command(&["why", &refusal.reference()])
            .ok()
            .to_owned()
    }

    /// Leaves the legs five ports to call databases from.
    fn few_upstream_ports(&self) {
        for leg in &self.legs {
            let file = "/proc/sys/net/ipv4/ip_local_port_range";
            leg.within(move || std::fs::write(file, "50000 50004").unwrap());
        }
    }
}

/// The second of two equal legs takes a table of its own: without, the kernel could not tell by
/// which interface 10.0.0.0/16 is reached.
fn leg_on_an_interface(gateway: &Namespace, network: &Network, id: &str, plan: &Plan) -> String {
    let (link, table) = (format!("{id}0"), 100 + id.len());
    network.attach(gateway, &link, &[]);
    let (family, nodad) = if plan.leg.is_ipv6() {
        ("-6", " nodad")
    } else {
        ("-4", "")
    };
    gateway.ip(&format!(
        "addr add {}/16 dev {link} noprefixroute{nodad}",
        plan.leg
    ));
    gateway.ip(&format!(
        "{family} route add {} dev {link} src {} table {table}",
        plan.whole, plan.leg
    ));
    gateway.ip(&format!("{family} rule add oif {link} lookup {table}"));
    format!("interface: {link}")
}

/// A dialer where the interfaces are; the gateway itself stays elsewhere.
fn dialer_inside(namespace: &Namespace, scratch: &Scratch, places: &[&str]) -> (Service, String) {
    let socket = scratch.path().join("dialer.sock");
    let mut command = Command::new(binary());
    command.arg("dialer").arg("--socket").arg(&socket);
    command.args(["--allow-uid", &NOBODY.to_string()]);
    command.args(places.iter().flat_map(|place| ["--allow", place]));
    let log = scratch.path().join("log");
    let dialer = Service::start(
        "the dialer",
        &namespace.command(&command),
        &log,
        Signal::TERM,
    );
    wait::wait_for("the dialer", LIMIT, || UnixStream::connect(&socket).is_ok());
    (dialer, socket.display().to_string())
}

fn assert_without_privilege(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .trim()
            .to_owned()
    };
    assert!(
        field("Uid:")
            .split_whitespace()
            .all(|uid| uid == NOBODY.to_string()),
        "{status}"
    );
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (field("NoNewPrivs:").as_str(), field("Groups:").as_str()),
        ("1", "")
    );
}

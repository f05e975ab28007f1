//! Two tenants, acme and globex, in networks that are equal in every address, a gateway without
//! any privilege between them and their databases, and the dialer that makes its sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::gateway::binary;
use portcullis_tests::namespace::Network;
use portcullis_tests::process::Service;
use portcullis_tests::{
    Dial, EndpointText, Gateway, Listener, Namespace, Postgres, RawClient, Scratch, TenantText,
    TestAuthority, Version, wait,
};
use rustix::process::Signal;

/// How the two networks are told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Boundary {
    /// The gateway has a leg in a network namespace of each tenant.
    Namespaces,
    /// The gateway has both legs in one namespace, as two interfaces with the same address.
    Interfaces,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What is dropped first stands first.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    _dialer: Option<Service>,
    pub(crate) sites: [Site; 2],
    legs: Vec<Namespace>,
    pub(crate) plan: Plan,
    _scratch: Scratch,
}

/// The public listener's index; the tenants' are before it.
pub(crate) const PUBLIC: usize = 2;
pub(crate) const SOON: Duration = Duration::from_secs(10);
const NOBODY: u32 = 65_534;

impl World {
    pub(crate) fn new(boundary: Boundary, family: Family) -> Self {
        let plan = Plan::of(family);
        let scratch = Scratch::new("dialer");
        let mut legs = Vec::new();
        if let Boundary::Interfaces = boundary {
            legs.push(Namespace::new("gw"));
        }
        let networks = ["acme", "globex"].map(|id| {
            let network = Network::new(id, 16);
            let via = match boundary {
                Boundary::Namespaces => {
                    legs.push(network.host("gw", &[plan.leg]));
                    format!("network-namespace: {}", legs.last().unwrap().name())
                }
                Boundary::Interfaces => leg_on_an_interface(&legs[0], &network, id, &plan),
            };
            (id, network, via)
        });
        let clients = TestAuthority::new("Database clients");
        let sites = std::thread::scope(|scope| {
            let starting = networks.map(|(id, network, via)| {
                scope.spawn(|| Site::new(id, network, via, &plan, &clients))
            });
            starting.map(|thread| thread.join().unwrap())
        });
        let mut builder = Gateway::builder().unprivileged();
        for site in &sites {
            let place = site.via.replacen(": ", " = \"", 1) + "\"\n";
            let listener = Listener::network(&format!("{}-vpc", site.id));
            builder = builder
                .listener(listener.on(plan.leg).port(5433).more(&place))
                .tenant(&site.listing(plan.clients))
                .signs_in_at(site.id, &clients);
        }
        let places = sites.each_ref().map(|site| site.via.replacen(": ", ":", 1));
        let places = places.each_ref().map(String::as_str);
        let (dialer, builder) = match boundary {
            Boundary::Namespaces => (None, builder.dialer_only(&places)),
            Boundary::Interfaces => {
                let (dialer, socket) = dialer_inside(&legs[0], &scratch, &places);
                let table = format!("[dialer]\nsocket = \"{socket}\"\n");
                (Some(dialer), builder.more(&table))
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

    pub(crate) fn listener(&self, site: &Site) -> SocketAddr {
        let index = self.sites.iter().position(|other| other.id == site.id);
        self.gateway.listener(index.unwrap())
    }

    /// From a site's client to its own network's listener, asking for any endpoint.
    pub(crate) fn dial(&self, site: &Site, name: &str) -> Dial {
        Dial::tls(self.listener(site), name, &self.gateway.authorities_pem()).inside(&site.client)
    }

    /// A site's client at its own endpoint.
    pub(crate) fn sign_in(&self, site: &Site) -> RawClient {
        let dial = self.dial(site, &site.name());
        dial.sign_in("app", site.id, "postgres")
    }

    /// What the operator is told of a denied attempt.
    pub(crate) fn why(&self, client: &mut RawClient) -> String {
        let refusal = client.refusal();
        assert_eq!(refusal.sqlstate(), "28000");
        let why = self.gateway.command(&["why", &refusal.reference()]);
        why.ok().to_owned()
    }

    /// Leaves the legs six ports to call databases from.
    pub(crate) fn few_upstream_ports(&self) {
        for leg in &self.legs {
            let file = "/proc/sys/net/ipv4/ip_local_port_range";
            leg.within(move || std::fs::write(file, "50000 50005").unwrap());
        }
    }
}

/// A tenant, its network and what is in it. Its id is also the password of `app`.
pub(crate) struct Site {
    pub(crate) id: &'static str,
    via: String,
    pub(crate) server: Postgres,
    pub(crate) client: Namespace,
    _network: (Network, Namespace),
}

impl Site {
    fn new(
        id: &'static str,
        network: Network,
        via: String,
        plan: &Plan,
        clients: &TestAuthority,
    ) -> Self {
        let host = network.host("db", &[plan.database]);
        let server = Postgres::builder(Version::V15)
            .listen(plan.database)
            .port(5432)
            .namespace(&host)
            .client_authority(clients)
            .role("app", id)
            .served()
            .start();
        server.sql(&format!(
            "create table marker as select '{id}' as tenant; grant select on marker to app"
        ));
        let client = network.host("client", &[plan.client]);
        Self {
            id,
            via,
            server,
            client,
            _network: (network, host),
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.db.test", self.id)
    }

    pub(crate) fn origin(&self) -> String {
        format!("network:{}-vpc", self.id)
    }

    /// It claims two networks; a listener is in the first alone.
    pub(crate) fn tenant(&self, endpoint: EndpointText) -> TenantText {
        let via = format!("    via: {{{}}}\n", self.via);
        TenantText::new(self.id)
            .network(&format!("{}-vpc", self.id))
            .network(&format!("{}-lab", self.id))
            .cluster_at("orders", self.server.address(), &self.server, &via)
            .endpoint(endpoint)
    }

    pub(crate) fn listing(&self, prefix: &str) -> TenantText {
        let endpoint = EndpointText::new("orders", &self.name());
        self.tenant(endpoint.allow(prefix, &self.origin()))
    }

    /// How many connections from anywhere but the test itself its database has seen.
    pub(crate) fn called(&self) -> usize {
        let log = self.server.log();
        let count = |text: &str| log.matches(text).count();
        count("connection received: host=") - count("connection received: host=[local]")
    }
}

/// Where everybody is, in either network.
pub(crate) struct Plan {
    pub(crate) client: IpAddr,
    pub(crate) leg: IpAddr,
    database: IpAddr,
    whole: &'static str,
    clients: &'static str,
}

impl Plan {
    fn of(family: Family) -> Self {
        let (hosts, whole, clients) = match family {
            Family::V4 => (
                ["10.0.1.7", "10.0.0.5", "10.0.0.10"],
                "10.0.0.0/16",
                "10.0.1.0/24",
            ),
            Family::V6 => (
                ["fd00::1:7", "fd00::5", "fd00::10"],
                "fd00::/16",
                "fd00::1:0/112",
            ),
        };
        let [client, leg, database] = hosts.map(|host| host.parse().unwrap());
        Self {
            client,
            leg,
            database,
            whole,
            clients,
        }
    }
}

/// A leg whose address another leg has too. Its routes stand in a table of its own: in one table
/// the kernel could not tell by which of them 10.0.0.0/16 is reached.
fn leg_on_an_interface(gateway: &Namespace, network: &Network, id: &str, plan: &Plan) -> String {
    let (link, table) = (format!("{id}0"), 100 + id.len());
    let Plan { leg, whole, .. } = plan;
    let (family, nodad) = match leg {
        IpAddr::V4(_) => ("-4", ""),
        IpAddr::V6(_) => ("-6", "nodad"),
    };
    network.attach(gateway, &link, &[]);
    for step in [
        format!("addr add {leg}/16 dev {link} noprefixroute {nodad}"),
        format!("{family} route add {whole} dev {link} src {leg} table {table}"),
        format!("{family} rule add oif {link} lookup {table}"),
    ] {
        gateway.ip(&step);
    }
    format!("interface: {link}")
}

/// A dialer where the interfaces are; the gateway itself stays elsewhere.
fn dialer_inside(namespace: &Namespace, scratch: &Scratch, places: &[&str]) -> (Service, String) {
    let socket = scratch.path().join("dialer.sock");
    let mut command = Command::new(binary());
    command.arg("dialer").arg("--socket").arg(&socket);
    command.args(["--allow-uid", &NOBODY.to_string()]);
    command.args(places.iter().flat_map(|place| ["--allow", place]));
    let command = namespace.command(&command);
    let log = scratch.path().join("log");
    let dialer = Service::start("the dialer", &command, &log, Signal::TERM);
    wait::wait_for("the dialer", SOON, || UnixStream::connect(&socket).is_ok());
    (dialer, socket.display().to_string())
}

fn assert_without_privilege(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {status}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), [NOBODY.to_string().as_str(); 4].join(" "));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        [field("NoNewPrivs:"), field("Groups:")],
        ["1".to_owned(), String::new()]
    );
}

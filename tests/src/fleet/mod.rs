//! A fleet of real nodes before a real PostgreSQL, and what can befall it.
//!
//! Every node is a `portcullis` process with a directory of its own, made by `init`, `fleet
//! invite` and `join` like anybody's. On wires, each is a host of its own whose links can be cut.

pub mod admin;
mod disk;
mod image;
mod load;
mod node;
mod weather;
pub mod wires;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_policy::FEATURE_LEVEL;
use serde_json::Value;

pub use admin::Answer;
pub use disk::Disk;
pub use image::{alter, alter_log};
pub use load::{Failure, Load};
pub use node::Node;
pub use weather::Weather;
pub use wires::{Host, Wires};

use self::node::NodeParts;
use self::weather::Relay;
use crate::client::RawClient;
use crate::identities::{Credential, TestAuthority};
use crate::postgres::GATEWAY_COMMON_NAME;
use crate::{EndpointText, Postgres, Scratch, TenantText, Version, ports, wait};

/// The one endpoint, as clients call it.
pub const NAME: &str = "acme-orders.db.test";
/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);

/// Nodes, and the database behind them. Dropping it stops all.
#[derive(Debug)]
pub struct Fleet {
    /// The nodes, in the order in which they were made.
    pub nodes: Vec<Node>,
    /// The database.
    pub postgres: Postgres,
    /// What they are attached to, if each is a host of its own.
    pub wires: Option<Wires>,
    weather: Option<Weather>,
    relays: Vec<Relay>,
    clients: Option<Host>,
    _database: Option<Host>,
    authority: TestAuthority,
    server: Credential,
    database_client: Credential,
    scratch: Scratch,
    made: u8,
}

/// The roles of a node that does everything.
pub const BOTH: &str = "[\"control\", \"gateway\"]";
/// The role of a node that only carries traffic.
pub const GATEWAY: &str = "[\"gateway\"]";

impl Fleet {
    /// So many nodes on this machine, in one fleet, with acme's policy in force on all.
    #[must_use]
    pub fn of(count: u8) -> Self {
        Self::before(count, USUAL_CONNECTIONS)
    }

    /// The same, before a database that takes so many connections.
    #[must_use]
    pub fn before(count: u8, connections: u32) -> Self {
        let mut fleet = Self::empty(None, connections);
        fleet.populate(count);
        fleet
    }

    /// The same, each node a host of its own on wires that can be cut (needs root).
    #[must_use]
    pub fn on_wires(count: u8) -> Self {
        let mut fleet = Self::empty(Some(Wires::new()), USUAL_CONNECTIONS);
        fleet.populate(count);
        fleet
    }

    /// Nodes on this machine, with weather between them.
    #[must_use]
    pub fn in_weather(count: u8, weather: &Weather) -> Self {
        let mut fleet = Self::empty(None, USUAL_CONNECTIONS);
        fleet.weather = Some(weather.clone());
        fleet.populate(count);
        fleet
    }

    fn empty(wires: Option<Wires>, connections: u32) -> Self {
        let database_clients = TestAuthority::new("Database clients");
        let mut postgres = Postgres::builder(Version::V15)
            .client_authority(&database_clients)
            .role("app", "secret")
            .certificate_role("batch")
            .setting("max_connections", &connections.to_string())
            .served();
        let mut clients = None;
        let mut database_host = None;
        if let Some(wires) = &wires {
            let database = wires.host("db", &[DATABASE]);
            postgres = postgres
                .listen(database.address)
                .namespace(&database.namespace);
            database_host = Some(database);
            clients = Some(wires.host("clients", &[RESIDENT, GUEST]));
        }
        let postgres = postgres.start();
        let authority = TestAuthority::new("Test server authority");
        let server = authority.server(&["*.db.test"]);
        Self {
            nodes: Vec::new(),
            postgres,
            wires,
            weather: None,
            relays: Vec::new(),
            clients,
            _database: database_host,
            server,
            authority,
            database_client: database_clients.client(GATEWAY_COMMON_NAME, &[]),
            scratch: Scratch::new("fleet"),
            made: 0,
        }
    }

    fn populate(&mut self, count: u8) {
        for _ in 0..count {
            let index = self.unmade(&format!("n{}", self.made + 1), BOTH);
            if index == 0 {
                self.found(index);
            } else {
                self.join(index, "control,gateway");
            }
            self.nodes[index].start();
        }
        self.settled();
        let answer = self.nodes[0].apply(&[self.policy(Guests::Welcome)]);
        let reply = answer.ok();
        assert_eq!(reply["nodes_in_force"], count, "{reply}");
    }

    /// Files for one more node, which is of no fleet yet; its index.
    pub fn unmade(&mut self, name: &str, roles: &str) -> usize {
        self.made += 1;
        let number = self.made;
        let host = self.wires.as_ref().map(|wires| wires.host(name, &[number]));
        let ip = host
            .as_ref()
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |host| host.address);
        let at = || SocketAddr::new(ip, ports::free());
        let mesh = at();
        let relay = self.weather.as_ref().map(|it| Relay::to(mesh, it));
        let node = Node::new(NodeParts {
            name,
            listen: at(),
            metrics: at(),
            mesh,
            dialled: relay.as_ref().map_or(mesh, |relay| relay.address),
            host,
            roles,
            server: &self.server,
            authorities_pem: self.authority.pem(),
            database_client: &self.database_client,
        });
        self.relays.extend(relay);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Makes a fleet with this node as its first.
    pub fn found(&self, index: usize) {
        let node = &self.nodes[index];
        let key = self.recovery_key().display().to_string();
        let configuration = node.configuration().display().to_string();
        let _ = node
            .portcullis(&["init", "--config", &configuration, "--recovery-key", &key])
            .ok();
    }

    /// Makes this node one of the fleet, by a token of the first node that runs.
    pub fn join(&self, index: usize, roles: &str) {
        let node = &self.nodes[index];
        let token = self.a_running_node().invite(node.name(), roles);
        let _ = node.join(&token).ok();
    }

    /// The file of the recovery key.
    #[must_use]
    pub fn recovery_key(&self) -> PathBuf {
        self.scratch.path().join("recovery.key")
    }

    /// A node that runs.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    pub fn a_running_node(&self) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.runs())
            .expect("one runs")
    }

    /// The tenant acme: its clients may come from everywhere here, and guests if they are welcome.
    #[must_use]
    pub fn policy(&self, guests: Guests) -> TenantText {
        self.policy_with(guests, |endpoint| endpoint)
    }

    /// The same with more to its endpoint.
    #[must_use]
    pub fn policy_with(
        &self,
        guests: Guests,
        more: impl FnOnce(EndpointText) -> EndpointText,
    ) -> TenantText {
        let mut endpoint =
            EndpointText::new("orders", NAME).allow(&self.resident().to_string(), "public");
        if guests == Guests::Welcome {
            endpoint = endpoint.allow(&self.guest().to_string(), "public");
        }
        TenantText::new("acme")
            .cluster("orders", &self.postgres)
            .endpoint(more(endpoint))
    }

    /// From where clients are always let in.
    #[must_use]
    pub fn resident(&self) -> IpAddr {
        self.client_address(RESIDENT)
    }

    /// From where clients are let in only while guests are welcome.
    #[must_use]
    pub fn guest(&self) -> IpAddr {
        self.client_address(GUEST)
    }

    fn client_address(&self, number: u8) -> IpAddr {
        if self.wires.is_some() {
            wires::address(number)
        } else {
            IpAddr::V4(Ipv4Addr::new(127, 0, 77, number))
        }
    }

    /// How a client calls this node from this address.
    #[must_use]
    pub fn dial(&self, index: usize, from: IpAddr) -> crate::Dial {
        let dial = self.nodes[index].dial(NAME).from(from);
        match &self.clients {
            Some(host) => dial.inside(&host.namespace),
            None => dial,
        }
    }

    /// A client that is let in through this node.
    #[must_use]
    pub fn connect(&self, index: usize, from: IpAddr) -> RawClient {
        self.dial(index, from).sign_in("app", "secret", "postgres")
    }

    /// Waits until somebody leads whom a majority of the running control nodes follows; its index.
    ///
    /// # Panics
    /// When nobody does.
    #[must_use]
    pub fn leader(&self) -> usize {
        self.leader_but(None)
    }

    /// The same, but not this one: it is gone, and some may not know yet.
    ///
    /// # Panics
    /// When nobody does.
    #[must_use]
    pub fn leader_but(&self, gone: Option<usize>) -> usize {
        wait::until(SOON, || {
            let told = self.told_leaders();
            let (name, votes) = told
                .iter()
                .map(|name| (name, told.iter().filter(|other| *other == name).count()))
                .max_by_key(|(_, votes)| *votes)?;
            let index = self.nodes.iter().position(|node| node.name() == name)?;
            (votes * 2 > told.len() && Some(index) != gone && self.nodes[index].runs())
                .then_some(index)
        })
        .unwrap_or_else(|| panic!("nobody leads: {:?}", self.told_leaders()))
    }

    /// Whom each running node takes for the leader; an empty name is nobody.
    fn told_leaders(&self) -> Vec<String> {
        let told = |node: &Node| {
            let status = node.status()?;
            Some(status["leader"].as_str().unwrap_or_default().to_owned())
        };
        let running = self.nodes.iter().filter(|node| node.runs());
        running.map(|node| told(node).unwrap_or_default()).collect()
    }

    /// Whether every running node has said what it is: each word of that is a revision.
    fn is_introduced(&self, status: &Value) -> bool {
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        self.nodes.iter().filter(|node| node.runs()).all(|node| {
            let known = nodes.iter().find(|known| known["name"] == node.name());
            known.is_none_or(|known| known["level"] == FEATURE_LEVEL)
        })
    }

    /// Waits until every running node has the same revision in force, knows a quorum, takes every
    /// control node for a voter, and has said what it is; how long that took.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn settled(&self) -> Duration {
        let began = Instant::now();
        let settled = || {
            let statuses: Option<Vec<Value>> = self
                .nodes
                .iter()
                .filter(|node| node.runs())
                .map(Node::status)
                .collect();
            let Some(statuses) = statuses else {
                return false;
            };
            let revision = &statuses[0]["revision"];
            statuses.iter().all(|status| {
                status["revision"] == *revision
                    && status["quorum"] == true
                    && !status["leader"].is_null()
                    && votes(status)
                    && self.is_introduced(status)
            })
        };
        if wait::until(SOON, || settled().then_some(())).is_none() {
            let statuses: Vec<String> = self
                .nodes
                .iter()
                .filter(|node| node.runs())
                .map(|node| format!("{:?}", node.status()))
                .collect();
            panic!("the fleet does not settle:\n{}", statuses.join("\n"));
        }
        began.elapsed()
    }

    /// Waits until every running node has at least this revision in force; how long that took.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn reached(&self, revision: u64) -> Duration {
        wait::wait_for(&format!("revision {revision} everywhere"), SOON, || {
            self.nodes
                .iter()
                .filter(|node| node.runs())
                .all(|node| node.revision() >= revision)
        })
    }
}

/// Whether clients from the guests' address are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guests {
    /// They are.
    Welcome,
    /// They are not.
    Unwelcome,
}

/// Says a measured figure, past the capture of test output and in a form that a program reads.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    use std::io::Write;
    let line = format!("FIGURE {name} {value}\n");
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// The middle one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Whether every control node votes or leads.
fn votes(status: &Value) -> bool {
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().all(|node| {
        let roles = node["roles"].as_array().cloned().unwrap_or_default();
        let control = roles.iter().any(|role| role == "control");
        let part = node["consensus"].as_str().unwrap_or_default();
        !control || part == "leader" || part == "voter"
    })
}

/// As many connections as the database of an ordinary fleet takes.
const USUAL_CONNECTIONS: u32 = 200;
const DATABASE: u8 = 100;
const RESIDENT: u8 = 201;
const GUEST: u8 = 202;

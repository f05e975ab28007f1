//! The parts that connections are measured with: PostgreSQL 15, and before it the gateway, the bare
//! relay and the peers, all of them with TLS towards clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Service};
use portcullis_tests::{
    EndpointText, Gateway, Listener, Postgres, Scratch, TenantText, TestAuthority, Version, ports,
    postgres, wait,
};
use rustix::process::Signal;

use crate::peers::{PEER_NAME, Peer};
use crate::program::ourselves;
use crate::ways::{Behind, Way};

/// The role of all clients.
pub(crate) const USER: &str = "app";
/// Its password.
pub(crate) const PASSWORD: &str = "secret";
/// The database that they use.
pub(crate) const DATABASE: &str = "postgres";
/// As many clients as a part may want at once, and some for the gateway itself.
pub(crate) const MAX_CONNECTIONS: usize = 2_100;

/// The endpoint whose database is reached over TLS.
const GATEWAY_NAME: &str = "orders.db.test";
/// The endpoint of the same database, reached without.
const GATEWAY_PLAIN_NAME: &str = "plain.db.test";
const FLOOR_NAME: &str = "floor.db.test";
/// Entries of the allow list beside the one by which the clients come in.
const OTHER_ENTRIES: u32 = 999;
const START_LIMIT: Duration = Duration::from_secs(10);
const GONE_LIMIT: Duration = Duration::from_secs(60);
const FILL_LIMIT: Duration = Duration::from_secs(120);

/// Everything, running; what is in between is started when it is first asked for. Dropping it stops it.
pub(crate) struct Stage {
    gateway: Gateway,
    floors: BTreeMap<Way, Floor>,
    peers: BTreeMap<Way, Peer>,
    server: Postgres,
    scratch: Scratch,
}

/// Where a way begins.
pub(crate) struct Target {
    /// Whom to call.
    pub(crate) address: SocketAddr,
    /// The name to ask for and to check.
    pub(crate) name: &'static str,
    /// Who may have signed the certificate, as PEM.
    pub(crate) authorities: String,
}

impl Stage {
    /// Starts everything for these ways, and fills the server with pgbench's tables at this scale
    /// (100,000 rows each).
    pub(crate) fn set(scale: u32, ways: &[Way]) -> Self {
        let clients = TestAuthority::new("Database clients");
        let server = Postgres::builder(Version::V15)
            .client_authority(&clients)
            .role(USER, PASSWORD)
            .hba("hostnossl all portcullis_service 127.0.0.1/32 trust")
            .hba("hostnossl all app 127.0.0.1/32 scram-sha-256")
            .hba("hostssl all app 127.0.0.1/32 scram-sha-256")
            .hba("host all app 127.0.0.0/8 reject")
            .setting("shared_buffers", "256MB")
            .setting("log_connections", "off")
            .setting("log_disconnections", "off")
            .setting("max_connections", &MAX_CONNECTIONS.to_string())
            .served()
            .start();
        let mut stage = Self {
            gateway: gateway(&server, &clients),
            floors: BTreeMap::new(),
            peers: BTreeMap::new(),
            server,
            scratch: Scratch::new("bench"),
        };
        for way in ways {
            stage.open(*way);
        }
        stage.fill(scale);
        stage
    }

    /// pgbench, ready to go this way.
    pub(crate) fn pgbench(&self, way: Way) -> Command {
        let target = self.target(way);
        let file = format!("{}.pem", target.name);
        let mut pgbench = Command::new("/usr/lib/postgresql/15/bin/pgbench");
        pgbench
            .env("PGHOST", target.name)
            .env("PGHOSTADDR", target.address.ip().to_string())
            .env("PGPORT", target.address.port().to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", "verify-full")
            .env(
                "PGSSLROOTCERT",
                self.scratch.write(&file, target.authorities),
            );
        if way.breaks_binding() {
            pgbench.env("PGCHANNELBINDING", "disable");
        }
        pgbench
    }

    /// A directory for what a part writes.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The server itself, for what a part wants of it.
    pub(crate) fn server(&self) -> &Postgres {
        &self.server
    }

    /// The process in between; for the direct way the server itself.
    pub(crate) fn pid(&self, way: Way) -> u32 {
        match way {
            Way::Direct => self.server_pid(),
            Way::Gateway(_) => self.gateway.pid(),
            Way::Floor(_) => self.floors[&way].service.pid(),
            _ => self.peers[&way].pid(),
        }
    }

    /// Starts what is in between, unless it runs already.
    pub(crate) fn open(&mut self, way: Way) {
        match way {
            Way::Direct | Way::Gateway(_) => {}
            Way::Floor(behind) => {
                let (server, scratch) = (&self.server, &self.scratch);
                let start = || Floor::start(server, scratch, behind);
                let _ = self.floors.entry(way).or_insert_with(start);
            }
            _ => {
                let server = &self.server;
                let start = || Peer::start(way, server);
                let _ = self.peers.entry(way).or_insert_with(start);
            }
        }
    }

    /// Starts what is in between anew, so that its memory remembers nothing.
    pub(crate) fn refresh(&mut self, way: Way) {
        if let Way::Gateway(_) = way {
            self.gateway.kill();
            self.gateway.start_again();
        }
        self.floors.remove(&way);
        self.peers.remove(&way);
        self.open(way);
    }

    /// Waits until the server has seen every client connection end: only then does the processor
    /// time of its processes count as its own.
    ///
    /// # Panics
    /// When there is one that stays.
    pub(crate) fn wait_until_left(&self) {
        wait::wait_for("everybody to leave", GONE_LIMIT, || {
            self.server.connections_of(USER) == 0
        });
    }

    /// Where this way begins.
    pub(crate) fn target(&self, way: Way) -> Target {
        let (address, name, authorities) = match way {
            // HAProxy passes on what the server shows.
            Way::Direct | Way::Haproxy => (
                match way {
                    Way::Haproxy => self.peers[&way].address,
                    _ => self.server.address(),
                },
                postgres::SERVER_NAME,
                self.server.authorities_pem(),
            ),
            Way::Gateway(behind) => (
                self.gateway.address(),
                match behind {
                    Behind::Tls => GATEWAY_NAME,
                    Behind::Plain => GATEWAY_PLAIN_NAME,
                },
                self.gateway.authorities_pem(),
            ),
            Way::Floor(_) => {
                let floor = &self.floors[&way];
                (floor.address, FLOOR_NAME, floor.authority.pem())
            }
            _ => {
                let peer = &self.peers[&way];
                (peer.address, PEER_NAME, peer.authority.pem())
            }
        };
        Target {
            address,
            name,
            authorities,
        }
    }

    /// The server's first process.
    pub(crate) fn server_pid(&self) -> u32 {
        let told = self.server.sql("select pg_read_file('postmaster.pid')");
        let first = told.lines().next().and_then(|line| line.parse().ok());
        first.expect("postmaster.pid begins with a process id")
    }

    fn fill(&self, scale: u32) {
        self.server
            .sql(&format!("grant create on schema public to {USER}"));
        let mut pgbench = self.pgbench(Way::Direct);
        pgbench.args(["--initialize", "--init-steps=dtGvp", "--quiet"]);
        pgbench.arg(format!("--scale={scale}"));
        let _ = process::run(&pgbench, FILL_LIMIT).ok();
    }
}

/// The product as shipped, with policy on and a list to look through.
fn gateway(server: &Postgres, clients: &TestAuthority) -> Gateway {
    let listed = |mut endpoint: EndpointText| {
        endpoint = endpoint.allow("127.0.0.1", "public");
        for other in 0..OTHER_ENTRIES {
            let [_, _, high, low] = other.to_be_bytes();
            endpoint = endpoint.allow(&format!("10.{high}.{low}.0/24"), "public");
        }
        endpoint
    };
    let plain = format!(
        "    engine: postgresql\n    backends: [\"{}\"]\n    tls: unencrypted-and-unverified\n    \
         service: {{role: {}, database: {DATABASE}}}\n",
        server.address(),
        postgres::SERVICE_ROLE
    );
    let acme = TenantText::new("acme")
        .cluster("orders", server)
        .cluster_text("plain", &plain)
        .endpoint(listed(EndpointText::new("orders", GATEWAY_NAME)))
        .endpoint(listed(EndpointText::new("plain", GATEWAY_PLAIN_NAME)))
        .limits(&format!(
            "{{connections: {MAX_CONNECTIONS}, connections-per-endpoint: {MAX_CONNECTIONS}, new-connections-per-second: 100000}}"
        ));
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .tenant(&acme)
        .signs_in_at("acme", clients)
        .start();
    let status = gateway.ask(&["status"]);
    assert_eq!(status["tenants"], 1, "{}", gateway.log_text());
    gateway
}

/// The bare relay, in a process of its own.
struct Floor {
    service: Service,
    address: SocketAddr,
    authority: TestAuthority,
}

impl Floor {
    fn start(server: &Postgres, scratch: &Scratch, behind: Behind) -> Self {
        let authority = TestAuthority::new("Bare relay");
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), ports::free());
        let label = format!("floor-{behind:?}");
        let (chain, key) = authority.server(&[FLOOR_NAME]).write(scratch, &label);
        let mut command = Command::new(ourselves());
        command
            .arg("floor")
            .args(["--listen", &address.to_string()])
            .args(["--server", &server.address().to_string()])
            .arg("--chain")
            .arg(chain)
            .arg("--key")
            .arg(key);
        if behind == Behind::Tls {
            let authorities = scratch.write("floor-trusts.pem", server.authorities_pem());
            command
                .args(["--server-name", postgres::SERVER_NAME])
                .arg("--authorities")
                .arg(authorities);
        }
        let log = scratch.path().join(format!("{label}.log"));
        let service = Service::start("the bare relay", &command, &log, Signal::TERM);
        wait::wait_for("the bare relay", START_LIMIT, || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            service,
            address,
            authority,
        }
    }
}

//! The parts that connections are measured with: PostgreSQL 15, the gateway and the bare relay
//! before it, all three with TLS towards clients.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Service};
use portcullis_tests::{
    Dial, EndpointText, Gateway, Listener, Postgres, Scratch, TenantText, TestAuthority, Version,
    ports, postgres, wait,
};
use rustix::process::Signal;

use crate::program::ourselves;

/// The role of all clients.
pub(crate) const USER: &str = "app";
/// Its password.
pub(crate) const PASSWORD: &str = "secret";
/// The database that they use.
pub(crate) const DATABASE: &str = "postgres";

const GATEWAY_NAME: &str = "orders.db.test";
const FLOOR_NAME: &str = "floor.db.test";
/// Entries of the allow list beside the one by which the clients come in.
const OTHER_ENTRIES: u32 = 999;
/// As many clients as a part may want at once, and some for the gateway itself.
const MAX_CONNECTIONS: usize = 2_100;
const START_LIMIT: Duration = Duration::from_secs(10);
const FILL_LIMIT: Duration = Duration::from_secs(120);

/// Everything, running. Dropping it stops it.
pub(crate) struct Stage {
    gateway: Gateway,
    floor: Floor,
    server: Postgres,
    scratch: Scratch,
}

/// One of the ways to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// None in between.
    Direct,
    /// The product.
    Gateway,
    /// The bare relay.
    Floor,
}

impl Stage {
    /// Starts everything, and fills the server with pgbench's tables at this scale (100,000 rows each).
    pub(crate) fn set(scale: u32) -> Self {
        let clients = TestAuthority::new("Database clients");
        let server = Postgres::builder(Version::V15)
            .client_authority(&clients)
            .role(USER, PASSWORD)
            .setting("shared_buffers", "256MB")
            .setting("max_connections", &MAX_CONNECTIONS.to_string())
            .served()
            .start();
        let scratch = Scratch::new("bench");
        let gateway = gateway(&server, &clients);
        let floor = Floor::start(&server, &scratch);
        let stage = Self {
            gateway,
            floor,
            server,
            scratch,
        };
        for way in [Way::Direct, Way::Gateway, Way::Floor] {
            let (_, _, authorities) = stage.target(way);
            stage.scratch.write(way.authorities(), authorities);
        }
        stage.fill(scale);
        stage
    }

    /// pgbench, ready to go this way.
    pub(crate) fn pgbench(&self, way: Way) -> Command {
        let (address, name, _) = self.target(way);
        let mut pgbench = Command::new("/usr/lib/postgresql/15/bin/pgbench");
        pgbench
            .env("PGHOST", name)
            .env("PGHOSTADDR", address.ip().to_string())
            .env("PGPORT", address.port().to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.scratch.path().join(way.authorities()));
        if way == Way::Floor {
            // What a relay in between looks like to a client is just what binding to a channel prevents.
            pgbench.env("PGCHANNELBINDING", "disable");
        }
        pgbench
    }

    /// The harness' own client, ready to go this way.
    pub(crate) fn dial(&self, way: Way) -> Dial {
        let (address, name, authorities) = self.target(way);
        Dial::tls(address, name, &authorities)
    }

    /// The process in between; for the direct way the server itself.
    pub(crate) fn pid(&self, way: Way) -> u32 {
        match way {
            Way::Direct => self.server_pid(),
            Way::Gateway => self.gateway.pid(),
            Way::Floor => self.floor.service.pid(),
        }
    }

    /// Starts what is in between anew, so that its memory remembers nothing.
    pub(crate) fn refresh(&mut self, way: Way) {
        match way {
            Way::Direct => {}
            Way::Gateway => {
                self.gateway.kill();
                self.gateway.start_again();
            }
            Way::Floor => self.floor = Floor::start(&self.server, &self.scratch),
        }
    }

    /// Client connections that the server has right now.
    pub(crate) fn connected(&self) -> usize {
        self.server.connections_of(USER)
    }

    fn target(&self, way: Way) -> (SocketAddr, &str, String) {
        match way {
            Way::Direct => (
                self.server.address(),
                self.server.server_name(),
                self.server.authorities_pem(),
            ),
            Way::Gateway => (
                self.gateway.address(),
                GATEWAY_NAME,
                self.gateway.authorities_pem(),
            ),
            Way::Floor => (self.floor.address, FLOOR_NAME, self.floor.authority.pem()),
        }
    }

    fn server_pid(&self) -> u32 {
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

impl Way {
    fn authorities(self) -> &'static str {
        match self {
            Self::Direct => "direct.pem",
            Self::Gateway => "gateway.pem",
            Self::Floor => "floor-authority.pem",
        }
    }
}

/// The product as shipped, with policy on and a list to look through.
fn gateway(server: &Postgres, clients: &TestAuthority) -> Gateway {
    let mut orders = EndpointText::new("orders", GATEWAY_NAME).allow("127.0.0.1", "public");
    for other in 0..OTHER_ENTRIES {
        let [_, _, high, low] = other.to_be_bytes();
        orders = orders.allow(&format!("10.{high}.{low}.0/24"), "public");
    }
    let acme = TenantText::new("acme")
        .cluster("orders", server)
        .endpoint(orders)
        .limits("{connections: 2000, connections-per-endpoint: 2000}");
    Gateway::builder()
        .listener(Listener::public())
        .tenant(&acme)
        .signs_in_at("acme", clients)
        .start()
}

/// The bare relay, in a process of its own.
struct Floor {
    service: Service,
    address: SocketAddr,
    authority: TestAuthority,
}

impl Floor {
    fn start(server: &Postgres, scratch: &Scratch) -> Self {
        let authority = TestAuthority::new("Bare relay");
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), ports::free());
        let (chain, key) = authority.server(&[FLOOR_NAME]).write(scratch, "floor");
        let authorities = scratch.write("floor-trusts.pem", server.authorities_pem());
        let mut command = Command::new(ourselves());
        command
            .arg("floor")
            .args(["--listen", &address.to_string()])
            .args(["--server", &server.address().to_string()])
            .args(["--server-name", postgres::SERVER_NAME])
            .arg("--authorities")
            .arg(authorities)
            .arg("--chain")
            .arg(chain)
            .arg("--key")
            .arg(key);
        let log = scratch.path().join("floor.log");
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

//! The peers, each as an unprivileged process of its own with a configuration made here.
//!
//! They come from Debian (`tests/setup/debian.sh bench`) and run as their makers ship them but for
//! what makes them comparable, each line of which says why.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Service};
use portcullis_tests::scratch::{is_root, postgres_account};
use portcullis_tests::{Postgres, Scratch, TestAuthority, ports, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stage::{MAX_CONNECTIONS, USER};
use crate::ways::{Behind, Way};

/// The name in the certificates of peers that end TLS.
pub(crate) const PEER_NAME: &str = "peer.db.test";

const START_LIMIT: Duration = Duration::from_secs(10);

/// A peer, running. Dropping it stops it.
pub(crate) struct Peer {
    service: Service,
    pub(crate) address: SocketAddr,
    pub(crate) authority: TestAuthority,
    _scratch: Scratch,
}

impl Peer {
    /// Starts the peer that goes this way.
    ///
    /// # Panics
    /// When it does not start, or this way is no peer's.
    pub(crate) fn start(way: Way, server: &Postgres) -> Self {
        let scratch = Scratch::new("peer");
        let authority = TestAuthority::new("Peers");
        let credential = authority.server(&[PEER_NAME]);
        let (chain, key) = credential.write(&scratch, "peer");
        // HAProxy wants both in one file.
        let _ = scratch.write_secret(
            "both.pem",
            format!("{}{}", credential.chain_pem, credential.key_pem),
        );
        let trusted = scratch.write("server-authority.pem", server.authorities_pem());
        let files = Files {
            folder: scratch.path(),
            chain: &chain,
            key: &key,
            trusted: &trusted,
        };
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports::free());
        let (program, text, arguments): (_, _, &[&str]) = match way {
            Way::Pgbouncer(behind) => (
                "/usr/sbin/pgbouncer",
                pgbouncer(address, server, &files, behind, Servers::UsedOnce),
                &["--quiet"],
            ),
            Way::PgbouncerPool(behind) => (
                "/usr/sbin/pgbouncer",
                pgbouncer(address, server, &files, behind, Servers::HandedOn),
                &["--quiet"],
            ),
            Way::Stunnel => ("/usr/bin/stunnel4", stunnel(address, server, &files), &[]),
            Way::Haproxy => (
                "/usr/sbin/haproxy",
                haproxy(address, server, ""),
                &["-db", "-f"],
            ),
            Way::HaproxyDirect => {
                let pem = files.folder.join("both.pem");
                let tls = format!("ssl crt {} alpn postgresql", pem.display());
                (
                    "/usr/sbin/haproxy",
                    haproxy(address, server, &tls),
                    &["-db", "-f"],
                )
            }
            Way::Direct | Way::Gateway(_) | Way::Floor(_) => panic!("{way} is no peer"),
        };
        if matches!(way, Way::Pgbouncer(_) | Way::PgbouncerPool(_)) {
            let _ = scratch.write_secret("users.txt", verifiers(server));
            let _ = scratch.write("hba.conf", HBA);
        }
        let configuration = scratch.write("peer.conf", text);
        scratch.give_to(postgres_account());
        let mut command = unprivileged(program);
        command
            .args(arguments)
            .arg(&configuration)
            .current_dir(scratch.path());
        let log = scratch.path().join("log");
        let mut service = Service::start(way.word(), &command, &log, Signal::TERM);
        wait::wait_for(way.word(), START_LIMIT, || {
            if let Some(status) = service.ended() {
                panic!("{way} ended with {status}:\n{}", service.log());
            }
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            service,
            address,
            authority,
            _scratch: scratch,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.service.pid()
    }
}

/// What the peers say they are.
pub(crate) fn versions() -> Value {
    json!({
        "pgbouncer": version("/usr/sbin/pgbouncer", "--version"),
        "stunnel": version("/usr/bin/stunnel4", "-version"),
        "HAProxy": version("/usr/sbin/haproxy", "-v"),
    })
}

fn version(program: &str, option: &str) -> String {
    let mut command = Command::new(program);
    command.arg(option);
    let told = process::run(&command, START_LIMIT);
    let text = format!("{}{}", told.stdout, told.stderr);
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    number.unwrap_or("unknown").to_owned()
}

/// Files that a configuration names.
struct Files<'a> {
    folder: &'a Path,
    chain: &'a Path,
    key: &'a Path,
    trusted: &'a Path,
}

/// What becomes of a server connection when its client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    UsedOnce,
    HandedOn,
}

/// Session mode, SCRAM by the server's own verifiers, whose keys it then passes on.
fn pgbouncer(
    address: SocketAddr,
    server: &Postgres,
    files: &Files<'_>,
    behind: Behind,
    servers: Servers,
) -> String {
    let mut text = format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
         unix_socket_dir =\npool_mode = session\nauth_type = hba\n\
         auth_hba_file = {}\nauth_file = {}\nclient_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
        server.address().ip(),
        server.address().port(),
        address.ip(),
        address.port(),
        files.folder.join("hba.conf").display(),
        files.folder.join("users.txt").display(),
        files.chain.display(),
        files.key.display(),
    );
    // As many as the server takes: nobody here waits for a server connection to become free.
    let _ = write!(
        text,
        "max_client_conn = {0}\ndefault_pool_size = {0}\n",
        MAX_CONNECTIONS - RESERVED
    );
    // The others write no line for every connection to a log file either.
    text.push_str("log_connections = 0\nlog_disconnections = 0\n");
    text.push_str(match servers {
        Servers::UsedOnce => "server_lifetime = 0\n",
        // Soon after the last client nobody is connected, as the other ways have it.
        Servers::HandedOn => "server_idle_timeout = 1\n",
    });
    if behind == Behind::Tls {
        // It looks for names only, and the server is reached by its address: the authority alone is checked.
        let _ = write!(
            text,
            "server_tls_sslmode = verify-ca\nserver_tls_ca_file = {}\n",
            files.trusted.display()
        );
    }
    text
}

/// One address is let in, as through the gateway.
const HBA: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.0/8 reject\n";
/// Connections of the server that are kept for superusers and the gateway.
const RESERVED: usize = 20;

/// pgbouncer's auth_file.
fn verifiers(server: &Postgres) -> String {
    let verifier = server.sql(&format!(
        "select rolpassword from pg_authid where rolname = '{USER}'"
    ));
    format!("\"{USER}\" \"{verifier}\"\n")
}

fn stunnel(address: SocketAddr, server: &Postgres, files: &Files<'_>) -> String {
    format!(
        "foreground = yes\npid =\ndebug = warning\n[postgresql]\naccept = {address}\nconnect = {}\n\
         protocol = pgsql\ncert = {}\nkey = {}\n",
        server.address(),
        files.chain.display(),
        files.key.display(),
    )
}

/// `tls` is what stands behind the address of a listener that ends TLS.
fn haproxy(address: SocketAddr, server: &Postgres, tls: &str) -> String {
    format!(
        "global\n    maxconn {MAX_CONNECTIONS}\ndefaults\n    mode tcp\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n\
         listen postgresql\n    bind {address} {tls}\n    server one {}\n",
        server.address()
    )
}

fn unprivileged(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let (uid, gid) = postgres_account();
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        // The change of user clears a parent-death signal that was set before it.
        .args(["--clear-groups", "--pdeathsig", "TERM", "--"])
        .arg(program);
    command
}

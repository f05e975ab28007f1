//! Real PostgreSQL servers: 15 from Debian and 18 from the npm registry.
//!
//! Each has a data directory of its own (a copy of a template), a port and a certificate of its
//! own, and lets nobody in but over TLS. The test itself commands it as superuser over a Unix
//! socket, which no gateway ever uses.

mod install;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::identities::TestAuthority;
use crate::process::{self, Finished, Service};
use crate::scratch::{Scratch, is_root, postgres_account};
use crate::{ports, wait};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian's: no direct TLS, protocol 3.0.
    V15,
    /// From the npm registry: direct TLS, protocol 3.2.
    V18,
}

/// The host name in a server's certificate, unless the builder says another.
pub const SERVER_NAME: &str = "db.acme.internal";
/// The common name of the certificate with which the gateway signs in to databases.
pub const GATEWAY_COMMON_NAME: &str = "gateway.portcullis";
/// The account by which the gateway reads verifiers, unless the builder says another.
pub const SERVICE_ROLE: &str = "portcullis_service";

const START_LIMIT: Duration = Duration::from_secs(60);
const SQL_LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it at once and removes its data.
#[derive(Debug)]
pub struct Postgres {
    // Stopped before its directory goes: fields drop in this order.
    service: Option<Service>,
    start: Builder,
    scratch: Scratch,
    address: SocketAddr,
    authority: TestAuthority,
}

impl Postgres {
    /// A server with nobody in it but the superuser.
    #[must_use]
    pub fn start(version: Version) -> Self {
        Self::builder(version).start()
    }

    /// For a server with more to it.
    #[must_use]
    pub fn builder(version: Version) -> Builder {
        Builder {
            version,
            server_name: SERVER_NAME.to_owned(),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            namespace: None,
            tls: Tls::Offered,
            client_authorities: String::new(),
            scram_roles: Vec::new(),
            certificate_roles: Vec::new(),
            hba: Vec::new(),
            settings: Vec::new(),
            set_up: SetUp::Nothing,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that signed its certificate, as PEM.
    #[must_use]
    pub fn authorities_pem(&self) -> String {
        self.authority.pem()
    }

    /// The host name in its certificate.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.start.server_name
    }

    /// Runs SQL as superuser in the database `postgres`; rows come back unaligned, fields parted by `|`.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// Runs SQL as superuser in another database.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).ok().to_owned()
    }

    /// Runs SQL as superuser, whatever comes of it.
    #[must_use]
    pub fn try_sql(&self, database: &str, sql: &str) -> Finished {
        let mut psql = self.superuser(database);
        psql.arg("--command").arg(sql);
        process::run(&psql, SQL_LIMIT)
    }

    /// Runs a file of SQL as superuser, with psql variables (`name=value`).
    ///
    /// # Panics
    /// When the server refuses any of it.
    pub fn sql_file(&self, database: &str, file: &std::path::Path, variables: &[&str]) -> String {
        let mut psql = self.superuser(database);
        for variable in variables {
            psql.arg("--set").arg(variable);
        }
        psql.arg("--file").arg(file);
        process::run(&psql, SQL_LIMIT).ok().to_owned()
    }

    /// How many client connections a role has right now.
    #[must_use]
    pub fn connections_of(&self, role: &str) -> usize {
        let counted = self.sql(&format!(
            "select count(*) from pg_stat_activity where usename = '{role}'"
        ));
        counted.parse().expect("a count")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Writes pg_hba.conf anew, below the superuser's own line, and makes the server read it.
    pub fn replace_hba(&self, lines: &[&str]) {
        self.own_file("data/pg_hba.conf", &hba(lines));
        self.reload();
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        self.sql("select pg_reload_conf()");
    }

    /// Stops its every process where it stands: it neither answers nor refuses.
    pub fn freeze(&self) {
        self.service.as_ref().expect("running").signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.service.as_ref().expect("running").signal(Signal::CONT);
    }

    /// Stops it at once; its data stay, and its port stays its own.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// Starts it again after [`Postgres::stop`].
    pub fn start_again(&mut self) {
        self.launch();
    }

    fn superuser(&self, database: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set",
            "ON_ERROR_STOP=1",
        ]);
        psql.env("PGHOST", self.scratch.path())
            .env("PGPORT", self.address.port().to_string());
        psql.env("PGUSER", "postgres")
            .env("PGDATABASE", database)
            .env("PGCONNECT_TIMEOUT", "10");
        psql
    }

    fn launch(&mut self) {
        let data = self.scratch.path().join("data");
        let ready = data.join("postmaster.pid");
        let _ = std::fs::remove_file(&ready);
        let mut server =
            install::unprivileged(&install::binaries(self.start.version).join("postgres"));
        server.arg("-D").arg(&data).current_dir("/");
        let command = match &self.start.namespace {
            Some(namespace) => crate::namespace::inside(namespace, &server),
            None => server,
        };
        let name = format!("PostgreSQL {:?}", self.start.version);
        // SIGQUIT: immediate shutdown, its children included.
        let mut service = Service::start(
            &name,
            &command,
            &self.scratch.path().join("log"),
            Signal::QUIT,
        );
        let up = wait::until(START_LIMIT, || {
            let told = std::fs::read_to_string(&ready).unwrap_or_default();
            let is_ready = told
                .lines()
                .nth(STATUS_LINE)
                .is_some_and(|status| status.trim() == "ready");
            (is_ready || service.ended().is_some()).then_some(is_ready)
        });
        assert_eq!(up, Some(true), "{name} did not start:\n{}", service.log());
        self.service = Some(service);
    }

    fn own_file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.scratch.write_secret(name, contents);
        if is_root() {
            let (uid, gid) = postgres_account();
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("root may");
        }
        path
    }
}

/// In postmaster.pid, as pg_ctl reads it (miscadmin.h, LOCK_FILE_LINE_PM_STATUS), from 0.
const STATUS_LINE: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    Offered,
    Absent,
}

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    version: Version,
    server_name: String,
    listen: IpAddr,
    port: Option<u16>,
    namespace: Option<String>,
    tls: Tls,
    client_authorities: String,
    scram_roles: Vec<(String, String)>,
    certificate_roles: Vec<String>,
    hba: Vec<String>,
    settings: Vec<(String, String)>,
    set_up: SetUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetUp {
    Nothing,
    AsShipped,
}

impl Builder {
    /// The host name in its certificate instead of [`SERVER_NAME`].
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.server_name);
        self
    }

    /// The address to listen on instead of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.listen = address;
        self
    }

    /// The port to listen on instead of a free one; for two servers in two namespaces.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The network namespace to run in (needs root).
    #[must_use]
    pub fn namespace(mut self, namespace: &crate::Namespace) -> Self {
        self.namespace = Some(namespace.name().to_owned());
        self
    }

    /// No TLS at all: `SSLRequest` is answered `N`.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.tls = Tls::Absent;
        self
    }

    /// The authority whose certificates may sign in as certificate roles and as the service role.
    #[must_use]
    pub fn client_authority(mut self, authority: &TestAuthority) -> Self {
        self.client_authorities = authority.pem();
        self
    }

    /// A role that signs in with a password, by SCRAM-SHA-256.
    #[must_use]
    pub fn role(mut self, name: &str, password: &str) -> Self {
        self.scram_roles
            .push((name.to_owned(), password.to_owned()));
        self
    }

    /// A role that signs in with a client certificate named [`GATEWAY_COMMON_NAME`].
    #[must_use]
    pub fn certificate_role(mut self, name: &str) -> Self {
        self.certificate_roles.push(name.to_owned());
        self
    }

    /// Runs what the product ships for databases (`gateway/deploy/postgres/setup.sql`): the service
    /// role and its functions.
    #[must_use]
    pub fn served(mut self) -> Self {
        self.set_up = SetUp::AsShipped;
        self
    }

    /// A line of pg_hba.conf above the ordinary ones (the first that fits decides).
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// A line of postgresql.conf.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start, with its log.
    #[must_use]
    pub fn start(self) -> Postgres {
        let template = install::template(self.version);
        let scratch = Scratch::new(&format!("{:?}", self.version));
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(&template)
            .arg(scratch.path().join("data"));
        let _ = process::run(&copy, START_LIMIT).ok();
        let port = self.port.unwrap_or_else(ports::free);
        let authority = TestAuthority::new("Test database authority");
        let address = SocketAddr::new(self.listen, port);
        let mut postgres = Postgres {
            service: None,
            start: self,
            scratch,
            address,
            authority,
        };
        postgres.configure();
        postgres.launch();
        postgres.populate();
        postgres
    }
}

impl Postgres {
    fn configure(&self) {
        if is_root() {
            let (uid, gid) = postgres_account();
            std::os::unix::fs::chown(self.scratch.path(), Some(uid), Some(gid)).expect("root may");
        }
        let start = &self.start;
        let credential = self.authority.server(&[&start.server_name]);
        self.own_file("server.crt", &credential.chain_pem);
        self.own_file("server.key", &credential.key_pem);
        self.own_file("clients.crt", &start.client_authorities);
        self.own_file("data/postgresql.conf", &self.settings());
        let ordinary = ordinary_hba(start);
        let lines: Vec<&str> = start
            .hba
            .iter()
            .chain(&ordinary)
            .map(String::as_str)
            .collect();
        self.own_file("data/pg_hba.conf", &hba(&lines));
        let mapped = start
            .certificate_roles
            .iter()
            .map(String::as_str)
            .chain([SERVICE_ROLE]);
        let ident: String = mapped
            .map(|role| format!("portcullis {GATEWAY_COMMON_NAME} {role}\n"))
            .collect();
        self.own_file("data/pg_ident.conf", &ident);
    }

    fn settings(&self) -> String {
        let folder = self.scratch.path().display();
        let mut text = format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{folder}'\n{FAST}",
            self.address.ip(),
            self.address.port()
        );
        if self.start.tls == Tls::Offered {
            text += &format!(
                "ssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n"
            );
            if !self.start.client_authorities.is_empty() {
                text += &format!("ssl_ca_file = '{folder}/clients.crt'\n");
            }
        }
        for (name, value) in &self.start.settings {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        text
    }

    fn populate(&self) {
        let mut sql = String::new();
        for (role, password) in &self.start.scram_roles {
            sql += &format!(
                "create role \"{role}\" login password '{}';\n",
                password.replace('\'', "''")
            );
        }
        for role in &self.start.certificate_roles {
            sql += &format!("create role \"{role}\" login;\n");
        }
        if !sql.is_empty() {
            self.sql(&sql);
        }
        if self.start.set_up == SetUp::AsShipped {
            self.sql_file(
                "postgres",
                &crate::gateway::deploy("postgres/setup.sql"),
                &[],
            );
        }
    }
}

/// Nothing here need survive a power cut.
const FAST: &str = "\
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
shared_buffers = 16MB
max_connections = 100
log_connections = on
log_disconnections = on
log_min_messages = info
password_encryption = scram-sha-256
";

fn hba(lines: &[&str]) -> String {
    format!(
        "local all postgres trust\nlocal all all reject\n{}\n",
        lines.join("\n")
    )
}

/// Certificate roles sign in by certificate, everybody else by SCRAM, all of them over TLS.
fn ordinary_hba(start: &Builder) -> Vec<String> {
    if start.tls == Tls::Absent {
        return vec!["host all all all scram-sha-256".to_owned()];
    }
    let mut lines = Vec::new();
    if !start.client_authorities.is_empty() {
        let mut roles = start.certificate_roles.clone();
        roles.push(SERVICE_ROLE.to_owned());
        lines.push(format!(
            "hostssl all {} all cert map=portcullis",
            roles.join(",")
        ));
    }
    lines.push("hostssl all all all scram-sha-256".to_owned());
    lines
}

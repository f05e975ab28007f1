//! Real PostgreSQL servers: 15 from Debian and 18 from the npm registry.
//!
//! Each has a data directory of its own (a copy of a template), a port and a certificate of its
//! own, and lets nobody in but over TLS. The test itself commands it as superuser over a Unix
//! socket, which no gateway ever uses.

mod builder;
mod install;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

pub use builder::Builder;

use crate::identities::TestAuthority;
use crate::process::{self, Finished, Service};
use crate::scratch::{Scratch, is_root, postgres_account};
use crate::wait;

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
        Builder::new(version)
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
        self.own_file("data/pg_hba.conf", &builder::hba(lines));
        self.reload();
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        self.sql("select pg_reload_conf()");
    }

    /// Stops its every process where it stands: it neither answers nor refuses.
    pub fn freeze(&self) {
        self.service.as_ref().expect("running").freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.service.as_ref().expect("running").thaw();
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

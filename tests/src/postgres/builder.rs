//! What a server is to be, and the files and roles that make it so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use super::{
    GATEWAY_COMMON_NAME, Postgres, SERVER_NAME, SERVICE_ROLE, START_LIMIT, Version, install,
};
use crate::identities::TestAuthority;
use crate::scratch::{Scratch, is_root, postgres_account};
use crate::{ports, process};

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) version: Version,
    pub(super) server_name: String,
    listen: IpAddr,
    port: Option<u16>,
    pub(super) namespace: Option<String>,
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
    pub(super) fn new(version: Version) -> Self {
        Self {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    Offered,
    Absent,
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

pub(super) fn hba(lines: &[&str]) -> String {
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

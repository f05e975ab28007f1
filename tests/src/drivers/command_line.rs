//! Drivers that run as processes of their own.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::identities::Credential;
use crate::namespace::Namespace;
use crate::process::{self, Finished};
use crate::scratch::{Scratch, tools};

const LIMIT: Duration = Duration::from_secs(60);

/// What all of them need to know.
#[derive(Debug)]
struct Target {
    to: SocketAddr,
    server_name: String,
    scratch: Scratch,
    parameters: Vec<(String, String)>,
    namespace: Option<String>,
}

impl Target {
    fn new(to: SocketAddr, server_name: &str, authorities_pem: &str) -> Self {
        let scratch = Scratch::new("driver");
        let authorities = scratch
            .write("authorities.pem", authorities_pem)
            .display()
            .to_string();
        let parameters = [
            ("host", server_name.to_owned()),
            ("hostaddr", to.ip().to_string()),
            ("port", to.port().to_string()),
            ("sslmode", "verify-full".to_owned()),
            ("sslrootcert", authorities),
            ("connect_timeout", "20".to_owned()),
        ];
        let parameters = parameters
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        Self {
            to,
            server_name: server_name.to_owned(),
            scratch,
            parameters,
            namespace: None,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
    }

    fn show(&mut self, credential: &Credential) {
        let (chain, key) = credential.write(&self.scratch, "client");
        self.set("sslcert", &chain.display().to_string());
        self.set("sslkey", &key.display().to_string());
    }

    fn get(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// `name='value' …`, as libpq reads it.
    fn connection_string(&self) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        self.parameters
            .iter()
            .map(|(name, value)| format!("{name}='{}'", quoted(value)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn run(&self, mut command: Command) -> Finished {
        // Nothing of the person's own who runs the tests.
        for name in [
            "PGHOST",
            "PGPORT",
            "PGUSER",
            "PGPASSWORD",
            "PGDATABASE",
            "PGSERVICE",
            "PGSSLMODE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.scratch.path())
            .env("PGPASSFILE", "/dev/null");
        match &self.namespace {
            Some(name) => process::run(&crate::namespace::inside(name, &command), LIMIT),
            None => process::run(&command, LIMIT),
        }
    }
}

macro_rules! settings {
    ($driver:ident) => {
        impl $driver {
            /// A client of the endpoint `server_name`, which is reached at `to`; it trusts
            /// `authorities_pem` and checks the name.
            #[must_use]
            pub fn new(to: SocketAddr, server_name: &str, authorities_pem: &str) -> Self {
                Self(Target::new(to, server_name, authorities_pem))
            }

            /// Who signs in, how, and to which database.
            #[must_use]
            pub fn user(mut self, user: &str, password: &str, database: &str) -> Self {
                self.0.set("user", user);
                self.0.set("password", password);
                self.0.set("dbname", database);
                self
            }

            /// The certificate to show.
            #[must_use]
            pub fn credential(mut self, credential: &Credential) -> Self {
                self.0.show(credential);
                self
            }

            /// The network namespace to call from (needs root).
            #[must_use]
            pub fn inside(mut self, namespace: &Namespace) -> Self {
                self.0.namespace = Some(namespace.name().to_owned());
                self
            }
        }
    };
}

/// psql 15, on libpq 15.
#[derive(Debug)]
pub struct Psql(Target);
settings!(Psql);

impl Psql {
    /// A connection parameter of libpq: `("channel_binding", "require")`.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.0.set(name, value);
        self
    }

    /// Runs SQL; rows come back unaligned, fields parted by `|`.
    #[must_use]
    pub fn run(&self, sql: &str) -> Finished {
        let mut command = Command::new("psql");
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set",
            "ON_ERROR_STOP=1",
        ]);
        command
            .arg("--dbname")
            .arg(self.0.connection_string())
            .arg("--command")
            .arg(sql);
        self.0.run(command)
    }
}

/// psycopg 3, on the libpq 18 that it brings.
#[derive(Debug)]
pub struct Psycopg(Target);
settings!(Psycopg);

impl Psycopg {
    /// A connection parameter of libpq: `("sslnegotiation", "direct")`.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.0.set(name, value);
        self
    }

    /// Runs Python in which `psycopg` is imported and `conninfo` is the connection string.
    ///
    /// # Panics
    /// When `make setup` has not been run.
    #[must_use]
    pub fn run(&self, script: &str) -> Finished {
        let python = tools().join("venv/bin/python");
        assert!(python.exists(), "no {}: run `make setup`", python.display());
        let mut command = Command::new(python);
        command.arg("-c").arg(format!(
            "import os, psycopg\nconninfo = os.environ['CONNINFO']\n{script}"
        ));
        command.env("CONNINFO", self.0.connection_string());
        self.0.run(command)
    }

    /// Runs one statement and prints its rows, fields parted by `|`.
    #[must_use]
    pub fn query(&self, sql: &str) -> Finished {
        let script = format!(
            "with psycopg.connect(conninfo) as c:\n    for row in c.execute({sql:?}):\n        print('|'.join(map(str, row)))"
        );
        self.run(&script)
    }
}

/// node-postgres.
#[derive(Debug)]
pub struct NodePg(Target);
settings!(NodePg);

impl NodePg {
    /// Something more for node-postgres's configuration object: `("enableChannelBinding", "true")`.
    /// The value is JavaScript.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.0.set(&format!("js:{name}"), value);
        self
    }

    /// Runs JavaScript, in an async function, in which `Client` is node-postgres's and `config` its
    /// configuration.
    ///
    /// # Panics
    /// When `make setup` has not been run.
    #[must_use]
    pub fn run(&self, script: &str) -> Finished {
        let modules = tools().join("npm/node_modules");
        assert!(
            modules.join("pg").exists(),
            "no {}: run `make setup`",
            modules.display()
        );
        let more: String = self
            .0
            .parameters
            .iter()
            .filter_map(|(name, value)| Some(format!("{}: {value}, ", name.strip_prefix("js:")?)))
            .collect();
        let read = |name: &str| format!("require('fs').readFileSync({:?})", self.0.get(name));
        let certificate = match self.0.get("sslcert") {
            "" => String::new(),
            _ => format!("cert: {}, key: {}, ", read("sslcert"), read("sslkey")),
        };
        // An address for a host, and the name apart: node would otherwise look the name up.
        let config = format!(
            "{{ host: {:?}, port: {}, user: {:?}, password: {:?}, database: {:?}, connectionTimeoutMillis: 20000, {more} \
             ssl: {{ ca: {}, servername: {:?}, {certificate} checkServerIdentity: (_, leaf) => require('tls').checkServerIdentity({:?}, leaf) }} }}",
            self.0.to.ip().to_string(),
            self.0.to.port(),
            self.0.get("user"),
            self.0.get("password"),
            self.0.get("dbname"),
            read("sslrootcert"),
            self.0.server_name,
            self.0.server_name,
        );
        let whole = format!(
            "const {{ Client }} = require('pg'); const config = {config};\n(async () => {{ {script} }})()\
             .then(() => process.exit(0), e => {{ console.error(e.code + ': ' + e.message); process.exit(1) }})"
        );
        let mut command = Command::new("node");
        command.arg("-e").arg(whole).env("NODE_PATH", modules);
        self.0.run(command)
    }

    /// Runs one statement and prints its rows, fields parted by `|`.
    #[must_use]
    pub fn query(&self, sql: &str) -> Finished {
        let script = format!(
            "const c = new Client(config); await c.connect(); const r = await c.query({{ text: {sql:?}, rowMode: 'array' }}); \
             for (const row of r.rows) console.log(row.join('|')); await c.end()"
        );
        self.run(&script)
    }
}

//! What is said when everything is ready: a page for people, one line for programs.

use serde::Serialize;

use super::children::Child;
use super::home::Home;
use super::installation::Installation;
use super::node::{ADMIN_SOCKET, connection};
use super::tenants::Tenant;

/// Everything there is to say.
pub(super) struct Report<'a> {
    pub(super) home: &'a Home,
    pub(super) installation: &'a Installation,
    pub(super) nodes: &'a [Child],
    pub(super) postgres: &'a Child,
    pub(super) tenants: &'a [Tenant],
}

impl Report<'_> {
    /// One line of JSON. It holds the passwords: they are good for this run and nothing else.
    pub(super) fn json(&self) -> Result<String, String> {
        let Self {
            home,
            installation,
            nodes,
            postgres,
            tenants,
        } = self;
        let path = |name: &str| home.path(name).display().to_string();
        let nodes: Vec<Node> = home
            .nodes
            .iter()
            .zip(*nodes)
            .map(|(place, child)| Node {
                name: &place.name,
                listen: place.listen.to_string(),
                metrics: place.metrics.to_string(),
                mesh: place.mesh.to_string(),
                admin_socket: place.path(ADMIN_SOCKET).display().to_string(),
                config: place.path("node.toml").display().to_string(),
                log: child.log().display().to_string(),
                pid: child.pid(),
            })
            .collect();
        let Some(first) = nodes.first() else {
            return Err("no node".to_owned());
        };
        let endpoints = tenants
            .iter()
            .map(|tenant| Endpoint {
                tenant: tenant.id,
                endpoint: tenant.endpoint,
                name: &tenant.server_name,
                database: tenant.database,
                user: tenant.user,
                password: &tenant.password,
                reachable_from: tenant.allow.iter().map(|(prefix, _)| *prefix).collect(),
                connection: connection(home, &home.nodes, tenant),
            })
            .collect();
        let ready = Ready {
            version: env!("CARGO_PKG_VERSION"),
            listen: first.listen.clone(),
            ca_file: path("ca.pem"),
            password_file: path("pgpass"),
            admin_socket: first.admin_socket.clone(),
            metrics: first.metrics.clone(),
            policy_dir: path("policy"),
            directory: home.directory.display().to_string(),
            pids: Pids {
                dev: std::process::id(),
                node: first.pid,
                postgres: postgres.pid(),
            },
            logs: Logs {
                node: first.log.clone(),
                postgres: postgres.log().display().to_string(),
            },
            postgres: Database {
                address: home.postgres.to_string(),
                version: &installation.version,
            },
            psql: installation.psql.display().to_string(),
            endpoints,
            nodes,
        };
        serde_json::to_string(&ready).map_err(|error| error.to_string())
    }

    /// A page with lines to paste.
    pub(super) fn page(&self) -> String {
        let Self {
            home,
            installation,
            nodes,
            postgres,
            tenants,
        } = self;
        let program = std::env::current_exe()
            .map_or_else(|_| "portcullis".to_owned(), |it| it.display().to_string());
        let policy = home.path("policy");
        let policy = policy.display();
        let Some(first) = home.nodes.first() else {
            return String::new();
        };
        let listens: Vec<String> = home
            .nodes
            .iter()
            .map(|place| place.listen.to_string())
            .collect();
        let what = match listens.len() {
            1 => "a node".to_owned(),
            count => format!("a fleet of {count} nodes"),
        };
        let mut page = format!(
            "\nReady: {what} on {}, PostgreSQL {} behind it, two tenants.\n",
            listens.join(", "),
            installation.version
        );
        for tenant in *tenants {
            let prefixes: Vec<&str> = tenant.allow.iter().map(|(prefix, _)| *prefix).collect();
            page.push_str(&format!(
                "\n# {}/{}: whoever comes from {}\nPGPASSFILE={} {} \"{}\"\n",
                tenant.id,
                tenant.endpoint,
                prefixes.join(" or "),
                home.path("pgpass").display(),
                installation.psql.display(),
                connection(home, &home.nodes, tenant)
            ));
        }
        page.push_str(&format!(
            "
You come from 127.0.0.1: acme lets you in, globex does not. In another terminal:

export PORTCULLIS_SOCKET={}
{program} connections
# with the reference that psql showed:
{program} why PC-…
# after editing a file in there:
{program} plan {policy}
{program} apply {policy} --receipt

Metrics: http://{}/metrics
Logs:    {}
         {}
Ctrl-C ends everything.
",
            first.path(ADMIN_SOCKET).display(),
            first.metrics,
            nodes
                .iter()
                .map(|node| node.log().display().to_string())
                .collect::<Vec<_>>()
                .join("\n         "),
            postgres.log().display(),
        ));
        if home.nodes.len() > 1 {
            page.push_str(&format!(
                "\nThe fleet:  {program} fleet status\nKill one, and see it go on:  kill -9 {}\n",
                nodes.last().map_or(0, Child::pid)
            ));
        }
        page
    }
}

#[derive(Serialize)]
struct Ready<'a> {
    version: &'a str,
    listen: String,
    ca_file: String,
    password_file: String,
    admin_socket: String,
    metrics: String,
    policy_dir: String,
    directory: String,
    pids: Pids,
    logs: Logs,
    postgres: Database<'a>,
    psql: String,
    endpoints: Vec<Endpoint<'a>>,
    /// All of them; what stands above is of the first.
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    listen: String,
    metrics: String,
    mesh: String,
    admin_socket: String,
    config: String,
    log: String,
    pid: u32,
}

#[derive(Serialize)]
struct Pids {
    dev: u32,
    node: u32,
    postgres: u32,
}

#[derive(Serialize)]
struct Logs {
    node: String,
    postgres: String,
}

#[derive(Serialize)]
struct Database<'a> {
    address: String,
    version: &'a str,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    tenant: &'a str,
    endpoint: &'a str,
    name: &'a str,
    database: &'a str,
    user: &'a str,
    password: &'a str,
    reachable_from: Vec<&'a str>,
    /// For libpq, without the password.
    connection: String,
}

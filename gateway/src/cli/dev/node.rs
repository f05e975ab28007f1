//! The node: its configuration, its start, and when it really serves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::time::{sleep, timeout};

use super::children::{Child, Launch};
use super::home::{Home, make_private, write_private};
use super::identities::Identities;
use super::installation::Installation;
use super::janitor::Janitor;
use super::postgres::LOOK_EVERY;
use super::psql::{psql, run};
use super::tenants::{DATABASE_AUTHORITIES, Tenant};
use crate::api::types::StatusReply;
use crate::http::Method;
use crate::http::client::{AnswerLimits, Question, ask_unix};
use crate::http::limits::MAX_ADMIN_REPLY;
use crate::runtime::clock::Duration;

/// Starts `portcullis serve`, this very program, and waits until a client gets through.
pub(super) async fn start(
    home: &Home,
    installation: &Installation,
    janitor: &Janitor,
    identities: &Identities,
    tenants: &[Tenant],
) -> Result<Child, String> {
    write_files(home, identities, tenants)?;
    let command = vec![
        own_program()?.into(),
        "serve".into(),
        "--config".into(),
        home.path("node.toml").into(),
    ];
    let launch = Launch {
        name: "the node",
        command,
        log: home.path("node.log"),
        account: None,
    };
    let mut node = Child::start(launch, janitor).await?;
    let mut last = String::new();
    let outcome = tokio::select! {
        problem = node.ended() => return Err(problem),
        outcome = timeout(START_LIMIT, ready(home, installation, tenants, &mut last)) => outcome,
    };
    outcome.map_err(|_| {
        node.told(&format!(
            "the node does not serve after {} s: {last}",
            START_LIMIT.as_secs()
        ))
    })?;
    Ok(node)
}

/// The program that we are, even if it was replaced on disk since we started.
fn own_program() -> Result<PathBuf, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("our own program cannot be found: {error}"))?;
    if program.exists() {
        Ok(program)
    } else {
        Ok(format!("/proc/{}/exe", std::process::id()).into())
    }
}

/// How long the node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);

fn write_files(home: &Home, identities: &Identities, tenants: &[Tenant]) -> Result<(), String> {
    for folder in ["policy", "policy/ca"] {
        make_private(&home.path(folder), None)?;
    }
    let mut files = vec![
        ("ca.pem".to_owned(), identities.server_authority.clone()),
        ("server.pem".to_owned(), identities.server.chain_pem.clone()),
        ("server.key".to_owned(), identities.server.key_pem.clone()),
        (
            format!("policy/{DATABASE_AUTHORITIES}"),
            identities.database_authority.clone(),
        ),
        (
            "node.toml".to_owned(),
            configuration(home.listen, home.metrics, tenants),
        ),
        ("pgpass".to_owned(), passwords(home.listen, tenants)),
    ];
    for (tenant, issued) in tenants.iter().zip(&identities.database_clients) {
        files.push((
            format!("policy/{}.yaml", tenant.id),
            tenant.policy(home.postgres),
        ));
        files.push((
            format!("database-client-{}.pem", tenant.id),
            issued.chain_pem.clone(),
        ));
        files.push((
            format!("database-client-{}.key", tenant.id),
            issued.key_pem.clone(),
        ));
    }
    files
        .iter()
        .try_for_each(|(name, text)| write_private(&home.path(name), text, None))
}

/// `node.toml`; paths are relative to it.
fn configuration(listen: SocketAddr, metrics: SocketAddr, tenants: &[Tenant]) -> String {
    let clients: String = tenants
        .iter()
        .map(|Tenant { id, .. }| {
            format!(
                "\n[[database-client]]\ntenant = \"{id}\"\nchain = \"database-client-{id}.pem\"\nkey = \"database-client-{id}.key\"\n"
            )
        })
        .collect();
    format!(
        "\
name = \"dev\"
data = \"data\"
policy = \"policy\"

[admin]
socket = \"{ADMIN_SOCKET}\"

[metrics]
listen = \"{metrics}\"

[[listener]]
address = \"{listen}\"
origin = \"public\"

[[certificate]]
chain = \"server.pem\"
key = \"server.key\"
{clients}"
    )
}

/// The admin socket, in the directory.
pub(super) const ADMIN_SOCKET: &str = "admin.sock";

/// The clients' password file (libpq, "The Password File").
fn passwords(listen: SocketAddr, tenants: &[Tenant]) -> String {
    tenants
        .iter()
        .map(|it| {
            format!(
                "{}:{}:{}:{}:{}\n",
                it.server_name,
                listen.port(),
                it.database,
                it.user,
                it.password
            )
        })
        .collect()
}

/// Waits until the node has all tenants in force and lets the first one's client through to its
/// database. `last` is what is still missing, for the case that it stays so.
async fn ready(home: &Home, installation: &Installation, tenants: &[Tenant], last: &mut String) {
    loop {
        let outcome = match in_force(&home.path(ADMIN_SOCKET)).await {
            Ok(count) if count == tenants.len() => signs_in(home, installation, tenants).await,
            Ok(count) => Err(format!("of {} tenants {count} are in force", tenants.len())),
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(()) => return,
            Err(problem) => *last = problem,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How many tenants the node has in force.
async fn in_force(socket: &Path) -> Result<usize, String> {
    let question = Question {
        method: Method::Get,
        target: "/v1/status",
        body: Vec::new(),
    };
    let limits = AnswerLimits {
        bytes: MAX_ADMIN_REPLY,
        time: START_LIMIT,
    };
    let answer = ask_unix(socket, question, limits)
        .await
        .map_err(|error| format!("its admin socket: {error}"))?;
    let status: StatusReply = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("its admin socket: {error}"))?;
    Ok(status.tenants)
}

async fn signs_in(
    home: &Home,
    installation: &Installation,
    tenants: &[Tenant],
) -> Result<(), String> {
    let Some(tenant) = tenants.first() else {
        return Ok(());
    };
    let mut psql = psql(&installation.psql);
    psql.arg(connection(home, tenant))
        .env("PGPASSFILE", home.path("pgpass"));
    psql.env("PGCHANNELBINDING", "require")
        .env("PGCONNECT_TIMEOUT", "10");
    let said = run(psql, "select 1;\n")
        .await
        .map_err(|problem| format!("{}'s client: {problem}", tenant.id))?;
    if said.trim() == "1" {
        Ok(())
    } else {
        Err(format!("{}'s client was answered {said:?}", tenant.id))
    }
}

/// How a tenant's client connects: libpq's connection string, without the password.
pub(super) fn connection(home: &Home, tenant: &Tenant) -> String {
    format!(
        "host={} hostaddr={} port={} dbname={} user={} sslmode=verify-full sslrootcert={}",
        tenant.server_name,
        home.listen.ip(),
        home.listen.port(),
        tenant.database,
        tenant.user,
        home.path("ca.pem").display()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tenants::sample;
    use super::*;
    use crate::config::node::NodeConfig;

    #[test]
    fn the_node_file_is_understood() {
        let (listen, metrics) = (
            "127.0.0.1:20001".parse().unwrap(),
            "127.0.0.1:20002".parse().unwrap(),
        );
        let text = configuration(listen, metrics, &sample());
        let config =
            NodeConfig::parse(&text, Path::new("/tmp/portcullis-dev-x/node.toml")).unwrap();
        assert_eq!(
            config.admin.socket,
            Path::new("/tmp/portcullis-dev-x/admin.sock")
        );
        assert_eq!(config.metrics, Some(metrics));
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].address, listen);
        assert_eq!(config.database_clients.len(), 2);
    }

    #[test]
    fn the_password_file_has_a_line_for_each_tenant() {
        let [acme, globex] = sample();
        let text = passwords("127.0.0.1:20001".parse().unwrap(), &[acme.clone(), globex]);
        assert_eq!(text.lines().count(), 2);
        let line = format!(
            "acme-orders.dev.portcullis.test:20001:orders:acme_app:{}",
            acme.password
        );
        assert_eq!(text.lines().next(), Some(line.as_str()));
    }
}

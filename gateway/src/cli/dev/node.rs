//! The node: its configuration, its start, and when it really serves.

use std::path::{Path, PathBuf};

use tokio::time::{sleep, timeout};

use super::children::{Child, Launch};
use super::home::{Home, Place, make_private, write_private};
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

/// Writes what all nodes share: identities, the sample policy, the clients' passwords.
pub(super) fn prepare(
    home: &Home,
    identities: &Identities,
    tenants: &[Tenant],
) -> Result<(), String> {
    write_files(home, identities, tenants)
}

/// Starts `portcullis serve`, this very program, as the node at `place`.
pub(super) async fn start(home: &Home, place: &Place, janitor: &Janitor) -> Result<Child, String> {
    let command = vec![
        own_program()?.into(),
        "serve".into(),
        "--config".into(),
        place.path("node.toml").into(),
    ];
    let name = if home.nodes.len() == 1 {
        "the node".to_owned()
    } else {
        format!("node {}", place.name)
    };
    let launch = Launch {
        name,
        command,
        log: place.path("node.log"),
        account: None,
    };
    Child::start(launch, janitor).await
}

/// Waits until a node does as `wanted` says.
pub(super) async fn until<F>(node: &mut Child, mut wanted: impl FnMut() -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    let mut last = String::new();
    let waiting = async {
        loop {
            match wanted().await {
                Ok(()) => return,
                Err(problem) => last = problem,
            }
            sleep(LOOK_EVERY).await;
        }
    };
    let outcome = tokio::select! {
        problem = node.ended() => return Err(problem),
        outcome = timeout(START_LIMIT, waiting) => outcome,
    };
    outcome.map_err(|_| {
        node.told(&format!(
            "the node does not serve after {} s: {last}",
            START_LIMIT.as_secs()
        ))
    })
}

/// Whether the node answers on its admin socket.
pub(super) async fn answers(place: &Place) -> Result<(), String> {
    in_force(&place.path(ADMIN_SOCKET)).await.map(|_| ())
}

/// Whether the node has all tenants in force and lets the first one's client through.
pub(super) async fn serves(
    home: &Home,
    place: &Place,
    installation: &Installation,
    tenants: &[Tenant],
) -> Result<(), String> {
    let count = in_force(&place.path(ADMIN_SOCKET)).await?;
    if count != tenants.len() {
        return Err(format!("of {} tenants {count} are in force", tenants.len()));
    }
    signs_in(home, place, installation, tenants).await
}

/// The program that we are, even if it was replaced on disk since we started.
pub(super) fn own_program() -> Result<PathBuf, String> {
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
        ("pgpass".to_owned(), passwords(home, tenants)),
    ];
    let shared = if home.nodes.len() == 1 { "" } else { "../" };
    let written = home.nodes.iter().map(|place| {
        write_private(
            &place.path("node.toml"),
            &configuration(place, shared, tenants),
            None,
        )
    });
    written.collect::<Result<(), String>>()?;
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

/// `node.toml`; paths are relative to it, and what nodes share lies at `shared`.
fn configuration(place: &Place, shared: &str, tenants: &[Tenant]) -> String {
    let clients: String = tenants
        .iter()
        .map(|Tenant { id, .. }| {
            format!(
                "\n[[database-client]]\ntenant = \"{id}\"\nchain = \"{shared}database-client-{id}.pem\"\nkey = \"{shared}database-client-{id}.key\"\n"
            )
        })
        .collect();
    let Place {
        name,
        listen,
        metrics,
        mesh,
        ..
    } = place;
    // A node by itself applies its policy when it starts; a fleet is told by `apply`.
    let (policy, fleet) = if shared.is_empty() {
        ("policy = \"policy\"\n", String::new())
    } else {
        ("", format!("\n[fleet]\nlisten = \"{mesh}\"\n"))
    };
    format!(
        "\
name = \"{name}\"
data = \"data\"
{policy}
[admin]
socket = \"{ADMIN_SOCKET}\"

[metrics]
listen = \"{metrics}\"
{fleet}
[[listener]]
address = \"{listen}\"
origin = \"public\"

[[certificate]]
chain = \"{shared}server.pem\"
key = \"{shared}server.key\"
{clients}"
    )
}

/// The admin socket, in the directory.
pub(super) const ADMIN_SOCKET: &str = "admin.sock";

/// The clients' password file (libpq, "The Password File").
fn passwords(home: &Home, tenants: &[Tenant]) -> String {
    let line = |it: &Tenant, place: &Place| {
        format!(
            "{}:{}:{}:{}:{}\n",
            it.server_name,
            place.listen.port(),
            it.database,
            it.user,
            it.password
        )
    };
    let lines = tenants
        .iter()
        .flat_map(|it| home.nodes.iter().map(move |place| line(it, place)));
    lines.collect()
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
    place: &Place,
    installation: &Installation,
    tenants: &[Tenant],
) -> Result<(), String> {
    let Some(tenant) = tenants.first() else {
        return Ok(());
    };
    let mut psql = psql(&installation.psql);
    psql.arg(connection(home, std::slice::from_ref(place), tenant))
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

/// How a tenant's client connects: libpq's connection string, without the password. With several
/// places it takes the first that answers.
pub(super) fn connection(home: &Home, places: &[Place], tenant: &Tenant) -> String {
    let list =
        |word: &dyn Fn(&Place) -> String| places.iter().map(word).collect::<Vec<_>>().join(",");
    format!(
        "host={} hostaddr={} port={} dbname={} user={} sslmode=verify-full sslrootcert={}",
        list(&|_| tenant.server_name.clone()),
        list(&|place| place.listen.ip().to_string()),
        list(&|place| place.listen.port().to_string()),
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

    fn place(name: &str, port: u16) -> Place {
        let address = |port| ([127, 0, 0, 1], port).into();
        Place {
            name: name.to_owned(),
            folder: Path::new("/tmp/portcullis-dev-x").join(name),
            listen: address(port),
            metrics: address(port + 1),
            mesh: address(port + 2),
        }
    }

    fn home(nodes: Vec<Place>) -> Home {
        Home {
            directory: "/tmp/portcullis-dev-x".into(),
            nodes,
            postgres: ([127, 0, 0, 1], 20_000).into(),
        }
    }

    #[test]
    fn the_file_of_a_node_by_itself_is_understood() {
        let place = place("n1", 20_001);
        let text = configuration(&place, "", &sample());
        let config = NodeConfig::parse(&text, &place.path("node.toml")).unwrap();
        assert_eq!(config.admin.socket, place.path("admin.sock"));
        assert_eq!(config.metrics, Some(place.metrics));
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].address, place.listen);
        assert_eq!(config.database_clients.len(), 2);
        assert_eq!(config.fleet, None);
        assert!(config.policy.is_some());
    }

    #[test]
    fn the_file_of_a_node_of_a_fleet_is_understood() {
        let place = place("n2", 20_001);
        let text = configuration(&place, "../", &sample());
        let config = NodeConfig::parse(&text, &place.path("node.toml")).unwrap();
        assert_eq!(config.fleet.unwrap().listen, Some(place.mesh));
        assert_eq!(config.policy, None);
    }

    #[test]
    fn the_password_file_has_a_line_for_each_tenant_at_each_node() {
        let [acme, globex] = sample();
        let home = home(vec![place("n1", 20_001), place("n2", 20_011)]);
        let text = passwords(&home, &[acme.clone(), globex]);
        assert_eq!(text.lines().count(), 4);
        let line = format!(
            "acme-orders.dev.portcullis.test:20001:orders:acme_app:{}",
            acme.password
        );
        assert_eq!(text.lines().next(), Some(line.as_str()));
    }
}

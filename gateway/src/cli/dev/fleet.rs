//! What runs: PostgreSQL, then the node before it, or a whole fleet of them.

use std::ffi::OsStr;
use std::path::Path;

use tokio::process::Command;

use super::children::Child;
use super::home::{Home, Place, write_private};
use super::identities::Identities;
use super::installation::Installation;
use super::janitor::Janitor;
use super::node::{self, ADMIN_SOCKET};
use super::psql::run;
use super::report::Report;
use super::tenants::{self, Tenant};
use super::{complain, postgres};

/// Everything, running and ready.
pub(super) struct Fleet {
    // Dropped in this order: nodes are let go before what they need.
    nodes: Vec<Child>,
    postgres: Child,
    tenants: [Tenant; 2],
}

impl Fleet {
    /// Starts everything and waits until a client gets through. May be dropped half-way.
    pub(super) async fn start(
        home: &Home,
        installation: &Installation,
        janitor: &Janitor,
    ) -> Result<Self, String> {
        let tenants = tenants::sample();
        let identities = Identities::draw(&tenants).map_err(|error| error.to_string())?;
        let postgres = postgres::start(home, installation, janitor, &identities, &tenants).await?;
        node::prepare(home, &identities, &tenants)?;
        let mut nodes = Vec::new();
        for place in &home.nodes {
            if let Some(first) = home.nodes.first().filter(|_| home.nodes.len() > 1) {
                become_node(home, first, place).await?;
            }
            let mut child = node::start(home, place, janitor).await?;
            node::until(&mut child, || node::answers(place)).await?;
            nodes.push(child);
        }
        if let Some(first) = home.nodes.first().filter(|_| home.nodes.len() > 1) {
            let policy = home.path("policy");
            let socket = first.path(ADMIN_SOCKET);
            portcullis([
                OsStr::new("apply"),
                policy.as_os_str(),
                OsStr::new("--receipt"),
                OsStr::new("--socket"),
                socket.as_os_str(),
            ])
            .await?;
        }
        for (place, child) in home.nodes.iter().zip(&mut nodes) {
            node::until(child, || node::serves(home, place, installation, &tenants)).await?;
        }
        Ok(Self {
            nodes,
            postgres,
            tenants,
        })
    }

    /// Waits until what cannot go on ends by itself; what to say about it. One node of several
    /// may end: that is what a fleet is for, and it is said.
    pub(super) async fn ended(&mut self, home: &Home) -> String {
        loop {
            let alone = self.nodes.len() == 1;
            let (postgres, nodes) = (&mut self.postgres, &mut self.nodes);
            let ends = nodes.iter_mut().map(|node| Box::pin(node.ended()));
            let (problem, index, _) = tokio::select! {
                problem = postgres.ended() => return problem,
                ended = futures_util::future::select_all(ends) => ended,
            };
            if alone {
                return problem;
            }
            self.nodes.remove(index);
            let folder = home.directory.display();
            complain(&format!(
                "{}\nto start it again: portcullis serve --config {folder}/NODE/node.toml",
                problem.split(';').next().unwrap_or_default()
            ));
        }
    }

    /// Ends the nodes, then PostgreSQL.
    pub(super) async fn stop(self) {
        futures_util::future::join_all(self.nodes.into_iter().map(Child::stop)).await;
        self.postgres.stop().await;
    }

    /// Where everything is.
    pub(super) fn report<'a>(
        &'a self,
        home: &'a Home,
        installation: &'a Installation,
    ) -> Report<'a> {
        Report {
            home,
            installation,
            nodes: &self.nodes,
            postgres: &self.postgres,
            tenants: &self.tenants,
        }
    }
}

/// Makes `place` a node of the fleet: the first one founds it, the others join by a token.
async fn become_node(home: &Home, first: &Place, place: &Place) -> Result<(), String> {
    let config = place.path("node.toml");
    if place.name == first.name {
        let key = home.path("recovery.key");
        return portcullis([
            OsStr::new("init"),
            OsStr::new("--config"),
            config.as_os_str(),
            OsStr::new("--recovery-key"),
            key.as_os_str(),
        ])
        .await
        .map(drop);
    }
    let socket = first.path(ADMIN_SOCKET);
    let token = portcullis([
        OsStr::new("fleet"),
        OsStr::new("invite"),
        OsStr::new(&place.name),
        OsStr::new("--socket"),
        socket.as_os_str(),
    ])
    .await?;
    let file = place.path("token");
    write_private(&file, &token, None)?;
    portcullis([
        OsStr::new("join"),
        OsStr::new("--config"),
        config.as_os_str(),
        OsStr::new("--token"),
        file.as_os_str(),
    ])
    .await?;
    remove(&file)
}

fn remove(path: &Path) -> Result<(), String> {
    std::fs::remove_file(path).map_err(|error| format!("cannot remove {}: {error}", path.display()))
}

/// Runs this very program with these arguments to its end; what it printed.
async fn portcullis<const N: usize>(arguments: [&OsStr; N]) -> Result<String, String> {
    let mut command = Command::new(node::own_program()?);
    command.args(arguments).current_dir("/").kill_on_drop(true);
    let what = arguments.first().map(|word| word.to_string_lossy());
    run(command, "")
        .await
        .map_err(|problem| format!("portcullis {}: {problem}", what.unwrap_or_default()))
}

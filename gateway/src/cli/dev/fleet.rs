//! What runs: PostgreSQL, then the node before it.

use super::children::Child;
use super::home::Home;
use super::identities::Identities;
use super::installation::Installation;
use super::janitor::Janitor;
use super::report::Report;
use super::tenants::{self, Tenant};
use super::{node, postgres};

/// Both children, running and ready.
pub(super) struct Fleet {
    // Dropped in this order: the node is let go before what it needs.
    node: Child,
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
        let node = node::start(home, installation, janitor, &identities, &tenants).await?;
        Ok(Self {
            node,
            postgres,
            tenants,
        })
    }

    /// Waits until a child ends by itself; what to say about it.
    pub(super) async fn ended(&mut self) -> String {
        tokio::select! {
            problem = self.node.ended() => problem,
            problem = self.postgres.ended() => problem,
        }
    }

    /// Ends the node, then PostgreSQL.
    pub(super) async fn stop(self) {
        self.node.stop().await;
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
            node: &self.node,
            postgres: &self.postgres,
            tenants: &self.tenants,
        }
    }
}

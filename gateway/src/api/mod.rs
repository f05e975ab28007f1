//! The admin API: what a node can be told and asked, over its Unix socket and, on control nodes that
//! are told to, over TLS.
//!
//! [`Node`] holds the rooms that answers are made of; [`serve`] puts them on the socket, for
//! callers whom the kernel names and [`people`] recognises, [`serve_tls`] on a network address, for
//! operators whom a certificate names and the state knows. [`Who`] asks `portcullis-policy`'s table
//! what each may; a command's author goes into the log, where the state asks again. [`policy`] is also what a signal
//! calls. [`types`] are the words of the wire, which the command line reads too. Metrics and
//! health have a listener of their own ([`metrics`]).
//!
//! Deliberately absent: any decision: what an answer says
//! was decided by `portcullis-policy`, what an apply does is done by the proxy.

pub mod certificates;
mod changeset;
mod cluster;
mod describe;
mod evidence;
mod fleet;
pub mod fleet_types;
pub mod keeping;
mod limit_table;
pub mod limits;
pub mod metrics;
pub mod operator_types;
mod operators;
pub mod people;
pub mod policy;
mod policy_events;
mod questions;
mod refusal;
pub mod revocations;
mod routes;
pub mod types;
mod who;

use std::sync::Arc;

use portcullis_policy::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::config::node::NodeConfig;
use crate::database::Upstreams;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::proxy::Front;

pub use evidence::Readers;
pub use refusal::Refusal;
pub use routes::{serve, serve_tls};
pub use who::Who;

/// One node, as the API sees it: the rooms that answers are made of. `cli/serve.rs` builds it.
#[derive(Debug)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// Its configuration.
    pub config: Arc<NodeConfig>,
    /// Its place among other nodes: what was decided, and who enforces it.
    pub fleet: Arc<Fleet>,
    /// What carries customers' traffic.
    pub front: Arc<Front>,
    /// The way to every cluster.
    pub upstreams: Arc<Upstreams>,
    /// Where evidence goes.
    pub ledger: Arc<Ledger>,
    /// When the node started.
    pub since: Timestamp,
    /// Work that goes on when whoever asked for it has gone: an apply, to its end.
    pub tasks: TaskTracker,
    /// Whose turn it is.
    pub turns: Turns,
    /// Who reads the audit logs.
    pub readers: Readers,
}

/// Turns: applies one by one, plans a few at a time.
#[derive(Debug)]
pub struct Turns {
    applies: Arc<Semaphore>,
    plans: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            applies: Arc::new(Semaphore::new(1)),
            plans: Arc::new(Semaphore::new(limits::PLANS)),
        }
    }
}

#[cfg(test)]
mod tests;

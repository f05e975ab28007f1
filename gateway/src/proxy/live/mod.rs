//! Every connection that was let in, from its permit to its last byte.
//!
//! The registry is indexed by endpoint, door and address, so that a change of policy looks only
//! at what it can affect. A connection is registered before it authenticates; a withdrawal
//! therefore also finds those that are still on their way in.
//!
//! Deliberately absent: the decision itself. Connections are decided again by the very function
//! that let them in.

mod claims;
mod enforce;
mod handle;
mod registry;

use serde::{Deserialize, Serialize};

pub(super) use claims::{Claim, Claims, Full};
pub(super) use enforce::Receipt;
pub(super) use handle::{Arrival, Facts, Lapse, LiveHandle};
pub(super) use registry::{ENDPOINT_REDIRECTED, Live, LiveGuard};

/// A live connection as the operator sees it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LiveConnection {
    /// The attempt's reference.
    pub reference: String,
    /// The tenant whose endpoint it reached.
    pub tenant: String,
    /// The endpoint within the tenant.
    pub endpoint: String,
    /// The door it came through, as policy writes it.
    pub origin: String,
    /// The client's address as we established it.
    pub address: String,
    /// The client's port.
    pub port: u16,
    /// The role asked for.
    pub user: String,
    /// The database asked for.
    pub database: String,
    /// The allow-list entry that admits it.
    pub entry: String,
    /// When it was admitted, Unix milliseconds.
    pub since_ms: i64,
    /// The revision at which it was last decided.
    pub revision: u64,
    /// `opening` until the database said it is ready, `open` afterwards.
    pub state: String,
    /// Plaintext bytes from the client so far.
    pub bytes_in: u64,
    /// Plaintext bytes to the client so far.
    pub bytes_out: u64,
}

/// What enforcing a change did on this node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Enforcement {
    /// The revision in force.
    pub revision: u64,
    /// How many live connections the change could affect and were decided again.
    pub decided_again: usize,
    /// Those that lapsed.
    pub closed: Vec<ClosedConnection>,
    /// Lapsed connections that were not seen closed within the limit.
    pub unfinished: usize,
}

/// A connection that lapsed and was closed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ClosedConnection {
    /// The connection as it stood.
    pub connection: LiveConnection,
    /// The denial's code.
    pub code: String,
    /// From the change to the moment from which no byte passes, milliseconds.
    pub after_ms: f64,
    /// Whether the client stood at a message boundary and was told why.
    pub told: bool,
    /// What became of the backend's work: `gone`, `terminated`, `still_there`, `unseen` (nobody
    /// could look), `unconfirmed` (not within the limit), or `none` where there was no backend.
    pub backend: String,
    /// From the change to the moment the backend was seen gone, milliseconds.
    pub backend_after_ms: f64,
}

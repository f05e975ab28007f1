//! How a state is opened, and what lies on the disk before it is.

use crate::OpenError;
use crate::logs::{Leaves, Logs, NoLeaves};
use crate::network::{BoxFuture, Transport, TransportError};
use crate::tables::{self, Beginning};
use crate::timing::Timing;
use crate::whole::Whole;
use portcullis_audit::personal::Salt;
use portcullis_policy::{NodeId, State};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a state is opened.
#[derive(Clone)]
pub struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) beginning: Beginning,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) timing: Timing,
    pub(crate) clock: fn() -> Duration,
    pub(crate) leaves: Arc<dyn Leaves>,
    pub(crate) salts: Option<fn() -> Salt>,
}

/// The state's file in a node's data directory.
pub(crate) const FILE: &str = "state.redb";

impl Settings {
    /// For a node that is a fleet by itself, in the data directory `data`.
    #[must_use]
    pub fn alone(data: &Path) -> Self {
        Self {
            path: data.join(FILE),
            node: NodeId::FIRST,
            beginning: Beginning::Alone,
            transport: Arc::new(Nobody),
            timing: Timing::default(),
            clock: || Duration::ZERO,
            leaves: Arc::new(NoLeaves),
            salts: None,
        }
    }

    /// For a node of a fleet, whose state is there already.
    #[must_use]
    pub fn in_fleet(data: &Path, node: NodeId, transport: Arc<dyn Transport>) -> Self {
        Self {
            path: data.join(FILE),
            node,
            beginning: Beginning::Never,
            transport,
            timing: Timing::default(),
            clock: || Duration::ZERO,
            leaves: Arc::new(NoLeaves),
            salts: None,
        }
    }

    /// For a state that this process had open already.
    pub(crate) fn again(mut self) -> Self {
        self.beginning = Beginning::Never;
        self
    }

    /// With a clock that goes on steadily, from any beginning, by which the disk's writes are
    /// measured; without one they are not.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> Duration) -> Self {
        self.clock = clock;
        self
    }

    /// With somebody who keeps the leaves of the audit logs.
    #[must_use]
    pub fn with_leaves(mut self, leaves: Arc<dyn Leaves>) -> Self {
        self.leaves = leaves;
        self
    }

    /// With what draws salts: what the audit logs say about persons is then a commitment, and the
    /// leaves come with what opens it. Without, it is there for everybody to read.
    #[must_use]
    pub fn with_salts(mut self, salts: fn() -> Salt) -> Self {
        self.salts = Some(salts);
        self
    }

    /// With other times.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }
}

/// Makes an empty state for a node that has been admitted and waits for the leader. One that is
/// there, and is this node's, is left as it is.
///
/// # Errors
/// [`OpenError`]
pub fn await_leader(data: &Path, node: NodeId) -> Result<(), OpenError> {
    tables::open(&data.join(FILE), node, Beginning::Joining).map(drop)
}

/// Makes `node` the only voter of a state and of audit logs, in the place of whatever was there: what
/// they do not hold is gone. The old file is replaced in one step.
///
/// # Errors
/// [`OpenError`]
pub fn begin_alone(data: &Path, node: NodeId, state: &State, logs: &Logs) -> Result<(), OpenError> {
    let whole = Whole {
        state: state.clone(),
        logs: logs.clone(),
    };
    tables::begin_again(&data.join(FILE), node, &whole)
}

/// A node that is a fleet by itself calls nobody.
struct Nobody;

impl Transport for Nobody {
    fn call(
        &self,
        _to: NodeId,
        _request: Vec<u8>,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let nobody = TransportError::new("this node is a fleet by itself");
        Box::pin(std::future::ready(Err(nobody)))
    }
}

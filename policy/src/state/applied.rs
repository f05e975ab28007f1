//! What a command did.

use super::change::Change;
use crate::fleet_id::{Digest, NodeId, PendingId};
use crate::id::{Revision, TenantId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// The revision that now holds: the old one when nothing differed. Of a repeated request: the one that held after it
    /// was executed.
    pub revision: Revision,
    /// The moment of the command: never before that of an earlier one.
    pub at: Timestamp,
    /// The tenants that differ from before, by id: put, or removed.
    pub tenants: Vec<TenantId>,
    /// The endpoints that differ from before, by tenant and id.
    pub changes: Vec<Change>,
    /// Whether the request was executed earlier, and nothing was done now.
    pub repeated: bool,
    /// Whether the fleet's part of the view differs from before: nodes, epoch.
    pub fleet_changed: bool,
    /// What the author needs to know besides.
    pub told: Told,
}

/// What the author of a command needs to know besides the revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Nothing.
    Done,
    /// The node is of the fleet, under this id.
    Admitted(NodeId),
    /// So many pieces are there.
    Staged {
        /// How many.
        present: u32,
        /// Of how many.
        of: u32,
    },
    /// Nothing was executed yet: a second person must approve.
    Pending {
        /// By which it is known.
        pending: PendingId,
        /// What the second person must have looked at.
        digest: Digest,
        /// From this moment on it can no longer be approved.
        expires: Timestamp,
    },
    /// The author's events are in the audit logs up to its record of this sequence.
    Recorded(u64),
}

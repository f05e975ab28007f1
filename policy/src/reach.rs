//! Who can reach an endpoint, as exact sets of addresses; and what differs between two policies.

use crate::id::{EndpointId, TenantId};
use crate::network::AddressSet;
use crate::origin::Origin;
use crate::state::{Change, View, open_doors};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Who can reach an endpoint of a tenant at a moment (not for replication, which is a matter of the endpoint alone). `None`
/// when there is no such endpoint.
#[must_use]
pub fn reach(
    view: &View,
    tenant: &TenantId,
    endpoint: &EndpointId,
    at: Timestamp,
) -> Option<Reach> {
    let place = view.endpoint(tenant, endpoint)?;
    let sets = open_doors(Some(place))
        .into_iter()
        .map(|(door, list)| (door.clone(), list.live(at)))
        .filter(|(_, set)| !set.is_empty());
    Some(Reach(sets.collect()))
}

/// The addresses that are admitted, by door; doors that admit nobody are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reach(pub BTreeMap<Origin, AddressSet>);

/// One line for each door: `public: 256 IPv4 addresses: 203.0.113.0/24`; or `nobody`.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "nobody");
        }
        for (door, set) in &self.0 {
            writeln!(f, "{door}: {}: {set}", set.count())?;
        }
        Ok(())
    }
}

/// What differs in reachability from one view to another at a moment, endpoint by endpoint: exact, not sampled. What the
/// views share costs nothing.
#[must_use]
pub fn difference(old: &View, new: &View, at: Timestamp) -> ReachDifference {
    let mut changes = crate::state::difference(old, new, at);
    changes.retain(Change::matters);
    ReachDifference { changes }
}

/// The changes between two views that matter to anybody who connects, by tenant and endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReachDifference {
    /// See [`Change::matters`].
    pub changes: Vec<Change>,
}

impl ReachDifference {
    /// Whether nobody would notice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// For each endpoint a line with the manner of its change, and below it for each door what is newly admitted (`+`), newly
/// shut (`-`) and admitted until another moment (`~`).
impl fmt::Display for ReachDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no difference");
        }
        for change in &self.changes {
            fmt::Display::fmt(change, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}/{} {}", self.tenant, self.endpoint, self.kind)?;
        for (sign, sets) in [("+", &self.opened), ("-", &self.shut), ("~", &self.retimed)] {
            for (door, set) in sets {
                writeln!(f, "  {sign} {door}: {}: {set}", set.count())?;
            }
        }
        Ok(())
    }
}

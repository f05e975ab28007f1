//! Sets, changes and events in the API's own types.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{AddressSet, Applied, Change, Origin, TenantId, View};
use serde_json::{Value, json};

use super::limits::{MAX_EVENT_ENDPOINTS, MAX_EVENT_PREFIXES, MAX_PREFIXES};
use super::types::{Addresses, Difference, DoorDifference, EndpointDifference, Prefix, Warning};

/// What a command did, or would do, to `old`: tenants, and the exact difference in reachability.
/// `kept` are the tenants that nobody wrote a file for and that stay.
#[must_use]
pub(super) fn difference(
    old: &View,
    new: &View,
    applied: &Applied,
    kept: &[TenantId],
) -> Difference {
    let mut difference = Difference {
        left_alone: kept.iter().map(ToString::to_string).collect(),
        reachability: applied
            .changes
            .iter()
            .filter_map(|change| endpoint(change, MAX_PREFIXES))
            .collect(),
        ..Difference::default()
    };
    for tenant in &applied.tenants {
        let list = match (old.tenant(tenant), new.tenant(tenant)) {
            (None, _) => &mut difference.added,
            (Some(_), Some(_)) => &mut difference.altered,
            (Some(_), None) => &mut difference.removed,
        };
        list.push(tenant.to_string());
    }
    difference
}

/// The same for an audit event: short enough to be kept whole, the rest counted.
#[must_use]
pub(super) fn difference_for_event(applied: &Applied) -> Value {
    let mut endpoints: Vec<Value> = Vec::new();
    let mut more = 0_usize;
    for change in applied
        .changes
        .iter()
        .filter_map(|change| endpoint(change, MAX_EVENT_PREFIXES))
    {
        if endpoints.len() < MAX_EVENT_ENDPOINTS {
            endpoints.push(json!(change));
        } else {
            more = more.saturating_add(1);
        }
    }
    json!({ "endpoints": endpoints, "more": more })
}

/// How an endpoint differs; none if only words do.
fn endpoint(change: &Change, at_most: usize) -> Option<EndpointDifference> {
    let sets = [&change.opened, &change.shut, &change.retimed];
    let doors: BTreeSet<&Origin> = sets.into_iter().flat_map(BTreeMap::keys).collect();
    let doors = doors
        .into_iter()
        .map(|door| DoorDifference {
            door: door.to_string(),
            admitted: set_of(&change.opened, door, at_most),
            shut: set_of(&change.shut, door, at_most),
            retimed: set_of(&change.retimed, door, at_most),
        })
        .collect();
    change.matters().then(|| EndpointDifference {
        tenant: change.tenant.to_string(),
        endpoint: change.endpoint.to_string(),
        kind: change.kind.to_string(),
        doors,
    })
}

fn set_of(sets: &BTreeMap<Origin, AddressSet>, door: &Origin, at_most: usize) -> Option<Addresses> {
    sets.get(door).map(|set| addresses(set, at_most))
}

/// A set as its smallest list of prefixes, at most so many of them.
#[must_use]
pub(super) fn addresses(set: &AddressSet, at_most: usize) -> Addresses {
    let mut prefixes = set.prefixes();
    let listed = prefixes.by_ref().take(at_most);
    let listed = listed
        .map(|prefix| Prefix {
            count: AddressSet::of([prefix]).count().total().to_string(),
            prefix: prefix.to_string(),
        })
        .collect();
    Addresses {
        count: set.count().total().to_string(),
        prefixes: listed,
        more: prefixes.count(),
    }
}

/// A reviewer's warning.
#[must_use]
pub(super) fn warning(tenant: &TenantId, warning: &portcullis_policy::Warning) -> Warning {
    Warning {
        tenant: tenant.to_string(),
        at: warning.at.to_string(),
        message: warning.caution.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> AddressSet {
        AddressSet::of(prefixes.iter().map(|prefix| prefix.parse().unwrap()))
    }

    #[test]
    fn a_set_is_listed_up_to_a_limit_and_counted_beyond() {
        let set = set(&["203.0.113.0/24", "198.51.100.7", "2001:db8::/64"]);
        let all = addresses(&set, 3);
        let listed: Vec<_> = all
            .prefixes
            .iter()
            .map(|prefix| (&*prefix.prefix, &*prefix.count))
            .collect();
        assert_eq!(
            listed,
            [
                ("198.51.100.7/32", "1"),
                ("203.0.113.0/24", "256"),
                ("2001:db8::/64", "18446744073709551616")
            ]
        );
        assert_eq!((all.more, &*all.count), (0, "18446744073709551873"));
        let cut = addresses(&set, 1);
        assert_eq!((cut.prefixes.len(), cut.more), (1, 2));
        assert_eq!(cut.count, all.count);
    }
}

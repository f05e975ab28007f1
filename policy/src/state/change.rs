//! What differs between two views for each endpoint, and which live connections that can touch.

use super::view::{EndpointView, TenantView, View};
use crate::id::{EndpointId, TenantId};
use crate::network::{Address, AddressSet, AllowList};
use crate::origin::Origin;
use crate::tenant::{Authentication, Replication};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What differs for one endpoint at one moment. Doors without a difference are left out of the maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The endpoint's tenant.
    pub tenant: TenantId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// In what manner it changed.
    pub kind: ChangeKind,
    /// Addresses that are admitted now and were not.
    pub opened: BTreeMap<Origin, AddressSet>,
    /// Addresses that were admitted and no longer are.
    pub shut: BTreeMap<Origin, AddressSet>,
    /// Addresses that are still admitted, but until another moment than before: a live connection must learn it.
    pub retimed: BTreeMap<Origin, AddressSet>,
}

/// In what manner an endpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// Who may reach it differs, or only words do.
    Altered,
    /// What every connection to it stands on differs, whatever its address: the cluster behind it, a name taken away, the
    /// authentication, replication refused, the tenant or the endpoint suspended.
    Redirected,
    /// Who may reach it is the same, and certificates that it took no longer count.
    Revoked,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Altered => "altered",
            Self::Redirected => "redirected",
            Self::Revoked => "revoked",
        })
    }
}

/// The live connections that a change can touch, for looking them up in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected<'a> {
    /// None of the endpoint's.
    Nobody,
    /// All of the endpoint's.
    Everybody,
    /// Those of the endpoint's that came through this door from these addresses. Ranges of one door may overlap.
    Within(Vec<(&'a Origin, RangeInclusive<Address>)>),
}

impl Change {
    /// Whether a live connection to this endpoint must be decided again. That is not to say that it lapses.
    #[must_use]
    pub fn affects(&self, origin: &Origin, address: Address) -> bool {
        let listed = |sets: &BTreeMap<Origin, AddressSet>| {
            sets.get(origin).is_some_and(|set| set.contains(address))
        };
        match self.kind {
            ChangeKind::Removed | ChangeKind::Redirected | ChangeKind::Revoked => true,
            ChangeKind::Added | ChangeKind::Altered => listed(&self.shut) || listed(&self.retimed),
        }
    }

    /// The same question asked of all connections at once.
    #[must_use]
    pub fn affected(&self) -> Affected<'_> {
        match self.kind {
            ChangeKind::Removed | ChangeKind::Redirected | ChangeKind::Revoked => {
                return Affected::Everybody;
            }
            ChangeKind::Added | ChangeKind::Altered => {}
        }
        let sets = self.shut.iter().chain(&self.retimed);
        let ranges: Vec<_> = sets
            .flat_map(|(door, set)| set.ranges().map(move |range| (door, range)))
            .collect();
        match ranges.is_empty() {
            true => Affected::Nobody,
            false => Affected::Within(ranges),
        }
    }

    /// Whether it is a difference to anybody who connects, and not in words alone.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.kind != ChangeKind::Altered
            || !(self.opened.is_empty() && self.shut.is_empty() && self.retimed.is_empty())
    }
}

/// The changes from one view to another at a moment, by tenant and endpoint. What the views share is not looked at.
pub(crate) fn difference(old: &View, new: &View, at: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    let ids: BTreeSet<&TenantId> = old.tenants.keys().chain(new.tenants.keys()).collect();
    for id in ids {
        changes_of_tenant(old.tenant(id), new.tenant(id), at, &mut changes);
    }
    changes
}

pub(super) fn changes_of_tenant(
    old: Option<&Arc<TenantView>>,
    new: Option<&Arc<TenantView>>,
    at: Timestamp,
    changes: &mut Vec<Change>,
) {
    if let (Some(old), Some(new)) = (old, new)
        && Arc::ptr_eq(old, new)
    {
        return;
    }
    let none = BTreeMap::new();
    let before = old.map_or(&none, |tenant| &tenant.endpoints);
    let after = new.map_or(&none, |tenant| &tenant.endpoints);
    let ids: BTreeSet<&EndpointId> = before.keys().chain(after.keys()).collect();
    for id in ids {
        changes.extend(change_of_endpoint(before.get(id), after.get(id), at));
    }
}

fn change_of_endpoint(
    old: Option<&Arc<EndpointView>>,
    new: Option<&Arc<EndpointView>>,
    at: Timestamp,
) -> Option<Change> {
    let (any, kind) = match (old, new) {
        (None, None) => return None,
        (Some(old), Some(new)) if same_document(old, new) => return None,
        (Some(old), Some(new)) => (new, kind(old, new)),
        (Some(old), None) => (old, ChangeKind::Removed),
        (None, Some(new)) => (new, ChangeKind::Added),
    };
    let mut change = Change {
        tenant: any.tenant().clone(),
        endpoint: any.id().clone(),
        kind,
        opened: BTreeMap::new(),
        shut: BTreeMap::new(),
        retimed: BTreeMap::new(),
    };
    let (before, after) = (open_doors(old), open_doors(new));
    let doors: BTreeSet<&Origin> = before.keys().chain(after.keys()).copied().collect();
    for door in doors {
        let (before, after) = (before.get(door).copied(), after.get(door).copied());
        let [opened, shut, retimed] = AllowList::compare(before, after, at);
        let sets = [
            (&mut change.opened, opened),
            (&mut change.shut, shut),
            (&mut change.retimed, retimed),
        ];
        for (map, set) in sets {
            if !set.is_empty() {
                map.insert(door.clone(), set);
            }
        }
    }
    Some(change)
}

/// Whether nothing that a decision about the endpoint looks at differs. (The tenant's limits do not count: no connection
/// lapses by them.)
fn same_document(old: &Arc<EndpointView>, new: &Arc<EndpointView>) -> bool {
    Arc::ptr_eq(old, new)
        || (old.tenant_is_suspended() == new.tenant_is_suspended()
            && old.endpoint() == new.endpoint()
            && old.cluster() == new.cluster()
            && (old.revokes_as(new) || !asks_for_certificates(new)))
}

fn kind(old: &EndpointView, new: &EndpointView) -> ChangeKind {
    let (before, after) = (old.endpoint(), new.endpoint());
    let suspended = !is_suspended(old) && is_suspended(new);
    let elsewhere = old.cluster_id() != new.cluster_id() || old.cluster() != new.cluster();
    let name_taken = before.names.iter().any(|name| !after.names.contains(name));
    let other_proof = before.authentication != after.authentication;
    let replication_refused =
        before.replication == Replication::Allowed && after.replication == Replication::Refused;
    match suspended || elsewhere || name_taken || other_proof || replication_refused {
        true => ChangeKind::Redirected,
        false if asks_for_certificates(new) && new.revokes_more_than(old) => ChangeKind::Revoked,
        false => ChangeKind::Altered,
    }
}

fn asks_for_certificates(view: &EndpointView) -> bool {
    matches!(
        view.endpoint().authentication,
        Authentication::Certificate { .. }
    )
}

fn is_suspended(view: &EndpointView) -> bool {
    view.tenant_is_suspended() || view.endpoint().suspended
}

/// The doors through which anybody could come at all, and their lists.
pub(crate) fn open_doors(view: Option<&Arc<EndpointView>>) -> BTreeMap<&Origin, &AllowList> {
    let open = view.filter(|view| !is_suspended(view));
    open.into_iter()
        .flat_map(|view| view.lists().doors().filter(|(door, _)| view.has_door(door)))
        .collect()
}

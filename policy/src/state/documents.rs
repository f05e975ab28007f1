//! Tenants' documents exchanged for others in a view, whole or not at all.

use super::authorities::travelling;
use super::change::{Change, changes_of_tenant};
use super::fleet::Fleet;
use super::rejection::Rejection;
use super::root::Hasher;
use super::tenant_at::TenantAt;
use super::view::{FleetView, TenantView, View};
use crate::fleet_id::Digest;
use crate::id::{Revision, TenantId};
use crate::revocations::Revocations;
use crate::tenant::{Tenant, Via};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What leads from one view to a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ViewUpdate {
    /// The revision of the later one.
    pub revision: Revision,
    /// The documents that differ.
    pub put: Vec<TenantAt>,
    /// The tenants that are gone.
    pub remove: Vec<TenantId>,
    /// The fleet's part, when it differs. It never goes away.
    #[serde(with = "travelling")]
    pub fleet: Option<Fleet>,
}

impl View {
    /// The view at which an update arrives, and what changed for whom. What is told is not believed more than a command:
    /// documents are checked as if they were proposed.
    ///
    /// # Errors
    /// A [`Rejection`] when the update's parts do not fit together or do not fit this view.
    pub fn updated(
        &self,
        update: &ViewUpdate,
        at: Timestamp,
    ) -> Result<(Self, Vec<Change>), Rejection> {
        let ViewUpdate {
            revision,
            put,
            remove,
            fleet,
        } = update;
        self.check_named_once(put.iter().map(|one| &one.document), remove)?;
        if *revision < self.revision || put.iter().any(|one| one.revision > *revision) {
            return Err(Rejection::Snapshot("its revisions are out of order"));
        }
        for one in put {
            one.document
                .validate()
                .map_err(|error| Rejection::Document {
                    tenant: one.document.id.clone(),
                    error,
                })?;
            one.revoked.check()?;
        }
        let documents = put
            .iter()
            .map(|one| (&one.document, one.revision, Some(&one.revoked)));
        let (mut next, touched) = self.exchanged(documents, remove)?;
        if let Some(fleet) = fleet {
            fleet.check()?;
            next.set_fleet(fleet.clone());
        }
        next.revision = *revision;
        let changes = self.changes_to(&next, &touched, at);
        Ok((next, changes))
    }

    /// The whole view as an update of an empty one.
    #[must_use]
    pub fn as_update(&self) -> ViewUpdate {
        ViewUpdate {
            revision: self.revision,
            put: self.tenants().map(|tenant| tenant.as_put()).collect(),
            remove: Vec::new(),
            fleet: self.fleet().cloned(),
        }
    }

    /// The hash of all that gateways hold. Two views with the same root are the same. Costs nothing: a change pays for it.
    #[must_use]
    pub fn root(&self) -> Digest {
        const NO_FLEET: Digest = Digest::new([0; 32]);
        let mut hasher = Hasher::new(b"view");
        hasher.number(self.revision.get());
        hasher.add(self.tree.root().as_bytes());
        let fleet = self.fleet.as_ref().map_or(NO_FLEET, |fleet| fleet.digest);
        hasher.add(fleet.as_bytes());
        hasher.finish()
    }

    pub(super) fn set_fleet(&mut self, fleet: Fleet) {
        let digest = fleet.digest();
        self.fleet = Some(Arc::new(FleetView { fleet, digest }));
    }

    /// These documents put and those tenants removed, in a copy that shares all else, and whom that touched. Where nothing is
    /// said of what is revoked, it stays.
    pub(super) fn exchanged<'a>(
        &self,
        put: impl Iterator<Item = (&'a Tenant, Revision, Option<&'a Revocations>)> + Clone,
        remove: &'a [TenantId],
    ) -> Result<(Self, BTreeSet<&'a TenantId>), Rejection> {
        let mut next = self.clone();
        let mut touched = BTreeSet::new();
        // First everybody lets go, so that tenants may exchange what they own in one command.
        for id in remove
            .iter()
            .chain(put.clone().map(|(document, _, _)| &document.id))
        {
            next.weight -= next.take_out(id).map_or(0, |old| old.weight);
            touched.insert(id);
        }
        for (document, revision, revoked) in put {
            let old = self.tenant(&document.id).map(Arc::as_ref);
            let tenant = TenantView::build(document, revision, revoked, old);
            next.weight += tenant.weight;
            next.put_in(Arc::new(tenant))?;
        }
        let leaf = |id: &TenantId| next.tenants.get(id).map(|tenant| tenant.leaf);
        let leaves = touched
            .iter()
            .map(|id| (Arc::from(id.as_str().as_bytes()), leaf(id)));
        next.tree.update(leaves.collect::<Vec<_>>());
        Ok((next, touched))
    }

    pub(super) fn changes_to(
        &self,
        next: &Self,
        touched: &BTreeSet<&TenantId>,
        at: Timestamp,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in touched {
            changes_of_tenant(self.tenant(id), next.tenant(id), at, &mut changes);
        }
        changes
    }

    pub(super) fn check_named_once<'a>(
        &self,
        put: impl Iterator<Item = &'a Tenant>,
        remove: &'a [TenantId],
    ) -> Result<(), Rejection> {
        let mut named = BTreeSet::new();
        for id in put.map(|document| &document.id).chain(remove) {
            if !named.insert(id) {
                return Err(Rejection::NamedTwice(id.clone()));
            }
        }
        match remove.iter().find(|id| self.tenant(id).is_none()) {
            Some(id) => Err(Rejection::NoSuchTenant(id.clone())),
            None => Ok(()),
        }
    }

    fn take_out(&mut self, id: &TenantId) -> Option<Arc<TenantView>> {
        let tenant = self.tenants.remove(id)?;
        for network in &tenant.networks {
            self.networks.remove(network);
        }
        for link in &tenant.private_links {
            self.private_links.remove(link);
        }
        for place in places(&tenant) {
            self.places.remove(place);
        }
        for name in tenant
            .endpoints
            .values()
            .flat_map(|view| &view.endpoint().names)
        {
            self.names.remove(name);
        }
        Some(tenant)
    }

    fn put_in(&mut self, tenant: Arc<TenantView>) -> Result<(), Rejection> {
        let claimant = tenant.id();
        for network in &tenant.networks {
            if let Some(owner) = self.networks.insert(network.clone(), claimant.clone()) {
                let (network, claimant) = (network.clone(), claimant.clone());
                return Err(Rejection::NetworkClaimed {
                    network,
                    owner,
                    claimant,
                });
            }
        }
        for link in &tenant.private_links {
            if let Some(owner) = self.private_links.insert(link.clone(), claimant.clone()) {
                let (private_link, claimant) = (link.clone(), claimant.clone());
                return Err(Rejection::PrivateLinkClaimed {
                    private_link,
                    owner,
                    claimant,
                });
            }
        }
        for place in places(&tenant) {
            if let Some(owner) = self.places.insert(place.clone(), claimant.clone()) {
                let (place, claimant) = (place.clone(), claimant.clone());
                return Err(Rejection::PlaceClaimed {
                    place,
                    owner,
                    claimant,
                });
            }
        }
        for view in tenant.endpoints.values() {
            for name in &view.endpoint().names {
                if let Some(owner) = self.names.insert(name.clone(), Arc::clone(view)) {
                    let (name, owner) = (name.clone(), owner.tenant().clone());
                    let claimant = claimant.clone();
                    return Err(Rejection::ServerNameClaimed {
                        name,
                        owner,
                        claimant,
                    });
                }
            }
        }
        self.tenants.insert(claimant.clone(), Arc::clone(&tenant));
        Ok(())
    }
}

/// The places of a tenant's clusters, each once: clusters of one tenant may share its VPC.
fn places(tenant: &TenantView) -> BTreeSet<&Via> {
    let clusters = tenant.clusters().values();
    clusters
        .filter_map(|cluster| cluster.via.as_ref())
        .collect()
}

//! Executing a command.

use super::change::{Change, changes_of_tenant};
use super::command::{Command, Rejection, Snapshot};
use super::view::{TenantView, View};
use crate::document::{DocumentPath, line};
use crate::id::{Revision, TenantId};
use crate::limits::{MAX_ENTRIES_IN_FLEET, MAX_ENTRIES_PER_TENANT};
use crate::tenant::{Tenant, Via};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The replicated state. A new one is empty, and nobody is admitted anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    view: View,
    weight: usize,
    max_per_tenant: usize,
    max_in_fleet: usize,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// The revision that now holds: the old one when nothing differed.
    pub revision: Revision,
    /// The moment of the command.
    pub at: Timestamp,
    /// The tenants that differ from before, by id: put, or removed.
    pub tenants: Vec<TenantId>,
    /// The endpoints that differ from before, by tenant and id.
    pub changes: Vec<Change>,
}

impl State {
    /// An empty state with other limits than the usual ones, in entries ([`Tenant::weight`]). All nodes must use the same.
    #[must_use]
    pub fn with_limits(max_entries_per_tenant: usize, max_entries_in_fleet: usize) -> Self {
        Self {
            view: View::empty(),
            weight: 0,
            max_per_tenant: max_entries_per_tenant,
            max_in_fleet: max_entries_in_fleet,
        }
    }

    /// Executes a command, whole or not at all. Costs what changes, not what exists.
    ///
    /// # Errors
    /// A [`Rejection`]; the state is then as it was.
    pub fn apply(&mut self, command: &Command, at: Timestamp) -> Result<Applied, Rejection> {
        let Command::Apply {
            base,
            put,
            remove,
            author,
        } = command;
        line(DocumentPath::root(), "the author", author).map_err(|_| Rejection::Author)?;
        self.check_base(*base)?;
        self.check_named_once(put, remove)?;
        let put: Vec<&Tenant> = put
            .iter()
            .filter(|document| self.differs(document))
            .collect();
        for document in &put {
            self.check_document(document)?;
        }

        // All that follows happens to a copy that shares everything with the view, and is dropped when a claim is refused.
        let mut next = self.view.clone();
        let mut weight = self.weight;
        let mut touched = BTreeSet::new();
        for id in remove.iter().chain(put.iter().map(|document| &document.id)) {
            // First everybody lets go, so that tenants may exchange what they own in one command.
            weight -= next.take_out(id).map_or(0, |old| old.weight);
            touched.insert(id.clone());
        }
        for document in put {
            let old = self.view.tenant(&document.id).map(Arc::as_ref);
            let tenant = TenantView::build(document, old);
            weight += tenant.weight;
            next.put_in(Arc::new(tenant))?;
        }
        if weight > self.max_in_fleet {
            return Err(Rejection::FleetLimit {
                entries: weight,
                maximum: self.max_in_fleet,
            });
        }

        let tenants: Vec<TenantId> = touched.into_iter().collect();
        if !tenants.is_empty() {
            next.revision = self.view.revision.next();
        }
        let mut changes = Vec::new();
        for id in &tenants {
            changes_of_tenant(self.view.tenant(id), next.tenant(id), at, &mut changes);
        }
        self.weight = weight;
        self.view = next;
        Ok(Applied {
            revision: self.view.revision,
            at,
            tenants,
            changes,
        })
    }

    /// What gateways hold. A few counters.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision
    }

    /// How much all allow lists together weigh against the limit of the fleet ([`Tenant::weight`]).
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The state as plain data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.view.revision,
            tenants: self
                .view
                .tenants()
                .map(|tenant| tenant.document())
                .collect(),
        }
    }

    /// The state that a snapshot describes, checked as if its documents were applied anew: what was written down is not
    /// believed more than what is proposed.
    ///
    /// # Errors
    /// A [`Rejection`] when the documents do not fit together.
    pub fn restore(snapshot: Snapshot) -> Result<Self, Rejection> {
        let mut state = Self::default();
        let command = Command::Apply {
            base: None,
            put: snapshot.tenants,
            remove: Vec::new(),
            author: String::new(),
        };
        // No connection is alive yet that a change could affect, so the moment does not matter.
        state.apply(&command, Timestamp::LAST)?;
        state.view.revision = snapshot.revision;
        Ok(state)
    }

    fn differs(&self, document: &Tenant) -> bool {
        self.view
            .tenant(&document.id)
            .is_none_or(|tenant| !tenant.is(document))
    }

    fn check_base(&self, base: Option<Revision>) -> Result<(), Rejection> {
        let current = self.view.revision;
        match base {
            Some(base) if base != current => Err(Rejection::StaleBase { base, current }),
            _ => Ok(()),
        }
    }

    fn check_named_once(&self, put: &[Tenant], remove: &[TenantId]) -> Result<(), Rejection> {
        let mut named = BTreeSet::new();
        for id in put.iter().map(|document| &document.id).chain(remove) {
            if !named.insert(id) {
                return Err(Rejection::NamedTwice(id.clone()));
            }
        }
        match remove.iter().find(|id| self.view.tenant(id).is_none()) {
            Some(id) => Err(Rejection::NoSuchTenant(id.clone())),
            None => Ok(()),
        }
    }

    fn check_document(&self, document: &Tenant) -> Result<(), Rejection> {
        document
            .validate_within(self.max_per_tenant)
            .map_err(|error| Rejection::Document {
                tenant: document.id.clone(),
                error,
            })
    }
}

impl Default for State {
    fn default() -> Self {
        Self::with_limits(MAX_ENTRIES_PER_TENANT, MAX_ENTRIES_IN_FLEET)
    }
}

impl View {
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

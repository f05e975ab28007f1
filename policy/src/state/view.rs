//! What gateways hold: every tenant's policy, compiled for asking.

use super::applied::{Applied, Told};
use super::change::difference;
use super::fleet::Fleet;
use super::root::{Tree, hash_of};
use super::tenant_at::TenantAt;
use crate::document::DocumentPath;
use crate::fleet_id::Digest;
use crate::id::{ClusterId, EndpointId, NetworkId, Revision, TenantId};
use crate::network::AllowLists;
use crate::origin::{Origin, PrivateLinkId};
use crate::revocations::{Revocations, Serial};
use crate::server_name::ServerName;
use crate::tenant::{Cluster, Endpoint, Tenant, Via};
use crate::tenant_limits::TenantLimits;
use crate::time::Timestamp;
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The policy at one revision. Cloning one is a few counters; two revisions share whatever did not change between them.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    pub(super) revision: Revision,
    pub(super) tenants: OrdMap<TenantId, Arc<TenantView>>,
    pub(super) names: OrdMap<ServerName, Arc<EndpointView>>,
    pub(super) networks: OrdMap<NetworkId, TenantId>,
    pub(super) private_links: OrdMap<PrivateLinkId, TenantId>,
    /// Where sockets towards a tenant's clusters are made: its VPC, as this machine knows it.
    pub(super) places: OrdMap<Via, TenantId>,
    /// See [`Tenant::weight`].
    pub(super) weight: usize,
    pub(super) tree: Tree,
    pub(super) fleet: Option<Arc<FleetView>>,
}

/// The fleet's part of a view, and its hash.
#[derive(PartialEq, Eq)]
pub(super) struct FleetView {
    pub(super) fleet: Fleet,
    pub(super) digest: Digest,
}

impl View {
    /// Revision 0: no tenants, nobody admitted anywhere.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            revision: Revision::default(),
            tenants: OrdMap::new(),
            names: OrdMap::new(),
            networks: OrdMap::new(),
            private_links: OrdMap::new(),
            places: OrdMap::new(),
            weight: 0,
            tree: Tree::default(),
            fleet: None,
        }
    }

    /// The revision at which this view holds.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The endpoint that a client asks for by this name. O(log n), no allocation.
    #[must_use]
    pub fn named(&self, name: &ServerName) -> Option<&Arc<EndpointView>> {
        self.names.get(name)
    }

    /// A tenant by its id.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<TenantView>> {
        self.tenants.get(id)
    }

    /// An endpoint by its tenant's id and its own.
    #[must_use]
    pub fn endpoint(&self, tenant: &TenantId, id: &EndpointId) -> Option<&Arc<EndpointView>> {
        self.tenant(tenant)?.endpoints.get(id)
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<TenantView>> {
        self.tenants.values()
    }

    /// The fleet that holds this view; `None` on a node that is alone.
    #[must_use]
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref().map(|fleet| &fleet.fleet)
    }

    /// How much all allow lists together weigh against the limit of the fleet ([`Tenant::weight`]).
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whose this network is.
    #[must_use]
    pub fn network_owner(&self, id: &NetworkId) -> Option<&TenantId> {
        self.networks.get(id)
    }

    /// What leads from `old` to this view, at a moment, in one step. Costs what differs.
    #[must_use]
    pub fn applied_since(&self, old: &Self, at: Timestamp) -> Applied {
        let changes = difference(old, self, at);
        let ids: BTreeSet<&TenantId> = old.tenants.keys().chain(self.tenants.keys()).collect();
        let differs = |id: &&&TenantId| match (old.tenant(id), self.tenant(id)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        Applied {
            revision: self.revision,
            at,
            tenants: ids.iter().filter(differs).map(|id| (*id).clone()).collect(),
            changes,
            repeated: false,
            fleet_changed: true,
            told: Told::Done,
        }
    }

    /// Whose this private link is.
    #[must_use]
    pub fn private_link_owner(&self, id: &PrivateLinkId) -> Option<&TenantId> {
        self.private_links.get(id)
    }
}

/// One tenant's policy. The parts that did not change keep their identity from revision to revision.
#[derive(PartialEq, Eq)]
pub struct TenantView {
    pub(super) facts: Arc<TenantFacts>,
    pub(super) networks: BTreeSet<NetworkId>,
    pub(super) private_links: BTreeSet<PrivateLinkId>,
    pub(super) clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    pub(super) endpoints: BTreeMap<EndpointId, Arc<EndpointView>>,
    /// See [`Tenant::weight`].
    pub(super) weight: usize,
    /// The revision at which the document last changed.
    revision: Revision,
    /// The hash of the document, its revision and what is revoked.
    pub(super) leaf: Digest,
}

/// What holds for all endpoints of a tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TenantFacts {
    id: TenantId,
    suspended: bool,
    limits: TenantLimits,
    revoked: Arc<Revocations>,
}

impl TenantView {
    /// Compiles a document that has been validated. Clusters, endpoints and lists that are equal to those in `old` are taken
    /// over from it: what did not change is neither copied nor compiled. `revoked` of none is as in `old`.
    pub(super) fn build(
        document: &Tenant,
        revision: Revision,
        revoked: Option<&Revocations>,
        old: Option<&Self>,
    ) -> Self {
        let before = old.map(|old| &old.facts.revoked);
        let revoked = match revoked {
            Some(revoked) => keep(before, revoked).unwrap_or_else(|| Arc::new(revoked.clone())),
            None => before.map(Arc::clone).unwrap_or_default(),
        };
        let facts = TenantFacts {
            id: document.id.clone(),
            suspended: document.suspended,
            limits: document.limits,
            revoked,
        };
        let weight = document.weight() + facts.revoked.len();
        let leaf = leaf_of(document, revision, &facts.revoked);
        let facts = keep(old.map(|old| &old.facts), &facts).unwrap_or_else(|| Arc::new(facts));
        let mut clusters = BTreeMap::new();
        for (id, cluster) in &document.clusters {
            let kept = keep(old.and_then(|old| old.clusters.get(id)), cluster);
            clusters.insert(
                id.clone(),
                kept.unwrap_or_else(|| Arc::new(cluster.clone())),
            );
        }
        let mut endpoints = BTreeMap::new();
        for (id, endpoint) in &document.endpoints {
            // Validation saw that the cluster is there; an endpoint without one would lead nowhere and is left out.
            let Some(cluster) = clusters.get(&endpoint.cluster) else {
                continue;
            };
            let old = old.and_then(|old| old.endpoints.get(id));
            let view = EndpointView::build(&facts, id, endpoint, cluster, old);
            endpoints.insert(id.clone(), view);
        }
        Self {
            facts,
            networks: document.networks.clone(),
            private_links: document.private_links.clone(),
            clusters,
            endpoints,
            weight,
            revision,
            leaf,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TenantId {
        &self.facts.id
    }

    /// The revision at which its document last changed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Its document with its revision.
    #[must_use]
    pub fn as_put(&self) -> TenantAt {
        TenantAt {
            revision: self.revision,
            document: self.document(),
            revoked: self.revoked().clone(),
        }
    }

    /// The certificates of its clients that no longer count.
    #[must_use]
    pub fn revoked(&self) -> &Revocations {
        &self.facts.revoked
    }

    /// Whether it is suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.facts.suspended
    }

    /// What it may use at once.
    #[must_use]
    pub fn limits(&self) -> &TenantLimits {
        &self.facts.limits
    }

    /// Its clusters, by id.
    #[must_use]
    pub fn clusters(&self) -> &BTreeMap<ClusterId, Arc<Cluster>> {
        &self.clusters
    }

    /// Its endpoints, by id.
    #[must_use]
    pub fn endpoints(&self) -> &BTreeMap<EndpointId, Arc<EndpointView>> {
        &self.endpoints
    }

    /// Its networks.
    #[must_use]
    pub fn networks(&self) -> &BTreeSet<NetworkId> {
        &self.networks
    }

    /// Its private links.
    #[must_use]
    pub fn private_links(&self) -> &BTreeSet<PrivateLinkId> {
        &self.private_links
    }

    /// The document that was applied, put together again.
    #[must_use]
    pub fn document(&self) -> Tenant {
        let endpoint = |(id, view): (&EndpointId, &Arc<EndpointView>)| {
            (id.clone(), Endpoint::clone(&view.endpoint))
        };
        let cluster =
            |(id, cluster): (&ClusterId, &Arc<Cluster>)| (id.clone(), Cluster::clone(cluster));
        Tenant {
            id: self.facts.id.clone(),
            suspended: self.facts.suspended,
            clusters: self.clusters.iter().map(cluster).collect(),
            networks: self.networks.clone(),
            private_links: self.private_links.clone(),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            limits: self.facts.limits,
        }
    }

    /// Whether this is what applying the document would give. Compares, copies nothing.
    pub(super) fn is(&self, document: &Tenant) -> bool {
        let Tenant {
            id,
            suspended,
            clusters,
            networks,
            private_links,
            endpoints,
            limits,
        } = document;
        self.facts.id == *id
            && self.facts.suspended == *suspended
            && self.facts.limits == *limits
            && self.networks == *networks
            && self.private_links == *private_links
            && same(self.clusters.iter(), clusters.iter(), |ours, theirs| {
                **ours == *theirs
            })
            && same(self.endpoints.iter(), endpoints.iter(), |ours, theirs| {
                *ours.endpoint == *theirs
            })
    }
}

/// One endpoint, with all that a decision about it needs.
#[derive(PartialEq, Eq)]
pub struct EndpointView {
    facts: Arc<TenantFacts>,
    id: EndpointId,
    endpoint: Arc<Endpoint>,
    cluster: Arc<Cluster>,
    lists: Arc<AllowLists>,
}

impl EndpointView {
    fn build(
        facts: &Arc<TenantFacts>,
        id: &EndpointId,
        endpoint: &Endpoint,
        cluster: &Arc<Cluster>,
        old: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let same_lists = old.filter(|old| old.endpoint.allow == endpoint.allow);
        let lists = match same_lists {
            Some(old) => Arc::clone(&old.lists),
            None => Arc::new(AllowLists::compile(&endpoint.allow)),
        };
        let kept = keep(old.map(|old| &old.endpoint), endpoint);
        let new = Self {
            facts: Arc::clone(facts),
            id: id.clone(),
            endpoint: kept.unwrap_or_else(|| Arc::new(endpoint.clone())),
            cluster: Arc::clone(cluster),
            lists,
        };
        match old {
            Some(old) if old.shares_all_parts_with(&new) => Arc::clone(old),
            _ => Arc::new(new),
        }
    }

    fn shares_all_parts_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.facts, &other.facts)
            && Arc::ptr_eq(&self.endpoint, &other.endpoint)
            && Arc::ptr_eq(&self.cluster, &other.cluster)
            && Arc::ptr_eq(&self.lists, &other.lists)
    }

    /// The tenant that owns it.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.facts.id
    }

    /// Whether the tenant is suspended.
    #[must_use]
    pub fn tenant_is_suspended(&self) -> bool {
        self.facts.suspended
    }

    /// What the tenant may use at once.
    #[must_use]
    pub fn limits(&self) -> &TenantLimits {
        &self.facts.limits
    }

    /// Its id within the tenant.
    #[must_use]
    pub fn id(&self) -> &EndpointId {
        &self.id
    }

    /// Its document.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The id of the cluster behind it.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        &self.endpoint.cluster
    }

    /// The cluster behind it.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Where it stands in its tenant's document.
    #[must_use]
    pub fn path(&self) -> DocumentPath {
        DocumentPath::root().key("endpoints").key(self.id.as_str())
    }

    /// Whether a certificate with this serial number no longer counts for the tenant's clients.
    pub(crate) fn is_revoked(&self, serial: &Serial) -> bool {
        self.facts.revoked.get(serial).is_some()
    }

    /// Whether the same certificates are revoked for both.
    pub(super) fn revokes_as(&self, other: &Self) -> bool {
        self.facts.revoked == other.facts.revoked
    }

    /// Whether something is revoked here that was not in `old`.
    pub(super) fn revokes_more_than(&self, old: &Self) -> bool {
        let mut revoked = self.facts.revoked.iter();
        revoked.any(|(serial, _)| !old.is_revoked(serial))
    }

    pub(crate) fn has_door(&self, origin: &Origin) -> bool {
        self.endpoint.doors.contains(origin)
    }

    pub(crate) fn lists(&self) -> &AllowLists {
        &self.lists
    }
}

// A view can hold a million entries, and a permit or denial holds on to an endpoint: their `Debug` names things and does not
// spell them out.

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenants = self.tenants.len();
        write!(f, "View(revision {}, {tenants} tenants)", self.revision)
    }
}

impl fmt::Debug for TenantView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantView({})", self.id())
    }
}

impl fmt::Debug for EndpointView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointView({}/{})", self.tenant(), self.id)
    }
}

/// As it always was, where nothing is revoked.
fn leaf_of(document: &Tenant, revision: Revision, revoked: &Revocations) -> Digest {
    match revoked.is_empty() {
        true => hash_of(b"tenant", &(revision, document)),
        false => hash_of(b"tenant with revoked", &(revision, document, revoked)),
    }
}

/// The old value, when the new one is equal to it.
fn keep<T: PartialEq>(old: Option<&Arc<T>>, new: &T) -> Option<Arc<T>> {
    old.filter(|old| ***old == *new).map(Arc::clone)
}

fn same<'a, K: PartialEq + 'a, A: 'a, B: 'a>(
    ours: impl ExactSizeIterator<Item = (&'a K, &'a A)>,
    theirs: impl ExactSizeIterator<Item = (&'a K, &'a B)>,
    equal: impl Fn(&A, &B) -> bool,
) -> bool {
    ours.len() == theirs.len()
        && ours
            .zip(theirs)
            .all(|((our_key, our_value), (their_key, their_value))| {
                our_key == their_key && equal(our_value, their_value)
            })
}

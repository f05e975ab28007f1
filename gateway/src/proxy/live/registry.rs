//! The index of live connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::{
    Address, Affected, Change, Decision, EndpointId, Origin, Permit, Purpose, Silent, TenantId,
    Timestamp, View, decide,
};

use super::LiveConnection;
use super::handle::{Facts, LiveHandle, Standing};

/// All live connections of this node.
#[derive(Default)]
pub(in crate::proxy) struct Live {
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    next: u64,
    endpoints: HashMap<(TenantId, EndpointId), Sources>,
    expiring: BTreeSet<(Timestamp, u64)>,
    all: HashMap<u64, Arc<LiveHandle>>,
}

/// The live connections of one endpoint, by door and address.
type Sources = BTreeMap<(Origin, Address, u64), Arc<LiveHandle>>;

impl Live {
    /// Registers a connection under its permit. It stays until the guard is dropped. Caps are not
    /// looked at here: it has not shown yet who it is (see `claims`).
    pub(in crate::proxy) fn register(
        self: &Arc<Self>,
        facts: Facts,
        permit: &Permit,
        since: Timestamp,
    ) -> LiveGuard {
        let key = (permit.tenant().clone(), permit.endpoint_id().clone());
        let mut index = self.index.lock();
        index.next += 1;
        let handle = Arc::new(LiveHandle::new(index.next, facts, permit, since));
        index
            .endpoints
            .entry(key)
            .or_default()
            .insert(source_key(&handle), Arc::clone(&handle));
        index.all.insert(handle.id, Arc::clone(&handle));
        if let Some(expires) = handle.expires() {
            index.expiring.insert((expires, handle.id));
        }
        LiveGuard {
            live: Arc::clone(self),
            handle,
        }
    }

    /// Every live connection as the operator sees it, oldest first.
    pub(in crate::proxy) fn describe(&self) -> Vec<LiveConnection> {
        let mut handles: Vec<_> = self.index.lock().all.values().cloned().collect();
        handles.sort_by_key(|handle| handle.id);
        handles.iter().map(|handle| handle.describe()).collect()
    }

    /// Every live connection.
    pub(in crate::proxy) fn all(&self) -> Vec<Arc<LiveHandle>> {
        self.index.lock().all.values().cloned().collect()
    }

    /// Lets the task of every connection look again whether it may go on.
    pub(in crate::proxy) fn rouse(&self) {
        for handle in self.all() {
            handle.rouse();
        }
    }

    /// How many connections are live.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.index.lock().all.len()
    }

    /// The connection with this serial number, which is never another's while this process runs.
    pub(in crate::proxy) fn by_serial(&self, serial: u64) -> Option<Arc<LiveHandle>> {
        self.index.lock().all.get(&serial).cloned()
    }

    /// The live connections that `changes` can affect: those of endpoints that went or moved, and
    /// those whose door and address lie in what was shut.
    pub(super) fn affected(&self, changes: &[Change]) -> Vec<Arc<LiveHandle>> {
        let index = self.index.lock();
        let mut found = BTreeMap::new();
        for change in changes {
            let key = (change.tenant.clone(), change.endpoint.clone());
            let Some(sources) = index.endpoints.get(&key) else {
                continue;
            };
            match change.affected() {
                Affected::Nobody => {}
                Affected::Everybody => {
                    found.extend(
                        sources
                            .values()
                            .map(|handle| (handle.id, Arc::clone(handle))),
                    );
                }
                Affected::Within(ranges) => {
                    for (origin, range) in ranges {
                        let first = (origin.clone(), *range.start(), 0);
                        let last = (origin.clone(), *range.end(), u64::MAX);
                        found.extend(
                            sources
                                .range(first..=last)
                                .map(|(_, handle)| (handle.id, Arc::clone(handle))),
                        );
                    }
                }
            }
        }
        found.into_values().collect()
    }

    /// The live connections whose entry expires at or before `at`.
    pub(super) fn due(&self, at: Timestamp) -> Vec<Arc<LiveHandle>> {
        let index = self.index.lock();
        index
            .expiring
            .range(..=(at, u64::MAX))
            .filter_map(|(_, id)| index.all.get(id).cloned())
            .collect()
    }

    /// Records what a new decision said of a connection that stays.
    pub(in crate::proxy) fn stand(&self, handle: &LiveHandle, permit: &Permit) {
        self.retime(handle, || handle.stand(Standing::of(permit)));
    }

    /// The connection lapses at `moment` at the latest: its proof is good no longer than that.
    pub(in crate::proxy) fn proof_lasts_until(&self, handle: &LiveHandle, moment: Timestamp) {
        self.retime(handle, || handle.proof_lasts_until(moment));
    }

    fn retime(&self, handle: &LiveHandle, change: impl FnOnce()) {
        let mut index = self.index.lock();
        if let Some(old) = handle.expires() {
            index.expiring.remove(&(old, handle.id));
        }
        change();
        if let Some(new) = handle.expires()
            && index.all.contains_key(&handle.id)
        {
            index.expiring.insert((new, handle.id));
        }
    }

    fn remove(&self, handle: &LiveHandle) {
        let mut index = self.index.lock();
        index.all.remove(&handle.id);
        if let Some(expires) = handle.expires() {
            index.expiring.remove(&(expires, handle.id));
        }
        let key = (handle.tenant.clone(), handle.endpoint.clone());
        if let Some(sources) = index.endpoints.get_mut(&key) {
            sources.remove(&source_key(handle));
            if sources.is_empty() {
                index.endpoints.remove(&key);
            }
        }
    }
}

/// Keeps a connection registered. Dropping it is what "closed" means to the registry.
pub(in crate::proxy) struct LiveGuard {
    live: Arc<Live>,
    handle: Arc<LiveHandle>,
}

impl LiveGuard {
    pub(in crate::proxy) fn handle(&self) -> &Arc<LiveHandle> {
        &self.handle
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.live.remove(&self.handle);
        self.handle.end();
    }
}

/// Decides a live connection again. `Err` says why it may not go on.
pub(super) fn decide_again(
    view: &View,
    handle: &LiveHandle,
    at: Timestamp,
) -> Result<Permit, Lapsed> {
    if handle.proof_has_expired(at) {
        return Err(Lapsed::ProofExpired);
    }
    let attempt = handle.facts.attempt(Purpose::Connect);
    match decide(view, &attempt, at, &mut Silent) {
        Decision::Permitted(permit) if handle.continues_under(&permit) => Ok(permit),
        Decision::Permitted(_) => Err(Lapsed::Redirected),
        Decision::Denied(denial) => Err(Lapsed::Denied {
            code: denial.code(),
            story: denial.for_operator(&attempt),
        }),
    }
}

/// Why a live connection may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lapsed {
    /// Policy denies it now.
    Denied { code: &'static str, story: String },
    /// What it stands on differs now: the cluster behind its name, or the proof asked of clients.
    Redirected,
    /// The token or certificate that it signed in with is no longer good.
    ProofExpired,
}

/// The code of a connection whose name came to lead elsewhere.
pub(in crate::proxy) const ENDPOINT_REDIRECTED: &str = "endpoint_redirected";

impl Lapsed {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Denied { code, .. } => code,
            Self::Redirected => ENDPOINT_REDIRECTED,
            Self::ProofExpired => "proof_expired",
        }
    }

    pub(super) fn story(&self) -> &str {
        match self {
            Self::Denied { story, .. } => story,
            Self::Redirected => {
                "its endpoint now leads to another cluster or asks clients for another proof"
            }
            Self::ProofExpired => "the token or certificate that it signed in with has expired",
        }
    }
}

fn source_key(handle: &LiveHandle) -> (Origin, Address, u64) {
    (
        handle.facts.arrival.origin.clone(),
        handle.facts.arrival.address,
        handle.id,
    )
}

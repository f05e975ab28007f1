//! Soft state between nodes: what each holds of a tenant's connections, failed sign-ins, and cancel
//! requests that came to the wrong node. Nothing of it goes through consensus, and losing any of it
//! is safe: a count that is not renewed is forgotten within [`SOFT_KEPT`].
//!
//! Every node tells every control node what it holds. The one that leads tells those that dial out
//! only, whom nobody else can reach, what all the others hold together.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use portcullis_certs::cancel_key::Issuer;
use portcullis_policy::{EndpointId, NodeId, TenantId};
use tokio::time::{MissedTickBehavior, interval};

use super::{Fleet, words};
use crate::mesh::Refused;
use crate::proxy::{FailedSignIn, OpenAt, Others, PassedCancel, Soft};
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::{CANCEL, FAILURES_TOLD, OPEN_TOLD, SOFT_KEPT, SOFT_TICK};

/// How long another node may take to hear.
const HEARD: Duration = Duration::from_secs(1);

/// What other nodes said last.
#[derive(Debug, Default)]
pub(super) struct Gathered(Mutex<BTreeMap<NodeId, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    open: Vec<OpenAt>,
    /// Failed sign-ins that those who dial out only were not told yet.
    failures: Vec<FailedSignIn>,
}

/// Of whom what is told is the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Of the one who tells.
    Own,
    /// Of all the others: another who told the same before counts no more.
    Everybody,
}

impl Gathered {
    fn take(&self, from: NodeId, counts: Counts, soft: Soft) {
        let mut gathered = self.0.lock();
        if counts == Counts::Everybody {
            gathered.retain(|node, _| *node == from);
        }
        let said = gathered.entry(from).or_insert_with(|| Said {
            at: clock::instant(),
            open: Vec::new(),
            failures: Vec::new(),
        });
        said.at = clock::instant();
        said.open = soft.open;
        let room = FAILURES_TOLD.saturating_sub(said.failures.len());
        said.failures.extend(soft.failures.into_iter().take(room));
    }

    /// What is still believed, but for what `without` said.
    fn open(&self, without: Option<NodeId>) -> Vec<OpenAt> {
        let now = clock::instant();
        let mut gathered = self.0.lock();
        gathered.retain(|_, said| now.saturating_duration_since(said.at) < SOFT_KEPT);
        let others = gathered
            .iter()
            .filter(|(node, _)| Some(**node) != without)
            .flat_map(|(_, said)| said.open.iter().cloned());
        others.collect()
    }

    fn failures(&self) -> Vec<(NodeId, Vec<FailedSignIn>)> {
        let mut gathered = self.0.lock();
        let taken = gathered
            .iter_mut()
            .map(|(node, said)| (*node, std::mem::take(&mut said.failures)));
        taken.collect()
    }
}

/// The way to the other nodes, for the front door.
pub(super) struct Way(pub(super) Weak<Fleet>);

impl Others for Way {
    fn unconfirmed(&self) -> Duration {
        // Without the fleet the node is about to end.
        self.0
            .upgrade()
            .map_or(Duration::MAX, |fleet| fleet.stale())
    }

    fn cancel(
        &self,
        issuer: Issuer,
        passed: PassedCancel,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> {
        let fleet = self.0.upgrade();
        Box::pin(async move { fleet?.pass_on(issuer, &passed).await })
    }
}

/// Tells the others again and again what this node holds.
pub(super) async fn tell(fleet: Arc<Fleet>) {
    let mut ticks = interval(SOFT_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let own = fleet.front.soft();
        let relayed = fleet.gathered.failures();
        for node in fleet.nodes() {
            if node.id == fleet.me {
                continue;
            }
            if node.is_control() {
                fleet.tell_one(node.id, &own);
            } else if fleet.leads() {
                fleet.tell_one(node.id, &together(&fleet, node.id, &own, &relayed));
            }
        }
        fleet
            .front
            .held_elsewhere(fleet.gathered.open(None).into_iter());
    }
}

/// What everybody but `to` holds, and which sign-ins failed anywhere but there.
fn together(
    fleet: &Fleet,
    to: NodeId,
    own: &Soft,
    relayed: &[(NodeId, Vec<FailedSignIn>)],
) -> Soft {
    let mut sums: HashMap<(TenantId, EndpointId), u32> = HashMap::new();
    let theirs = fleet.gathered.open(Some(to));
    for at in theirs.iter().chain(&own.open) {
        let sum = sums
            .entry((at.tenant.clone(), at.endpoint.clone()))
            .or_default();
        *sum = sum.saturating_add(at.count);
    }
    let open = sums.into_iter().map(|((tenant, endpoint), count)| OpenAt {
        tenant,
        endpoint,
        count,
    });
    let others = relayed.iter().filter(|(node, _)| *node != to);
    let failures = others
        .flat_map(|(_, failures)| failures)
        .chain(&own.failures)
        .take(FAILURES_TOLD);
    Soft {
        open: open.collect(),
        failures: failures.cloned().collect(),
    }
}

impl Fleet {
    fn tell_one(self: &Arc<Self>, to: NodeId, soft: &Soft) {
        let (Some(mesh), Ok(bytes)) = (self.mesh().cloned(), words::encode(soft)) else {
            return;
        };
        // What is lost is made good by the next.
        self.tasks.spawn(async move {
            drop(mesh.call(to.get(), words::SOFT, bytes, HEARD).await);
        });
    }

    /// Takes what another node tells.
    pub(super) fn told(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut soft: Soft = words::decode(request).map_err(Refused)?;
        // No more than a node of ours tells.
        soft.open.truncate(OPEN_TOLD);
        soft.failures.truncate(FAILURES_TOLD);
        self.front.failed_elsewhere(&soft.failures);
        let counts = match self.source.consensus() {
            Some(_) => Counts::Own,
            None => Counts::Everybody,
        };
        self.gathered.take(from, counts, soft);
        Ok(Vec::new())
    }

    /// Gives a cancel request to whoever issued its key: of a short key that may be more than one.
    async fn pass_on(&self, issuer: Issuer, passed: &PassedCancel) -> Option<String> {
        let bytes = words::encode(passed).ok()?;
        for node in self.nodes() {
            if node.id == self.me || !self.front.issued(issuer, node.name.as_str()) {
                continue;
            }
            let answer = self
                .mesh()?
                .call(node.id.get(), words::CANCEL, bytes.clone(), CANCEL + HEARD)
                .await;
            if answer.is_ok_and(|answer| words::decode(&answer).unwrap_or(false)) {
                return Some(node.name.to_string());
            }
        }
        None
    }

    /// Carries out a cancel request that was made to another node.
    pub(super) async fn cancel(&self, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let passed: PassedCancel = words::decode(request).map_err(Refused)?;
        let done = self.front.cancel_for_another(&passed).await;
        words::encode(&done).map_err(Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(count: u32) -> Soft {
        let open = OpenAt {
            tenant: "acme".parse().unwrap(),
            endpoint: "orders".parse().unwrap(),
            count,
        };
        Soft {
            open: vec![open],
            failures: Vec::new(),
        }
    }

    fn held(gathered: &Gathered) -> u32 {
        gathered.open(None).iter().map(|open| open.count).sum()
    }

    #[test]
    fn who_leads_next_tells_instead_of_who_led_before_and_not_beside() {
        let gathered = Gathered::default();
        let (first, second) = (NodeId::new(1).unwrap(), NodeId::new(2).unwrap());
        gathered.take(first, Counts::Everybody, holding(7));
        gathered.take(second, Counts::Everybody, holding(8));
        assert_eq!(held(&gathered), 8);
        gathered.take(second, Counts::Everybody, holding(3));
        assert_eq!(held(&gathered), 3);
    }

    #[test]
    fn nodes_that_tell_of_themselves_are_added_up() {
        let gathered = Gathered::default();
        gathered.take(NodeId::new(1).unwrap(), Counts::Own, holding(7));
        gathered.take(NodeId::new(2).unwrap(), Counts::Own, holding(8));
        assert_eq!(held(&gathered), 15);
    }
}

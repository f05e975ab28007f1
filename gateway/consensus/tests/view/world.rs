//! Voters who sign one history, for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_certs::fleet::{RecoveryKey, ViewKey};
use portcullis_consensus::view::{
    Feed, Follower, Frame, Output, Publish, Signed, Statement, Trusted, Voters,
};
use portcullis_policy::{
    Digest, Fleet, FleetId, KeyHash, Node, NodeId, NodeRole, Revision, Revocations, Tenant,
    TenantAt, TenantId, Timestamp, View, ViewUpdate,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const FLEET: FleetId = FleetId::new([7; 16]);

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub(crate) fn key(id: u64) -> ViewKey {
    ViewKey::from_seed([u8::try_from(id % 250).unwrap(); 32]).unwrap()
}

pub(crate) fn recovery_key() -> RecoveryKey {
    RecoveryKey::from_seed([255; 32]).unwrap()
}

/// A fleet with these voters.
pub(crate) fn fleet(epoch: u64, voters: &BTreeSet<u64>) -> Fleet {
    let nodes = voters.iter().map(|id| {
        let node = Node {
            id: node(*id),
            name: format!("n{id}").parse().unwrap(),
            roles: [NodeRole::Control].into(),
            key: KeyHash::new([u8::try_from(id % 250).unwrap(); 32]),
            view_key: Some(key(*id).public()),
            address: Some("127.0.0.1:7443".to_owned()),
            level: 1,
            admitted: Revision::default(),
        };
        (node.id, node)
    });
    Fleet {
        id: FLEET,
        epoch,
        authorities: BTreeMap::new(),
        recovery_key: recovery_key().public(),
        nodes: nodes.collect(),
    }
}

pub(crate) fn voters(ids: impl IntoIterator<Item = u64>) -> Voters {
    Voters::of(&fleet(1, &ids.into_iter().collect()))
}

/// One history of views.
pub(crate) struct History {
    pub(crate) views: Vec<(Arc<View>, BTreeSet<TenantId>)>,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) epoch: u64,
}

impl History {
    /// A fleet with these voters, at revision 1.
    pub(crate) fn new(ids: impl IntoIterator<Item = u64>) -> Self {
        let mut history = Self {
            views: Vec::new(),
            voters: ids.into_iter().collect(),
            epoch: 1,
        };
        history.add(&[], &[], true);
        history
    }

    pub(crate) fn last(&self) -> &Arc<View> {
        &self.views.last().unwrap().0
    }

    pub(crate) fn roots(&self) -> BTreeMap<u64, Digest> {
        let roots = self.views.iter();
        roots
            .map(|(view, _)| (view.revision().get(), view.root()))
            .collect()
    }

    /// The next view: these tenants are put (suspended or not), those are gone.
    pub(crate) fn add(&mut self, put: &[(&str, bool)], remove: &[&str], with_fleet: bool) {
        let empty = Arc::new(View::empty());
        let before = self.views.last().map_or(&empty, |(view, _)| view);
        let revision = Revision::new(before.revision().get() + 1);
        let put = put.iter().map(|(name, suspended)| {
            let mut document = Tenant::new(tenant(name));
            document.suspended = *suspended;
            TenantAt {
                revision,
                document,
                revoked: Revocations::default(),
            }
        });
        let update = ViewUpdate {
            revision,
            put: put.collect(),
            remove: remove.iter().map(|name| tenant(name)).collect(),
            fleet: with_fleet.then(|| fleet(self.epoch, &self.voters)),
        };
        let (view, _) = before.updated(&update, NOW).unwrap();
        let touched = update.put.iter().map(|one| one.document.id.clone());
        let touched = touched.chain(update.remove.clone()).collect();
        self.views.push((Arc::new(view), touched));
    }
}

/// The statement of a view, signed by these.
pub(crate) fn signed(view: &View, by: &[u64]) -> Signed {
    let statement = Statement::of(view).unwrap();
    let signatures = by.iter().map(|id| (node(*id), statement.sign(&key(*id))));
    Signed {
        signatures: signatures.collect(),
        statement,
    }
}

pub(crate) fn whole(view: &View, by: &[u64]) -> Frame {
    Frame::Whole {
        update: view.as_update(),
        signed: signed(view, by),
    }
}

/// A follower that believes these voters and holds nothing.
pub(crate) fn follower(ids: impl IntoIterator<Item = u64>) -> Follower {
    Follower::new(Trusted {
        fleet: FLEET,
        epoch: 1,
        voters: voters(ids),
        recovery_key: recovery_key().public(),
    })
}

/// The feeds of these voters, each of which has shown all of a history and knows every signature.
pub(crate) fn feeds(history: &History) -> BTreeMap<u64, Feed> {
    let mut feeds: BTreeMap<u64, Feed> = history
        .voters
        .iter()
        .map(|id| (*id, Feed::new(node(*id), key(*id))))
        .collect();
    for (view, touched) in &history.views {
        for feed in feeds.values_mut() {
            feed.show(Arc::clone(view), Some(touched.clone()));
        }
        let words: Vec<_> = feeds
            .iter()
            .filter_map(|(id, feed)| Some((*id, feed.own(view.revision().get())?)))
            .collect();
        for feed in feeds.values_mut() {
            for (id, word) in &words {
                feed.vouched(node(*id), word.clone());
            }
        }
    }
    feeds
}

/// What was published.
pub(crate) fn published(output: Output) -> Publish {
    match output {
        Output::Publish(publish) => *publish,
        other => panic!("{other:?}"),
    }
}

/// The code of a refusal.
pub(crate) fn refused(output: &Output) -> &'static str {
    match output {
        Output::Refused(refused) => refused.code(),
        other => panic!("{other:?}"),
    }
}

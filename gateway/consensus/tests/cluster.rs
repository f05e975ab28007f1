//! Three nodes in one process, on real files: what a majority accepted stays, and a minority accepts nothing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod common;

use common::{Directory, NOW, QUICK, apply, draft, tenant};
use portcullis_consensus::{
    BoxFuture, Consensus, Logs, MAX_MESSAGE, MAX_PROPOSAL, ProposeError, Settings, Transport,
    TransportError, await_leader, begin_alone,
};
use portcullis_policy::{Command, NodeId, RequestId, Revision, State};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_majority_accepts_survives_its_leader_and_a_minority_accepts_nothing() {
    let fleet = Fleet::new("failover");
    let nodes = fleet.three().await;
    put(&nodes[0], "b").await.unwrap();
    for node in &nodes {
        reaches(node, 2).await;
    }
    nodes[0].confirm(Duration::from_secs(2)).await.unwrap();

    fleet.isolate(1);
    // The old leader does not know yet that it leads nobody.
    let lost = put(&nodes[0], "lost").await;
    assert!(
        matches!(
            lost,
            Err(ProposeError::Unknown | ProposeError::NoQuorum | ProposeError::NotLeader(_))
        ),
        "{lost:?}"
    );
    let refused = nodes[0].confirm(Duration::from_millis(500)).await;
    assert!(refused.is_err(), "{refused:?}");
    let leader = fleet.leader_among(&nodes[1..]).await;
    put(&leader, "c").await.unwrap();
    assert_eq!(nodes[0].view().revision(), Revision::new(2));

    fleet.heal();
    for node in &nodes {
        reaches(node, 3).await;
    }
    let roots: BTreeSet<_> = nodes.iter().map(|node| node.state().root()).collect();
    assert_eq!(roots.len(), 1);
    assert!(nodes[0].view().tenant(&common::id("lost")).is_none());
    fleet.close(&nodes).await;
}

/// Staged pieces weigh much and are few: the log gets small again by its bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_few_large_entries_is_covered_by_a_snapshot() {
    let fleet = Fleet::new("bytes");
    begin_alone(&fleet.data(1), id(1), &State::default(), &Logs::default()).unwrap();
    let node = fleet.open(1).await;
    fleet.leader_among(std::slice::from_ref(&node)).await;
    for _ in 0..30 {
        // The same pieces again: they are entries all the same.
        let pieces = (0..40).map(|index| stage(&node, index));
        futures_util::future::join_all(pieces).await;
    }
    assert!(node.status().log < 2_000, "{:?}", node.status());
    for _ in 0..200 {
        let images = common::images(&fleet.data(1));
        if images.iter().any(|image| !image.contains("begin")) {
            fleet.close(&[node]).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no snapshot was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_repeated_after_the_leader_was_lost_happens_once() {
    let fleet = Fleet::new("repeated");
    let nodes = fleet.three().await;
    let mut asked = draft(apply(vec![tenant("once")], vec![]));
    asked.request = Some(RequestId::new([9; 16]));
    let first = nodes[0].propose(asked.clone(), || NOW).await.unwrap();
    reaches(&nodes[1], first.revision.get()).await;
    reaches(&nodes[2], first.revision.get()).await;
    fleet.isolate(1);
    let leader = fleet.leader_among(&nodes[1..]).await;
    let again = leader.propose(asked, || NOW).await.unwrap();
    assert!(again.repeated);
    assert_eq!(again.revision, first.revision);
    fleet.close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_shows_what_it_showed() {
    let fleet = Fleet::new("reopened");
    let mut nodes = fleet.three().await;
    for name in ["b", "c", "d"] {
        put(&nodes[0], name).await.unwrap();
    }
    reaches(&nodes[2], 4).await;
    fleet.isolate(3);
    let shown = nodes[2].view();
    nodes[2].shutdown().await;
    drop(nodes.pop());
    let again = fleet.open(3).await;
    assert_eq!(*again.view(), *shown);
    assert!(again.confirm(Duration::from_millis(300)).await.is_err());
    fleet.heal();
    put(&nodes[0], "e").await.unwrap();
    reaches(&again, 5).await;
    nodes.push(again);
    fleet.close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_faster_than_by_an_election_and_a_voter_leaves() {
    let fleet = Fleet::new("handed");
    let nodes = fleet.three().await;
    reaches(&nodes[1], 1).await;
    let begun = tokio::time::Instant::now();
    nodes[0].step_down(id(2)).await.unwrap();
    fleet.leader_among(&nodes[1..2]).await;
    put(&nodes[1], "b").await.unwrap();
    let took = begun.elapsed();
    // A vote for the heir, and no silence that is waited out before.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let refused = put(&nodes[0], "c").await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader(Some(node))) if node == id(2)),
        "{refused:?}"
    );
    nodes[1].drop_member(id(3)).await.unwrap();
    let status = nodes[1].status();
    assert_eq!(status.voters, BTreeSet::from([id(1), id(2)]));
    assert_eq!(status.failed, None);
    fleet.close(&nodes).await;
}

/// Entries of the largest size pile up while a node is away: none of the messages that bring it
/// back is larger than one may be, and what the others keep of them is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_gets_large_entries_and_then_a_snapshot_in_pieces() {
    let fleet = Fleet::new("lagging");
    let nodes = fleet.three().await;
    fleet.isolate(3);
    for index in 0..40 {
        stage(&nodes[0], index).await;
    }
    let log = nodes[0].status().log;
    fleet.heal();
    applies(&nodes[2], log).await;
    let largest = fleet.wires.largest.load(Ordering::Relaxed);
    assert!(largest > MAX_PROPOSAL, "{largest}");
    assert!(largest <= MAX_MESSAGE, "{largest}");

    // A node that is new gets all of it as a snapshot: the state weighs more than one piece.
    let image = State::clone(&nodes[0].state());
    fleet.close(&nodes).await;
    drop(nodes);
    let other = Fleet::new("pieces");
    begin_alone(&other.data(1), id(1), &image, &Logs::default()).unwrap();
    let first = other.open(1).await;
    other.leader_among(std::slice::from_ref(&first)).await;
    let second = other.join(2).await;
    first.add_learner(id(2)).await.unwrap();
    reaches(&second, image.revision().get()).await;
    assert_eq!(second.state().root(), image.root());
    let calls = other.wires.large.load(Ordering::Relaxed);
    assert!(calls >= 2, "{calls} large messages");
    assert!(other.wires.largest.load(Ordering::Relaxed) <= MAX_MESSAGE);
    // It is there after a restart too.
    second.shutdown().await;
    drop(second);
    let second = other.open(2).await;
    assert_eq!(second.state().root(), image.root());
    other.close(&[first, second]).await;
}

/// A node that lets go of its state is given it anew, as far as the others were at least, before it
/// votes again; what it showed stays shown meanwhile, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_state_is_reinstalled_shows_what_it_showed_and_votes_when_it_has_come_as_far()
{
    let fleet = Fleet::new("reinstalled");
    let mut nodes = fleet.three().await;
    for name in ["b", "c", "d"] {
        put(&nodes[0], name).await.unwrap();
    }
    reaches(&nodes[2], 4).await;
    nodes[2].pause().await;
    let paused = nodes[2].status();
    assert_eq!((paused.leader, paused.failed), (None, None));
    assert!(
        nodes[2]
            .propose(draft(apply(vec![], vec![])), || NOW)
            .await
            .is_err()
    );
    put(&nodes[0], "e").await.unwrap();
    nodes[0].drop_member(id(3)).await.unwrap();
    for _ in 0..200 {
        if nodes[0].status().settled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let status = nodes[0].status();
    assert!(status.settled, "{status:?}");
    assert_eq!(status.voters, BTreeSet::from([id(1), id(2)]));
    let fence = status.applied;
    nodes[2].reinstall(fence).await.unwrap();
    assert_eq!(nodes[2].fence(), Some(fence));
    assert_eq!(nodes[2].view().revision(), Revision::new(4));

    // It is killed in the middle.
    nodes[2].shutdown().await;
    drop(nodes.pop());
    let again = fleet.open(3).await;
    assert_eq!(again.fence(), Some(fence));
    assert_eq!(again.view().revision(), Revision::new(4));
    // A leader that is not there any more cannot be elected with its help.
    fleet.isolate(1);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(nodes[1].confirm(Duration::from_millis(300)).await.is_err());
    fleet.heal();
    let leader = fleet.leader_among(&nodes).await;
    put(&leader, "f").await.unwrap();

    leader.add_learner(id(3)).await.unwrap();
    reaches(&again, 6).await;
    assert_eq!(again.fence(), None);
    for _ in 0..200 {
        if leader.status().caught_up(id(3)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    leader.promote(id(3)).await.unwrap();
    nodes.push(again);
    put(&leader, "g").await.unwrap();
    for node in &nodes {
        reaches(node, 7).await;
    }
    let roots: BTreeSet<_> = nodes.iter().map(|node| node.state().root()).collect();
    assert_eq!(roots.len(), 1);
    let known = nodes[0].roots_known();
    let common = nodes[2].roots_told();
    assert!(
        common.iter().any(|rooted| known.contains(rooted)),
        "{common:?} {known:?}"
    );
    // Its vote counts again.
    let second = if Arc::ptr_eq(&leader, &nodes[0]) {
        1
    } else {
        0
    };
    fleet.isolate(if second == 0 { 1 } else { 2 });
    put(&leader, "h").await.unwrap();
    reaches(&nodes[2], 8).await;
    drop(leader);
    fleet.heal();
    fleet.close(&nodes).await;
}

/// Opened again in the same process, a node shows what it showed all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_opened_again_takes_part_again_and_shows_nothing_older_meanwhile() {
    let fleet = Fleet::new("opened-again");
    let nodes = fleet.three().await;
    for name in ["b", "c", "d"] {
        put(&nodes[0], name).await.unwrap();
    }
    reaches(&nodes[2], 4).await;
    nodes[2].shutdown().await;
    put(&nodes[0], "e").await.unwrap();
    assert!(nodes[2].status().failed.is_some());
    let looking = Arc::clone(&nodes[2]);
    let oldest = tokio::spawn(async move {
        let mut oldest = looking.view().revision();
        for _ in 0..20_000 {
            oldest = oldest.min(looking.view().revision());
            tokio::task::yield_now().await;
        }
        oldest
    });
    nodes[2].reopen().await.unwrap();
    assert_eq!(nodes[2].status().failed, None);
    reaches(&nodes[2], 5).await;
    assert_eq!(oldest.await.unwrap(), Revision::new(4));
    assert_eq!(nodes[2].fence(), None);
    fleet.isolate(2);
    put(&nodes[0], "f").await.unwrap();
    reaches(&nodes[2], 6).await;
    fleet.heal();
    fleet.close(&nodes).await;
}

/// What is damaged stays closed, and what was shown stays shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_not_opened_again_and_one_that_is_in_use_may_be() {
    let fleet = Fleet::new("damaged-again");
    begin_alone(&fleet.data(1), id(1), &State::default(), &Logs::default()).unwrap();
    let node = fleet.open(1).await;
    fleet.leader_among(std::slice::from_ref(&node)).await;
    put(&node, "a").await.unwrap();
    node.shutdown().await;
    let other = fleet.open(1).await;
    let refused = node.reopen().await.unwrap_err();
    assert!(refused.may_pass(), "{refused}");
    other.shutdown().await;
    drop(other);
    let file = fleet.data(1).join("state.redb");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = node.reopen().await.unwrap_err();
    assert!(!refused.may_pass(), "{refused}");
    std::fs::remove_file(&file).unwrap();
    let refused = node.reopen().await.unwrap_err();
    assert!(!refused.may_pass(), "{refused}");
    assert!(node.status().failed.is_some());
    assert_eq!(node.view().revision(), Revision::new(1));
    std::fs::write(&file, whole).unwrap();
    node.reopen().await.unwrap();
    fleet.leader_among(std::slice::from_ref(&node)).await;
    put(&node, "b").await.unwrap();
    node.shutdown().await;
}

async fn stage(node: &Consensus, index: u8) {
    let command = Command::Stage {
        stage: RequestId::new([3; 16]),
        index: index.into(),
        of: 40,
        bytes: vec![index; 48 << 10],
    };
    node.propose(draft(command), || NOW).await.unwrap();
}

async fn put(node: &Consensus, name: &str) -> Result<(), ProposeError> {
    let draft = draft(apply(vec![tenant(name)], vec![]));
    node.propose(draft, || NOW).await.map(drop)
}

async fn reaches(node: &Consensus, revision: u64) {
    for _ in 0..400 {
        if node.view().revision() >= Revision::new(revision) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{node:?} never reaches {revision}: {:?}", node.status());
}

async fn applies(node: &Consensus, log: u64) {
    for _ in 0..400 {
        if node.status().applied >= log {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{node:?} never applies {log}: {:?}", node.status());
}

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

#[derive(Default)]
struct Wires {
    nodes: Mutex<BTreeMap<NodeId, Weak<Consensus>>>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// The largest message, in bytes.
    largest: AtomicUsize,
    /// Messages of at least half a MiB.
    large: AtomicUsize,
}

struct Wire(NodeId, Arc<Wires>);

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let (from, wires) = (self.0, Arc::clone(&self.1));
        wires.largest.fetch_max(request.len(), Ordering::Relaxed);
        if request.len() > 512 << 10 {
            wires.large.fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(async move {
            let cut = {
                let cut = wires.cut.lock().unwrap();
                cut.contains(&from) || cut.contains(&to)
            };
            let node = wires.nodes.lock().unwrap().get(&to).and_then(Weak::upgrade);
            match node.filter(|_| !cut) {
                Some(node) => tokio::time::timeout(within, node.answer(from, request))
                    .await
                    .unwrap_or_else(|_| Err(TransportError::new("late"))),
                None => Err(TransportError::new("cut")),
            }
        })
    }
}

struct Fleet {
    directory: Directory,
    wires: Arc<Wires>,
}

impl Fleet {
    fn new(name: &str) -> Self {
        Self {
            directory: Directory::new(name),
            wires: Arc::default(),
        }
    }

    /// Three voters of which the first leads, at revision 1.
    async fn three(&self) -> Vec<Arc<Consensus>> {
        begin_alone(&self.data(1), id(1), &State::default(), &Logs::default()).unwrap();
        let first = self.open(1).await;
        self.leader_among(std::slice::from_ref(&first)).await;
        put(&first, "a").await.unwrap();
        let mut nodes = vec![Arc::clone(&first)];
        for node in 2..=3 {
            let new = self.join(node).await;
            first.add_learner(id(node)).await.unwrap();
            reaches(&new, 1).await;
            first.promote(id(node)).await.unwrap();
            nodes.push(new);
        }
        drop(first);
        nodes
    }

    fn data(&self, node: u64) -> PathBuf {
        let path = self.directory.0.join(node.to_string());
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    async fn join(&self, node: u64) -> Arc<Consensus> {
        await_leader(&self.data(node), id(node)).unwrap();
        self.open(node).await
    }

    async fn open(&self, node: u64) -> Arc<Consensus> {
        let wire = Arc::new(Wire(id(node), Arc::clone(&self.wires)));
        let settings = Settings::in_fleet(&self.data(node), id(node), wire).with_timing(QUICK);
        let opened = Arc::new(Consensus::open(settings).await.unwrap());
        let weak = Arc::downgrade(&opened);
        self.wires.nodes.lock().unwrap().insert(id(node), weak);
        opened
    }

    fn isolate(&self, node: u64) {
        self.wires.cut.lock().unwrap().insert(id(node));
    }

    fn heal(&self) {
        self.wires.cut.lock().unwrap().clear();
    }

    async fn leader_among(&self, nodes: &[Arc<Consensus>]) -> Arc<Consensus> {
        for _ in 0..400 {
            for node in nodes {
                if node.confirm(Duration::from_millis(200)).await.is_ok() {
                    return Arc::clone(node);
                }
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nobody leads");
    }

    async fn close(&self, nodes: &[Arc<Consensus>]) {
        for node in nodes {
            node.shutdown().await;
        }
    }
}

//! The audit logs of one node: the same leaves at the same places whatever killed it, and none let go
//! of before somebody else has them for good.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail by panicking"
)]

mod common;

use common::{Directory, NOW, QUICK, apply, draft, id, images, tenant};
use portcullis_audit::tlog::{Hash, Tree};
use portcullis_audit::{Event, kinds};
use portcullis_consensus::{AuditLog, BoxFuture, Consensus, Head, Leaf, Leaves, Settings};
use portcullis_policy::Command;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Keeps leaves as files would: what comes again must be the same.
struct Kept {
    logs: Mutex<BTreeMap<AuditLog, Vec<Vec<u8>>>>,
    heads: Mutex<Vec<Head>>,
    /// Whether the disk answers.
    answers: watch::Sender<bool>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            logs: Mutex::default(),
            heads: Mutex::default(),
            answers: watch::Sender::new(true),
        }
    }
}

impl Leaves for Kept {
    fn begin(&self, logs: Vec<(AuditLog, Tree)>, _sealed: Vec<Head>) -> io::Result<()> {
        let kept = self.logs.lock().unwrap();
        for (log, tree) in logs {
            let leaves = kept.get(&log).map(Vec::as_slice).unwrap_or_default();
            let size = usize::try_from(tree.size()).unwrap();
            assert_eq!(tree.root(), root(&leaves[..size]), "{log:?}");
        }
        Ok(())
    }

    fn append(&self, leaves: Vec<Leaf>) -> io::Result<()> {
        let mut kept = self.logs.lock().unwrap();
        for Leaf {
            log,
            index,
            bytes,
            openings: _,
        } in leaves
        {
            let kept = kept.entry(log).or_default();
            let index = usize::try_from(index).unwrap();
            match kept.get(index) {
                Some(before) => assert_eq!(*before, bytes),
                None => {
                    assert_eq!(kept.len(), index);
                    kept.push(bytes);
                }
            }
        }
        Ok(())
    }

    fn sealed(&self, heads: Vec<Head>) {
        *self.heads.lock().unwrap() = heads;
    }

    fn durable(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut answers = self.answers.subscribe();
        Box::pin(async move {
            answers.wait_for(|answers| *answers).await.unwrap();
            Ok(())
        })
    }
}

impl Kept {
    fn events(&self, log: &AuditLog) -> Vec<Event> {
        let kept = self.logs.lock().unwrap();
        let lines = kept.get(log).into_iter().flatten();
        lines
            .map(|line| Event::parse(std::str::from_utf8(line).unwrap()).unwrap())
            .collect()
    }
}

fn root(leaves: &[Vec<u8>]) -> Hash {
    let mut tree = Tree::EMPTY;
    for leaf in leaves {
        tree.push(Hash::of_leaf(leaf));
    }
    tree.root()
}

async fn open(directory: &Directory, kept: &Arc<Kept>) -> Consensus {
    let leaves: Arc<dyn Leaves> = Arc::<Kept>::clone(kept);
    let settings = Settings::alone(&directory.0)
        .with_timing(QUICK)
        .with_leaves(leaves);
    Consensus::open(settings).await.unwrap()
}

async fn propose(node: &Consensus, command: Command) {
    node.propose(draft(command), || NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_a_leaf_of_its_tenants_log_and_comes_again_at_its_place_after_a_restart() {
    let (directory, kept) = (Directory::new("logs"), Arc::new(Kept::default()));
    let acme = AuditLog::Tenant(id("acme"));
    for round in 0..3_u64 {
        let node = open(&directory, &kept).await;
        propose(&node, apply(vec![tenant("acme"), tenant("bolt")], vec![])).await;
        propose(&node, apply(vec![], vec![id("acme"), id("bolt")])).await;
        propose(&node, Command::Seal).await;
        let heads = kept.heads.lock().unwrap().clone();
        assert_eq!(heads.len(), 3);
        let logs = kept.logs.lock().unwrap().clone();
        for head in &heads {
            assert_eq!(head.root, root(&logs[&head.log]), "{head:?}");
        }
        assert_eq!(heads[0].log, acme);
        assert_eq!(heads[0].size, 2 * (round + 1));
        // Nothing grew.
        kept.heads.lock().unwrap().clear();
        propose(&node, Command::Seal).await;
        assert_eq!(*kept.heads.lock().unwrap(), []);
        // A change that changes nothing is no event; neither is one that is refused.
        propose(&node, apply(vec![], vec![])).await;
        let refused = draft(apply(vec![], vec![id("nobody")]));
        node.propose(refused, || NOW).await.unwrap_err();
        assert_eq!(*kept.logs.lock().unwrap(), logs);
        // No snapshot was made: all of it comes again.
        node.shutdown().await;
    }
    let events = kept.events(&acme);
    assert_eq!(events.len(), 6);
    assert_eq!(events[0].kind, kinds::POLICY_APPLIED);
    assert_eq!(events[0].field("document").unwrap()["id"], "acme");
    assert_eq!(events[1].field("document"), Some(&serde_json::Value::Null));
    let fleet: Vec<_> = kept.events(&AuditLog::Fleet);
    let heads = fleet.iter().filter(|event| event.kind == kinds::LOG_HEAD);
    assert_eq!((heads.count(), fleet.len()), (6, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_kept_before_the_leaves_that_it_covers_are_durable() {
    let (directory, kept) = (Directory::new("logs-durable"), Arc::new(Kept::default()));
    let node = open(&directory, &kept).await;
    kept.answers.send_replace(false);
    let begun = images(&directory.0);
    for number in 0..2_300 {
        let name = ["acme", "bolt"][number % 2];
        let command = match number % 4 {
            0 | 1 => apply(vec![tenant(name)], vec![]),
            _ => apply(vec![], vec![id(name)]),
        };
        propose(&node, command).await;
    }
    // Enough for a snapshot.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(images(&directory.0), begun);
    kept.answers.send_replace(true);
    for _ in 0..400 {
        if images(&directory.0) != begun {
            node.shutdown().await;
            drop(node);
            // From the snapshot, which knows the trees, and not from the beginning.
            let again = open(&directory, &kept).await;
            propose(&again, Command::Seal).await;
            assert_eq!(kept.heads.lock().unwrap().len(), 3);
            again.shutdown().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no snapshot was made");
}

//! What is swept, on real files.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_audit::personal::{Opening, Salt};
use portcullis_audit::tlog::{Checkpoint, Note, NoteSignature};
use portcullis_policy::Hold;
use serde_json::json;

use super::*;

/// The logs and openings of a node, in a directory that is removed again.
struct Node {
    directory: PathBuf,
    files: Files,
}

impl Node {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-sweeping-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let logs = Logs::open(&directory.join("logs")).unwrap();
        let openings = Openings::open(&directory.join("openings")).unwrap();
        let files = Files {
            logs: Arc::new(logs),
            openings: Arc::new(openings),
            partial: BTreeSet::new(),
        };
        Self { directory, files }
    }

    /// An entry of each second, from the log's last on; of every tenth it is known who it is about.
    fn grow(&self, log: &LogId, count: u64, kind: impl Fn(u64) -> &'static str) {
        let size = |it: &Logs| it.tree(log).map_or(0, |tree| tree.size());
        let from = size(&self.files.logs);
        for index in from..from + count {
            let at_ms = i64::try_from(index).unwrap() * 1_000;
            let event = Event::new(at_ms, kind(index), "fleet").with("document", json!({}));
            let line = event.line().into_bytes();
            self.files.logs.append(log, index, &[line]).unwrap();
            if index % 10 == 0 {
                let opening = Opening {
                    index,
                    field: "by".to_owned(),
                    at_ms,
                    salt: Salt([1; 16]),
                    value: json!("paul"),
                };
                self.files.openings.add(log, vec![opening]).unwrap();
            }
        }
        self.publish(log);
    }

    fn publish(&self, log: &LogId) {
        let tree = self.files.logs.tree(log).unwrap();
        let checkpoint = Checkpoint {
            origin: format!("portcullis/f1/{log}"),
            size: tree.size(),
            root: tree.root(),
        };
        let note = Note {
            text: checkpoint.text(),
            signatures: vec![NoteSignature {
                name: "n".to_owned(),
                key_id: [1; 4],
                bytes: vec![0; 64],
            }],
        };
        self.files.openings.write(log).unwrap();
        self.files.logs.publish(log, &note).unwrap();
    }

    /// What the leader has a log say.
    fn declare(&self, log: &LogId, kept_from: u64) {
        let index = self.files.logs.tree(log).unwrap().size();
        let at_ms = i64::try_from(index).unwrap() * 1_000;
        let event = Event::new(at_ms, kinds::LOG_PRUNED, "n1").with("kept_from", kept_from);
        let line = event.line().into_bytes();
        self.files.logs.append(log, index, &[line]).unwrap();
        self.publish(log);
    }

    fn bundles(&self, log: &LogId) -> Vec<u64> {
        self.files.logs.bundles(log, u64::MAX).unwrap()
    }

    fn opened(&self, log: &LogId) -> Vec<u64> {
        let bundles = self.files.openings.bundles(log).unwrap();
        let all = bundles
            .into_iter()
            .flat_map(|it| self.files.openings.of(log, it).unwrap());
        all.map(|opening| opening.index).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn keeps(entries: Option<u64>, personal: Option<u64>) -> Policy {
    Policy {
        entries,
        personal,
        holds: vec![],
    }
}

fn other(_: u64) -> &'static str {
    kinds::FLEET_INVITED
}

#[test]
fn openings_go_when_they_are_old_and_not_before() {
    let node = Node::new();
    node.grow(&LogId::Fleet, 1_000, other);
    let now = 1_000_000;
    assert_eq!(node.files.sweep(&keeps(None, Some(1_000)), now).openings, 0);
    let done = node.files.sweep(&keeps(None, Some(300)), now);
    assert_eq!(
        (done.openings, done.of_logs, done.problems.len()),
        (70, 1, 0)
    );
    let left: Vec<u64> = (700..1_000).step_by(10).collect();
    assert_eq!(node.opened(&LogId::Fleet), left);
    // The entries stay.
    assert_eq!(node.bundles(&LogId::Fleet).len(), 3);
    assert_eq!(node.files.sweep(&keeps(None, Some(300)), now).openings, 0);
    // What was there already and comes again after a start goes again.
    let opening = Opening {
        index: 3,
        field: "by".to_owned(),
        at_ms: 3_000,
        salt: Salt([1; 16]),
        value: json!("paul"),
    };
    node.files
        .openings
        .add(&LogId::Fleet, vec![opening])
        .unwrap();
    node.files.openings.write(&LogId::Fleet).unwrap();
    assert_eq!(node.files.sweep(&keeps(None, Some(300)), now).openings, 1);
}

#[test]
fn what_is_dated_ahead_or_damaged_keeps_no_other_bundle_from_being_swept() {
    let node = Node::new();
    node.grow(&LogId::Fleet, 1_000, other);
    let ahead = Opening {
        index: 3,
        field: "by".to_owned(),
        at_ms: 4_000_000_000,
        salt: Salt([1; 16]),
        value: json!("ada"),
    };
    let openings = &node.files.openings;
    openings.add(&LogId::Fleet, vec![ahead]).unwrap();
    openings.write(&LogId::Fleet).unwrap();
    let damaged = node.directory.join("openings/fleet/001.jsonl");
    fs::write(&damaged, "half a line with a name in it").unwrap();
    let before = openings.of(&LogId::Fleet, 1).unwrap().len();
    assert_eq!(before, 0);
    let done = node.files.sweep(&keeps(None, Some(300)), 1_000_000);
    assert_eq!(done.problems.len(), 0);
    assert!(!damaged.exists());
    let left: Vec<u64> = [3].into_iter().chain((700..1_000).step_by(10)).collect();
    assert_eq!(node.opened(&LogId::Fleet), left);
}

#[test]
fn entries_go_after_their_log_said_so_and_the_policy_in_force_stays() {
    let node = Node::new();
    let acme = LogId::Tenant("acme".parse().unwrap());
    // The last change is in the second bundle.
    let kind = |index| match index {
        10 | 300 => kinds::POLICY_APPLIED,
        _ => kinds::CONNECTIONS_BATCH,
    };
    node.grow(&acme, 1_300, kind);
    node.grow(&LogId::Fleet, 1_300, other);
    let (now, policy) = (1_300_000, keeps(Some(200), None));
    let done = node.files.sweep(&policy, now);
    // 1,100 seconds are old: four bundles, the last of them not whole.
    assert_eq!(done.to_say, [(LogId::Fleet, 1_024), (acme.clone(), 1_024)]);
    assert_eq!(node.bundles(&acme).len(), 5);
    for log in [&acme, &LogId::Fleet] {
        node.declare(log, 1_024);
    }
    let done = node.files.sweep(&policy, now);
    assert_eq!((done.to_say.len(), done.problems.len()), (0, 0));
    assert_eq!(node.bundles(&acme), [1, 4]);
    assert_eq!(node.bundles(&LogId::Fleet), [4]);
    assert_eq!(node.opened(&LogId::Fleet).first(), Some(&1_030));
    // A later change lets the earlier one go.
    node.grow(&acme, 1_000, |index| match index {
        1_400 => kinds::POLICY_APPLIED,
        _ => kinds::CONNECTIONS_BATCH,
    });
    node.declare(&acme, 2_048);
    let done = node.files.sweep(&policy, 2_300_000);
    assert_eq!(
        (done.to_say, done.problems.len()),
        (vec![(LogId::Fleet, 1_280)], 0)
    );
    assert_eq!(node.bundles(&acme), [5]);
}

#[test]
fn a_node_lets_go_of_nothing_that_it_does_not_find_old_itself() {
    let node = Node::new();
    node.grow(&LogId::Fleet, 1_000, other);
    node.declare(&LogId::Fleet, 768);
    // Whoever had the log say so was wrong.
    let done = node.files.sweep(&keeps(Some(700), None), 1_000_000);
    assert_eq!((done.to_say.len(), done.problems.len()), (0, 0));
    assert_eq!(node.bundles(&LogId::Fleet), [1, 2]);
}

#[test]
fn a_hold_keeps_what_it_covers() {
    let node = Node::new();
    let (acme, bolt) = ("acme".parse().unwrap(), "bolt".parse().unwrap());
    let (acme, bolt) = (LogId::Tenant(acme), LogId::Tenant(bolt));
    let logs = [LogId::Fleet, acme.clone(), bolt.clone()];
    for log in &logs {
        node.grow(log, 300, other);
        node.declare(log, 256);
    }
    let mut policy = keeps(Some(1), Some(1));
    let hold = |tenant: Option<&str>| Hold {
        name: "lawsuit".parse().unwrap(),
        tenant: tenant.map(|it| it.parse().unwrap()),
        reason: "a court asked for it".to_owned(),
    };
    policy.holds = vec![hold(None)];
    let done = node.files.sweep(&policy, 9_000_000);
    assert_eq!((done.openings, done.to_say.len()), (0, 0));
    assert!(logs.iter().all(|log| node.bundles(log) == [0]));
    policy.holds = vec![hold(Some("acme"))];
    let done = node.files.sweep(&policy, 9_000_000);
    assert_eq!((done.openings, done.of_logs), (60, 2));
    let left: Vec<usize> = logs.iter().map(|log| node.bundles(log).len()).collect();
    assert_eq!(left, [0, 1, 0]);
    assert_eq!(node.opened(&acme).len(), 30);
    policy.holds.clear();
    node.files.sweep(&policy, 9_000_000);
    assert_eq!(
        (node.bundles(&acme).len(), node.opened(&acme).len()),
        (0, 0)
    );
}

#[test]
fn a_log_that_is_being_filled_is_left_alone() {
    let mut node = Node::new();
    node.grow(&LogId::Fleet, 600, other);
    node.files.partial = BTreeSet::from([LogId::Fleet]);
    let done = node.files.sweep(&keeps(Some(1), Some(1)), 9_000_000);
    assert_eq!((done.openings, done.to_say.len()), (0, 0));
}

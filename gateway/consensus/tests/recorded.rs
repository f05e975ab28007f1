//! What nodes record lands in the right audit log, once, and nobody forges what only all nodes say.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking"
)]

mod common;

use common::{Directory, NOW, QUICK, apply, draft, id, tenant};
use portcullis_audit::tlog::Tree;
use portcullis_audit::{Event, kinds};
use portcullis_consensus::{
    AuditLog, BoxFuture, Consensus, Draft, Head, Leaf, Leaves, ProposeError, Settings,
    is_fleets_own,
};
use portcullis_policy::{
    Applied, Author, Command, FEATURE_LEVEL, FleetId, GuardRails, KeyHash, NodeId, NodeRole,
    People, Principal, Rejection, Told,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// Leaves by their log and index.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<(AuditLog, u64), String>>);

impl Leaves for Kept {
    fn begin(&self, _logs: Vec<(AuditLog, Tree)>, _sealed: Vec<Head>) -> io::Result<()> {
        Ok(())
    }

    fn append(&self, leaves: Vec<Leaf>) -> io::Result<()> {
        let mut kept = self.0.lock().unwrap();
        for Leaf {
            log,
            index,
            bytes,
            openings: _,
        } in leaves
        {
            let line = String::from_utf8(bytes).unwrap();
            if let Some(before) = kept.insert((log, index), line.clone()) {
                assert_eq!(before, line);
            }
        }
        Ok(())
    }

    fn sealed(&self, _heads: Vec<Head>) {}

    fn durable(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Kept {
    /// What the node said itself, in the order of a log.
    fn of(&self, log: &AuditLog) -> Vec<String> {
        let kept = self.0.lock().unwrap();
        let lines = kept.iter().filter(|((of, _), _)| of == log);
        let lines = lines.map(|(_, line)| line.clone());
        lines
            .filter(|line| Event::parse(line).unwrap().node == "n1")
            .collect()
    }
}

async fn open(directory: &Directory, kept: &Arc<Kept>) -> Consensus {
    let leaves: Arc<dyn Leaves> = Arc::<Kept>::clone(kept);
    let settings = Settings::alone(&directory.0)
        .with_timing(QUICK)
        .with_leaves(leaves);
    Consensus::open(settings).await.unwrap()
}

async fn founded(directory: &Directory, kept: &Arc<Kept>) -> Consensus {
    let node = open(directory, kept).await;
    let found = Command::Found {
        fleet: FleetId::new([7; 16]),
        name: "n1".parse().unwrap(),
        roles: BTreeSet::from([NodeRole::Control]),
        key: KeyHash::new([1; 32]),
        view_key: [1; 32],
        address: "n1.example.net:7400".to_owned(),
        recovery_key: [9; 32],
        guard_rails: GuardRails {
            anywhere: People::One,
            operators: People::One,
            guard_rails: People::One,
        },
    };
    let report = Command::Report {
        node: NodeId::FIRST,
        level: FEATURE_LEVEL,
        address: Some("n1.example.net:7400".to_owned()),
    };
    for command in [found, report, apply(vec![tenant("acme")], vec![])] {
        node.propose(draft(command), || NOW).await.unwrap();
    }
    node
}

async fn record(
    node: &Consensus,
    sequence: u64,
    lines: &[String],
) -> Result<Arc<Applied>, ProposeError> {
    let draft = Draft {
        request: None,
        author: Author {
            // What the author is called is not who it is.
            name: "somebody".to_owned(),
            principal: Principal::Node(NodeId::FIRST),
        },
        command: Command::Record {
            sequence,
            events: lines.iter().map(|it| it.clone().into_bytes()).collect(),
        },
    };
    node.propose(draft, || NOW).await
}

fn line(kind: &'static str, of: Option<&str>, number: i64) -> String {
    let mut event = Event::new(number, kind, "n1");
    event.tenant = of.map(str::to_owned);
    event.line()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_events_are_in_the_log_of_their_tenant_or_the_fleets_once_also_after_a_restart() {
    let (directory, kept) = (Directory::new("recorded"), Arc::new(Kept::default()));
    let acme = AuditLog::Tenant(id("acme"));
    let lines = [
        line(kinds::NODE_STARTED, None, 1),
        line(kinds::CONNECTION_DENIED, Some("acme"), 2),
        // There is no such tenant, and no log for whoever invents one.
        line(kinds::CONNECTION_DENIED, Some("bolt"), 3),
        line(kinds::CONNECTION_DENIED, Some("no tenant's name"), 4),
        line(kinds::CONNECTION_CLOSED, Some("acme"), 5),
    ];
    let node = founded(&directory, &kept).await;
    let revision = node.view().revision();
    let first = record(&node, 1, &lines).await.unwrap();
    assert_eq!((first.repeated, &first.told), (false, &Told::Recorded(1)));
    let again = record(&node, 1, &lines).await.unwrap();
    assert_eq!((again.repeated, &again.told), (true, &Told::Recorded(1)));
    let gap = record(&node, 3, &lines).await.unwrap_err();
    let (sequence, through) = (3, 1);
    assert!(matches!(
        gap,
        ProposeError::Rejected(refused) if refused == Rejection::RecordGap { sequence, through }
    ));
    node.shutdown().await;
    let node = open(&directory, &kept).await;
    let again = record(&node, 1, &lines).await.unwrap();
    assert!(again.repeated);
    record(&node, 2, &lines[..1]).await.unwrap();
    assert_eq!(kept.of(&acme), [lines[1].clone(), lines[4].clone()]);
    let fleets = [&lines[0], &lines[2], &lines[3], &lines[0]].map(String::clone);
    assert_eq!(kept.of(&AuditLog::Fleet), fleets);
    assert_eq!(node.view().revision(), revision);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_tenant_that_is_gone_says_for_itself_what_it_lacks() {
    let (directory, kept) = (Directory::new("gone"), Arc::new(Kept::default()));
    let acme = AuditLog::Tenant(id("acme"));
    let node = founded(&directory, &kept).await;
    let gone = draft(apply(vec![], vec![id("acme")]));
    node.propose(gone, || NOW).await.unwrap();
    let lines = [
        line(kinds::LOG_PRUNED, Some("acme"), 1),
        line(kinds::CONNECTION_DENIED, Some("acme"), 2),
        line(kinds::LOG_PRUNED, Some("bolt"), 3),
    ];
    record(&node, 1, &lines).await.unwrap();
    assert_eq!(kept.of(&acme), lines[..1]);
    assert_eq!(kept.of(&AuditLog::Fleet), lines[1..]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_records_under_its_own_name_and_under_no_other() {
    let (directory, kept) = (Directory::new("alone"), Arc::new(Kept::default()));
    let node = open(&directory, &kept).await;
    node.propose(draft(apply(vec![tenant("acme")], vec![])), || NOW)
        .await
        .unwrap();
    let lines = [
        line(kinds::NODE_STARTED, None, 1),
        line(kinds::CONNECTION_DENIED, Some("acme"), 2),
    ];
    let said = |name: &str, id: NodeId, lines: &[String]| Draft {
        request: None,
        author: Author {
            name: name.to_owned(),
            principal: Principal::Node(id),
        },
        command: Command::Record {
            sequence: 1,
            events: lines.iter().map(|it| it.clone().into_bytes()).collect(),
        },
    };
    let of_all = [Event::new(1, kinds::NODE_STARTED, "fleet").line()];
    let forged = [line(kinds::POLICY_APPLIED, Some("acme"), 1)];
    for (refused, code) in [
        (said("n2", NodeId::FIRST, &lines), "record_event"),
        (said("n1", NodeId::new(2).unwrap(), &lines), "not_permitted"),
        (said("n1", NodeId::FIRST, &of_all), "record_event"),
        (said("n1", NodeId::FIRST, &forged), "record_event"),
    ] {
        match node.propose(refused, || NOW).await {
            Err(ProposeError::Rejected(rejection)) => assert_eq!(rejection.code(), code),
            other => unreachable!("{code}: {other:?}"),
        }
    }
    for again in [false, true] {
        let given = said("n1", NodeId::FIRST, &lines);
        let applied = node.propose(given, || NOW).await.unwrap();
        assert_eq!(applied.repeated, again);
    }
    assert_eq!(kept.of(&AuditLog::Fleet), [lines[0].clone()]);
    assert_eq!(kept.of(&AuditLog::Tenant(id("acme"))), [lines[1].clone()]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_one_event_that_its_node_may_not_say_is_refused_whole() {
    let (directory, kept) = (Directory::new("forged"), Arc::new(Kept::default()));
    let node = founded(&directory, &kept).await;
    let good = line(kinds::NODE_STARTED, None, 1);
    let mut bad: Vec<String> = vec![
        "{}".to_owned(),
        "no event".to_owned(),
        format!("{good}\n"),
        good.replace(":\"node.started", ": \"node.started"),
        Event::new(1, kinds::NODE_STARTED, "n2").line(),
        Event::new(1, kinds::NODE_STARTED, "fleet").line(),
    ];
    // Whatever these nodes themselves append, and the kinds that a node alone says.
    let own = {
        let kept = kept.0.lock().unwrap();
        let lines = kept.values().map(|line| Event::parse(line).unwrap().kind);
        lines.collect::<BTreeSet<_>>()
    };
    assert!(own.len() > 2);
    for kind in &own {
        assert!(is_fleets_own(kind), "{kind}");
    }
    let forged = kinds::ALL.into_iter().filter(|kind| is_fleets_own(kind));
    bad.extend(forged.map(|kind| line(kind, Some("acme"), 1)));
    assert!(bad.len() > 20);
    for bad in bad {
        let refused = record(&node, 1, &[good.clone(), bad.clone()]).await;
        let code = match refused {
            Err(ProposeError::Rejected(rejection)) => rejection.code(),
            other => unreachable!("{bad}: {other:?}"),
        };
        assert_eq!(code, "record_event", "{bad}");
    }
    assert_eq!(kept.of(&AuditLog::Fleet), Vec::<String>::new());
    record(&node, 1, &[good]).await.unwrap();
    node.shutdown().await;
}

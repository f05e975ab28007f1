//! What recording promises, tried on real files: once, also after a crash anywhere.

use std::collections::BTreeMap;
use std::fs;

use portcullis_audit::kinds;
use portcullis_audit::tlog::{Hash, check_inclusion};
use portcullis_policy::limits::{MAX_RECORD_BYTES, MAX_RECORDED};
use serde_json::Value;

use super::*;
use crate::ledger::limits::{Limits, RECORDED_OF_A_KIND, SYNC_EVERY};
use crate::runtime::clock;
use crate::runtime::random;

fn directory() -> PathBuf {
    let number = u64::from_be_bytes(random::bytes());
    std::env::temp_dir().join(format!("portcullis-recording-{number:016x}"))
}

/// A node's files, and what the fleet would have of it.
struct World {
    directory: PathBuf,
    limits: RecordLimits,
    open: Option<(Arc<Ledger>, Recording)>,
    through: u64,
    logs: Vec<Event>,
}

const FILES: Limits = Limits {
    file_bytes: 4_000,
    ..Limits::ORDINARY
};

fn own(kind: &str) -> bool {
    kind == kinds::POLICY_APPLIED
}

impl World {
    fn new() -> Self {
        Self::within(RecordLimits::ORDINARY)
    }

    fn within(limits: RecordLimits) -> Self {
        let mut world = Self {
            directory: directory(),
            limits,
            open: None,
            through: 0,
            logs: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let ledger = Arc::new(Ledger::open_within(&self.directory, "gw1", FILES).unwrap());
        let lent = Arc::clone(&ledger);
        let recording = Recording::open_within(lent, &self.directory, own, self.limits).unwrap();
        self.open = Some((ledger, recording));
    }

    /// Nothing but what lies in files is known any more.
    fn crash(&mut self) {
        self.open = None;
        self.start();
    }

    fn ledger(&self) -> &Ledger {
        &self.open.as_ref().unwrap().0
    }

    fn recording(&mut self) -> &mut Recording {
        &mut self.open.as_mut().unwrap().1
    }

    fn next(&mut self) -> Option<Record> {
        self.recording().next(5_000).unwrap()
    }

    fn happens(&self, kind: &'static str, tenant: Option<&str>, number: u64) {
        let mut event = Event::new(1_000, kind, "gw1").with("number", number);
        event.tenant = tenant.map(str::to_owned);
        self.ledger().record(event);
    }

    /// Waits until what happened is durable.
    async fn durable(&self) {
        let event = Event::new(1_000, kinds::POLICY_APPLIED, "gw1");
        self.ledger().record_durable(event).await.unwrap();
    }

    /// The fleet takes a record, once.
    fn give(&mut self, record: &Record) {
        let bytes: usize = record.events.iter().map(Vec::len).sum();
        assert!(bytes <= MAX_RECORD_BYTES && (1..=MAX_RECORDED).contains(&record.events.len()));
        if record.sequence == self.through + 1 {
            self.through += 1;
            let lines = record.events.iter();
            self.logs.extend(
                lines.map(|line| Event::parse(std::str::from_utf8(line).unwrap()).unwrap()),
            );
        }
        assert!(record.sequence <= self.through, "{}", record.sequence);
    }

    async fn all(&mut self) {
        self.durable().await;
        while let Some(record) = self.next() {
            self.give(&record);
            self.recording().done();
        }
    }

    /// The numbers of the events that are in the logs themselves.
    fn singles(&self) -> Vec<u64> {
        let numbers = self.logs.iter().filter_map(|it| it.field("number"));
        numbers.filter_map(Value::as_u64).collect()
    }

    fn of(&self, kind: &str) -> Vec<&Event> {
        self.logs.iter().filter(|it| it.kind == kind).collect()
    }

    /// The numbers of the events that are anchored, by tenant, as the files have them.
    fn anchored(&self) -> BTreeMap<Option<String>, Vec<u64>> {
        let mut found: BTreeMap<Option<String>, Vec<u64>> = BTreeMap::new();
        for anchor in self.of(kinds::CONNECTIONS_BATCH) {
            let file = anchor.field("file").and_then(Value::as_str).unwrap();
            let file = fs::read(self.directory.join("batches").join(file)).unwrap();
            let lines = check_batch(&file, anchor).unwrap();
            let numbers = found.entry(anchor.tenant.clone()).or_default();
            for line in lines {
                let event = Event::parse(std::str::from_utf8(line).unwrap()).unwrap();
                assert_eq!(event.tenant, anchor.tenant);
                numbers.push(event.field("number").unwrap().as_u64().unwrap());
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.open = None;
        drop(fs::remove_dir_all(&self.directory));
    }
}

const ACME: Option<&str> = Some("acme");

fn numbers(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

#[tokio::test]
async fn every_event_is_recorded_once_or_anchored_once_wherever_it_crashes() {
    let mut world = World::new();
    let (mut single, mut anchored) = (0, 0);
    for round in 0..30_u64 {
        for _ in 0..3 {
            world.happens(kinds::NODE_STARTED, None, single);
            single += 1;
            for tenant in [ACME, Some("bolt"), None] {
                world.happens(kinds::CONNECTION_DENIED, tenant, anchored);
                anchored += 1;
            }
        }
        world.durable().await;
        match round % 5 {
            // Before anything; made; given, and nobody heard it; done; all at once.
            0 => {}
            1 => drop(world.next()),
            2 => {
                let record = world.next().unwrap();
                world.give(&record);
            }
            3 => {
                let record = world.next().unwrap();
                world.give(&record);
                world.recording().done();
            }
            _ => world.all().await,
        }
        world.crash();
    }
    world.all().await;
    assert_eq!(world.singles(), numbers(0..single));
    let found = world.anchored();
    assert_eq!(found.len(), 3);
    let mut all: Vec<u64> = found.into_values().flatten().collect();
    assert!(all.len() as u64 == anchored);
    all.sort_unstable();
    assert_eq!(all, numbers(0..anchored));
    assert!(world.of(kinds::LOG_GAP).is_empty());
    // Its files were rotated meanwhile.
    assert!(world.ledger().span().unwrap().1.file > 3);
}

#[tokio::test]
async fn what_is_recorded_was_durable_before() {
    let mut world = World::new();
    let mut seen = 0;
    for number in 0..20 {
        world.all().await;
        let since = clock::instant();
        world.happens(kinds::NODE_STARTED, None, number);
        // A search has it written, and nobody has it synced until a second is over.
        let reference = portcullis_policy::Reference::from_bits(1);
        world.ledger().find(&reference).unwrap();
        let next = world.next();
        if clock::instant().saturating_duration_since(since) < SYNC_EVERY / 2 {
            assert_eq!(next, None);
            seen += 1;
        }
    }
    assert!(seen > 0, "this machine is too slow to see anything");
    world.all().await;
    assert_eq!(world.singles(), numbers(0..20));
}

#[tokio::test]
async fn many_of_a_kind_and_of_many_tenants_are_few_events_of_the_logs() {
    let mut world = World::new();
    let many = RECORDED_OF_A_KIND as u64 + 100;
    for number in 0..many {
        world.happens(kinds::UPSTREAM_FAILED, ACME, number);
    }
    world.all().await;
    assert_eq!(world.singles(), numbers(0..RECORDED_OF_A_KIND as u64));
    let rest = numbers(RECORDED_OF_A_KIND as u64..many);
    assert_eq!(
        world.anchored(),
        BTreeMap::from([(Some("acme".to_owned()), rest)])
    );
    // What those did who may see evidence is not among the anchored, however much of it there is.
    world.logs.clear();
    for number in 0..many {
        world.happens(kinds::EVIDENCE_READ, None, number);
    }
    world.all().await;
    assert_eq!(world.singles(), numbers(0..many));
    assert_eq!(world.anchored(), BTreeMap::new());
    world.logs.clear();
    let tenants: Vec<String> = (0..500).map(|number| format!("t{number:03}")).collect();
    for (number, tenant) in (0..).zip(&tenants) {
        world.happens(kinds::CONNECTION_DENIED, Some(tenant), number);
        world.happens(kinds::CONNECTION_CLOSED, Some(tenant), number);
    }
    world.all().await;
    let found = world.anchored();
    assert_eq!(found.len(), 500);
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 1_000);
}

#[tokio::test]
async fn a_large_event_is_recorded_whatever_is_around_it() {
    let mut world = World::new();
    let mut large = Event::new(1_000, kinds::POLICY_REJECTED, "gw1").with("number", 1);
    for field in ["a", "b", "c", "d"] {
        large = large.with(field, "x".repeat(15 * 1024));
    }
    world.happens(kinds::NODE_STARTED, None, 0);
    world.ledger().record(large.clone());
    world
        .ledger()
        .record(Event::new(1, kinds::NODE_STARTED, "gw2"));
    world.happens(kinds::CONNECTION_DENIED, ACME, 9);
    world.happens(kinds::NODE_STARTED, None, 2);
    world.all().await;
    assert_eq!(world.singles(), [0, 1, 2]);
    assert_eq!(world.anchored().into_values().flatten().count(), 1);
    let gap = world.of(kinds::LOG_GAP)[0];
    assert_eq!(gap.field("cause"), Some(&"another_node".into()));
}

#[tokio::test]
async fn what_waits_for_too_long_is_counted_by_kind() {
    let mut world = World::within(RecordLimits {
        behind_bytes: 10_000,
        ..RecordLimits::ORDINARY
    });
    for number in 0..200 {
        world.happens(kinds::NODE_STARTED, None, number);
        world.happens(kinds::CONNECTION_DENIED, ACME, number);
        world.happens(kinds::POLICY_APPLIED, ACME, number);
        // Each write may begin another file.
        world.durable().await;
    }
    world.all().await;
    let gap = world.of(kinds::LOG_GAP)[0].clone();
    assert_eq!(gap.field("cause"), Some(&"behind".into()));
    let kept = world.singles();
    let lost = 200 - kept.len() as u64;
    let counted = gap.field("kinds").unwrap();
    assert_eq!(counted["node.started"], lost);
    assert!(lost > 100 && !kept.is_empty(), "{lost}");
    let anchored = world.anchored().into_values().flatten().count() as u64;
    assert_eq!(counted["connection.denied"], 200 - anchored);
    assert_eq!(gap.field("events"), Some(&(lost + 200 - anchored).into()));
    // Told once, and then it is over.
    world.logs.clear();
    world.happens(kinds::NODE_STARTED, None, 1);
    world.all().await;
    assert_eq!((world.logs.len(), world.singles()), (1, vec![1]));
}

#[tokio::test]
async fn what_the_ledger_let_go_of_before_it_was_recorded_is_told() {
    let mut world = World::new();
    world.happens(kinds::NODE_STARTED, None, 0);
    world.all().await;
    for number in 1..1_000 {
        world.happens(kinds::NODE_STARTED, None, number);
        world.durable().await;
    }
    world.all().await;
    let gaps = world.of(kinds::LOG_GAP);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].field("cause"), Some(&"ledger_changed".into()));
    let mut singles = world.singles();
    let anchored = world.anchored().into_values().flatten();
    singles.extend(anchored);
    singles.sort_unstable();
    let first = singles[1];
    assert!(first > 1);
    assert_eq!(singles[1..], numbers(first..1_000));
}

#[tokio::test]
async fn a_damaged_outbox_is_told_and_nothing_is_recorded_twice() {
    let mut world = World::new();
    world.happens(kinds::NODE_STARTED, None, 1);
    world.all().await;
    let outbox = world.directory.join("recording");
    let whole = fs::read(&outbox).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(Outgoing::from_bytes(&damaged).is_none());
        assert!(Outgoing::from_bytes(&whole[..at]).is_none());
    }
    fs::write(&outbox, &whole[1..]).unwrap();
    world.crash();
    let record = world.next();
    let record = record.unwrap();
    let text = String::from_utf8(record.events.concat()).unwrap();
    assert!(
        text.contains("outbox") && !text.contains("node.started"),
        "{text}"
    );
    // The fleet knows how far the node is: by what it says this goes on.
    assert_eq!(record.sequence, 1);
    world.recording().overtaken(1).unwrap();
    world.happens(kinds::NODE_STARTED, None, 2);
    world.all().await;
    assert_eq!(world.singles(), [1, 2]);
    assert_eq!(world.of(kinds::LOG_GAP).len(), 1);
}

#[tokio::test]
async fn a_fleet_that_lost_records_is_given_the_next_ones_after_its_last() {
    let mut world = World::new();
    for number in 0..3 {
        world.happens(kinds::NODE_STARTED, None, number);
        world.all().await;
    }
    // As after the fleet was restored from a back-up.
    world.through = 1;
    world.logs.truncate(1);
    world.happens(kinds::NODE_STARTED, None, 3);
    world.durable().await;
    assert_eq!(world.next().unwrap().sequence, 4);
    world.recording().renumber(1).unwrap();
    world.crash();
    let record = world.next().unwrap();
    assert_eq!(record.sequence, 2);
    world.give(&record);
    world.recording().done();
    world.happens(kinds::NODE_STARTED, None, 4);
    world.all().await;
    assert_eq!(world.singles(), [0, 3, 4]);
}

#[tokio::test]
async fn what_the_fleet_refuses_is_counted_and_holds_nothing_up() {
    let mut world = World::new();
    world.happens(kinds::NODE_STARTED, None, 1);
    world.happens(kinds::TIME_SKEW, None, 2);
    world.durable().await;
    let refused = world.next().unwrap();
    world.recording().refused(9_000).unwrap();
    world.crash();
    let instead = world.next().unwrap();
    assert_eq!(instead.sequence, refused.sequence);
    world.give(&instead);
    world.recording().done();
    world.happens(kinds::NODE_STARTED, None, 3);
    world.all().await;
    assert_eq!(world.singles(), [3]);
    let gap = world.of(kinds::LOG_GAP)[0];
    assert_eq!(gap.field("cause"), Some(&"refused".into()));
    assert_eq!(gap.field("kinds").unwrap()["time.skew"], 1);
}

#[tokio::test]
async fn a_batch_that_was_changed_anywhere_is_not_what_was_anchored() {
    let mut world = World::new();
    for number in 0..37 {
        world.happens(kinds::CONNECTION_DENIED, ACME, number);
        world.happens(kinds::CONNECTION_CLOSED, Some("bolt"), number);
    }
    world.all().await;
    let anchor = world.of(kinds::CONNECTIONS_BATCH)[1].clone();
    assert_eq!(anchor.tenant.as_deref(), Some("bolt"));
    assert_eq!(anchor.field("kinds").unwrap()["connection.closed"], 37);
    let name = anchor.field("file").and_then(Value::as_str).unwrap();
    let file = fs::read(world.directory.join("batches").join(name)).unwrap();
    let lines = check_batch(&file, &anchor).unwrap();
    let root = anchor.field("root").and_then(Value::as_str).unwrap();
    let root = Hash::parse(root).unwrap();
    for (index, line) in (0..).zip(&lines) {
        let proof = prove_in_batch(&lines, index).unwrap();
        check_inclusion(Hash::of_leaf(line), index, &proof, 37, root).unwrap();
    }
    assert_eq!(prove_in_batch(&lines, 37), None);
    let bolt = file.len() - anchor.field("bytes").unwrap().as_u64().unwrap() as usize;
    for at in bolt..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(check_batch(&changed, &anchor).is_err(), "{at}");
        assert!(check_batch(&file[..at], &anchor).is_err(), "{at}");
    }
    let other = world.of(kinds::CONNECTIONS_BATCH)[0].clone();
    assert!(check_batch(&file, &other).is_ok());
    let mixed = other.with("root", anchor.field("root").unwrap().clone());
    assert_eq!(check_batch(&file, &mixed), Err(NotTheBatch::Changed));
    let none = Event::new(1, kinds::NODE_STARTED, "gw1");
    assert_eq!(check_batch(&file, &none), Err(NotTheBatch::NoAnchor));
    let far = anchor.with("offset", u64::MAX);
    assert_eq!(check_batch(&file, &far), Err(NotTheBatch::Short));
}

#[tokio::test]
async fn old_batch_files_are_let_go_of_and_no_name_is_used_twice() {
    let mut world = World::within(RecordLimits {
        batch_files: 3,
        ..RecordLimits::ORDINARY
    });
    let names = |world: &World| -> Vec<String> {
        let files = fs::read_dir(world.directory.join("batches")).unwrap();
        let mut names: Vec<String> = files
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for number in 0..5 {
        world.happens(kinds::CONNECTION_DENIED, ACME, number);
        world.all().await;
    }
    let kept = [
        "000000000003.jsonl",
        "000000000004.jsonl",
        "000000000005.jsonl",
    ];
    assert_eq!(names(&world), kept);
    fs::remove_dir_all(world.directory.join("batches")).unwrap();
    world.crash();
    world.happens(kinds::CONNECTION_DENIED, ACME, 9);
    world.all().await;
    assert_eq!(names(&world), ["000000000006.jsonl"]);
}

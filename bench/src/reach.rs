//! Who could reach an endpoint at a moment in the past, asked of logs with a hundred thousand changes of policy.
//!
//! The changes are commands that a real state of consensus executed, and the entries those that every node makes of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use portcullis::ledger::tiles::{LogId, Logs};
use portcullis_audit::personal::Salt;
use portcullis_audit::tlog::{Hash, Tree};
use portcullis_consensus::{
    AuditLog, BoxFuture, Consensus, Draft, Head, Leaf, Leaves, Settings, begin_alone,
};
use portcullis_policy::{
    Addresses, Author, Entry, Family, NodeId, Origin, Prefix, State, Tenant, Timestamp,
};
use portcullis_tests::gateway::binary;
use portcullis_tests::{Scratch, process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::audit::{ORIGIN, sign, trusted};
use crate::board::Board;
use crate::fleet::{Fleet, put};
use crate::machine::load;
use crate::report::Table;
use crate::sample::Sample;

/// Changes of the busy tenant; BENCH_CHANGES says otherwise.
const CHANGES: u32 = 100_000;
/// Of so many changes, one is another tenant's.
const ANOTHERS: u32 = 10;
const TENANTS: u32 = 10;
/// Allowed prefixes of each tenant.
const ENTRIES: u32 = 20;
/// Proposals on their way at once.
const AT_ONCE: usize = 64;
/// Between two commands.
const STEP_MS: i64 = 60_000;
const BEGAN_MS: i64 = 1_700_000_000_000;
const LIMIT: Duration = Duration::from_secs(120);

/// The busy tenant's endpoint that nobody changed after the first time.
const QUIET: &str = "archive";

/// An address that the first change let in, and all after it left,
const FIRST: &str = "0.0.80.1";
/// and one that nobody let in.
const STRANGER: &str = "192.0.2.1";

/// Measures.
///
/// # Errors
/// An answer took a second or more.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> (Table, Result<(), String>) {
    let changes =
        std::env::var("BENCH_CHANGES").map_or(CHANGES, |text| text.parse().expect("a number"));
    let scratch = Scratch::new("bench-reach");
    let logs = scratch.path().join("logs");
    let entries = write(&logs, changes);
    let trust = scratch.path().join("trust.policy");
    fs::write(&trust, trusted().to_string()).expect("our own file");
    let own = logs.join("tenants/tenant-0");
    let bytes: usize = bundles(&own).iter().map(Vec::len).sum();

    let mut table = Table::new(
        "reach: who could come in at a moment in the past, from the logs alone",
        &["asked", "ms", "most", "to reading and hashing"],
    );
    let ends = BEGAN_MS + STEP_MS * i64::from(changes) * 2;
    let half = BEGAN_MS + STEP_MS * i64::from(changes) / 2;
    let asked = [
        (
            "the first changes",
            "orders",
            BEGAN_MS + STEP_MS * 20,
            STRANGER,
        ),
        ("half of them", "orders", half, STRANGER),
        ("the last", "orders", ends, STRANGER),
        (
            "the last, of an address admitted by the first",
            "orders",
            ends,
            FIRST,
        ),
        (
            "the last, of an endpoint unchanged since the first",
            QUIET,
            ends,
            STRANGER,
        ),
    ];
    let mut floor = Sample::default();
    let mut took: Vec<Sample> = asked.iter().map(|_| Sample::default()).collect();
    let loaded = load();
    for _ in 0..rounds {
        let began = Instant::now();
        let read = bundles(&own);
        let hashed: Vec<Hash> = read.iter().map(|bundle| Hash::of_leaf(bundle)).collect();
        floor.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(!std::hint::black_box(hashed).is_empty());
        for ((_, endpoint, at, from), took) in asked.iter().zip(&mut took) {
            took.push(ask(&logs, &trust, (endpoint, *at, from), entries));
        }
    }
    let mut slowest: f64 = 0.0;
    for ((label, ..), took) in asked.iter().zip(&took) {
        let ratio = took.over(&floor);
        slowest = slowest.max(took.ends().1);
        table.row(
            vec![
                format!("after {label}"),
                format!("{:.0}", took.median()),
                format!("{:.0}", took.ends().1),
                format!("{:.1}", ratio.median()),
            ],
            json!({ "asked": label, "ms": took.json(), "to reading and hashing": ratio.json(), "load before": loaded }),
        );
    }
    table.note(format!(
        "the whole command, of a log with {entries} entries ({changes} changes of one tenant, {} MB) beside nine other tenants' with {} changes; reading and hashing the same bytes, and nothing else: {floor:.0} ms; {rounds} rounds",
        bytes / 1_000_000,
        changes / ANOTHERS,
    ));
    let last = &took[took.len() - 1];
    board.line(format!(
        "`audit reach` over {changes} policy changes of one tenant ({entries} entries, {} MB, all of them checked against the signed root): {:.0} ms for the last moment, {:.0} ms for an address that the first admitted, {:.0} ms for an endpoint that none but the first changed (the slowest of {rounds} rounds of five questions {slowest:.0} ms; reading and hashing these bytes alone {:.0} ms)",
        bytes / 1_000_000,
        took[2].median(),
        took[3].median(),
        last.median(),
        floor.median(),
    ));
    let verdict = match slowest < 1_000.0 {
        true => Ok(()),
        false => Err(format!(
            "audit reach took {slowest:.0} ms; it may take 1,000"
        )),
    };
    (table, verdict)
}

/// Milliseconds of the real command.
fn ask(logs: &Path, trust: &Path, (endpoint, at, from): (&str, i64, &str), entries: u64) -> f64 {
    let mut command = Command::new(binary());
    command.args(["audit", "reach"]).arg(logs);
    command.arg("--trust").arg(trust);
    command.args(["--to", &format!("tenant-0/{endpoint}")]);
    command.args(["--at", &Timestamp::from_millis(at).to_string()]);
    command.args(["--from", from, "--json"]);
    let began = Instant::now();
    let finished = process::run(&command, LIMIT);
    let took = began.elapsed().as_secs_f64() * 1e3;
    let told: Value = serde_json::from_str(finished.ok()).expect("JSON");
    assert_eq!(told["entries"], entries, "{told}");
    assert!(told["in_force"].is_object(), "{told}");
    assert!(told["reach"]["public"].is_array(), "{told}");
    let changed = told["changed_by"]["entry"].as_u64().expect("a change");
    assert!(endpoint != QUIET || changed == 0, "{told}");
    let admitted = &told["attempt"]["admitted_by"]["entry"];
    let wanted = if from == FIRST { json!(0) } else { Value::Null };
    assert_eq!(*admitted, wanted, "{told}");
    took
}

/// The bytes of all full bundles of a log.
fn bundles(log: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![log.join("tile/entries")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a log") {
            let path = entry.expect("a file").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(fs::read(path).expect("a bundle")),
            }
        }
    }
    found
}

/// Logs of so many changes of the busy tenant, and others' among them; the entries of the busy one's.
fn write(directory: &Path, changes: u32) -> u64 {
    let state = Scratch::new("bench-reach-state");
    let tiles = Arc::new(Tiles(Logs::open(directory).expect("our own directory")));
    let empty = portcullis_consensus::Logs::default();
    begin_alone(state.path(), NodeId::FIRST, &State::default(), &empty).expect("a new file");
    let settings = Settings::alone(state.path())
        .with_leaves(Arc::clone(&tiles) as Arc<dyn Leaves>)
        .with_salts(salt);
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(async {
        let consensus = Arc::new(Consensus::open(settings).await.expect("our own file"));
        let mut under_way = JoinSet::new();
        let base: Vec<Tenant> = (0..TENANTS).map(tenant).collect();
        let beginning = base.iter().map(|tenant| put(vec![tenant.clone()]));
        let changed = (0..changes - 1).flat_map(|number| {
            let other = (number % ANOTHERS == 0).then(|| {
                changed(
                    &base[1 + (number / ANOTHERS % (TENANTS - 1)) as usize],
                    number,
                )
            });
            [Some(changed(&base[0], number)), other]
                .into_iter()
                .flatten()
        });
        let mut first = true;
        for command in beginning.chain(changed.map(|tenant| put(vec![tenant]))) {
            let consensus = Arc::clone(&consensus);
            let draft = Draft {
                request: None,
                author: Author::local("bench"),
                command,
            };
            under_way.spawn(async move { consensus.propose(draft, now).await.map(drop) });
            // The very first alone, so that the busy tenant is there before anybody changes it.
            while under_way.len() >= AT_ONCE || (first && !under_way.is_empty()) {
                let done = under_way.join_next().await.expect("one is under way");
                done.expect("no panic").expect("a policy in order");
            }
            first = false;
        }
        while let Some(done) = under_way.join_next().await {
            done.expect("no panic").expect("a policy in order");
        }
        consensus.shutdown().await;
    });
    let logs = &tiles.0;
    let mut own = 0;
    let tenants = (0..TENANTS).map(|number| LogId::Tenant(tenant(number).id));
    for log in tenants.chain([LogId::Fleet]) {
        let tree = logs.tree(&log).expect("it was begun");
        if own == 0 {
            own = tree.size();
        }
        let origin = match &log {
            LogId::Fleet => ORIGIN.to_owned(),
            LogId::Tenant(_) => format!("{ORIGIN}/{log}"),
        };
        logs.publish(&log, &sign(origin, &tree))
            .expect("a checkpoint");
    }
    logs.durable().expect("a disk");
    own
}

/// A tenant as it is at first: two endpoints, all of whose prefixes have a note and an owner.
fn tenant(number: u32) -> Tenant {
    let shape = Fleet {
        family: Family::V4,
        tenants: TENANTS,
        entries_each: ENTRIES,
    };
    let mut tenant = shape.tenant(number);
    let mut quiet = tenant.endpoints.values().next().expect("one").clone();
    let name = format!("{QUIET}.tenant-{number}.db.example.net");
    quiet.names = vec![portcullis_policy::ServerName::parse(&name).expect("a host name")];
    quiet.allow.truncate(2);
    tenant
        .endpoints
        .insert(QUIET.parse().expect("a label"), quiet);
    tenant
}

/// The tenant with one prefix more than at first, which no other change brings.
fn changed(base: &Tenant, number: u32) -> Tenant {
    let mut tenant = base.clone();
    let orders = tenant.endpoints.values_mut().find(|it| it.allow.len() > 2);
    let [_, high, middle, low] = number.to_be_bytes();
    let prefix = format!("{}.{middle}.{low}.0/24", 100 + high);
    let prefix = Prefix::parse(&prefix).expect("a prefix");
    let entry = Entry {
        note: format!("request {number} of the platform team"),
        owner: "network-operations@tenant.example".to_owned(),
        ..Entry::new(Addresses::Prefix(prefix), Origin::Public)
    };
    orders.expect("the large one").allow.push(entry);
    tenant
}

/// Each command a minute after the one before.
fn now() -> Timestamp {
    static NOW: AtomicI64 = AtomicI64::new(BEGAN_MS);
    Timestamp::from_millis(NOW.fetch_add(STEP_MS, Ordering::Relaxed))
}

/// Another each time, as good as drawn for what is measured here.
fn salt() -> Salt {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
    let mut salt = [7; 16];
    salt[..8].copy_from_slice(&drawn.to_be_bytes());
    Salt(salt)
}

/// Keeps leaves in tiles, as a control node does.
struct Tiles(Logs);

fn id_of(log: &AuditLog) -> LogId {
    match log {
        AuditLog::Fleet => LogId::Fleet,
        AuditLog::Tenant(tenant) => LogId::Tenant(tenant.clone()),
    }
}

impl Leaves for Tiles {
    fn begin(&self, logs: Vec<(AuditLog, Tree)>, _sealed: Vec<Head>) -> io::Result<()> {
        for (log, tree) in logs {
            let begun = self.0.begin(&id_of(&log), tree);
            begun.map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    fn append(&self, leaves: Vec<Leaf>) -> io::Result<()> {
        for leaf in leaves {
            let appended = self.0.append(&id_of(&leaf.log), leaf.index, &[leaf.bytes]);
            appended.map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    fn sealed(&self, _heads: Vec<Head>) {}

    fn durable(&self) -> BoxFuture<'static, io::Result<()>> {
        // The state is thrown away: nothing will ask for these leaves again.
        Box::pin(std::future::ready(Ok(())))
    }
}

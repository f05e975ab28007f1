//! The audit logs: how many entries a fleet takes with its heads sealed and cosigned, how fast a log is
//! written and verified, and how large a proof is.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::ledger::tiles::{LogId, Logs};
use portcullis_audit::tlog::{Checkpoint, Hash, KeyKind, Note, NoteKey, Tree, TrustPolicy};
use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::{LogKey, ViewKey};
use portcullis_tests::gateway::binary;
use portcullis_tests::{Fleet, Scratch, process, wait};
use serde_json::json;

use crate::board::Board;
use crate::machine::processor_seconds;
use crate::report::Table;
use crate::sample::quantile;

/// Entries of the log that is verified; BENCH_EVENTS says otherwise.
const EVENTS: u64 = 10_000_000;
/// Entries appended at once.
const BATCH: u64 = 256;
pub(crate) const ORIGIN: &str = "portcullis/bench";
/// Those who command a fleet at once.
const WRITERS: usize = 16;
/// For so long, times the rounds.
const ROUND: Duration = Duration::from_secs(2);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(1_200);

/// Measures.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut table = Table::new(
        "audit: the logs that cannot be rewritten unseen",
        &["what", "figure", "beside"],
    );
    accepted(rounds, board, &mut table);
    verified(rounds, board, &mut table);
    table
}

/// Commands of a fleet of three, each of them an entry, until a checkpoint shows the last.
fn accepted(rounds: usize, board: &mut Board, table: &mut Table) {
    let fleet = Fleet::of(3);
    let leader = fleet.leader();
    let before = shown(&fleet, leader);
    // As they are: decided and logged all the same.
    let rails = json!({ "anywhere": false, "operators": false, "guard_rails": false });
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    let mut took: Vec<f64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (node, stop, rails) = (&fleet.nodes[leader], &stop, &rails);
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        let answer = node.ask("POST", "/v1/guard-rails", rails);
                        let answer = answer.expect("an answer");
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        took.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    took
                })
            })
            .collect();
        thread::sleep(ROUND * u32::try_from(rounds).expect("few"));
        stop.store(true, Ordering::Relaxed);
        let joined = writers.into_iter().map(|it| it.join().expect("no panic"));
        joined.flatten().collect()
    });
    let wrote = began.elapsed().as_secs_f64();
    let wanted = before + u64::try_from(took.len()).expect("few");
    let _ = wait::wait_for("a checkpoint with the last entry", LIMIT, || {
        shown(&fleet, leader) >= wanted
    });
    let signed = began.elapsed().as_secs_f64();
    let rate = took.len() as f64 / wrote;
    let (p50, p99) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
    table.row(
        vec![
            format!("commands/s of {WRITERS} writers, each an entry"),
            format!("{rate:.0}"),
            format!("{p50:.1} / {p99:.1} ms, the last in a checkpoint after {:.0} ms", (signed - wrote) * 1e3),
        ],
        json!({ "commands-per-second": rate, "p50-ms": p50, "p99-ms": p99, "checkpoint-after-s": signed - wrote }),
    );
    board.line(format!(
        "commands through the API of three nodes by {WRITERS} writers, each an entry of the audit log, sealed and cosigned: {rate:.0}/s, {p50:.1} / {p99:.1} ms (p50 / p99); the last of {} is in a checkpoint of a majority {:.0} ms after its answer",
        took.len(),
        (signed - wrote) * 1e3
    ));
}

/// Entries of the fleet's log in the checkpoint that a node shows.
fn shown(fleet: &Fleet, node: usize) -> u64 {
    let file = fleet.nodes[node].data().join("audit/logs/fleet/checkpoint");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let size = text.lines().nth(1).and_then(|line| line.parse().ok());
    size.unwrap_or(0)
}

fn verified(rounds: usize, board: &mut Board, table: &mut Table) {
    let count =
        std::env::var("BENCH_EVENTS").map_or(EVENTS, |text| text.parse().expect("a number"));
    let scratch = Scratch::new("bench-audit");
    let directory = scratch.path().join("logs");
    let (seconds, cpu) = timed(|| write(&directory, count));
    let written = (count as f64 / seconds, count as f64 / cpu);
    let trust = scratch.path().join("trust.policy");
    std::fs::write(&trust, trusted().to_string()).expect("our own file");

    // What no verifier can do without: the hash of every entry.
    let leaf = entry(count / 2);
    let hashed = 1_000_000_u64;
    let (_, floor) = timed(|| {
        let mut last = Hash::of_nothing();
        for _ in 0..hashed {
            last = std::hint::black_box(Hash::of_leaf(std::hint::black_box(&leaf)));
        }
        last
    });
    let floor = hashed as f64 / floor;
    let mut rates: Vec<f64> = (0..rounds.clamp(1, 3))
        .map(|_| {
            let (_, cpu) = timed(|| verify(&directory, &trust));
            count as f64 / cpu
        })
        .collect();
    let rate = quantile(&mut rates, 0.5);
    table.row(
        vec![
            format!("verify of {count} events, events per CPU second"),
            format!("{rate:.0}"),
            format!("{:.2} of hashing alone ({floor:.0})", rate / floor),
        ],
        json!({ "verified-per-cpu-second": rate, "hashed-per-cpu-second": floor, "events": count }),
    );
    table.row(
        vec![
            "written into tiles, events/s".to_owned(),
            format!("{:.0}", written.0),
            format!("{:.0} per CPU second", written.1),
        ],
        json!({ "written-per-second": written.0, "written-per-cpu-second": written.1 }),
    );
    let out = scratch.path().join("entry.tlog-proof");
    let mut prove = Command::new(binary());
    prove.args(["audit", "prove"]).arg(directory.join("fleet"));
    prove
        .args(["--index", &(count / 2).to_string(), "--out"])
        .arg(&out);
    let (took, _) = timed(|| run(&prove));
    let proof = std::fs::metadata(&out).expect("it was written").len();
    let bytes = proof - extra_bytes(leaf.len());
    table.row(
        vec![
            "a proof, bytes without its entry".to_owned(),
            bytes.to_string(),
            format!("made in {:.0} ms", took * 1e3),
        ],
        json!({ "proof-bytes": bytes, "proof-ms": took * 1e3 }),
    );
    board.line(format!(
        "`audit verify` of {count} events of {} bytes: {rate:.0} events for each second of CPU, {:.2} of hashing them and nothing else; writing them into tiles {:.0}/s; a proof without its entry {bytes} bytes, made in {:.0} ms",
        leaf.len(),
        rate / floor,
        written.0,
        took * 1e3
    ));
}

/// The line of a proof that carries an entry (C2SP tlog-proof): `extra `, base64 and its end.
fn extra_bytes(entry: usize) -> u64 {
    u64::try_from("extra \n".len() + entry.div_ceil(3) * 4).expect("few")
}

/// Wall and CPU seconds of this process and those that it waited for.
fn timed<T>(act: impl FnOnce() -> T) -> (f64, f64) {
    let cpu = || processor_seconds(std::process::id());
    let (began, before) = (Instant::now(), cpu());
    let _ = act();
    (began.elapsed().as_secs_f64(), cpu() - before)
}

fn verify(directory: &Path, trust: &Path) {
    let mut verify = Command::new(binary());
    verify
        .args(["audit", "verify"])
        .arg(directory.join("fleet"));
    verify.arg("--trust").arg(trust);
    run(&verify);
}

fn run(command: &Command) {
    let finished = process::run(command, LIMIT);
    assert!(finished.status.success(), "{finished}");
}

/// A log of so many events, signed as a fleet of three would.
fn write(directory: &Path, count: u64) {
    let logs = Logs::open(directory).expect("our own directory");
    let mut first = 0;
    while first < count {
        let next = (first + BATCH).min(count);
        let leaves: Vec<Vec<u8>> = (first..next).map(entry).collect();
        first = logs.append(&LogId::Fleet, first, &leaves).expect("room");
    }
    let tree = logs.tree(&LogId::Fleet).expect("it was begun");
    logs.publish(&LogId::Fleet, &sign(ORIGIN.to_owned(), &tree))
        .expect("a checkpoint");
    logs.durable().expect("a disk");
}

/// The checkpoint of a log of this name, signed as a fleet of three would.
pub(crate) fn sign(origin: String, tree: &Tree) -> Note {
    let key = NoteKey::new(&origin, KeyKind::Log, log_key().1.public()).expect("a name");
    let text = Checkpoint {
        origin,
        size: tree.size(),
        root: tree.root(),
    }
    .text();
    let mut signatures = vec![key.sign(&text, |text| log_key().1.sign(text))];
    for voter in 1..=3 {
        let (public, key) = voter_key(voter);
        let sign = |message: &[u8]| key.cosign(message).expect("a cosignature's");
        signatures.push(public.cosign(&text, 1_800_000_000, sign));
    }
    Note { text, signatures }
}

/// An event like those of connections, which are most of what there is.
fn entry(number: u64) -> Vec<u8> {
    let at = 1_800_000_000_000 + i64::try_from(number).expect("few");
    let mut event = Event::new(at, kinds::CONNECTION_PERMITTED, "n1")
        .with("endpoint", "orders")
        .with("address", format!("203.0.113.{}", number % 256))
        .with("port", 40_000 + number % 20_000)
        .with("door", "public")
        .with("user", "acme_app")
        .with("database", "orders")
        .with("rule", "203.0.113.0/24");
    event.reference = Some(format!("PC-{number:012}"));
    event.tenant = Some("acme".to_owned());
    event.revision = Some(812);
    event.line().into_bytes()
}

fn log_key() -> (NoteKey, LogKey) {
    let key = LogKey::from_seed([9; 32]).expect("a key");
    let public = NoteKey::new(ORIGIN, KeyKind::Log, key.public()).expect("a name");
    (public, key)
}

fn voter_key(voter: u8) -> (NoteKey, ViewKey) {
    let key = ViewKey::from_seed([voter; 32]).expect("a key");
    let name = format!("{ORIGIN}/nodes/{voter}");
    let public = NoteKey::new(&name, KeyKind::Cosigner, key.public()).expect("a name");
    (public, key)
}

pub(crate) fn trusted() -> TrustPolicy {
    let voters = (1..=3).map(|voter| voter_key(voter).0).collect();
    TrustPolicy::of(log_key().0, voters, 2).expect("two of three")
}

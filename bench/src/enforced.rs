//! How soon a fleet of three processes enforces a withdrawal, with nobody else connected and with
//! many, and how long nobody leads when the leader is killed.
//!
//! The many are opened before anything is measured. The busy ones among them ask at a pace first, so
//! that what is measured is the fleet; then as fast as they are answered, when clients, nodes and
//! database wait for each other's turn on the cores that they share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Guests, NAME};
use portcullis_tests::{Fleet, TenantText};
use serde_json::json;

use crate::board::Board;
use crate::client::{Caller, Client, Sessions};
use crate::report::Table;
use crate::sample::quantile;
use crate::stage::{DATABASE, PASSWORD, Target, USER};
use crate::ways::Way;

/// Withdrawals of one client's address, while it is connected to every node, for each round that a
/// run was asked for.
const WITHDRAWALS_A_ROUND: usize = 20;
/// Leaders killed.
const KILLS: usize = 10;
/// Nodes.
const NODES: usize = 3;
/// Connections through each node that say nothing,
const IDLE_EACH: usize = 1_000;
/// and those, through all of them, that ask one question after the other.
const BUSY: usize = 50;
/// Between two questions of one that is busy at a pace.
const PAUSE: Duration = Duration::from_millis(10);
/// What the database must take: these, the guests, and some for the nodes themselves.
const CONNECTIONS: u32 = 3_200;
/// Threads that open idle connections.
const HANDS: usize = 6;
/// Before a withdrawal is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// How often a guest tries to come in.
const ATTEMPTS: usize = 10;

/// Real processes, PostgreSQL and TLS.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut lines = Lines::new();
    let mut fleet = Fleet::before(3, CONNECTIONS);
    let withdrawals = rounds * WITHDRAWALS_A_ROUND;
    let mut few = Withdrawals::measure(&fleet, withdrawals);
    let few_told = lines.withdrawals("nobody else connected", &mut few, None);

    let callers: Vec<Caller> = (0..NODES).map(|node| caller(&fleet, node)).collect();
    let mut idle = idle(&callers);
    let opened = idle.len();
    let mut told = Vec::new();
    for pace in [Pace::Steady, Pace::Headlong] {
        let (mut many, rate) = among(&fleet, &callers, pace, withdrawals);
        assert_eq!(all_answer(&mut idle), opened, "nobody withdrew these");
        let label = format!("{opened} idle, {BUSY} busy, {rate:.0} queries/s");
        let many_told = lines.withdrawals(&label, &mut many, Some(&mut few));
        lines.table.note(format!(
            "{label}: {} sign-ins of guests were refused with 57P03 meanwhile and tried again, of {}",
            many.refused,
            withdrawals * NODES
        ));
        told.push((rate, many_told));
    }
    drop(idle);

    let mut gaps = kills(&mut fleet);
    let gap = lines.one("kill -9 of the leader: to the next write", &mut gaps, None);
    lines.table.note(
        "asked to last byte is what the three clients saw, the commit included; known to last byte is what the slowest node says of itself; no busy connection was cut off and every idle one answered afterwards; clients, nodes and database on this one machine",
    );
    let crowded: Vec<String> = told
        .iter()
        .map(|(rate, told)| format!("at {rate:.0} queries/s {}", told.words()))
        .collect();
    board.line(format!(
        "a withdrawal on three nodes (processes of this one machine) with {opened} idle and {BUSY} busy connections open on them, asked to last byte at the clients, the commit included / known to last byte on the slowest node / asked to receipt of all: {}; with nobody else connected {} (each p50, p99; {withdrawals} withdrawals)",
        crowded.join("; "), few_told.words()
    ));
    board.line(format!(
        "kill -9 of the leader, to the next write: {} (p50, p99; {KILLS} kills)",
        pair(gap)
    ));
    lines.table
}

/// Withdrawals while the busy ones are at it, and how many queries a second they had answered.
fn among(fleet: &Fleet, callers: &[Caller], pace: Pace, withdrawals: usize) -> (Withdrawals, f64) {
    let crowd = Crowd::default();
    let measured = std::thread::scope(|scope| {
        for number in 0..BUSY {
            let (caller, crowd) = (&callers[number % NODES], &crowd);
            scope.spawn(move || crowd.work(caller, pace));
        }
        // However this ends, they go home: a scope waits for its threads.
        let _home = GoHome(&crowd.home);
        std::thread::sleep(SETTLE);
        let (began, before) = (Instant::now(), crowd.queries.load(Ordering::Relaxed));
        let many = Withdrawals::measure(fleet, withdrawals);
        let asked = crowd.queries.load(Ordering::Relaxed) - before;
        (many, asked as f64 / began.elapsed().as_secs_f64())
    });
    let lost = crowd.lost.load(Ordering::Relaxed);
    assert_eq!(lost, 0, "busy connections that nobody withdrew");
    measured
}

/// How the busy ones ask.
#[derive(Clone, Copy)]
enum Pace {
    /// With a pause, so that the machine has room for others.
    Steady,
    /// As fast as they are answered, which takes all of a small machine.
    Headlong,
}

/// The table as it grows.
struct Lines {
    table: Table,
}

/// The figures of some withdrawals: p50, p99 and most of each, in milliseconds.
struct Told {
    heard: [f64; 3],
    closed: [f64; 3],
    receipts: [f64; 3],
}

impl Told {
    fn words(&self) -> String {
        [self.heard, self.closed, self.receipts]
            .map(pair)
            .join(" / ")
    }
}

impl Lines {
    fn new() -> Self {
        let columns = [
            "what",
            "count",
            "p50 ms",
            "p99 ms",
            "most ms",
            "p50 to none",
        ];
        Self {
            table: Table::new("fleet: three processes", &columns),
        }
    }

    fn withdrawals(
        &mut self,
        with: &str,
        took: &mut Withdrawals,
        base: Option<&mut Withdrawals>,
    ) -> Told {
        let (heard, closed, receipts) = match base {
            Some(base) => (
                Some(&mut base.heard),
                Some(&mut base.closed),
                Some(&mut base.receipts),
            ),
            None => (None, None, None),
        };
        let label = |what: &str| format!("{with}: {what}");
        Told {
            heard: self.one(
                &label("asked to last byte at the clients"),
                &mut took.heard,
                heard,
            ),
            closed: self.one(
                &label("known to last byte, slowest node"),
                &mut took.closed,
                closed,
            ),
            receipts: self.one(
                &label("asked to receipt of all"),
                &mut took.receipts,
                receipts,
            ),
        }
    }

    fn one(&mut self, what: &str, took: &mut [f64], base: Option<&mut Vec<f64>>) -> [f64; 3] {
        let figures = [0.5, 0.99, 1.0].map(|part| quantile(took, part));
        let ratio = base.map(|base| figures[0] / quantile(base, 0.5));
        let mut cells = vec![what.to_owned(), took.len().to_string()];
        cells.extend(figures.map(|figure| format!("{figure:.1}")));
        cells.push(ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
        self.table.row(
            cells,
            json!({ "what": what, "count": took.len(), "ms": figures, "ratio": ratio }),
        );
        figures
    }
}

fn pair([p50, p99, _]: [f64; 3]) -> String {
    format!("{p50:.1}, {p99:.1} ms")
}

/// What each took, in milliseconds.
#[derive(Default)]
struct Withdrawals {
    /// Asked, until all nodes had it in force and were done with what it closed.
    receipts: Vec<f64>,
    /// Asked, until the last of the guests had heard the last of its connection.
    heard: Vec<f64>,
    /// From a node's knowing to the last byte, on the slowest node.
    closed: Vec<f64>,
    /// How often a guest was told that the database cannot be reached right now, and tried again.
    refused: usize,
}

impl Withdrawals {
    fn measure(fleet: &Fleet, count: usize) -> Self {
        let mut took = Self::default();
        let doors: Vec<Caller> = (0..NODES)
            .map(|node| caller(fleet, node).from(fleet.guest()))
            .collect();
        for round in 0..count {
            let guests: Vec<Client> = (0..NODES)
                .map(|node| guest(&doors[node], &mut took.refused))
                .collect();
            let (began, reply, receipt, last) = std::thread::scope(|scope| {
                let ends: Vec<_> = guests
                    .into_iter()
                    .map(|guest| scope.spawn(move || guest.heard_to_the_end()))
                    .collect();
                let began = Instant::now();
                let reply = fleet.nodes[round % NODES]
                    .apply(&[policy(fleet, Guests::Unwelcome)])
                    .ok();
                let receipt = began.elapsed();
                let ends = ends.into_iter().map(|end| end.join().expect("an end"));
                (began, reply, receipt, ends.max().expect("three"))
            });
            assert_eq!(reply["nodes_in_force"], NODES, "{reply}");
            took.receipts.push(milliseconds(receipt));
            took.heard
                .push(milliseconds(last.saturating_duration_since(began)));
            took.closed
                .push(reply["slowest_ms"].as_f64().expect("three were closed"));
            let _ = fleet.nodes[round % NODES]
                .apply(&[policy(fleet, Guests::Welcome)])
                .ok();
        }
        took
    }
}

/// A guest, who is welcome. PostgreSQL forks for every connection, and a fork waits until the
/// kernel has let go of what all its processes map. With 3,000 of them and every core taken that
/// has been seen to take more than the five seconds that a gateway gives a database for TLS; the
/// gateway then says "try again", which is done and counted here.
fn guest(door: &Caller, refused: &mut usize) -> Client {
    for _ in 1..ATTEMPTS {
        match door.sign_in(USER, PASSWORD, DATABASE) {
            Ok(client) => return client,
            Err(problem) if problem.to_string().contains(TRY_AGAIN) => *refused += 1,
            Err(problem) => panic!("not let in: {problem}"),
        }
    }
    door.sign_in(USER, PASSWORD, DATABASE)
        .unwrap_or_else(|problem| panic!("not let in, {ATTEMPTS} times: {problem}"))
}

/// `cannot_connect_now`.
const TRY_AGAIN: &str = "C57P03";

/// Acme's, who may have all of these connections.
pub(crate) fn policy(fleet: &Fleet, guests: Guests) -> TenantText {
    fleet.policy(guests).limits(&format!(
        "{{connections: {CONNECTIONS}, connections-per-endpoint: {CONNECTIONS}, new-connections-per-second: 100000}}"
    ))
}

/// Residents through this node.
pub(crate) fn caller(fleet: &Fleet, node: usize) -> Caller {
    let target = Target {
        address: fleet.nodes[node].address(),
        name: NAME,
        authorities: fleet.nodes[node].authorities_pem().to_owned(),
    };
    Caller::new(Way::Direct, target, Sessions::Fresh).from(fleet.resident())
}

fn idle(callers: &[Caller]) -> Vec<Client> {
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let caller = &callers[hand % callers.len()];
                scope.spawn(move || {
                    let count = IDLE_EACH * callers.len() / HANDS;
                    let open = || {
                        caller
                            .sign_in(USER, PASSWORD, DATABASE)
                            .expect("an open door")
                    };
                    (0..count).map(|_| open()).collect::<Vec<_>>()
                })
            })
            .collect();
        let opened = hands.into_iter();
        opened
            .flat_map(|hand| hand.join().expect("an open door"))
            .collect()
    })
}

/// How many of them still have a database behind them.
fn all_answer(clients: &mut [Client]) -> usize {
    let answered = clients
        .iter_mut()
        .filter_map(|client| client.query("select 1").ok());
    answered.count()
}

/// The busy ones.
#[derive(Default)]
struct Crowd {
    home: AtomicBool,
    queries: AtomicU64,
    lost: AtomicU64,
}

impl Crowd {
    fn work(&self, caller: &Caller, pace: Pace) {
        let Ok(mut client) = caller.sign_in(USER, PASSWORD, DATABASE) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        while !self.home.load(Ordering::Relaxed) {
            if client.query("select 1").is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.queries.fetch_add(1, Ordering::Relaxed);
            match pace {
                Pace::Steady => std::thread::sleep(PAUSE),
                Pace::Headlong => {}
            }
        }
    }
}

struct GoHome<'a>(&'a AtomicBool);

impl Drop for GoHome<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn kills(fleet: &mut Fleet) -> Vec<f64> {
    let mut gaps = Vec::new();
    for round in 0..KILLS {
        let leader = fleet.leader();
        fleet.nodes[leader].kill();
        let (answer, gap) = fleet.nodes[(leader + 1) % NODES].write(&format!("kill-{round}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        gaps.push(milliseconds(gap));
        fleet.nodes[leader].start();
        let _ = fleet.settled();
    }
    gaps
}

/// As a number.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

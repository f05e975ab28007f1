//! What it costs that connections are recorded in the fleet's audit logs, and how fast what nodes saw gets there.
//!
//! The same three processes take turns at recording and not. They do not record while the fleet has a node of which nobody knows whether it
//! could read a record, as during an update: one is admitted that never starts, and removed again.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis_audit::kinds;
use portcullis_audit::tlog::{Checkpoint, Level, Note, TILE_WIDTH, Tile, entries};
use portcullis_tests::fleet::{GATEWAY, Guests};
use portcullis_tests::{Fleet, wait};
use serde_json::{Value, json};

use crate::board::Board;
use crate::client::Caller;
use crate::enforced::{caller, policy};
use crate::machine::load;
use crate::report::Table;
use crate::sample::Sample;
use crate::stage::{DATABASE, PASSWORD, USER};

/// Clients at once, a thread each.
const CLIENTS: usize = 8;
/// For so long connections are made in each turn.
const TURN: Duration = Duration::from_secs(4);
/// How long the flood lasts whose events are recorded afterwards.
const FLOOD: Duration = Duration::from_secs(10);
const SOURCES: u32 = 4_096;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 0);
/// The node that clients come to.
const NODE: usize = 0;
/// Nothing more came for so long: all is recorded, or nothing will be.
const QUIET: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(300);

/// Measures.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut fleet = Fleet::before(3, 400);
    let _ = fleet.nodes[0]
        .apply(&[policy(&fleet, Guests::Unwelcome)])
        .ok();
    let mut table = Table::new(
        "receipts: connections recorded in the audit logs of three nodes, or not",
        &["what", "figure", "beside"],
    );
    let caller = caller(&fleet, NODE);
    let (mut on, mut off) = (Sample::default(), Sample::default());
    let loaded = load();
    let _ = turn(&caller);
    for round in 0..rounds {
        // There and back again, so that a drift favours nobody.
        let mut order = [Recording::On, Recording::Off];
        if !round.is_multiple_of(2) {
            order.reverse();
        }
        for recording in order {
            let absent = match recording {
                Recording::On => None,
                Recording::Off => Some(hold_back(&mut fleet, round)),
            };
            let before = settled(&fleet);
            let (rate, made) = turn(&caller);
            let recorded = settled(&fleet).events - before.events;
            match recording {
                Recording::On => {
                    assert!(recorded >= made, "{recorded} of {made}");
                    on.push(rate);
                }
                Recording::Off => {
                    assert_eq!(recorded, 0, "it was not to be recorded");
                    off.push(rate);
                }
            }
            if let Some(absent) = absent {
                go_on(&fleet, &absent);
                let _ = settled(&fleet);
            }
        }
    }
    let ratio = on.over(&off);
    table.row(
        vec![
            "connections/s, recorded".to_owned(),
            format!("{on:.0}"),
            format!("{ratio:.3} of not recorded ({off:.0})"),
        ],
        json!({ "recorded per second": on.json(), "not recorded per second": off.json(), "ratio": ratio.json(), "load before": loaded }),
    );
    board.line(format!(
        "connections through one of three nodes (TLS handshake, SCRAM, select 1, gone; {CLIENTS} clients at once, {rounds} rounds of {TURN:?} each way in turn), each in a batch whose root is in the audit log: {on:.0}/s, {ratio:.3} of the same nodes while they record nothing ({off:.0}/s)"
    ));
    recorded(&mut fleet, rounds, board, &mut table);
    table
}

enum Recording {
    On,
    Off,
}

/// How fast events that waited get into a log that is signed and cosigned.
fn recorded(fleet: &mut Fleet, rounds: usize, board: &mut Board, table: &mut Table) {
    let door = caller(fleet, NODE);
    let (mut happened, mut rates) = (Sample::default(), Sample::default());
    let mut all = 0;
    for round in 0..rounds.clamp(1, 3) {
        let absent = hold_back(fleet, 1_000 + round);
        let before = settled(fleet);
        let denied = flood(fleet, &door);
        happened.push(denied as f64 / FLOOD.as_secs_f64());
        assert_eq!(settled(fleet).events, before.events, "they wait");
        let began = Instant::now();
        go_on(fleet, &absent);
        let wanted = before.events + denied;
        let _ = wait::wait_for("what was denied is in the log", LIMIT, || {
            Seen::of(fleet).is_some_and(|seen| seen.events >= wanted)
        });
        rates.push(denied as f64 / began.elapsed().as_secs_f64());
        all += denied;
    }
    let ratio = rates.over(&happened);
    table.row(
        vec![
            "events/s that waited, until a cosigned checkpoint has them".to_owned(),
            format!("{rates:.0}"),
            format!("{:.1} times as fast as a flood of refusals made them ({happened:.0})", ratio.median()),
        ],
        json!({ "recorded per second": rates.json(), "happened per second": happened.json(), "ratio": ratio.json() }),
    );
    board.line(format!(
        "events that a node saw (refusals of a flood; {all} in all) and that waited on its disk, recorded until a checkpoint cosigned by a majority has them: {rates:.0}/s, {:.1} times as fast as the flood made them ({happened:.0}/s)",
        ratio.median()
    ));
}

/// Connections a second, and how many.
fn turn(caller: &Caller) -> (f64, u64) {
    let began = Instant::now();
    let once = || {
        let mut client = caller
            .sign_in(USER, PASSWORD, DATABASE)
            .expect("an open door");
        let _ = client.query("select 1").expect("an answer");
        client.leave();
    };
    let made = crowd(|| {
        let mut made = 0;
        while began.elapsed() < TURN {
            once();
            made += 1;
        }
        made
    });
    (made as f64 / began.elapsed().as_secs_f64(), made)
}

/// Clients from addresses that may not come in; how many refusals the node has in its own log.
fn flood(fleet: &Fleet, door: &Caller) -> u64 {
    let before = refusals(fleet);
    let (began, next) = (Instant::now(), AtomicU32::new(0));
    let _ = crowd(|| {
        let mut refused = 0;
        while began.elapsed() < FLOOD {
            let number = next.fetch_add(1, Ordering::Relaxed) % SOURCES;
            let from = Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + number);
            let door = door.clone().from(IpAddr::V4(from));
            let came = door.sign_in(USER, PASSWORD, DATABASE);
            assert!(came.is_err(), "nobody lets these in");
            refused += 1;
        }
        refused
    });
    // The ledger writes what it has within a second.
    std::thread::sleep(Duration::from_secs(1));
    refusals(fleet) - before
}

fn refusals(fleet: &Fleet) -> u64 {
    let events = fleet.nodes[NODE].events();
    let denied = events
        .iter()
        .filter(|event| event["kind"] == kinds::CONNECTION_DENIED && event["tenant"] == "acme");
    u64::try_from(denied.count()).expect("few")
}

fn crowd(work: impl Fn() -> u64 + Sync) -> u64 {
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(&work)).collect();
        hands
            .into_iter()
            .map(|hand| hand.join().expect("no panic"))
            .sum()
    })
}

/// Admits a node that never starts; its name.
fn hold_back(fleet: &mut Fleet, round: usize) -> String {
    let name = format!("absent-{round}");
    let absent = fleet.unmade(&name, GATEWAY);
    fleet.join(absent, "gateway");
    name
}

/// Removes it.
fn go_on(fleet: &Fleet, absent: &str) {
    let socket = fleet.nodes[NODE].socket().display().to_string();
    let removed = fleet.nodes[NODE].portcullis(&["fleet", "remove", absent, "--socket", &socket]);
    let _ = removed.ok();
}

/// What acme's log says, up to a checkpoint of a majority.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    size: u64,
    /// Those of connections, in batches or one by one.
    events: u64,
}

impl Seen {
    /// Nothing while the log is changing.
    fn of(fleet: &Fleet) -> Option<Self> {
        let folder = fleet.nodes[NODE].data().join("audit/logs/tenants/acme");
        let note = Note::parse(&fs::read(folder.join("checkpoint")).ok()?).ok()?;
        let size = Checkpoint::parse(&note.text).ok()?.size;
        let mut events = 0;
        for number in 0..size.div_ceil(u64::from(TILE_WIDTH)) {
            events += of_bundle(&folder, number, size)?;
        }
        Some(Self { size, events })
    }
}

fn of_bundle(folder: &Path, number: u64, size: u64) -> Option<u64> {
    let tile = Tile::at(Level::Entries, number, size)?;
    let (bytes, width) = [tile, tile.full()].into_iter().find_map(|tile| {
        let bytes = fs::read(folder.join(tile.path())).ok()?;
        Some((bytes, tile.width))
    })?;
    let mut events = 0;
    for line in entries(&bytes, width).ok()? {
        let event: Value = serde_json::from_slice(line).expect("an entry");
        if event["kind"] == kinds::CONNECTIONS_BATCH {
            events += COUNTED
                .iter()
                .filter_map(|kind| event["kinds"][kind].as_u64())
                .sum::<u64>();
        }
    }
    Some(events)
}

/// One for each connection that came.
const COUNTED: [&str; 2] = [kinds::CONNECTION_PERMITTED, kinds::CONNECTION_DENIED];

/// Waits until nothing more is recorded; what is.
fn settled(fleet: &Fleet) -> Seen {
    let (mut last, mut since) = (None, Instant::now());
    let began = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let seen = Seen::of(fleet);
        if seen.is_some() && seen != last {
            (last, since) = (seen, Instant::now());
        }
        match last {
            Some(seen) if since.elapsed() >= QUIET => return seen,
            _ => assert!(began.elapsed() < LIMIT, "it never comes to rest"),
        }
    }
}

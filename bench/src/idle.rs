//! What a connection that has nothing to say takes up in the process in between.
//!
//! Measured fresh (signed in, one small query answered), and after a large answer has passed through
//! each: what grew then should be gone.

use std::time::Duration;

use serde_json::json;

use crate::board::{Board, Column};
use crate::client::{Caller, Client, Sessions};
use crate::machine::{load, resident_kib};
use crate::report::Table;
use crate::stage::{DATABASE, PASSWORD, Stage, USER};
use crate::ways::{BOTH_SIDES, CLIENT_ONLY, Way};

/// Connections opened before anything is counted: what is made once is made then.
const WARM_UP: usize = 20;
/// Threads that open connections and that ask for large answers.
const HANDS: usize = 4;
/// Bytes of the large answer.
const LARGE: usize = 1_000_000;
/// For what happens after the last byte.
const SETTLE: Duration = Duration::from_millis(500);

/// The ways that have memory measured.
pub(crate) fn ways() -> Vec<Way> {
    let between = |way: &Way| *way != Way::Direct;
    let both = BOTH_SIDES.into_iter().filter(between);
    both.chain(CLIENT_ONLY)
        .chain([Way::HaproxyDirect])
        .collect()
}

/// Measures.
pub(crate) fn measure(
    stage: &mut Stage,
    ways: &[Way],
    connections: usize,
    board: &mut Board,
) -> Table {
    let mut table = Table::new(
        "idle connections: resident memory of the process in between",
        &["way", "KiB each, fresh", "after a large answer"],
    );
    let mut measured: Vec<(Way, f64, f64)> = Vec::new();
    for way in ways.iter().copied() {
        stage.refresh(way);
        let loaded = load();
        let pid = stage.pid(way);
        let caller = Caller::new(way, stage.target(way), Sessions::Fresh);
        let mut warm_up = open(&caller, WARM_UP);
        burst(&mut warm_up);
        let before = settled_kib(pid);
        let mut clients = open(&caller, connections);
        let fresh = (settled_kib(pid) - before) / connections as f64;
        burst(&mut clients);
        let after = (settled_kib(pid) - before) / connections as f64;
        table.row(
            vec![
                way.to_string(),
                format!("{fresh:.1}"),
                format!("{after:.1}"),
            ],
            json!({
                "way": way.to_string(),
                "connections": connections,
                "KiB each, fresh": fresh,
                "KiB each, after a large answer": after,
                "KiB without them": before,
                "load before": loaded,
            }),
        );
        measured.push((way, fresh, after));
        for client in warm_up.into_iter().chain(clients) {
            client.leave();
        }
        stage.wait_until_left();
    }
    for (way, fresh, after) in &measured {
        let floor = measured.iter().find(|(other, ..)| *other == way.floor());
        let text = match floor {
            Some((floor, of_fresh, of_after)) if floor != way => format!(
                "{fresh:.1} ({:.1}) / {after:.1} ({:.1})",
                fresh / of_fresh,
                after / of_after
            ),
            _ => format!("{fresh:.1} / {after:.1}"),
        };
        board.put(*way, Column::Idle, text);
    }
    table.note(format!(
        "{connections} connections, each of which has had one small answer; a large answer is {LARGE} bytes; each way measured once, one after the other"
    ));
    table
}

fn open(caller: &Caller, count: usize) -> Vec<Client> {
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let share = (hand..count).step_by(HANDS).len();
                scope.spawn(move || (0..share).map(|_| one(caller)).collect::<Vec<_>>())
            })
            .collect();
        let opened = hands
            .into_iter()
            .map(|hand| hand.join().expect("an open door"));
        opened.flatten().collect()
    })
}

fn one(caller: &Caller) -> Client {
    let mut client = caller
        .sign_in(USER, PASSWORD, DATABASE)
        .expect("an open door");
    let _ = client.query("select 1").expect("an answer");
    client
}

fn burst(clients: &mut [Client]) {
    let each = clients.len().div_ceil(HANDS).max(1);
    std::thread::scope(|scope| {
        for share in clients.chunks_mut(each) {
            scope.spawn(|| {
                for client in share {
                    let answered = client.query(&format!("select repeat('x', {LARGE})"));
                    assert!(answered.expect("an answer") > LARGE);
                }
            });
        }
    });
}

fn settled_kib(pid: u32) -> f64 {
    std::thread::sleep(SETTLE);
    resident_kib(pid)
}

//! New connections: TCP, TLS handshake, sign-in, one query, and gone again.
//!
//! How many fit into a second is decided by the server (a process for each) and by the client, which
//! share the machine with what is in between; what that costs in processor time is its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::board::{Board, Column};
use crate::client::{Caller, Sessions};
use crate::machine::{load, processor_seconds};
use crate::report::Table;
use crate::rounds::{Rounds, few};
use crate::sample::{Sample, quantile};
use crate::stage::{DATABASE, PASSWORD, Stage, USER};
use crate::ways::{BOTH_SIDES, Behind, CLIENT_ONLY, Way};

/// Clients at once, a thread each.
const CLIENTS: usize = 8;
/// Connections before any is counted: verifiers are fetched, sessions to resume are there.
const WARM_UP: usize = 2;

/// The ways that have new connections measured.
pub(crate) fn ways() -> Vec<Way> {
    let more = [
        Way::PgbouncerPool(Behind::Tls),
        Way::PgbouncerPool(Behind::Plain),
        Way::HaproxyDirect,
    ];
    [&BOTH_SIDES[..], &CLIENT_ONLY, &more].concat()
}

/// Measures.
pub(crate) fn measure(
    stage: &Stage,
    ways: &[Way],
    duration: Duration,
    rounds: usize,
    board: &mut Board,
) -> Table {
    let mut table = Table::new(
        "new connections: TLS handshake, SCRAM, select 1, gone",
        &[
            "way",
            "per second",
            "to direct",
            "CPU ms of it each",
            "of the server",
            "ms p50",
            "ms p99",
        ],
    );
    for sessions in [Sessions::Fresh, Sessions::Resumed] {
        let (able, unable): (Vec<Way>, Vec<Way>) = ways
            .iter()
            .copied()
            .partition(|way| can(stage, *way, sessions));
        let loaded = load();
        let rounds = sessions.rounds(rounds);
        let measured = Rounds::measure(&able, rounds, |way| {
            let caller = Caller::new(way, stage.target(way), sessions);
            run(stage, way, &caller, duration)
        });
        for way in able {
            told(&measured, way, sessions, &loaded, &mut table, board);
        }
        for way in unable {
            board.put(way, Column::ResumedCost, "never");
            let mut cells = vec![format!("{way}, never resumes")];
            cells.resize(7, "–".to_owned());
            table.row(
                cells,
                json!({"way": way.to_string(), "sessions": sessions.words(), "possible": false}),
            );
        }
    }
    let [full, resumed] = [Sessions::Fresh, Sessions::Resumed].map(|it| it.rounds(rounds));
    table.note(format!(
        "{CLIENTS} clients at once, {full} rounds ({resumed} of resumed sessions) of {duration:?}; each has a server process of its own, but for pgbouncer pooling, which hands them on"
    ));
    table
}

fn told(
    measured: &Rounds<Run>,
    way: Way,
    sessions: Sessions,
    loaded: &[f64],
    table: &mut Table,
    board: &mut Board,
) {
    let of = |figure: fn(&Run) -> f64| measured.of(way, figure).expect("measured");
    let per_second = of(|run| run.per_second);
    let to_direct = measured.ratio(way, Way::Direct, |run| run.per_second);
    let to_floor = measured.ratio(way, way.floor(), |run| run.between);
    let (between, server) = (of(|run| run.between), of(|run| run.server));
    let (half, most) = (of(|run| run.p50), of(|run| run.p99));
    let ratio = |sample: &Option<Sample>| match sample {
        Some(sample) if way != Way::Direct => format!("{:.2}", sample.median()),
        _ => "–".to_owned(),
    };
    let cost = match way {
        Way::Direct => "–".to_owned(),
        _ => format!("{between:.2}"),
    };
    if way != Way::Direct {
        let column = match sessions {
            Sessions::Fresh => Column::ConnectionCost,
            Sessions::Resumed => Column::ResumedCost,
        };
        board.put(way, column, measured.cost(way, |run| run.between));
    }
    if sessions == Sessions::Fresh {
        let text = match way {
            Way::Direct => format!("{:.0}", per_second.median()),
            _ => format!("{:.0} ({})", per_second.median(), ratio(&to_direct)),
        };
        board.put(way, Column::Connections, text);
    }
    table.row(
        vec![
            format!("{way}{}", sessions.suffix()),
            format!("{per_second:.0}"),
            ratio(&to_direct),
            cost,
            format!("{:.2}", server.median()),
            format!("{:.1}", half.median()),
            format!("{:.1}", most.median()),
        ],
        json!({
            "way": way.to_string(),
            "sessions": sessions.words(),
            "possible": true,
            "connections per second": per_second.json(),
            "connections per second, ratio to direct": to_direct.as_ref().map(Sample::json),
            "CPU ms per connection": match way {
                Way::Direct => Value::Null,
                _ => between.json(),
            },
            "CPU per connection, ratio to the floor": match way {
                Way::Direct => Value::Null,
                _ => to_floor.as_ref().map_or(Value::Null, Sample::json),
            },
            "CPU ms of the server per connection": server.json(),
            "ms until answered, p50": half.json(),
            "ms until answered, p99": most.json(),
            "load before": loaded,
        }),
    );
}

struct Run {
    per_second: f64,
    /// CPU milliseconds per connection: of the process in between, of the server.
    between: f64,
    server: f64,
    /// Milliseconds from the first packet to the answer of the query.
    p50: f64,
    p99: f64,
}

fn run(stage: &Stage, way: Way, caller: &Caller, duration: Duration) -> Run {
    // The salted password, and a ticket for each client.
    for _ in 0..WARM_UP * CLIENTS {
        once(caller);
    }
    stage.wait_until_left();
    let watched = [stage.pid(way), stage.server_pid()];
    let before = watched.map(processor_seconds);
    let began = Instant::now();
    let mut took: Vec<f64> = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut took = Vec::new();
                    while began.elapsed() < duration {
                        took.push(once(caller));
                    }
                    took
                })
            })
            .collect();
        for client in clients {
            took.extend(client.join().expect("a client that got in every time"));
        }
    });
    let elapsed = began.elapsed().as_secs_f64();
    stage.wait_until_left();
    let after = watched.map(processor_seconds);
    let count = took.len() as f64;
    let each = |index: usize| (after[index] - before[index]) / count * 1e3;
    Run {
        per_second: count / elapsed,
        between: each(0),
        server: each(1),
        p50: quantile(&mut took, 0.5),
        p99: quantile(&mut took, 0.99),
    }
}

/// One connection; the milliseconds until its query was answered.
fn once(caller: &Caller) -> f64 {
    let began = Instant::now();
    let mut client = caller
        .sign_in(USER, PASSWORD, DATABASE)
        .expect("an open door");
    let _ = client.query("select 1").expect("an answer");
    let took = began.elapsed().as_secs_f64() * 1e3;
    client.leave();
    took
}

/// Whether sessions of this kind are to be had this way.
fn can(stage: &Stage, way: Way, sessions: Sessions) -> bool {
    if sessions == Sessions::Fresh {
        return true;
    }
    let caller = Caller::new(way, stage.target(way), sessions);
    once(&caller);
    let second = caller.sign_in(USER, PASSWORD, DATABASE);
    second.expect("an open door").resumed()
}

impl Sessions {
    /// Beside full handshakes, resumed ones tell a difference only.
    fn rounds(self, rounds: usize) -> usize {
        match self {
            Self::Fresh => rounds,
            Self::Resumed => few(rounds),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Fresh => "full handshake",
            Self::Resumed => "resumed",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Fresh => "",
            Self::Resumed => ", resumed",
        }
    }
}

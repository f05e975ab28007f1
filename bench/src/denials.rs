//! A flood of clients that are not allowed, and what honest clients notice meanwhile.
//!
//! The flood comes over TLS from many addresses, none of which is on the list, and goes through the
//! whole handshake: who is asked for is known only then. It shares the machine with everybody else,
//! so the server's own refusals (pg_hba.conf) and a peer's stand beside the product's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::board::Board;
use crate::client::{Caller, Sessions};
use crate::machine::{load, processor_seconds};
use crate::report::Table;
use crate::rounds::{Rounds, few};
use crate::sample::{Sample, quantile};
use crate::stage::{DATABASE, PASSWORD, Stage, USER};
use crate::steps::{Step, Taken};
use crate::ways::{Behind, Way};

/// Threads of the flood.
const FLOODERS: usize = 4;
/// Addresses that it comes from: 127.9.0.0 and on.
const SOURCES: u32 = 4_096;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 0);
/// Between two honest connections.
const PACE: Duration = Duration::from_millis(40);
/// One in so many honest connections is looked at for where it waited.
const SLOWEST_PART: usize = 20;
/// Queries on each.
const QUERIES: usize = 5;

/// The ways that can refuse by address.
pub(crate) fn ways() -> Vec<Way> {
    vec![
        Way::Direct,
        Way::Gateway(Behind::Tls),
        Way::Pgbouncer(Behind::Tls),
    ]
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
        "denials: a flood from addresses that are not allowed, and honest clients meanwhile",
        &[
            "way",
            "denials/s",
            "dropped/s",
            "CPU ms each",
            "connect ms p50",
            "p99",
            "in a flood",
            "p99",
            "query ms p50",
            "p99",
            "in a flood",
            "p99",
        ],
    );
    let loaded = load();
    let rounds = few(rounds);
    let measured = Rounds::measure(ways, rounds, |way| {
        Weather::ALL.map(|weather| run(stage, way, weather, duration))
    });
    for way in measured.ways() {
        let flood = |figure: fn(&Run) -> f64| {
            let of = measured.of(way, |[_, flood, _]| figure(flood));
            of.expect("measured")
        };
        let (denied, dropped) = (flood(|run| run.denied), flood(|run| run.dropped));
        let cost = measured.of(way, |[quiet, flood, _]| flood.cost(quiet));
        let cost = cost.expect("measured");
        let honest: Vec<f64> = [
            (0, honest_connects as fn(&Run) -> &[f64]),
            (1, honest_connects),
            (0, honest_queries),
            (1, honest_queries),
            (2, honest_connects),
        ]
        .into_iter()
        .flat_map(|(weather, figures)| {
            let runs = measured.all(way);
            let mut all: Vec<f64> = runs.flat_map(|it| figures(&it[weather]).to_vec()).collect();
            [0.5, 0.99].map(|part| quantile(&mut all, part))
        })
        .collect();
        let ms = |index: usize| format!("{:.2}", honest[index]);
        table.row(
            vec![
                way.to_string(),
                format!("{denied:.0}"),
                format!("{:.0}", dropped.median()),
                format!("{cost:.2}"),
                ms(0),
                ms(1),
                ms(2),
                ms(3),
                ms(4),
                ms(5),
                ms(6),
                ms(7),
            ],
            json!({
                "way": way.to_string(),
                "denials per second": denied.json(),
                "connections per second that ended without an answer": dropped.json(),
                "CPU ms per denial": cost.json(),
                "honest connections, ms": pairs(&honest[..4]),
                "honest queries, ms": pairs(&honest[4..8]),
                "honest connections straight to the server in the same flood, ms": {
                    "p50": honest[8],
                    "p99": honest[9],
                },
                "load before": loaded,
            }),
        );
        board.line(line(way, &denied, &cost, &honest));
        table.note(slowest(way, measured.all(way).map(|[_, flood, _]| flood)));
        if way != Way::Direct {
            table.note(format!(
                "{way}: straight to the server in the same flood, connections took {} ms at p50 and {} at p99",
                ms(8),
                ms(9)
            ));
        }
    }
    table.note(format!(
        "{FLOODERS} flooding threads from {SOURCES} addresses; honest: a new connection every {PACE:?}, {QUERIES} queries on each; {rounds} rounds of {duration:?}, milliseconds from all of them together"
    ));
    table.note(
        "direct: PostgreSQL refusing by pg_hba.conf; pgbouncer lets clients in before it calls the server, so that their first query waits for that. The flood's own work slows everybody on a machine that both share",
    );
    table
}

/// Where those spent their time who waited longest.
fn slowest<'a>(way: Way, floods: impl Iterator<Item = &'a Run>) -> String {
    let mut all: Vec<Taken> = floods.flat_map(|run| run.steps.clone()).collect();
    let whole = |taken: &Taken| taken.iter().sum::<f64>();
    all.sort_by(|one, other| whole(other).total_cmp(&whole(one)));
    all.truncate(all.len().div_ceil(SLOWEST_PART));
    let mean = |step: Step| {
        let sum: f64 = all.iter().map(|taken| taken[step as usize]).sum();
        format!("{} {:.1}", step.word(), sum / all.len() as f64)
    };
    format!(
        "{way}: the slowest {} honest connections in a flood took on average, in ms: {}",
        all.len(),
        Step::ALL.map(mean).join(", ")
    )
}

fn pairs(figures: &[f64]) -> serde_json::Value {
    json!({
        "quiet, p50": figures[0],
        "quiet, p99": figures[1],
        "in a flood, p50": figures[2],
        "in a flood, p99": figures[3],
    })
}

fn line(way: Way, denied: &Sample, cost: &Sample, honest: &[f64]) -> String {
    let straight = match way {
        Way::Direct => String::new(),
        _ => format!(
            "; in {:.1} / {:.1} straight to the server in the same flood",
            honest[8], honest[9]
        ),
    };
    format!(
        "denials in a flood, {}: {:.0} per second at {:.2} ms CPU each; honest clients meanwhile connect in \
         {:.1} / {:.1} ms (p50 / p99; {:.1} / {:.1} without the flood{straight}), and are answered in {:.2} / {:.2} ms ({:.2} / {:.2})",
        way.word(),
        denied.median(),
        cost.median(),
        honest[2],
        honest[3],
        honest[0],
        honest[1],
        honest[6],
        honest[7],
        honest[4],
        honest[5],
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Quiet,
    Flood,
    /// The same flood, but the honest go straight to the server: what they wait for then, they wait
    /// for because the machine is busy.
    Beside,
}

impl Weather {
    const ALL: [Self; 3] = [Self::Quiet, Self::Flood, Self::Beside];
}

struct Run {
    /// Per second: refused with an answer, and without.
    denied: f64,
    dropped: f64,
    /// Honest clients per second.
    visits: f64,
    /// CPU milliseconds per second, of what refuses.
    used: f64,
    /// Milliseconds that honest clients waited.
    connects: Vec<f64>,
    queries: Vec<f64>,
    /// The same as `connects`, step by step.
    steps: Vec<Taken>,
}

impl Run {
    /// CPU milliseconds per denial. What each honest client cost without the flood is not the
    /// flood's; fewer of them come in one.
    fn cost(&self, quiet: &Self) -> f64 {
        let honest = quiet.used * (self.visits / quiet.visits);
        (self.used - honest) / self.denied
    }
}

fn honest_connects(run: &Run) -> &[f64] {
    &run.connects
}

fn honest_queries(run: &Run) -> &[f64] {
    &run.queries
}

fn run(stage: &Stage, way: Way, weather: Weather, duration: Duration) -> Run {
    let calling = |way| Caller::new(way, stage.target(way), Sessions::Fresh);
    let caller = calling(way);
    let honest = match weather {
        Weather::Quiet | Weather::Flood => caller.clone(),
        Weather::Beside => calling(Way::Direct),
    };
    honest
        .sign_in(USER, PASSWORD, DATABASE)
        .expect("an open door")
        .leave();
    stage.wait_until_left();
    let (denied, dropped) = (AtomicU32::new(0), AtomicU32::new(0));
    let over = AtomicBool::new(false);
    let before = processor_seconds(stage.pid(way));
    let began = Instant::now();
    let (mut connects, mut queries, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        if weather != Weather::Quiet {
            for flooder in 0..FLOODERS {
                let (caller, over) = (&caller, &over);
                let (denied, dropped) = (&denied, &dropped);
                scope.spawn(move || {
                    let mut source = flooder as u32;
                    while !over.load(Ordering::Relaxed) {
                        let count = if is_refused(caller, address(source)) {
                            denied
                        } else {
                            dropped
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        source += FLOODERS as u32;
                    }
                });
            }
        }
        while began.elapsed() < duration {
            steps.push(visit(&honest, &mut connects, &mut queries));
            std::thread::sleep(PACE);
        }
        over.store(true, Ordering::Relaxed);
    });
    let elapsed = began.elapsed().as_secs_f64();
    stage.wait_until_left();
    let used = processor_seconds(stage.pid(way)) - before;
    let (denied, dropped) = (
        f64::from(denied.into_inner()),
        f64::from(dropped.into_inner()),
    );
    Run {
        denied: denied / elapsed,
        dropped: dropped / elapsed,
        visits: connects.len() as f64 / elapsed,
        used: used / elapsed * 1e3,
        connects,
        queries,
        steps,
    }
}

/// An honest client.
fn visit(caller: &Caller, connects: &mut Vec<f64>, queries: &mut Vec<f64>) -> Taken {
    let began = Instant::now();
    let client = caller.sign_in(USER, PASSWORD, DATABASE);
    let mut client = client.expect("honest clients are let in");
    connects.push(began.elapsed().as_secs_f64() * 1e3);
    for _ in 0..QUERIES {
        let began = Instant::now();
        let _ = client.query("select 1").expect("an answer");
        queries.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let steps = client.steps();
    client.leave();
    steps
}

/// Whether the answer was an `ErrorResponse`.
fn is_refused(caller: &Caller, from: IpAddr) -> bool {
    let answer = caller.clone().from(from).connect().and_then(|mut client| {
        client.start(USER, DATABASE)?;
        let answer = client.read();
        client.vanish();
        answer
    });
    match answer {
        Ok(b'E') => true,
        Ok(other) => panic!(
            "{from} should not have been let in: {:?}",
            char::from(other)
        ),
        Err(_) => false,
    }
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + number % SOURCES).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_clients_who_stayed_away_are_not_deducted() {
        let run = |visits, denied, used| Run {
            denied,
            dropped: 0.0,
            visits,
            used,
            connects: Vec::new(),
            queries: Vec::new(),
            steps: Vec::new(),
        };
        // Ten visits cost 2 ms each; of the flood's 810 ms, five of them took 10.
        let (quiet, flood) = (run(10.0, 0.0, 20.0), run(5.0, 400.0, 810.0));
        assert_eq!(flood.cost(&quiet), 2.0);
    }
}

//! Queries through the gateway, against direct TLS to the same server and against a bare relay.
//!
//! `pgbench -S -M prepared`: one short query after another on connections that stay open, which is
//! where whatever is in between weighs most.

use std::process::Command;
use std::time::Duration;

use portcullis_tests::process;
use serde_json::{Value, json};

use crate::machine::{Watch, cores, load, processor_seconds};
use crate::report::Table;
use crate::sample::Sample;
use crate::stage::{Stage, Way};

/// Clients, and where everything runs.
const SCENES: [(usize, Placement); 3] = [
    (1, Placement::Free),
    (1, Placement::OneProcessor),
    (16, Placement::Free),
];
const WAYS: [Way; 3] = [Way::Direct, Way::Gateway, Way::Floor];
/// What pgbench may take longer than it was told to run.
const GRACE: Duration = Duration::from_secs(30);
/// Used by others, in percent of the machine, above which a figure is not to be trusted.
const DISTURBED: f64 = 5.0;

/// Measures.
pub(crate) fn measure(stage: &Stage, duration: Duration, rounds: usize) -> Table {
    let mut table = Table::new(
        "pgbench -S -M prepared: through the gateway, against direct TLS",
        &[
            "clients, way",
            "queries/s",
            "to direct",
            "latency µs",
            "CPU s of it per 100,000",
            "of the server",
            "of pgbench",
            "others %",
        ],
    );
    let pids = WAYS.map(|way| stage.pid(way));
    let mut most_disturbed = 0.0_f64;
    for (clients, placement) in SCENES {
        for pid in &pids {
            placement.hold(*pid);
        }
        let loaded = load();
        let mut runs = WAYS.map(|way| (way, Vec::new()));
        for round in 0..rounds {
            // There and back again, so that a drift favours nobody.
            let mut order: Vec<_> = runs.iter_mut().collect();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for (way, runs) in order {
                let pgbench = placement.command(pgbench(stage, *way, clients, duration));
                runs.push(run(stage, *way, &pids, &pgbench, duration));
            }
        }
        let of = |runs: &[Run], figure: fn(&Run) -> f64| runs.iter().map(figure).collect();
        let direct: Sample = of(&runs[0].1, |run| run.per_second);
        for (way, runs) in &runs {
            let per_second: Sample = of(runs, |run| run.per_second);
            let to_direct = per_second.over(&direct);
            let latency: Sample = of(runs, |run| run.latency);
            let between: Sample = of(runs, |run| run.between);
            let server: Sample = of(runs, |run| run.server);
            let pgbench: Sample = of(runs, |run| run.pgbench);
            let others: Sample = of(runs, |run| run.others);
            most_disturbed = most_disturbed.max(others.ends().1);
            table.row(
                vec![
                    format!("{clients}{}, {}", placement.words(), way.word()),
                    format!("{per_second:.0}"),
                    match way {
                        Way::Direct => "1".to_owned(),
                        Way::Gateway | Way::Floor => format!("{to_direct:.2}"),
                    },
                    format!("{latency:.0}"),
                    match way {
                        Way::Direct => "–".to_owned(),
                        Way::Gateway | Way::Floor => format!("{between:.2}"),
                    },
                    format!("{:.2}", server.median()),
                    format!("{:.2}", pgbench.median()),
                    format!("{:.0}–{:.0}", others.ends().0, others.ends().1),
                ],
                json!({
                    "clients": clients,
                    "on one processor": placement == Placement::OneProcessor,
                    "way": way.word(),
                    "queries per second": per_second.json(),
                    "throughput, ratio to direct": to_direct.json(),
                    "latency µs": latency.json(),
                    "CPU seconds per 100,000 queries": match way {
                        Way::Direct => Value::Null,
                        Way::Gateway | Way::Floor => between.json(),
                    },
                    "CPU seconds of the server per 100,000 queries": server.json(),
                    "CPU seconds of pgbench per 100,000 queries": pgbench.json(),
                    "percent of the machine used by others": others.json(),
                    "load before": loaded,
                }),
            );
        }
    }
    table.note(format!(
        "medians (low–high) of {rounds} rounds of {duration:?}; floor: a TLS relay without protocol, policy or sign-in, TLS on both sides"
    ));
    table.note(
        "on one processor all four wait for each other: its CPU column is the steady one, its throughput is no client's",
    );
    if most_disturbed > DISTURBED {
        table.note(format!(
            "DISTURBED: others used up to {most_disturbed:.0} % of the machine; run it again in a quiet moment"
        ));
    }
    table
}

/// One run of pgbench.
struct Run {
    per_second: f64,
    /// Microseconds.
    latency: f64,
    /// CPU seconds per 100,000 queries: of the process in between, of the server, of pgbench.
    between: f64,
    server: f64,
    pgbench: f64,
    /// Percent of the machine used by processes that have no part in it.
    others: f64,
}

fn run(stage: &Stage, way: Way, pids: &[u32], pgbench: &Command, duration: Duration) -> Run {
    let watched = [pids[0], stage.pid(way), std::process::id()];
    let before = watched.map(processor_seconds);
    let watch = Watch::begin(pids);
    let finished = process::run(pgbench, duration + GRACE);
    let told = Told::read(finished.ok());
    // A server process's time counts once the server has seen it end.
    while stage.connected() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let others = watch.end();
    let after = watched.map(processor_seconds);
    let per_100_000 = |index: usize| (after[index] - before[index]) / told.queries * 1e5;
    Run {
        per_second: told.per_second,
        latency: told.latency * 1e3,
        between: per_100_000(1),
        server: per_100_000(0),
        pgbench: per_100_000(2),
        others,
    }
}

fn pgbench(stage: &Stage, way: Way, clients: usize, duration: Duration) -> Command {
    let mut pgbench = stage.pgbench(way);
    pgbench
        .args(["--select-only", "--protocol=prepared", "--no-vacuum"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", duration.as_secs()));
    pgbench
}

/// Where the processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// Wherever the kernel puts them.
    Free,
    /// All on the same processor, one after the other as one client makes them. Left to the kernel,
    /// it is a matter of luck whether every message also wakes a sleeping processor, which costs
    /// about as much as everything else together.
    OneProcessor,
}

impl Placement {
    /// Moves every thread of a process, and the children that it will have.
    fn hold(self, pid: u32) {
        let mut taskset = Command::new("taskset");
        taskset.args(["--all-tasks", "--cpu-list", "--pid", &self.processors()]);
        taskset.arg(pid.to_string());
        let _ = process::run(&taskset, GRACE).ok();
    }

    /// The same command, run there.
    fn command(self, command: Command) -> Command {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", &self.processors()]);
        taskset.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                taskset.env(name, value);
            }
        }
        taskset
    }

    fn processors(self) -> String {
        match self {
            Self::Free => format!("0-{}", cores() - 1),
            Self::OneProcessor => "0".to_owned(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::OneProcessor => " on one processor",
        }
    }
}

/// What pgbench says at its end.
struct Told {
    queries: f64,
    /// Milliseconds.
    latency: f64,
    per_second: f64,
}

impl Told {
    fn read(text: &str) -> Self {
        let figure = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name));
            let word = rest.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("no {name:?} in {text}"))
        };
        let failed: f64 = figure("number of failed transactions: ");
        assert!(failed == 0.0, "{text}");
        Self {
            queries: figure("number of transactions actually processed: "),
            latency: figure("latency average = "),
            per_second: figure("tps = "),
        }
    }
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
            Self::Floor => "floor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_understood() {
        let told = Told::read(
            "number of transactions actually processed: 51200\n\
             number of failed transactions: 0 (0.000%)\n\
             latency average = 0.058 ms\n\
             initial connection time = 7.117 ms\n\
             tps = 17119.372934 (without initial connection time)\n",
        );
        assert_eq!(
            (told.queries, told.latency, told.per_second),
            (51_200.0, 0.058, 17_119.372_934)
        );
    }
}

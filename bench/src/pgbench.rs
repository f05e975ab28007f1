//! Queries every way, against direct TLS to the same server and against a bare relay.
//!
//! `pgbench -S -M prepared`: one short query after another on connections that stay open, which is
//! where whatever is in between weighs most.

use std::fs;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process;
use serde_json::{Value, json};

use crate::board::{Board, Column};
use crate::machine::{Watch, cores, load, processor_seconds};
use crate::report::Table;
use crate::rounds::Rounds;
use crate::sample::{Sample, quantile};
use crate::stage::Stage;
use crate::ways::{BOTH_SIDES, Behind, CLIENT_ONLY, Way};

/// Clients, and where everything runs.
const SCENES: [(usize, Placement); 3] = [
    (1, Placement::Free),
    (16, Placement::Free),
    (1, Placement::OneProcessor),
];
/// What pgbench may take longer than it was told to run.
const GRACE: Duration = Duration::from_secs(30);
/// The share of the queries whose latency pgbench writes down.
const LOGGED: f64 = 0.2;
/// Used by others, in percent of the machine, above which a figure is not to be trusted.
const DISTURBED: f64 = 5.0;

/// The ways that have queries measured.
pub(crate) fn ways() -> Vec<Way> {
    [&BOTH_SIDES[..], &CLIENT_ONLY].concat()
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
        "pgbench -S -M prepared, every way",
        &[
            "clients, way",
            "queries/s",
            "to direct",
            "to floor",
            "added µs p50",
            "p99",
            "CPU s of it per 100,000",
            "of the server",
            "others %",
        ],
    );
    let mut pids: Vec<u32> = ways.iter().map(|way| stage.pid(*way)).collect();
    pids.sort_unstable();
    pids.dedup();
    let mut told = Told {
        table: &mut table,
        board,
        most_disturbed: 0.0,
        costs: Vec::new(),
    };
    for (clients, placement) in SCENES {
        for pid in &pids {
            placement.hold(*pid);
        }
        let loaded = load();
        let measured = Rounds::measure(&placement.ways(ways), rounds, |way| {
            let pgbench = placement.command(pgbench(stage, way, clients, duration));
            run(stage, way, &pids, &pgbench, duration)
        });
        for way in measured.ways() {
            told.tell(&measured, way, clients, placement, &loaded);
        }
    }
    let most_disturbed = told.finish(ways);
    table.note(format!(
        "medians (low–high) of {rounds} rounds of {duration:?}; floor: a TLS relay without protocol, policy or sign-in; added: less direct's in the same round"
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

/// What becomes of the figures.
struct Told<'a> {
    table: &'a mut Table,
    board: &'a mut Board,
    most_disturbed: f64,
    /// CPU seconds of each way at one client and at many: two scenes make one cell.
    costs: Vec<(Way, String)>,
}

impl Told<'_> {
    fn tell(
        &mut self,
        measured: &Rounds<Run>,
        way: Way,
        clients: usize,
        placement: Placement,
        loaded: &[f64],
    ) {
        let of = |figure: fn(&Run) -> f64| measured.of(way, figure).expect("measured");
        let per_second = of(|run| run.per_second);
        let to_direct = measured.ratio(way, Way::Direct, |run| run.per_second);
        let to_direct = to_direct.expect("measured");
        let to_floor = measured.ratio(way, way.floor(), |run| run.per_second);
        let added =
            |figure: fn(&Run) -> f64| measured.added(way, Way::Direct, figure).expect("measured");
        let (added_half, added_most) = (added(|run| run.p50), added(|run| run.p99));
        let (between, server) = (of(|run| run.between), of(|run| run.server));
        let others = of(|run| run.others);
        self.most_disturbed = self.most_disturbed.max(others.ends().1);
        let between_only = |text: String| match way {
            Way::Direct => "–".to_owned(),
            _ => text,
        };
        let floor_ratio = |digits: fn(f64) -> String| match (&to_floor, way) {
            (None, _) | (_, Way::Direct) => "–".to_owned(),
            (Some(ratio), _) => digits(ratio.median()),
        };
        if placement == Placement::Free {
            self.fill(way, clients, &per_second, &to_direct);
            if way != Way::Direct {
                self.costs
                    .push((way, measured.cost(way, |run| run.between)));
            }
            if clients == 1 && way != Way::Direct {
                let text = format!("{:.0} / {:.0}", added_half.median(), added_most.median());
                self.board.put(way, Column::Added, text);
            }
        }
        let it = |sample: &Sample| match way {
            Way::Direct => Value::Null,
            _ => sample.json(),
        };
        self.table.row(
            vec![
                format!("{clients}{}, {way}", placement.words()),
                format!("{per_second:.0}"),
                between_only(format!("{to_direct:.2}")),
                floor_ratio(|ratio| format!("{ratio:.2}")),
                between_only(format!("{:.0}", added_half.median())),
                between_only(format!("{:.0}", added_most.median())),
                between_only(format!("{between:.2}")),
                format!("{:.2}", server.median()),
                format!("{:.0}–{:.0}", others.ends().0, others.ends().1),
            ],
            json!({
                "clients": clients,
                "on one processor": placement == Placement::OneProcessor,
                "way": way.to_string(),
                "queries per second": per_second.json(),
                "throughput, ratio to direct": to_direct.json(),
                "throughput, ratio to the floor": to_floor.as_ref().map(Sample::json),
                "latency µs, mean": of(|run| run.latency).json(),
                "latency µs, p50": of(|run| run.p50).json(),
                "latency µs, p99": of(|run| run.p99).json(),
                "added latency µs, p50": it(&added_half),
                "added latency µs, p99": it(&added_most),
                "CPU seconds per 100,000 queries": it(&between),
                "CPU seconds of the server per 100,000 queries": server.json(),
                "CPU seconds of pgbench per 100,000 queries": of(|run| run.pgbench).json(),
                "percent of the machine used by others": others.json(),
                "load before": loaded,
            }),
        );
    }

    fn fill(&mut self, way: Way, clients: usize, per_second: &Sample, to_direct: &Sample) {
        let column = match clients {
            1 => Column::OneClient,
            _ => Column::ManyClients,
        };
        let text = match way {
            Way::Direct => format!("{:.0}", per_second.median()),
            _ => format!("{:.0} ({:.2})", per_second.median(), to_direct.median()),
        };
        self.board.put(way, column, text);
    }

    fn finish(self, ways: &[Way]) -> f64 {
        for way in ways {
            let way = *way;
            let costs = self.costs.iter().filter(|(whose, _)| *whose == way);
            let costs: Vec<&str> = costs.map(|(_, cost)| cost.as_str()).collect();
            if !costs.is_empty() {
                self.board.put(way, Column::QueryCost, costs.join(" / "));
            }
        }
        self.most_disturbed
    }
}

/// One run of pgbench.
struct Run {
    per_second: f64,
    /// Microseconds: of pgbench's own reckoning, and the quantiles of a sample.
    latency: f64,
    p50: f64,
    p99: f64,
    /// CPU seconds per 100,000 queries: of the process in between, of the server, of pgbench.
    between: f64,
    server: f64,
    pgbench: f64,
    /// Percent of the machine used by processes that have no part in it.
    others: f64,
}

fn run(stage: &Stage, way: Way, pids: &[u32], pgbench: &Command, duration: Duration) -> Run {
    let watched = [stage.server_pid(), stage.pid(way), std::process::id()];
    let before = watched.map(processor_seconds);
    let watch = Watch::begin(pids);
    let finished = process::run(pgbench, duration + GRACE);
    let said = Said::read(finished.ok());
    stage.wait_until_left();
    let others = watch.end();
    let after = watched.map(processor_seconds);
    let per_100_000 = |index: usize| (after[index] - before[index]) / said.queries * 1e5;
    let mut latencies = latencies(stage);
    Run {
        per_second: said.per_second,
        latency: said.latency * 1e3,
        p50: quantile(&mut latencies, 0.5),
        p99: quantile(&mut latencies, 0.99),
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
        .arg(format!("--time={}", duration.as_secs()))
        .args(["--log", &format!("--sampling-rate={LOGGED}")])
        .arg(format!(
            "--log-prefix={}",
            stage.scratch().path().join(LOG).display()
        ));
    pgbench
}

/// What pgbench's log files begin with.
const LOG: &str = "pgbench-log";

/// The latencies that pgbench wrote down, in microseconds. Its files are gone afterwards.
fn latencies(stage: &Stage) -> Vec<f64> {
    let mut all = Vec::new();
    let folder = fs::read_dir(stage.scratch().path()).expect("our own folder");
    for entry in folder.flatten() {
        if entry.file_name().to_string_lossy().starts_with(LOG) {
            let text = fs::read_to_string(entry.path()).expect("our own file");
            // client, transaction, microseconds, script, and when.
            let took = text.lines().filter_map(|line| line.split(' ').nth(2));
            all.extend(took.filter_map(|it| it.parse::<f64>().ok()));
            fs::remove_file(entry.path()).expect("our own file");
        }
    }
    all
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

    /// On one processor only what the product is aimed at: the peers' figures need not be that fine.
    fn ways(self, all: &[Way]) -> Vec<Way> {
        let both = Behind::Tls;
        let aim = |way: &&Way| [Way::Direct, Way::Gateway(both), Way::Floor(both)].contains(way);
        match self {
            Self::Free => all.to_vec(),
            Self::OneProcessor => all.iter().filter(aim).copied().collect(),
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
struct Said {
    queries: f64,
    /// Milliseconds.
    latency: f64,
    per_second: f64,
}

impl Said {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_understood() {
        let said = Said::read(
            "number of transactions actually processed: 51200\n\
             number of failed transactions: 0 (0.000%)\n\
             latency average = 0.058 ms\n\
             initial connection time = 7.117 ms\n\
             tps = 17119.372934 (without initial connection time)\n",
        );
        assert_eq!(
            (said.queries, said.latency, said.per_second),
            (51_200.0, 0.058, 17_119.372_934)
        );
    }
}

//! COPY out and in: many bytes in one direction.
//!
//! Rows of a kilobyte, each a message of its own on the way out, eight to a message on the way in,
//! as psql does it. On the way in the server reads every row and keeps none.

use std::time::Instant;

use portcullis_tests::client::tagged;
use serde_json::{Value, json};

use crate::board::{Board, Column};
use crate::client::{Caller, Sessions};
use crate::machine::{load, processor_seconds};
use crate::report::Table;
use crate::rounds::{Rounds, few};
use crate::sample::Sample;
use crate::stage::{DATABASE, PASSWORD, Stage, USER};
use crate::ways::{BOTH_SIDES, CLIENT_ONLY, Way};

/// Bytes of a row, its end of line included.
const ROW: usize = 1_000;
/// Rows in a message on the way in.
const ROWS_EACH: usize = 8;
/// Messages that are handed over at once.
const MESSAGES_AT_ONCE: usize = 8;
const GB: f64 = 1e9;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// The ways that have COPY measured.
pub(crate) fn ways() -> Vec<Way> {
    [&BOTH_SIDES[..], &CLIENT_ONLY, &[Way::HaproxyDirect]].concat()
}

/// Measures, with so many megabytes each time.
pub(crate) fn measure(
    stage: &Stage,
    ways: &[Way],
    megabytes: usize,
    rounds: usize,
    board: &mut Board,
) -> Table {
    let mut table = Table::new(
        "COPY",
        &[
            "way",
            "MB/s",
            "to direct",
            "to floor",
            "CPU s of it per GB",
            "of the server",
        ],
    );
    stage.server().sql(&format!(
        "create unlogged table void (line text); grant all on void to {USER}"
    ));
    let rounds = few(rounds);
    let mut costs: Vec<(Way, String)> = Vec::new();
    for direction in [Direction::Out, Direction::In] {
        let loaded = load();
        let measured = Rounds::measure(ways, rounds, |way| run(stage, way, direction, megabytes));
        for way in measured.ways() {
            let of = |figure: fn(&Run) -> f64| measured.of(way, figure).expect("measured");
            let (per_second, between, server) = (
                of(|run| run.per_second),
                of(|run| run.between),
                of(|run| run.server),
            );
            let to_direct = measured.ratio(way, Way::Direct, |run| run.per_second);
            let to_floor = measured.ratio(way, way.floor(), |run| run.per_second);
            let ratio = |sample: &Option<Sample>| match sample {
                Some(sample) if way != Way::Direct => format!("{:.2}", sample.median()),
                _ => "–".to_owned(),
            };
            let cell = match way {
                Way::Direct => format!("{:.0} MB/s", per_second.median()),
                _ => format!("{:.0} ({})", per_second.median(), ratio(&to_direct)),
            };
            board.put(way, direction.column(), cell);
            if way != Way::Direct {
                costs.push((way, measured.cost(way, |run| run.between)));
            }
            table.row(
                vec![
                    format!("{}, {way}", direction.word()),
                    format!("{per_second:.0}"),
                    ratio(&to_direct),
                    ratio(&to_floor),
                    match way {
                        Way::Direct => "–".to_owned(),
                        _ => format!("{between:.2}"),
                    },
                    format!("{:.2}", server.median()),
                ],
                json!({
                    "direction": direction.word(),
                    "way": way.to_string(),
                    "megabytes": megabytes,
                    "MB per second": per_second.json(),
                    "throughput, ratio to direct": to_direct.as_ref().map(Sample::json),
                    "throughput, ratio to the floor": to_floor.as_ref().map(Sample::json),
                    "CPU seconds per GB": match way {
                        Way::Direct => Value::Null,
                        _ => between.json(),
                    },
                    "CPU seconds of the server per GB": server.json(),
                    "load before": loaded,
                }),
            );
        }
    }
    for way in ways {
        let costs = costs.iter().filter(|(whose, _)| whose == way);
        let costs: Vec<&str> = costs.map(|(_, cost)| cost.as_str()).collect();
        if !costs.is_empty() {
            board.put(*way, Column::CopyCost, costs.join(" / "));
        }
    }
    table.note(format!(
        "{megabytes} MB in rows of {ROW} bytes, {rounds} rounds; in: the server reads every row and keeps none"
    ));
    table
}

struct Run {
    /// Megabytes per second.
    per_second: f64,
    /// CPU seconds per gigabyte: of the process in between, of the server.
    between: f64,
    server: f64,
}

fn run(stage: &Stage, way: Way, direction: Direction, megabytes: usize) -> Run {
    stage.wait_until_left();
    let caller = Caller::new(way, stage.target(way), Sessions::Fresh);
    let mut client = caller
        .sign_in(USER, PASSWORD, DATABASE)
        .expect("an open door");
    let rows = megabytes * 1_000_000 / ROW;
    let watched = [stage.pid(way), stage.server_pid()];
    let before = watched.map(processor_seconds);
    let began = Instant::now();
    let bytes = match direction {
        Direction::Out => {
            let line = ROW - 1;
            let sql = format!(
                "copy (select repeat('x', {line}) from generate_series(1, {rows})) to stdout"
            );
            client.copy_out(&sql).expect("data")
        }
        Direction::In => {
            let line = [&[b'x'; ROW - 1][..], b"\n"].concat();
            let messages = tagged(b'd', &line.repeat(ROWS_EACH)).repeat(MESSAGES_AT_ONCE);
            let times = rows / (ROWS_EACH * MESSAGES_AT_ONCE);
            let sql = "copy void from stdin where false";
            client.copy_in(sql, &messages, times).expect("room");
            times * MESSAGES_AT_ONCE * ROWS_EACH * ROW
        }
    };
    let elapsed = began.elapsed().as_secs_f64();
    client.leave();
    stage.wait_until_left();
    let after = watched.map(processor_seconds);
    let per_gb = |index: usize| (after[index] - before[index]) / (bytes as f64 / GB);
    Run {
        per_second: bytes as f64 / elapsed / 1e6,
        between: per_gb(0),
        server: per_gb(1),
    }
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }

    fn column(self) -> Column {
        match self {
            Self::Out => Column::CopyOut,
            Self::In => Column::CopyIn,
        }
    }
}

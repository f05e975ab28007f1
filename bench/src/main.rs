//! `make bench`: what Portcullis costs, every figure beside a baseline taken in the same run.
//!
//! Wall-clock figures of one machine say little and drift while they are taken. So everything is
//! told as a ratio to something measured in turn with it, as the median of several rounds with how
//! far they lie apart, and with how much of the machine went to others meanwhile.
//!
//! Deliberately absent: comparisons between runs. `target/bench/summary.json` is there to be kept.

mod agree;
mod allocations;
mod apply;
mod audit;
mod bare;
mod board;
mod certificates;
mod client;
mod connections;
mod copy;
mod decide;
mod denials;
mod enforced;
mod fleet;
mod floor;
mod idle;
mod indexed;
mod machine;
mod options;
mod peers;
mod pgbench;
mod program;
mod reach;
mod receipts;
mod report;
mod restart;
mod rounds;
mod sample;
mod scram;
mod stage;
mod statistics;
mod steps;
mod subscribers;
mod timing;
mod ways;

use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value};

use board::Board;
use options::{Options, Part, Role};
use report::{Shown, Table};
use stage::Stage;
use ways::Way;

/// Rows of pgbench's table of accounts, in hundreds of thousands.
const SCALE: u32 = 10;

fn main() -> ExitCode {
    let options = Options::parse();
    match &options.role {
        None => {}
        Some(Role::Floor(relay)) => {
            floor::serve(relay);
            return ExitCode::SUCCESS;
        }
        Some(Role::Bare(bare)) => {
            bare::serve(bare);
            return ExitCode::SUCCESS;
        }
        Some(Role::Table) => {
            report::show_in_readme();
            return ExitCode::SUCCESS;
        }
    }
    program::insist_on_release();
    let facts = machine::facts();
    println!("{}", introduction(&facts));
    let mut summary = Map::new();
    let versions = peers::versions();
    let heading = heading(&facts, &versions, options.rounds);
    summary.insert("machine".to_owned(), facts);
    summary.insert("peers".to_owned(), versions);
    let mut verdict = Ok(());
    let mut tell = |name: &str, table: &Table| {
        print!("{}", table.text());
        summary.insert(name.to_owned(), table.figures());
    };
    if options.measures(Part::Decide) {
        let (table, measured) = decide::measure(options.rounds);
        tell("decide", &table);
        verdict = measured;
    }
    if options.measures(Part::Apply) {
        tell("apply", &apply::measure(options.rounds));
    }
    if options.measures(Part::Fleet) {
        tell("agree", &agree::engine());
    }
    let alone: [(Part, &str, Shown, MeasureAlone); 7] = [
        (Part::Fleet, "fleet", Shown::Fleet, enforced::measure),
        (
            Part::Subscribers,
            "subscribers",
            Shown::Subscribers,
            subscribers::measure,
        ),
        (Part::Restart, "restart", Shown::Restart, restart::measure),
        (Part::Audit, "audit", Shown::Audit, audit::measure),
        (
            Part::Receipts,
            "receipts",
            Shown::Receipts,
            receipts::measure,
        ),
        (Part::Index, "index", Shown::Index, indexed::measure),
        (
            Part::Certificates,
            "certificates",
            Shown::Certificates,
            certificates::measure,
        ),
    ];
    for (part, name, shown, measure) in alone {
        if options.measures(part) {
            let (mut board, heading) = (Board::default(), introduction(&machine::facts()));
            tell(name, &measure(options.rounds, &mut board));
            let _ = report::write_shown(shown, &board.markdown(&heading));
        }
    }
    if options.measures(Part::Reach) {
        let (mut board, heading) = (Board::default(), introduction(&machine::facts()));
        let (table, measured) = reach::measure(options.rounds, &mut board);
        tell("reach", &table);
        let _ = report::write_shown(Shown::Reach, &board.markdown(&heading));
        verdict = verdict.and(measured);
    }
    let mut board = Board::default();
    let ways = options.ways(ways(&options));
    if !ways.is_empty() {
        let mut stage = Stage::set(SCALE, &ways);
        let (duration, rounds) = (options.duration(), options.rounds);
        let of = |ways| options.ways(ways);
        if options.measures(Part::Pgbench) {
            let table =
                pgbench::measure(&stage, &of(pgbench::ways()), duration, rounds, &mut board);
            tell("pgbench", &table);
        }
        if options.measures(Part::Connections) {
            let table = connections::measure(
                &stage,
                &of(connections::ways()),
                duration / 2,
                rounds,
                &mut board,
            );
            tell("connections", &table);
        }
        if options.measures(Part::Copy) {
            let (ways, megabytes) = (of(copy::ways()), options.copy_megabytes);
            let table = copy::measure(&stage, &ways, megabytes, rounds, &mut board);
            tell("copy", &table);
        }
        if options.measures(Part::Denials) {
            let ways = of(denials::ways());
            let table = denials::measure(&stage, &ways, duration, rounds, &mut board);
            tell("denials", &table);
        }
        if options.measures(Part::Idle) {
            let table = idle::measure(
                &mut stage,
                &of(idle::ways()),
                options.connections,
                &mut board,
            );
            tell("idle", &table);
        }
    }
    if options.measures(Part::Timing) {
        let (table, measured) = timing::measure(&mut board);
        tell("timing", &table);
        verdict = verdict.and(measured);
    }
    let path = report::write_summary(summary);
    println!("\nall of it: {}", path.display());
    let markdown = board.markdown(&heading);
    if !markdown.is_empty() {
        let path = report::write_shown(Shown::Ways, &markdown);
        println!("for the README ({}):\n\n{markdown}", path.display());
    }
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("FAILED: {told}");
            ExitCode::FAILURE
        }
    }
}

/// Measures a part that needs no other, in so many rounds.
type MeasureAlone = fn(usize, &mut Board) -> Table;

/// Every way that some part will go.
fn ways(options: &Options) -> Vec<Way> {
    let mut ways = Vec::new();
    for part in [
        Part::Pgbench,
        Part::Connections,
        Part::Copy,
        Part::Idle,
        Part::Denials,
    ] {
        if options.measures(part) {
            ways.extend(match part {
                Part::Pgbench => pgbench::ways(),
                Part::Connections => connections::ways(),
                Part::Copy => copy::ways(),
                Part::Idle => idle::ways(),
                Part::Denials => denials::ways(),
                Part::Decide
                | Part::Apply
                | Part::Fleet
                | Part::Subscribers
                | Part::Restart
                | Part::Audit
                | Part::Reach
                | Part::Receipts
                | Part::Index
                | Part::Certificates
                | Part::Timing => Vec::new(),
            });
        }
    }
    ways
}

/// What stands above the table for the README.
fn heading(facts: &Value, versions: &Value, rounds: usize) -> String {
    let version = |name: &str| format!("{name} {}", versions[name].as_str().unwrap_or("?"));
    format!(
        "{}. Medians of {rounds} interleaved rounds (resumed sessions, COPY and denials: {}; idle memory was measured \
         once for each way, one after the other), everything on this one machine; in parentheses, speed \
         against direct TLS to PostgreSQL 15 and cost against the floor, a TLS relay without protocol, policy or \
         sign-in. {}, {}, {}.",
        introduction(facts),
        rounds::few(rounds),
        version("pgbouncer"),
        version("stunnel"),
        version("HAProxy"),
    )
}

fn introduction(facts: &Value) -> String {
    let word = |name: &str| match &facts[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "{}: {} cores ({}), Linux {}, load {}",
        word("day"),
        word("cores"),
        word("processor"),
        word("kernel"),
        word("load at start")
    )
}

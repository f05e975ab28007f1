//! `make bench`: what Portcullis costs, every figure beside a baseline taken in the same run.
//!
//! Wall-clock figures of one machine say little and drift while they are taken. So everything is
//! told as a ratio to something measured in turn with it, as the median of several rounds with how
//! far they lie apart, and with how much of the machine went to others meanwhile.
//!
//! Deliberately absent: comparisons between runs. `target/bench/summary.json` is there to be kept.

mod allocations;
mod apply;
mod decide;
mod fleet;
mod floor;
mod idle;
mod machine;
mod options;
mod pgbench;
mod program;
mod report;
mod sample;
mod stage;

use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value};

use options::{Options, Part, Role};
use report::Table;
use stage::Stage;

/// Rows of pgbench's table of accounts, in hundreds of thousands.
const SCALE: u32 = 10;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Role::Floor(relay)) = &options.role {
        floor::serve(relay);
        return ExitCode::SUCCESS;
    }
    program::insist_on_release();
    let facts = machine::facts();
    println!("{}", introduction(&facts));
    let mut summary = Map::new();
    summary.insert("machine".to_owned(), facts);
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
    if options.measures(Part::Pgbench) || options.measures(Part::Idle) {
        let mut stage = Stage::set(SCALE);
        if options.measures(Part::Pgbench) {
            let table = pgbench::measure(&stage, options.duration(), options.rounds);
            tell("pgbench", &table);
        }
        if options.measures(Part::Idle) {
            tell("idle", &idle::measure(&mut stage, options.connections));
        }
    }
    let path = report::write_summary(summary);
    println!("\nall of it: {}", path.display());
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("FAILED: {told}");
            ExitCode::FAILURE
        }
    }
}

fn introduction(facts: &Value) -> String {
    let word = |name: &str| match &facts[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "{} cores ({}), Linux {}, load {}",
        word("cores"),
        word("processor"),
        word("kernel"),
        word("load at start")
    )
}

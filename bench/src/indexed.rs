//! How fast a backlog of the audit logs gets into the index in PostgreSQL, beside a COPY of the same rows.

use std::thread;
use std::time::{Duration, Instant};

use portcullis_tests::fleet::Guests;
use portcullis_tests::{Fleet, Postgres, Scratch, Version, wait};
use serde_json::json;

use crate::board::Board;
use crate::enforced::policy;
use crate::machine::load;
use crate::report::Table;
use crate::sample::Sample;

/// Changes of policy; each is an entry of two logs.
const CHANGES: usize = 20_000;
const WRITERS: usize = 8;
const LIMIT: Duration = Duration::from_secs(300);
/// How often the index is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);
const ROLE: &str = "writer";
const SECRET: &str = "bench-4d7b";

/// Measures.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut fleet = Fleet::of(1);
    let postgres = Postgres::builder(Version::V15)
        .server_name("localhost")
        .role(ROLE, SECRET)
        .start();
    postgres.sql("create database audit");
    postgres.sql(&format!("grant create on database audit to {ROLE}"));
    let loaded = load();
    fill(&fleet);
    let scratch = Scratch::new("bench-index");
    scratch.write("ca.pem", postgres.authorities_pem());
    scratch.write_secret("password", format!("{SECRET}\n"));
    let folder = scratch.path().display();
    let port = postgres.address().port();
    let section = format!(
        "[audit.index]\nurl = \"postgresql://{ROLE}@localhost:{port}/audit\"\nca = \"{folder}/ca.pem\"\npassword-file = \"{folder}/password\"\n"
    );
    fleet.nodes[0].stop();
    fleet.nodes[0].rewrite("[admin]\n", &format!("{section}[admin]\n"));
    let (mut written, mut copied) = (Sample::default(), Sample::default());
    let mut rows = 0;
    for _ in 0..rounds.clamp(1, 3) {
        postgres.sql_in("audit", "drop schema if exists portcullis_audit cascade");
        fleet.nodes[0].start();
        let (count, rate) = indexed(&postgres);
        written.push(rate);
        rows = count;
        fleet.nodes[0].stop();
        copied.push(copy(&postgres));
    }
    let ratio = written.over(&copied);
    let mut table = Table::new(
        "index: a backlog of the audit logs into PostgreSQL",
        &["what", "figure", "beside"],
    );
    table.row(
        vec![
            "rows/s into the index".to_owned(),
            format!("{written:.0}"),
            format!("{ratio:.2} of a COPY of them ({copied:.0})"),
        ],
        json!({ "rows": rows, "rows per second": written.json(), "copied per second": copied.json(), "ratio": ratio.json(), "load before": loaded }),
    );
    board.line(format!(
        "a backlog of {rows} entries into the index in PostgreSQL (one node, TLS, each row checked against the log's hashes, in batches with the log's root): {written:.0} rows/s, {ratio:.2} of a COPY of the same rows and indexes from a file ({copied:.0})"
    ));
    table
}

/// Makes the logs long.
fn fill(fleet: &Fleet) {
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for number in 0..CHANGES / WRITERS {
                    let guests = match (number + writer) % 2 {
                        0 => Guests::Welcome,
                        _ => Guests::Unwelcome,
                    };
                    let _ = fleet.nodes[0].apply(&[policy(fleet, guests)]).ok();
                }
            });
        }
    });
}

/// Waits until the index has what was there; how many rows, and how many a second since it had the first.
fn indexed(postgres: &Postgres) -> (u64, f64) {
    let count = || {
        let asked = "select count(*) from portcullis_audit.entries";
        let told = postgres.try_sql("audit", asked);
        told.stdout.trim().parse::<u64>().unwrap_or(0)
    };
    let mut first = None;
    let _ = wait::wait_for("the index to have a row", LIMIT, || {
        let has = count();
        first = (has > 0).then(|| (has, Instant::now()));
        first.is_some()
    });
    let (had, began) = first.expect("it was waited for");
    let (mut last, mut grew) = (had, began);
    // What the node says of itself meanwhile comes singly.
    while grew.elapsed() < Duration::from_secs(3) && began.elapsed() < LIMIT {
        thread::sleep(LOOK);
        let has = count();
        if has > last + 10 {
            (last, grew) = (has, Instant::now());
        }
    }
    let took = grew.duration_since(began).as_secs_f64();
    (last, (last - had) as f64 / took.max(f64::EPSILON))
}

/// A COPY of the same rows into a table with the same indexes; rows a second.
fn copy(postgres: &Postgres) -> f64 {
    let ask = |sql: &str| postgres.sql_in("audit", sql);
    // The server runs as a user of its own, who may write nowhere else.
    let path = format!("{}/rows", ask("show data_directory").trim());
    ask(
        "drop table if exists copied; create table copied (like portcullis_audit.entries including all)",
    );
    let rows: f64 = ask("select count(*) from portcullis_audit.entries")
        .trim()
        .parse()
        .expect("a number");
    ask(&format!("copy portcullis_audit.entries to '{path}'"));
    let began = Instant::now();
    ask(&format!("copy copied from '{path}'"));
    rows / began.elapsed().as_secs_f64()
}

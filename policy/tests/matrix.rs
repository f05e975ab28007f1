//! The decision matrix: every way of arriving at every kind of endpoint, as a file that is reviewed as a diff.
//!
//! After a change that is meant to alter decisions, rewrite the file with
//! `cargo test -p portcullis-policy --test matrix -- --ignored bless` and read what differs.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::{EntryWords, Proposed, at, endpoint, entry, name, server_name, state, tenant};
use portcullis_policy::*;
use std::fmt::Write;

const GOLDEN: &str = include_str!("../testdata/decision_matrix.txt");
const GOLDEN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/decision_matrix.txt");
/// The moment of every decision. Entries expire before, at or after it.
const NOON: i64 = 43_200_000;

#[test]
fn every_decision_is_the_one_in_the_matrix() {
    let matrix = matrix();
    if matrix == GOLDEN {
        return;
    }
    let (was, is) = (by_set_up(GOLDEN), by_set_up(&matrix));
    let gone = was
        .iter()
        .filter(|line| !is.contains(line))
        .map(|line| format!("- {line}\n"));
    let new = is
        .iter()
        .filter(|line| !was.contains(line))
        .map(|line| format!("+ {line}\n"));
    let diff: String = gone.chain(new).collect();
    panic!("the matrix differs from testdata/decision_matrix.txt:\n{diff}");
}

/// Each row with the set-up that it stands under, because many rows look alike.
fn by_set_up(matrix: &str) -> Vec<String> {
    let mut title = "";
    let mut rows = Vec::new();
    for line in matrix.lines() {
        match line.strip_prefix("    ") {
            Some(row) => rows.push(format!("[{title}] {row}")),
            None => title = line,
        }
    }
    rows
}

#[test]
#[ignore = "rewrites the file that the other test compares with"]
fn bless() {
    std::fs::write(GOLDEN_PATH, matrix()).expect("the golden file can be written");
}

#[test]
fn the_matrix_has_every_code_in_it() {
    let matrix = matrix();
    for code in DenialCode::ALL {
        assert!(
            matrix.lines().any(|line| line.contains(code.as_str())),
            "{code}"
        );
    }
}

fn matrix() -> String {
    let mut out = String::from(
        "# set-up of acme/orders | attempt | decision at 1970-01-01T12:00:00Z\n\
         # Written by tests/matrix.rs; see there before changing it.\n",
    );
    for (title, acme) in set_ups() {
        let _ = writeln!(out, "\n{title}");
        let mut state = state(&[acme, globex()]);
        state.propose(&revoke(), at(0)).expect("it is revoked");
        let view = state.view();
        for row in attempts() {
            let decision = decide_both_ways(&view, &row);
            let _ = writeln!(out, "    {:<58} {decision}", row.title);
        }
    }
    out
}

/// Runs the row silently and with a story, and makes sure that both say the same.
fn decide_both_ways(view: &View, row: &Row) -> String {
    let attempt = Attempt {
        origin: &row.origin,
        address: row.address,
        server_name: row.server_name.as_ref(),
        user: "app",
        database: "orders",
        replication: row.replication,
        certificate: row.certificate.as_ref(),
        purpose: row.purpose,
        unconfirmed: row.unconfirmed,
    };
    let silent = in_words(&decide(view, &attempt, at(NOON), &mut Silent));
    let told = explain(view, &attempt, at(NOON));
    assert_eq!(silent, in_words(&told.decision), "{}", row.title);
    let (last, before) = told.story.lines.split_last().expect("a story has a line");
    let expected = match &told.decision {
        Decision::Permitted(_) => None,
        Decision::Denied(denial) => Some(denial.reason()),
    };
    assert_eq!(
        last.refused, expected,
        "the last line told is the one that decided"
    );
    assert!(
        before.iter().all(|line| line.refused.is_none()),
        "{}",
        told.story
    );
    assert!(
        told.story.lines.is_sorted_by_key(|line| line.check),
        "{}",
        told.story
    );
    silent
}

fn in_words(decision: &Decision) -> String {
    match decision {
        Decision::Permitted(permit) => {
            let until = match permit.expires() {
                Some(moment) => format!(" until {moment}"),
                None => String::new(),
            };
            let place = format!("{}/{}", permit.tenant(), permit.endpoint_id());
            format!(
                "permitted to {place} by allow[{}]{until}",
                permit.entry().index
            )
        }
        Decision::Denied(denial) => match denial.entry() {
            Some(entry) => format!("{} (allow[{}])", denial.code(), entry.index),
            None => denial.code().to_owned(),
        },
    }
}

const DOORS: [&str; 4] = [
    "public",
    "network:acme-vpc",
    "private-link:aws:vpce-acme",
    "private-link:azure:7",
];

fn listed() -> Vec<Entry> {
    vec![
        entry("203.0.113.0/24", "public"),
        entry("2001:db8::/32", "public"),
        entry("10.0.0.0/16", "network:acme-vpc"),
        entry("10.0.0.0/16", "private-link:aws:vpce-acme"),
        entry("10.0.0.0/16", "private-link:azure:7"),
    ]
}

fn each(change: impl Fn(Entry) -> Entry) -> Vec<Entry> {
    listed().into_iter().map(change).collect()
}

/// Everybody's neighbour: the same addresses in its own network.
fn globex() -> Tenant {
    let mut globex = tenant("globex");
    let allow = vec![
        entry("10.0.0.0/16", "network:globex-vpc"),
        entry("10.0.0.0/16", "private-link:aws:vpce-globex"),
    ];
    let doors = ["network:globex-vpc", "private-link:aws:vpce-globex"];
    globex
        .endpoints
        .insert(name("orders"), endpoint("globex-orders", &doors, allow));
    globex
}

/// One certificate of acme's clients is revoked, whatever else is set up.
fn revoke() -> Command {
    Command::Revoke {
        tenant: name("acme"),
        serial: name("1f"),
        reason: String::from("lost"),
        until: None,
    }
}

fn acme(doors: &[&str], allow: Vec<Entry>, change: impl Fn(&mut Endpoint)) -> Tenant {
    let mut acme = tenant("acme");
    let mut orders = endpoint("acme-orders", doors, allow);
    change(&mut orders);
    acme.endpoints.insert(name("orders"), orders);
    acme
}

fn set_ups() -> Vec<(&'static str, Tenant)> {
    let plain = |doors: &[&str], allow| acme(doors, allow, |_| {});
    let anywhere = || -> Vec<Entry> { DOORS.iter().map(|door| entry("anywhere", door)).collect() };
    let suspend = |mut tenant: Tenant| {
        tenant.suspended = true;
        tenant
    };
    let minding = |mut tenant: Tenant| {
        tenant.limits.on_stale = OnStale::REFUSE;
        tenant
    };
    vec![
        ("every door, listed", plain(&DOORS, listed())),
        ("tenant suspended", suspend(plain(&DOORS, anywhere()))),
        (
            "endpoint suspended",
            acme(&DOORS, anywhere(), |orders| orders.suspended = true),
        ),
        (
            "both suspended",
            suspend(acme(&DOORS, anywhere(), |orders| orders.suspended = true)),
        ),
        ("no door, though listed", plain(&[], listed())),
        ("public door alone", plain(&DOORS[..1], listed())),
        (
            "every door but the public one",
            plain(&DOORS[1..], listed()),
        ),
        ("every door, empty list", plain(&DOORS, vec![])),
        (
            "every door, entries for the public one alone",
            plain(&DOORS, listed()[..2].to_vec()),
        ),
        (
            "every door, client's addresses excepted",
            plain(
                &DOORS,
                vec![
                    entry("203.0.113.0/24", "public").except(&["203.0.113.7"]),
                    entry("2001:db8::/32", "public").except(&["2001:db8::/64"]),
                    entry("10.0.0.0/16", "network:acme-vpc")
                        .except(&["10.0.0.0/24", "10.0.4.0/24"]),
                    entry("10.0.0.0/16", "private-link:aws:vpce-acme").except(&["10.0.0.4/30"]),
                    entry("10.0.0.0/16", "private-link:azure:7").except(&["10.0.0.0/16"]),
                ],
            ),
        ),
        (
            "excepted in one entry, listed by another",
            plain(&DOORS, {
                let excepted = entry("203.0.113.0/24", "public").except(&["203.0.113.7"]);
                vec![excepted, entry("203.0.113.7", "public")]
            }),
        ),
        (
            "every door, expired a moment ago",
            plain(&DOORS, each(|entry| entry.until(NOON - 1))),
        ),
        (
            "every door, expired this very moment",
            plain(&DOORS, each(|entry| entry.until(NOON))),
        ),
        (
            "every door, expires in a moment",
            plain(&DOORS, each(|entry| entry.until(NOON + 1))),
        ),
        (
            "expired, later and later still, the last with host precision",
            plain(
                &DOORS,
                vec![
                    entry("203.0.113.0/24", "public").until(NOON - 1),
                    entry("203.0.113.0/25", "public").until(NOON + 1000),
                    entry("203.0.113.7", "public").until(NOON + 2000),
                    entry("10.0.0.0/16", "network:acme-vpc").until(NOON - 1),
                    entry("10.0.0.0/8", "network:acme-vpc"),
                ],
            ),
        ),
        ("anywhere", plain(&DOORS, anywhere())),
        (
            "anywhere by the network alone",
            plain(&DOORS, vec![entry("anywhere", "network:acme-vpc")]),
        ),
        (
            "anywhere except",
            plain(&DOORS, {
                let except = ["203.0.113.0/24", "2001:db8::1", "10.0.0.0/8"];
                anywhere()
                    .into_iter()
                    .map(|entry| entry.except(&except))
                    .collect()
            }),
        ),
        (
            "replication allowed",
            acme(&DOORS, listed(), |orders| {
                orders.replication = Replication::Allowed
            }),
        ),
        (
            "replication allowed, expired",
            acme(&DOORS, each(|entry| entry.until(NOON)), |orders| {
                orders.replication = Replication::Allowed;
            }),
        ),
        (
            "refused when the policy is stale",
            minding(plain(&DOORS, listed())),
        ),
        (
            "refused when the policy is stale, expired",
            minding(plain(&DOORS, each(|entry| entry.until(NOON)))),
        ),
    ]
}

struct Row {
    title: String,
    origin: Origin,
    address: Address,
    server_name: Option<ServerName>,
    replication: bool,
    certificate: Option<Serial>,
    purpose: Purpose,
    unconfirmed: u64,
}

fn attempts() -> Vec<Row> {
    let row = |origin: &str, address: &str| Row {
        title: format!("{origin} {address}"),
        origin: name(origin),
        address: name(address),
        server_name: Some(server_name("acme-orders")),
        replication: false,
        certificate: None,
        purpose: Purpose::Connect,
        unconfirmed: 0,
    };
    let with = |words: &str, mut row: Row, change: &dyn Fn(&mut Row)| {
        row.title = format!("{} {words}", row.title);
        change(&mut row);
        row
    };
    let public = || row("public", "203.0.113.7");
    let own_network = || row("network:acme-vpc", "10.0.0.5");
    vec![
        public(),
        row("public", "::ffff:203.0.113.7"),
        row("public", "203.0.113.255"),
        row("public", "203.0.114.0"),
        row("public", "2001:db8::1"),
        row("public", "2001:db9::1"),
        row("public", "10.0.0.5"),
        own_network(),
        row("network:acme-vpc", "10.1.0.5"),
        row("network:acme-vpc", "203.0.113.7"),
        row("network:globex-vpc", "10.0.0.5"),
        row("network:nobody-vpc", "10.0.0.5"),
        row("private-link:aws:vpce-acme", "10.0.0.5"),
        row("private-link:aws:vpce-globex", "10.0.0.5"),
        row("private-link:azure:7", "10.0.0.5"),
        row("private-link:gcp:7", "10.0.0.5"),
        with("replication", public(), &|row| row.replication = true),
        with("replication", own_network(), &|row| row.replication = true),
        with("cancel", public(), &|row| row.purpose = Purpose::Cancel),
        with("cancel", row("public", "203.0.114.0"), &|row| {
            row.purpose = Purpose::Cancel
        }),
        with("cancel", row("network:globex-vpc", "10.0.0.5"), &|row| {
            row.purpose = Purpose::Cancel
        }),
        with("to an unknown name", public(), &|row| {
            row.server_name = Some(server_name("acme-order"));
        }),
        with("with certificate 1f, revoked", public(), &|row| {
            row.certificate = Some(name("1f"));
        }),
        with("with certificate 20", public(), &|row| {
            row.certificate = Some(name("20"));
        }),
        with("by a policy 29 s old", public(), &|row| {
            row.unconfirmed = 29
        }),
        with("by a policy 30 s old", public(), &|row| {
            row.unconfirmed = 30
        }),
        with(
            "by a policy 30 s old",
            row("public", "203.0.114.0"),
            &|row| row.unconfirmed = 30,
        ),
        with("without a name", public(), &|row| row.server_name = None),
        with("cancel without a name", own_network(), &|row| {
            row.server_name = None;
            row.purpose = Purpose::Cancel;
        }),
        with("to globex-orders", own_network(), &|row| {
            row.server_name = Some(server_name("globex-orders"));
        }),
        with(
            "to globex-orders",
            row("network:globex-vpc", "10.0.0.5"),
            &|row| {
                row.server_name = Some(server_name("globex-orders"));
            },
        ),
    ]
}

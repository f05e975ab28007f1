//! Every driver, unchanged: a program in its own language does through the gateway, before either
//! server, all that it does at a server directly, and sees the same. What a driver can is in the
//! manual's table, `gateway/manual/drivers.md`, which is compared with what was seen here.
//!
//! After a change of drivers or checks, rewrite the table with
//! `cargo test -p portcullis-tests --test drivers_each -- --ignored bless` and read what differs.

mod every;
mod scene;

use std::collections::BTreeSet;

use every::ear::Ear;
use every::place::{WAYS, Way, gateway, place};
use every::programs::{DRIVERS, Driver};
use every::table;
use portcullis_tests::Version;
use portcullis_tests::drivers::program::{CONNECTING, Outcome, REFUSED, Report, WORKING};
use portcullis_tests::skip::skipped;

macro_rules! each {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            unchanged($name);
        })*

        #[test]
        fn every_driver_has_a_test_and_a_row() {
            let tested = [$($name),*];
            assert_eq!(DRIVERS.map(|driver| driver.name), tested);
            assert_eq!(table::names(), [tested, tested].concat());
        }
    };
}

each! {
    psql_works_unchanged "psql"
    psycopg_3_works_unchanged "psycopg 3"
    psycopg_2_works_unchanged "psycopg 2"
    asyncpg_works_unchanged "asyncpg"
    pg8000_works_unchanged "pg8000"
    sqlalchemy_works_unchanged "SQLAlchemy"
    node_postgres_works_unchanged "node-postgres"
    postgres_js_works_unchanged "Postgres.js"
    pgjdbc_works_unchanged "pgJDBC"
    lib_pq_works_unchanged "lib/pq"
    tokio_postgres_works_unchanged "tokio-postgres"
    sqlx_works_unchanged "SQLx"
    php_pgsql_works_unchanged "PHP pgsql"
    php_pdo_works_unchanged "PHP PDO"
    ruby_pg_works_unchanged "ruby-pg"
    dbd_pg_works_unchanged "DBD::Pg"
    psqlodbc_works_unchanged "psqlODBC"
}

#[test]
#[ignore = "rewrites the table that the other tests compare with"]
fn bless() {
    let reports = DRIVERS.each_ref().map(|driver| {
        assert_eq!(driver.missing(), None);
        report(driver, Way::Through(Version::V18))
    });
    table::write(&reports);
}

fn unchanged(name: &str) {
    let driver = Driver::named(name);
    if let Some(missing) = driver.missing() {
        return skipped(module_path!(), line!(), &missing);
    }
    let [old, new, direct] = std::thread::scope(|scope| {
        let runs = WAYS.map(|way| scope.spawn(move || report(driver, way)));
        runs.map(|run| {
            run.join()
                .unwrap_or_else(|told| std::panic::resume_unwind(told))
        })
    });
    for (report, version) in [(&old, Version::V15), (&new, Version::V18)] {
        assert_eq!(
            but_for_refusals(report),
            direct.checks,
            "{name} before {version:?}, and at a server directly"
        );
        denied(report, version);
    }
    assert_eq!(
        table::told(driver),
        table::lines(driver, &new),
        "the manual's table lies: see how to rewrite it"
    );
}

/// Runs it that way; everything works that the driver has at all, and nothing is left out.
fn report(driver: &Driver, way: Way) -> Report {
    let mut place = place(way, &driver.role());
    let ear = Ear::before(place.address);
    place.address = ear.address();
    let mut report = driver.run(way, &place);
    if let Some(Outcome::Works(how)) = report.checks.get_mut("cancel") {
        let heard = ear.heard_a_cancel();
        *how = (if heard { "clear" } else { "TLS" }).to_owned();
    }
    let failed: Vec<_> = report
        .checks
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Fails(_)))
        .collect();
    assert!(failed.is_empty(), "{} {way:?}: {failed:#?}", driver.name);
    let mut due: BTreeSet<&str> = [&CONNECTING[..], &WORKING].concat().into_iter().collect();
    due.retain(|name| way != Way::Direct || !REFUSED.contains(name));
    let done: BTreeSet<&str> = report.checks.keys().map(String::as_str).collect();
    assert_eq!(done, due, "{} {way:?}", driver.name);
    report
}

fn but_for_refusals(report: &Report) -> std::collections::BTreeMap<String, Outcome> {
    let mut checks = report.checks.clone();
    checks.retain(|name, _| !REFUSED.contains(&name.as_str()));
    checks
}

/// The reference that the driver showed leads to the whole story.
fn denied(report: &Report, version: Version) {
    let Outcome::Works(reference) = &report.checks["denied"] else {
        panic!("{:?}", report.checks["denied"]);
    };
    let event = gateway(version).event(reference, |event| {
        event["kind"] == "connection.denied" && event["reference"] == *reference.as_str()
    });
    assert_eq!(event["code"], "network_mismatch", "{event}");
}

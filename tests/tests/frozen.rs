//! A database that neither answers nor refuses: nobody waits for it longer than said, and a
//! withdrawal does not wait for it at all.

mod scene;

use std::time::{Duration, Instant};

use portcullis_tests::{EndpointText, Gateway, Postgres, RawClient, Version, wait};
use scene::{NAME, SOON, acme, event_of, gateway, new_server, orders};
use serde_json::Value;

#[test]
fn a_client_is_told_within_the_named_limits_and_why_says_what_was_waited_for() {
    let database = new_server(Version::V15);
    let relaying = gateway(&acme(&database, orders().authentication("relay")));
    let checking = gateway(&acme(&database, orders()));
    database.freeze();
    let waited = |gateway: &Gateway| {
        let began = Instant::now();
        let refusal = start(gateway).refusal();
        assert_eq!(refusal.sqlstate(), "57P03");
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
        event_of(gateway, "upstream.failed", &refusal);
    };
    std::thread::scope(|scope| {
        for gateway in [&relaying, &checking] {
            scope.spawn(move || waited(gateway));
        }
    });
    database.thaw();
    let client = relaying.dial(NAME).sign_in("app", "secret", "postgres");
    drop(client);
}

#[test]
fn a_client_that_waits_for_the_database_is_refused_the_moment_its_entry_goes() {
    let database = new_server(Version::V15);
    let relay = |endpoint: EndpointText| acme(&database, endpoint.authentication("relay"));
    let gateway = gateway(&relay(orders()));
    database.freeze();
    let mut waiting = start(&gateway);
    wait::wait_for("it waits", SOON, || opening(&gateway) == 1);
    let began = Instant::now();
    let receipt = gateway.apply(&[relay(elsewhere())]);
    assert_eq!(waiting.refusal().sqlstate(), "57P01");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let one = &receipt["enforcement"]["closed"][0];
    assert_eq!(one["backend"], "none", "{receipt}");
    assert_eq!(opening(&gateway), 0);
    database.thaw();
    assert_eq!(database.connections_of("app"), 0);
}

#[test]
fn a_live_connection_is_closed_at_once_and_the_receipt_says_that_its_query_was_not_seen_to_end() {
    let database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders()));
    let mut live = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    live.send_query("select pg_sleep(602)").unwrap();
    let running = |database: &Postgres| {
        database.sql("select count(*) from pg_stat_activity where query = 'select pg_sleep(602)'")
    };
    wait::wait_for("the query runs", SOON, || running(&database) == "1");
    // No cancel request and no new question is taken now; the query goes on.
    database.freeze();
    let receipt = gateway.apply(&[acme(&database, elsewhere())]);
    let one = &receipt["enforcement"]["closed"][0];
    assert!(one["after_ms"].as_f64().unwrap() < 1000.0, "{receipt}");
    assert_eq!(
        (&one["told"], &one["backend"]),
        (&true.into(), &"unseen".into()),
        "{receipt}"
    );
    let told = live.refusal();
    assert_eq!(told.sqlstate(), "57P01");
    let event = event_of(&gateway, "connection.lapsed", &told);
    assert_eq!(event["told"], true, "{event}");
    let event = event_of(&gateway, "backend.ended", &told);
    assert_eq!(event["backend"], "unseen", "{event}");
    database.thaw();
}

fn start(gateway: &Gateway) -> RawClient {
    let dial = gateway.dial(NAME).limit(Duration::from_secs(20));
    dial.start(&[("user", "app"), ("database", "postgres")])
        .unwrap()
}

fn elsewhere() -> EndpointText {
    EndpointText::new("orders", NAME).allow("127.0.9.9", "public")
}

fn opening(gateway: &Gateway) -> usize {
    let connections = gateway.ask(&["connections"])["connections"].clone();
    let opening = |one: &&Value| one["state"] == "opening";
    connections
        .as_array()
        .unwrap()
        .iter()
        .filter(opening)
        .count()
}

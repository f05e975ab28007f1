//! A change of policy while 3,000 connections are open: it looks at those it can affect and at no
//! others, and whoever it closes gets not a byte more, whatever passed at that moment.

mod scene;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use portcullis_tests::{
    Dial, Ending, EndpointText, Gateway, Postgres, RawClient, TenantText, Version, wait,
};
use scene::{NAME, clients, gateway, here};
use serde_json::Value;

/// Connections that go on, and connections that are closed.
const STAY: usize = 2_000;
const LEAVE: usize = 1_000;
/// Of those that are closed, so many have a query running, receive a large answer, receive a COPY
/// and send one.
const RUNNING: usize = 50;
const FLOODED: usize = 4;
const COPIED_OUT: usize = 4;
const COPIED_IN: usize = 4;
/// Threads that sign clients in.
const HANDS: usize = 8;
/// How long three thousand of anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn among_three_thousand_a_change_closes_whom_it_must_and_looks_at_nobody_else() {
    let server = &server();
    let gateway = gateway(&acme(
        server,
        &["127.0.1.0/24", "127.0.2.0/24", "127.0.3.0/24"],
    ));
    let mut stay = sign_in(&gateway, 1, STAY);
    let mut leave = sign_in(&gateway, 2, LEAVE);
    let mut one = sign_in(&gateway, 3, 1);
    assert_eq!(gateway.ask(&["status"])["connections"], STAY + LEAVE + 1);

    // A change that concerns one connection looks at one.
    let receipt = gateway.apply(&[acme(server, &["127.0.1.0/24", "127.0.2.0/24"])]);
    assert_eq!(receipt["enforcement"]["decided_again"], 1, "{receipt}");
    assert_eq!(one[0].refusal().sqlstate(), "57P01");

    let busy = Busy::make(&mut leave);
    let running = "select count(*) from pg_stat_activity where query like 'select pg_sleep(607)%'";
    wait::wait_for("the queries run", LONG, || {
        server.sql(running) == RUNNING.to_string()
    });
    let receipt = gateway.apply(&[acme(server, &["127.0.1.0/24"])]);
    let enforcement = &receipt["enforcement"];
    assert_eq!(enforcement["decided_again"], LEAVE);
    assert_eq!(enforcement["unfinished"], 0);
    let closed = enforcement["closed"].as_array().unwrap();
    assert_eq!(closed.len(), LEAVE);
    let backends = tally(closed, "backend");
    assert_eq!(backends.get("\"gone\""), Some(&LEAVE), "{backends:?}");
    assert_eq!(server.sql(running), "0");
    busy.assert_nothing_more_arrived(&mut leave);
    let slowest = closed
        .iter()
        .filter_map(|one| one["after_ms"].as_f64())
        .fold(0.0, f64::max);
    let gone = closed
        .iter()
        .filter_map(|one| one["backend_after_ms"].as_f64())
        .fold(0.0, f64::max);
    println!(
        "closed {LEAVE} of {}: slowest {slowest} ms, last backend gone after {gone} ms",
        STAY + LEAVE
    );

    // Nobody else noticed.
    for client in &mut stay {
        client.send_query("select 1").unwrap();
    }
    for client in &mut stay {
        let answer = client.read_until(b'Z').unwrap();
        assert!(answer.iter().any(|message| message.kind == b'D'));
    }
    assert_eq!(gateway.ask(&["status"])["connections"], STAY);
}

/// Those of the leaving that are in the middle of something.
struct Busy {
    /// Bytes that had arrived at a client that does not read, once its socket was full.
    flooded: Vec<usize>,
}

impl Busy {
    /// Puts the first of `leave` in the middle of something, one kind after the other.
    fn make(leave: &mut [RawClient]) -> Self {
        let (running, rest) = leave.split_at_mut(RUNNING);
        for client in running {
            client.send_query("select pg_sleep(607)").unwrap();
        }
        let (flooded, rest) = rest.split_at_mut(FLOODED);
        for client in &mut *flooded {
            client.send_query("select repeat('x', 60000000)").unwrap();
        }
        let (copied_out, rest) = rest.split_at_mut(COPIED_OUT);
        for client in &mut *copied_out {
            client
                .send_query(
                    "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout",
                )
                .unwrap();
        }
        for client in flooded.iter().chain(&*copied_out) {
            fill(client);
        }
        for client in rest.iter_mut().take(COPIED_IN) {
            client.query("create temp table t (line text)").unwrap();
            client.send_query("copy t from stdin").unwrap();
            client.read_until(b'G').unwrap();
            client
                .send(&portcullis_tests::client::tagged(b'd', &[b'x'; 100_000]))
                .unwrap();
        }
        let full = flooded.iter().chain(&*copied_out);
        Self {
            flooded: full.map(arrived).collect(),
        }
    }

    /// What arrives now had arrived before the receipt; everybody else is told, or cut.
    fn assert_nothing_more_arrived(&self, leave: &mut [RawClient]) {
        let full = leave.iter().skip(RUNNING);
        for (client, before) in full.zip(&self.flooded) {
            let by_now = arrived(client);
            assert!(by_now >= *before);
            let (rest, end) = drain(client);
            assert!(rest <= by_now, "{} bytes after the receipt", rest - by_now);
            assert_ne!(end, Ending::Silent);
        }
        for (index, client) in leave.iter_mut().enumerate() {
            if (RUNNING..RUNNING + FLOODED + COPIED_OUT).contains(&index) {
                continue;
            }
            assert_eq!(client.refusal().sqlstate(), "57P01", "client {index}");
        }
    }
}

/// Waits until nothing more arrives at a client that does not read.
fn fill(client: &RawClient) {
    let mut before = 0;
    wait::wait_for("the socket is full", LONG, || {
        std::thread::sleep(Duration::from_millis(100));
        let now = arrived(client);
        let full = now == before && now > 32_768;
        before = now;
        full
    });
}

fn arrived(client: &RawClient) -> usize {
    let waiting = rustix::io::ioctl_fionread(client.socket()).unwrap();
    usize::try_from(waiting).unwrap()
}

/// Reads what is there to read, as it came over the network.
fn drain(client: &RawClient) -> (usize, Ending) {
    let mut count = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match client.socket().read(&mut buffer) {
            Ok(0) => return (count, Ending::Closed),
            Ok(more) => count += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (count, Ending::from(error)),
        }
    }
}

/// So many clients from 127.0.`network`.0/24, each with its own database connection.
fn sign_in(gateway: &Gateway, network: u8, count: usize) -> Vec<RawClient> {
    let trusted = gateway.authorities_pem();
    let share = |hand: usize| (hand..count).step_by(HANDS);
    let open = |index: usize| {
        let host = u8::try_from(index % 250 + 1).unwrap();
        Dial::tls(gateway.address(), NAME, &trusted)
            .from(here(network, host))
            .limit(LONG)
            .sign_in("app", "secret", "postgres")
    };
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| scope.spawn(move || share(hand).map(open).collect::<Vec<_>>()))
            .collect();
        let joined = hands.into_iter().map(|hand| hand.join().unwrap());
        joined.flatten().collect()
    })
}

fn tally(closed: &[Value], key: &str) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for one in closed {
        *tally.entry(one[key].to_string()).or_default() += 1;
    }
    tally
}

fn acme(server: &Postgres, entries: &[&str]) -> TenantText {
    let orders = entries
        .iter()
        .fold(EndpointText::new("orders", NAME), |orders, entry| {
            orders.allow(entry, "public")
        });
    scene::acme(server, orders).limits(
        "{ connections: 5000, connections-per-endpoint: 5000, new-connections-per-second: 5000 }",
    )
}

fn server() -> Postgres {
    Postgres::builder(Version::V15)
        .client_authority(clients())
        .role("app", "secret")
        .setting("max_connections", &(STAY + LEAVE + 100).to_string())
        .served()
        .start()
}

//! Change means now: who is closed by a change of policy, who is not, and what those who are get
//! to hear.

mod scene;

use std::io::Read as _;
use std::time::{Duration, Instant};

use portcullis_tests::client::{V3_0, startup};
use portcullis_tests::{
    Ending, EndpointText, Gateway, Listener, Postgres, TenantText, Version, wait,
};
use scene::{
    NAME, SOON, TOKEN, Trap, acme, asks_for_a_token, clients, gateway, here, orders, server,
};
use serde_json::Value;

const REPORTS: &str = "acme-reports.db.test";
const GLOBEX: &str = "globex.db.test";

#[test]
fn a_removed_entry_closes_exactly_the_connections_that_it_admitted() {
    let server = server(Version::V15);
    let both = listed(&[("127.0.1.0/24", ""), ("127.0.2.0/24", "")]);
    let gateway = two_tenants(server, both);
    let dial = |name: &str, network, host| {
        let trusted = gateway.authorities_pem();
        let dial = portcullis_tests::Dial::tls(gateway.address(), name, &trusted);
        dial.from(here(network, host))
            .sign_in("app", "secret", "postgres")
    };
    let mut leave = [dial(NAME, 1, 1), dial(NAME, 1, 1), dial(NAME, 1, 200)];
    let mut stay = [
        dial(NAME, 2, 1),
        dial(REPORTS, 1, 1),
        dial(GLOBEX, 1, 1),
        dial(GLOBEX, 2, 1),
    ];

    let one = listed(&[("127.0.2.0/24", "")]);
    gateway.write_policy(&with_reports(server, one));
    let directory = gateway.policy_directory().display().to_string();
    let plan = gateway.ask(&["plan", &directory]);
    assert_eq!(
        addresses(plan["closes"].as_array().unwrap()),
        ["127.0.1.1", "127.0.1.1", "127.0.1.200"]
    );
    let receipt = gateway.apply(&[]);
    let enforcement = &receipt["enforcement"];
    assert_eq!(
        enforcement["decided_again"], 3,
        "what it cannot affect is not looked at"
    );
    assert_eq!(enforcement["unfinished"], 0);
    let closed = closed(&receipt);
    let connections: Vec<Value> = closed.iter().map(|one| one["connection"].clone()).collect();
    assert_eq!(
        addresses(&connections),
        ["127.0.1.1", "127.0.1.1", "127.0.1.200"]
    );
    for one in &closed {
        assert_eq!(
            (&one["code"], &one["told"], &one["backend"]),
            (&"address_not_listed".into(), &true.into(), &"gone".into()),
            "{one}"
        );
        assert!(one["after_ms"].as_f64().unwrap() < 1000.0, "{one}");
    }
    for client in &mut leave {
        let told = client.refusal();
        assert_eq!(told.sqlstate(), "57P01");
        let why = gateway.command(&["why", &told.reference()]);
        assert!(why.ok().contains("address_not_listed"), "{why}");
    }
    for client in &mut stay {
        assert_eq!(client.query("select 1").unwrap(), [[Some("1".to_owned())]]);
    }

    // An exception inside an entry that stays.
    let but = listed(&[("127.0.2.0/24", ", except: [127.0.2.1]")]);
    let receipt = gateway.apply(&[with_reports(server, but)]);
    assert_eq!(closed_addresses(&receipt), ["127.0.2.1"]);
    let [first, rest @ ..] = &mut stay;
    assert_eq!(first.refusal().sqlstate(), "57P01");
    for client in rest {
        assert_eq!(client.query("select 1").unwrap(), [[Some("1".to_owned())]]);
    }
}

#[test]
fn the_same_address_by_another_door_is_another_origin() {
    let server = server(Version::V15);
    let orders = |public: &str| {
        EndpointText::new("orders", NAME)
            .allow(public, "public")
            .allow("127.0.1.1", "network:acme-vpc")
    };
    let tenant = |public: &str| acme(server, orders(public)).network("acme-vpc");
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .listener(Listener::network("acme-vpc"))
        .tenant(&tenant("127.0.1.0/24"))
        .signs_in_at("acme", clients())
        .start();
    let trusted = gateway.authorities_pem();
    let open = |index: usize| {
        let dial = portcullis_tests::Dial::tls(gateway.listener(index), NAME, &trusted);
        dial.from(here(1, 1)).sign_in("app", "secret", "postgres")
    };
    let (mut public, mut peered) = (open(0), open(1));
    let receipt = gateway.apply(&[tenant("127.0.2.0/24")]);
    assert_eq!(closed(&receipt)[0]["connection"]["origin"], "public");
    assert_eq!(public.refusal().sqlstate(), "57P01");
    assert_eq!(peered.query("select 1").unwrap().len(), 1);
    let mut again = gateway.ask(&["connections"])["connections"]
        .as_array()
        .unwrap()
        .clone();
    let only = again.remove(0);
    assert!(again.is_empty());
    assert_eq!(only["origin"], "network:acme-vpc");
    assert!(
        only["entry"].as_str().unwrap().contains("127.0.1.1"),
        "{only}"
    );
}

#[test]
fn a_running_query_is_gone_from_the_database_when_the_receipt_is_there() {
    for version in scene::BOTH {
        let server = server(version);
        let gateway = gateway(&acme(server, orders()));
        let mut sleeping = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        sleeping.send_query("select pg_sleep(601)").unwrap();
        let mut idle = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        idle.query("begin; create temp table t (n int)").unwrap();
        let mut copying = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        copying.query("create temp table t (n int)").unwrap();
        copying.send_query("copy t from stdin").unwrap();
        copying.read_until(b'G').unwrap();
        let running =
            "select count(*) from pg_stat_activity where query like 'select pg_sleep(601)'";
        wait::wait_for("the query runs", SOON, || server.sql(running) == "1");
        let receipt = gateway.apply(&[acme(server, listed(&[("127.0.9.9", "")]))]);
        assert_eq!(server.sql(running), "0", "{version:?}: {receipt}");
        for one in closed(&receipt) {
            assert_eq!(one["backend"], "gone", "{one}");
            assert!(one["backend_after_ms"].as_f64().unwrap() > 0.0, "{one}");
        }
        for client in [&mut sleeping, &mut idle, &mut copying] {
            assert_eq!(client.refusal().sqlstate(), "57P01");
        }
    }
}

#[test]
fn the_receipt_says_how_many_were_closed_and_how_fast() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let _live = [0, 1].map(|_| gateway.dial(NAME).sign_in("app", "secret", "postgres"));
    gateway.write_policy(&acme(server, listed(&[("127.0.9.9", "")])));
    let directory = gateway.policy_directory().display().to_string();
    let told = gateway.command(&["apply", &directory, "--receipt"]);
    let last = told.ok().lines().last().unwrap();
    let start = "in force on 1/1 nodes at revision 2, 2 connections closed, slowest ";
    assert!(last.starts_with(start) && last.ends_with("ms"), "{told}");
    assert_eq!(
        told.ok().matches("address_not_listed after").count(),
        2,
        "{told}"
    );
}

#[test]
fn in_the_middle_of_a_message_not_a_byte_comes_after_the_receipt() {
    let server = server(Version::V15);
    for flood in [
        "select repeat('x', 60000000)",
        "copy (select repeat('x', 900000) from generate_series(1, 100)) to stdout",
        "select repeat('x', 100) from generate_series(1, 2000000)",
    ] {
        let gateway = gateway(&acme(server, orders()));
        let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        client.send_query(flood).unwrap();
        client.read_message().unwrap();
        // Nobody reads: what comes fills the socket, and everything behind it waits.
        let socket = client.socket().try_clone().unwrap();
        let arrived = || rustix::io::ioctl_fionread(&socket).unwrap();
        let mut before = 0;
        wait::wait_for("the socket is full", SOON, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = arrived();
            // How much that is, is the kernel's choice (70 to 130 KB were seen); every flood is far more.
            let full = now == before && now > 32_768;
            before = now;
            full
        });
        let receipt = gateway.apply(&[acme(server, listed(&[("127.0.9.9", "")]))]);
        let by_now = arrived();
        let one = &closed(&receipt)[0];
        assert_eq!(
            (&one["told"], &one["backend"]),
            (&false.into(), &"gone".into()),
            "{one}"
        );
        assert!(one["after_ms"].as_f64().unwrap() < 1000.0, "{one}");
        let mut rest = 0;
        let mut buffer = vec![0; 1 << 16];
        let end = loop {
            match (&socket).read(&mut buffer) {
                Ok(0) => break Ending::Closed,
                Ok(count) => rest += count as u64,
                Err(error) => break Ending::from(error),
            }
        };
        assert!(
            rest <= by_now,
            "{flood}: {} bytes came after the receipt",
            rest - by_now
        );
        assert_ne!(end, Ending::Silent);
    }
}

#[test]
fn a_client_in_the_middle_of_signing_in_is_refused_and_never_reaches_the_database() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(asks_for_a_token()));
    let mut asked = gateway.dial(NAME).start(&[("user", "app")]).unwrap();
    asked.read_until(b'R').unwrap();
    let mut early = gateway.dial(NAME).connect().unwrap();
    let receipt = gateway.apply(&[trap.acme(listed(&[("127.0.9.9", "")]).authentication(TOKEN))]);
    let one = &closed(&receipt)[0];
    assert_eq!(one["connection"]["state"], "opening");
    assert_eq!(one["backend"], "none");
    assert_eq!(asked.refusal().sqlstate(), "57P01");
    early.send(&startup(V3_0, &[("user", "app")])).unwrap();
    assert_eq!(early.refusal().sqlstate(), "28000", "decided when it asks");
    trap.assert_untouched();
}

#[test]
fn an_entry_that_expires_closes_what_it_admitted_within_a_second() {
    let server = server(Version::V15);
    let moment = |in_seconds: u64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let seconds = i64::try_from(now.as_secs() + in_seconds).unwrap();
        (
            portcullis_audit::moment::to_text(seconds * 1000),
            Instant::now() + Duration::from_secs(in_seconds)
                - Duration::from_nanos(now.subsec_nanos().into()),
        )
    };
    let (soon, at) = moment(3);
    let (later, _) = moment(600);
    let until = |text: &str| format!(", expires: {text}");
    let entries = |extended: &str| {
        listed(&[
            ("127.0.1.1", &until(&soon)),
            ("127.0.1.2", &until(extended)),
            ("127.0.1.3", &until(&soon)),
            ("127.0.1.0/30", &until(&soon)),
            ("127.0.1.3", ""),
        ])
    };
    let gateway = gateway(&acme(server, entries(&soon)));
    let open = |host| {
        gateway
            .dial(NAME)
            .from(here(1, host))
            .sign_in("app", "secret", "postgres")
    };
    let (mut short, mut extended, mut covered) = (open(1), open(2), open(3));
    let receipt = gateway.apply(&[acme(server, entries(&later))]);
    assert!(closed(&receipt).is_empty(), "{receipt}");
    let told = short.refusal();
    assert_eq!(told.sqlstate(), "57P01");
    let (now, late) = (Instant::now(), at + Duration::from_secs(1));
    assert!(
        at <= now + Duration::from_millis(20) && now < late,
        "{:?} after",
        now - at
    );
    let event = scene::event_of(&gateway, "connection.lapsed", &told);
    assert_eq!(event["code"], "entry_expired");
    for client in [&mut extended, &mut covered] {
        assert_eq!(client.query("select 1").unwrap().len(), 1);
    }
    let again = gateway
        .dial(NAME)
        .from(here(1, 1))
        .start(&[("user", "app")])
        .unwrap()
        .refusal();
    let why = gateway.command(&["why", &again.reference()]);
    assert!(why.ok().contains("entry_expired"), "{why}");
}

/// The endpoint acme/orders with these public entries and nothing else.
fn listed(entries: &[(&str, &str)]) -> EndpointText {
    let endpoint = EndpointText::new("orders", NAME).door("public");
    entries.iter().fold(endpoint, |endpoint, (prefix, more)| {
        endpoint.allow_with(prefix, "public", more)
    })
}

/// acme with two endpoints, of which `orders` is this one.
fn with_reports(server: &Postgres, orders: EndpointText) -> TenantText {
    let reports = EndpointText::new("reports", REPORTS).cluster("orders");
    acme(server, orders).endpoint(reports.allow("127.0.0.0/8", "public"))
}

fn two_tenants(server: &Postgres, orders: EndpointText) -> Gateway {
    let globex = EndpointText::new("orders", GLOBEX).allow("127.0.0.0/8", "public");
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .tenant(&with_reports(server, orders))
        .tenant(
            &TenantText::new("globex")
                .cluster("orders", server)
                .endpoint(globex),
        )
        .signs_in_at("acme", clients())
        .signs_in_at("globex", clients())
        .start();
    scene::assert_in_force(&gateway, 2);
    gateway
}

fn closed(receipt: &Value) -> Vec<Value> {
    receipt["enforcement"]["closed"].as_array().unwrap().clone()
}

fn closed_addresses(receipt: &Value) -> Vec<String> {
    let connections: Vec<Value> = closed(receipt)
        .iter()
        .map(|one| one["connection"].clone())
        .collect();
    addresses(&connections)
}

fn addresses(connections: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = connections
        .iter()
        .map(|one| one["address"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

//! Attacks on memory and on the log: what is large, deep, or many, from clients, from databases,
//! at the admin socket and in policy.

mod scene;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use portcullis_tests::client::{V3_0, tagged};
use portcullis_tests::{Dial, Ending, EndpointText, Gateway, RawClient, Version, wait};
use scene::{NAME, SOON, Trap, acme, gateway, orders, server};

/// What a gateway may grow by under any of these.
const ROOM_KIB: u64 = 12 << 10;

#[test]
fn announced_lengths_take_no_memory() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let before = gateway.resident_kib();
    let announced =
        |length: u32| [&length.to_be_bytes()[..], &V3_0.to_be_bytes(), b"user\0"].concat();
    // As long as a start-up packet may be, never sent; held open together.
    let mut held: Vec<RawClient> = (0..20)
        .map(|_| gateway.dial(NAME).connect().unwrap())
        .collect();
    for client in &mut held {
        client.send(&announced(10_000)).unwrap();
    }
    for n in 0..100 {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        client
            .send(&announced(
                [0x7fff_ffff, 0x0fff_ffff, u32::MAX >> 4, 10_001][n % 4],
            ))
            .unwrap();
        assert_ne!(client.read_to_end().1, Ending::Silent);
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
    let told = |code: &str| {
        let events = gateway.events();
        let of_it = events.iter().filter(|event| event["code"] == code);
        of_it
            .filter(|it| it["kind"] == "protocol.violation")
            .count()
    };
    wait::wait_for("every length is written down", SOON, || {
        told("startup_length") == 100
    });
    wait::wait_for("so is everybody who sent no more", SOON, || {
        told("startup_timeout") == held.len()
    });
    trap.assert_untouched();
}

#[test]
fn a_row_and_a_query_of_48_mib_pass_through_in_small_pieces() {
    const SIZE: usize = 48 << 20;
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let mut client = gateway
        .dial(NAME)
        .limit(Duration::from_secs(60))
        .sign_in("app", "secret", "postgres");
    let before = gateway.resident_kib();
    let watch = Watch::over(&gateway);
    let row = client
        .query(&format!("select repeat('x', {SIZE})"))
        .unwrap();
    assert_eq!(row[0][0].as_ref().map(String::len), Some(SIZE));
    drop(row);
    let query = [&b"select length('"[..], &vec![b'x'; SIZE], b"')\0"].concat();
    client.send(&tagged(b'Q', &query)).unwrap();
    let answer = client.read_until(b'Z').unwrap();
    let row = answer
        .iter()
        .find(|message| message.kind == b'D')
        .unwrap()
        .row();
    assert_eq!(row, [Some(SIZE.to_string())]);
    let most = watch.most().saturating_sub(before);
    assert!(most < ROOM_KIB, "{most} KiB more");
}

#[test]
fn a_client_that_stops_reading_a_result_without_end_holds_up_its_database_and_fills_no_memory() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let mut other = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let before = gateway.resident_kib();
    client
        .send_query("select repeat('x', 900000) from generate_series(1, 12000)")
        .unwrap();
    client.read_message().unwrap();
    let passed = || {
        let live = gateway.ask(&["connections"]);
        let live = live["connections"].as_array().unwrap().clone();
        live.iter()
            .filter_map(|one| one["bytes_out"].as_u64())
            .max()
            .unwrap()
    };
    let mut last = 0;
    wait::wait_for("it stands still", SOON, || {
        std::thread::sleep(Duration::from_millis(200));
        let now = passed();
        let still = now == last && now > 0;
        last = now;
        still
    });
    assert!(
        last < 32 << 20,
        "{last} bytes of ten gigabytes passed for nobody"
    );
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
    assert_eq!(other.query("select 1").unwrap().len(), 1);
}

#[test]
#[ignore = "it waits for more than a minute: make soak"]
fn a_client_that_takes_nothing_for_a_minute_is_given_up_and_its_query_ends() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let from = client.local_address();
    client
        .send_query("select repeat('x', 900000) from generate_series(1, 12000)")
        .unwrap();
    let given_up = |event: &serde_json::Value| {
        event["kind"] == "connection.closed" && event["port"] == from.port()
    };
    wait::wait_for("it is given up", Duration::from_secs(150), || {
        gateway.events().iter().any(given_up)
    });
    let closed = gateway.event("its end", given_up);
    assert_eq!(closed["code"], "client_broken", "{closed}");
    scene::backends(server, "app", 0);
}

#[test]
fn at_the_admin_socket_nothing_is_read_that_is_too_large_too_deep_or_ambiguous() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let before = gateway.resident_kib();
    let post = |path: &str, more: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        [head.as_bytes(), body].concat()
    };
    let sized =
        |path: &str, body: &[u8]| post(path, &format!("Content-Length: {}\r\n", body.len()), body);
    let keys: String = (0..60_000).map(|n| format!("\"k{n}\":1,")).collect();
    let deep = [&vec![b'['; 100_000][..], &vec![b']'; 100_000]].concat();
    let lines: String = (0..100).map(|n| format!("X-{n}: x\r\n")).collect();
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    for (what, request, answers) in [
        (
            "a body of a gibibyte",
            post("/v1/explain", "Content-Length: 1073741824\r\n", b""),
            &["413"][..],
        ),
        (
            "a body without end",
            post(
                "/v1/explain",
                "Transfer-Encoding: chunked\r\n",
                &chunk.repeat(40),
            ),
            &["413"],
        ),
        (
            "two lengths",
            post(
                "/v1/explain",
                "Content-Length: 2\r\nContent-Length: 3\r\n",
                b"{}x",
            ),
            &["400"],
        ),
        (
            "a length and chunks",
            post(
                "/v1/explain",
                "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                b"0\r\n\r\n",
            ),
            &["400"],
        ),
        (
            "a negative length",
            post("/v1/explain", "Content-Length: -1\r\n", b""),
            &["400"],
        ),
        ("JSON 100,000 deep", sized("/v1/explain", &deep), &["400"]),
        (
            "JSON of 60,000 keys",
            sized("/v1/explain", format!("{{{keys}\"z\":1}}").as_bytes()),
            &["400"],
        ),
        (
            "the same key twice",
            sized("/v1/explain", b"{\"tenant\":\"a\",\"tenant\":\"b\"}"),
            &["400"],
        ),
        (
            "something compressed",
            post(
                "/v1/explain",
                "Content-Encoding: gzip\r\nContent-Length: 10\r\n",
                b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            ),
            &["400", "415"],
        ),
        (
            "a header of a megabyte",
            post(
                "/v1/explain",
                &format!("X: {}\r\n", "x".repeat(1 << 20)),
                b"",
            ),
            &["431", ""],
        ),
        ("100 headers", post("/v1/explain", &lines, b""), &["431"]),
        (
            "a path of 10,000",
            post(
                &format!("/v1/{}", "x".repeat(10_000)),
                "Content-Length: 0\r\n",
                b"",
            ),
            &["400", "414"],
        ),
        (
            "a path above",
            sized("/v1/../v1/apply", b"{}"),
            &["400", "404"],
        ),
        (
            "a path in escapes",
            sized("/v1/%61pply", b"{}"),
            &["400", "404"],
        ),
        (
            "a policy of 200 MB",
            post("/v1/apply", "Content-Length: 200000000000\r\n", b""),
            &["413"],
        ),
        (
            "no protocol",
            b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
            &["400", ""],
        ),
    ] {
        let answer = asked(&gateway, &request);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answers.contains(&status), "{what}: {answer:?}");
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
    assert_eq!(gateway.ask(&["status"])["revision"], 1);
    // None of it was a policy, so none is told as one; the file itself is as it should be.
    let events = gateway.events();
    let kinds: Vec<_> = events
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["policy.applied", "node.started"]);
    assert!(!gateway.log_text().contains("panicked"));
    trap.assert_untouched();
}

#[test]
fn a_policy_without_measure_is_refused_at_the_door_and_the_last_good_one_serves_on() {
    let server = server(Version::V15);
    let tenant = acme(server, orders());
    let gateway = gateway(&tenant);
    let mut live = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let before = gateway.resident_kib();
    let yaml = tenant.yaml();
    let entries = |count: usize| {
        let lines: String = (0..count)
            .map(|n| {
                format!(
                    "      - {{prefix: \"10.{}.{}.{}\", origin: public, note: x, owner: x}}\n",
                    n >> 16,
                    n >> 8 & 255,
                    n & 255
                )
            })
            .collect();
        format!("{yaml}{lines}")
    };
    let deep = format!(
        "tenant: acme\nclusters: {}{}\n",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let bomb: String = (1..40)
        .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1))
        .collect();
    let keys = format!("{{\"keys\":[{}]}}", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},".repeat(100_000));
    let token = format!(
        "{{token: {{issuer: x, audience: x, claim: sub, map: [{{value: x, role: app}}], keys: '{keys}'}}}}"
    );
    let mut rejections = 0;
    let mut told_of = 0;
    for (what, text) in [
        ("10,001 entries", entries(10_000)),
        ("a million entries", entries(1_000_000)),
        (
            "16 MiB of words",
            format!("{yaml}# {}\n", "x".repeat(16 << 20)),
        ),
        ("lists in lists in lists", deep),
        ("aliases of aliases", format!("a0: &a0 [x]\n{bomb}{yaml}")),
        ("itself within itself", format!("{yaml}networks: &n [*n]\n")),
        (
            "100,000 keys of an issuer",
            yaml.replace("authentication: scram", &format!("authentication: {token}")),
        ),
        (
            "a megabyte of name",
            yaml.replace("acme-orders.db.test", &"a".repeat(1 << 20)),
        ),
    ] {
        let began = Instant::now();
        gateway.write_policy_text("acme.yaml", &text);
        let told = gateway.command(&["apply", &gateway.policy_directory().display().to_string()]);
        assert!(!told.status.success(), "{what} was applied");
        assert!(
            told.stderr.len() < 64 << 10,
            "{what}: {} bytes of complaint",
            told.stderr.len()
        );
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{what} took {:?}",
            began.elapsed()
        );
        rejections += 1;
        // What is larger than a file may be, the command does not even send.
        told_of += usize::from(!told.stderr.contains("is larger than"));
        let events = rejected(&gateway);
        assert_eq!(events.len(), told_of, "{what}");
        assert!(events.iter().all(|event| event["code"] == "policy_invalid"));
        assert!(
            events.last().unwrap().to_string().len() < 64 << 10,
            "{what}"
        );
    }
    assert_eq!((rejections, told_of), (8, 5));
    assert_eq!(gateway.ask(&["status"])["revision"], 1);
    assert_eq!(live.query("select 1").unwrap().len(), 1);
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(
        grown < 96 << 10,
        "{grown} KiB more after {rejections} of them"
    );
    // Read by the node itself, at the start and by a signal, it makes no difference.
    gateway.write_policy_text("acme.yaml", &entries(10_000));
    gateway.hang_up();
    wait::wait_for("it is read", SOON, || {
        gateway.log_text().contains("portcullis policy check")
    });
    wait::wait_for("it is written down", SOON, || {
        rejected(&gateway).len() == told_of + 1
    });
    assert_eq!(live.query("select 1").unwrap().len(), 1);
    assert!(!gateway.log_text().contains("panicked"));
}

fn rejected(gateway: &Gateway) -> Vec<serde_json::Value> {
    let mut events = gateway.events();
    events.retain(|event| event["kind"] == "policy.rejected");
    events
}

#[test]
fn each_of_a_flood_of_refusals_is_written_down_or_counted() {
    const EACH: u16 = 400;
    let trap = Trap::new();
    let elsewhere = EndpointText::new("orders", NAME).allow("127.0.9.9", "public");
    let gateway = gateway(&trap.acme(elsewhere));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let to = gateway.address();
            scope.spawn(move || {
                for n in 0..EACH {
                    // Each from a network of its own, so that no limit of a source is met.
                    let [high, low] = n.to_be_bytes();
                    let from = [127, 10 + thread * 10 + high, low, 1].into();
                    let mut client = Dial::plain(to).from(from).connect().unwrap();
                    client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                    assert_ne!(client.read_to_end().1, Ending::Silent);
                }
            });
        }
    });
    let sent = u64::from(EACH) * 4;
    let counted = || {
        let page = gateway.metrics("/metrics");
        let lines = page
            .lines()
            .filter(|line| line.starts_with("portcullis_connections_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    wait::wait_for("all of them are counted", SOON, || counted() == sent);
    wait::wait_for("all of them are written down", SOON, || {
        let events = gateway.events();
        let of_it = events
            .iter()
            .filter(|event| event["kind"] == "protocol.violation");
        let shed = events.iter().filter(|event| event["kind"] == "limit.shed");
        let shed: u64 = shed.filter_map(|event| event["total"].as_u64()).sum();
        of_it.count() as u64 + shed == sent
    });
    trap.assert_untouched();
}

/// What the admin socket answers to these bytes, whole or in part: whoever is refused need not be
/// heard out.
fn asked(gateway: &Gateway, request: &[u8]) -> String {
    let mut socket = UnixStream::connect(gateway.admin_socket()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    socket
        .set_write_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let _ = socket.write_all(request);
    let mut answer = vec![0; 4096];
    let count = socket.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// Looks at a gateway's memory again and again.
struct Watch {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn over(gateway: &Gateway) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let status = format!("/proc/{}/status", gateway.pid());
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            let look = Duration::from_millis(10);
            while stopped.recv_timeout(look) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                most = most.max(kib.unwrap_or(0));
            }
            most
        });
        Self { stop, thread }
    }

    /// The most that it was, in KiB.
    fn most(self) -> u64 {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

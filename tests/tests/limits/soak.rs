//! Floods that last: good clients connect all the while, everybody else is closed in time, and
//! what is written down stays exact and small.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::client::SSL_REQUEST;
use portcullis_tests::{Dial, Ending, EndpointText, Gateway, Listener, RawClient, Version, wait};

use super::scene::{NAME, SOON, Trap, acme, clients, gateway, here, orders, server};
use super::{acme_dial, bare, limited, shed, started};

#[test]
#[ignore = "SOAK_SECONDS long: `make soak`"]
fn two_thousand_dribbling_proxy_headers_hold_up_nobody_behind_the_same_balancer() {
    const HANDS: u8 = 4;
    const EACH: usize = 500;
    let tenant = acme(
        server(Version::V15),
        orders().allow("203.0.113.0/24", "public"),
    );
    let builder = limited("").listener(Listener::public().balanced("127.0.9.1"));
    let builder = builder.tenant(&tenant).signs_in_at("acme", clients());
    let gateway = started(builder, 1);
    let through = gateway.listener(1);
    let end = end();
    let header = |port: u16| {
        let from = SocketAddr::new(IpAddr::from([203, 0, 113, 7]), port);
        proxy_v2(from, "203.0.113.1:5432".parse().unwrap(), &[])
    };
    let waits = std::thread::scope(|scope| {
        for _ in 0..HANDS {
            let header = header(1);
            let dial = Dial::plain(through).from(here(9, 1));
            scope.spawn(move || dribble(&dial, &header, EACH, end));
        }
        // The first of them are there.
        std::thread::sleep(Duration::from_secs(1));
        let good = |n: usize| {
            let port = u16::try_from(1000 + n % 60_000).unwrap();
            let dial = Dial::tls(through, NAME, &gateway.authorities_pem());
            dial.from(here(9, 1)).first(&header(port))
        };
        good_clients(good, end)
    });
    assert_served(&waits);
    let late = shed(&gateway, "proxy_header");
    println!("{late} headers did not come in time");
    assert!(late > EACH as u64 * u64::from(HANDS), "{late}");
}

/// Holds so many connections, each of which sends its header byte by byte and is replaced when it
/// is closed.
fn dribble(dial: &Dial, header: &[u8], count: usize, end: Instant) {
    let mut held: Vec<(Option<RawClient>, usize)> = (0..count).map(|_| (None, 0)).collect();
    while Instant::now() < end {
        for (client, sent) in &mut held {
            let byte = &header[*sent % header.len()..][..1];
            let goes_on = client.as_mut().is_some_and(|it| it.send(byte).is_ok());
            *sent += 1;
            if !goes_on {
                (*client, *sent) = (dial.connect().ok(), 0);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "SOAK_SECONDS long: `make soak`"]
fn six_thousand_silent_sslrequests_are_closed_in_time_and_hold_up_nobody() {
    const HANDS: u8 = 6;
    const EACH: usize = 1_000;
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let end = end();
    let (opened, waits) = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..HANDS)
            .map(|hand| {
                let gateway = &gateway;
                scope.spawn(move || {
                    let mut opened = 0;
                    while Instant::now() < end {
                        opened += all_closed_in_time(gateway, hand, EACH);
                    }
                    opened
                })
            })
            .collect();
        let good = |n: usize| acme_dial(&gateway, here(1, u8::try_from(n % 250 + 1).unwrap()));
        let waits = good_clients(good, end);
        let opened = floods.into_iter().map(|flood| flood.join().unwrap());
        (opened.sum::<u64>(), waits)
    });
    assert_served(&waits);
    let names = [
        "client_hello",
        "unauthenticated",
        "unauthenticated_per_address",
        "unauthenticated_per_block",
    ];
    let counts = names.map(|name| shed(&gateway, name));
    println!("of {opened} opened: {names:?} {counts:?}");
    assert!(opened >= EACH as u64 * u64::from(HANDS));
    assert_eq!(counts.iter().sum::<u64>(), opened);
}

/// Opens so many connections from many addresses, asks for TLS on each and says no more; six
/// seconds after the last of them none is open. How many there were.
fn all_closed_in_time(gateway: &Gateway, hand: u8, count: usize) -> u64 {
    let open = |n: usize| {
        let host = u8::try_from(n % 200 + 1).unwrap();
        let network = u8::try_from(10 + n / 200).unwrap() + hand * 10;
        let mut client = bare(gateway, here(network, host)).connect().ok()?;
        // It may have had to give way already.
        let _ = client.send(&SSL_REQUEST);
        Some(client)
    };
    let opened: Vec<RawClient> = (0..count).filter_map(open).collect();
    std::thread::sleep(Duration::from_secs(6));
    for client in &opened {
        let mut socket = client.socket();
        socket.set_nonblocking(true).unwrap();
        let ended = loop {
            match socket.read(&mut [0; 16]) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        assert!(ended, "{:?} is still open", client.local_address());
    }
    opened.len() as u64
}

#[test]
#[ignore = "SOAK_SECONDS long: `make soak`"]
fn denials_as_fast_as_they_come_are_all_counted_and_fill_no_disk() {
    /// What is kept: 33 files of 64 MiB, and what may stand in each above that.
    const DISK: u64 = 34 * (65 << 20);
    /// So many fit in that: none is let go before it is counted here.
    const MOST: u32 = 4_000_000;
    let trap = Trap::new();
    let elsewhere = EndpointText::new("orders", NAME).allow("10.0.0.0/8", "public");
    let tenant = trap
        .acme(elsewhere)
        .limits("{new-connections-per-second: 5000}");
    let gateway = gateway(&tenant);
    let end = end();
    let next = AtomicU32::new(0);
    let many = || {
        let mut sent = 0_u64;
        while Instant::now() < end {
            // From one network after the other, so that no limit of a source is met.
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= MOST {
                break;
            }
            let [_, high, low, _] = (n << 8).to_be_bytes();
            let from: IpAddr = [127, 10 + (high & 0x7f), low, 1].into();
            if n.is_multiple_of(8) {
                let mut client = super::begun(&acme_dial(&gateway, from));
                assert_eq!(client.refusal().kind, b'E');
            } else {
                let mut client = bare(&gateway, from).connect().unwrap();
                client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                assert_ne!(client.read_to_end().1, Ending::Silent);
            }
            sent += 1;
        }
        sent
    };
    let sent: u64 = std::thread::scope(|scope| {
        let hands = [(); 4].map(|()| scope.spawn(many));
        hands.into_iter().map(|hand| hand.join().unwrap()).sum()
    });
    let page = || gateway.metrics("/metrics");
    wait::wait_for("all of them are counted", SOON, || {
        total(&page(), "portcullis_connections_total{") == sent
    });
    // What found no room in the queue is written down at the next second.
    std::thread::sleep(Duration::from_secs(3));
    let (denials, bytes) = written(&gateway);
    assert_eq!(denials, sent, "written down or counted");
    println!("{sent} denials, {bytes} bytes of events");
    assert!(bytes < DISK, "{bytes}");
    trap.assert_untouched();
}

/// The sum of a metric's lines.
fn total(page: &str, metric: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(metric));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// Denials that stand in the files or are counted there, and how long the files are. Read line by
/// line: there may be a lot.
fn written(gateway: &Gateway) -> (u64, u64) {
    let (mut denials, mut bytes) = (0, 0);
    let mut folders = vec![gateway.data_directory()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|it| it != "jsonl") {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            bytes += text.len() as u64;
            denials += text.lines().map(denials_of).sum::<u64>();
        }
    }
    (denials, bytes)
}

fn denials_of(line: &str) -> u64 {
    let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else {
        return 0;
    };
    match event["kind"].as_str() {
        Some("connection.denied" | "protocol.violation") => 1,
        // Those that found no room in the queue for events; no other limit is met here.
        Some("limit.shed") => event["total"].as_u64().unwrap(),
        _ => 0,
    }
}

/// Clients that sign in and ask one question, one after the other until `end` and at least fifty;
/// how long each took.
fn good_clients(dial: impl Fn(usize) -> Dial, end: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    while Instant::now() < end || waits.len() < 50 {
        let began = Instant::now();
        let mut client = dial(waits.len()).sign_in("app", "secret", "postgres");
        assert!(client.query("select 1").is_ok());
        waits.push(began.elapsed());
    }
    waits
}

fn assert_served(waits: &[Duration]) {
    let mut waits = waits.to_vec();
    waits.sort();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} good clients: median {median:?}, longest {longest:?}",
        waits.len()
    );
    assert!(median < Duration::from_secs(1), "{median:?}");
}

fn end() -> Instant {
    let seconds = std::env::var("SOAK_SECONDS").map_or(600, |text| text.parse().unwrap());
    Instant::now() + Duration::from_secs(seconds)
}

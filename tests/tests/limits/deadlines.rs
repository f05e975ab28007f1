//! How long each step before authentication may take. What is built in is tested in `bad_starts`
//! and `private_links`; here what node.toml makes shorter, and the deadline over all of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::client::SSL_REQUEST;
use portcullis_tests::{Dial, Ending, EndpointText, Gateway, Listener, TestAuthority, Version};

use super::scene::{
    Trap, acme, backends, certificate_mode, clients, event, here, orders, with_role,
};
use super::{asks_for_a_token, begun_as, limited, shed, started, trapped, waiting};

#[test]
fn each_deadline_is_as_short_as_node_toml_says() {
    let trap = Trap::new();
    let builder = limited(
        "proxy-header = 0.5, first-bytes = 2.5, client-hello = 2.6, tls = 2.7, startup = 2.8, authentication = 2.9",
    );
    let builder = builder
        .listener(Listener::public().balanced("127.0.9.1"))
        .tenant(&trap.acme(asks_for_a_token()));
    let gateway = started(builder, 1);
    let plain = Dial::plain(gateway.address()).limit(LONG);
    let tls = gateway.dial(super::NAME).limit(LONG);
    let begin = |bytes: &[u8], answered: usize| {
        let mut client = plain.connect().unwrap();
        client.send(bytes).unwrap();
        client.read_exactly(answered).unwrap();
        client
    };
    let header = proxy_v2(
        "203.0.113.7:1".parse().unwrap(),
        "203.0.113.1:2".parse().unwrap(),
        &[],
    );
    let half_a_header = Dial::plain(gateway.listener(1))
        .from(here(9, 1))
        .first(&header[..20])
        .limit(LONG);
    let cases = [
        (
            half_a_header.connect().unwrap(),
            "proxy_timeout",
            "proxy_header",
            "500ms",
        ),
        (begin(b"", 0), "first_bytes_timeout", "first_bytes", "2.5s"),
        (
            begin(&SSL_REQUEST, 1),
            "client_hello_timeout",
            "client_hello",
            "2.6s",
        ),
        (begin(HALF_A_HELLO, 0), "tls_timeout", "tls", "2.7s"),
        (tls.connect().unwrap(), "startup_timeout", "startup", "2.8s"),
        (
            waiting(&tls),
            "authentication_timeout",
            "authentication",
            "2.9s",
        ),
    ];
    std::thread::scope(|scope| {
        for (mut client, code, name, within) in cases {
            let gateway = &gateway;
            scope.spawn(move || {
                let from = client.local_address();
                assert_ne!(client.read_to_end().1, Ending::Silent, "{code}");
                let event = event(gateway, "protocol.violation", code, from);
                let story = event["story"].as_str().unwrap();
                assert!(story.ends_with(&format!("within {within}")), "{event}");
                assert_eq!(shed(gateway, name), 1, "{name}");
            });
        }
    });
    trap.assert_untouched();
}

/// The server has said all it has to say, has made its signature, and waits.
#[test]
fn whoever_hears_the_servers_flight_and_never_answers_is_closed_by_the_deadline_of_tls() {
    let trap = Trap::new();
    let people = TestAuthority::new("Acme clients");
    let certificates = certificate_mode(&people.pem(), &[("cn:app", "app")]);
    let shows = EndpointText::new("shows", "acme-shows.db.test");
    let shows = shows.allow("127.0.0.0/8", "public").cluster("orders");
    let tenant = trap.acme(asks_for_a_token());
    let tenant = tenant.endpoint(shows.authentication(&certificates));
    let gateway = started(limited("tls = 1.5").tenant(&tenant), 1);
    let cases = [(super::NAME, false), ("acme-shows.db.test", true)];
    let dials = cases.iter().flat_map(|(name, asks)| {
        let dial = gateway.dial(name).limit(LONG);
        let kinds = [dial.clone(), dial.clone().tls12_only(), dial.direct()];
        kinds.map(|dial| (dial, *asks))
    });
    let stalled: Vec<_> = dials
        .map(|(dial, asks)| {
            let (socket, asked) = dial.half_a_handshake().unwrap();
            assert_eq!(asked, asks, "a certificate");
            socket
        })
        .collect();
    for mut socket in stalled {
        let from = socket.local_addr().unwrap();
        let closed = socket.read_to_end(&mut Vec::new());
        assert_ne!(closed.map_err(Ending::from), Err(Ending::Silent));
        let event = event(&gateway, "protocol.violation", "tls_timeout", from);
        let story = event["story"].as_str().unwrap();
        assert!(story.ends_with("within 1.5s"), "{event}");
    }
    assert_eq!(shed(&gateway, "tls"), 6);
    trap.assert_untouched();
}

#[test]
fn at_the_admin_socket_a_header_has_ten_seconds_however_it_dribbles() {
    let (trap, gateway) = super::trapped("");
    let mut socket = UnixStream::connect(gateway.admin_socket()).unwrap();
    let began = Instant::now();
    socket.write_all(b"GET /v1/status HTTP/1.1\r\nX: ").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(250)))
        .unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    // A byte now and then, until it is closed.
    while socket.write_all(b"x").is_ok() && began.elapsed() < Duration::from_secs(30) {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => heard.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_millis(9_500), "{lasted:?}");
    assert!(lasted < Duration::from_secs(20), "{lasted:?}");
    let heard = String::from_utf8_lossy(&heard);
    assert!(
        heard.is_empty() || heard.starts_with("HTTP/1.1 408"),
        "{heard}"
    );
    assert_eq!(gateway.ask(&["status"])["revision"], 1);
    trap.assert_untouched();
}

/// A client that takes its time for every step, and sends a byte now and then.
#[test]
fn when_the_time_for_all_steps_is_over_it_is_over_whatever_dribbles_in() {
    // Authentication, which begins after four seconds, might take ten.
    let (trap, gateway) = trapped("pre-authentication = 12");
    let dial = gateway.dial(super::NAME).pause(Duration::from_secs(1));
    let accepted = Instant::now();
    let mut client = dial.connect().unwrap();
    std::thread::sleep(Duration::from_secs(4).saturating_sub(accepted.elapsed()));
    client
        .send(&portcullis_tests::client::startup(
            portcullis_tests::client::V3_0,
            &[("user", "app")],
        ))
        .unwrap();
    assert_eq!(client.read_message().unwrap().authentication(), Some(3));
    let from = client.local_address();
    // A password message of 1,000 bytes, one by one.
    let message = [&b"p\0\0\x03\xe8"[..], &[b'x'; 996]].concat();
    for byte in message {
        if client.send(&[byte]).is_err() || accepted.elapsed() > Duration::from_secs(30) {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let lasted = accepted.elapsed();
    assert!(lasted >= Duration::from_secs(11), "{lasted:?}");
    assert!(lasted < Duration::from_secs(22), "{lasted:?}");
    event(
        &gateway,
        "protocol.violation",
        "pre_authentication_timeout",
        from,
    );
    trap.assert_untouched();
}

#[test]
fn in_relay_the_deadline_over_all_holds_while_the_database_asks() {
    let server = with_role(Version::V15, "late");
    let tenant = acme(server, orders().authentication("relay"));
    let gateway = relaying(&tenant);
    let mut client = begun_as("late", &gateway.dial(super::NAME).limit(LONG));
    let from = client.local_address();
    assert_eq!(client.read_message().unwrap().authentication(), Some(10));
    assert_ne!(client.read_to_end().1, Ending::Silent);
    event(
        &gateway,
        "protocol.violation",
        "pre_authentication_timeout",
        from,
    );
    backends(server, "late", 0);
}

fn relaying(tenant: &portcullis_tests::TenantText) -> Gateway {
    let builder = limited("pre-authentication = 8").tenant(tenant);
    started(builder.signs_in_at("acme", clients()), 1)
}

/// A TLS record that announces a ClientHello, and nothing of it.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc";
const LONG: Duration = Duration::from_secs(20);

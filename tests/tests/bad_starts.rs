//! Every way to begin a connection that is not one: refused with an audit event, and the database
//! hears nothing of it.

mod scene;

use std::time::{Duration, Instant};

use portcullis_tests::client::{GSSENC_REQUEST, SSL_REQUEST, V3_0, startup, tagged};
use portcullis_tests::{Dial, Ending, Gateway, RawClient};
use scene::{NAME, SOON, Trap, asks_for_a_token, event, gateway};

/// Bytes that are no beginning, with nothing of TLS.
#[test]
fn bytes_that_begin_nothing_are_refused_with_the_code_that_names_them() {
    let (trap, gateway) = trapped();
    for (bytes, code) in first_bytes() {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&bytes).unwrap();
        let (messages, ending) = client.read_to_end();
        assert!(messages.is_empty(), "{code}: {messages:?}");
        assert_ne!(ending, Ending::Silent, "{code}: {bytes:?}");
        event(&gateway, "protocol.violation", code, from);
    }
    trap.assert_untouched();
    assert!(!gateway.log_text().contains("panicked"));
}

fn first_bytes() -> Vec<(Vec<u8>, &'static str)> {
    let packet = |length: u32, code: u32| [length.to_be_bytes(), code.to_be_bytes()].concat();
    let mut table: Vec<(Vec<u8>, &str)> = [0, 3, 4, 7, 8, 10_001, (1 << 31) - 1, 1 << 31]
        .map(|length| (packet(length, V3_0), "startup_length"))
        .into();
    // 0xff begins what could be SSL 2, whose third byte would be 1.
    table.push((packet(u32::MAX, V3_0), "startup_length"));
    table.push((packet(9, 80_877_103), "startup_length"));
    table.push((packet(9, 80_877_104), "startup_length"));
    table.push((packet(8, 80_877_105), "unknown_request"));
    table.push((packet(8, 1234 << 16), "unknown_request"));
    table.push((packet(8, 80_877_102), "cancel_length"));
    table.push((packet(12, 80_877_102), "cancel_length"));
    table.push((packet(15, 80_877_102), "cancel_length"));
    table.push((packet(269, 80_877_102), "cancel_length"));
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "POST /v1/apply HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        table.push((text.as_bytes().to_vec(), "http_request"));
    }
    let v1 = "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    table.push((v1.as_bytes().to_vec(), "proxy_unexpected"));
    table.push((
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
        "proxy_unexpected",
    ));
    table.push((vec![0x15, 3, 1, 0, 2, 2, 40, 0], "tls_record"));
    table.push((vec![0x17, 3, 3, 0, 2, 1, 1, 1], "tls_record"));
    table.push((vec![0x80, 0x2e, 1, 3, 1, 0, 5, 0], "tls_record"));
    table.push((b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "startup_length"));
    // A handshake record that is no ClientHello inside.
    table.push((vec![0x16, 3, 1, 0, 5, 1, 0xff, 0xff, 0xff, 0xff], "tls"));
    table.push(([&SSL_REQUEST[..], &[0; 8]].concat(), "pretls_data"));
    table.push(([&GSSENC_REQUEST[..], &SSL_REQUEST].concat(), "pretls_data"));
    let injected = startup(V3_0, &[("user", "app")]);
    table.push(([&SSL_REQUEST[..], &injected].concat(), "pretls_data"));
    table
}

#[test]
fn a_client_hello_that_does_not_end_is_refused_at_its_limit() {
    let (trap, gateway) = trapped();
    // One record of exactly the limit, and in it the beginning of a message of 64 KiB.
    let record = [22, 3, 1, 0x3f, 0xfb, 1, 0, 0xff, 0xff];
    let hello = [&record[..], &[0; 16 * 1024 - 9]].concat();
    for asks_first in [true, false] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        if asks_first {
            client.send(&SSL_REQUEST).unwrap();
            assert_eq!(client.read_exactly(1).unwrap(), b"S");
        }
        client.send(&hello).unwrap();
        let decode_error = [21, 3, 3, 0, 2, 2, 50];
        assert_eq!(client.read_exactly(7).unwrap(), decode_error);
        assert_ne!(client.read_to_end().1, Ending::Silent);
        let event = event(&gateway, "protocol.violation", "tls", from);
        let story = event["story"].as_str().unwrap();
        assert!(story.contains("more than 16384 bytes"), "{story}");
    }
    trap.assert_untouched();
}

#[test]
fn a_start_up_packet_without_tls_is_told_to_use_it_and_nobody_is_asked_for_a_password() {
    let (trap, gateway) = trapped();
    let plain = Dial::plain(gateway.address());
    let mut client = plain.start(&[("user", "app")]).unwrap();
    let from = client.local_address();
    let told = client.refusal();
    assert_eq!(told.sqlstate(), "28000");
    assert!(told.text().contains("sslmode"), "{told:?}");
    event(&gateway, "protocol.violation", "plaintext", from);
    // Said no by GSSENCRequest, a client that goes on in clear hears the same.
    let mut client = plain.connect().unwrap();
    client.send(&GSSENC_REQUEST).unwrap();
    assert_eq!(client.read_exactly(1).unwrap(), b"N");
    client.send(&startup(V3_0, &[("user", "app")])).unwrap();
    assert_eq!(client.refusal().sqlstate(), "28000");
    let psql = gateway
        .psql(NAME)
        .user("app", "secret", "postgres")
        .parameter("sslmode", "disable");
    assert!(
        psql.run("select 1")
            .refused()
            .contains("encrypted connections only")
    );
    trap.assert_untouched();
}

#[test]
fn a_start_up_packet_that_is_wrong_inside_tls_is_refused_in_words() {
    let (trap, gateway) = trapped();
    for (packet, code, sqlstate) in startup_packets() {
        let mut client = gateway.dial(NAME).connect().unwrap();
        let from = client.local_address();
        client.send(&packet).unwrap();
        let told = client.refusal();
        assert_eq!(told.sqlstate(), sqlstate, "{code}: {told:?}");
        event(&gateway, "protocol.violation", code, from);
    }
    trap.assert_untouched();
}

fn startup_packets() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let long = "x".repeat(64);
    let longer = "x".repeat(1025);
    let many: Vec<(String, String)> = (0..70).map(|n| (format!("k{n}"), String::new())).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    many.push(("user", "app"));
    let raw = |body: &[u8]| {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &V3_0.to_be_bytes(), body].concat()
    };
    let of = |parameters: &[(&str, &str)]| startup(V3_0, parameters);
    vec![
        (
            of(&[("user", "app"), ("user", "root")]),
            "duplicate_parameter",
            "08P01",
        ),
        (
            of(&[("user", "app"), ("database", "a"), ("database", "b")]),
            "duplicate_parameter",
            "08P01",
        ),
        (
            of(&[
                ("user", "app"),
                ("options", "-c a=1"),
                ("options", "-c a=2"),
            ]),
            "duplicate_parameter",
            "08P01",
        ),
        (of(&[("User", "app")]), "parameter_spelling", "08P01"),
        (of(&[]), "missing_user", "28000"),
        (of(&[("database", "postgres")]), "missing_user", "28000"),
        (
            of(&[("user", ""), ("database", "postgres")]),
            "missing_user",
            "28000",
        ),
        (of(&[("user", &long)]), "name_form", "28000"),
        (
            of(&[("user", "app"), ("database", &long)]),
            "name_form",
            "28000",
        ),
        (
            of(&[("user", "app"), (&long, "x")]),
            "parameter_name",
            "08P01",
        ),
        (
            of(&[("user", "app"), ("options", &longer)]),
            "parameter_value",
            "08P01",
        ),
        (
            of(&[("user", "app"), ("replication", "maybe")]),
            "replication_value",
            "22023",
        ),
        (of(&many), "too_many_parameters", "08P01"),
        (raw(b"user\0app\0"), "startup_layout", "08P01"),
        (raw(b"user\0app"), "startup_layout", "08P01"),
        (raw(b"user\0app\0database\0"), "startup_layout", "08P01"),
        (
            raw(b"user\0app\0\0hidden\0x\0\0"),
            "startup_layout",
            "08P01",
        ),
        (raw(b"user\0\xff\xfe\0\0"), "parameter_encoding", "08P01"),
        (
            startup(0x0002_0000, &[("user", "app")]),
            "unsupported_version",
            "0A000",
        ),
        (
            startup(0x0004_0000, &[("user", "app")]),
            "unsupported_version",
            "0A000",
        ),
    ]
}

#[test]
fn bytes_inside_tls_that_are_no_start_up_packet_end_the_connection() {
    let (trap, gateway) = trapped();
    let keys: Vec<(String, String)> = (0..5_000)
        .map(|n| (format!("k{n}"), String::new()))
        .collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for (bytes, code) in [
        (startup(V3_0, &keys), "startup_length"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "http_request"),
        (tagged(b'Q', b"select 1\0"), "startup_length"),
        (vec![0, 0, 0x27, 0x11, 0, 3, 0, 0], "startup_length"),
        (
            b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n".to_vec(),
            "proxy_unexpected",
        ),
        (vec![0x16, 3, 1, 0, 0xf4, 1, 0, 0], "tls_in_tls"),
        (
            [&SSL_REQUEST[..], &SSL_REQUEST, &SSL_REQUEST, &SSL_REQUEST].concat(),
            "negotiation_loop",
        ),
    ] {
        let mut client = gateway.dial(NAME).connect().unwrap();
        let from = client.local_address();
        client.send(&bytes).unwrap();
        assert_ne!(ended(&mut client), Ending::Silent, "{code}");
        event(&gateway, "protocol.violation", code, from);
    }
    trap.assert_untouched();
}

#[test]
fn a_client_that_leaves_at_any_point_leaves_nothing_behind() {
    let (trap, gateway) = trapped();
    for bytes in [
        &b""[..],
        b"\0",
        b"\0\0\0\x08\x04\xd2",
        &SSL_REQUEST,
        &startup(V3_0, &[("user", "a")])[..12],
    ] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        client.send(bytes).unwrap();
        drop(client);
        let mut inside = gateway.dial(NAME).connect().unwrap();
        inside.send(bytes).unwrap();
        drop(inside);
    }
    let connections = || {
        gateway.ask(&["connections"])["connections"]
            .as_array()
            .unwrap()
            .len()
    };
    portcullis_tests::wait::wait_for("no connection is left", SOON, || connections() == 0);
    trap.assert_untouched();
    assert!(!gateway.log_text().contains("panicked"));
}

/// One test, because it waits: what says nothing is closed when its time is over, whatever drips
/// in meanwhile.
#[test]
fn silence_is_ended_by_the_deadline_of_the_step_it_falls_in() {
    let (trap, gateway) = trapped();
    let plain = Dial::plain(gateway.address()).limit(Duration::from_secs(20));
    let tls = gateway.dial(NAME).limit(Duration::from_secs(20));
    let begun = |bytes: &'static [u8], answered: usize| {
        let mut client = plain.connect().unwrap();
        client.send(bytes).unwrap();
        client.read_exactly(answered).unwrap();
        client
    };
    let token = {
        let mut client = tls.start(&[("user", "app")]).unwrap();
        assert_eq!(client.read_message().unwrap().authentication(), Some(3));
        client
    };
    let cases = [
        (begun(b"", 0), "first_bytes_timeout", 3),
        (begun(b"\0\0\0\x08", 0), "first_bytes_timeout", 3),
        (begun(&GSSENC_REQUEST, 1), "first_bytes_timeout", 3),
        (begun(&SSL_REQUEST, 1), "client_hello_timeout", 3),
        (
            begun(b"\x16\x03\x01\x02\0\x01\0\x01\xfc", 0),
            "tls_timeout",
            5,
        ),
        (tls.connect().unwrap(), "startup_timeout", 5),
        (token, "authentication_timeout", 10),
    ];
    std::thread::scope(|scope| {
        for (mut client, code, seconds) in cases {
            let gateway = &gateway;
            scope.spawn(move || {
                let (began, from) = (Instant::now(), client.local_address());
                assert_ne!(ended(&mut client), Ending::Silent, "{code}");
                let lasted = began.elapsed();
                assert!(
                    lasted <= Duration::from_secs(seconds + 2),
                    "{code} after {lasted:?}"
                );
                event(gateway, "protocol.violation", code, from);
            });
        }
        scope.spawn(|| drips(&plain, &gateway));
    });
    trap.assert_untouched();
}

/// A byte now and then does not buy time.
fn drips(plain: &Dial, gateway: &Gateway) {
    let mut client = plain.connect().unwrap();
    let (began, from) = (Instant::now(), client.local_address());
    for byte in startup(V3_0, &[("user", "app")]) {
        std::thread::sleep(Duration::from_millis(600));
        if client.send(&[byte]).is_err() || began.elapsed() > Duration::from_secs(8) {
            break;
        }
    }
    let lasted = began.elapsed();
    assert!(lasted < Duration::from_secs(6), "closed after {lasted:?}");
    event(gateway, "protocol.violation", "first_bytes_timeout", from);
}

/// A gateway before a database that nobody must reach. Clients of its endpoint are asked for a
/// token: the one proof for which the gateway asks nobody.
fn trapped() -> (Trap, Gateway) {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(asks_for_a_token()));
    (trap, gateway)
}

fn ended(client: &mut RawClient) -> Ending {
    client.read_to_end().1
}

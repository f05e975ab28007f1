//! Attacks on TLS towards clients: names that are read in two ways, certificates that are not what
//! they seem, handshakes that hide something. What cannot be made with a TLS library of today is
//! made with OpenSSL's.

mod scene;

use std::sync::Arc;

use portcullis_certs::{ServerNameIndication, probe_client_config};
use portcullis_tests::client::{SSL_REQUEST, V3_0, startup, tagged};
use portcullis_tests::{Dial, EndpointText, OpenSsl, RawClient, wait};
use rustls::ClientConnection;
use scene::{NAME, SOON, Trap, event, gateway, orders, start_and_end};

#[test]
fn a_server_name_is_one_name_in_all_its_spellings_or_none() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed_elsewhere()));
    // Denied by its own rules, and so found; or a name that nobody has.
    for (name, code) in [
        (NAME, "address_not_listed"),
        ("ACME-ORDERS.DB.TEST", "address_not_listed"),
        ("Acme-Orders.db.test", "address_not_listed"),
        // The root's own dot says nothing.
        ("acme-orders.db.test.", "address_not_listed"),
        (".acme-orders.db.test", "unknown_endpoint"),
        ("acme-orders..db.test", "unknown_endpoint"),
        ("*.db.test", "unknown_endpoint"),
        ("acme-orders.db.test:5433", "unknown_endpoint"),
        (" acme-orders.db.test", "unknown_endpoint"),
        ("acme-orders.db.test\t", "unknown_endpoint"),
        ("acme_orders.db.test", "unknown_endpoint"),
        ("\u{430}cme-orders.db.test", "unknown_endpoint"),
        ("xn--cme-orders-7fd.db.test", "unknown_endpoint"),
        ("127.0.0.1", "unknown_endpoint"),
        ("::1", "unknown_endpoint"),
        ("[::1]", "unknown_endpoint"),
        ("2130706433", "unknown_endpoint"),
        (&format!("{}.db.test", "a".repeat(64)), "unknown_endpoint"),
        (&format!("{}.db.test", "a.".repeat(120)), "unknown_endpoint"),
        ("acme-orders", "unknown_endpoint"),
        ("orders.acme-orders.db.test", "unknown_endpoint"),
    ] {
        let told = OpenSsl::new(&gateway, &["-servername", name]).send(&start_and_end("batch"));
        let found = told.found(&gateway);
        assert!(
            found == [("connection.denied".to_owned(), code.to_owned())]
                || (code == "unknown_endpoint" && found == [violation("tls")]),
            "{name:?}: {found:?}, {}",
            told.heard
        );
        assert!(!told.heard.contains("SCRAM"), "{name:?}");
    }
    trap.assert_untouched();
}

#[test]
fn a_server_name_that_is_malformed_in_the_hello_itself_ends_the_handshake() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let list = |names: &[(u8, &[u8])]| {
        let names: Vec<u8> = names
            .iter()
            .flat_map(|(kind, name)| [&[*kind], of_two_bytes(name).as_slice()].concat())
            .collect();
        of_two_bytes(&names)
    };
    let good = (0, NAME.as_bytes());
    let long = [b'a'; 256];
    for (what, extension, fault) in [
        (
            "no name in the list",
            list(&[]),
            "IllegalEmptyList(\"ServerNames\")",
        ),
        ("an empty name", list(&[(0, b"")]), "IllegalEmptyValue"),
        (
            "a NUL within",
            list(&[(0, b"acme-orders.db.test\0.evil.test")]),
            "ServerNameMustContainOneHostName",
        ),
        (
            "two names",
            list(&[good, (0, b"globex.db.test")]),
            "InvalidServerName",
        ),
        (
            "a name of 256 bytes without a dot",
            list(&[(0, &long)]),
            "ServerNameMustContainOneHostName",
        ),
        (
            "not UTF-8",
            list(&[(0, b"acme\xff.db.test")]),
            "ServerNameMustContainOneHostName",
        ),
        (
            "a list longer than the extension",
            vec![0xff, 0xff, 0, 0, 1, b'a'],
            "MessageTooShort",
        ),
        ("nothing", vec![], "MissingData"),
    ] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&hello(&extension)).unwrap();
        let answer = answer(&mut client);
        assert!(answer.is_empty() || answer[0] == 0x15, "{what}: {answer:?}");
        let event = event(&gateway, "protocol.violation", "tls", from);
        let story = event["story"].as_str().unwrap();
        assert!(story.contains(fault), "{what}: {story}");
    }
    // Nothing else was wrong with them.
    let mut client = Dial::plain(gateway.address()).connect().unwrap();
    client.send(&hello(&list(&[good]))).unwrap();
    assert_eq!(client.read_exactly(1).unwrap(), [0x16], "its answer");
    trap.assert_untouched();
    assert!(!gateway.log_text().contains("panicked"));
}

#[test]
fn a_session_is_not_negotiated_anew_in_its_middle() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    // A line that begins with R makes OpenSSL ask for it.
    let arguments = ["-servername", NAME, "-tls1_2", "-legacy_renegotiation"];
    let told = OpenSsl::loud(&gateway, &arguments).send(b"R\n");
    // It asks, nobody agrees, and it has no place any longer than one that says nothing.
    assert!(told.heard.contains("RENEGOTIATING"), "{}", told.heard);
    assert_eq!(
        told.heard.matches("verify return").count(),
        3,
        "{}",
        told.heard
    );
    let kinds: Vec<String> = told.found(&gateway).into_iter().map(|it| it.0).collect();
    assert_eq!(kinds, ["protocol.violation"]);
    trap.assert_untouched();
}

#[test]
fn data_in_clear_behind_the_client_hello_is_never_read() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let configuration =
        probe_client_config(&gateway.authorities_pem(), &[], ServerNameIndication::Sent).unwrap();
    let query = tagged(b'Q', b"select 1\0");
    let data = [&start_up()[..], &query].concat();
    // As application data, as a second handshake message, and as what could be early data.
    for (what, record) in [("data", 0x17), ("handshake", 0x16), ("heartbeat", 0x18)] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&SSL_REQUEST).unwrap();
        assert_eq!(client.read_exactly(1).unwrap(), b"S");
        let name = NAME.to_owned().try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&configuration), name).unwrap();
        let mut flight = Vec::new();
        tls.write_tls(&mut flight).unwrap();
        flight.extend([record, 3, 3]);
        flight.extend(of_two_bytes(&data));
        client.send(&flight).unwrap();
        // Its own part; then something that makes it look at what it has.
        assert_eq!(client.read_exactly(1).unwrap(), [0x16], "{what}");
        let _ = client.send(&[0x14, 3, 3, 0, 1, 1]);
        let answer = answer(&mut client);
        assert!(!answer.windows(5).any(|five| five == b"FATAL"), "{what}");
        let event = gateway.event(what, |event| event["port"] == from.port());
        assert_eq!(
            (&event["kind"], &event["code"]),
            (&"protocol.violation".into(), &"tls".into()),
            "{what}: {event}"
        );
    }
    trap.assert_untouched();
}

#[test]
fn a_client_hello_in_single_bytes_is_read_and_one_of_empty_records_is_not() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed_elsewhere()));
    let mut slow = Dial::plain(gateway.address()).connect().unwrap();
    for byte in hello(&of_two_bytes(
        &[&[0][..], &of_two_bytes(NAME.as_bytes())].concat(),
    )) {
        slow.send(&[byte]).unwrap();
    }
    assert_eq!(slow.read_exactly(1).unwrap(), [0x16], "its answer");
    let mut empty = Dial::plain(gateway.address()).connect().unwrap();
    let from = empty.local_address();
    // TLS allows no handshake record without content (RFC 8446 section 5.1).
    let _ = empty.send(
        &[
            &[0x16, 3, 1, 0, 0, 0x16, 3, 1][..],
            &[0, 0, 0x16, 3, 1].repeat(4_000),
        ]
        .concat(),
    );
    let answer = answer(&mut empty);
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    wait::wait_for("its event", SOON, || {
        gateway
            .events()
            .iter()
            .any(|event| event["port"] == from.port())
    });
    trap.assert_untouched();
}

fn listed_elsewhere() -> EndpointText {
    EndpointText::new("orders", NAME).allow("127.0.9.9", "public")
}

fn start_up() -> Vec<u8> {
    startup(V3_0, &[("user", "batch"), ("database", "postgres")])
}

fn violation(code: &str) -> (String, String) {
    ("protocol.violation".to_owned(), code.to_owned())
}

/// What is answered until the end, as bytes.
fn answer(client: &mut RawClient) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(byte) = client.read_exactly(1) {
        all.extend(byte);
    }
    all
}

/// A ClientHello of TLS 1.2 with this server_name extension; nothing else in it is wrong.
fn hello(server_name: &[u8]) -> Vec<u8> {
    let mut extensions = [&[0, 0][..], &of_two_bytes(server_name)].concat();
    extensions.extend(
        *b"\0\x0a\0\x06\0\x04\0\x17\0\x1d\0\x0b\0\x02\x01\0\0\x0d\0\x06\0\x04\x04\x03\x04\x01",
    );
    extensions.extend(*b"\0\x10\0\x0d\0\x0b\x0apostgresql\0\x17\0\0\xff\x01\0\x01\0");
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(*b"\0\0\x04\xc0\x2b\xc0\x2f\x01\0");
    body.extend(of_two_bytes(&extensions));
    let handshake = [&[1, 0][..], &of_two_bytes(&body)].concat();
    [&[0x16, 3, 1][..], &of_two_bytes(&handshake)].concat()
}

fn of_two_bytes(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

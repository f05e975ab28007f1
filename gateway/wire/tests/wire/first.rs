use portcullis_wire::first::{FirstBytes, nothing_before_tls};
use portcullis_wire::negotiate::ProtocolVersion;
use portcullis_wire::startup::StartupMessage;
use portcullis_wire::{Complaint, Step};

use crate::packets::{eight, startup_packet};

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;
const V3_0: u32 = 196_608;

fn check(bytes: &[u8], expected: &str) {
    match FirstBytes::read(bytes) {
        Err(complaint) => assert_eq!(complaint.reason(), expected, "{complaint}"),
        Ok(step) => panic!("{:?} gave {step:?}", bytes.escape_ascii().to_string()),
    }
}

fn accepted(bytes: &[u8]) -> (FirstBytes, usize) {
    match FirstBytes::read(bytes) {
        Ok(Step::Done(first, consumed)) => (first, consumed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_told_by_their_codes() {
    assert_eq!(
        accepted(b"\x00\x00\x00\x08\x04\xD2\x16\x2F"),
        (FirstBytes::SslRequest, 8)
    );
    assert_eq!(
        accepted(b"\x00\x00\x00\x08\x04\xD2\x16\x30"),
        (FirstBytes::GssEncRequest, 8)
    );
    assert_eq!(
        accepted(b"\x00\x00\x00\x10\x04\xD2\x16\x2E"),
        (FirstBytes::CancelRequest { len: 8 }, 8)
    );
    let version = ProtocolVersion::from_u32(206_607);
    assert_eq!(
        accepted(&eight(20, 206_607)),
        (FirstBytes::Startup { len: 12, version }, 8)
    );
}

#[test]
fn nothing_is_decided_before_eight_bytes() {
    for opening in [
        &b"GET / HT"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        &eight(8, SSL),
    ] {
        for length in 0..8 {
            assert_eq!(
                FirstBytes::read(&opening[..length]),
                Ok(Step::Need(8 - length))
            );
        }
    }
}

#[test]
fn bytes_behind_the_first_eight_change_nothing() {
    let pipelined = [
        eight(8, SSL),
        b"\x00\x00\x00\x09\x00\x03\x00\x00\x00".to_vec(),
    ]
    .concat();
    assert_eq!(accepted(&pipelined), (FirstBytes::SslRequest, 8));
}

#[test]
fn a_client_hello_is_direct_tls_and_stays_with_the_tls_engine() {
    for hello in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x16\x03\x03\x00\xF4\x01\x00\x00",
        b"\x16\x03\x01\x00\x01\x01\x16\x03",
    ] {
        assert_eq!(accepted(hello), (FirstBytes::DirectTls, 0));
    }
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_allocated() {
    for length in [0, 3, 4, 7, 8, 10_001, 1 << 31, u32::MAX >> 1, u32::MAX] {
        check(&eight(length, V3_0), "startup_length");
    }
    for length in [0, 7, 9, 10_000] {
        check(&eight(length, SSL), "startup_length");
        check(&eight(length, GSSENC), "startup_length");
    }
}

#[test]
fn the_shortest_and_the_longest_startup_packet_pass() {
    for (length, len) in [(9, 1), (10_000, 9992)] {
        let version = ProtocolVersion::V3_0;
        assert_eq!(
            accepted(&eight(length, V3_0)).0,
            FirstBytes::Startup { len, version }
        );
    }
}

#[test]
fn a_cancel_request_has_room_for_a_key_of_4_to_256_bytes() {
    for length in [8, 11, 12, 15, 12 + 257, 10_000] {
        check(&eight(length, CANCEL), "cancel_length");
    }
    for (length, len) in [(16, 8), (12 + 256, 260)] {
        assert_eq!(
            accepted(&eight(length, CANCEL)).0,
            FirstBytes::CancelRequest { len }
        );
    }
}

#[test]
fn strangers_are_told_apart() {
    for http in [
        "GET / HTTP/1.1",
        "HEAD / HT",
        "POST /a H",
        "OPTIONS *",
        "CONNECT a",
        "PRI * HTTP/2.0",
    ] {
        check(http.as_bytes(), "http_request");
    }
    check(b"PROXY TCP4 127.0.1.7 1.1.1.1 1 2\r\n", "proxy_unexpected");
    check(b"PROXY UNKNOWN", "proxy_unexpected");
    check(b"\r\n\r\n\0\r\nQUIT\n", "proxy_unexpected");
    check(b"\x15\x03\x01\x00\x02\x02\x28\x00", "tls_record");
    check(b"\x17\x03\x03\x00\x20abc", "tls_record");
    check(b"\x16\x03\x01\x00\x00\x01\x00\x00", "tls_record");
    check(b"\x16\x03\x01\x00\x40\x02\x00\x00", "tls_record");
    check(b"\x80\x2E\x01\x00\x02\x00\x15\x00", "tls_record");
    check(b"SSH-2.0-OpenSSH", "startup_length");
    check(&[0xFF; 8], "startup_length");
}

#[test]
fn the_length_told_is_that_of_the_body() {
    let packet = startup_packet(V3_0, &[("user", "app"), ("database", "orders")]);
    let (first, consumed) = accepted(&packet);
    let FirstBytes::Startup { len, version } = first else {
        panic!("{first:?}");
    };
    assert_eq!(consumed + len, packet.len());
    let startup = StartupMessage::decode(&packet[consumed..], version).unwrap();
    assert_eq!(
        (startup.user.as_str(), startup.database.as_str()),
        ("app", "orders")
    );
}

#[test]
fn an_unknown_request_code_is_no_version() {
    for code in [80_877_101, 80_877_105, 1234 << 16] {
        check(&eight(9, code), "unknown_request");
    }
}

#[test]
fn bytes_between_the_ssl_request_and_the_client_hello_are_refused() {
    assert_eq!(nothing_before_tls(b""), Ok(()));
    let complaint = nothing_before_tls(b"\0\0\0\x09").unwrap_err();
    assert_eq!(complaint, Complaint::BytesBeforeTls { count: 4 });
    assert_eq!(complaint.reason(), "pretls_data");
    assert_eq!(complaint.sqlstate().as_str(), "08P01");
}

//! Every valid unit, cut at every length: it is incomplete or wrong, never accepted and never a panic.

use portcullis_wire::cancel::CancelRequest;
use portcullis_wire::error::{ErrorResponse, SqlState};
use portcullis_wire::first::FirstBytes;
use portcullis_wire::limits::MAX_SASL_MESSAGE;
use portcullis_wire::message::{
    Backend, SaslInitialResponse, TransactionStatus, authentication_ok, authentication_sasl,
    backend_key_data, parameter_status, password_message, read_password, ready_for_query,
    sasl_continue, sasl_initial_response,
};
use portcullis_wire::negotiate::ProtocolVersion;
use portcullis_wire::proxy_protocol::{self, CloudTlv};
use portcullis_wire::startup::StartupMessage;
use portcullis_wire::{Complaint, Step};

use crate::packets::{
    TCP4, eight, message, proxy_header, startup_body, tlv, with_crc, with_crc_first,
};

/// For codecs of a stream: every shorter slice needs more, and never more than there is to come.
fn needs_all<T: std::fmt::Debug>(
    name: &str,
    unit: &[u8],
    read: impl Fn(&[u8]) -> Result<Step<T>, Complaint>,
) {
    for length in 0..unit.len() {
        match read(&unit[..length]) {
            Ok(Step::Need(more)) => assert!(
                (1..=unit.len() - length).contains(&more),
                "{name} at {length}"
            ),
            other => panic!("{name} cut at {length} gave {other:?}"),
        }
    }
    assert!(
        matches!(read(unit), Ok(Step::Done(_, _))),
        "{name} is valid"
    );
}

/// For codecs of a body whose length is known: every shorter one is wrong.
fn refuses_parts<T: std::fmt::Debug>(
    name: &str,
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Complaint>,
) {
    for length in 0..body.len() {
        if let Ok(accepted) = decode(&body[..length]) {
            panic!("{name} cut at {length} gave {accepted:?}");
        }
    }
    assert!(decode(body).is_ok(), "{name} is valid");
}

#[test]
fn first_bytes() {
    for unit in [
        eight(8, 80_877_103),
        eight(8, 80_877_104),
        eight(16, 80_877_102),
        eight(20, 196_608),
    ] {
        needs_all("first bytes", &unit, FirstBytes::read);
    }
    needs_all(
        "client hello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        FirstBytes::read,
    );
}

#[test]
fn startup_bodies() {
    let body = startup_body(&[
        ("user", "app"),
        ("database", "orders"),
        ("options", ""),
        ("_pq_.x", ""),
        ("application_name", "psql"),
    ]);
    refuses_parts("startup", &body, |body| {
        StartupMessage::decode(body, ProtocolVersion::V3_0)
    });
}

#[test]
fn proxy_headers() {
    let read = |bytes: &[u8]| proxy_protocol::read(bytes, Some(CloudTlv::Aws));
    needs_all("local", &proxy_header(0x20, 0, b"abc"), read);
    needs_all(
        "client",
        &with_crc(&[tlv(0xEA, b"\x01vpce-1"), tlv(4, b"")]),
        read,
    );
    // A block that is cut behind the addresses, with a length that says so.
    let block = &with_crc_first(&[tlv(0xEA, b"\x01vpce-1"), tlv(4, b"")])[16..];
    let (addresses, tlvs) = block.split_at(TCP4.len());
    for length in 1..tlvs.len() {
        let cut = [addresses, &tlvs[..length]].concat();
        assert!(
            read(&proxy_header(0x21, 0x11, &cut)).is_err(),
            "cut at {length}"
        );
    }
}

#[test]
fn messages_of_a_server() {
    for unit in [
        authentication_ok(),
        authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]),
        sasl_continue(b"r=x,s=y,i=4096"),
        message(b'R', b"\0\0\0\x05salt"),
        parameter_status("server_version", "15.18").unwrap(),
        backend_key_data(1, &[7; 32]).unwrap(),
        ready_for_query(TransactionStatus::Idle),
        message(b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
        ErrorResponse::fatal(SqlState::PROTOCOL_VIOLATION, "no").encode(),
    ] {
        needs_all("message", &unit, Backend::read);
    }
}

#[test]
fn bodies_of_a_server() {
    for (kind, body) in [
        (b'R', &b"\0\0\0\0"[..]),
        (b'R', b"\0\0\0\x05salt"),
        (b'R', b"\0\0\0\x0ASCRAM-SHA-256\0\0"),
        (b'S', b"server_version\x0015.18\0"),
        (b'K', b"\0\0\0\x01abcd"),
        (b'Z', b"I"),
        (b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
    ] {
        refuses_parts("body", body, |body| Backend::decode(kind, body));
    }
}

#[test]
fn messages_of_a_client() {
    let read = |bytes: &[u8]| {
        password_message(bytes, MAX_SASL_MESSAGE).map(|step| step.map(<[u8]>::to_vec))
    };
    needs_all("password", &message(b'p', b"secret\0"), read);
    let initial = sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x");
    needs_all("sasl", &initial, read);
    refuses_parts("sasl body", &initial[5..], SaslInitialResponse::decode);
    refuses_parts("password body", b"secret\0", read_password);
    refuses_parts("cancel", &[7; 8], CancelRequest::decode);
}

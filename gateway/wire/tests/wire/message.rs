use portcullis_wire::limits::{MAX_BACKEND_STARTUP_MESSAGE, MAX_SASL_MESSAGE, MAX_TOKEN_MESSAGE};
use portcullis_wire::message::{
    Backend, Header, SaslInitialResponse, TransactionStatus, authentication_cleartext,
    authentication_ok, authentication_sasl, backend_key_data, parameter_status, password,
    password_message, read_password, ready_for_query, sasl_continue, sasl_final,
    sasl_initial_response, sasl_response, terminate,
};
use portcullis_wire::negotiate::ProtocolVersion;
use portcullis_wire::{Complaint, Step};
use proptest::prelude::*;

use crate::packets;

fn read(bytes: &[u8]) -> Backend {
    match Backend::read(bytes) {
        Ok(Step::Done(message, consumed)) if consumed == bytes.len() => message,
        other => panic!("{other:?}"),
    }
}

fn check(kind: u8, body: &[u8], expected: &str) {
    let complaint = Backend::decode(kind, body).unwrap_err();
    assert_eq!(complaint.reason(), expected, "{complaint}");
}

#[test]
fn what_we_write_is_what_the_protocol_says() {
    for (written, expected) in [
        (authentication_ok(), &b"R\0\0\0\x08\0\0\0\0"[..]),
        (authentication_cleartext(), b"R\0\0\0\x08\0\0\0\x03"),
        (
            authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]),
            b"R\0\0\0\x2A\0\0\0\x0ASCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
        ),
        (sasl_continue(b"r=1"), b"R\0\0\0\x0B\0\0\0\x0Br=1"),
        (sasl_final(b"v=1"), b"R\0\0\0\x0B\0\0\0\x0Cv=1"),
        (parameter_status("a", "b").unwrap(), b"S\0\0\0\x08a\0b\0"),
        (
            backend_key_data(258, b"abcd").unwrap(),
            b"K\0\0\0\x0C\0\0\x01\x02abcd",
        ),
        (ready_for_query(TransactionStatus::Idle), b"Z\0\0\0\x05I"),
        (password("pw").unwrap().to_vec(), b"p\0\0\0\x07pw\0"),
        (
            sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x"),
            b"p\0\0\0\x1F\x53CRAM-SHA-256\0\0\0\0\x09n,,n=,r=x",
        ),
        (sasl_response(b"c=biws"), b"p\0\0\0\x0Ac=biws"),
        (terminate(), b"X\0\0\0\x04"),
    ] {
        assert_eq!(
            written.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}

#[test]
fn what_a_server_writes_is_read_back() {
    assert_eq!(read(&authentication_ok()), Backend::AuthenticationOk);
    assert_eq!(read(&authentication_cleartext()), Backend::Cleartext);
    assert_eq!(
        read(b"R\0\0\0\x0C\0\0\0\x05salt"),
        Backend::Md5 { salt: *b"salt" }
    );
    assert_eq!(
        read(&authentication_sasl(&[
            "SCRAM-SHA-256-PLUS",
            "SCRAM-SHA-256"
        ])),
        Backend::Sasl(vec![
            "SCRAM-SHA-256-PLUS".to_owned(),
            "SCRAM-SHA-256".to_owned()
        ])
    );
    assert_eq!(
        read(&sasl_continue(b"x")),
        Backend::SaslContinue(b"x".to_vec())
    );
    assert_eq!(read(&sasl_final(b"y")), Backend::SaslFinal(b"y".to_vec()));
    assert_eq!(
        read(b"R\0\0\0\x0C\0\0\0\x08more"),
        Backend::OtherAuthentication(8)
    );
    assert_eq!(
        read(&parameter_status("application_name", [0xE9]).unwrap()),
        Backend::ParameterStatus("application_name".to_owned(), vec![0xE9])
    );
    let key = backend_key_data(9, &[7; 256]).unwrap();
    assert_eq!(
        read(&key),
        Backend::BackendKeyData {
            pid: 9,
            secret: vec![7; 256]
        }
    );
    for status in [
        TransactionStatus::Idle,
        TransactionStatus::InTransaction,
        TransactionStatus::Failed,
    ] {
        assert_eq!(
            read(&ready_for_query(status)),
            Backend::ReadyForQuery(status)
        );
    }
    assert_eq!(read(b"G\0\0\0\x04"), Backend::Other(b'G'));
}

#[test]
fn a_server_that_names_the_minor_alone_is_understood() {
    for version in [&b"\0\x03\0\0"[..], b"\0\0\0\0"] {
        let body = [version, b"\0\0\0\x01_pq_.x\0"].concat();
        let expected = Backend::NegotiateProtocolVersion {
            version: ProtocolVersion::V3_0,
            options: vec!["_pq_.x".to_owned()],
        };
        assert_eq!(Backend::decode(b'v', &body), Ok(expected));
    }
}

#[test]
fn malformed_messages_of_a_server_are_refused() {
    for (kind, body) in [
        (b'R', &b""[..]),
        (b'R', b"\0\0\0"),
        (b'R', b"\0\0\0\0x"),
        (b'R', b"\0\0\0\x03x"),
        (b'R', b"\0\0\0\x05abc"),
        (b'R', b"\0\0\0\x05abcde"),
        (b'R', b"\0\0\0\x0A"),
        (b'R', b"\0\0\0\x0ASCRAM-SHA-256\0"),
        (b'R', b"\0\0\0\x0ASCRAM-SHA-256\0\0x"),
        (b'R', b"\0\0\0\x0AA-MECHANISM-NAME-OF-21\0\0"),
        (b'R', b"\0\0\0\x0A\xFF\0\0"),
        (b'S', b""),
        (b'S', b"name\0"),
        (b'S', b"name\0value"),
        (b'S', b"name\0value\0x"),
        (b'S', b"\xFF\0value\0"),
        (b'K', b""),
        (b'K', b"\0\0\0\x01"),
        (b'K', b"\0\0\0\x01abc"),
        (b'K', &[0; 4 + 257]),
        (b'Z', b""),
        (b'Z', b"X"),
        (b'Z', b"II"),
        (b'v', b"\0\x03\0\0"),
        (b'v', b"\0\x03\0\0\0\0\0\x01"),
        (b'v', b"\0\x03\0\0\0\0\0\0x"),
        (b'v', b"\0\x03\0\0\xFF\xFF\xFF\xFF"),
        (b'v', b"\0\x03\0\0\0\0\0\x41"),
    ] {
        check(kind, body, "message_malformed");
    }
}

#[test]
fn a_server_offers_16_mechanisms_and_no_more() {
    let offer = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("M{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Backend::read(&authentication_sasl(&names))
    };
    assert!(offer(16).is_ok());
    assert_eq!(offer(17).unwrap_err().reason(), "message_malformed");
}

#[test]
fn a_length_is_checked_before_it_is_believed() {
    for length in [0, 1, 2, 3, u32::MAX, 1 << 31] {
        let bytes = [&b"R"[..], &length.to_be_bytes()].concat();
        assert_eq!(
            Backend::read(&bytes).unwrap_err().reason(),
            "message_length"
        );
    }
    let announce = |body: usize| {
        let length = u32::try_from(body + 4).unwrap().to_be_bytes();
        Backend::read(&[&b"E"[..], &length].concat())
    };
    let most = MAX_BACKEND_STARTUP_MESSAGE;
    assert_eq!(announce(most), Ok(Step::Need(most)));
    assert_eq!(announce(most + 1).unwrap_err().reason(), "message_length");
}

#[test]
fn a_header_names_the_body() {
    assert_eq!(
        Header::read(b"D\0\0\0\x0E", 10),
        Ok(Step::Done(
            Header {
                kind: b'D',
                len: 10
            },
            5
        ))
    );
    assert_eq!(
        Header::read(b"D\0\0\0\x0F", 10).unwrap_err().reason(),
        "message_length"
    );
    assert_eq!(Header::read(b"D\0", 10), Ok(Step::Need(3)));
}

#[test]
fn a_client_answers_with_type_p_and_nothing_else() {
    for kind in [b'Q', b'X', b'P', 0, 0x16] {
        let complaint = password_message(&[kind], MAX_SASL_MESSAGE).unwrap_err();
        assert_eq!(
            complaint,
            Complaint::UnexpectedMessage {
                kind,
                expected: b'p'
            }
        );
        assert_eq!(complaint.reason(), "unexpected_message");
    }
}

#[test]
fn a_password_message_has_its_named_maximum() {
    for maximum in [MAX_SASL_MESSAGE, MAX_TOKEN_MESSAGE] {
        let fits = packets::message(b'p', &vec![b'x'; maximum]);
        assert!(
            matches!(password_message(&fits, maximum), Ok(Step::Done(body, _)) if body.len() == maximum)
        );
        let too_long = packets::message(b'p', &vec![b'x'; maximum + 1]);
        let complaint = password_message(&too_long[..5], maximum).unwrap_err();
        assert_eq!(complaint.reason(), "message_length");
    }
}

#[test]
fn bytes_behind_a_password_message_are_not_its() {
    let bytes = [
        packets::message(b'p', b"pw\0"),
        packets::message(b'Q', b"x\0"),
    ]
    .concat();
    assert_eq!(
        password_message(&bytes, 100),
        Ok(Step::Done(&b"pw\0"[..], 8))
    );
}

#[test]
fn a_password_is_one_c_string_to_the_end() {
    assert_eq!(read_password(b"pw\0").unwrap().as_str(), "pw");
    for body in [&b""[..], b"pw", b"\0", b"pw\0x", b"pw\0\0", b"\xFF\0"] {
        assert_eq!(
            read_password(body).unwrap_err().reason(),
            "message_malformed"
        );
    }
    assert_eq!(password("a\0b").unwrap_err().reason(), "unencodable");
}

#[test]
fn a_sasl_initial_response_names_a_mechanism_and_its_first_message() {
    let response = SaslInitialResponse::decode(b"SCRAM-SHA-256\0\0\0\0\x03n,,").unwrap();
    assert_eq!(response.mechanism, "SCRAM-SHA-256");
    assert_eq!(response.data.as_deref(), Some(&b"n,,"[..]));
    let none = SaslInitialResponse::decode(b"X\0\xFF\xFF\xFF\xFF").unwrap();
    assert_eq!(none.data, None);
    for body in [
        &b""[..],
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0\0",
        b"SCRAM-SHA-256\0\0\0\0\x04n,,",
        b"SCRAM-SHA-256\0\0\0\0\x02n,,",
        b"SCRAM-SHA-256\0\x7F\xFF\xFF\xFFn,,",
        b"SCRAM-SHA-256\0\xFF\xFF\xFF\xFFx",
        b"\0\0\0\0\0",
        b"A-MECHANISM-NAME-OF-21\0\0\0\0\0",
        b"\xFF\0\0\0\0\0",
    ] {
        let complaint = SaslInitialResponse::decode(body).unwrap_err();
        assert_eq!(complaint.reason(), "message_malformed");
    }
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let key = Backend::BackendKeyData {
        pid: 1,
        secret: b"hush".to_vec(),
    };
    let sasl = Backend::SaslContinue(b"hush".to_vec());
    let response = SaslInitialResponse {
        mechanism: "OAUTHBEARER".to_owned(),
        data: Some(b"hush".to_vec()),
    };
    for text in [
        format!("{key:?}"),
        format!("{sasl:?}"),
        format!("{response:?}"),
    ] {
        assert!(!text.contains("hush") && !text.contains("104"), "{text}");
    }
}

#[test]
fn what_cannot_be_written_is_not_written() {
    assert_eq!(
        parameter_status("a\0", "b").unwrap_err().reason(),
        "unencodable"
    );
    assert_eq!(
        parameter_status("a", "b\0").unwrap_err().reason(),
        "unencodable"
    );
    assert_eq!(
        backend_key_data(1, b"abc").unwrap_err().reason(),
        "cancel_length"
    );
    assert_eq!(
        backend_key_data(1, &[0; 257]).unwrap_err().reason(),
        "cancel_length"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Backend::decode(kind, &body);
        let _ = Backend::read(&packets::message(kind, &body));
        let _ = SaslInitialResponse::decode(&body);
        let _ = read_password(&body);
    }

    #[test]
    fn any_sasl_exchange_survives_the_journey(
        mechanism in "[A-Z0-9_-]{1,20}",
        data in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let sent = sasl_initial_response(&mechanism, &data);
        let body = match password_message(&sent, MAX_SASL_MESSAGE) {
            Ok(Step::Done(body, _)) => body,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let expected = SaslInitialResponse { mechanism, data: Some(data.clone()) };
        prop_assert_eq!(SaslInitialResponse::decode(body), Ok(expected));
        prop_assert_eq!(read(&sasl_continue(&data)), Backend::SaslContinue(data.clone()));
        prop_assert_eq!(read(&sasl_final(&data)), Backend::SaslFinal(data));
    }
}

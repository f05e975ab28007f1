//! The bodies of the fuzz targets, here so that the stable toolchain can replay their corpora.
//!
//! Each takes any bytes and panics when a property of the codec does not hold. Not part of the API.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a panic is how a fuzz target reports a finding"
)]

use std::collections::BTreeSet;

use crate::boundary::Boundary;
use crate::cancel::CancelRequest;
use crate::error::{ErrorFields, ErrorResponse, SqlState};
use crate::first::{FIRST_BYTES, FirstBytes};
use crate::limits::{
    MAX_ERROR_FIELD, MAX_MESSAGE, MAX_NAME, MAX_PROXY_HEADER, MAX_SASL_MESSAGE,
    MAX_STARTUP_PARAMETERS,
};
use crate::message::{
    Backend, SaslInitialResponse, password, password_message, read_password, sasl_initial_response,
};
use crate::negotiate::{ProtocolVersion, negotiate};
use crate::proxy_protocol::{self, CloudTlv, ProxyHeader};
use crate::scram::{Binding, Client, ClientKey, Server, Verifier};
use crate::startup::{StartupMessage, encode_startup};
use crate::{Complaint, Step};

/// A startup packet, cancel request or stranger's bytes, from the first byte on.
pub fn startup(data: &[u8]) {
    let (first, consumed) = match FirstBytes::read(data) {
        Ok(Step::Done(first, consumed)) => (first, consumed),
        Ok(Step::Need(more)) => return assert_eq!(data.len() + more, FIRST_BYTES),
        Err(complaint) => return told(&complaint),
    };
    let body_of = |len: usize| data.get(consumed..)?.get(..len);
    match first {
        FirstBytes::SslRequest | FirstBytes::GssEncRequest => assert_eq!(consumed, FIRST_BYTES),
        FirstBytes::DirectTls => assert_eq!(consumed, 0),
        FirstBytes::CancelRequest { len } => {
            let Some(body) = body_of(len) else { return };
            match CancelRequest::decode(body) {
                Ok(request) => assert_eq!(Some(request.encode().as_slice()), data.get(..8 + len)),
                Err(complaint) => told(&complaint),
            }
        }
        FirstBytes::Startup { len, version } => {
            let Some(body) = body_of(len) else { return };
            match StartupMessage::decode(body, version) {
                Ok(startup) => accepted(&startup),
                Err(complaint) => told(&complaint),
            }
        }
    }
}

/// What is accepted is within its limits, survives a journey to a server, and can be negotiated about.
fn accepted(startup: &StartupMessage) {
    for name in [&startup.user, &startup.database] {
        assert!((1..=MAX_NAME).contains(&name.len()));
    }
    let extra = [
        ("options", startup.options.as_deref()),
        ("replication", startup.replication.parameter()),
    ];
    let parameters = startup
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(
            extra
                .iter()
                .filter_map(|(name, value)| Some((*name, (*value)?))),
        );
    // `database` spelled out, where it was implied, may be one parameter or a few bytes too many.
    if parameters.clone().count() + 2 > MAX_STARTUP_PARAMETERS {
        return;
    }
    let Ok(packet) = encode_startup(&startup.user, &startup.database, parameters) else {
        return;
    };
    let again = packet
        .get(FIRST_BYTES..)
        .map(|body| StartupMessage::decode(body, ProtocolVersion::V3_0));
    let expected = StartupMessage {
        version: ProtocolVersion::V3_0,
        protocol_options: Vec::new(),
        ..startup.clone()
    };
    assert_eq!(again, Some(Ok(expected)));

    let negotiation = negotiate(startup.version, &startup.protocol_options);
    let Ok(negotiation) = negotiation else {
        panic!("what was decoded can be negotiated");
    };
    let exact = negotiation.version == startup.version && startup.protocol_options.is_empty();
    assert_eq!(negotiation.reply.is_none(), exact);
    if let Some(reply) = negotiation.reply {
        let told = Backend::NegotiateProtocolVersion {
            version: negotiation.version,
            options: startup.protocol_options.clone(),
        };
        assert_eq!(Backend::read(&reply), Ok(Step::Done(told, reply.len())));
    }
}

/// A PROXY header; the first byte chooses whose link TLV is believed.
pub fn proxy_header(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let clouds = [
        Some(CloudTlv::Aws),
        Some(CloudTlv::Azure),
        Some(CloudTlv::Gcp),
        None,
    ];
    let cloud = clouds.get(usize::from(choice % 4)).copied().flatten();
    let length = match proxy_protocol::read(bytes, cloud) {
        Ok(Step::Done(header, length)) => {
            if let ProxyHeader::Proxied { source, .. } = header {
                assert_eq!(source.ip(), source.ip().to_canonical());
            }
            assert!(length <= bytes.len() && length <= MAX_PROXY_HEADER);
            length
        }
        Ok(Step::Need(more)) => return assert!(more > 0 && bytes.len() + more <= MAX_PROXY_HEADER),
        Err(complaint) => return told(&complaint),
    };
    // Whoever reads only what is needed gets just to the end of the header.
    let mut read = 0;
    while read < length {
        match proxy_protocol::read(bytes.get(..read).unwrap_or_default(), cloud) {
            Ok(Step::Need(more)) => read += more,
            other => panic!("{read} of {length} bytes gave {other:?}"),
        }
    }
    assert_eq!(read, length);
}

/// Messages with a type byte, behind a first byte that is not looked at (how a stream is cut is [`framing`]'s business).
pub fn messages(data: &[u8]) {
    let Some((_, bytes)) = data.split_first() else {
        return;
    };
    let mut rest = bytes;
    while let Ok(Step::Done(message, consumed)) = Backend::read(rest) {
        assert!(!format!("{message:?}").is_empty());
        if let Backend::Error(fields) | Backend::Notice(fields) = message {
            relayed(&fields);
        }
        rest = rest.get(consumed..).unwrap_or_default();
    }
    if let Ok(Step::Done(body, _)) = password_message(bytes, MAX_SASL_MESSAGE) {
        if let Ok(secret) = read_password(body) {
            let sent = password(&secret).map(|message| message.get(5..) == Some(body));
            assert_eq!(sent, Ok(true));
        }
        if let Ok(response) = SaslInitialResponse::decode(body)
            && let Some(first) = response.data
        {
            let sent = sasl_initial_response(&response.mechanism, &first);
            assert_eq!(sent.get(5..), Some(body));
        }
    }
}

/// The splice's walk over messages: how many cuts, how far apart, and the stream.
///
/// However the stream is cut, the walker knows after each piece what a naive walk of everything so far knows, and
/// complains at the same byte.
pub fn framing(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let count = usize::from(count % 16).min(rest.len());
    let (lengths, stream) = rest.split_at_checked(count).unwrap_or_default();
    let (starts, complaint) = naive(stream);

    let mut cut = Boundary::new();
    let mut done = 0;
    let mut lengths = lengths.iter().cycle();
    while done < stream.len() {
        let length = lengths.next().map_or(stream.len(), |&n| usize::from(n));
        // Pieces of length 0 move nothing; so that this ends, one byte follows each.
        for length in [length, 1] {
            let end = (done + length).min(stream.len());
            let result = cut.advance(stream.get(done..end).unwrap_or_default());
            done = end;
            assert_eq!(result.is_err(), complaint.is_some_and(|at| at < done));
            assert_eq!(cut.at_start(), starts.contains(&done));
        }
    }
    let mut whole = Boundary::new();
    assert_eq!(whole.advance(stream), cut.advance(b""));
    assert_eq!(whole.at_start(), cut.at_start());
}

/// Where messages begin, and the byte with which a length is there that is not believed.
fn naive(stream: &[u8]) -> (BTreeSet<usize>, Option<usize>) {
    let (mut at, mut starts) = (0, BTreeSet::from([0]));
    while let Some([_, a, b, c, d]) = stream.get(at..).and_then(<[u8]>::first_chunk) {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d]));
        let Some(length) = length.ok().filter(|it| (4..=MAX_MESSAGE + 4).contains(it)) else {
            return (starts, Some(at + 4));
        };
        at += 1 + length;
        starts.insert(at);
    }
    (starts, None)
}

/// The fields of somebody else's error can be told in an error of ours.
fn relayed(fields: &ErrorFields) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let ours = ErrorResponse::fatal(
        fields.code.unwrap_or(SqlState::INTERNAL_ERROR),
        text(&fields.message),
    )
    .with_detail(text(&fields.detail));
    assert!(text(&fields.message).len() <= MAX_ERROR_FIELD);
    let encoded = ours.encode();
    let Ok(Step::Done(Backend::Error(again), _)) = Backend::read(&encoded) else {
        panic!("an error of ours is an error");
    };
    assert_eq!(again.message, Some(ours.message));
    assert_eq!(again.code, Some(ours.code));
}

/// Both messages of a client: a byte of choices, client-first-message, NUL, client-final-message.
pub fn scram_server(data: &[u8]) {
    let Some((choices, messages)) = data.split_first() else {
        return;
    };
    let mut messages = messages.splitn(2, |&byte| byte == 0);
    let binding = match choices & 1 {
        0 => Binding::Unsupported,
        _ => Binding::TlsServerEndPoint(HASH.to_vec()),
    };
    let mechanism = ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"].get(usize::from(choices >> 1 & 1));
    let mock = choices & 4 != 0;
    let verifier = match mock {
        true => Verifier::mock(&[7; 32], "acme", "app"),
        false => verifier(),
    };
    let server = Server::new(verifier, binding, SERVER_NONCE);
    let first = server.first(
        mechanism.copied().unwrap_or_default(),
        messages.next().unwrap_or_default(),
    );
    let Ok((challenged, _)) = first else { return };
    if let Ok((server_final, key)) = challenged.finish(messages.next().unwrap_or_default()) {
        assert!(!mock, "no proof is right against a mock");
        assert_eq!(key.0, CLIENT_KEY);
        assert!(server_final.starts_with(b"v="));
    }
}

/// Both messages of a server: a byte of choices, server-first-message, NUL, server-final-message.
pub fn scram_client(data: &[u8]) {
    let Some((choices, messages)) = data.split_first() else {
        return;
    };
    let mut messages = messages.splitn(2, |&byte| byte == 0);
    let offered: &[&str] = match choices & 1 {
        0 => &["SCRAM-SHA-256"],
        _ => &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
    };
    let binding = match choices & 2 {
        0 => Binding::Unsupported,
        _ => Binding::TlsServerEndPoint(HASH.to_vec()),
    };
    let key = ClientKey(CLIENT_KEY);
    let Ok(client) = Client::new(&key, &verifier(), offered, &binding, CLIENT_NONCE) else {
        panic!("SCRAM-SHA-256 is always on offer");
    };
    let Ok((answered, client_final)) = client.challenge(messages.next().unwrap_or_default()) else {
        return;
    };
    assert!(client_final.starts_with(b"c="));
    let server_final = messages.next().unwrap_or_default();
    if answered.verify(server_final).is_ok() {
        assert!(server_final.starts_with(b"v="));
    }
}

/// The verifier of RFC 7677 section 3 ("pencil"), as PostgreSQL writes it.
pub const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
/// What the exchanges of the fuzz targets are bound to.
pub const HASH: [u8; 32] = [0xC5; 32];
/// The server's half of the nonce in [`scram_server`].
pub const SERVER_NONCE: [u8; 18] = *b"eighteen-by-server";
/// Our half of the nonce in [`scram_client`].
pub const CLIENT_NONCE: [u8; 18] = *b"eighteen-by-client";
/// The ClientKey of "pencil" with the salt and iterations of [`VERIFIER`].
const CLIENT_KEY: [u8; 32] = [
    166, 15, 201, 35, 214, 126, 134, 68, 169, 45, 22, 185, 110, 218, 94, 244, 101, 107, 12, 114,
    92, 72, 67, 116, 190, 37, 83, 85, 118, 153, 110, 139,
];

fn verifier() -> Verifier {
    Verifier::parse(VERIFIER).expect("the constant is a verifier")
}

/// Every complaint can be told and counted.
fn told(complaint: &Complaint) {
    assert!(!complaint.reason().is_empty());
    assert!(complaint.to_string().len() <= MAX_ERROR_FIELD);
    assert!(!complaint.response().encode().is_empty());
}

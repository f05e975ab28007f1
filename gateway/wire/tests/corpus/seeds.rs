//! What fuzzing begins with: one input for each way that a codec can go.

use portcullis_wire::error::{ErrorResponse, SqlState};
use portcullis_wire::fuzzing::{self, CLIENT_NONCE, HASH, SERVER_NONCE};
use portcullis_wire::message::{
    TransactionStatus, authentication_cleartext, authentication_ok, authentication_sasl,
    backend_key_data, parameter_status, ready_for_query, sasl_continue, sasl_final,
    sasl_initial_response,
};

use crate::packets::{
    TCP4, eight, message, proxied4, proxy_header, startup_packet, tlv, with_crc, with_crc_first,
};
use crate::peer::{self, ITERATIONS, PASSWORD, SALT, encode};
use crate::replay::{Case, Seeds};

/// Every target and its seeds.
pub(crate) fn cases() -> [Case; 6] {
    let case = |name, target, seeds| Case {
        name,
        target,
        seeds,
    };
    [
        case("startup", fuzzing::startup, startup()),
        case("proxy_header", fuzzing::proxy_header, proxy()),
        case("messages", fuzzing::messages, messages()),
        case("framing", fuzzing::framing, framing()),
        case("scram_server", fuzzing::scram_server, scram_server()),
        case("scram_client", fuzzing::scram_client, scram_client()),
    ]
}

fn startup() -> Seeds {
    const V3_0: u32 = 0x0003_0000;
    let many: Vec<String> = (0..64).map(|n| format!("p{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
    let libpq = [
        ("user", "app"),
        ("database", "orders"),
        ("options", "-c geqo=off"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
    ];
    vec![
        ("ssl-request", eight(8, 80_877_103)),
        ("gssenc-request", eight(8, 80_877_104)),
        (
            "ssl-request-and-more",
            [eight(8, 80_877_103), startup_packet(V3_0, &libpq)].concat(),
        ),
        (
            "cancel-3.0",
            [eight(16, 80_877_102), b"\0\0\x30\x39abcd".to_vec()].concat(),
        ),
        ("cancel-3.2", [eight(44, 80_877_102), vec![7; 36]].concat()),
        ("cancel-too-short", eight(12, 80_877_102)),
        ("libpq-3.0", startup_packet(V3_0, &libpq)),
        ("libpq-3.2", startup_packet(0x0003_0002, &libpq)),
        (
            "grease",
            startup_packet(
                206_607,
                &[("user", "app"), ("_pq_.test_protocol_negotiation", "")],
            ),
        ),
        (
            "reserved-3.1",
            startup_packet(0x0003_0001, &[("user", "app")]),
        ),
        (
            "protocol-2",
            startup_packet(0x0002_0000, &[("user", "app")]),
        ),
        (
            "replication",
            startup_packet(V3_0, &[("user", "app"), ("replication", "database")]),
        ),
        (
            "replication-on",
            startup_packet(V3_0, &[("user", "app"), ("replication", "on")]),
        ),
        (
            "duplicate-user",
            startup_packet(V3_0, &[("user", "app"), ("user", "postgres")]),
        ),
        (
            "case-twins",
            startup_packet(V3_0, &[("user", "app"), ("x", "1"), ("X", "2")]),
        ),
        ("no-user", startup_packet(V3_0, &[("database", "orders")])),
        (
            "name-of-64",
            startup_packet(V3_0, &[("user", &"n".repeat(64))]),
        ),
        (
            "too-many",
            startup_packet(V3_0, &[&[("user", "app")], &many[..]].concat()),
        ),
        (
            "no-terminator",
            [eight(17, V3_0), b"user\0app\0".to_vec()].concat(),
        ),
        (
            "trailing-bytes",
            [eight(20, V3_0), b"user\0app\0\0x\0".to_vec()].concat(),
        ),
        ("length-zero", eight(0, V3_0)),
        ("length-huge", eight(u32::MAX, V3_0)),
        (
            "direct-tls",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(),
        ),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "proxy-v1",
            b"PROXY UNKNOWN 127.0.1.7 1.1.1.1 1 2\r\n".to_vec(),
        ),
        ("proxy-v2", proxied4(&[])),
    ]
}

fn proxy() -> Seeds {
    const AWS: u8 = 0;
    const AZURE: u8 = 1;
    const GCP: u8 = 2;
    const NONE: u8 = 3;
    let for_cloud = |cloud: u8, header: Vec<u8>| [vec![cloud], header].concat();
    let tcp6 = [
        &[0; 10][..],
        b"\xFF\xFF\x7F\0\x02\x01",
        &[0x20; 16],
        b"\x9C\x40\x15\x39",
    ]
    .concat();
    let vpce = tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9");
    let azure = tlv(0xEE, b"\x01\x7B\0\0\0");
    let gcp = tlv(0xE0, b"\0\0\0\0\0\0\x01\xC8");
    vec![
        ("tcp4", for_cloud(NONE, proxied4(&[]))),
        (
            "tcp6-mapped",
            for_cloud(NONE, proxy_header(0x21, 0x21, &tcp6)),
        ),
        ("local", for_cloud(AWS, proxy_header(0x20, 0, b""))),
        (
            "local-with-block",
            for_cloud(AWS, proxy_header(0x20, 0x11, &TCP4)),
        ),
        (
            "aws",
            for_cloud(AWS, with_crc(&[vpce.clone(), tlv(4, &[0; 9])])),
        ),
        (
            "azure",
            for_cloud(AZURE, with_crc_first(std::slice::from_ref(&azure))),
        ),
        ("gcp", for_cloud(GCP, proxied4(std::slice::from_ref(&gcp)))),
        (
            "all-clouds",
            for_cloud(AZURE, proxied4(&[vpce.clone(), azure, gcp])),
        ),
        ("aws-empty", for_cloud(AWS, proxied4(&[tlv(0xEA, b"")]))),
        (
            "azure-short",
            for_cloud(AZURE, proxied4(&[tlv(0xEE, b"\x01\0")])),
        ),
        ("aws-twice", for_cloud(AWS, proxied4(&[vpce.clone(), vpce]))),
        ("wrong-crc", for_cloud(NONE, proxied4(&[tlv(3, &[0; 4])]))),
        (
            "tlv-overrun",
            for_cloud(NONE, proxied4(&[b"\x04\xFF\xFF".to_vec()])),
        ),
        ("unspec", for_cloud(NONE, proxy_header(0x21, 0, b""))),
        ("unix", for_cloud(NONE, proxy_header(0x21, 0x31, &[1; 216]))),
        (
            "too-long",
            for_cloud(
                NONE,
                proxied4(&[])[..14]
                    .iter()
                    .copied()
                    .chain([0xFF; 2])
                    .collect(),
            ),
        ),
        (
            "version-1",
            for_cloud(NONE, b"PROXY TCP4 127.0.1.7 1.1.1.1 1 2\r\n".to_vec()),
        ),
        (
            "twice",
            for_cloud(NONE, [proxied4(&[]), proxied4(&[])].concat()),
        ),
    ]
}

fn messages() -> Seeds {
    let in_chunks_of = |chunk: u8, bytes: Vec<u8>| [vec![chunk], bytes].concat();
    let start_up = [
        message(b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
        authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]),
        sasl_continue(b"r=x,s=y,i=4096"),
        sasl_final(b"v=z"),
        authentication_ok(),
        parameter_status("server_version", "15.18").unwrap(),
        backend_key_data(12345, &[7; 32]).unwrap(),
        ready_for_query(TransactionStatus::Idle),
    ];
    let rows = [
        message(b'T', &[0; 30]),
        message(b'D', &[1; 300]),
        message(b'C', b"SELECT 1\0"),
    ];
    let error = ErrorResponse::fatal(SqlState::PROTOCOL_VIOLATION, "no")
        .with_detail("d")
        .with_hint("h");
    vec![
        ("start-up", in_chunks_of(7, start_up.concat())),
        ("rows", in_chunks_of(64, rows.concat())),
        ("rows-bytewise", in_chunks_of(1, rows.concat())),
        ("cleartext", in_chunks_of(255, authentication_cleartext())),
        ("md5", in_chunks_of(255, message(b'R', b"\0\0\0\x05salt"))),
        ("gss", in_chunks_of(255, message(b'R', b"\0\0\0\x07"))),
        ("error", in_chunks_of(3, error.encode())),
        ("error-without-fields", in_chunks_of(3, message(b'E', b""))),
        (
            "notice",
            in_chunks_of(3, message(b'N', b"SNOTICE\0Mhello\0\0")),
        ),
        (
            "error-not-utf-8",
            in_chunks_of(
                3,
                message(b'E', &[&b"M"[..], &[0xFF; 1500], b"\0\0"].concat()),
            ),
        ),
        (
            "length-of-3",
            in_chunks_of(2, b"Z\0\0\0\x05ID\0\0\0\x03".to_vec()),
        ),
        (
            "length-huge",
            in_chunks_of(2, b"d\xFF\xFF\xFF\xFFx".to_vec()),
        ),
        (
            "sasl-initial",
            in_chunks_of(9, sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x")),
        ),
        (
            "sasl-no-data",
            in_chunks_of(9, message(b'p', b"SCRAM-SHA-256\0\xFF\xFF\xFF\xFF")),
        ),
        ("password", in_chunks_of(9, message(b'p', b"secret\0"))),
        (
            "query-too-early",
            in_chunks_of(9, message(b'Q', b"select 1\0")),
        ),
    ]
}

fn framing() -> Seeds {
    let cut = |lengths: &[u8], stream: &[u8]| {
        let count = u8::try_from(lengths.len()).unwrap();
        [&[count], lengths, stream].concat()
    };
    let query = [
        message(b'T', &[0; 30]),
        message(b'D', &[1; 300]),
        message(b'D', b""),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let simple = [message(b'Q', b"select 1\0"), message(b'X', b"")].concat();
    let declares = |length: u32| [&b"Z\0\0\0\x05Id"[..], &length.to_be_bytes(), b"rest"].concat();
    vec![
        ("at-once", cut(&[], &query)),
        ("bytewise", cut(&[0], &query)),
        ("in-headers", cut(&[2, 3, 0, 7], &query)),
        ("records", cut(&[255, 120], &query)),
        ("client", cut(&[4], &simple)),
        ("nothing", cut(&[3], b"")),
        ("length-of-3", cut(&[5, 2], &declares(3))),
        ("length-of-0", cut(&[], &declares(0))),
        ("length-of-4", cut(&[], &declares(4))),
        ("largest", cut(&[9], &declares(0x4000_0004))),
        ("one-too-large", cut(&[9], &declares(0x4000_0005))),
        ("negative", cut(&[1], &declares(1 << 31))),
        ("all-ones", cut(&[1], &declares(u32::MAX))),
        (
            "past-a-complaint",
            cut(&[6], &[declares(3), simple].concat()),
        ),
    ]
}

fn scram_server() -> Seeds {
    const UNBOUND: u8 = 0;
    const BOUND: u8 = 1;
    const PLUS: u8 = 2;
    const MOCK: u8 = 4;
    let bare = "n=,r=fyko+d2lbbFgONRv9qkxdawL";
    let server_first = format!(
        "r=fyko+d2lbbFgONRv9qkxdawL{},s={SALT},i={ITERATIONS}",
        encode(&SERVER_NONCE)
    );
    let exchange = |choices: u8, gs2: &str, hash: &[u8], password: &str| {
        let bound = [gs2.as_bytes(), hash].concat();
        let client_final = peer::client_final(password, bare, &server_first, &bound);
        [
            &[choices][..],
            gs2.as_bytes(),
            bare.as_bytes(),
            b"\0",
            client_final.as_bytes(),
        ]
        .concat()
    };
    let first_only = |choices: u8, first: &str| [&[choices][..], first.as_bytes()].concat();
    let gs2 = "p=tls-server-end-point,,";
    vec![
        ("plain", exchange(UNBOUND, "n,,", b"", PASSWORD)),
        ("could-bind", exchange(UNBOUND, "y,,", b"", PASSWORD)),
        ("plus", exchange(BOUND | PLUS, gs2, &HASH, PASSWORD)),
        (
            "plus-other-certificate",
            exchange(BOUND | PLUS, gs2, &[0; 32], PASSWORD),
        ),
        ("wrong-password", exchange(UNBOUND, "n,,", b"", "wrong")),
        ("mock", exchange(UNBOUND | MOCK, "n,,", b"", PASSWORD)),
        ("downgrade", first_only(BOUND, &format!("y,,{bare}"))),
        (
            "plus-unbound",
            first_only(BOUND | PLUS, &format!("n,,{bare}")),
        ),
        (
            "plus-not-offered",
            first_only(PLUS, &format!("{gs2}{bare}")),
        ),
        ("authzid", first_only(UNBOUND, "n,a=postgres,n=,r=x")),
        ("extension", first_only(UNBOUND, "n,,m=1,n=,r=x")),
        (
            "garbage-proof",
            first_only(UNBOUND, &format!("n,,{bare}\0c=biws,r=x,p=AAAA")),
        ),
    ]
}

fn scram_client() -> Seeds {
    const PLUS_OFFERED: u8 = 1;
    const BOUND: u8 = 2;
    let nonce = encode(&CLIENT_NONCE);
    let bare = format!("n=,r={nonce}");
    let server_first = format!("r={nonce}theirs,s={SALT},i={ITERATIONS}");
    let exchange = |choices: u8, gs2: &str, hash: &[u8]| {
        let bound = [gs2.as_bytes(), hash].concat();
        let client_final = peer::client_final(PASSWORD, &bare, &server_first, &bound);
        let server_final =
            peer::server_final(PASSWORD, &bare, &server_first, &client_final).unwrap();
        [
            &[choices][..],
            server_first.as_bytes(),
            b"\0",
            server_final.as_bytes(),
        ]
        .concat()
    };
    let answer =
        |first: &str, last: &str| [b"\0", first.as_bytes(), b"\0", last.as_bytes()].concat();
    vec![
        ("plain", exchange(0, "n,,", b"")),
        ("could-bind", exchange(BOUND, "y,,", b"")),
        (
            "plus",
            exchange(BOUND | PLUS_OFFERED, "p=tls-server-end-point,,", &HASH),
        ),
        ("refused", answer(&server_first, "e=invalid-proof")),
        (
            "wrong-signature",
            answer(&server_first, &format!("v={}", encode(&[0; 32]))),
        ),
        (
            "other-nonce",
            answer(&format!("r=theirs,s={SALT},i=4096"), ""),
        ),
        (
            "other-salt",
            answer(&format!("r={nonce}x,s={},i=4096", encode(&[9; 16])), ""),
        ),
        (
            "huge-iterations",
            answer(&format!("r={nonce}x,s={SALT},i=2147483647"), ""),
        ),
        ("extension", answer(&format!("m=1,{server_first}"), "")),
    ]
}

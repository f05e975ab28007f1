//! ClientHellos, written out byte by byte: what clients send, and what none should.
//!
//! Beside these seeds lie captured hellos of real clients, named after them.

use crate::replay::Seeds;

pub(crate) fn hellos() -> Seeds {
    let plain = || hello(&[server_name(b"orders.db.example"), alpn(&[b"postgresql"])]);
    let named = |name: &[u8]| at_once(&record(&hello(&[server_name(name)])));
    vec![
        ("direct", in_pieces(8, &record(&plain()))),
        ("bytewise", in_pieces(1, &record(&plain()))),
        ("asked", seed(ASKED, 255, &record(&plain()))),
        ("no-extensions", at_once(&record(&hello(&[])))),
        (
            "no-server-name",
            at_once(&record(&hello(&[alpn(&[b"postgresql"])]))),
        ),
        ("alpn-h2", at_once(&record(&hello(&[alpn(&[b"h2"])])))),
        (
            "alpn-both",
            at_once(&record(&hello(&[alpn(&[b"h2", b"postgresql"])]))),
        ),
        ("alpn-of-nothing", at_once(&record(&hello(&[alpn(&[])])))),
        ("alpn-empty-name", at_once(&record(&hello(&[alpn(&[b""])])))),
        ("name-in-capitals", named(b"ORDERS.DB.Example")),
        ("name-with-a-dot", named(b"orders.db.example.")),
        ("name-under-wildcard", named(b"other.db.example")),
        ("name-of-nobody", named(b"nobody.example")),
        ("name-address", named(b"127.0.0.1")),
        ("name-address-6", named(b"::1")),
        ("name-empty", named(b"")),
        ("name-of-256", named(&[b'a'; 256])),
        ("name-wildcard", named(b"*.db.example")),
        ("name-with-nul", named(b"orders.db.example\0.evil.example")),
        ("name-underscore", named(b"acme_orders.db.example")),
        ("name-not-ascii", named("ácme.example".as_bytes())),
        (
            "name-twice",
            at_once(&record(&hello(&[
                server_name(b"a.example"),
                server_name(b"b.example"),
            ]))),
        ),
        ("name-two-in-one", at_once(&record(&hello(&[two_names()])))),
        ("fragmented", in_pieces(3, &fragmented(&plain(), 7))),
        ("fragments-of-one", at_once(&fragmented(&plain(), 1))),
        (
            "fragment-of-nothing",
            at_once(&[record(b""), record(&plain())].concat()),
        ),
        (
            "session-of-32",
            at_once(&record(&body(
                0x0303,
                &[7; 32],
                SUITES,
                &[extension(43, b"\x02\x03\x04")],
            ))),
        ),
        (
            "session-of-33",
            at_once(&record(&body(0x0303, &[7; 33], SUITES, &[]))),
        ),
        (
            "session-of-255",
            at_once(&record(&body(0x0303, &[7; 255], SUITES, &[]))),
        ),
        ("no-suites", at_once(&record(&body(0x0303, b"", b"", &[])))),
        (
            "odd-suites",
            at_once(&record(&body(0x0303, b"", b"\x13", &[]))),
        ),
        (
            "tls-1.0",
            at_once(&record(&body(0x0301, b"", b"\x00\x2f\x00\x0a", &[]))),
        ),
        (
            "sslv2",
            at_once(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"),
        ),
        (
            "extension-too-long",
            at_once(&record(&hello(&[b"\x00\x00\xff\xff".to_vec()]))),
        ),
        ("length-zero", at_once(&[22, 3, 1, 0, 4, 1, 0, 0, 0])),
        (
            "length-huge",
            in_pieces(
                255,
                &[&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 600]].concat(),
            ),
        ),
        (
            "never-ends",
            in_pieces(
                255,
                &fragmented(&[&[1, 0, 0xff, 0xff][..], &[0; 17_000]].concat(), 16_000),
            ),
        ),
        ("record-too-long", at_once(&[22, 3, 1, 0x48, 1, 1, 0, 0, 0])),
        ("alert-first", at_once(&[21, 3, 3, 0, 2, 1, 0])),
        ("data-first", at_once(&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5])),
        (
            "change-cipher-first",
            at_once(&[&[20, 3, 3, 0, 1, 1][..], &record(&plain())].concat()),
        ),
        (
            "data-behind",
            at_once(&[record(&plain()), vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5]].concat()),
        ),
        (
            "hello-twice",
            at_once(&[record(&plain()), record(&plain())].concat()),
        ),
        (
            "clear-behind",
            at_once(&[record(&plain()), b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()].concat()),
        ),
        ("http", at_once(b"GET / HTTP/1.1\r\n\r\n")),
        ("ssl-request", at_once(b"\0\0\0\x08\x04\xd2\x16\x2f")),
    ]
}

const ASKED: u8 = 1;

fn seed(choices: u8, piece: u8, stream: &[u8]) -> Vec<u8> {
    [&[choices, piece], stream].concat()
}

fn at_once(stream: &[u8]) -> Vec<u8> {
    seed(0, 255, stream)
}

fn in_pieces(piece: u8, stream: &[u8]) -> Vec<u8> {
    seed(0, piece, stream)
}

/// A hello of TLS 1.2 and 1.3 that can be answered, with more extensions.
fn hello(more: &[Vec<u8>]) -> Vec<u8> {
    let p256 = [&b"\x00\x17\x00\x41"[..], &GENERATOR].concat();
    let extensions = [
        extension(10, b"\x00\x02\x00\x17"),
        extension(13, b"\x00\x02\x04\x03"),
        extension(43, b"\x04\x03\x04\x03\x03"),
        extension(51, &sized(&p256)),
    ];
    body(0x0303, &[9; 32], SUITES, &[&extensions, more].concat())
}

/// Both versions' AES-128-GCM.
const SUITES: &[u8] = b"\x13\x01\xc0\x2b";

fn body(version: u16, session: &[u8], suites: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let inside = [
        &version.to_be_bytes()[..],
        &[5; 32],
        &[u8::try_from(session.len()).unwrap()],
        session,
        &sized(suites),
        b"\x01\x00",
        &sized(&extensions.concat()),
    ]
    .concat();
    let length = u32::try_from(inside.len()).unwrap() | 1 << 24;
    [&length.to_be_bytes()[..], &inside].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &sized(&[b"\0", sized(name).as_slice()].concat()))
}

fn two_names() -> Vec<u8> {
    let name = |name: &[u8]| [b"\0", sized(name).as_slice()].concat();
    extension(
        0,
        &sized(&[name(b"a.example"), name(b"b.example")].concat()),
    )
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let listed = protocols
        .iter()
        .flat_map(|name| [&[u8::try_from(name.len()).unwrap()], *name].concat());
    extension(16, &sized(&listed.collect::<Vec<_>>()))
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(content)].concat()
}

/// Behind its length in two bytes.
fn sized(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [b"\x16\x03\x01", sized(content).as_slice()].concat()
}

fn fragmented(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

/// The base point of P-256 (FIPS 186-4 D.1.2.3), for want of a key.
const GENERATOR: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
    0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2,
    0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
    0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51,
    0xf5,
];

//! Attacks on a bare connection: nothing may come of any of them but the end.

use portcullis_wire::first::SSL_REQUEST;

use super::attack::{Act, Attack, Must};
use super::hello::{GOOD_SUITES, Hello, OLD_SUITES, WEAK_SUITES};

/// All of them.
pub(super) fn attacks() -> Vec<Attack> {
    let mut all = first_bytes();
    all.extend(clear_text());
    all.extend(proxies());
    all.extend(old_tls());
    all.extend(slow());
    all
}

/// Bytes that begin nothing.
fn first_bytes() -> Vec<Attack> {
    let length = |name, does, length: u32| {
        let bytes = [length.to_be_bytes(), VERSION_3.to_be_bytes()].concat();
        clear(name, does, bytes, Must::Silence)
    };
    vec![
        length("length-zero", "a packet of 0 bytes", 0),
        length("length-three", "a packet shorter than its own length", 3),
        length(
            "length-over",
            "a packet of 10,001 bytes, one too many",
            10_001,
        ),
        length("length-2g", "a packet of 2 GiB less one", 0x7fff_ffff),
        length("length-4g", "a packet of 4 GiB less one", u32::MAX),
        clear(
            "http",
            "an HTTP request",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            Must::Silence,
        ),
        clear(
            "ssh",
            "an SSH greeting",
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            Must::Silence,
        ),
        clear(
            "unknown-request",
            "a request code that nobody knows",
            vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x31],
            Must::Silence,
        ),
        clear(
            "cancel-made-up",
            "a cancel request with a made-up key of protocol 3.0",
            cancel(&[0x5a; 8]),
            Must::Silence,
        ),
        clear(
            "cancel-made-up-long",
            "a cancel request with a made-up key of 256 bytes",
            cancel(&[0x5a; 260]),
            Must::Silence,
        ),
        clear(
            "cancel-too-long",
            "a cancel request with a key longer than any",
            cancel(&[0x5a; 1024]),
            Must::Silence,
        ),
    ]
}

/// What should have been encrypted.
fn clear_text() -> Vec<Attack> {
    let startup = startup(VERSION_3, &[("user", USER)]);
    let gss = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
    vec![
        clear(
            "plaintext",
            "a start-up packet without TLS",
            startup.clone(),
            Must::Refusal("28000"),
        ),
        clear(
            "bytes-before-tls",
            "a start-up packet in clear behind SSLRequest, in one segment (CVE-2021-23214)",
            [&SSL_REQUEST[..], &startup].concat(),
            Must::NoHandshake,
        ),
        clear(
            "bytes-before-gss",
            "SSLRequest behind GSSENCRequest, in one segment",
            [&gss[..], &SSL_REQUEST].concat(),
            Must::Silence,
        ),
    ]
}

/// Headers that only a load balancer may write.
fn proxies() -> Vec<Attack> {
    let version_1 = b"PROXY TCP4 10.0.0.7 10.0.0.1 4711 5433\r\n".to_vec();
    let version_2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x0a\0\0\x01\x12\x67\x15\x39".to_vec();
    let before = |header: &[u8]| [header, &SSL_REQUEST].concat();
    vec![
        clear(
            "proxy-v1",
            "a PROXY header of version 1 that claims another address",
            before(&version_1),
            Must::Silence,
        ),
        clear(
            "proxy-v2",
            "a PROXY header of version 2 that claims another address",
            before(&version_2),
            Must::Silence,
        ),
        clear(
            "proxy-unknown",
            "a PROXY header that claims no address",
            before(b"PROXY UNKNOWN\r\n"),
            Must::Silence,
        ),
        clear(
            "proxy-twice",
            "two PROXY headers",
            before(&[version_2, version_1].concat()),
            Must::Silence,
        ),
    ]
}

/// TLS that is not spoken any more.
fn old_tls() -> Vec<Attack> {
    let hello = |name, does, version, suites, compression: &[u8]| {
        let hello = Hello {
            version,
            suites,
            compression,
        };
        clear(name, does, hello.record(), Must::NoHandshake)
    };
    vec![
        hello("ssl-3", "SSL 3.0", [3, 0], OLD_SUITES, &[0]),
        hello("tls-1.0", "TLS 1.0", [3, 1], OLD_SUITES, &[0]),
        hello("tls-1.1", "TLS 1.1", [3, 2], OLD_SUITES, &[0]),
        hello(
            "weak-ciphers",
            "TLS 1.2 with CBC, RSA key exchange, 3DES and RC4 only",
            [3, 3],
            WEAK_SUITES,
            &[0],
        ),
        hello(
            "tls-compression",
            "TLS 1.2 with compressed records only",
            [3, 3],
            GOOD_SUITES,
            &[1],
        ),
        clear(
            "ssl-2",
            "a ClientHello of SSL 2",
            b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10".to_vec(),
            Must::Silence,
        ),
        Attack {
            name: "alpn-none",
            does: "TLS from the first byte without ALPN (a browser made to speak to a database)"
                .to_owned(),
            act: Act::Direct(&[]),
            must: Must::NoHandshake,
        },
        Attack {
            name: "alpn-http",
            does: "TLS from the first byte for HTTP".to_owned(),
            act: Act::Direct(&[b"h2", b"http/1.1"]),
            must: Must::NoHandshake,
        },
    ]
}

/// Clients that hold on to a place.
fn slow() -> Vec<Attack> {
    vec![
        clear(
            "silence",
            "connects and says nothing",
            vec![],
            Must::Deadline,
        ),
        clear(
            "silence-in-tls",
            "asks for TLS and says nothing more",
            SSL_REQUEST.to_vec(),
            Must::Deadline,
        ),
        clear(
            "silence-in-hello",
            "begins a ClientHello and never ends it",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            Must::Deadline,
        ),
        Attack {
            name: "dribble",
            does: "sends a byte every second".to_owned(),
            act: Act::Drip(startup(
                VERSION_3,
                &[("user", USER), ("database", "postgres")],
            )),
            must: Must::Deadline,
        },
    ]
}

/// Protocol 3.0.
pub(super) const VERSION_3: u32 = 0x0003_0000;
/// A role that no database has.
pub(super) const USER: &str = "portcullis-selftest";

/// A start-up packet with these parameters, whatever they are.
pub(super) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    with_length(&body)
}

/// The bytes behind a length that counts itself.
pub(super) fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).map_or(u32::MAX, |length| length.saturating_add(4));
    [&length.to_be_bytes(), body].concat()
}

/// A cancel request with this process id and secret.
pub(super) fn cancel(key: &[u8]) -> Vec<u8> {
    with_length(&[&[4, 0xd2, 0x16, 0x2e], key].concat())
}

fn clear(name: &'static str, does: &str, bytes: Vec<u8>, must: Must) -> Attack {
    Attack {
        name,
        does: does.to_owned(),
        act: Act::Clear(bytes),
        must,
    }
}

//! Attacks inside TLS: what a start-up packet can hide, and what a refusal gives away.

use super::attack::{Act, Attack, Must, Name};
use super::before_tls::{USER, VERSION_3, cancel, startup, with_length};

/// All of them; some are made for each endpoint that is named.
pub(super) fn attacks(endpoints: &[String]) -> Vec<Attack> {
    let mut all = start_up_packets();
    all.extend(other_bytes());
    all.extend(enumeration(endpoints));
    all
}

/// Start-up packets that two readers could read in two ways.
fn start_up_packets() -> Vec<Attack> {
    let of = |parameters: &[(&str, &str)]| startup(VERSION_3, parameters);
    let raw = |body: &[u8]| with_length(&[&VERSION_3.to_be_bytes(), body].concat());
    let refused = |name, does, bytes| inside(name, does, bytes, Must::Refusal("08P01"));
    let long = "x".repeat(64);
    vec![
        refused(
            "user-twice",
            "two users",
            of(&[("user", USER), ("user", "postgres")]),
        ),
        refused(
            "database-twice",
            "two databases",
            of(&[("user", USER), ("database", "a"), ("database", "b")]),
        ),
        refused(
            "options-twice",
            "options twice",
            of(&[("user", USER), ("options", "-c a=1"), ("options", "-c a=2")]),
        ),
        refused(
            "user-spelling",
            "a user in other letters",
            of(&[("user", USER), ("User", "postgres")]),
        ),
        refused(
            "no-terminator",
            "a packet without its end",
            raw(b"user\0x\0"),
        ),
        refused(
            "hidden-parameters",
            "parameters behind the end",
            raw(b"user\0x\0\0role\0root\0\0"),
        ),
        refused(
            "no-value",
            "a parameter without a value",
            raw(b"user\0x\0database\0"),
        ),
        refused(
            "not-utf-8",
            "a user that is no text",
            raw(b"user\0\xff\xfe\0\0"),
        ),
        inside("no-user", "nobody", of(&[]), Must::Refusal("28000")),
        inside(
            "long-user",
            "a user of 64 bytes, which a database would cut",
            of(&[("user", &long)]),
            Must::Refusal("28000"),
        ),
        inside(
            "protocol-2",
            "protocol 2.0",
            startup(0x0002_0000, &[("user", USER)]),
            Must::Refusal("0A000"),
        ),
        inside(
            "protocol-4",
            "protocol 4.0",
            startup(0x0004_0000, &[("user", USER)]),
            Must::Refusal("0A000"),
        ),
    ]
}

/// Bytes that are no start-up packet.
fn other_bytes() -> Vec<Attack> {
    let query = [&b"Q"[..], &with_length(b"select 1\0")].concat();
    let start = startup(VERSION_3, &[("user", USER)]);
    vec![
        inside(
            "http-in-tls",
            "HTTP inside TLS",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Must::NoSession,
        ),
        inside(
            "tls-in-tls",
            "a ClientHello inside TLS",
            vec![0x16, 3, 1, 0, 0xf4, 1, 0, 0],
            Must::NoSession,
        ),
        inside(
            "query-first",
            "a query instead of a start-up packet",
            query.clone(),
            Must::NoSession,
        ),
        inside(
            "cancel-in-tls",
            "a cancel request with a made-up key, inside TLS",
            cancel(&[0x5a; 36]),
            Must::Silence,
        ),
        inside(
            "query-early",
            "a query right behind the start-up packet, without signing in",
            [start.clone(), query].concat(),
            Must::NoSession,
        ),
        inside(
            "silence-inside",
            "nothing, once TLS stands",
            vec![],
            Must::Deadline,
        ),
        Attack {
            name: "early-data",
            does: "a start-up packet as TLS early data, which can be replayed".to_owned(),
            act: Act::EarlyData(start),
            must: Must::NotTaken,
        },
    ]
}

/// Whether a stranger can tell what exists.
fn enumeration(endpoints: &[String]) -> Vec<Attack> {
    let start = startup(VERSION_3, &[("user", USER), ("database", "postgres")]);
    let compare = |name, does: String, other| Attack {
        name,
        does,
        act: Act::Compare(Name::Unknown, other, start.clone()),
        must: Must::Alike,
    };
    let mut all = vec![
        inside(
            "unknown-name",
            "a name that no endpoint has",
            start.clone(),
            Must::Refusal("28000"),
        ),
        compare(
            "unknown-names",
            "two names that no endpoint has".to_owned(),
            Name::Unknown,
        ),
        compare(
            "no-name",
            "a name that no endpoint has, and none at all".to_owned(),
            Name::Withheld,
        ),
    ];
    all.extend(endpoints.iter().map(|endpoint| {
        compare(
            "known-name",
            format!("a name that no endpoint has, and {endpoint}"),
            Name::Given(endpoint.clone()),
        )
    }));
    all.extend(endpoints.iter().map(|endpoint| Attack {
        name: "query-early-known",
        does: format!("a query right behind the start-up packet, at {endpoint}"),
        act: Act::Inside(
            Name::Given(endpoint.clone()),
            [&start[..], b"Q", &with_length(b"select 1\0")].concat(),
        ),
        must: Must::NoSession,
    }));
    all
}

fn inside(name: &'static str, does: &str, bytes: Vec<u8>, must: Must) -> Attack {
    Attack {
        name,
        does: does.to_owned(),
        act: Act::Inside(Name::Unknown, bytes),
        must,
    }
}

//! The guard on "everyone": whatever the pieces look like, letting everybody in takes a word that a person wrote.

mod common;

use common::{EntryWords, endpoint, entry, name, tenant};
use portcullis_policy::*;

#[test]
fn everyone_must_be_said_in_a_word() {
    let unsaid = |family: &str, door: &str| {
        format!(
            "endpoints.orders.allow: together the entries via {door} are every {family} address; \
             if that is meant, say \"anywhere\""
        )
    };
    let halves = || vec![entry("0.0.0.0/1", "public"), entry("128.0.0.0/1", "public")];
    check_allow(halves(), &unsaid("IPv4", "public"));
    check_allow(
        vec![entry("::/1", "public"), entry("8000::/1", "public")],
        &unsaid("IPv6", "public"),
    );
    let vpc = "network:acme-vpc";
    check_allow(
        vec![entry("128.0.0.0/1", vpc), entry("0.0.0.0/1", vpc)],
        &unsaid("IPv4", vpc),
    );
    // In pieces, overlapping, in any order, and whatever expires.
    let pieces = [
        "64.0.0.0/2",
        "0.0.0.0/2",
        "192.0.0.0/2",
        "128.0.0.0/1",
        "10.0.0.0/8",
    ];
    check_allow(
        pieces.map(|piece| entry(piece, "public").until(1)).to_vec(),
        &unsaid("IPv4", "public"),
    );
    // An except counts for what it takes out, and not when another entry puts it back.
    let but_one = || {
        vec![
            entry("0.0.0.0/1", "public").except(&["10.0.0.1"]),
            entry("128.0.0.0/1", "public"),
        ]
    };
    check_allow(but_one(), "fine");
    let mut and_the_one = but_one();
    and_the_one.push(entry("10.0.0.1", "public"));
    check_allow(and_the_one, &unsaid("IPv4", "public"));
    // Two doors are not one.
    check_allow(
        vec![entry("0.0.0.0/1", "public"), entry("128.0.0.0/1", vpc)],
        "fine",
    );
    // Said for this door, it is said; said for another, it is not.
    let mut said = halves();
    said.push(entry("anywhere", "public"));
    check_allow(said, "fine");
    let mut said_elsewhere = halves();
    said_elsewhere.push(entry("anywhere", vpc));
    check_allow(said_elsewhere, &unsaid("IPv4", "public"));
}

#[test]
fn leaving_out_what_arrives_as_ipv4_leaves_nobody_out() {
    // All of IPv6 but ::ffff:0:0/96, whose clients are folded to IPv4 before policy sees them.
    let mapped = 0xffff_u128 << 32;
    let around = (32_u8..128).map(|bit| {
        let first = (mapped ^ (1 << bit)) & (u128::MAX << bit);
        let prefix = Prefix::new(std::net::Ipv6Addr::from_bits(first).into(), 128 - bit);
        Entry::new(Addresses::Prefix(prefix.unwrap()), Origin::Public)
    });
    let error = acme(around.collect()).validate().unwrap_err();
    assert_eq!(
        error.problem,
        DocumentProblem::EveryoneUnsaid(Origin::Public, Family::V6)
    );
}

/// Validates an endpoint with this allow list: the refusal in words, or `fine`.
fn check_allow(allow: Vec<Entry>, expected: &str) {
    let said = acme(allow)
        .validate()
        .map_or_else(|error| error.to_string(), |()| String::from("fine"));
    assert_eq!(said, expected);
}

fn acme(allow: Vec<Entry>) -> Tenant {
    let mut acme = tenant("acme");
    acme.endpoints.insert(
        name("orders"),
        endpoint("acme-orders", &["public", "network:acme-vpc"], allow),
    );
    acme
}

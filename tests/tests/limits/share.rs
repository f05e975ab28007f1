//! What a client on its way in takes of the gateway's memory: no more than the share of which the
//! limit on all of them is made.

use std::net::IpAddr;
use std::time::Duration;

use portcullis::runtime::limits::UNAUTHENTICATED_BYTES;
use portcullis_certs::hello::MAX_HELLO;
use portcullis_tests::client::{SSL_REQUEST, V3_0, startup};
use portcullis_tests::{Gateway, RawClient, Version};

use super::scene::{Trap, acme, clients, here, orders, server};
use super::{acme_dial, asks_for_a_token, bare, begun, limited, started, used};

/// What the manual says of a start-up packet and of a token.
const MAX_STARTUP_PACKET: usize = 10_000;
const MAX_TOKEN_MESSAGE: usize = 16 * 1024;
const COUNT: usize = 500;
const ROOM: &str = "unauthenticated-per-tenant = 2000, unauthenticated-per-block = 2000";
const PACE: &str = "{new-connections-per-second: 5000}";

#[test]
fn those_who_were_asked_for_a_password_take_no_more_memory_than_their_share() {
    let tenant = acme(server(Version::V15), orders()).limits(PACE);
    let builder = limited(ROOM).tenant(&tenant);
    let gateway = started(builder.signs_in_at("acme", clients()), 1);
    assert_within_their_share(&gateway, |from| {
        let mut client = begun(&acme_dial(&gateway, from));
        assert_eq!(client.read_message().unwrap().authentication(), Some(10));
        client
    });
}

/// The longest start-up packet there may be, and of the longest token all but its last byte.
#[test]
fn those_who_send_as_much_as_they_may_take_no_more_memory_than_their_share() {
    let trap = Trap::new();
    let tenant = trap.acme(asks_for_a_token()).limits(PACE);
    let gateway = started(limited(ROOM).tenant(&tenant), 1);
    let value = "x".repeat(1_000);
    let names: Vec<String> = (0..9).map(|n| format!("some.setting_{n}")).collect();
    let long = names.iter().map(|name| (name.as_str(), value.as_str()));
    let parameters: Vec<_> = [("user", "app"), ("database", "postgres")]
        .into_iter()
        .chain(long)
        .collect();
    let packet = startup(V3_0, &parameters);
    assert!((9_000..=MAX_STARTUP_PACKET).contains(&packet.len()));
    let announced = u32::try_from(MAX_TOKEN_MESSAGE + 4).unwrap().to_be_bytes();
    let token = [&b"p"[..], &announced, &vec![b'x'; MAX_TOKEN_MESSAGE - 1]].concat();
    assert_within_their_share(&gateway, |from| {
        let mut client = acme_dial(&gateway, from).connect().unwrap();
        client.send(&packet).unwrap();
        assert_eq!(client.read_message().unwrap().authentication(), Some(3));
        client.send(&token).unwrap();
        client
    });
    trap.assert_untouched();
}

/// A ClientHello as large as it may be, all but its end.
#[test]
fn those_who_never_end_their_clienthello_take_no_more_memory_than_their_share() {
    let trap = Trap::new();
    let tenant = trap.acme(asks_for_a_token()).limits(PACE);
    let gateway = started(limited(ROOM).tenant(&tenant), 1);
    // A record and in it a message, both one byte longer than what is sent.
    let mut hello = vec![0; MAX_HELLO - 1];
    let length = |header: usize| u16::try_from(MAX_HELLO - header).unwrap().to_be_bytes();
    hello[..3].copy_from_slice(&[0x16, 3, 1]);
    hello[3..5].copy_from_slice(&length(5));
    hello[5..7].copy_from_slice(&[1, 0]);
    hello[7..9].copy_from_slice(&length(9));
    assert_within_their_share(&gateway, |from| {
        let mut client = bare(&gateway, from).connect().unwrap();
        client.send(&SSL_REQUEST).unwrap();
        client.read_exactly(1).unwrap();
        client.send(&hello).unwrap();
        client
    });
    trap.assert_untouched();
}

/// [`COUNT`] such clients at once, from four addresses.
fn assert_within_their_share(gateway: &Gateway, comes: impl Fn(IpAddr) -> RawClient + Sync) {
    // What is made once, whoever comes.
    drop(comes(here(1, 1)));
    let before = gateway.resident_kib();
    let held: Vec<RawClient> = std::thread::scope(|scope| {
        let hands = [1, 2, 3, 4].map(|hand| {
            let comes = &comes;
            let some = (0..COUNT / 4).map(move |_| comes(here(2, hand)));
            scope.spawn(move || some.collect::<Vec<_>>())
        });
        let joined = hands.into_iter().map(|hand| hand.join().unwrap());
        joined.flatten().collect()
    });
    // What was sent last is to have been read.
    std::thread::sleep(Duration::from_millis(500));
    let grown = gateway.resident_kib().saturating_sub(before);
    // On a busy machine the first may have been closed for their slowness.
    let there = used(gateway, "unauthenticated");
    assert!(there > held.len() as u64 / 2, "{there}");
    println!("{} KiB each", grown / there);
    let share = UNAUTHENTICATED_BYTES / 1024;
    assert!(grown < there * share, "{grown} KiB for {there}");
}

//! ClientHellos of real clients and of none.

use std::sync::Arc;

use crate::support::authority;
use portcullis_certs::hello::{Hearing, Hello, MAX_HELLO, Unheard};
use portcullis_certs::{ALPN_POSTGRESQL, client_config};
use rustls::ClientConnection;

const NAME: &str = "Orders.db.example";

#[test]
fn what_a_client_asks_for_is_heard_however_its_hello_is_cut() {
    for (protocols, offers) in [(vec![], false), (vec![ALPN_POSTGRESQL.to_vec()], true)] {
        let bytes = hello(protocols);
        for piece in 1..bytes.len() {
            let mut hearing = Hearing::default();
            let mut heard = None;
            for piece in bytes.chunks(piece) {
                assert!(heard.is_none(), "heard before its end");
                heard = hearing.take(piece).unwrap();
            }
            let heard = heard.expect("a whole hello is heard");
            assert!(
                heard
                    .server_name()
                    .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
            );
            assert_eq!(heard.offers_protocols(), offers);
        }
    }
}

#[test]
fn the_longest_hello_is_heard_and_one_byte_more_is_not() {
    assert!(feed(&hello_of(MAX_HELLO), 4096).unwrap().is_some());
    let refused = feed(&hello_of(MAX_HELLO + 1), 4096).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "a ClientHello of more than 16384 bytes"
    );
    assert_eq!(refused.farewell(), DECODE_ERROR);
}

#[test]
fn a_hello_that_goes_on_for_ever_is_given_up_at_the_limit() {
    // A handshake message that promises 64 KiB, in records of one byte and of 4,000.
    for size in [1_u16, 4_000] {
        let mut hearing = Hearing::default();
        let mut taken = 0;
        let mut content = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat(0));
        let refused = loop {
            let mut record = vec![22, 3, 1];
            record.extend(size.to_be_bytes());
            record.extend(content.by_ref().take(size.into()));
            let fits = record.len().min(hearing.room());
            taken += fits;
            match hearing.take(&record[..fits]) {
                Ok(heard) => assert!(heard.is_none()),
                Err(unheard) => break unheard,
            }
        };
        assert_eq!(taken, MAX_HELLO);
        assert_eq!(refused.farewell(), DECODE_ERROR);
    }
}

#[test]
fn more_than_there_is_room_for_is_refused_untouched() {
    let mut hearing = Hearing::default();
    assert!(hearing.take(&vec![22; MAX_HELLO + 1]).is_err());
}

#[test]
fn what_is_not_tls_is_answered_with_an_alert() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
    ] {
        let refused = feed(bytes, 4096).err().unwrap();
        assert_eq!(refused.farewell().first(), Some(&21), "{refused}");
    }
}

const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

fn feed(mut bytes: &[u8], piece: usize) -> Result<Option<Hello>, Unheard> {
    let mut hearing = Hearing::default();
    while !bytes.is_empty() {
        let (next, rest) = bytes.split_at(piece.min(hearing.room()).min(bytes.len()));
        bytes = rest;
        if let Some(hello) = hearing.take(next)? {
            return Ok(Some(hello));
        }
    }
    Ok(None)
}

/// A real client's hello with these application protocols.
fn hello(protocols: Vec<Vec<u8>>) -> Vec<u8> {
    let trusted = authority("trusted");
    let mut config = Arc::unwrap_or_clone(client_config(trusted.authority_pem(), None).unwrap());
    config.alpn_protocols = protocols;
    let mut client = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same of exactly this size, by protocols that nobody speaks.
fn hello_of(size: usize) -> Vec<u8> {
    const LONGEST: usize = 255;
    let least = hello(vec![b"x".to_vec()]).len() + 1;
    let mut missing = size - least;
    let mut protocols = vec![b"xy".to_vec()];
    while missing > 0 {
        // Each costs a byte for its length, and none may be empty.
        let mut cost = missing.min(LONGEST + 1);
        if missing - cost == 1 {
            cost -= 1;
        }
        protocols.push(vec![b'z'; cost - 1]);
        missing -= cost;
    }
    let bytes = hello(protocols);
    assert_eq!(bytes.len(), size);
    bytes
}

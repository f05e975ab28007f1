//! Prefixes, sets of addresses and names as policy writes them; prefixes also against another crate's idea of them.
#![no_main]

use ipnet::IpNet;
use portcullis_policy::{Prefix, PrefixError};
use std::net::IpAddr;

#[path = "../../../policy/tests/fuzzing/prefixes.rs"]
mod prefixes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    prefixes::prefixes(data);
    if let Some(text) = data.get(1..).and_then(|text| str::from_utf8(text).ok()) {
        differs(text);
    }
});

fn differs(text: &str) {
    let theirs = match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    match (Prefix::parse(text), theirs) {
        (Ok(ours), Some(theirs)) => {
            assert_eq!(theirs, theirs.trunc());
            assert_eq!(ours.first().ip(), theirs.network());
            assert_eq!(ours.last().ip(), theirs.broadcast());
            assert_eq!(ours.length(), theirs.prefix_len());
        }
        (Ok(ours), None) => panic!("{text:?} is {ours} to us only"),
        (Err(PrefixError::Mapped(_) | PrefixError::Compatible(_)), _) => {}
        (Err(error), Some(theirs)) => {
            let plain = theirs.to_string() == text || theirs.addr().to_string() == text;
            let narrow = theirs.prefix_len() > 0 && theirs == theirs.trunc();
            assert!(!plain || !narrow, "{text:?}: {error}");
        }
        (Err(_), None) => {}
    }
}

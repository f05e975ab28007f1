//! A request for a certificate, by a node that wants to join.
#![no_main]

#[path = "../../../certs/tests/fuzzing/certificates.rs"]
#[expect(dead_code, reason = "the bodies of other targets are in it")]
mod certificates;

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificates::join_requests(data));

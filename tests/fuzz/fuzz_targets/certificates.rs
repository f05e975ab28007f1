//! A certificate as a peer shows it or a file has it, and the names in it.
#![no_main]

#[path = "../../../certs/tests/fuzzing/certificates.rs"]
#[expect(dead_code, reason = "the bodies of other targets are in it")]
mod certificates;

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificates::certificates(data));

//! A server's SCRAM messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_wire::fuzzing::scram_client(data));

//! The first bytes of a connection and what follows them: startup packets, cancel requests, strangers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_wire::fuzzing::startup(data));

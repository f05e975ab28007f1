//! PROXY v2 headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_wire::fuzzing::proxy_header(data));

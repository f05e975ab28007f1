//! Messages with a type byte: the boundary walker, what servers and clients say at start-up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_wire::fuzzing::messages(data));

//! A stranger's TLS bytes: the hello, the choice of an identity, the handshake.
#![no_main]

#[path = "../../../gateway/tests/fuzzing/client_hello.rs"]
mod client_hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client_hello::client_hello(data));

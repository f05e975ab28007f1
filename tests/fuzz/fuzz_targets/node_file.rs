//! A node's file and its mistakes.
#![no_main]

#[path = "../../../gateway/src/config/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the whole room is taken in, as it is")]
mod config;
#[path = "../../../gateway/tests/fuzzing/files.rs"]
#[expect(dead_code, reason = "the body of another target is in it")]
mod files;

libfuzzer_sys::fuzz_target!(|data: &[u8]| files::node_file(data));

//! The gateway that is measured: the release build, up to date.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use portcullis_tests::scratch::repository;

/// What the harness calls the program that it starts.
const NAMED: &str = "PORTCULLIS_BINARY";

/// Makes sure that the harness starts the release build: unless the environment names a program,
/// builds it and runs this program again with its name. (The harness looks for what its own tests
/// were built with, and a process does not change its own environment.)
///
/// # Panics
/// When this is a debug build itself, or the gateway cannot be built.
pub(crate) fn insist_on_release() {
    if cfg!(debug_assertions) {
        panic!("figures of a debug build mislead: cargo run --release --package portcullis-bench");
    }
    if std::env::var_os(NAMED).is_some() {
        return;
    }
    build();
    let failed = Command::new(ourselves())
        .args(std::env::args_os().skip(1))
        .env(NAMED, ourselves().with_file_name("portcullis"))
        .exec();
    panic!("cannot run {} again: {failed}", ourselves().display());
}

/// This program's file.
///
/// # Panics
/// When it has none.
pub(crate) fn ourselves() -> PathBuf {
    std::env::current_exe().expect("a program has a file")
}

/// Named together with this package, so that every dependency is built with the features it has
/// here and nothing is compiled twice.
fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .current_dir(repository())
        .args(["build", "--release", "--locked", "--bin", "portcullis"])
        .args(["--package", "portcullis", "--package", "portcullis-bench"])
        .status();
    assert!(
        status.expect("cargo can be run").success(),
        "the gateway does not build"
    );
}

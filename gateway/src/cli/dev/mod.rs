//! `portcullis dev`.

use std::process::ExitCode;

use super::args::DevArgs;
use super::exit::Exit;

/// Runs a node and a throw-away PostgreSQL.
#[must_use]
pub fn run(args: DevArgs) -> ExitCode {
    let _ = args;
    Exit::Error.into()
}

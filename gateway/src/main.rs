//! The `portcullis` binary.

use std::process::ExitCode;

use clap::Parser;
use portcullis::cli;

fn main() -> ExitCode {
    cli::run(cli::args::Cli::parse())
}

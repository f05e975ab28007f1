//! The `portcullis` binary.

use std::process::ExitCode;

use clap::Parser;
use portcullis::cli;
use tikv_jemallocator::Jemalloc;

/// glibc's allocator leaves a hole of 4 KiB beside every connection through which a large answer
/// has passed, and keeps what a storm of connections took.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    cli::run(cli::args::Cli::parse())
}

//! What a run measures and for how long: by argument or by environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures Portcullis on this machine, every figure beside a baseline taken in the same run.
#[derive(Debug, Parser)]
#[command(name = "portcullis-bench", version)]
pub(crate) struct Options {
    /// Measure these parts alone (also BENCH_ONLY)
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = only_by_environment())]
    only: Vec<Part>,
    /// Seconds of one pgbench run (also BENCH_SECONDS)
    #[arg(long, default_value_t = by_environment("BENCH_SECONDS", 3))]
    seconds: u64,
    /// Rounds, in each of which everything has its turn (also BENCH_ROUNDS)
    #[arg(long, default_value_t = by_environment("BENCH_ROUNDS", 5))]
    pub(crate) rounds: usize,
    /// Idle connections to hold open (also BENCH_CONNECTIONS)
    #[arg(long, default_value_t = by_environment("BENCH_CONNECTIONS", 500))]
    pub(crate) connections: usize,
    /// What a run starts beside itself.
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// One decision.
    Decide,
    /// One changed entry, until the view is published.
    Apply,
    /// Queries through the gateway, against direct TLS and against a bare relay.
    Pgbench,
    /// Memory of idle connections.
    Idle,
}

/// What this program is when a run starts it again.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The bare relay.
    #[command(hide = true)]
    Floor(Relay),
}

/// What the bare relay needs to know.
#[derive(Debug, clap::Args)]
pub(crate) struct Relay {
    /// Where clients come.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where the server is.
    #[arg(long)]
    pub(crate) server: SocketAddr,
    /// The name that the server's certificate must bear.
    #[arg(long)]
    pub(crate) server_name: String,
    /// A file with the authorities that may have signed it, in PEM.
    #[arg(long)]
    pub(crate) authorities: PathBuf,
    /// A file with the certificate to show clients, in PEM.
    #[arg(long)]
    pub(crate) chain: PathBuf,
    /// A file with its key, in PEM.
    #[arg(long)]
    pub(crate) key: PathBuf,
}

impl Options {
    /// Whether this part is asked for.
    pub(crate) fn measures(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    /// How long one pgbench run lasts.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn by_environment<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")),
        Err(_) => otherwise,
    }
}

fn only_by_environment() -> Vec<Part> {
    let named = std::env::var("BENCH_ONLY").unwrap_or_default();
    if named.is_empty() {
        return Part::value_variants().to_vec();
    }
    let part = |name: &str| {
        Part::from_str(name, false).unwrap_or_else(|told| panic!("BENCH_ONLY: {told}"))
    };
    named.split(',').map(part).collect()
}

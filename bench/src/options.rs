//! What a run measures and for how long: by argument or by environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::ways::Way;

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
    /// Idle connections to hold open, at most 2,000 (also BENCH_CONNECTIONS)
    #[arg(long, default_value_t = by_environment("BENCH_CONNECTIONS", 2_000))]
    pub(crate) connections: usize,
    /// Megabytes of each COPY (also BENCH_COPY_MEGABYTES)
    #[arg(long, default_value_t = by_environment("BENCH_COPY_MEGABYTES", 400))]
    pub(crate) copy_megabytes: usize,
    /// Leave out the ways whose name has none of these words; direct stays (also BENCH_WAYS)
    #[arg(long, value_delimiter = ',', default_values_t = ways_by_environment())]
    ways: Vec<String>,
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
    /// Commands agreed on, withdrawals enforced among many connections, and leaders lost, by three
    /// nodes.
    Fleet,
    /// A change told to a hundred gateways.
    Subscribers,
    /// A gateway's restart with a million entries.
    Restart,
    /// The audit logs: entries that a fleet takes, verifying and proving.
    Audit,
    /// Who could reach an endpoint in the past, told from a log of a hundred thousand changes.
    Reach,
    /// Connections recorded in the audit logs, or not; what nodes saw on its way there.
    Receipts,
    /// A backlog of the audit logs into the index in PostgreSQL.
    Index,
    /// TLS handshakes at a door, ten thousand certificates there, and all of them replaced.
    Certificates,
    /// Queries every way.
    Pgbench,
    /// New connections every way.
    Connections,
    /// Many bytes, out and in.
    Copy,
    /// Memory of idle connections.
    Idle,
    /// A flood of clients that are not allowed, and honest ones meanwhile.
    Denials,
    /// Whether the timing of denials tells what their words do not.
    Timing,
}

/// What this program is when a run starts it again.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The bare relay.
    #[command(hide = true)]
    Floor(Relay),
    /// The bare end of handshakes.
    #[command(hide = true)]
    Bare(Bare),
    /// Puts the table of the last run into README.md
    Table,
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
    /// How to speak TLS to the server; without this, the server is spoken to plainly.
    #[command(flatten)]
    pub(crate) tls: Option<RelayTls>,
    /// A file with the certificate to show clients, in PEM.
    #[arg(long)]
    pub(crate) chain: PathBuf,
    /// A file with its key, in PEM.
    #[arg(long)]
    pub(crate) key: PathBuf,
}

/// What the bare end of handshakes needs to know.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {
    /// Where clients come.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// A file with the certificate to show them, in PEM.
    #[arg(long)]
    pub(crate) chain: PathBuf,
    /// A file with its key, in PEM.
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Lets them resume.
    #[arg(long)]
    pub(crate) resume: bool,
}

/// What TLS to the server takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayTls {
    /// The name that the server's certificate must bear.
    #[arg(long, required = false)]
    pub(crate) server_name: String,
    /// A file with the authorities that may have signed it, in PEM.
    #[arg(long, required = false)]
    pub(crate) authorities: PathBuf,
}

impl Options {
    /// Whether this part is asked for.
    pub(crate) fn measures(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    /// Those of these ways that are asked for.
    pub(crate) fn ways(&self, all: Vec<Way>) -> Vec<Way> {
        let named = |way: &Way| {
            let name = way.to_string();
            self.ways.iter().any(|word| name.contains(word.as_str()))
        };
        let asked = |way: &Way| self.ways.is_empty() || *way == Way::Direct || named(way);
        all.into_iter().filter(asked).collect()
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

fn ways_by_environment() -> Vec<String> {
    let named = std::env::var("BENCH_WAYS").unwrap_or_default();
    let words = named.split(',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
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

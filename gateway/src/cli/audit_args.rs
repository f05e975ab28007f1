//! What can be typed about the audit log, as clap reads it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use portcullis_policy::{Origin, Reference, TenantId, Timestamp};

use super::args::NodeArgs;
use super::keeping_args::{HoldArgs, KeepArgs, ReleaseArgs};
use super::paths::{EndpointPath, PathError};
use super::search_args::SearchArgs;
use crate::ledger::tiles::LogId;

/// Commands about the audit log. All but `trust`, `fetch`, `open`, `keep`, `hold`, `release` and `search` need its files alone, and no node.
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    /// Check logs: is everything there, as it was signed, and the same history that was signed before
    Verify(VerifyArgs),
    /// Take one entry out of a log, with all that proves it
    Prove(ProveArgs),
    /// Check a proof that `prove` wrote
    Check(CheckArgs),
    /// Cosign checkpoints of logs that only grew, for whoever asks (C2SP tlog-witness)
    Witness(WitnessArgs),
    /// Say who could reach an endpoint at a moment in the past, and under which change
    Reach(PastArgs),
    /// Write an evidence bundle for an auditor: the entries of a period, by population, with what proves them
    Export(ExportArgs),
    /// Search the index of the logs in PostgreSQL, and compare what is found with the logs
    Search(Box<SearchArgs>),
    /// Fetch logs from a node into a directory, check them, and that they go on from what is there
    Fetch(FetchArgs),
    /// Ask a node what an entry says about persons: what opens the commitments in it
    Open(OpenArgs),
    /// Show for how long the logs are kept, or set it
    Keep(KeepArgs),
    /// Keep the logs in spite of that: a legal hold
    Hold(HoldArgs),
    /// Let go of a legal hold
    Release(ReleaseArgs),
    /// Ask a node whose signatures make the logs believed; keep what it says elsewhere, and compare
    Trust(TrustArgs),
}

/// `audit trust`.
#[derive(Args, Clone, Debug)]
pub struct TrustArgs {
    /// Which node is asked.
    #[command(flatten)]
    pub node: NodeArgs,
    /// For the log of this tenant alone, as tools of others need it [default: the fleet's log and all beneath]
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
}

/// `audit export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Where the logs lie.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Whose signatures are believed, and how many are needed (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// From this moment on, like 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Timestamp,
    /// and before this one
    #[arg(long, value_name = "TIME")]
    pub to: Timestamp,
    /// Where to write the bundle; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The log of this tenant alone [default: all that lie there]
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
}

/// `audit open`.
#[derive(Args, Clone, Debug)]
pub struct OpenArgs {
    /// Which node is asked.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Which log: fleet or a tenant
    #[arg(long, value_name = "LOG")]
    pub log: LogName,
    /// The entry's index, from 0
    #[arg(long, value_name = "N")]
    pub index: u64,
}

/// `audit reach`.
#[derive(Args, Clone, Debug)]
pub struct PastArgs {
    /// Where the logs lie.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Whose signatures are believed, and how many are needed (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// The endpoint
    #[arg(long, value_name = "TENANT/ENDPOINT")]
    pub to: EndpointPath,
    /// The moment, like 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub at: Timestamp,
    /// Whether this address could
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// by this door: public, network:ID or private-link:CLOUD:ID
    #[arg(long, value_name = "DOOR", default_value = "public")]
    pub via: Origin,
    /// Print the answer as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// `audit fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Where to keep them
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Which node is asked.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Whose signatures are believed, and how many are needed (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Which log: fleet or a tenant; repeat for several [default: all that may be read]
    #[arg(long, value_name = "LOG")]
    pub log: Vec<LogName>,
}

/// Where logs lie.
#[derive(Args, Clone, Debug)]
pub struct WhereArgs {
    /// A log's directory or that of all logs, or the http:// or https:// URL of one
    #[arg(value_name = "DIR|URL")]
    pub place: PathBuf,
    /// The authority of an https server's certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `audit verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Where the logs lie.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Whose signatures are believed, and how many are needed (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// A checkpoint that was seen earlier, which the log must still begin with; repeat for several
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    pub since: Vec<PathBuf>,
    /// Where to keep two checkpoints that contradict each other [default: beside the earlier one]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print the report as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// `audit prove`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("entry").required(true).args(["index", "reference"]))]
pub struct ProveArgs {
    /// Where the log lies.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Which log, where all lie: fleet or a tenant
    #[arg(long, value_name = "LOG")]
    pub log: Option<LogName>,
    /// The entry's index, from 0
    #[arg(long, value_name = "N")]
    pub index: Option<u64>,
    /// The one event with this reference, like PC-0123-4567-89AB
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<Reference>,
    /// A node's `data/audit/batches`, for the reference of a single connection; its line goes to FILE.line
    #[arg(long, value_name = "DIR", requires = "reference", requires = "out")]
    pub batches: Option<PathBuf>,
    /// Where to write the proof, and nothing else [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print what was proved as JSON, on one line
    #[arg(long, requires = "out")]
    pub json: bool,
}

/// `audit check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The proof
    #[arg(value_name = "PROOF")]
    pub proof: PathBuf,
    /// Whose signatures are believed, and how many are needed (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// The entry, where the proof does not carry it
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
    /// The line of a single connection, as `audit prove --batches` wrote it
    #[arg(long, value_name = "FILE")]
    pub line: Option<PathBuf>,
    /// What opens commitments in the entry, as `audit open` prints it
    #[arg(long, value_name = "FILE")]
    pub openings: Option<PathBuf>,
    /// Print what is proved as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// `audit witness`.
#[derive(Args, Clone, Debug)]
pub struct WitnessArgs {
    /// Where it is asked, over HTTP
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The keys of the logs that it cosigns (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// The directory of what it must not forget; made at the first start
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Its private key; made at the first start
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Its name, as a name for the whole world: witness.example/w1
    #[arg(long, value_name = "NAME")]
    pub name: String,
}

/// `fleet`, `tenants/TENANT`, or a tenant's name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName(pub LogId);

impl FromStr for LogName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        match (text.parse(), TenantId::parse(text)) {
            (Ok(log), _) => Ok(Self(log)),
            (Err(_), Ok(tenant)) => Ok(Self(LogId::Tenant(tenant))),
            (Err(problem), Err(_)) => Err(PathError::Name(problem)),
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

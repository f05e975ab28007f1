//! What can be typed about operators and about what needs two people, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use portcullis_policy::TenantId;

use super::args::NodeArgs;

/// Commands about operators.
#[derive(Subcommand, Clone, Debug)]
pub enum OperatorCommand {
    /// Make an operator, change what one may do, or give one a new certificate
    Add(OperatorAddArgs),
    /// List the operators and their roles
    List(OperatorListArgs),
    /// Remove an operator: the next request under that name is refused
    Remove(OperatorRemoveArgs),
}

/// `operator add`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("certificate").args(["request", "out"]))]
pub struct OperatorAddArgs {
    /// The operator's name, a label
    #[arg(value_name = "NAME")]
    pub name: String,
    /// fleet-operator, policy-author, tenant-operator, auditor, reader
    #[arg(long, value_name = "ROLE", value_delimiter = ',', required = true)]
    pub roles: Vec<String>,
    /// The tenants whose allow lists a tenant-operator may change
    #[arg(long, value_name = "TENANT", value_delimiter = ',')]
    pub tenants: Vec<TenantId>,
    /// Print a certificate for this PKCS#10 request (PEM), whose key stays with whoever made it
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Make a key in this directory, which never leaves it, and put the certificate beside it
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `operator list`.
#[derive(Args, Clone, Debug)]
pub struct OperatorListArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `operator remove`.
#[derive(Args, Clone, Debug)]
pub struct OperatorRemoveArgs {
    /// The operator's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `pending`.
#[derive(Args, Clone, Debug)]
pub struct PendingArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `approve`.
#[derive(Args, Clone, Debug)]
pub struct ApproveArgs {
    /// The change, as `portcullis pending` lists it
    #[arg(value_name = "ID")]
    pub id: u64,
    /// The digest of what was looked at, as `portcullis pending` shows it
    #[arg(long, value_name = "DIGEST")]
    pub digest: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `reject`.
#[derive(Args, Clone, Debug)]
pub struct RejectArgs {
    /// The change, as `portcullis pending` lists it
    #[arg(value_name = "ID")]
    pub id: u64,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Commands about the guard rails.
#[derive(Subcommand, Clone, Debug)]
pub enum GuardRailsCommand {
    /// Show what needs two people
    Show(GuardRailsShowArgs),
    /// Say what needs two people from now on; what is not named stays as it is
    Set(GuardRailsSetArgs),
}

/// `guard-rails show`.
#[derive(Args, Clone, Debug)]
pub struct GuardRailsShowArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `guard-rails set`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("rails").required(true).multiple(true).args(["anywhere", "operators", "guard_rails"]))]
pub struct GuardRailsSetArgs {
    /// An entry for everyone that was not in force before
    #[arg(long, value_name = "PEOPLE")]
    pub anywhere: Option<People>,
    /// A change of operators
    #[arg(long, value_name = "PEOPLE")]
    pub operators: Option<People>,
    /// A change of the guard rails
    #[arg(long, value_name = "PEOPLE")]
    pub guard_rails: Option<People>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// How many people it takes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    /// Whoever may do it at all
    One,
    /// A second person must approve
    Two,
}

/// `policy put`.
#[derive(Args, Clone, Debug)]
pub struct PolicyPutArgs {
    /// The tenant
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// Its file, as in a policy directory; it refers to no other file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The revision at which its document last changed, as `policy show --json` says [default: as it is now]
    #[arg(long, value_name = "REVISION")]
    pub expected: Option<u64>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

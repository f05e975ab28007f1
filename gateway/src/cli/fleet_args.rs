//! What can be typed about the fleet, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::NodeArgs;

/// Commands about the fleet.
#[derive(Subcommand, Clone, Debug)]
pub enum FleetCommand {
    /// Show every node: role, revision in force, how long ago it was heard, who leads
    Status(FleetStatusArgs),
    /// Print a one-time token with which one node may join
    Invite(InviteArgs),
    /// Take a node out of the fleet for good; its id and its certificate never work again
    Remove(RemoveArgs),
    /// Let another control node lead, as before a restart
    StepDown(StepDownArgs),
}

/// `init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The configuration of the fleet's first node, which must not be running
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where to write the recovery key: keep it off this machine, it can begin a new epoch
    #[arg(long, value_name = "FILE")]
    pub recovery_key: PathBuf,
    /// An entry for everyone, a change of operators and one of the guard rails need two people
    #[arg(long)]
    pub two_people: bool,
}

/// `join`.
#[derive(Args, Clone, Debug)]
pub struct JoinArgs {
    /// The configuration of the node that joins, which must not be running
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The file with the token of `portcullis fleet invite`; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
}

/// `fleet status`.
#[derive(Args, Clone, Debug)]
pub struct FleetStatusArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `fleet invite`.
#[derive(Args, Clone, Debug)]
pub struct InviteArgs {
    /// The name under which the node joins, as in its node.toml
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its roles, as in its node.toml
    #[arg(long, value_name = "ROLE", value_delimiter = ',', default_values = ["control", "gateway"])]
    pub roles: Vec<String>,
    /// Minutes for which the token is good
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub minutes: u32,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `fleet remove`.
#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// The node's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `fleet step-down`.
#[derive(Args, Clone, Debug)]
pub struct StepDownArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The file to write; it is readable by its owner alone
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The configuration of the node that becomes the first of the restored fleet; it must not be running
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The new fleet's recovery key: that of the old fleet may serve again; if none is there, one is written
    #[arg(long, value_name = "FILE")]
    pub recovery_key: PathBuf,
    /// The back-up
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `recover`.
#[derive(Args, Clone, Debug)]
pub struct RecoverArgs {
    /// The configuration of the node that survived; it must not be running
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The recovery key that `init` wrote
    #[arg(long, value_name = "FILE")]
    pub recovery_key: PathBuf,
}

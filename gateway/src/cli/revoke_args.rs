//! What can be typed about certificates that no longer count, as clap reads it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use portcullis_policy::{Serial, TenantId};

use super::args::NodeArgs;

/// `revoke`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("which").required(true).args(["serial", "certificate"])))]
pub struct RevokeArgs {
    /// The certificate's serial number in hexadecimal, as `openssl x509 -noout -serial` prints it
    #[arg(value_name = "SERIAL")]
    pub serial: Option<Serial>,
    /// A file with the certificate: its serial number and its end are read from it
    #[arg(long, value_name = "FILE.pem")]
    pub certificate: Option<PathBuf>,
    /// The tenant whose authority issued it
    #[arg(long, value_name = "TENANT")]
    pub tenant: TenantId,
    /// Why, in one line
    #[arg(long, value_name = "TEXT", required_unless_present = "take_back")]
    pub why: Option<String>,
    /// It was a mistake: the certificate counts again
    #[arg(long, conflicts_with = "why")]
    pub take_back: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `revocations`.
#[derive(Args, Clone, Debug)]
pub struct RevocationsArgs {
    /// Of this tenant alone [default: all that you may know of]
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

//! What can be typed behind `selftest`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::cli::paths::PathError;

/// Tests from outside.
#[derive(Subcommand, Clone, Debug)]
pub enum SelftestCommand {
    /// Attack it, harmlessly, as a stranger would, and report what was not refused as it must be
    Attack(AttackArgs),
}

/// `selftest attack`.
#[derive(Args, Clone, Debug)]
pub struct AttackArgs {
    /// The gateway's listener
    #[arg(long, value_name = "HOST:PORT")]
    pub against: Option<Target>,
    /// The name of an endpoint that exists; repeat for several. The first is the name by which the gateway's certificate is verified [default: HOST]
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// The authority of the gateway's certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Only this attack; repeat for several
    #[arg(long, value_name = "ATTACK")]
    pub only: Vec<String>,
    /// Name the attacks, and make none
    #[arg(long)]
    pub list: bool,
    /// Print the report as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for Target {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let wrong = || PathError::Shape("HOST:PORT, like db.example.net:5433");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

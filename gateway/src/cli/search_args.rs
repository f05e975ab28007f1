//! What can be typed about searching the index of the audit logs, as clap reads it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use portcullis_audit::moment;
use portcullis_policy::{TenantId, Timestamp};
use serde_json::Value;

use super::audit_args::LogName;
use crate::config::index::{IndexUrl, SchemaName};
use crate::database::index::After;
use crate::database::index::limits::{INDEX_CONTAINS_BYTES, INDEX_SEARCH_ENTRIES};

/// `audit search`.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// Which index is asked.
    #[command(flatten)]
    pub index: IndexArgs,
    /// Only entries of this log: fleet or a tenant
    #[arg(long, value_name = "LOG")]
    pub log: Option<LogName>,
    /// Only entries of this kind, like policy.applied
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only entries about this tenant
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Only what this one did
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
    /// Only what happened then or later, like 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Only what happened earlier
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
    /// Only entries that contain this, like '{"origin":"public"}'
    #[arg(long, value_name = "JSON")]
    pub contains: Option<Contains>,
    /// How many entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(INDEX_SEARCH_ENTRIES)))]
    pub limit: u32,
    /// Go on behind the last entry of the search before, which said this
    #[arg(long, value_name = "MOMENT,LOG,INDEX")]
    pub after: Option<After>,
    /// Compare each entry with the log itself, in a directory of all logs or behind its URL
    #[arg(long, value_name = "DIR|URL")]
    pub check: Option<PathBuf>,
    /// The authority of that https server's certificate [default: the system's]
    #[arg(long, value_name = "FILE", requires = "check")]
    pub check_ca: Option<PathBuf>,
    /// Whose signatures make those logs believed (C2SP tlog-policy) [default: nobody's are looked at]
    #[arg(long, value_name = "FILE", requires = "check")]
    pub trust: Option<PathBuf>,
    /// Print the answer as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// Which index.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("place").required(true).args(["index_url", "config"]))]
pub struct IndexArgs {
    /// The database, and as whom: postgresql://ROLE@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL")]
    pub index_url: Option<IndexUrl>,
    /// The node.toml whose [audit.index] is asked
    #[arg(long, value_name = "FILE", conflicts_with_all = ["index_ca", "password_file", "schema"])]
    pub config: Option<PathBuf>,
    /// The authorities of the database's certificate; needed unless it is on this machine
    #[arg(long, value_name = "FILE")]
    pub index_ca: Option<PathBuf>,
    /// A file with the role's password, of mode 0600
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The index's schema [default: portcullis_audit]
    #[arg(long, value_name = "NAME")]
    pub schema: Option<SchemaName>,
}

/// A moment, to the second or the millisecond: Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub i64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at_ms) = moment::from_text(text) {
            return Ok(Self(at_ms));
        }
        let at: Timestamp = text
            .parse()
            .map_err(|error: portcullis_policy::TimestampError| error.to_string())?;
        Ok(Self(at.as_millis()))
    }
}

/// JSON that entries contain.
#[derive(Clone, Debug, PartialEq)]
pub struct Contains(pub Value);

impl FromStr for Contains {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > INDEX_CONTAINS_BYTES {
            return Err(format!("it is longer than {INDEX_CONTAINS_BYTES} bytes"));
        }
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match json.is_object() {
            true => Ok(Self(json)),
            false => Err("an entry is an object: write {\"name\": value}".to_owned()),
        }
    }
}

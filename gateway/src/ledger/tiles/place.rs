//! Where logs lie, and nothing else: a path that names no file of a log cannot be said.

use std::fmt;
use std::str::FromStr;

use portcullis_audit::tlog::Tile;
use portcullis_policy::TenantId;

/// One of the logs: its folder beneath that of all logs, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogId {
    /// What belongs to no tenant, and the heads of all other logs: `fleet`.
    Fleet,
    /// What belongs to one tenant: `tenants/TENANT`.
    Tenant(TenantId),
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str(FLEET),
            Self::Tenant(tenant) => write!(f, "{TENANTS}/{tenant}"),
        }
    }
}

impl FromStr for LogId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == FLEET {
            return Ok(Self::Fleet);
        }
        let tenant = text.strip_prefix(TENANTS);
        let tenant = tenant.and_then(|rest| rest.strip_prefix('/'));
        let tenant = tenant.ok_or_else(|| format!("write {FLEET} or {TENANTS}/TENANT"))?;
        TenantId::parse(tenant)
            .map(Self::Tenant)
            .map_err(|error| error.to_string())
    }
}

const FLEET: &str = "fleet";

/// The folder of the tenants' logs.
pub(crate) const TENANTS: &str = "tenants";

/// One file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogFile {
    /// The last signed head.
    Checkpoint,
    /// The last one that witnesses cosigned, too; it may be older.
    Witnessed,
    /// From where on all entries are there ([`super::KeptFrom`]); no such file: from the first.
    KeptFrom,
    /// A tile of hashes or a bundle of entries.
    Tile(Tile),
}

impl LogFile {
    /// Reads a path relative to the log, in the one spelling that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            CHECKPOINT => Some(Self::Checkpoint),
            WITNESSED => Some(Self::Witnessed),
            KEPT_FROM => Some(Self::KeptFrom),
            path => Tile::parse(path).map(Self::Tile),
        }
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str(CHECKPOINT),
            Self::Witnessed => f.write_str(WITNESSED),
            Self::KeptFrom => f.write_str(KEPT_FROM),
            Self::Tile(tile) => f.write_str(&tile.path()),
        }
    }
}

pub(crate) const CHECKPOINT: &str = "checkpoint";

pub(crate) const WITNESSED: &str = "checkpoint.witnessed";

pub(crate) const KEPT_FROM: &str = "kept-from";

/// Reads a path relative to the folder of all logs, like `tenants/acme/tile/0/000`.
#[must_use]
pub fn parse_path(path: &str) -> Option<(LogId, LogFile)> {
    let end = match path.strip_prefix(TENANTS) {
        Some(rest) => {
            let tenant = rest.strip_prefix('/')?;
            TENANTS.len() + 1 + tenant.find('/')?
        }
        None => path.find('/')?,
    };
    let (log, file) = path.split_at_checked(end)?;
    let log = log.parse().ok()?;
    Some((log, LogFile::parse(file.strip_prefix('/')?)?))
}

//! Proposed writes, their refusals, and a state as plain data.

use crate::document::DocumentError;
use crate::id::{NetworkId, Revision, TenantId};
use crate::origin::PrivateLinkId;
use crate::server_name::ServerName;
use crate::tenant::{Tenant, Via};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A proposed write. Executed whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Command {
    /// Put these documents in the place of what their tenants had, and remove those tenants. Tenants that are not named
    /// stay as they are.
    Apply {
        /// The revision that the author looked at; refused when it is no longer the current one. `None`: whatever it is.
        base: Option<Revision>,
        /// Whole documents, one for a tenant.
        put: Vec<Tenant>,
        /// Tenants to remove with all that they own.
        remove: Vec<TenantId>,
        /// Who proposes it: for the record.
        author: String,
    },
}

/// A state as plain data: to be written down, sent and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snapshot {
    /// The revision at which it holds.
    pub revision: Revision,
    /// Every tenant's document, by id.
    pub tenants: Vec<Tenant>,
}

/// Why a command was refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The author looked at a state that has since changed.
    StaleBase {
        /// The revision that the author looked at.
        base: Revision,
        /// The current one.
        current: Revision,
    },
    /// A document does not hold together.
    Document {
        /// The document's tenant.
        tenant: TenantId,
        /// Where and why.
        error: DocumentError,
    },
    /// A network belongs to one tenant.
    NetworkClaimed {
        /// The network.
        network: NetworkId,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A private link belongs to one tenant.
    PrivateLinkClaimed {
        /// The private link.
        private_link: PrivateLinkId,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A network namespace or interface is the way into one tenant's VPC.
    PlaceClaimed {
        /// The place.
        place: Via,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// A server name leads to one endpoint.
    ServerNameClaimed {
        /// The name.
        name: ServerName,
        /// Whose it is.
        owner: TenantId,
        /// Who claims it too.
        claimant: TenantId,
    },
    /// The allow lists of all tenants together would be too long.
    FleetLimit {
        /// How many entries and excepts there would be.
        entries: usize,
        /// How many there may be.
        maximum: usize,
    },
    /// The command names a tenant twice.
    NamedTwice(TenantId),
    /// The command removes a tenant that is not there.
    NoSuchTenant(TenantId),
    /// The author's name is too long or not one line of plain text.
    Author,
}

impl Rejection {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::StaleBase { .. } => "stale_base",
            Self::Document { .. } => "document",
            Self::NetworkClaimed { .. } => "network_claimed",
            Self::PrivateLinkClaimed { .. } => "private_link_claimed",
            Self::PlaceClaimed { .. } => "place_claimed",
            Self::ServerNameClaimed { .. } => "server_name_claimed",
            Self::FleetLimit { .. } => "fleet_limit",
            Self::NamedTwice(_) => "named_twice",
            Self::NoSuchTenant(_) => "no_such_tenant",
            Self::Author => "author",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleBase { base, current } => write!(
                f,
                "this was made against revision {base}, but revision {current} is in force; plan again"
            ),
            Self::Document { tenant, .. } => {
                write!(f, "the document of tenant {tenant} is refused")
            }
            Self::NetworkClaimed {
                network,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims network {network}, which belongs to tenant {owner}"
            ),
            Self::PrivateLinkClaimed {
                private_link,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims private link {private_link}, which belongs to tenant {owner}"
            ),
            Self::PlaceClaimed {
                place,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} has a cluster in {place}, which belongs to tenant {owner}"
            ),
            Self::ServerNameClaimed {
                name,
                owner,
                claimant,
            } => write!(
                f,
                "tenant {claimant} claims the name {name}, which belongs to tenant {owner}"
            ),
            Self::FleetLimit { entries, maximum } => write!(
                f,
                "all tenants together would have {entries} entries and excepts; {maximum} is the limit"
            ),
            Self::NamedTwice(tenant) => write!(f, "the command names tenant {tenant} twice"),
            Self::NoSuchTenant(tenant) => write!(f, "there is no tenant {tenant} to remove"),
            Self::Author => f.write_str("the author is not one short line of plain text"),
        }
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Document { error, .. } => Some(error),
            Self::StaleBase { .. }
            | Self::NetworkClaimed { .. }
            | Self::PrivateLinkClaimed { .. }
            | Self::PlaceClaimed { .. }
            | Self::ServerNameClaimed { .. }
            | Self::FleetLimit { .. }
            | Self::NamedTwice(_)
            | Self::NoSuchTenant(_)
            | Self::Author => None,
        }
    }
}

//! The certificates of one run: an authority for each purpose, whose keys are never written.

use portcullis_certs::authority::{Authority, AuthorityError, Issued, LeafRequest, Purpose};
use portcullis_certs::{Validity, generate_key};

use super::tenants::{DATABASE_SERVER, Tenant, ZONE};
use crate::runtime::clock;

/// Everybody's certificates and what each must trust.
#[derive(Debug)]
pub(super) struct Identities {
    /// What clients trust, PEM.
    pub(super) server_authority: String,
    /// The gateway's towards clients: `*.ZONE`.
    pub(super) server: Issued,
    /// What the gateway trusts at the database server, PEM.
    pub(super) database_authority: String,
    /// The database server's.
    pub(super) database: Issued,
    /// What the database server trusts, PEM.
    pub(super) database_client_authority: String,
    /// The gateway's towards each tenant's databases, in the order of the tenants.
    pub(super) database_clients: Vec<Issued>,
}

impl Identities {
    /// Draws all keys and issues all certificates.
    pub(super) fn draw(tenants: &[Tenant]) -> Result<Self, AuthorityError> {
        let now = clock::unix_seconds();
        let validity = Validity {
            not_before: now - CLOCK_SKEW_SECONDS,
            not_after: now + LIFETIME_SECONDS,
        };
        let authority = |purpose: &str| {
            Authority::new(
                &format!("Portcullis dev {purpose}"),
                generate_key()?,
                validity,
            )
        };
        let issue = |authority: &Authority, common_name: &str, purpose: Purpose| {
            let dns = match purpose {
                Purpose::Server => vec![common_name.to_owned()],
                Purpose::Client => Vec::new(),
            };
            let common_name = common_name.to_owned();
            let leaf = LeafRequest {
                common_name,
                dns,
                uris: Vec::new(),
                ips: Vec::new(),
                purpose,
                validity,
            };
            authority.issue(&leaf, &generate_key()?)
        };
        let servers = authority("endpoints")?;
        let databases = authority("databases")?;
        let database_clients = authority("database clients")?;
        let to_databases = tenants
            .iter()
            .map(|tenant| issue(&database_clients, &tenant.gateway_name(), Purpose::Client));
        Ok(Self {
            server_authority: servers.authority_pem().to_owned(),
            server: issue(&servers, &format!("*.{ZONE}"), Purpose::Server)?,
            database_authority: databases.authority_pem().to_owned(),
            database: issue(&databases, DATABASE_SERVER, Purpose::Server)?,
            database_client_authority: database_clients.authority_pem().to_owned(),
            database_clients: to_databases.collect::<Result<_, _>>()?,
        })
    }
}

const CLOCK_SKEW_SECONDS: i64 = 3_600;
/// Thirty days: longer than anybody leaves a throw-away database running.
const LIFETIME_SECONDS: i64 = 30 * 86_400;

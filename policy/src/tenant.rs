//! One tenant's policy as a document: what people write, with every word spelled out.
//!
//! Absent: anything that reads files, and any `Default` that could let somebody in. Shapes are checked when a value is made
//! (ids, prefixes, names) or when the document is read (unknown and repeated fields are refused); how the parts fit together
//! is [`Tenant::validate`]. Serialized with the same words as policy files, in kebab-case; the formats on disk depend on the
//! order of fields and variants, so these are only ever added to at the end.

use crate::id::{ClusterId, EndpointId, NetworkId, TenantId};
use crate::network::{Prefix, PrefixError};
use crate::origin::{Origin, PrivateLinkId};
use crate::server_name::ServerName;
use crate::tenant_limits::TenantLimits;
use crate::text::{serde_as_text, unique};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// A customer organisation and all that it owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tenant {
    /// Its id; in a directory of policy files, the name of its file.
    pub id: TenantId,
    /// While true, nobody reaches any of its endpoints.
    pub suspended: bool,
    /// Its database deployments.
    #[serde(deserialize_with = "unique::map")]
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Its VPCs. A network belongs to one tenant of the fleet.
    #[serde(deserialize_with = "unique::set")]
    pub networks: BTreeSet<NetworkId>,
    /// Its private links. A private link belongs to one tenant of the fleet.
    #[serde(deserialize_with = "unique::set")]
    pub private_links: BTreeSet<PrivateLinkId>,
    /// What clients connect to.
    #[serde(deserialize_with = "unique::map")]
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// What it may use at once, and how old the policy may be that it is served from.
    pub limits: TenantLimits,
}

impl Tenant {
    /// A tenant that owns nothing yet.
    #[must_use]
    pub fn new(id: TenantId) -> Self {
        Self {
            id,
            suspended: false,
            clusters: BTreeMap::new(),
            networks: BTreeSet::new(),
            private_links: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            limits: TenantLimits::none_said(),
        }
    }

    /// How much its allow lists weigh against the limits: an `except` weighs as much as an entry.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.endpoints.values().map(Endpoint::weight).sum()
    }
}

/// A database deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// What runs there.
    pub engine: Engine,
    /// Where: 1 to 16 addresses, tried in order.
    pub backends: Vec<Backend>,
    /// How the connection to it is protected.
    pub tls: UpstreamTls,
    /// The tenant's network in which the backends' addresses mean something; `None` is the node's own.
    pub via: Option<Via>,
    /// The role by which verifiers are read and queries cancelled.
    pub service: Option<Service>,
}

/// A database engine that speaks the PostgreSQL protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// PostgreSQL.
    Postgresql,
    /// YugabyteDB (YSQL).
    Yugabytedb,
}

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backend {
    /// A host name or a bare IP address.
    pub host: String,
    /// A TCP port, not 0.
    pub port: u16,
}

/// `db.example.net:5432`, `[2001:db8::1]:5432`.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The protection of the way to a cluster. There is no middle: a certificate is verified, name and all, or the document says
/// in words that nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum UpstreamTls {
    /// TLS, the certificate verified against these authorities and this name.
    #[serde(rename_all = "kebab-case")]
    Verified {
        /// The name that the certificate must bear.
        server_name: String,
        /// The authorities that may have signed it, in PEM.
        authorities: String,
    },
    /// No TLS: whoever is on the way reads and writes along.
    #[serde(rename = "unencrypted-and-unverified")]
    Unencrypted,
}

/// Where sockets towards a cluster are made, so that two tenants' databases may have the same address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// In the Linux network namespace of this name.
    NetworkNamespace(String),
    /// Bound to the network interface of this name.
    Interface(String),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkNamespace(name) => write!(f, "network namespace {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// The service role of a cluster and the database it signs in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Service {
    /// The role's name.
    pub role: String,
    /// The database's name.
    pub database: String,
}

/// What a client connects to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Endpoint {
    /// The cluster behind it: one of the same tenant.
    pub cluster: ClusterId,
    /// The names by which clients ask for it: 1 to 16, each unique in the fleet.
    pub names: Vec<ServerName>,
    /// While true, nobody reaches it.
    pub suspended: bool,
    /// Whether replication connections may pass.
    pub replication: Replication,
    /// How clients prove who they are.
    pub authentication: Authentication,
    /// Its VPC boundary: the doors it has at all.
    #[serde(deserialize_with = "unique::set")]
    pub doors: BTreeSet<Origin>,
    /// Who may come, and through which door. Empty means nobody.
    pub allow: Vec<Entry>,
}

impl Endpoint {
    pub(crate) fn weight(&self) -> usize {
        self.allow.iter().map(|entry| 1 + entry.except.len()).sum()
    }
}

/// Whether replication connections may pass an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// They are denied.
    Refused,
    /// They are decided like any other.
    Allowed,
}

/// One line of an allow list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// The addresses. Written `prefix`.
    #[serde(rename = "prefix")]
    pub addresses: Addresses,
    /// The door through which they may come.
    pub origin: Origin,
    /// What is not meant, inside the addresses.
    pub except: Vec<Prefix>,
    /// Why the entry is there.
    pub note: String,
    /// Whom to ask about it.
    pub owner: String,
    /// From this moment on it no longer holds.
    pub expires: Option<Timestamp>,
}

impl Entry {
    /// An entry without exceptions, words or end.
    #[must_use]
    pub const fn new(addresses: Addresses, origin: Origin) -> Self {
        Self {
            addresses,
            origin,
            except: Vec::new(),
            note: String::new(),
            owner: String::new(),
            expires: None,
        }
    }
}

/// `203.0.113.0/24 via public except 203.0.113.9/32 until 2027-01-01T00:00:00Z`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_EXCEPTS_SHOWN: usize = 4;
        write!(f, "{} via {}", self.addresses, self.origin)?;
        for (position, except) in self.except.iter().take(MAX_EXCEPTS_SHOWN).enumerate() {
            f.write_str(if position == 0 { " except " } else { ", " })?;
            except.fmt(f)?;
        }
        if self.except.len() > MAX_EXCEPTS_SHOWN {
            write!(f, " and {} more", self.except.len() - MAX_EXCEPTS_SHOWN)?;
        }
        match self.expires {
            Some(moment) => write!(f, " until {moment}"),
            None => Ok(()),
        }
    }
}

/// The addresses of an entry. Text: a prefix, or the word `anywhere`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// One block.
    Prefix(Prefix),
    /// Every address of both families. A person has to write the word.
    Anywhere,
}

impl FromStr for Addresses {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text {
            "anywhere" => Ok(Self::Anywhere),
            _ => Prefix::parse(text).map(Self::Prefix),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Anywhere => f.write_str("anywhere"),
        }
    }
}

serde_as_text!(
    Addresses,
    "a prefix such as 203.0.113.0/24, or the word anywhere"
);

/// How the clients of an endpoint prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Authentication {
    /// SCRAM-SHA-256, ended here against the database's own verifier.
    Scram,
    /// The database itself asks.
    Relay,
    /// A client certificate that maps to a role.
    Certificate {
        /// The authorities that may have signed it, in PEM.
        authorities: String,
        /// Which name signs in as which role.
        map: Vec<CertificateRule>,
    },
    /// A JWT in the place of the password.
    Token {
        /// What `iss` must say.
        issuer: String,
        /// What `aud` must contain.
        audience: String,
        /// The issuer's keys.
        keys: TokenKeys,
        /// The claim whose values map to roles.
        claim: String,
        /// Which value signs in as which role.
        map: Vec<TokenRule>,
    },
}

/// A certificate that bears `name` may sign in as `role`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CertificateRule {
    /// `uri:…`, `dns:…`, `email:…` or `cn:…`, compared whole.
    pub name: String,
    /// A role of the database.
    pub role: String,
}

/// A token whose claim has `value` may sign in as `role`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenRule {
    /// Compared whole.
    pub value: String,
    /// A role of the database.
    pub role: String,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKeys {
    /// A JSON Web Key Set (RFC 7517 §5), here.
    Inline(String),
    /// The same, at an `https://` address.
    Url(String),
}

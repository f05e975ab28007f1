//! Every named maximum of the law, in one visible place.
//!
//! The first group bounds what a document may say; the second is what a tenant gets that says nothing about it.

/// Entries in all the allow lists of one tenant. An `except` weighs as much as an entry.
pub const MAX_ENTRIES_PER_TENANT: usize = 10_000;
/// Entries in the whole fleet, counted in the same way.
pub const MAX_ENTRIES_IN_FLEET: usize = 1_000_000;
/// Clusters of one tenant.
pub const MAX_CLUSTERS: usize = 1_000;
/// Endpoints of one tenant.
pub const MAX_ENDPOINTS: usize = 1_000;
/// Networks, and likewise private links, of one tenant.
pub const MAX_ATTACHMENTS: usize = 1_000;
/// Doors of one endpoint.
pub const MAX_DOORS: usize = 256;
/// Server names of one endpoint.
pub const MAX_NAMES: usize = 16;
/// Backend addresses of one cluster.
pub const MAX_BACKENDS: usize = 16;
/// Rules that map certificate names or token values to roles, at one endpoint.
pub const MAX_RULES: usize = 1_000;
/// Bytes of an entry's note or owner, of a command's author, of an issuer, audience, claim or key address.
pub const MAX_WORDS: usize = 512;
/// Bytes of a role or database name (PostgreSQL's `NAMEDATALEN` − 1).
pub const MAX_ROLE: usize = 63;
/// Bytes of a host name (RFC 1035 §2.3.4, without the trailing dot).
pub const MAX_HOST: usize = 253;
/// Bytes of a PEM bundle or a JSON Web Key Set in a document.
pub const MAX_BUNDLE: usize = 256 * 1024;
/// Bytes of an interface name (Linux `IFNAMSIZ` − 1).
pub const MAX_INTERFACE: usize = 15;
/// Bytes of a network namespace's name.
pub const MAX_NETWORK_NAMESPACE: usize = 64;

/// Live connections of a tenant that names no limit.
pub const DEFAULT_TENANT_CONNECTIONS: u32 = 2_000;
/// Live connections to one endpoint of a tenant that names no limit.
pub const DEFAULT_ENDPOINT_CONNECTIONS: u32 = 1_000;
/// New connections per second of a tenant that names no limit.
pub const DEFAULT_NEW_CONNECTIONS_PER_SECOND: u32 = 500;

//! Every named maximum of the law, in one visible place.
//!
//! The first group bounds what a document may say; the second is what a tenant gets that says nothing about it; the third
//! bounds what the state keeps about the fleet and its people.

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
/// Seconds after which a tenant's new clients are refused by a policy that nobody confirms, where it wants that and does not
/// say when.
pub const DEFAULT_REFUSED_AFTER: u32 = 30;
/// The fewest that it can say: as long as a node's lease, below which a hiccup would refuse them.
pub const MIN_REFUSED_AFTER: u32 = 10;
/// The most that it can say: a node serves nobody for longer.
pub const MAX_REFUSED_AFTER: u32 = 24 * 60 * 60;

/// Nodes of a fleet.
pub const MAX_NODES: usize = 1_024;
/// Ids of removed nodes that are remembered, so that a repeated removal is known as one.
pub const MAX_REMOVED_NODES: usize = 4_096;
/// Bytes of a node's address: a host name, a colon and a port.
pub const MAX_NODE_ADDRESS: usize = MAX_HOST + 8;
/// Join tokens that are out, or used and remembered.
pub const MAX_INVITATIONS: usize = 256;
/// How long a join token may hold: 7 days, in milliseconds.
pub const MAX_INVITATION_LIFE_MS: i64 = 7 * 24 * 3_600_000;
/// Requests whose outcome is remembered.
pub const MAX_REQUESTS: usize = 4_096;
/// Bytes of one piece of a staged command.
pub const MAX_PIECE: usize = 64 * 1024;
/// Pieces of one staged command.
pub const MAX_PIECES: u32 = 2_048;
/// Commands that are being staged at once.
pub const MAX_STAGES: usize = 8;
/// Bytes of all staged pieces together.
pub const MAX_STAGED_BYTES: usize = 192 * 1024 * 1024;
/// After this long without a further piece a staged command makes room for another: 10 minutes, in milliseconds.
pub const STAGE_IDLE_MS: i64 = 10 * 60_000;
/// Operators.
pub const MAX_OPERATORS: usize = 1_024;
/// Roles of one operator.
pub const MAX_ROLES: usize = 16;
/// Tenants that one role of an operator names.
pub const MAX_TENANTS_OF_ROLE: usize = 1_000;
/// Bytes of an authority's certificate (DER).
pub const MAX_AUTHORITY_CERTIFICATE: usize = 4_096;
/// Bytes of why a node cannot do what the exchange of an authority asks.
pub const MAX_AUTHORITY_PROBLEM: usize = 512;
/// Changes that wait for a second person.
pub const MAX_PENDING: usize = 64;
/// Bytes of all changes together that wait for a second person.
pub const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;
/// How long a change waits for a second person: 24 hours, in milliseconds.
pub const PENDING_LIFE_MS: i64 = 24 * 3_600_000;
/// Successions of voters that are kept for gateways that were away.
pub const MAX_SUCCESSIONS: usize = 256;
/// Audit events of one record.
pub const MAX_RECORDED: usize = 256;
/// Seconds for which audit logs are kept at most, if not for ever: 100 years.
pub const MAX_KEPT_SECONDS: u64 = 36_525 * 24 * 60 * 60;
/// Legal holds at once.
pub const MAX_HOLDS: usize = 256;
/// Bytes of a legal hold's reason.
pub const MAX_HOLD_REASON: usize = 1_024;
/// Certificates of one tenant's clients that are revoked at once.
pub const MAX_REVOCATIONS: usize = 1_000;
/// Bytes of the reason for which a certificate was revoked.
pub const MAX_REVOKED_REASON: usize = 256;
/// Bytes of a certificate's serial number (RFC 5280 §4.1.2.2).
pub const MAX_SERIAL: usize = 20;
/// Bytes of one recorded audit event: what `portcullis_audit` writes at most.
pub const MAX_RECORDED_EVENT: usize = 60 * 1024;
/// Bytes of one record's audit events together: with its author and their lengths it is one message of the log (64 KiB).
pub const MAX_RECORD_BYTES: usize = 62 * 1024;
/// Bytes of a signed statement that the state keeps.
pub const MAX_STATEMENT: usize = 8 * 1024;

//! Every maximum that a stranger can run into, in one visible place. All sizes are bytes unless said otherwise.

/// Startup packet, its own length field included (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_PACKET: usize = 10_000;
/// Startup packet: length, version and the terminator.
pub const MIN_STARTUP_PACKET: usize = 9;
/// Parameters in one startup packet, `user` and `_pq_.` options included (a count).
pub const MAX_STARTUP_PARAMETERS: usize = 64;
/// Role names, database names and parameter names. PostgreSQL cuts names at this length (`NAMEDATALEN` - 1); we refuse
/// longer ones, because two names must not become one on the way.
pub const MAX_NAME: usize = 63;
/// Value of one startup parameter.
pub const MAX_VALUE: usize = 1024;

/// Body of a SASL message of a client.
pub const MAX_SASL_MESSAGE: usize = 2048;
/// Body of a password message that may carry a token (JWT as password).
pub const MAX_TOKEN_MESSAGE: usize = 16 * 1024;
/// Name of one SASL mechanism (RFC 4422 section 3.1).
pub const MAX_SASL_MECHANISM: usize = 20;
/// SASL mechanisms that a server may offer (a count).
pub const MAX_SASL_MECHANISMS: usize = 16;

/// Secret of a cancel key in protocol 3.2.
pub const MAX_CANCEL_KEY: usize = 256;
/// Secret of a cancel key: what protocol 3.0 always has.
pub const MIN_CANCEL_KEY: usize = 4;

/// Body of one message that a server sends before the session is ready.
pub const MAX_BACKEND_STARTUP_MESSAGE: usize = 64 * 1024;
/// Protocol options in one NegotiateProtocolVersion (a count).
pub const MAX_NEGOTIATED_OPTIONS: usize = MAX_STARTUP_PARAMETERS;
/// One field of an ErrorResponse or NoticeResponse, as kept or as sent; longer text is cut at a character.
pub const MAX_ERROR_FIELD: usize = 1024;
/// Fields of an ErrorResponse or NoticeResponse that are looked at (a count).
pub const MAX_ERROR_FIELDS: usize = 64;
/// Body of any message of an established session (PostgreSQL's own limit is just below).
pub const MAX_MESSAGE: usize = 1 << 30;

/// PROXY protocol v2 header, signature and addresses included. The format itself allows 65,551.
pub const MAX_PROXY_HEADER: usize = 1024;
/// A private link's id of AWS, in characters.
pub const MAX_AWS_LINK: usize = 64;
/// PP2_TYPE_UNIQUE_ID (PROXY protocol section 2.2.5).
pub const MAX_PROXY_UNIQUE_ID: usize = 128;

/// Fewest SCRAM iterations that a verifier may have (RFC 7677 section 4), and what an unknown role seems to have.
pub const MIN_SCRAM_ITERATIONS: u32 = 4096;
/// Most SCRAM iterations that a verifier or a server may have: each costs the client time.
pub const MAX_SCRAM_ITERATIONS: u32 = 100_000;
/// SCRAM salt, decoded. PostgreSQL makes 16.
pub const MAX_SCRAM_SALT: usize = 64;
/// One side's SCRAM nonce, in characters. libpq makes 24.
pub const MAX_SCRAM_NONCE: usize = 256;
/// A SCRAM verifier as text: salt, two keys and the decoration, with room to spare.
pub const MAX_SCRAM_VERIFIER: usize = 512;

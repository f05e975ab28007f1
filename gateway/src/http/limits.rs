//! Every limit of HTTP here, in one place.

use crate::runtime::clock::Duration;

/// Bytes of request line and headers together; more is answered 431.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Header lines in one request.
pub const MAX_HEADERS: usize = 64;

/// From the first moment of a connection, or the end of the last answer, until the headers of
/// the next request are complete.
pub const HEADER_TIME: Duration = Duration::from_secs(10);

/// The whole of an ordinary request: its body read and its answer made.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Bytes in the body of an ordinary request.
pub const MAX_BODY: usize = 1024 * 1024;

/// Nesting of objects and arrays in a JSON body.
pub const MAX_JSON_DEPTH: usize = 32;

/// Admitted connections that one listener serves at the same time; the next is closed unanswered.
pub const MAX_CONNECTIONS: usize = 64;

/// Connections of callers who are not admitted, told so at the same time. Their own few places:
/// strangers cannot take those of the people who run the node.
pub const MAX_STRANGERS: usize = 8;

/// Bytes in a path, and in a query.
pub const MAX_PATH: usize = 512;

/// Pause after an `accept` that failed (most often: no file descriptor left).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests may still be answered once the server is told to stop.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// Bytes that the client accepts in the answer of a node's admin socket. Large, because a full
/// `plan` of a large fleet is; bounded, because everything is.
pub const MAX_ADMIN_REPLY: usize = 256 * 1024 * 1024;

/// Connecting to an https server, TLS handshake included.
pub const HTTPS_CONNECT_TIME: Duration = Duration::from_secs(5);

/// TLS handshakes of operators under way at the same time; the next is closed unanswered.
pub const MAX_HANDSHAKES: usize = 64;

/// The TLS handshake of an operator, from the accept on.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// A file of a log that is checked over the network, from connecting to its last byte.
pub const FILE_TIME: Duration = Duration::from_secs(60);

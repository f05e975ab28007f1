//! The limits of what nodes say to each other.

use crate::runtime::clock::Duration;

/// Bytes of one frame's body, in either direction.
pub const FRAME_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a stranger's one frame: a request to join.
pub const JOIN_FRAME_BYTES: usize = 16 * 1024;
/// Bytes of the greeting on a new connection.
pub const HELLO_BYTES: usize = 1_536;
/// Bytes of the proof of an epoch in it.
pub const PROOF_BYTES: usize = 768;
/// Bytes taken from a stream at once; memory grows with what has arrived, not with what is announced.
pub const READ_CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of a refusal's text that are told to the caller.
pub const REASON_BYTES: usize = 256;
/// Calls and streams that one peer may have open on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// Bytes of peers' requests that are held at once, on the whole node.
pub const REQUEST_BYTES_TOTAL: usize = 64 * 1024 * 1024;
/// A request must have arrived completely within this time of its stream's opening.
pub const REQUEST_READ: Duration = Duration::from_secs(10);
/// An answer must have been taken within this time.
pub const ANSWER_WRITE: Duration = Duration::from_secs(10);
/// Bytes that a peer may send ahead on one stream,
pub const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// and on one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes that are kept for one connection until the peer has acknowledged them.
pub const SEND_WINDOW_BYTES: u64 = 512 * 1024;
/// Connections of all peers.
pub const CONNECTIONS: usize = 2_048;
/// Handshakes of callers at once; more wait their turn.
pub const HANDSHAKES: usize = 32;
/// As many handshakes as this may run before callers must prove that they receive at their address.
pub const HANDSHAKES_UNPROVEN: usize = 8;
/// Handshakes from one address at once.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;
/// Callers that wait for their handshake; more are turned away.
pub const HANDSHAKES_WAITING: usize = 1_024;
/// A handshake with its greeting.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Strangers at once.
pub const STRANGERS: usize = 4;
/// What a stranger may take from its handshake to its answer.
pub const STRANGER: Duration = Duration::from_secs(10);
/// Tokens that do not hold as far as this node knows, and that the fleet is asked about all the same,
pub const STRANGER_GUESSES: u32 = 16;
/// within this time.
pub const STRANGER_GUESSES_IN: Duration = Duration::from_secs(60);
/// A connection on which nothing arrives for so long is given up.
pub const IDLE: Duration = Duration::from_secs(10);
/// How often an idle connection is shown to be alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the first failure keeps a peer from being dialled again; each further one doubles it,
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// up to this. A random part of up to a half is taken off.
pub const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
pub const ADDRESSES_TRIED: usize = 4;

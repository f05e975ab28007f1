//! The limits of a connection's path in one visible place.
//!
//! What bounds a stranger's bytes stands in `portcullis_wire::limits`, what bounds policy in
//! `portcullis_policy::limits`; the database, ledger and http rooms name their own.

use super::clock::Duration;

/// From accept to an authenticated session, whatever arrives meanwhile.
pub const PRE_AUTHENTICATION: Duration = Duration::from_secs(15);
/// A PROXY header must be complete within this time of the accept.
pub const PROXY_HEADER: Duration = Duration::from_secs(1);
/// The first eight bytes must have arrived within this time.
pub const FIRST_BYTES: Duration = Duration::from_secs(3);
/// The first bytes of the ClientHello must follow our answer to an SSLRequest within this time.
pub const CLIENT_HELLO: Duration = Duration::from_secs(3);
/// A TLS handshake with a client.
pub const CLIENT_TLS: Duration = Duration::from_secs(5);
/// The start-up packet after the handshake.
pub const STARTUP: Duration = Duration::from_secs(5);
/// The authentication exchange with a client.
pub const AUTHENTICATION: Duration = Duration::from_secs(10);
/// Signing in upstream, from the start-up packet to ReadyForQuery.
pub const UPSTREAM_SIGN_IN: Duration = Duration::from_secs(10);
/// File descriptors of one open connection: the client's socket and the database's.
pub const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// File descriptors for everything that is no connection and no listener: state and evidence on
/// disk, the admin API, service connections to clusters, cancels, a token issuer's keys.
pub const DESCRIPTORS_RESERVED: u64 = 512;
/// One in so many of the node's connections is kept free of customers', for staff: 5 %.
pub const STAFF_RESERVE_PART: usize = 20;
/// Connections that are not authenticated yet, on the whole node.
pub const UNAUTHENTICATED_TOTAL: usize = 5_000;
/// They are at most this part of the connections that the node holds: a quarter.
pub const UNAUTHENTICATED_PART: usize = 4;
/// What one of them takes of memory at worst,
pub const UNAUTHENTICATED_BYTES: u64 = 96 * 1024;
/// and the part of the machine's memory that they may take all together: a tenth.
pub const UNAUTHENTICATED_MEMORY_PART: u64 = 10;
/// Connections that are not authenticated yet, from one IPv4 address or one IPv6 /64.
pub const UNAUTHENTICATED_PER_ADDRESS: usize = 256;
/// Connections that are not authenticated yet, from one IPv4 /24 or one IPv6 /48.
pub const UNAUTHENTICATED_PER_BLOCK: usize = 1_024;
/// Of the unauthenticated, the part that one tenant's endpoints may hold: a quarter.
pub const UNAUTHENTICATED_TENANT_PART: usize = 4;
/// New connections a second from one block of addresses behind one door, on average, whatever
/// becomes of them.
pub const ARRIVALS_PER_SECOND: f64 = 500.0;
/// New connections from one block at once.
pub const ARRIVAL_BURST: f64 = 2_000.0;
/// Blocks of addresses whose arrivals are remembered.
pub const ARRIVAL_BLOCKS: usize = 65_536;
/// At a relay endpoint, where the database asks for the proof, one in so many of the endpoint's
/// connections may be its tenant's clients who have not given it yet.
pub const RELAY_OPENING_PART: usize = 4;
/// The part of a tenant's pace of new connections that one source block may use: half.
pub const SOURCE_PACE_PART: u32 = 2;
/// Source blocks of one tenant whose pace is measured apart; further ones share one measure.
pub const PACE_SOURCES: usize = 4_096;
/// How often shed connections are written down and idle measures of pace forgotten.
pub const SHED_TICK: Duration = Duration::from_secs(1);
/// Events about shed connections at one tick; one more counts the rest.
pub const SHED_EVENTS: usize = 64;
/// Negotiation requests (SSLRequest, GSSENCRequest) before the start-up packet.
pub const NEGOTIATION_REQUESTS: usize = 2;
/// Bytes of a database's messages during sign-in, all together; they are kept for the client.
pub const UPSTREAM_START_BYTES: usize = 64 * 1024;
/// A database's messages during sign-in, before ReadyForQuery, all together.
pub const UPSTREAM_START_MESSAGES: usize = 256;
/// The scratch buffer of a worker thread; also the most a connection holds back per direction.
pub const SPLICE_SCRATCH_BYTES: usize = 64 * 1024;
/// Socket reads of one direction before the next connection has its turn.
pub const SPLICE_READS_PER_POLL: usize = 16;
/// How long a refused or lapsed client may take to read its farewell.
pub const FAREWELL: Duration = Duration::from_millis(500);
/// How long `apply` waits for lapsed connections to be closed.
pub const ENFORCEMENT: Duration = Duration::from_secs(5);
/// How long `apply` waits for the backends of closed connections to be seen gone.
pub const BACKENDS_GONE: Duration = Duration::from_secs(10);
/// How often connections whose entry expires are looked at.
pub const EXPIRY_TICK: Duration = Duration::from_millis(200);
/// Cancel requests being carried out at once on the whole node.
pub const CANCELS_AT_ONCE: usize = 256;
/// Cancel requests being carried out at once for one tenant.
pub const CANCELS_PER_TENANT: usize = CANCELS_AT_ONCE / 4;
/// Cancel requests a second from one source (an IPv4 /24 or IPv6 /64 behind one door), on average.
pub const CANCELS_PER_SECOND: f64 = 5.0;
/// Cancel requests from one source at once.
pub const CANCEL_BURST: f64 = 20.0;
/// Sources of cancel requests that are remembered.
pub const CANCEL_SOURCES: usize = 16_384;
/// Carrying out one cancel request.
pub const CANCEL: Duration = Duration::from_secs(10);
/// How long a draining node waits for connections to end before it ends them.
pub const DRAIN: Duration = Duration::from_secs(120);
/// A pause after accept failed for lack of descriptors, so that the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// TLS configurations that ask for client certificates, kept at once.
pub const CLIENT_TLS_CONFIGURATIONS: usize = 1_024;
/// How long a token issuer's fetched keys serve before they are fetched again.
pub const ISSUER_KEYS_AGE: Duration = Duration::from_secs(300);
/// A token issuer that failed is not asked again before this.
pub const ISSUER_KEYS_PAUSE: Duration = Duration::from_secs(30);
/// Token issuers whose keys are kept at once.
pub const ISSUER_KEYS_KEPT: usize = 1_024;
/// How long fetching a token issuer's keys may take.
pub const ISSUER_ANSWER: Duration = Duration::from_secs(5);
/// After this long without a fetch that worked, a token issuer's keys are good no more.
pub const ISSUER_KEYS_HARD_AGE: Duration = Duration::from_secs(3_600);
/// Handing a client over to its database: writing what it is owed before it may send.
pub const HANDOVER: Duration = Duration::from_secs(10);
/// How often a process gives a sign of life.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// A process that gave none for so long is taken to have slept.
pub const ASLEEP: Duration = Duration::from_secs(1);
/// How long traffic waits, after a sleep, until somebody has confirmed this node's policy; then it
/// goes on from the last good one.
pub const WAKING: Duration = Duration::from_secs(3);
/// How long a stopping node waits for its workers after it has ended their connections.
pub const STOP: Duration = Duration::from_secs(15);
/// How many failed sign-ins are free, in what time, and how long the next one waits at most.
#[derive(Debug, Clone, Copy)]
pub struct Failures {
    /// So many failures make nobody wait.
    pub free: u32,
    /// In this time.
    pub within: Duration,
    /// The longest wait.
    pub longest: Duration,
}
/// Failed sign-ins of one source (an IPv4 address or IPv6 /64 behind one door) as one role: then
/// 1 s, and each time twice as long.
pub const FAILURES_BY_SOURCE_AND_ROLE: Failures = Failures {
    free: 5,
    within: Duration::from_secs(60),
    longest: Duration::from_secs(8),
};
/// Failed sign-ins of one source, whoever it says it is: a second for each time so many.
pub const FAILURES_BY_SOURCE: Failures = Failures {
    free: 50,
    within: Duration::from_secs(300),
    longest: Duration::from_secs(5),
};
/// Failed sign-ins as one role, wherever they come from: a second for each time so many, for
/// sources from which nobody has signed in as the role lately.
pub const FAILURES_BY_ROLE: Failures = Failures {
    free: 100,
    within: Duration::from_secs(60),
    longest: Duration::from_secs(2),
};
/// How long a source is known for one from which a role signs in.
pub const FAILURES_KNOWN_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Entries of each table of failed sign-ins.
pub const FAILURES_REMEMBERED: usize = 65_536;
/// Failed sign-ins that a node tells the others at once; more are not told.
pub const FAILURES_TOLD: usize = 1_024;
/// Endpoints of which a node tells the others how many connections it holds: those with most.
pub const OPEN_TOLD: usize = 4_096;
/// How often the audit logs are sealed that grew.
pub const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Heads of audit logs that a control node tells another at once.
pub const HEADS_TOLD: usize = 512;
/// How often a node looks whether it has events to record in the audit logs.
pub const RECORD_EVERY: Duration = Duration::from_secs(1);
/// How long one record is given again and again until somebody executes it; then at the next look.
pub const RECORD_LIMIT: Duration = Duration::from_secs(15);
/// Bytes of leaves of an audit log that a control node tells another at once; one leaf in any case.
pub const LEAVES_TOLD_BYTES: usize = 1 << 20;
/// How often it is looked whether something of the audit logs was kept for long enough,
pub const SWEEP_LOOK: Duration = Duration::from_secs(1);
/// and how long the pause between two sweeps is at most.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(3_600);
/// After how long a log is told again that it may lack entries, if it has not said so by then.
pub const SWEEP_AGAIN: Duration = Duration::from_secs(60);
/// How often at most the log of consensus is let go of because openings were erased.
pub const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// How often the object store is brought up to date,
pub const OBJECTS_EVERY: Duration = Duration::from_secs(1);
/// how long the pause is at most while it does not take the audit logs, or has another history of one,
pub const OBJECTS_PAUSE: Duration = Duration::from_secs(30);
/// how long one request may take,
pub const OBJECTS_TIME: Duration = Duration::from_secs(20);
/// how many files it is given at the same time,
pub const OBJECTS_AT_ONCE: usize = 8;
/// how many bundles of one log in one round,
pub const OBJECTS_STEP: u64 = 64;
/// how many logs may fail in one round before the rest waits for the next,
pub const OBJECTS_FAILURES: usize = 3;
/// and how long it may have entries that this node has not come to yet.
pub const OBJECTS_AHEAD: Duration = Duration::from_secs(30);
/// Events under one reference that a node tells another that looks for it,
pub const FOUND_TOLD: usize = 100;
/// and bytes of them.
pub const FOUND_BYTES: usize = 1 << 20;
/// How often a node tells the others what it holds and which sign-ins failed.
pub const SOFT_TICK: Duration = Duration::from_millis(500);
/// How long what another node said it holds is believed.
pub const SOFT_KEPT: Duration = Duration::from_secs(3);
/// How far ahead the line of one source and role goes. Within [`PRE_AUTHENTICATION`], with room
/// for what comes before.
pub const FAILED_SIGN_INS_LINE: Duration = Duration::from_secs(9);
/// Proofs of one source and role that are on their way to whoever judges them. Where we judge
/// ourselves it takes no time; where the database does, this is what a guesser can try at once.
pub const PROOFS_UNDER_WAY: u32 = 32;
/// How often one who waits for a place among them looks again.
pub const PROOFS_PAUSE: Duration = Duration::from_millis(50);
/// How often a control node looks whether a witness is to be asked about an audit log.
pub const WITNESS_EVERY: Duration = Duration::from_secs(1);
/// Audit logs about which one witness is asked in one look, one after the other, by turns.
pub const WITNESS_LOGS_AT_ONCE: usize = 8;
/// How long a witness may take to answer,
pub const WITNESS_ANSWER: Duration = Duration::from_secs(10);
/// and bytes of its answer.
pub const WITNESS_ANSWER_BYTES: usize = 16 * 1024;
/// How often one request is made anew because the witness remembers another size than was thought.
pub const WITNESS_SIZES: usize = 4;
/// A log that did not grow is cosigned anew after this, which shows that it is what it was.
pub const WITNESS_ANEW: Duration = Duration::from_secs(300);
/// The pause after a witness that did not answer, or not as it should; twice as long each time,
pub const WITNESS_AGAIN_FIRST: Duration = Duration::from_secs(1);
/// at most.
pub const WITNESS_AGAIN_MOST: Duration = Duration::from_secs(60);
/// The pause after a witness that refused a log.
pub const WITNESS_REFUSED: Duration = Duration::from_secs(60);
/// How long a witness must say that it saw more of a log than the fleet has before that is told: nodes are not equally fast.
pub const WITNESS_LONGER: Duration = Duration::from_secs(10);
/// Contradicted logs that `fleet status` and the health page name, of each witness.
pub const WITNESS_TOLD: usize = 8;

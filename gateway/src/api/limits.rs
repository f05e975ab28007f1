//! Every limit of the admin API, in one place (HTTP's own are in `http::limits`).

use crate::runtime::clock::Duration;

/// Bytes in the body of a plan or an apply: every policy file (`MAX_POLICY_BYTES`), with room for
/// what JSON adds.
pub const MAX_POLICY_BODY: usize = 192 * 1024 * 1024;

/// A whole plan or apply, from its first byte to its answer: a million entries to read, then the
/// enforcement with its own limits.
pub const POLICY_TIME: Duration = Duration::from_secs(150);

/// The part of it after which an apply that still runs is answered "it goes on".
pub const APPLY_TIME: Duration = Duration::from_secs(120);

/// A whole cluster check: several connections, each with its own limit.
pub const CHECK_TIME: Duration = Duration::from_secs(120);

/// A change of the fleet, with every attempt to find the leader.
pub const FLEET_TIME: Duration = Duration::from_secs(30);

/// How long an operator's request waits for the node to hear of a quorum. One that has just started
/// hears within a second.
pub const QUORUM_TIME: Duration = Duration::from_secs(2);

/// Plans at work at the same time, each with its documents in memory; further ones wait their
/// turn. Applies go one by one.
pub const PLANS: usize = 2;

/// Prefixes of one set in an answer; the rest is counted.
pub const MAX_PREFIXES: usize = 10_000;

/// Prefixes of one set in an audit event; the rest is counted.
pub const MAX_EVENT_PREFIXES: usize = 16;

/// Endpoints in the difference that an audit event carries; the rest is counted.
pub const MAX_EVENT_ENDPOINTS: usize = 32;

/// Bytes of user and database names in a question.
pub const MAX_NAME: usize = 63;

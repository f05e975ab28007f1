//! The one file that reads a clock.

use portcullis_policy::Timestamp;

/// Monotonic time, for deadlines and durations.
pub use std::time::{Duration, Instant};

/// Wall-clock time, as policy and audit events state it (Unix milliseconds, UTC).
#[must_use]
pub fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one file that reads clocks"
    )]
    let now = std::time::SystemTime::now();
    let milliseconds = now
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    Timestamp::from_millis(milliseconds)
}

/// Wall-clock time in whole Unix seconds, as certificates and tokens state it.
#[must_use]
pub fn unix_seconds() -> i64 {
    now().as_millis().div_euclid(1000)
}

/// A monotonic reading, for deadlines and durations.
#[must_use]
pub fn instant() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one file that reads clocks"
    )]
    Instant::now()
}

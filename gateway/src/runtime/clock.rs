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

/// A reading of the clock that starts with the machine, goes on while it sleeps, and cannot be
/// set: what a lease is measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(u64);

impl Boottime {
    /// So many milliseconds after the machine started.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the machine started.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// Now, by that clock (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[must_use]
pub fn boottime() -> Boottime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = now.tv_sec.unsigned_abs().saturating_mul(1_000);
    Boottime(seconds.saturating_add(now.tv_nsec.unsigned_abs() / 1_000_000))
}

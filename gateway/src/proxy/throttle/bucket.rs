//! A token bucket: so many in a second, and a burst.

use crate::runtime::clock::Instant;

/// Refills at a rate up to a burst; the caller brings both, because policy may change them.
pub(in crate::proxy) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A bucket that holds its whole `burst`.
    pub(in crate::proxy) fn full(burst: f64, now: Instant) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    /// Takes one token, if there is one at `now`.
    pub(in crate::proxy) fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = elapsed.mul_add(per_second, self.tokens).min(burst);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

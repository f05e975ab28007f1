//! The lease: until when this node may do what needs a quorum.
//!
//! Renewed each second by asking whether a quorum still follows the leader. It is measured on the
//! clock that goes on while the machine sleeps and that nobody can set: a node that was suspended
//! or stopped finds its lease over before it does anything else. It counts from the moment the
//! question was asked, not from the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::clock::{self, Boottime, Duration};

/// How long a confirmation lasts. What people do through a node that lost the quorum ends within
/// this.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(1);

/// This node's lease; over until it was confirmed once.
#[derive(Debug)]
pub(super) struct Lease {
    /// Milliseconds of boot time at which it ends, or ended.
    ends: AtomicU64,
}

impl Lease {
    /// One that is over from `now` on, until it is confirmed.
    pub(super) fn over(now: Boottime) -> Self {
        Self {
            ends: AtomicU64::new(now.as_millis()),
        }
    }

    /// Takes a confirmation that was asked for at `asked` and is good for so long from then on: for
    /// all of [`LEASE`] by a quorum, for what is left of its own by a node that asked one.
    pub(super) fn confirmed(&self, asked: Boottime, lasting: Duration) {
        let ends = asked
            .as_millis()
            .saturating_add(milliseconds(lasting.min(LEASE)));
        self.ends.fetch_max(ends, Ordering::SeqCst);
    }

    /// Gives it back: a node that can take part no longer may do nothing more.
    pub(super) fn give_up(&self, now: Boottime) {
        self.ends.fetch_min(now.as_millis(), Ordering::SeqCst);
    }

    /// How long it still lasts; `None` when it is over.
    #[must_use]
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.remaining_at(clock::boottime())
    }

    /// How long ago it was over; none while it lasts.
    #[must_use]
    pub(super) fn stale(&self) -> Option<Duration> {
        let ends = self.ends.load(Ordering::SeqCst);
        let since = clock::boottime().as_millis().checked_sub(ends)?;
        Some(Duration::from_millis(since))
    }

    fn remaining_at(&self, now: Boottime) -> Option<Duration> {
        let left = self
            .ends
            .load(Ordering::SeqCst)
            .saturating_sub(now.as_millis());
        (left > 0).then(|| Duration::from_millis(left))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_question_and_is_over_at_its_end() {
        let lease = Lease::over(Boottime::from_millis(0));
        assert_eq!(lease.remaining_at(Boottime::from_millis(0)), None);
        lease.confirmed(Boottime::from_millis(5_000), LEASE);
        assert_eq!(
            lease.remaining_at(Boottime::from_millis(14_999)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(lease.remaining_at(Boottime::from_millis(15_000)), None);
        // An answer that took longer than a later one shortens nothing.
        lease.confirmed(Boottime::from_millis(9_000), LEASE);
        lease.confirmed(Boottime::from_millis(8_000), LEASE);
        assert!(lease.remaining_at(Boottime::from_millis(18_999)).is_some());
        // Nor does one from a node whose own was nearly over.
        lease.confirmed(Boottime::from_millis(9_500), Duration::from_millis(20));
        assert!(lease.remaining_at(Boottime::from_millis(18_999)).is_some());
        lease.give_up(Boottime::from_millis(9_000));
        assert_eq!(lease.remaining_at(Boottime::from_millis(9_000)), None);
    }
}

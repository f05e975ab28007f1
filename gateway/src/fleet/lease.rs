//! The lease: until when this node may do what needs a quorum.
//!
//! Renewed each second by asking whether a quorum still follows the leader. It is measured on the
//! clock that goes on while the machine sleeps and that nobody can set: a node that was suspended
//! or stopped finds its lease over before it does anything else. It counts from the moment the
//! question was asked, not from the answer.
//!
//! A quorum's yes says that nobody else decides; it says nothing of what this node has heard of what
//! was decided. So the lease holds only on a node that has all of it: the leader asks after it has
//! applied what a quorum had, and a lender says with its loan how far it had come.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::words;
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

/// What a node that has a lease lends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lent {
    /// For how many milliseconds: what is left of its own; 0 is nothing lent.
    pub(super) left: u64,
    /// The epoch and revision that the borrower must have.
    pub(super) known: (u64, u64),
}

impl Lent {
    /// What is asked for by who understands all of it. Versions before this one send no byte, and are
    /// told `left` alone.
    pub(super) fn asked() -> Vec<u8> {
        vec![1]
    }

    pub(super) fn new(left: Duration, known: (u64, u64)) -> Self {
        Self {
            left: milliseconds(left),
            known,
        }
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// As [`words::encode`].
    pub(super) fn to_bytes(self, request: &[u8]) -> Result<Vec<u8>, String> {
        match request.is_empty() {
            true => words::encode(&self.left),
            false => words::encode(&self),
        }
    }

    /// Reads an answer, also that of a version that tells `left` alone.
    ///
    /// # Errors
    /// As [`words::decode`].
    pub(super) fn read(answer: &[u8]) -> Result<Self, String> {
        words::decode(answer).or_else(|_| {
            let left = words::decode(answer)?;
            let known = (0, 0);
            Ok(Self { left, known })
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_says_what_the_lender_knew_to_whoever_understands_that() {
        let lent = Lent::new(Duration::from_millis(9_300), (2, 1_000_000));
        let answer = lent.to_bytes(&Lent::asked()).unwrap();
        assert_eq!(answer, [0xd4, 0x48, 2, 0xc0, 0x84, 0x3d]);
        assert_eq!(Lent::read(&answer).unwrap(), lent);
        // An older borrower, and an older lender.
        let answer = lent.to_bytes(&[]).unwrap();
        assert_eq!(words::decode::<u64>(&answer).unwrap(), 9_300);
        let known = (0, 0);
        assert_eq!(Lent::read(&answer).unwrap(), Lent { known, ..lent });
        for strange in [&[][..], &[0x80], &[1, 2], &[1, 2, 3, 4], &[0xff; 11]] {
            assert!(Lent::read(strange).is_err(), "{strange:?}");
        }
    }

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

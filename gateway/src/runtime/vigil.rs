//! Whether this process slept: stopped by a signal, or with its whole machine.
//!
//! A thread of its own gives a sign of life ten times a second. Whoever is about to forward bytes
//! or let somebody in first looks how long ago the last was, on the clock that goes on in sleep: so
//! it does not matter who runs first after a sleep. After one nothing passes until somebody has
//! looked whether what this process knows still holds, and says so by its number. A machine that
//! is merely too busy to run that thread for [`ASLEEP`] is taken for one that slept: that costs a
//! pause, nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::clock::{self, Boottime, Duration};
use super::limits::{ASLEEP, HEARTBEAT};

/// The sleeps of a process, and which of them were seen to.
#[derive(Debug)]
pub struct Vigil {
    /// Milliseconds of boot time of the last sign of life.
    beat: AtomicU64,
    /// Sleeps noticed so far.
    slept: AtomicU64,
    /// Those after which it was looked whether what is known still holds.
    seen_to: AtomicU64,
    noticed: watch::Sender<Sleep>,
    awake: watch::Sender<u64>,
}

/// One sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sleep {
    /// Its number, from 1.
    pub number: u64,
    /// How long it was, at most.
    pub lasted: Duration,
    /// When it was noticed.
    pub noticed: Boottime,
}

/// What bytes leave by: good until the process sleeps again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clearance(u64);

impl Default for Vigil {
    fn default() -> Self {
        Self {
            // Without a heartbeat nobody can tell; then there was none.
            beat: AtomicU64::new(u64::MAX),
            slept: AtomicU64::new(0),
            seen_to: AtomicU64::new(0),
            noticed: watch::Sender::default(),
            awake: watch::Sender::new(0),
        }
    }
}

impl Vigil {
    /// Gives signs of life from a thread of its own, until nobody holds the vigil any more.
    ///
    /// # Errors
    /// The operating system's, where it gives no thread.
    pub fn keep(self: &Arc<Self>) -> std::io::Result<()> {
        self.beat
            .store(clock::boottime().as_millis(), Ordering::SeqCst);
        let vigil = Arc::downgrade(self);
        let beating = move || {
            while let Some(vigil) = vigil.upgrade() {
                vigil.beat_at(clock::boottime());
                drop(vigil);
                std::thread::sleep(HEARTBEAT);
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".to_owned());
        // It ends by itself; whoever stops need not wait for it.
        thread.spawn(beating).map(drop)
    }

    /// What lets bytes leave, unless this process slept and nobody saw to it yet.
    #[must_use]
    pub fn clearance(&self) -> Option<Clearance> {
        let clearance = Clearance(self.slept.load(Ordering::SeqCst));
        self.holds(clearance).then_some(clearance)
    }

    /// Whether this process has not slept since.
    #[must_use]
    pub fn holds(&self, clearance: Clearance) -> bool {
        self.holds_at(clearance, clock::boottime)
    }

    fn holds_at(&self, Clearance(noted): Clearance, now: impl FnOnce() -> Boottime) -> bool {
        // In this order: who gave a sign of life after a sleep has counted the sleep before.
        let beat = self.beat.load(Ordering::SeqCst);
        let now = now();
        let seen_to = self.seen_to.load(Ordering::SeqCst);
        if self.slept.load(Ordering::SeqCst) != noted || seen_to != noted {
            return false;
        }
        match gap(beat, now) {
            Some(gap) => {
                self.notice(noted, gap, now);
                false
            }
            None => true,
        }
    }

    fn beat_at(&self, now: Boottime) {
        let slept = self.slept.load(Ordering::SeqCst);
        match gap(self.beat.load(Ordering::SeqCst), now) {
            Some(gap) => self.notice(slept, gap, now),
            None => self.alive_at(now),
        }
    }

    fn alive_at(&self, now: Boottime) {
        self.beat.fetch_max(now.as_millis(), Ordering::SeqCst);
    }

    /// Counts a sleep, unless somebody else has meanwhile.
    fn notice(&self, before: u64, lasted: Duration, now: Boottime) {
        let number = before.wrapping_add(1);
        let counted =
            self.slept
                .compare_exchange(before, number, Ordering::SeqCst, Ordering::SeqCst);
        if counted.is_ok() {
            self.alive_at(now);
            self.noticed.send_replace(Sleep {
                number,
                lasted,
                noticed: now,
            });
        }
    }

    /// As if it had slept just now.
    #[cfg(test)]
    pub(crate) fn fall_asleep(&self) {
        let slept = self.slept.load(Ordering::SeqCst);
        self.notice(slept, ASLEEP, clock::boottime());
    }

    /// Turns at each sleep.
    #[must_use]
    pub fn sleeps(&self) -> watch::Receiver<Sleep> {
        self.noticed.subscribe()
    }

    /// Everything up to this sleep was seen to.
    pub fn saw_to(&self, sleep: Sleep) {
        self.seen_to.fetch_max(sleep.number, Ordering::SeqCst);
        self.awake.send_replace(sleep.number);
    }

    /// Waits until every sleep was seen to.
    pub async fn awake(&self) {
        let mut awake = self.awake.subscribe();
        while self.clearance().is_none() {
            if awake.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How long nobody gave a sign of life, if that is no ordinary while.
fn gap(beat: u64, now: Boottime) -> Option<Duration> {
    let gap = Duration::from_millis(now.as_millis().saturating_sub(beat));
    (gap >= ASLEEP).then_some(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vigil whose last sign of life was at 1 s.
    fn vigil() -> Vigil {
        let vigil = Vigil::default();
        vigil.beat.store(1_000, Ordering::SeqCst);
        vigil
    }

    fn at(milliseconds: u64) -> Boottime {
        Boottime::from_millis(milliseconds)
    }

    #[test]
    fn a_gap_holds_up_whoever_sees_it_first_until_it_was_seen_to() {
        let vigil = vigil();
        let before = Clearance(0);
        assert!(vigil.holds_at(before, || at(1_999)));
        assert!(!vigil.holds_at(before, || at(2_000)));
        let sleep = *vigil.sleeps().borrow();
        assert_eq!((sleep.number, sleep.lasted), (1, ASLEEP));
        // A sign of life takes nothing back.
        vigil.beat_at(at(2_050));
        assert!(!vigil.holds_at(Clearance(1), || at(2_051)));
        vigil.saw_to(sleep);
        assert!(vigil.holds_at(Clearance(1), || at(2_060)));
        // What was under way since before the sleep is to be looked at again.
        assert!(!vigil.holds_at(before, || at(2_060)));
    }

    #[test]
    fn the_heartbeat_may_run_first() {
        let vigil = vigil();
        vigil.beat_at(at(31_000));
        assert_eq!(vigil.sleeps().borrow().lasted, Duration::from_secs(30));
        assert!(!vigil.holds_at(Clearance(0), || at(31_001)));
        assert!(!vigil.holds_at(Clearance(1), || at(31_001)));
    }

    #[test]
    fn a_sleep_in_the_middle_of_waking_is_another() {
        let vigil = vigil();
        vigil.beat_at(at(5_000));
        let first = *vigil.sleeps().borrow();
        vigil.beat_at(at(9_000));
        vigil.saw_to(first);
        assert!(!vigil.holds_at(Clearance(1), || at(9_001)));
        assert!(!vigil.holds_at(Clearance(2), || at(9_001)));
        // One that nobody gave a sign of life after is noticed by who forwards.
        let second = *vigil.sleeps().borrow();
        vigil.saw_to(second);
        assert!(!vigil.holds_at(Clearance(2), || at(20_000)));
        assert_eq!(vigil.sleeps().borrow().number, 3);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_once_it_was_seen_to() {
        let vigil = Arc::new(Vigil::default());
        vigil.awake().await;
        vigil.notice(0, ASLEEP, at(0));
        let waiting = tokio::spawn({
            let vigil = Arc::clone(&vigil);
            async move { vigil.awake().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        vigil.saw_to(*vigil.sleeps().borrow());
        waiting.await.unwrap();
    }
}

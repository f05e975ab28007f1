//! How long the disk takes to make writes durable, lately.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes that are remembered.
const SAMPLES: usize = 5;
/// Fewer say nothing.
const ENOUGH: usize = 3;

/// The latest writes, and the one under way.
pub(crate) struct Pace {
    clock: fn() -> Duration,
    lately: Mutex<Lately>,
}

#[derive(Default)]
struct Lately {
    took: VecDeque<Duration>,
    began: Option<Duration>,
}

impl Pace {
    /// `clock` goes on steadily, from any beginning.
    pub(crate) fn new(clock: fn() -> Duration) -> Arc<Self> {
        Arc::new(Self {
            clock,
            lately: Mutex::default(),
        })
    }

    pub(crate) fn begin(&self) {
        self.lately().began = Some((self.clock)());
    }

    pub(crate) fn end(&self) {
        let now = (self.clock)();
        let mut lately = self.lately();
        if let Some(began) = lately.began.take() {
            lately.took.push_back(now.saturating_sub(began));
            if lately.took.len() > SAMPLES {
                lately.took.pop_front();
            }
        }
    }

    /// The middle of the latest, one that is still under way included; none where there were few.
    pub(crate) fn median(&self) -> Option<Duration> {
        let now = (self.clock)();
        let lately = self.lately();
        let mut all: Vec<Duration> = lately.took.iter().copied().collect();
        let under_way = lately.began.map(|began| now.saturating_sub(began));
        drop(lately);
        all.sort_unstable();
        let middle = all.get(all.len() / 2).copied();
        // One that has only begun would make a slow disk look fast.
        if let Some(under_way) = under_way.filter(|it| Some(*it) > middle) {
            all.push(under_way);
            all.sort_unstable();
        }
        let middle = all.get(all.len() / 2).copied();
        middle.filter(|_| all.len() >= ENOUGH)
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    static NOW: AtomicU64 = AtomicU64::new(0);

    fn now() -> Duration {
        Duration::from_millis(NOW.load(Ordering::SeqCst))
    }

    #[test]
    fn the_middle_of_the_latest_writes_and_of_one_that_hangs() {
        let pace = Pace::new(now);
        let write = |took: u64| {
            pace.begin();
            NOW.fetch_add(took, Ordering::SeqCst);
            pace.end();
        };
        write(2);
        write(900);
        assert_eq!(pace.median(), None);
        for took in [1, 2, 3, 2] {
            write(took);
        }
        assert_eq!(pace.median(), Some(Duration::from_millis(2)));
        // One slow write is no slow disk; three of five are.
        write(700);
        write(800);
        assert_eq!(pace.median(), Some(Duration::from_millis(3)));
        pace.begin();
        assert_eq!(pace.median(), Some(Duration::from_millis(3)));
        NOW.fetch_add(5_000, Ordering::SeqCst);
        assert_eq!(pace.median(), Some(Duration::from_millis(700)));
        pace.end();
        assert_eq!(pace.median(), Some(Duration::from_millis(700)));
    }
}

//! How often something happened lately, in the room of two counters.

use crate::runtime::clock::{Duration, Instant};

/// A count over a sliding window. Within its first length it is exact; later the length before the
/// current one counts by the part of it that the window still covers.
pub(super) struct Window {
    began: Instant,
    current: u32,
    before: u32,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            current: 0,
            before: 0,
        }
    }

    pub(super) fn add(&mut self, length: Duration, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age >= 2 * length {
            *self = Self::new(now);
        } else if age >= length {
            self.before = std::mem::take(&mut self.current);
            self.began += length;
        }
        self.current = self.current.saturating_add(1);
    }

    pub(super) fn count(&self, length: Duration, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.began);
        if age < length {
            self.current
                .saturating_add(covered(self.before, length, age))
        } else if age < 2 * length {
            covered(self.current, length, age.saturating_sub(length))
        } else {
            0
        }
    }
}

/// What `count` things weigh of which the window has left `gone` behind.
fn covered(count: u32, length: Duration, gone: Duration) -> u32 {
    let left = length.saturating_sub(gone);
    let weighed = u128::from(count) * left.as_millis() / length.as_millis().max(1);
    u32::try_from(weighed).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::instant;

    #[test]
    fn what_happened_counts_for_its_length_and_then_fades() {
        let length = Duration::from_secs(60);
        let start = instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(start);
        for second in [0, 10, 20, 59] {
            window.add(length, at(second));
        }
        for (second, count) in [(59, 4), (60, 4), (90, 2), (119, 0), (120, 0)] {
            assert_eq!(window.count(length, at(second)), count, "{second}");
        }
        window.add(length, at(90));
        assert_eq!(window.count(length, at(90)), 3);
        assert_eq!(window.count(length, at(119)), 1);
        window.add(length, at(1_000));
        assert_eq!(window.count(length, at(1_000)), 1);
    }
}

//! For how long no control node has confirmed the view: on the clock that goes on while the machine
//! sleeps, and across restarts by a file.
//!
//! The file says when that was by the wall clock and, for as long as the machine stays up, by the
//! clock that nobody can set. Where it does not say, or says a moment that has not come yet, the view
//! counts as older than any limit until a control node confirms it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::home::write_private;
use crate::config::node::MAX_STALE_SECONDS;
use crate::runtime::clock::{self, Duration};

/// How often a confirmation is written down. A restart counts from the last that was.
const WRITE_EVERY: i64 = 5_000;
/// For how long a view was not confirmed of which nobody can say, in milliseconds: beyond any limit.
const UNKNOWN: i64 = 2 * MAX_STALE_SECONDS * 1_000;

/// When the view was confirmed last.
pub(super) struct Staleness {
    path: PathBuf,
    boot: String,
    /// Milliseconds of boot time; before the boot if negative.
    confirmed: AtomicI64,
    /// The same, of what was written down last.
    written: AtomicI64,
    /// Whether a write is under way.
    writing: Arc<AtomicBool>,
}

/// Whether there is a view that may be too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Kept,
    /// There is, and nobody is let in by it as it is: that it may be too old keeps nobody out.
    Unserved,
    None,
}

/// A moment, as this machine can tell it.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    /// Seconds of the wall clock.
    wall: i64,
    /// Milliseconds since the boot,
    up: i64,
    /// which is this one; empty if the machine does not say.
    boot: &'a str,
}

impl Staleness {
    /// Goes on from what was written down in this directory.
    pub(super) fn read(directory: &Path, view: View) -> Self {
        let path = directory.join("view.confirmed");
        let kept = std::fs::read_to_string(&path).ok();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim().to_owned();
        let now = Moment {
            wall: clock::unix_seconds(),
            up: boottime(),
            boot: &boot,
        };
        let age = match (view, age(now, kept.as_deref())) {
            (View::None, _) => 0,
            (View::Kept, Some(age)) => age,
            (View::Kept, None) => {
                tracing::warn!(path = %path.display(), "when the view was confirmed last is not known; nobody is let in until a control node confirms it");
                UNKNOWN
            }
            (View::Unserved, age) => age.unwrap_or(UNKNOWN),
        };
        Self {
            path,
            confirmed: AtomicI64::new(now.up.saturating_sub(age)),
            written: AtomicI64::new(i64::MIN),
            writing: Arc::default(),
            boot,
        }
    }

    /// Takes a confirmation.
    pub(super) fn confirmed(&self) {
        let now = boottime();
        self.confirmed.fetch_max(now, Ordering::SeqCst);
        let written = self.written.load(Ordering::SeqCst);
        if now.saturating_sub(written) < WRITE_EVERY || self.writing.swap(true, Ordering::SeqCst) {
            return;
        }
        self.written.store(now, Ordering::SeqCst);
        let (path, writing) = (self.path.clone(), Arc::clone(&self.writing));
        let text = format!("{} {now} {}", clock::unix_seconds(), self.boot);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write_private(&path, text.as_bytes()) {
                tracing::warn!(%error, "that the view was confirmed could not be written down");
            }
            writing.store(false, Ordering::SeqCst);
        });
    }

    /// How long ago that was.
    pub(super) fn stale(&self) -> Duration {
        let since = boottime().saturating_sub(self.confirmed.load(Ordering::SeqCst));
        Duration::from_millis(u64::try_from(since).unwrap_or_default())
    }
}

/// Milliseconds since what was written down; none if that cannot be said.
fn age(now: Moment<'_>, kept: Option<&str>) -> Option<i64> {
    let mut words = kept?.split_whitespace();
    let wall: i64 = words.next()?.parse().ok()?;
    let up: Option<i64> = words.next().and_then(|up| up.parse().ok());
    let age = match (up, words.next()) {
        (Some(up), Some(boot)) if boot == now.boot => now.up.checked_sub(up)?,
        _ => now.wall.checked_sub(wall)?.checked_mul(1_000)?,
    };
    (age >= 0).then_some(age)
}

fn boottime() -> i64 {
    i64::try_from(clock::boottime().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment<'_> = Moment {
        wall: 1_800_000_000,
        up: 500_000,
        boot: "this",
    };

    #[test]
    fn within_a_boot_nobody_makes_a_view_younger_by_setting_the_clock() {
        assert_eq!(age(NOW, Some("1800000000 440000 this")), Some(60_000));
        assert_eq!(age(NOW, Some("1900000000 440000 this")), Some(60_000));
        assert_eq!(age(NOW, Some("1800000000 500001 this")), None);
    }

    #[test]
    fn after_a_boot_the_wall_clock_counts_and_a_moment_to_come_does_not() {
        assert_eq!(age(NOW, Some("1799999940 499999 that")), Some(60_000));
        assert_eq!(age(NOW, Some("1799999940")), Some(60_000));
        assert_eq!(age(NOW, Some("1800000001 1 that")), None);
        assert_eq!(age(NOW, Some("1800000001")), None);
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for text in [
            "",
            "soon",
            "-9223372036854775808",
            "1e9",
            "99999999999999999999 1 this",
        ] {
            assert_eq!(age(NOW, Some(text)), None, "{text}");
        }
        assert_eq!(age(NOW, None), None);
    }

    #[tokio::test]
    async fn a_kept_view_without_a_known_confirmation_is_older_than_any_limit_until_confirmed() {
        let directory = directory("kept");
        let path = directory.join("view.confirmed");
        let limit = Duration::from_secs(MAX_STALE_SECONDS.unsigned_abs());
        for text in [None, Some("damaged"), Some("99999999999 1 another-boot")] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            assert!(Staleness::read(&directory, View::Kept).stale() > limit);
            assert!(Staleness::read(&directory, View::Unserved).stale() > limit);
            assert!(Staleness::read(&directory, View::None).stale() < limit);
        }
        let staleness = Staleness::read(&directory, View::Kept);
        staleness.confirmed();
        assert!(staleness.stale() < Duration::from_secs(60));
        while staleness.writing.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let again = Staleness::read(&directory, View::Kept);
        assert!(again.stale() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn one_write_at_a_time() {
        let directory = directory("write");
        let staleness = Staleness::read(&directory, View::None);
        staleness.writing.store(true, Ordering::SeqCst);
        staleness.confirmed();
        assert_eq!(staleness.written.load(Ordering::SeqCst), i64::MIN);
        staleness.writing.store(false, Ordering::SeqCst);
        staleness.confirmed();
        assert!(staleness.written.load(Ordering::SeqCst) > i64::MIN);
    }

    fn directory(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("portcullis-stale-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

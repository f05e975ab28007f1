//! For how long no control node has confirmed the view: on the clock that goes on while the machine
//! sleeps, and across restarts by a file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use super::home::write_private;
use crate::runtime::clock::{self, Duration};

/// How often a confirmation is written down. A restart counts from the last that was.
const WRITE_EVERY: i64 = 5_000;

/// When the view was confirmed last.
pub(super) struct Staleness {
    path: PathBuf,
    /// Milliseconds of boot time; before the boot if negative.
    confirmed: AtomicI64,
    /// The same, of what was written down last.
    written: AtomicI64,
}

impl Staleness {
    /// Goes on from what was written down in this directory.
    pub(super) fn read(directory: &Path) -> Self {
        let path = directory.join("view.confirmed");
        let kept = std::fs::read_to_string(&path).ok();
        let kept: Option<i64> = kept.and_then(|text| text.trim().parse().ok());
        let now = clock::unix_seconds();
        let age = now.saturating_sub(kept.unwrap_or(now)).max(0);
        let confirmed = boottime().saturating_sub(age.saturating_mul(1_000));
        Self {
            path,
            confirmed: AtomicI64::new(confirmed),
            written: AtomicI64::new(i64::MIN),
        }
    }

    /// Takes a confirmation.
    pub(super) fn confirmed(&self) {
        let now = boottime();
        self.confirmed.fetch_max(now, Ordering::SeqCst);
        let written = self.written.load(Ordering::SeqCst);
        if now.saturating_sub(written) < WRITE_EVERY {
            return;
        }
        self.written.store(now, Ordering::SeqCst);
        let path = self.path.clone();
        let text = clock::unix_seconds().to_string();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write_private(&path, text.as_bytes()) {
                tracing::warn!(%error, "that the view was confirmed could not be written down");
            }
        });
    }

    /// How long ago that was.
    pub(super) fn stale(&self) -> Duration {
        let since = boottime().saturating_sub(self.confirmed.load(Ordering::SeqCst));
        Duration::from_millis(u64::try_from(since).unwrap_or_default())
    }
}

fn boottime() -> i64 {
    i64::try_from(clock::boottime().as_millis()).unwrap_or(i64::MAX)
}

//! The times that consensus goes by, and how they follow the distance between control nodes.
//!
//! A heartbeat counts only if it is answered before the next one is due, and a leader that nobody
//! answers leads nothing. So the further apart the nodes are, the more time everything is given;
//! near ones keep the short times, by which a lost leader is replaced soon. Nodes need not agree on
//! them: who waits longer than the others only stands for election later.

use crate::{Consensus, OpenError, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

/// The times that consensus goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader says that it is there; a message that is not answered within this is
    /// sent again.
    pub heartbeat: Duration,
    /// After how much silence an election begins, at least.
    pub election_least: Duration,
    /// After how much silence an election begins, at most. For so long a node that heard the leader
    /// elects no other.
    pub election_most: Duration,
}

/// Up to which round trip each timing is for, the shortest first; the last one is for all that are
/// longer. A heartbeat has one and a half round trips to be answered, a leader may miss two in a row,
/// and who begins an election first has asked the others before the next one begins.
pub const TIMINGS: [(Duration, Timing); 4] = [
    (Duration::from_millis(70), Timing::of(100, 400, 700)),
    (Duration::from_millis(130), Timing::of(200, 600, 900)),
    (Duration::from_millis(260), Timing::of(400, 1_000, 1_500)),
    (Duration::from_millis(500), Timing::of(800, 2_000, 3_000)),
];

impl Timing {
    const fn of(heartbeat: u64, least: u64, most: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_least: Duration::from_millis(least),
            election_most: Duration::from_millis(most),
        }
    }
}

/// A node that acknowledged nothing for so long may be gone, at least.
const PATIENCE: Duration = Duration::from_secs(1);

impl Timing {
    /// A node that acknowledged nothing for so long may be gone.
    pub(crate) fn patience(&self) -> Duration {
        PATIENCE.max(self.heartbeat.saturating_mul(3))
    }
}

impl Default for Timing {
    /// For nodes that are near each other.
    fn default() -> Self {
        let [(_, near), ..] = TIMINGS;
        near
    }
}

impl Consensus {
    /// The times that it goes by.
    #[must_use]
    pub fn timing(&self) -> Timing {
        *self.timing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by other times from now on. The engine takes them at its start alone, so it is stopped and
    /// started: this node answers nobody for a moment, and one that led goes on leading. What was
    /// shown stays shown. A node that keeps out, or failed, takes them when it comes back.
    ///
    /// # Errors
    /// [`OpenError`]; the node has failed then, and [`Consensus::failed`] says so.
    pub async fn keep_time(&self, timing: Timing) -> Result<(), OpenError> {
        let _turn = self.turn.lock().await;
        if self.timing() == timing {
            return Ok(());
        }
        *self.timing.lock().unwrap_or_else(PoisonError::into_inner) = timing;
        if self.paused().is_some() || self.status().failed.is_some() {
            return Ok(());
        }
        // A stop that is meant is no failure to those who look meanwhile.
        let before = self.keeping_out();
        self.paused().get_or_insert(before);
        self.engine.load().stop().await;
        let started = self.start_again().await;
        if let Err(error) = &started {
            let problem = error.to_string();
            self.engine.load().broken.get_or_init(|| problem);
            self.paused().take();
        }
        started
    }

    /// Whether this node may stand for election. It votes for others in either case. One whose state
    /// is being reinstalled stands for none, whatever is said here; what is said is forgotten when the
    /// state is opened again.
    pub fn stand(&self, may: bool) {
        let may = may && self.fence().is_none();
        self.engine.load().raft.runtime_config().elect(may);
    }

    /// Where consensus stands, of a node that is to take no part for a while.
    pub(crate) fn keeping_out(&self) -> Status {
        Status {
            leader: None,
            reached: BTreeMap::new(),
            silent: BTreeMap::new(),
            gone_back: BTreeSet::new(),
            settled: false,
            failed: None,
            ..self.status()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, ProposeError, Settings};
    use portcullis_policy::{Author, Command, Revision, Tenant, Timestamp};
    use std::fs;
    use std::path::Path;

    async fn put(consensus: &Consensus, tenant: &str) -> Result<(), ProposeError> {
        let command = Command::Apply {
            base: None,
            expected: BTreeMap::new(),
            put: vec![Tenant::new(tenant.parse().unwrap())],
            remove: vec![],
        };
        let (request, author) = (None, Author::local("test"));
        let draft = Draft {
            request,
            author,
            command,
        };
        let now = || Timestamp::from_millis(1_800_000_000_000);
        consensus.propose(draft, now).await.map(drop)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn other_times_cost_nothing_that_was_shown_and_a_node_that_cannot_take_them_has_failed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/tmp")
            .join(format!("timing-{}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).unwrap();
        let consensus = Consensus::open(Settings::alone(&directory)).await.unwrap();
        put(&consensus, "a").await.unwrap();
        let [.., (_, far), (_, farther)] = TIMINGS;
        consensus.keep_time(far).await.unwrap();
        assert_eq!(consensus.timing(), far);
        assert_eq!(consensus.view().revision(), Revision::new(1));
        put(&consensus, "b").await.unwrap();
        assert_eq!(consensus.status().failed, None);

        // The engine is stopped and cannot be started.
        let (file, away) = (directory.join("state.redb"), directory.join("away"));
        fs::rename(&file, &away).unwrap();
        assert!(consensus.keep_time(farther).await.is_err());
        let failed = tokio::time::timeout(Duration::from_secs(10), consensus.failed()).await;
        assert!(failed.is_ok());
        assert!(consensus.status().failed.is_some());
        assert_eq!(consensus.view().revision(), Revision::new(2));
        fs::rename(&away, &file).unwrap();
        consensus.reopen().await.unwrap();
        assert_eq!(consensus.timing(), farther);
        put(&consensus, "c").await.unwrap();
        consensus.shutdown().await;
        drop(fs::remove_dir_all(&directory));
    }
}

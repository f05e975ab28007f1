//! From a file to a node that takes part.

use crate::OpenError;
use crate::acknowledged::Acknowledged;
use crate::arriving::{Arriving, TRANSFER_IDLE};
use crate::log::Log;
use crate::machine::{Machine, Shown};
use crate::network::Network;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::tables;
use crate::timing::Timing;
use crate::types::Raft;
use crate::writer::{Thread, Writer};
use openraft::{Config, SnapshotPolicy};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Entries in one message; a reader also ends at a number of bytes.
const ENTRIES: u64 = 256;
/// Entries that are kept though a snapshot covers them, for nodes that are a little behind.
const KEPT: u64 = 500;
/// Entries after which a snapshot is made.
const SNAPSHOT_EVERY: u64 = 2_000;
/// A node that takes part.
pub(crate) struct Opened {
    pub(crate) raft: Raft,
    pub(crate) shown: Arc<Shown>,
    pub(crate) thread: Thread,
    pub(crate) arriving: Arc<Arriving>,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) pace: Arc<Pace>,
    /// For tests that make a write fail.
    #[cfg(test)]
    pub(crate) writer: Writer,
}

/// Reads the file and begins to take part.
/// `before` is what was shown already, where this process had it open.
pub(crate) async fn open(
    settings: Settings,
    before: Option<Arc<Shown>>,
) -> Result<Opened, OpenError> {
    let Settings {
        path,
        node,
        beginning,
        transport,
        timing,
        clock,
        leaves,
        salts: _,
    } = settings;
    let pace = Pace::new(clock);
    let (loaded, path) = tokio::task::spawn_blocking(move || {
        let loaded = tables::open(&path, node, beginning);
        loaded.map(|loaded| (loaded, path))
    })
    .await
    .map_err(|error| OpenError::Engine(error.to_string()))??;
    let (writer, thread) = Writer::start(
        Arc::clone(&loaded.database),
        loaded.sequence,
        Arc::clone(&loaded.mark),
        Arc::clone(&pace),
    )
    .map_err(|error| tables::io(&path, error))?;
    let log = Log::new(&loaded, writer.clone());
    let full = log.full();
    #[cfg(test)]
    let to_fail = writer.clone();
    let (machine, shown) = Machine::new(&loaded, &path, writer, before, leaves)
        .map_err(|error| tables::io(&path, error))?;
    let applied = loaded.committed.map(|committed| committed.index);
    drop(loaded);
    let mut config = config(timing).map_err(OpenError::Engine)?;
    // The snapshot that it is given may be from when it was the only voter: it would elect itself.
    config.enable_elect = shown.fence().is_none();
    let acknowledged = Arc::<Acknowledged>::default();
    let raft = Raft::new(
        node.get(),
        Arc::new(config),
        Network {
            transport,
            acknowledged: Arc::clone(&acknowledged),
        },
        log,
        machine,
    )
    .await
    .map_err(|error| OpenError::Engine(error.to_string()))?;
    // What was applied before is applied again from the log before anybody looks.
    if let Some(applied) = applied {
        raft.wait(Some(RECOVERY))
            .applied_index_at_least(Some(applied), "what was shown before")
            .await
            .map_err(|error| OpenError::Engine(error.to_string()))?;
    }
    if shown.fence().is_some() {
        tokio::spawn(stand_again(raft.clone(), Arc::clone(&shown)));
    }
    tokio::spawn(keep_small(raft.clone(), full));
    let arriving = Arc::<Arriving>::default();
    tokio::spawn(expire(Arc::downgrade(&arriving)));
    Ok(Opened {
        raft,
        shown,
        thread,
        arriving,
        acknowledged,
        pace,
        #[cfg(test)]
        writer: to_fail,
    })
}

/// Lets a node whose state was reinstalled stand for election once it has come as far as it must.
async fn stand_again(raft: Raft, shown: Arc<Shown>) {
    while shown.fence().is_some() {
        sleep(LOOK).await;
    }
    raft.runtime_config().elect(true);
}

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Makes a snapshot whenever the log has become large, though it has few entries.
async fn keep_small(raft: Raft, full: Arc<Notify>) {
    loop {
        full.notified().await;
        if raft.trigger().snapshot().await.is_err() {
            // It has stopped for good.
            return;
        }
        sleep(SNAPSHOT_PAUSE).await;
    }
}

/// Lets go of snapshots that arrive no further.
async fn expire(arriving: Weak<Arriving>) {
    loop {
        sleep(TRANSFER_IDLE).await;
        let Some(arriving) = arriving.upgrade() else {
            return;
        };
        arriving.expire();
    }
}

/// The least time between two snapshots for the log's size.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// How long applying the log again may take.
const RECOVERY: Duration = Duration::from_secs(120);

fn config(timing: Timing) -> Result<Config, String> {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "portcullis".to_owned(),
        heartbeat_interval: milliseconds(timing.heartbeat),
        election_timeout_min: milliseconds(timing.election_least),
        election_timeout_max: milliseconds(timing.election_most),
        // Of a whole snapshot; its pieces have limits of their own.
        install_snapshot_timeout: milliseconds(Duration::from_secs(120)),
        max_payload_entries: ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        // Above the distance between snapshots, or every node that is a little behind is sent one.
        replication_lag_threshold: 2 * SNAPSHOT_EVERY,
        max_in_snapshot_log_to_keep: KEPT,
        enable_pre_vote: Some(true),
        ..Config::default()
    }
    .validate()
    .map_err(|error| error.to_string())
}

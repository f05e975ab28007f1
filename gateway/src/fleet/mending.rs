//! A node whose state could not be written opens it again by itself.
//!
//! What a write that failed left on the disk is known only by reading it back. That is what a restart
//! does, and what is done here without one, so that customers' connections stay: the engine is
//! stopped, the file closed, a little is written beside it, and then it is opened and checked as at
//! a start, which first writes anew what a write that failed may have left in memory alone. A file that is damaged is never opened again: that is for a person.

use std::sync::Arc;

use portcullis_consensus::Consensus;
use tokio::time::sleep;

use super::Fleet;
use crate::runtime::clock::{self, Duration};

/// The pause before the state is opened again; twice as long each time,
pub const REOPEN_FIRST: Duration = Duration::from_secs(1);
/// up to this.
pub const REOPEN_MOST: Duration = Duration::from_secs(10);
/// How often that is tried in a row: for a day.
pub const REOPENINGS: u32 = 8_640;
/// After it has held so long, the next failure is a new one.
const HELD: Duration = Duration::from_secs(60);

/// Opens the state again whenever this node failed. Ends when that cannot help.
pub(super) async fn mend(fleet: Arc<Fleet>, consensus: Arc<Consensus>) {
    let mut tries = 0;
    let mut pause = REOPEN_FIRST;
    while let Some(problem) = fleet.stop.run_until_cancelled(consensus.failed()).await {
        let failed = clock::instant();
        fleet.lease.give_up(clock::boottime());
        tracing::error!(
            problem,
            "this node's state could not be written: it takes part in deciding no longer until it is opened again; customers are served as before"
        );
        metrics::counter!("portcullis_consensus_failures_total").increment(1);
        *fleet.failure.lock() = Some(format!(
            "this node takes part in no decision ({problem}) and serves customers as before: make room on the disk under `data` in node.toml; its state is opened again by itself within {} s of that",
            REOPEN_MOST.as_secs()
        ));
        // It would go on complaining.
        consensus.shutdown().await;
        loop {
            if fleet.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(REOPEN_MOST);
            tries += 1;
            let Some(reopened) = fleet.stop.run_until_cancelled(consensus.reopen()).await else {
                return;
            };
            match reopened {
                Ok(()) => break,
                Err(error) if error.may_pass() && tries < REOPENINGS => {
                    tracing::warn!(%error, "this node's state cannot be opened yet; it is tried again");
                }
                Err(error) => {
                    tracing::error!(%error, "this node's state cannot be opened again: it takes part in no decision until somebody has mended that and restarted it");
                    *fleet.failure.lock() = Some(format!(
                        "this node takes part in no decision and serves customers as before: {error}; then restart it"
                    ));
                    return;
                }
            }
        }
        *fleet.failure.lock() = None;
        let took = clock::instant().saturating_duration_since(failed);
        tracing::info!(
            ?took,
            "this node's state is open again: it takes part again"
        );
        let opened = clock::instant();
        tokio::select! {
            () = sleep(HELD) => {}
            _ = consensus.failed() => {}
            () = fleet.stop.cancelled() => return,
        }
        if clock::instant().saturating_duration_since(opened) >= HELD {
            (tries, pause) = (0, REOPEN_FIRST);
        }
    }
}

//! Leaves of the audit logs that this control node lacks, had from another.
//!
//! A snapshot carries the trees and not the leaves, and a disk can lose files. What another node
//! sends is believed once the tree that it makes is the one that was decided.

use std::sync::Arc;

use portcullis_audit::tlog::Hash;
use portcullis_consensus::AuditLog;
use portcullis_policy::NodeId;
use tokio::time::{sleep, timeout};

use super::keeping::{Filled, Keeping, ToldLeaf};
use super::sealing::Sealing;
use super::{Fleet, words};
use crate::ledger::tiles::LogError;
use crate::mesh::Refused;
use crate::runtime::clock::Duration;
use crate::runtime::limits::LEAVES_TOLD_BYTES;

/// How long one control node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The pause before a log is tried again that could not be filled, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Fills what is partial, for as long as the node runs.
pub(super) async fn fill(fleet: Arc<Fleet>, sealing: Arc<Sealing>) {
    let keeping = Arc::clone(sealing.keeping());
    let mut pause = FIRST_PAUSE;
    loop {
        let logs = keeping.partial();
        let wait = async {
            if logs.is_empty() {
                keeping.lacking().await;
            } else {
                // Nobody needs to come sooner than the pause says.
                drop(timeout(pause, keeping.lacking()).await);
            }
        };
        if fleet.stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
        let mut all = true;
        for log in keeping.partial() {
            match fleet.fill_one(&keeping, &log).await {
                Ok(()) => sealing.show_again(&log),
                Err(problem) => {
                    all = false;
                    tracing::warn!(
                        ?log,
                        problem,
                        "an audit log is not whole on this node; it is tried again"
                    );
                }
            }
            if fleet.stop.is_cancelled() {
                return;
            }
        }
        pause = if all {
            FIRST_PAUSE
        } else {
            pause.saturating_mul(2).min(LONGEST_PAUSE)
        };
    }
}

/// What another node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Leaves,
    /// And where it let go of them, their hashes.
    Hashes,
}

impl Fleet {
    /// Fills one log from whichever control node has what it lacks.
    async fn fill_one(&self, keeping: &Arc<Keeping>, log: &AuditLog) -> Result<(), String> {
        let view = self.source.view();
        let control = view.fleet().into_iter().flat_map(|fleet| fleet.control());
        let others: Vec<NodeId> = control
            .map(|node| node.id)
            .filter(|node| *node != self.me)
            .collect();
        let mut problem = "there is no other control node".to_owned();
        let mut anew = false;
        // Hashes are taken only of what nobody has any more.
        let leaves = others.iter().map(|node| (*node, Of::Leaves));
        for (node, of) in leaves.chain(others.iter().map(|node| (*node, Of::Hashes))) {
            match self.fill_from(keeping, log, (node, of), anew).await {
                Ok(Filled::Whole) => return Ok(()),
                Ok(Filled::Wrong) => {
                    tracing::error!(%node, ?log, "a control node has other leaves of an audit log than were decided");
                    problem = format!("node {node} has other leaves than were decided");
                    anew = true;
                }
                Ok(Filled::Lacks(size)) => {
                    problem = format!("node {node} has no entry {size}");
                }
                Err(error) => problem = format!("node {node}: {error}"),
            }
        }
        Err(problem)
    }

    async fn fill_from(
        &self,
        keeping: &Arc<Keeping>,
        log: &AuditLog,
        (node, of): (NodeId, Of),
        anew: bool,
    ) -> Result<Filled, String> {
        let begun = on_disk(keeping, log, move |keeping, log| {
            keeping.begin_to_fill(log, anew)?;
            keeping.fill(log, 0, &[])
        });
        let mut filled = begun.await?;
        while let Filled::Lacks(from) = filled {
            let request = words::encode(&(log, from))?;
            let mesh = self.mesh().ok_or("this node is a fleet by itself")?;
            let answer = mesh.call(node.get(), words::LEAVES, request, ANSWER_LIMIT);
            let answer = answer.await.map_err(|error| error.to_string())?;
            let leaves: Vec<ToldLeaf> = words::decode(&answer)?;
            if leaves.is_empty() && of == Of::Hashes {
                let gone = words::encode(&(log, from))?;
                let answer = mesh.call(node.get(), words::HASHES, gone, ANSWER_LIMIT);
                let answer = answer.await.map_err(|error| error.to_string())?;
                let hashes: Vec<[u8; 32]> = words::decode(&answer)?;
                if hashes.is_empty() {
                    return Ok(filled);
                }
                let hashes: Vec<Hash> = hashes.into_iter().map(Hash).collect();
                let taken =
                    move |keeping: &Keeping, log: &AuditLog| keeping.fill_gone(log, from, &hashes);
                filled = on_disk(keeping, log, taken).await?;
                continue;
            }
            if leaves.is_empty() {
                return Ok(filled);
            }
            let taken = move |keeping: &Keeping, log: &AuditLog| keeping.fill(log, from, &leaves);
            filled = on_disk(keeping, log, taken).await?;
            if filled == Filled::Lacks(from) {
                // It would go on like that.
                sleep(FIRST_PAUSE).await;
            }
        }
        Ok(filled)
    }

    /// Answers a control node that lacks leaves which may have been let go of.
    pub(super) async fn tell_hashes(&self, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let sealing = self.sealing.as_ref();
        let sealing = sealing.ok_or_else(|| Refused("this node keeps no audit logs".to_owned()))?;
        let (log, first): (AuditLog, u64) = words::decode(request).map_err(Refused)?;
        let told = on_disk(sealing.keeping(), &log, move |keeping, log| {
            keeping.gone(log, first)
        });
        let told: Vec<[u8; 32]> = told.await.map_err(Refused)?.iter().map(|it| it.0).collect();
        words::encode(&told).map_err(Refused)
    }

    /// Answers a control node that lacks leaves.
    pub(super) async fn tell_leaves(&self, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let sealing = self.sealing.as_ref();
        let sealing = sealing.ok_or_else(|| Refused("this node keeps no audit logs".to_owned()))?;
        let (log, first): (AuditLog, u64) = words::decode(request).map_err(Refused)?;
        let told = on_disk(sealing.keeping(), &log, move |keeping, log| {
            keeping.entries(log, first)
        });
        let mut leaves = told.await.map_err(Refused)?;
        let mut bytes = 0_usize;
        leaves.retain(|leaf| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(leaf.len());
            first || bytes <= LEAVES_TOLD_BYTES
        });
        words::encode(&leaves).map_err(Refused)
    }
}

/// Does what waits for the disk where waiting is allowed.
async fn on_disk<T: Send + 'static>(
    keeping: &Arc<Keeping>,
    log: &AuditLog,
    act: impl FnOnce(&Keeping, &AuditLog) -> Result<T, LogError> + Send + 'static,
) -> Result<T, String> {
    let (keeping, log) = (Arc::clone(keeping), log.clone());
    tokio::task::spawn_blocking(move || act(&keeping, &log))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.with_cause())
}

//! The leaves of the audit logs, from consensus to files, and the heads that were sealed, to those
//! who sign.
//!
//! Where a snapshot was installed the leaves in between never came here: such a log is not whole on
//! this node, and it shows no checkpoint of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use portcullis_audit::tlog::{Note, Tree};
use portcullis_consensus::{AuditLog, BoxFuture, Head, Leaf, Leaves};
use tokio::sync::Notify;

use crate::ledger::tiles::{LogError, LogId, Logs};

/// Unsealed leaves after which a seal does not wait for its time.
const SEAL_AT: u64 = 256;

/// Where the logs of the node lie whose `data` this is.
#[must_use]
pub(super) fn logs_folder(data: &Path) -> PathBuf {
    data.join("audit").join("logs")
}

/// Keeps the leaves of a control node.
#[derive(Debug)]
pub(super) struct Keeping {
    logs: Arc<Logs>,
    /// Leaves since the last seal; at the start it is not known whether there are any.
    unsealed: AtomicU64,
    /// Turns when there is something to seal or to sign at once.
    turned: Notify,
    /// The latest head of each log that nobody took yet.
    heads: Mutex<BTreeMap<AuditLog, Head>>,
    partial: Mutex<BTreeSet<LogId>>,
}

impl Keeping {
    /// Opens the logs of the node whose `data` this is.
    pub(super) fn open(data: &Path) -> Result<Arc<Self>, String> {
        let folder = logs_folder(data);
        let logs = Logs::open(&folder).map_err(|error| format!("the audit logs: {error}"))?;
        Ok(Arc::new(Self {
            logs: Arc::new(logs),
            unsealed: AtomicU64::new(1),
            turned: Notify::new(),
            heads: Mutex::default(),
            partial: Mutex::default(),
        }))
    }

    pub(super) fn has_unsealed(&self) -> bool {
        self.unsealed.load(Ordering::Relaxed) > 0
    }

    /// There is something to show, or somebody to tell.
    pub(super) fn turn(&self) {
        self.turned.notify_one();
    }

    /// Waits until there is reason to look before the time.
    pub(super) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// The heads that were sealed since the last time, the fleet's last.
    pub(super) fn take_heads(&self) -> Vec<Head> {
        let mut heads = std::mem::take(&mut *self.heads.lock());
        let fleet = heads.remove(&AuditLog::Fleet);
        heads.into_values().chain(fleet).collect()
    }

    /// Shows a checkpoint with the tiles that it promises.
    pub(super) fn publish(&self, log: &AuditLog, note: &Note) -> Result<(), LogError> {
        let log = id_of(log);
        if self.partial.lock().contains(&log) {
            return Ok(());
        }
        self.logs.publish(&log, note)
    }

    fn begin_one(&self, log: &AuditLog, tree: Tree) -> io::Result<()> {
        let log = id_of(log);
        match self.logs.begin(&log, tree) {
            Ok(()) => {
                self.partial.lock().remove(&log);
                Ok(())
            }
            Err(error @ LogError::Damaged { .. }) => {
                tracing::error!(%log, %error, "this node does not have all leaves of an audit log: it shows no checkpoint of it; other control nodes do");
                self.partial.lock().insert(log);
                Ok(())
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

impl Leaves for Keeping {
    fn begin(&self, logs: Vec<(AuditLog, Tree)>, sealed: Vec<Head>) -> io::Result<()> {
        for (log, tree) in logs {
            self.begin_one(&log, tree)?;
        }
        self.sealed(sealed);
        self.unsealed.fetch_max(1, Ordering::Relaxed);
        Ok(())
    }

    fn append(&self, leaves: Vec<Leaf>) -> io::Result<()> {
        let count = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        for Leaf { log, index, bytes } in leaves {
            let log = id_of(&log);
            if self.partial.lock().contains(&log) {
                continue;
            }
            self.logs
                .append(&log, index, &[bytes])
                .map_err(|error| failed(&error))?;
        }
        let before = self.unsealed.fetch_add(count, Ordering::Relaxed);
        if before.saturating_add(count) >= SEAL_AT {
            self.turned.notify_one();
        }
        Ok(())
    }

    fn sealed(&self, heads: Vec<Head>) {
        let mut waiting = self.heads.lock();
        for head in heads {
            waiting.insert(head.log.clone(), head);
        }
        drop(waiting);
        self.unsealed.store(0, Ordering::Relaxed);
        self.turned.notify_one();
    }

    fn durable(&self) -> BoxFuture<'static, io::Result<()>> {
        let logs = Arc::clone(&self.logs);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || logs.durable())
                .await
                .map_err(io::Error::other)?
                .map_err(|error| failed(&error))
        })
    }
}

fn id_of(log: &AuditLog) -> LogId {
    match log {
        AuditLog::Fleet => LogId::Fleet,
        AuditLog::Tenant(tenant) => LogId::Tenant(tenant.clone()),
    }
}

fn failed(error: &LogError) -> io::Error {
    io::Error::other(format!("the audit logs: {error}"))
}

//! The leaves of the audit logs, from consensus to files, and the heads that were sealed, to those
//! who sign.
//!
//! Where a snapshot was installed the leaves in between never came here, and files may be damaged:
//! such a log is partial. What it should be is known by its tree; its leaves are had from other
//! control nodes (`filling`), and until then this node shows no newer checkpoint of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use portcullis_audit::Event;
use portcullis_audit::personal::Opening;
use portcullis_audit::tlog::{Hash, Note, TILE_WIDTH, Tree};
use portcullis_consensus::{AuditLog, BoxFuture, Head, Leaf, Leaves};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ledger::openings::Openings;
use crate::ledger::tiles::{LogError, LogId, Logs};

/// Unsealed leaves after which a seal does not wait for its time.
const SEAL_AT: u64 = 256;

/// Where the logs of the node lie whose `data` this is.
#[must_use]
pub(super) fn logs_folder(data: &Path) -> PathBuf {
    data.join("audit").join("logs")
}

/// And what opens the commitments in them.
#[must_use]
pub(super) fn openings_folder(data: &Path) -> PathBuf {
    data.join("audit").join("openings")
}

/// A leaf as control nodes tell each other, and the lines that open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ToldLeaf {
    pub(super) leaf: Vec<u8>,
    pub(super) openings: Vec<String>,
}

impl ToldLeaf {
    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        let openings = self.openings.iter().map(String::len);
        openings.fold(self.leaf.len(), usize::saturating_add)
    }

    /// Those that open it, if it is the entry with this index.
    fn opened(&self, index: u64) -> Vec<Opening> {
        let line = std::str::from_utf8(&self.leaf).ok();
        let Some(event) = line.and_then(|line| Event::parse(line).ok()) else {
            return Vec::new();
        };
        let openings = self.openings.iter().filter_map(|line| Opening::parse(line));
        openings
            .filter(|opening| opening.index == index && opening.opens(&event))
            .collect()
    }
}

/// Keeps the leaves of a control node.
#[derive(Debug)]
pub(super) struct Keeping {
    logs: Arc<Logs>,
    openings: Arc<Openings>,
    /// Leaves since the last seal; at the start it is not known whether there are any.
    unsealed: AtomicU64,
    /// Turns when there is something to seal or to sign at once.
    turned: Notify,
    /// The latest head of each log that nobody took yet.
    heads: Mutex<BTreeMap<AuditLog, Head>>,
    /// Logs of which not all leaves are here, as they should be.
    partial: Mutex<BTreeMap<LogId, Tree>>,
    /// Turns when a log became partial.
    lacking: Notify,
    /// A log whose published checkpoint, of so many entries, is of another history.
    forked: Mutex<Option<(LogId, u64)>>,
}

/// What became of leaves from another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// This log goes on from here.
    Lacks(u64),
    /// It is whole.
    Whole,
    /// It has as many leaves as it should, and not the ones it should.
    Wrong,
}

impl Keeping {
    /// Opens the logs of the node whose `data` this is.
    pub(super) fn open(data: &Path) -> Result<Arc<Self>, String> {
        let folder = logs_folder(data);
        let logs = Logs::open(&folder)
            .map_err(|error| format!("the audit logs: {}", error.with_cause()))?;
        let openings = Openings::open(&openings_folder(data))
            .map_err(|error| format!("what opens the audit logs' commitments: {error}"))?;
        Ok(Arc::new(Self {
            logs: Arc::new(logs),
            openings: Arc::new(openings),
            unsealed: AtomicU64::new(1),
            turned: Notify::new(),
            heads: Mutex::default(),
            partial: Mutex::default(),
            lacking: Notify::new(),
            forked: Mutex::default(),
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

    /// Shows a checkpoint with the tiles that it promises; not of a log that is partial.
    pub(super) fn publish(&self, log: &AuditLog, note: &Note) -> Result<(), LogError> {
        let log = id_of(log);
        let partial = self.partial.lock();
        if partial.contains_key(&log) {
            return Ok(());
        }
        if let Err(error) = self.openings.write(&log)
            && error.kind() != io::ErrorKind::StorageFull
        {
            // They wait on; a snapshot is not kept without them. Of a full disk the log itself tells.
            tracing::warn!(%log, %error, "what opens an audit log's commitments is not written yet");
        }
        self.logs.publish(&log, note)
    }

    /// The log whose published checkpoint, of so many entries, is not of the history that was decided.
    pub(super) fn forked(&self) -> Option<(LogId, u64)> {
        self.forked.lock().clone()
    }

    /// The files.
    pub(super) fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// The openings.
    pub(super) fn openings(&self) -> &Arc<Openings> {
        &self.openings
    }

    /// Leaves of a log from this index on, for another control node.
    pub(super) fn entries(&self, log: &AuditLog, from: u64) -> Result<Vec<ToldLeaf>, LogError> {
        let log = id_of(log);
        let leaves = self.logs.entries(&log, from)?;
        let end = from.saturating_add(u64::try_from(leaves.len()).unwrap_or_default());
        let width = u64::from(TILE_WIDTH);
        let mut openings: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for bundle in from / width..end.div_ceil(width) {
            let kept = self.openings.of(&log, bundle);
            for opening in kept.map_err(LogError::io(Path::new("openings")))? {
                let lines = openings.entry(opening.index).or_default();
                lines.push(opening.line());
            }
        }
        let told = (from..).zip(leaves).map(|(index, leaf)| ToldLeaf {
            leaf,
            openings: openings.remove(&index).unwrap_or_default(),
        });
        Ok(told.collect())
    }

    /// The hashes of the bundle that begins with this leaf, if it was let go of.
    pub(super) fn gone(&self, log: &AuditLog, from: u64) -> Result<Vec<Hash>, LogError> {
        let log = id_of(log);
        let width = u64::from(TILE_WIDTH);
        let kept = self.logs.kept_from(&log);
        let may_lack = kept.is_some_and(|kept| from < kept.kept_from);
        if !may_lack || !from.is_multiple_of(width) || !self.logs.entries(&log, from)?.is_empty() {
            return Ok(Vec::new());
        }
        let hashes = self.logs.hashes(&log, from / width)?;
        Ok(hashes.unwrap_or_default())
    }

    /// Waits until there may be something to fill.
    pub(super) async fn lacking(&self) {
        self.lacking.notified().await;
    }

    /// The logs that are partial.
    pub(super) fn partial(&self) -> Vec<AuditLog> {
        let partial = self.partial.lock();
        partial.keys().map(log_of).collect()
    }

    /// Begins to fill a partial log: at what its files have, or at nothing.
    pub(super) fn begin_to_fill(&self, log: &AuditLog, anew: bool) -> Result<(), LogError> {
        let log = id_of(log);
        let kept = match self.logs.published_tree(&log) {
            Ok(kept) if !anew => kept.unwrap_or(Tree::EMPTY),
            Ok(_) => Tree::EMPTY,
            Err(error @ LogError::Damaged { .. }) => {
                tracing::warn!(%log, %error, "the files of an audit log are damaged; it is written anew");
                Tree::EMPTY
            }
            Err(error) => return Err(error),
        };
        match kept.size() {
            0 => self.logs.begin_anew(&log),
            _ => self.logs.begin(&log, kept),
        }
    }

    /// Takes leaves that another node has from this index on. What is beyond this log's own end is
    /// passed over: it comes by itself.
    pub(super) fn fill(
        &self,
        log: &AuditLog,
        from: u64,
        leaves: &[ToldLeaf],
    ) -> Result<Filled, LogError> {
        let log = id_of(log);
        let mut partial = self.partial.lock();
        let Some(whole) = partial.get(&log) else {
            return Ok(Filled::Whole);
        };
        let room = whole.size().saturating_sub(from);
        let count = usize::try_from(room).map_or(leaves.len(), |room| room.min(leaves.len()));
        let taken = leaves.get(..count).unwrap_or_default();
        let bytes: Vec<&[u8]> = taken.iter().map(|told| told.leaf.as_slice()).collect();
        self.logs.append(&log, from, &bytes)?;
        for (index, told) in (from..).zip(taken) {
            let openings = self.openings.add(&log, told.opened(index));
            openings.map_err(LogError::io(Path::new("openings")))?;
        }
        let filled = self.filled(&log, whole);
        if filled == Filled::Whole {
            partial.remove(&log);
        }
        Ok(filled)
    }

    /// Takes the hashes of a whole bundle from this index on, that nobody has the leaves of.
    pub(super) fn fill_gone(
        &self,
        log: &AuditLog,
        from: u64,
        hashes: &[Hash],
    ) -> Result<Filled, LogError> {
        let log = id_of(log);
        let mut partial = self.partial.lock();
        let Some(whole) = partial.get(&log) else {
            return Ok(Filled::Whole);
        };
        let end = from.saturating_add(u64::try_from(hashes.len()).unwrap_or(u64::MAX));
        if end > whole.size() {
            return Ok(Filled::Wrong);
        }
        self.logs.append_gone(&log, from, hashes)?;
        let filled = self.filled(&log, whole);
        if filled == Filled::Whole {
            partial.remove(&log);
        }
        Ok(filled)
    }

    /// How far a log is that should be `whole`.
    fn filled(&self, log: &LogId, whole: &Tree) -> Filled {
        let tree = self.logs.tree(log).unwrap_or(Tree::EMPTY);
        if tree.size() < whole.size() {
            return Filled::Lacks(tree.size());
        }
        match tree == *whole {
            true => Filled::Whole,
            false => Filled::Wrong,
        }
    }

    /// Keeps the leaves of a node that does not run: from what its snapshot knew on.
    pub(super) async fn salvage(
        data: &Path,
        begun: Vec<(AuditLog, Tree)>,
        leaves: Vec<Leaf>,
    ) -> Result<(), String> {
        let keeping = Self::open(data)?;
        let told = |error: io::Error| error.to_string();
        keeping.begin(begun, Vec::new()).map_err(told)?;
        keeping.append(leaves).map_err(told)?;
        keeping.durable().await.map_err(told)
    }

    fn begin_one(&self, log: &AuditLog, tree: Tree) -> io::Result<()> {
        let id = id_of(log);
        match self.logs.begin(&id, tree.clone()) {
            Ok(()) => {
                self.partial.lock().remove(&id);
                Ok(())
            }
            Err(error @ LogError::Damaged { .. }) => {
                tracing::warn!(log = %id, %error, "this node does not have all leaves of an audit log; it asks other control nodes");
                self.partial.lock().insert(id, tree);
                self.lacking.notify_one();
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &LogError) -> io::Error {
        if let LogError::Fork { log, size } = error {
            *self.forked.lock() = Some((log.clone(), *size));
        }
        failed(error)
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
        for Leaf {
            log,
            index,
            bytes,
            openings,
        } in leaves
        {
            let log = id_of(&log);
            self.openings.add(&log, openings)?;
            if let Some(whole) = self.partial.lock().get_mut(&log) {
                whole.push(Hash::of_leaf(&bytes));
                continue;
            }
            self.logs
                .append(&log, index, &[bytes])
                .map_err(|error| self.failed(&error))?;
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
        let (logs, openings) = (Arc::clone(&self.logs), Arc::clone(&self.openings));
        Box::pin(async move {
            let durable = move || {
                openings.durable()?;
                logs.durable().map_err(|error| failed(&error))
            };
            tokio::task::spawn_blocking(durable)
                .await
                .map_err(io::Error::other)?
        })
    }
}

pub(super) fn id_of(log: &AuditLog) -> LogId {
    match log {
        AuditLog::Fleet => LogId::Fleet,
        AuditLog::Tenant(tenant) => LogId::Tenant(tenant.clone()),
    }
}

fn log_of(log: &LogId) -> AuditLog {
    match log {
        LogId::Fleet => AuditLog::Fleet,
        LogId::Tenant(tenant) => AuditLog::Tenant(tenant.clone()),
    }
}

fn failed(error: &LogError) -> io::Error {
    io::Error::other(format!("the audit logs: {}", error.with_cause()))
}

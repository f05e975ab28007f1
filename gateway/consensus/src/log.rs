//! The log as consensus reads and writes it.
//!
//! Entries are readable as soon as they are given, from memory, and durable when the writer says
//! so. All entries that are not covered by a snapshot are in memory: [`crate::machine`] makes one
//! often enough.

use crate::image::damaged;
use crate::tables::{Loaded, PURGED, VOTE};
use crate::types::{Entry, LogId, Types, Vote};
use crate::writer::{Write, Writer};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes of entries in one answer to a reader, above which it ends early: a message to a peer must
/// fit into a frame of the mesh.
const READ_BYTES: usize = 1 << 20;

/// Bytes of entries above which a snapshot is made, so that they can go. More than the entries that
/// are kept behind a snapshot may have together, or it would never be enough.
pub(crate) const LOG_BYTES: usize = 48 << 20;

/// The log. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Mutex<Shared>>,
    writer: Writer,
    /// Where the durable part was applied up to when the file was opened.
    committed: Option<LogId>,
    /// Told when the entries are more than [`LOG_BYTES`].
    full: Arc<Notify>,
}

struct Shared {
    entries: BTreeMap<u64, Kept>,
    /// Of all entries.
    bytes: usize,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

struct Kept {
    entry: Entry,
    bytes: usize,
}

impl Log {
    pub(crate) fn new(loaded: &Loaded, writer: Writer) -> Self {
        let entries = loaded.entries.iter().map(|(index, (entry, bytes))| {
            let kept = Kept {
                entry: entry.clone(),
                bytes: *bytes,
            };
            (*index, kept)
        });
        Self {
            shared: Arc::new(Mutex::new(Shared {
                bytes: loaded.entries.values().map(|(_, bytes)| *bytes).sum(),
                entries: entries.collect(),
                vote: loaded.vote,
                purged: loaded.purged,
            })),
            writer,
            committed: loaded.committed,
            full: Arc::default(),
        }
    }

    /// Told when a snapshot is due for the log's size.
    pub(crate) fn full(&self) -> Arc<Notify> {
        Arc::clone(&self.full)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn insert(&mut self, index: u64, kept: Kept) {
        self.bytes = self.bytes.saturating_add(kept.bytes);
        if let Some(before) = self.entries.insert(index, kept) {
            self.bytes = self.bytes.saturating_sub(before.bytes);
        }
    }

    /// Takes out the entries from this index on.
    fn split_off(&mut self, from: u64) -> BTreeMap<u64, Kept> {
        let taken = self.entries.split_off(&from);
        let bytes: usize = taken.values().map(|kept| kept.bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let shared = self.shared();
        let entries = shared.entries.range(range);
        Ok(entries.map(|(_, kept)| kept.entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let shared = self.shared();
        let mut taken = Vec::new();
        let mut bytes = 0_usize;
        for (_, kept) in shared.entries.range(start..end) {
            bytes = bytes.saturating_add(kept.bytes);
            // At least one, or nobody ever gets on.
            if bytes > READ_BYTES && !taken.is_empty() {
                break;
            }
            taken.push(kept.entry.clone());
        }
        Ok(taken)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let shared = self.shared();
        let last = shared.entries.last_key_value();
        Ok(LogState {
            last_purged_log_id: shared.purged,
            last_log_id: last.map(|(_, kept)| kept.entry.log_id()).or(shared.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = postcard::to_stdvec(vote).map_err(damaged)?;
        self.writer.put(VOTE, bytes).await?;
        self.shared().vote = Some(*vote);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        {
            let mut shared = self.shared();
            for entry in entries {
                let bytes = postcard::to_stdvec(&entry).map_err(damaged)?;
                let index = entry.log_id().index;
                let kept = Kept {
                    entry,
                    bytes: bytes.len(),
                };
                shared.insert(index, kept);
                encoded.push((index, bytes));
            }
            if shared.bytes > LOG_BYTES {
                self.full.notify_one();
            }
        }
        self.writer.send(Write::Append(encoded, flushed)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        drop(self.shared().split_off(from));
        self.writer.remove(from..=u64::MAX, None).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut shared = self.shared();
            let kept = shared.split_off(upto.index.saturating_add(1));
            shared.bytes = kept.values().map(|kept| kept.bytes).sum();
            shared.entries = kept;
            shared.purged = Some(upto);
        }
        let purged = postcard::to_stdvec(&upto).map_err(damaged)?;
        self.writer
            .remove(0..=upto.index, Some((PURGED, purged)))
            .await
    }
}

//! The logs that cannot be rewritten unseen, as C2SP tlog-tiles directories: `fleet/` and `tenants/TENANT/`, each with `checkpoint` and
//! `tile/`. Anybody can serve them as static files and check them.
//!
//! Whoever owns the logs keeps the leaves until they are durable here, and after a crash appends them again from a size that was durable:
//! the same leaves at the same places. Every call may wait for the disk. Nothing is held open, so ten thousand logs cost no descriptors.
//!
//! Deliberately absent: keys, and the meaning of leaves. Who publishes hands over a note that is signed.

mod error;
mod files;
#[cfg(test)]
mod home;
mod kept;
#[cfg(test)]
mod kept_tests;
mod log;
mod place;
mod shelf;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use portcullis_audit::tlog::{
    Hash, Level, MAX_BUNDLE_BYTES, MAX_NOTE_BYTES, MAX_TILE_BYTES, Note, Tree,
};

pub use self::error::LogError;
pub use self::kept::KeptFrom;
pub use self::place::{LogFile, LogId, parse_path};

pub(crate) use self::files::{numbered, read};
pub(crate) use self::kept::MAX_KEPT_BYTES;
pub(crate) use self::place::{CHECKPOINT, KEPT_FROM, TENANTS, WITNESSED};

use self::files::Unsynced;
use self::log::{Begin, Log};
use super::limits::{LOG_PENDING_BYTES, LOGS};

/// All logs of a node, under one directory.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    pending_limit: usize,
    held: Mutex<Held>,
    /// One `durable` at a time: a second one must not return before the first has synced what it took.
    syncing: Mutex<()>,
    /// Held for as long as the logs are open: one process at a time.
    _lock: File,
}

#[derive(Debug, Default)]
struct Held {
    logs: BTreeMap<LogId, Log>,
    /// What the leaves cost that wait in memory, of all logs together.
    waiting: usize,
    unsynced: Unsynced,
    /// Set once a sync failed: what the system then says of its files is not to be believed.
    not_synced: Option<String>,
}

impl Logs {
    /// Opens (or makes) the directory, 0700. No log is begun yet.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it open; whatever the system says.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        Self::open_within(directory, LOG_PENDING_BYTES)
    }

    fn open_within(directory: &Path, pending_limit: usize) -> Result<Self, LogError> {
        let mut held = Held::default();
        held.unsynced.make_folder(directory)?;
        let path = directory.join("lock");
        let lock = lock(&path).map_err(LogError::io(&path))?;
        Ok(Self {
            directory: directory.to_owned(),
            pending_limit,
            held: Mutex::new(held),
            syncing: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Begins a log, or begins it again, where its owner knows it to be. What the files have beyond is overwritten.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if the files do not have this tree's right edge: they end before, as after a snapshot was installed
    /// ([`Self::published_tree`] says from where to append what is missing), or were changed. [`LogError::Fork`] if the published
    /// checkpoint is of another history.
    pub fn begin(&self, log: &LogId, tree: Tree) -> Result<(), LogError> {
        // What a `durable` under way syncs is not yet what is put in order here.
        let _syncing = self.syncing.lock();
        let held = &mut *self.held.lock();
        held.usable()?;
        held.begin(log, self.folder(log), tree, Begin::GoOn)
    }

    /// Begins a log that is to be written from its first entry on, whatever its files have.
    ///
    /// # Errors
    /// Those of [`Self::begin`].
    pub fn begin_anew(&self, log: &LogId) -> Result<(), LogError> {
        let _syncing = self.syncing.lock();
        let held = &mut *self.held.lock();
        held.usable()?;
        held.begin(log, self.folder(log), Tree::EMPTY, Begin::Anew)
    }

    /// Appends leaves of which the first has this index; a log without any need not be begun. Leaves that are there already must be the
    /// same. The log's size after.
    ///
    /// # Errors
    /// [`LogError`]; then none of them was appended.
    pub fn append<L: AsRef<[u8]>>(
        &self,
        log: &LogId,
        first: u64,
        leaves: &[L],
    ) -> Result<u64, LogError> {
        let held = &mut *self.held.lock();
        held.usable()?;
        held.make_room(self.pending_limit)?;
        if first == 0 && !held.logs.contains_key(log) {
            held.begin(log, self.folder(log), Tree::EMPTY, Begin::GoOn)?;
        }
        let found = held.logs.get_mut(log);
        let found = found.ok_or_else(|| LogError::Unknown(log.clone()))?;
        let before = found.pending_bytes();
        found.append(first, leaves)?;
        held.waiting = held.waiting.saturating_add(found.pending_bytes() - before);
        Ok(found.tree().size())
    }

    /// Appends entries that were let go of everywhere, by their hashes: whole bundles, where the log ends. The log's size after. Whether they
    /// are the log's is seen by its tree.
    ///
    /// # Errors
    /// [`LogError`]; then none of them was appended.
    pub fn append_gone(&self, log: &LogId, first: u64, hashes: &[Hash]) -> Result<u64, LogError> {
        let held = &mut *self.held.lock();
        held.usable()?;
        held.make_room(self.pending_limit)?;
        let found = held.logs.get_mut(log);
        let found = found.ok_or_else(|| LogError::Unknown(log.clone()))?;
        let before = found.pending_bytes();
        found.append_gone(first, hashes)?;
        held.waiting = held.waiting.saturating_add(found.pending_bytes() - before);
        Ok(found.tree().size())
    }

    /// What a log that was begun declared of what it lacks, and published since.
    #[must_use]
    pub fn kept_from(&self, log: &LogId) -> Option<KeptFrom> {
        self.held.lock().logs.get(log)?.kept_from()
    }

    /// The hashes of the entries of a whole bundle of a log that was begun; nothing beyond its end.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn hashes(&self, log: &LogId, bundle: u64) -> Result<Option<Vec<Hash>>, LogError> {
        let held = self.held.lock();
        let found = held.logs.get(log);
        found
            .ok_or_else(|| LogError::Unknown(log.clone()))?
            .hashes(bundle)
    }

    /// Lets go of the entries of a whole bundle, after the log declared that it may lack them ([`Self::kept_from`]); their hashes stay. One
    /// that is gone already is no failure.
    ///
    /// # Errors
    /// [`LogError`]; [`LogError::NotDeclared`] if it did not.
    pub fn let_go(&self, log: &LogId, bundle: u64) -> Result<(), LogError> {
        let held = &mut *self.held.lock();
        held.usable()?;
        let found = held.logs.get(log);
        let found = found.ok_or_else(|| LogError::Unknown(log.clone()))?;
        found.let_go(bundle, &mut held.unsynced)
    }

    /// The numbers of the whole bundles before `end` that are there, in order.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn bundles(&self, log: &LogId, end: u64) -> io::Result<Vec<u64>> {
        let mut numbers = numbered(&self.folder(log).join("tile/entries"), "")?;
        numbers.retain(|number| *number < end);
        Ok(numbers)
    }

    /// The logs that were begun, the fleet's first.
    #[must_use]
    pub fn logs(&self) -> Vec<LogId> {
        self.held.lock().logs.keys().cloned().collect()
    }

    /// The tree of a log that was begun.
    #[must_use]
    pub fn tree(&self, log: &LogId) -> Option<Tree> {
        let held = self.held.lock();
        held.logs.get(log).map(|log| log.tree().clone())
    }

    /// The root that a log that was begun had at this size, from its own tiles; nothing if it is not that long.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn root_at(&self, log: &LogId, size: u64) -> Result<Option<Hash>, LogError> {
        let held = self.held.lock();
        let found = held.logs.get(log);
        let found = found.ok_or_else(|| LogError::Unknown(log.clone()))?;
        match size <= found.tree().size() {
            true => found.root_at(size).map(Some),
            false => Ok(None),
        }
    }

    /// Leaves of a log that was begun, from this index on: as many as are easily had, at most 256; none where it ends.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn entries(&self, log: &LogId, from: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let held = self.held.lock();
        let found = held.logs.get(log);
        found
            .ok_or_else(|| LogError::Unknown(log.clone()))?
            .entries(from)
    }

    /// The tree of the last published checkpoint, as the files have it; nothing if none was published.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if the tiles are not the checkpoint's.
    pub fn published_tree(&self, log: &LogId) -> Result<Option<Tree>, LogError> {
        Log::published_tree(self.folder(log))
    }

    /// Writes the tiles that a signed checkpoint promises, and then the checkpoint. Of several with the same moment the fleet's comes last:
    /// whoever sees it then finds every log at least as long as it says.
    ///
    /// # Errors
    /// [`LogError`]; then the checkpoint before it stands.
    pub fn publish(&self, log: &LogId, note: &Note) -> Result<(), LogError> {
        let held = &mut *self.held.lock();
        held.usable()?;
        let found = held.logs.get_mut(log);
        found
            .ok_or_else(|| LogError::Unknown(log.clone()))?
            .publish(note, &mut held.unsynced)
    }

    /// Shows a checkpoint that was published and that witnesses cosigned since.
    ///
    /// # Errors
    /// [`LogError`]; then the one before it stands.
    pub fn show_witnessed(&self, log: &LogId, note: &Note) -> Result<(), LogError> {
        let held = &mut *self.held.lock();
        held.usable()?;
        let path = self.folder(log).join(LogFile::Witnessed.to_string());
        held.unsynced.write(&path, note.to_string().as_bytes())
    }

    /// Makes everything that was appended so far durable. Appending goes on meanwhile.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing is lost, and it can be called again. [`LogError::NotSynced`]: the logs must be opened again.
    pub fn durable(&self) -> Result<(), LogError> {
        let _syncing = self.syncing.lock();
        // One log at a time: who appends does not wait for ten thousand.
        let logs: Vec<LogId> = self.held.lock().logs.keys().cloned().collect();
        for id in &logs {
            let held = &mut *self.held.lock();
            held.usable()?;
            held.flush(id)?;
        }
        let (unsynced, sizes) = {
            let held = &mut *self.held.lock();
            let sizes = held.logs.iter();
            let sizes: Vec<(LogId, u64)> = sizes
                .map(|(id, log)| (id.clone(), log.in_tiles()))
                .collect();
            (held.unsynced.take(), sizes)
        };
        if unsynced.is_empty() {
            return Ok(());
        }
        let synced = unsynced.sync(&self.directory);
        if let Err((path, error)) = synced {
            let held = &mut *self.held.lock();
            held.not_synced = Some(format!("{}: {error}", path.display()));
            return held.usable();
        }
        for (id, size) in sizes {
            let held = &mut *self.held.lock();
            if let Some(log) = held.logs.get_mut(&id) {
                log.synced(size, &mut held.unsynced)?;
            }
        }
        Ok(())
    }

    /// A file as it is to be served; nothing if there is none.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn read(&self, log: &LogId, file: LogFile) -> io::Result<Option<Vec<u8>>> {
        let path = self.folder(log).join(file.to_string());
        read(&path, limit(file))
    }

    fn folder(&self, log: &LogId) -> PathBuf {
        self.directory.join(log.to_string())
    }
}

impl Held {
    fn usable(&self) -> Result<(), LogError> {
        match &self.not_synced {
            Some(problem) => Err(LogError::NotSynced {
                problem: problem.clone(),
            }),
            None => Ok(()),
        }
    }

    fn begin(
        &mut self,
        id: &LogId,
        folder: PathBuf,
        tree: Tree,
        begin: Begin,
    ) -> Result<(), LogError> {
        if self.logs.len() >= LOGS && !self.logs.contains_key(id) {
            return Err(LogError::TooMany(LOGS));
        }
        let log = Log::open(id.clone(), folder, tree, begin, &mut self.unsynced)?;
        self.logs.insert(id.clone(), log);
        Ok(())
    }

    /// Writes the logs of which most waits, until half of what may wait is free.
    fn make_room(&mut self, limit: usize) -> Result<(), LogError> {
        if self.waiting < limit {
            return Ok(());
        }
        // Publishing wrote some of it meanwhile.
        self.waiting = self.logs.values().map(Log::pending_bytes).sum();
        let mut logs: Vec<&mut Log> = self.logs.values_mut().collect();
        logs.sort_by_key(|log| Reverse(log.pending_bytes()));
        for log in logs {
            if self.waiting <= limit / 2 {
                break;
            }
            let before = log.pending_bytes();
            log.flush(log.tree().size(), &mut self.unsynced)?;
            self.waiting = self.waiting.saturating_sub(before);
        }
        Ok(())
    }

    fn flush(&mut self, id: &LogId) -> Result<(), LogError> {
        let Some(log) = self.logs.get_mut(id) else {
            return Ok(());
        };
        let before = log.pending_bytes();
        log.flush(log.tree().size(), &mut self.unsynced)?;
        self.waiting = self.waiting.saturating_sub(before);
        Ok(())
    }
}

/// Bytes of such a file at most.
pub(crate) fn limit(file: LogFile) -> usize {
    match file {
        LogFile::Checkpoint | LogFile::Witnessed => MAX_NOTE_BYTES,
        LogFile::KeptFrom => MAX_KEPT_BYTES,
        LogFile::Tile(tile) => match tile.level {
            Level::Entries => MAX_BUNDLE_BYTES,
            Level::Hashes(_) => MAX_TILE_BYTES,
        },
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(path)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has these logs open",
        ),
        TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

//! One log that grows: leaves wait in memory, tiles lie on disk, and the memory never says more than what was written.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{
    Checkpoint, Hash, Level, MAX_ENTRY_BYTES, MAX_NOTE_BYTES, Note, TILE_HEIGHT, TILE_WIDTH, Tile,
    Tree, append_entry, encode_tile,
};

use super::error::LogError;
use super::files::{Unsynced, read};
use super::kept::{KeptFrom, MAX_KEPT_BYTES};
use super::place::{CHECKPOINT, KEPT_FROM, LogId};
use super::shelf::{Shelf, WIDTH};

/// A log that is open for appending.
#[derive(Debug)]
pub(super) struct Log {
    id: LogId,
    shelf: Shelf,
    /// All leaves,
    tree: Tree,
    /// those of them that are in tiles,
    base: Tree,
    /// and the others.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// A size up to which everything is synced: where the owner may begin again after a crash.
    synced: u64,
    published: Option<Checkpoint>,
    /// What was declared last,
    declared: Option<KeptFrom>,
    /// and that of it which is in its file: published, so that anybody finds the entry which says so.
    kept: Option<KeptFrom>,
}

/// A leaf that is in no tile yet; without its bytes, if it was let go of.
type Pending = (Hash, Option<Vec<u8>>);

/// Where a log begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Where its owner is; what the log lacks after that is found to be what was let go of.
    GoOn,
    /// It is written from the first entry on.
    Anew,
}

impl Log {
    /// Goes on with the tree that the owner knows. Its right edge must be in the files, and what is published must not contradict it;
    /// what the files have beyond it will be overwritten.
    pub(super) fn open(
        id: LogId,
        folder: PathBuf,
        tree: Tree,
        begin: Begin,
        unsynced: &mut Unsynced,
    ) -> Result<Self, LogError> {
        unsynced.make_folder(&folder)?;
        let published = published(&folder)?;
        let kept = kept(&folder, published.as_ref())?;
        let tree = match (&published, kept) {
            (Some(published), Some(kept))
                if begin == Begin::GoOn && tree.size() < kept.kept_from =>
            {
                beyond(&folder, &tree, published)?
            }
            _ => tree,
        };
        let size = published.as_ref().map(|published| published.size);
        let mut shelf = Shelf::open(folder, size.into_iter().chain([tree.size()]))?;
        let edge = shelf.edge(&tree)?;
        shelf.settle(&tree, &edge, size, unsynced)?;
        let log = Self {
            id,
            shelf,
            base: tree.clone(),
            synced: tree.size(),
            tree,
            pending: VecDeque::new(),
            pending_bytes: 0,
            published,
            declared: kept,
            kept,
        };
        if let Some(published) = &log.published
            && published.size <= log.tree.size()
            && log.root_at(published.size)? != published.root
        {
            let size = published.size;
            return Err(LogError::Fork { log: log.id, size });
        }
        Ok(log)
    }

    /// The tree of the published checkpoint, as the tiles have it: from where a log can be caught up whose owner is further than its files.
    pub(super) fn published_tree(folder: PathBuf) -> Result<Option<Tree>, LogError> {
        let Some(checkpoint) = published(&folder)? else {
            return Ok(None);
        };
        let shelf = Shelf::open(folder, [checkpoint.size])?;
        match shelf.tree_at(checkpoint.size)? {
            Some(tree) if tree.root() == checkpoint.root => Ok(Some(tree)),
            Some(_) | None => {
                let problem = "its tiles are not those of its checkpoint";
                Err(LogError::damaged(&shelf.folder, problem))
            }
        }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn in_tiles(&self) -> u64 {
        self.base.size()
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Adds leaves of which the first has this index; what is there already must be the same. All of them or none.
    pub(super) fn append<L: AsRef<[u8]>>(
        &mut self,
        first: u64,
        leaves: &[L],
    ) -> Result<(), LogError> {
        let log = || self.id.clone();
        let size = self.tree.size();
        if first > size {
            return Err(LogError::Gap {
                log: log(),
                size,
                index: first,
            });
        }
        let mut added = Vec::new();
        let mut bundle = None;
        let mut declared = self.declared;
        for (index, leaf) in (first..).zip(leaves) {
            let leaf = leaf.as_ref();
            if leaf.len() > MAX_ENTRY_BYTES {
                return Err(LogError::TooLong {
                    log: log(),
                    index,
                    bytes: leaf.len(),
                });
            }
            let hash = Hash::of_leaf(leaf);
            if let Some(said) = KeptFrom::declared(index, leaf)
                && declared.is_none_or(|before| before.kept_from < said.kept_from)
            {
                declared = Some(said);
            }
            if index < size {
                if self.leaf(index, &mut bundle)? != hash {
                    return Err(LogError::Differs { log: log(), index });
                }
                continue;
            }
            added.push((hash, Some(leaf.to_vec())));
        }
        self.add(added)?;
        self.declared = declared;
        Ok(())
    }

    /// Adds whole bundles of leaves by their hashes. All of them or none.
    pub(super) fn append_gone(&mut self, first: u64, hashes: &[Hash]) -> Result<(), LogError> {
        let size = self.tree.size();
        let whole = hashes.len().is_multiple_of(offset(WIDTH)) && first.is_multiple_of(WIDTH);
        if first != size || !whole {
            return Err(LogError::Gap {
                log: self.id.clone(),
                size,
                index: first,
            });
        }
        self.add(hashes.iter().map(|hash| (*hash, None)).collect())
    }

    fn add(&mut self, added: Vec<Pending>) -> Result<(), LogError> {
        let mut tree = self.tree.clone();
        for (hash, _) in &added {
            tree.push(*hash);
            if let Some(published) = &self.published
                && published.size == tree.size()
                && published.root != tree.root()
            {
                let size = published.size;
                return Err(LogError::Fork {
                    log: self.id.clone(),
                    size,
                });
            }
        }
        let bytes = added.iter().map(cost);
        self.pending_bytes = self.pending_bytes.saturating_add(bytes.sum());
        self.pending.extend(added);
        self.tree = tree;
        Ok(())
    }

    /// Writes tiles up to this size, with what is partial there.
    pub(super) fn flush(&mut self, to: u64, unsynced: &mut Unsynced) -> Result<(), LogError> {
        let from = self.base.size();
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(());
        }
        let edge = self.shelf.edge(&self.base)?;
        let (mut rows, mut bundles) = (edge.rows, vec![edge.bundle]);
        let mut base = self.base.clone();
        let mut gone = BTreeSet::new();
        for (index, (hash, leaf)) in (from..).zip(self.pending.iter().take(count)) {
            if index % WIDTH == 0 && index > from {
                bundles.push(Vec::new());
            }
            match (leaf, bundles.last_mut()) {
                (None, _) => {
                    gone.insert(index / WIDTH);
                }
                (Some(leaf), Some(bundle)) => {
                    append_entry(bundle, leaf).map_err(|bytes| LogError::TooLong {
                        log: self.id.clone(),
                        index,
                        bytes,
                    })?
                }
                (Some(_), None) => {}
            }
            base.append(*hash, |at, hash| {
                if at.level % TILE_HEIGHT == 0
                    && let Some(row) = rows.get_mut(usize::from(at.level / TILE_HEIGHT))
                {
                    row.push(hash);
                }
            });
        }
        for tile in Tile::added(from, base.size()) {
            if tile.level == Level::Entries && gone.contains(&tile.index) {
                continue;
            }
            let bytes = match tile.level {
                Level::Entries => bundles.get(offset(tile.index - from / WIDTH)).cloned(),
                Level::Hashes(level) => {
                    // Each row begins where the tile does that was partial before.
                    let before = from >> (u32::from(level) * u32::from(TILE_HEIGHT));
                    let start = offset((tile.index - before / WIDTH) * WIDTH);
                    let row = rows.get(usize::from(level));
                    row.and_then(|row| row.get(start..start + usize::from(tile.width)))
                        .map(encode_tile)
                }
            };
            let unknown = || LogError::damaged(&self.shelf.path(tile), "its contents are unknown");
            let bytes = bytes.ok_or_else(unknown)?;
            self.shelf.write(tile, &bytes, unsynced)?;
        }
        self.base = base;
        for pending in self.pending.drain(..count.min(self.pending.len())) {
            self.pending_bytes = self.pending_bytes.saturating_sub(cost(&pending));
        }
        // A crash may have torn what belongs to the checkpoint that is published.
        if let Some(size) = self.published.as_ref().map(|published| published.size)
            && (from..to).contains(&size)
        {
            self.shelf.make_partial(size, unsynced)?;
        }
        self.prune(unsynced)
    }

    /// Puts a signed checkpoint in its place, after everything that it promises.
    pub(super) fn publish(&mut self, note: &Note, unsynced: &mut Unsynced) -> Result<(), LogError> {
        let log = || self.id.clone();
        let checkpoint = Checkpoint::parse(&note.text)
            .map_err(|error| LogError::NotACheckpoint(log(), error))?;
        let size = checkpoint.size;
        if let Some(published) = &self.published {
            if published.origin != checkpoint.origin {
                return Err(LogError::OtherLog(log(), checkpoint.origin));
            }
            if published.size > size {
                return Err(LogError::Older {
                    log: log(),
                    published: published.size,
                    size,
                });
            }
        }
        if size > self.tree.size() {
            return Err(LogError::Ahead {
                log: log(),
                has: self.tree.size(),
                size,
            });
        }
        if self.root_at(size)? != checkpoint.root {
            return Err(LogError::Fork { log: log(), size });
        }
        self.flush(size, unsynced)?;
        self.shelf.make_partial(size, unsynced)?;
        let path = self.shelf.folder.join(CHECKPOINT);
        unsynced.write(&path, note.to_string().as_bytes())?;
        self.published = Some(checkpoint);
        self.say_kept(unsynced)?;
        self.prune(unsynced)
    }

    /// Writes what was declared, once what is published has the entry that declares it.
    fn say_kept(&mut self, unsynced: &mut Unsynced) -> Result<(), LogError> {
        let size = self.published.as_ref().map_or(0, |it| it.size);
        if let Some(declared) = self.declared
            && self.kept != Some(declared)
            && declared.declared_by < size
        {
            let path = self.shelf.folder.join(KEPT_FROM);
            unsynced.write(&path, declared.line().as_bytes())?;
            self.kept = Some(declared);
        }
        Ok(())
    }

    pub(super) fn kept_from(&self) -> Option<KeptFrom> {
        self.kept
    }

    /// The hashes of the entries of a whole bundle; nothing beyond those that are in tiles.
    pub(super) fn hashes(&self, bundle: u64) -> Result<Option<Vec<Hash>>, LogError> {
        match Tile::at(Level::Hashes(0), bundle, self.base.size()) {
            Some(tile) if !tile.is_partial() => self.shelf.row(tile).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Removes the entries of a whole bundle that the log declared it may lack.
    pub(super) fn let_go(&self, bundle: u64, unsynced: &mut Unsynced) -> Result<(), LogError> {
        if !self.may_lack(bundle) {
            return Err(LogError::NotDeclared {
                log: self.id.clone(),
                index: bundle.saturating_mul(WIDTH),
            });
        }
        let tile = Tile {
            level: Level::Entries,
            index: bundle,
            width: TILE_WIDTH,
        };
        unsynced.remove(&self.shelf.path(tile))
    }

    fn may_lack(&self, bundle: u64) -> bool {
        let kept_from = self.kept.map_or(0, |kept| kept.kept_from);
        bundle < kept_from / WIDTH
    }

    /// All tiles up to this size are synced.
    pub(super) fn synced(&mut self, size: u64, unsynced: &mut Unsynced) -> Result<(), LogError> {
        self.synced = self.synced.max(size);
        self.shelf.synced(unsynced)?;
        self.prune(unsynced)
    }

    /// What is partial is needed by whoever reads the published checkpoint, by the next leaf, and by us after a crash.
    fn prune(&mut self, unsynced: &mut Unsynced) -> Result<(), LogError> {
        let published = self.published.as_ref().map(|published| published.size);
        let needed = published.into_iter().chain([self.synced, self.base.size()]);
        self.shelf.prune(needed, unsynced)
    }

    /// The root of this size, which is not beyond the log's.
    pub(super) fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        if size == self.tree.size() {
            return Ok(self.tree.root());
        }
        if size < self.base.size() {
            return self.shelf.root_at(size);
        }
        let mut tree = self.base.clone();
        let more = offset(size - self.base.size());
        for (hash, _) in self.pending.iter().take(more) {
            tree.push(*hash);
        }
        Ok(tree.root())
    }

    /// Leaves from this index on: those of its bundle, or those that wait to be written; none where they were let go of.
    pub(super) fn entries(&self, from: u64) -> Result<Vec<Vec<u8>>, LogError> {
        if let Some(after) = from.checked_sub(self.base.size()) {
            let pending = self.pending.iter().skip(offset(after));
            let pending = pending.take(usize::try_from(WIDTH).unwrap_or(usize::MAX));
            return Ok(pending.map_while(|(_, leaf)| leaf.clone()).collect());
        }
        let Some(bundle) = Tile::at(Level::Entries, from / WIDTH, self.base.size()) else {
            return Ok(Vec::new());
        };
        if self.may_lack(bundle.index) && !self.shelf.path(bundle).exists() {
            return Ok(Vec::new());
        }
        let mut entries = self.shelf.entries(bundle)?;
        entries.truncate(usize::from(bundle.width));
        Ok(entries.into_iter().skip(offset(from % WIDTH)).collect())
    }

    /// The hash of a leaf that is there; `bundle` keeps the bundle that was read last.
    fn leaf(&self, index: u64, bundle: &mut Option<(u64, Vec<Hash>)>) -> Result<Hash, LogError> {
        let missing =
            || LogError::damaged(&self.shelf.folder, format!("entry {index} is not there"));
        if let Some(after) = index.checked_sub(self.base.size()) {
            let pending = self.pending.get(offset(after));
            return pending.map(|(hash, _)| *hash).ok_or_else(missing);
        }
        let wanted = index / WIDTH;
        let hashes = match bundle {
            Some((kept, hashes)) if *kept == wanted => hashes,
            Some(_) | None => {
                let tile = Tile::at(Level::Entries, wanted, self.base.size());
                let tile = tile.ok_or_else(missing)?;
                let hashes = match self.may_lack(wanted) {
                    true => self.hashes(wanted)?.ok_or_else(missing)?,
                    false => self.shelf.leaves(tile)?,
                };
                &mut bundle.insert((wanted, hashes)).1
            }
        };
        let hash = hashes.get(offset(index % WIDTH));
        hash.copied().ok_or_else(missing)
    }
}

/// What a leaf that waits costs in memory.
fn cost((_, leaf): &Pending) -> usize {
    leaf.as_ref().map_or(0, Vec::len) + size_of::<Pending>()
}

fn offset(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The checkpoint in a log's folder. What a crash tore is none: the next one replaces it.
fn published(folder: &Path) -> Result<Option<Checkpoint>, LogError> {
    let path = folder.join(CHECKPOINT);
    let Some(bytes) = read(&path, MAX_NOTE_BYTES).map_err(LogError::io(&path))? else {
        return Ok(None);
    };
    let note = Note::parse(&bytes).map_err(|error| error.to_string());
    let checkpoint =
        note.and_then(|note| Checkpoint::parse(&note.text).map_err(|error| error.to_string()));
    match checkpoint {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) => {
            tracing::warn!(file = %path.display(), error, "a torn checkpoint is passed over");
            Ok(None)
        }
    }
}

/// What is beside a checkpoint of a log that lacks entries. What a crash tore is none: nothing is let go of before it is synced.
fn kept(folder: &Path, published: Option<&Checkpoint>) -> Result<Option<KeptFrom>, LogError> {
    let path = folder.join(KEPT_FROM);
    let bytes = read(&path, MAX_KEPT_BYTES).map_err(LogError::io(&path))?;
    let kept = bytes.and_then(|bytes| KeptFrom::parse(&bytes));
    let size = published.map_or(0, |it| it.size);
    Ok(kept.filter(|kept| kept.kept_from <= kept.declared_by && kept.declared_by < size))
}

/// The tree of the published checkpoint, which must go on from this one: the log begins again in the middle of what was let go of, so that
/// what comes again is only compared, up to there.
fn beyond(folder: &Path, tree: &Tree, published: &Checkpoint) -> Result<Tree, LogError> {
    let shelf = Shelf::open(folder.to_owned(), [published.size])?;
    let whole = shelf.tree_at(published.size)?;
    let whole = whole.filter(|whole| whole.root() == published.root);
    let same = match tree.size() {
        0 => true,
        size => shelf.root_at(size)? == tree.root(),
    };
    let problem = "its tiles are not those of its checkpoint";
    whole
        .filter(|_| same)
        .ok_or_else(|| LogError::damaged(folder, problem))
}

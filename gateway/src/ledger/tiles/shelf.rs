//! The tiles of one log as they lie on disk: reading the right edge of any size that is there, and keeping what is partial in order.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{
    Hash, Level, MAX_BUNDLE_BYTES, MAX_TILE_BYTES, NoProof, Subtree, Subtrees, TILE_HEIGHT,
    TILE_WIDTH, Tile, TileError, Tiles, Tree, append_entry, decode_tile, encode_tile, entries,
    root_at,
};

use super::error::LogError;
use super::files::{Unsynced, read};

/// A log's folder.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) folder: PathBuf,
    /// The partial tiles and bundles that lie there and are read: at first those that were found, then those that are known to be good.
    partial: BTreeSet<Tile>,
    /// Partial ones beyond the log's end that a crash left. They are removed once all that is read is synced: until then they may be all
    /// that another crash leaves.
    stale: BTreeSet<Tile>,
}

impl Shelf {
    /// Finds out what is partial at the right edges of these sizes.
    pub(super) fn open(
        folder: PathBuf,
        sizes: impl IntoIterator<Item = u64>,
    ) -> Result<Self, LogError> {
        let mut shelf = Self {
            folder,
            partial: BTreeSet::new(),
            stale: BTreeSet::new(),
        };
        for tile in sizes.into_iter().flat_map(partial_at) {
            let Some(folder) = shelf.path(tile).parent().map(Path::to_owned) else {
                continue;
            };
            let listed = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed.map_err(LogError::io(&folder))?,
            };
            for entry in listed {
                let name = entry.map_err(LogError::io(&folder))?.file_name();
                let width = name.to_str().and_then(|name| name.parse().ok());
                let width = width.filter(|width| (1..TILE_WIDTH).contains(width));
                shelf
                    .partial
                    .extend(width.map(|width| Tile { width, ..tile }));
            }
        }
        Ok(shelf)
    }

    /// What is partial at the right edge of this tree, checked against it.
    pub(super) fn edge(&self, tree: &Tree) -> Result<Edge, LogError> {
        let size = tree.size();
        let mut edge = Edge::default();
        let mut peaks = tree.peaks().iter().rev();
        for level in 0..LEVELS {
            let hashes = size >> (u32::from(level) * u32::from(TILE_HEIGHT));
            let tile = Tile::at(Level::Hashes(level), hashes / WIDTH, size);
            let Some(tile) = tile.filter(|_| !hashes.is_multiple_of(WIDTH)) else {
                edge.rows.push(Vec::new());
                continue;
            };
            let count = usize::try_from(tile.width.count_ones()).unwrap_or_default();
            let ours: Vec<Hash> = peaks.by_ref().take(count).copied().collect();
            edge.rows
                .push(self.first_of(tile, MAX_TILE_BYTES, |bytes, found| {
                    let hashes = prefix(bytes, found, tile.width)?;
                    let mut tree = Tree::EMPTY;
                    hashes.iter().for_each(|hash| tree.push(*hash));
                    match tree.peaks().iter().rev().eq(&ours) {
                        true => Ok(hashes),
                        false => Err("its hashes are not those of the log".to_owned()),
                    }
                })?);
        }
        if let Some(hashes) = edge.rows.first().filter(|hashes| !hashes.is_empty()) {
            edge.bundle = self.bundle(size, hashes)?;
        }
        Ok(edge)
    }

    /// Puts in order what a crash left: beyond `tree`, whose edge this is, nothing is to be believed.
    pub(super) fn settle(
        &mut self,
        tree: &Tree,
        edge: &Edge,
        published: Option<u64>,
        unsynced: &mut Unsynced,
    ) -> Result<(), LogError> {
        let found = mem::take(&mut self.partial);
        for tile in partial_at(tree.size()) {
            let bytes = match tile.level {
                Level::Entries => Some(edge.bundle.clone()),
                Level::Hashes(level) => {
                    let row = edge.rows.get(usize::from(level));
                    row.map(|row| encode_tile(row))
                }
            };
            if found.contains(&tile) && bytes == self.bytes(tile)? {
                self.partial.insert(tile);
            } else {
                self.write(tile, &bytes.unwrap_or_default(), unsynced)?;
            }
        }
        let published_edge: BTreeSet<Tile> = published.into_iter().flat_map(partial_at).collect();
        // The published checkpoint's are written again when the log is that long again.
        self.stale = found
            .difference(&self.partial)
            .filter(|tile| !published_edge.contains(tile))
            .copied()
            .collect();
        match published {
            Some(size) if size < tree.size() => self.make_partial(size, unsynced),
            Some(_) | None => Ok(()),
        }
    }

    /// The hashes of the leaves of a bundle.
    pub(super) fn leaves(&self, bundle: Tile) -> Result<Vec<Hash>, LogError> {
        self.first_of(bundle, MAX_BUNDLE_BYTES, |bytes, width| {
            let entries = entries(bytes, width).map_err(|error| error.to_string())?;
            Ok(entries.into_iter().map(Hash::of_leaf).collect())
        })
    }

    /// The leaves of a bundle.
    pub(super) fn entries(&self, bundle: Tile) -> Result<Vec<Vec<u8>>, LogError> {
        self.first_of(bundle, MAX_BUNDLE_BYTES, |bytes, width| {
            let entries = entries(bytes, width).map_err(|error| error.to_string())?;
            Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
        })
    }

    /// The hashes of a tile.
    pub(super) fn row(&self, tile: Tile) -> Result<Vec<Hash>, LogError> {
        self.first_of(tile, MAX_TILE_BYTES, |bytes, found| {
            prefix(bytes, found, tile.width)
        })
    }

    /// The root of a size that is in the tiles.
    pub(super) fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        root_at(size, &mut self.tiles(size)).map_err(|error| self.no_proof(error))
    }

    /// The tree of a size that is in the tiles, as they have it.
    pub(super) fn tree_at(&self, size: u64) -> Result<Option<Tree>, LogError> {
        let mut tiles = self.tiles(size);
        let mut peaks = Vec::new();
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            let at = Subtree {
                level: u8::try_from(level).unwrap_or(u8::MAX),
                index: (size >> level) - 1,
            };
            let hash = tiles.subtree(at);
            peaks.push(hash.map_err(|error| self.no_proof(NoProof::Source(error)))?);
        }
        Ok(Tree::restore(size, peaks))
    }

    /// Writes a tile or bundle.
    pub(super) fn write(
        &mut self,
        tile: Tile,
        bytes: &[u8],
        unsynced: &mut Unsynced,
    ) -> Result<(), LogError> {
        unsynced.write(&self.path(tile), bytes)?;
        if tile.is_partial() {
            self.partial.insert(tile);
        }
        Ok(())
    }

    /// Writes the partial tiles and the partial bundle of a size that is in the tiles, where they are not.
    pub(super) fn make_partial(
        &mut self,
        size: u64,
        unsynced: &mut Unsynced,
    ) -> Result<(), LogError> {
        for tile in partial_at(size) {
            if self.partial.contains(&tile) {
                continue;
            }
            let bytes = match tile.level {
                Level::Hashes(_) => self.hashes(tile)?,
                Level::Entries => {
                    let hashes = self.hashes(Tile {
                        level: Level::Hashes(0),
                        ..tile
                    })?;
                    let hashes = decode_tile(&hashes, tile.width).unwrap_or_default();
                    self.bundle(size, &hashes)?
                }
            };
            self.write(tile, &bytes, unsynced)?;
        }
        Ok(())
    }

    /// Removes what is partial at none of these sizes.
    pub(super) fn prune(
        &mut self,
        sizes: impl IntoIterator<Item = u64>,
        unsynced: &mut Unsynced,
    ) -> Result<(), LogError> {
        let needed: BTreeSet<Tile> = sizes.into_iter().flat_map(partial_at).collect();
        let superseded: Vec<Tile> = self.partial.difference(&needed).copied().collect();
        for tile in superseded {
            unsynced.remove(&self.path(tile))?;
            self.partial.remove(&tile);
        }
        Ok(())
    }

    /// All that is read is synced.
    pub(super) fn synced(&mut self, unsynced: &mut Unsynced) -> Result<(), LogError> {
        while let Some(tile) = self.stale.first().copied() {
            if !self.partial.contains(&tile) {
                unsynced.remove(&self.path(tile))?;
            }
            self.stale.remove(&tile);
        }
        Ok(())
    }

    pub(super) fn path(&self, tile: Tile) -> PathBuf {
        self.folder.join(tile.path())
    }

    /// The partial bundle of this size, whose leaves have these hashes.
    fn bundle(&self, size: u64, hashes: &[Hash]) -> Result<Vec<u8>, LogError> {
        let missing = || LogError::damaged(&self.folder, "its last bundle is missing");
        let tile = Tile::at(Level::Entries, size / WIDTH, size).ok_or_else(missing)?;
        self.first_of(tile, MAX_BUNDLE_BYTES, |bytes, width| {
            let found = entries(bytes, width).map_err(|error| error.to_string())?;
            let mut bundle = Vec::new();
            for (offset, hash) in hashes.iter().enumerate() {
                let entry = found.get(offset).copied().unwrap_or_default();
                if Hash::of_leaf(entry) != *hash {
                    return Err("its entries are not those of the log".to_owned());
                }
                append_entry(&mut bundle, entry).map_err(|bytes| format!("{bytes} bytes"))?;
            }
            Ok(bundle)
        })
    }

    /// The bytes of a tile of hashes, from whichever file has them.
    fn hashes(&self, tile: Tile) -> Result<Vec<u8>, LogError> {
        self.first_of(tile, MAX_TILE_BYTES, |bytes, found| {
            prefix(bytes, found, tile.width).map(|hashes| encode_tile(&hashes))
        })
    }

    /// What `take` makes of the narrowest file that has these hashes or entries, and of the next wider one if it makes nothing of it.
    fn first_of<T>(
        &self,
        tile: Tile,
        limit: usize,
        take: impl Fn(&[u8], u16) -> Result<T, String>,
    ) -> Result<T, LogError> {
        let partial = self.partial.range(tile..tile.full()).copied();
        let mut problem = None;
        for candidate in partial.chain([tile.full()]) {
            let path = self.path(candidate);
            let taken = match read(&path, limit) {
                Ok(None) => continue,
                Ok(Some(bytes)) => take(&bytes, candidate.width),
                Err(error) if is_malformed(&error) => Err(error.to_string()),
                Err(error) => return Err(LogError::io(&path)(error)),
            };
            match taken {
                Ok(taken) => return Ok(taken),
                Err(why) => {
                    problem.get_or_insert_with(|| LogError::damaged(&path, why));
                }
            }
        }
        Err(problem.unwrap_or_else(|| LogError::damaged(&self.path(tile), "it is missing")))
    }

    /// What a partial file holds; nothing if it is none of ours.
    fn bytes(&self, tile: Tile) -> Result<Option<Vec<u8>>, LogError> {
        let path = self.path(tile);
        match read(&path, MAX_BUNDLE_BYTES) {
            Err(error) if is_malformed(&error) => Ok(None),
            read => read.map_err(LogError::io(&path)),
        }
    }

    fn tiles(&self, size: u64) -> Tiles<impl FnMut(Tile) -> Result<Vec<u8>, LogError>> {
        Tiles::new(size, |tile| self.hashes(tile))
    }

    fn no_proof(&self, error: NoProof<TileError<LogError>>) -> LogError {
        match error {
            NoProof::Source(TileError::Read(error)) => error,
            NoProof::Source(error @ (TileError::Outside(_) | TileError::Width(_))) => {
                LogError::damaged(&self.folder, error)
            }
            NoProof::Outside => LogError::damaged(&self.folder, "it is too large"),
        }
    }
}

/// What is partial: the hashes of each level of tiles from the lowest up, and the bytes of the bundle.
#[derive(Default)]
pub(super) struct Edge {
    pub(super) rows: Vec<Vec<Hash>>,
    pub(super) bundle: Vec<u8>,
}

pub(super) const WIDTH: u64 = TILE_WIDTH as u64;

/// Levels of tiles.
const LEVELS: u8 = 8;

/// The partial tiles and the partial bundle of a tree of this size.
fn partial_at(size: u64) -> impl Iterator<Item = Tile> {
    let levels = (0..LEVELS).map(move |level| {
        let hashes = size >> (u32::from(level) * u32::from(TILE_HEIGHT));
        (Level::Hashes(level), hashes / WIDTH)
    });
    [(Level::Entries, size / WIDTH)]
        .into_iter()
        .chain(levels)
        .filter_map(move |(level, index)| Tile::at(level, index, size))
}

/// The first hashes of a tile.
fn prefix(bytes: &[u8], found: u16, width: u16) -> Result<Vec<Hash>, String> {
    let hashes = decode_tile(bytes, found);
    let mut hashes =
        hashes.ok_or_else(|| format!("{} bytes are not {found} hashes", bytes.len()))?;
    hashes.truncate(usize::from(width));
    Ok(hashes)
}

/// Whether a file was read and is none of ours, rather than unreadable.
fn is_malformed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData
    )
}

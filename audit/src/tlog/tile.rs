//! How a tree lies in files (C2SP tlog-tiles): tiles of up to 256 hashes, and bundles of up to 256 entries.

use std::collections::VecDeque;
use std::fmt;

use super::hash::{HASH_BYTES, Hash};
use super::proof::{MAX_SIZE, Subtrees};
use super::tree::Subtree;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Levels of a tree's nodes that one tile stands for.
pub const TILE_HEIGHT: u8 = 8;

/// Bytes of an entry: its length is written in two.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// Bytes of a bundle.
pub const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY_BYTES);

/// Bytes of a tile.
pub const MAX_TILE_BYTES: usize = TILE_WIDTH as usize * HASH_BYTES;

/// One tile of hashes, or, of level [`Level::Entries`], one bundle of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub level: Level,
    /// How many tiles lie to its left.
    pub index: u64,
    /// How many hashes or entries it has, 1 to [`TILE_WIDTH`]; with fewer it is partial.
    pub width: u16,
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Entries.
    Entries,
    /// Hashes of subtrees of `256 ^ n` leaves; of leaves themselves at 0.
    Hashes(u8),
}

/// The highest level that a tree of [`MAX_SIZE`] has.
const TOP: u8 = 7;

impl Tile {
    /// All tiles and bundles of a tree of size `new` that one of size `old` did not have, from the left and from below; also the partial
    /// ones.
    pub fn added(old: u64, new: u64) -> Vec<Self> {
        let mut tiles = Vec::new();
        let mut add = |level: Level, old: u64, new: u64| {
            let width = u64::from(TILE_WIDTH);
            if new == old {
                return;
            }
            // The tile in which the old tree ended is another now.
            let full = (old / width..new / width).map(|index| (index, TILE_WIDTH));
            let partial = u16::try_from(new % width).unwrap_or_default();
            let partial = (partial > 0).then_some((new / width, partial));
            tiles.extend(full.chain(partial).map(|(index, width)| Self {
                level,
                index,
                width,
            }));
        };
        add(Level::Entries, old, new);
        let (mut old, mut new) = (old, new);
        for level in 0..=TOP {
            add(Level::Hashes(level), old, new);
            (old, new) = (old >> TILE_HEIGHT, new >> TILE_HEIGHT);
        }
        tiles
    }

    /// The tile or bundle at this place in a tree of this size; nothing if it has none there.
    pub fn at(level: Level, index: u64, size: u64) -> Option<Self> {
        let hashes = match level {
            Level::Entries => size,
            Level::Hashes(level) if level > TOP => return None,
            Level::Hashes(level) => size >> (u32::from(level) * u32::from(TILE_HEIGHT)),
        };
        let left = hashes.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = left.min(u64::from(TILE_WIDTH));
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self {
            level,
            index,
            width,
        })
    }

    /// Whether it has less than [`TILE_WIDTH`].
    pub fn is_partial(&self) -> bool {
        self.width < TILE_WIDTH
    }

    /// The same place, full.
    #[must_use]
    pub fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// The subtrees whose hashes it holds, from the left; those of leaves for a bundle.
    pub fn subtrees(&self) -> impl Iterator<Item = Subtree> + use<> {
        let level = match self.level {
            Level::Entries => 0,
            Level::Hashes(level) => level.saturating_mul(TILE_HEIGHT),
        };
        let first = self.index.saturating_mul(u64::from(TILE_WIDTH));
        (first..first.saturating_add(u64::from(self.width)))
            .map(move |index| Subtree { level, index })
    }

    /// Where it lies, relative to the log.
    pub fn path(&self) -> String {
        let mut path = match self.level {
            Level::Entries => "tile/entries".to_owned(),
            Level::Hashes(level) => format!("tile/{level}"),
        };
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        while let Some(group) = groups.pop() {
            let more = if groups.is_empty() { "" } else { "x" };
            path.push_str(&format!("/{more}{group:03}"));
        }
        if self.is_partial() {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// Reads a path as [`Tile::path`] writes it.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let level = match level {
            "entries" => Level::Entries,
            level => Level::Hashes(level.parse().ok().filter(|level| *level <= TOP)?),
        };
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        for group in groups.split('/') {
            let group: u64 = group.trim_start_matches('x').parse().ok()?;
            index = index.checked_mul(1_000)?.checked_add(group)?;
        }
        let tile = Self {
            level,
            index,
            width,
        };
        // Whatever else can be read is another spelling.
        let possible = index <= MAX_SIZE && (1..=TILE_WIDTH).contains(&width);
        (possible && tile.path() == path).then_some(tile)
    }
}

/// The hashes of a tile as bytes.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile of this width; nothing if it is longer or shorter.
pub fn decode_tile(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    let fits = rest.is_empty() && hashes.len() == usize::from(width);
    fits.then(|| hashes.iter().copied().map(Hash).collect())
}

/// Appends an entry to a bundle.
///
/// # Errors
/// It is longer than [`MAX_ENTRY_BYTES`]; its length.
pub fn append_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), usize> {
    let length = u16::try_from(entry.len()).map_err(|_| entry.len())?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle of this width.
///
/// # Errors
/// [`WrongBundle`]; how many entries could be read.
pub fn entries(bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, WrongBundle> {
    let mut found = Vec::with_capacity(usize::from(width));
    let mut rest = bundle;
    while found.len() < usize::from(width) {
        let entry = rest.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, after)) = entry else {
            return Err(WrongBundle::Short(found.len()));
        };
        found.push(entry);
        rest = after;
    }
    match rest {
        [] => Ok(found),
        _ => Err(WrongBundle::Long(rest.len())),
    }
}

/// A bundle does not hold the entries it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongBundle {
    /// It ends within or before an entry; how many are whole.
    Short(usize),
    /// So many bytes follow its last entry.
    Long(usize),
}

impl fmt::Display for WrongBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(whole) => write!(f, "it ends after {whole} whole entries"),
            Self::Long(bytes) => write!(f, "{bytes} bytes follow its last entry"),
        }
    }
}

impl std::error::Error for WrongBundle {}

/// Tiles of one tree, read through `read` and kept for the next question.
pub struct Tiles<R> {
    size: u64,
    read: R,
    kept: VecDeque<(Tile, Vec<Hash>)>,
}

/// Tiles that are kept: a path through the largest tree and room for a second one.
const KEPT: usize = 16;

impl<R, E> Tiles<R>
where
    R: FnMut(Tile) -> Result<Vec<u8>, E>,
{
    /// The tiles of a tree of this size.
    pub fn new(size: u64, read: R) -> Self {
        Self {
            size,
            read,
            kept: VecDeque::new(),
        }
    }

    fn tile(&mut self, tile: Tile) -> Result<&[Hash], TileError<E>> {
        if let Some(found) = self.kept.iter().position(|(kept, _)| *kept == tile) {
            self.kept.swap(0, found);
        } else {
            let bytes = (self.read)(tile).map_err(TileError::Read)?;
            let hashes = decode_tile(&bytes, tile.width).ok_or(TileError::Width(tile))?;
            self.kept.truncate(KEPT - 1);
            self.kept.push_front((tile, hashes));
        }
        self.kept
            .front()
            .map(|(_, hashes)| hashes.as_slice())
            .ok_or(TileError::Width(tile))
    }
}

impl<R, E> Subtrees for Tiles<R>
where
    R: FnMut(Tile) -> Result<Vec<u8>, E>,
{
    type Error = TileError<E>;

    fn subtree(&mut self, at: Subtree) -> Result<Hash, TileError<E>> {
        // The hashes of a tile stand for its whole subtree, whose inner nodes are reckoned from them.
        let height = at.level % TILE_HEIGHT;
        let level = Level::Hashes(at.level / TILE_HEIGHT);
        let outside = TileError::Outside(at);
        let first = at
            .index
            .checked_shl(u32::from(height))
            .ok_or(TileError::Outside(at))?;
        let tile = Tile::at(level, first / u64::from(TILE_WIDTH), self.size);
        let hashes = self.tile(tile.ok_or(TileError::Outside(at))?)?;
        let first = usize::try_from(first % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
        let leaves = hashes.get(first..first.saturating_add(1 << height));
        let mut row: Vec<Hash> = leaves.ok_or(outside)?.to_vec();
        while row.len() > 1 {
            let (pairs, _) = row.as_chunks::<2>();
            row = pairs
                .iter()
                .map(|[left, right]| Hash::of_node(*left, *right))
                .collect();
        }
        row.first().copied().ok_or(TileError::Outside(at))
    }
}

/// A hash could not be read from tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileError<E> {
    /// The tree has no such subtree.
    Outside(Subtree),
    /// The tile's file could not be read.
    Read(E),
    /// The tile's file is longer or shorter than its hashes.
    Width(Tile),
}

impl<E: fmt::Display> fmt::Display for TileError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(at) => write!(f, "the tree has no subtree {at:?}"),
            Self::Read(error) => write!(f, "{error}"),
            Self::Width(tile) => {
                write!(f, "{}: it does not hold {} hashes", tile.path(), tile.width)
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for TileError<E> {}

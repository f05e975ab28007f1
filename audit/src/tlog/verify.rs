//! Checking a whole log: every entry, every tile, up to a checkpoint that is believed.
//!
//! Whoever calls has made sure of the checkpoint ([`super::TrustPolicy`]) and reads files; what is found is told file by file and entry by
//! entry. What is wrong (integrity) and what is not there (completeness) are told apart.

use super::checkpoint::Checkpoint;
use super::findings::{Finding, Findings};
use super::hash::Hash;
use super::tile::{Level, TILE_HEIGHT, TILE_WIDTH, Tile, decode_tile, entries};
use super::tree::Tree;

/// Checks all of a log up to this checkpoint. `read` gives a file, or nothing where there is none; of a tile or bundle that was partial at
/// this size the full one will do. Each entry that can be read is shown with its place before anything is known of it.
///
/// # Errors
/// The first error of `read`: the file may be there, and could not be read.
pub fn verify<E>(
    checkpoint: &Checkpoint,
    read: impl FnMut(Tile) -> Result<Option<Vec<u8>>, E>,
    mut show: impl FnMut(u64, &[u8]),
) -> Result<Findings, E> {
    verify_from(checkpoint, 0, read, |index, leaf| {
        if let Some(entry) = leaf.entry {
            show(index, entry);
        }
    })
}

/// What is shown of a log that is checked, place by place.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Its hash,
    pub hash: Hash,
    /// and the entry, unless it was let go of.
    pub entry: Option<&'a [u8]>,
}

/// [`verify`], of a log that may lack whole bundles of entries before `kept_from`: tlog-tiles' minimum index. A bundle before it that is there
/// is checked like any other, and so is every tile of hashes.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_from<E>(
    checkpoint: &Checkpoint,
    kept_from: u64,
    read: impl FnMut(Tile) -> Result<Option<Vec<u8>>, E>,
    mut show: impl FnMut(u64, Leaf<'_>),
) -> Result<Findings, E> {
    let mut log = Log {
        size: checkpoint.size,
        kept_from,
        read,
        findings: Findings::default(),
    };
    let rows = log.rows(&mut show)?;
    // What stands at the right edge of each level makes the root, which is believed.
    let edges: Vec<&[Known]> = rows.iter().map(|row| row.as_chunks::<WIDTH>().1).collect();
    let widths: Vec<usize> = edges.iter().map(|edge| edge.len()).collect();
    let root = |hashes: &[Hash]| root_over(hashes, &widths) == Some(checkpoint.root);
    let Some(believed) = choose(&edges.concat(), root) else {
        log.findings.add(Finding::Entries {
            from: 0,
            to: checkpoint.size,
        });
        return Ok(log.findings);
    };
    let mut believed = believed.into_iter();
    for (level, row) in (0_u8..).zip(&rows) {
        let edge = row.len() - row.len() % WIDTH;
        for (index, believed) in (edge..row.len()).zip(&mut believed) {
            log.check(&rows, level, index, believed)?;
        }
    }
    log.findings.all.sort_by_key(Finding::place);
    Ok(log.findings)
}

/// What is known of one hash.
#[derive(Clone, Copy)]
struct Known {
    /// As it follows from entries.
    reckoned: Option<Hash>,
    /// As its own tile has it.
    stored: Option<Hash>,
    /// As it follows from the tile below it.
    below: Option<Hash>,
}

impl Known {
    /// What it may be, the likeliest first.
    fn candidates(&self) -> Vec<Hash> {
        let mut candidates = Vec::with_capacity(3);
        for hash in [self.reckoned, self.stored, self.below]
            .into_iter()
            .flatten()
        {
            if !candidates.contains(&hash) {
                candidates.push(hash);
            }
        }
        candidates
    }
}

const WIDTH: usize = TILE_WIDTH as usize;

/// Combinations that are tried to find out which of several hashes is right at each place.
const MAX_TRIED: usize = 1 << 10;

/// The hash of each place, such that all together fit; nothing if no combination does, or too many would have to be tried.
fn choose(of: &[Known], fits: impl Fn(&[Hash]) -> bool) -> Option<Vec<Hash>> {
    let candidates: Vec<Vec<Hash>> = of.iter().map(Known::candidates).collect();
    let mut combinations: usize = 1;
    for places in &candidates {
        combinations = combinations.saturating_mul(places.len());
    }
    let at =
        |places: &Vec<Hash>, wanted: usize| places.get(wanted).or_else(|| places.last()).copied();
    if combinations > MAX_TRIED {
        // All as they are reckoned, all as they are stored, all as they follow from below.
        let mut uniform = (0..3).map(|wanted| {
            let hashes = candidates.iter().map(|places| at(places, wanted));
            hashes.collect::<Option<Vec<Hash>>>()
        });
        return uniform.find_map(|hashes| hashes.filter(|hashes| fits(hashes)));
    }
    (0..combinations).find_map(|mut number| {
        let hashes = candidates.iter().map(|places| {
            let wanted = number.checked_rem(places.len())?;
            number /= places.len();
            at(places, wanted)
        });
        let hashes: Option<Vec<Hash>> = hashes.collect();
        hashes.filter(|hashes| fits(hashes))
    })
}

/// The root over the right edges of all levels: so many hashes of each, from the lowest level upwards.
fn root_over(hashes: &[Hash], widths: &[usize]) -> Option<Hash> {
    let mut rest = hashes;
    let mut root: Option<Hash> = None;
    for width in widths {
        let (edge, after) = rest.split_at_checked(*width)?;
        rest = after;
        for peak in tree_of(edge).peaks().iter().rev() {
            root = Some(root.map_or(*peak, |right| Hash::of_node(*peak, right)));
        }
    }
    Some(root.unwrap_or_else(Hash::of_nothing))
}

fn tree_of(hashes: &[Hash]) -> Tree {
    let mut tree = Tree::EMPTY;
    for hash in hashes {
        tree.push(*hash);
    }
    tree
}

/// What follows for the hash above a full tile's place, without that tile's own word.
fn above(tile: &[Known]) -> Known {
    let root = |pick: fn(&Known) -> Option<Hash>| {
        let hashes: Option<Vec<Hash>> = tile.iter().map(pick).collect();
        hashes.map(|hashes| tree_of(&hashes).root())
    };
    Known {
        reckoned: root(|known| known.reckoned),
        stored: None,
        below: root(|known| known.stored),
    }
}

struct Log<R> {
    size: u64,
    /// Bundles that end here or before it may be missing.
    kept_from: u64,
    read: R,
    findings: Findings,
}

impl<R, E> Log<R>
where
    R: FnMut(Tile) -> Result<Option<Vec<u8>>, E>,
{
    /// All levels of tiles. Of the lowest, that of leaves, only the right edge is kept, at its place from the right: the others are read
    /// again where they are needed.
    fn rows(&mut self, show: &mut impl FnMut(u64, Leaf<'_>)) -> Result<Vec<Vec<Known>>, E> {
        let mut leaves = Vec::new();
        let mut next = Vec::new();
        for index in 0..self.size.div_ceil(u64::from(TILE_WIDTH)) {
            let (row, findings) = self.leaves(index, show)?;
            findings
                .into_iter()
                .for_each(|finding| self.findings.add(finding));
            if row.len() == WIDTH {
                next.push(above(&row));
            } else {
                leaves = row;
            }
        }
        let mut rows = vec![leaves];
        while !next.is_empty() {
            let level = u8::try_from(rows.len()).unwrap_or(u8::MAX);
            for (index, places) in (0..).zip(next.chunks_mut(WIDTH)) {
                let stored = self.tile(level, index);
                let stored = stored?.unwrap_or_else(|finding| {
                    self.findings.add(finding);
                    Vec::new()
                });
                for (place, hash) in places.iter_mut().zip(stored) {
                    place.stored = Some(hash);
                }
            }
            let full = next.as_chunks::<WIDTH>().0;
            let after = full.iter().map(|tile| above(tile)).collect();
            rows.push(next);
            next = after;
        }
        Ok(rows)
    }

    /// The leaves of one bundle, and what is wrong with its files.
    fn leaves(
        &mut self,
        index: u64,
        show: &mut impl FnMut(u64, Leaf<'_>),
    ) -> Result<(Vec<Known>, Vec<Finding>), E> {
        let mut findings = Vec::new();
        let Some(bundle) = Tile::at(Level::Entries, index, self.size) else {
            return Ok((Vec::new(), findings));
        };
        let nothing = Known {
            reckoned: None,
            stored: None,
            below: None,
        };
        let mut row = vec![nothing; usize::from(bundle.width)];
        let mut gone = false;
        match self.file(bundle)? {
            None if self.may_lack(index) => {
                gone = true;
                self.findings.gone += u64::from(bundle.width);
            }
            None => findings.push(Finding::Missing { tile: bundle }),
            Some((bytes, width)) => match entries(&bytes, width) {
                Err(problem) => findings.push(Finding::Malformed {
                    tile: bundle,
                    problem: problem.to_string(),
                }),
                Ok(found) => {
                    let first = index * u64::from(TILE_WIDTH);
                    for ((place, entry), known) in (first..).zip(found).zip(&mut row) {
                        let hash = Hash::of_leaf(entry);
                        known.reckoned = Some(hash);
                        let entry = Some(entry);
                        show(place, Leaf { hash, entry });
                    }
                }
            },
        }
        match self.tile(0, index)? {
            Err(finding) => findings.push(finding),
            Ok(hashes) => {
                let first = index * u64::from(TILE_WIDTH);
                for ((place, known), hash) in (first..).zip(&mut row).zip(hashes) {
                    known.stored = Some(hash);
                    if gone {
                        show(place, Leaf { hash, entry: None });
                    }
                }
            }
        }
        Ok((row, findings))
    }

    /// Whether this bundle may have been let go of.
    fn may_lack(&self, bundle: u64) -> bool {
        bundle < self.kept_from / u64::from(TILE_WIDTH)
    }

    /// The hashes of a tile; or what is wrong with its file.
    fn tile(&mut self, level: u8, index: u64) -> Result<Result<Vec<Hash>, Finding>, E> {
        let Some(tile) = Tile::at(Level::Hashes(level), index, self.size) else {
            return Ok(Ok(Vec::new()));
        };
        Ok(match self.file(tile)? {
            None => Err(Finding::Missing { tile }),
            Some((bytes, width)) => {
                let mut hashes = decode_tile(&bytes, width);
                if let Some(hashes) = &mut hashes {
                    hashes.truncate(usize::from(tile.width));
                }
                hashes.ok_or_else(|| Finding::Malformed {
                    tile,
                    problem: format!("{} bytes are not {width} hashes", bytes.len()),
                })
            }
        })
    }

    /// A file with the width that it has: the full one where the partial one is gone.
    fn file(&mut self, tile: Tile) -> Result<Option<(Vec<u8>, u16)>, E> {
        if let Some(bytes) = (self.read)(tile)? {
            return Ok(Some((bytes, tile.width)));
        }
        if !tile.is_partial() {
            return Ok(None);
        }
        Ok((self.read)(tile.full())?.map(|bytes| (bytes, TILE_WIDTH)))
    }

    /// Names what differs from this hash, which is believed, and from what follows from it further below.
    fn check(
        &mut self,
        rows: &[Vec<Known>],
        level: u8,
        index: usize,
        believed: Hash,
    ) -> Result<(), E> {
        let row = rows.get(usize::from(level)).and_then(|row| row.get(index));
        let Some(known) = row.copied() else {
            return Ok(());
        };
        // The row of leaves is its right edge only.
        let place = match level {
            0 => (self.size / u64::from(TILE_WIDTH)) * u64::from(TILE_WIDTH) + index as u64,
            _ => index as u64,
        };
        self.compare(level, place, &known, believed);
        if level == 0 {
            return Ok(());
        }
        let from = index * WIDTH;
        let below = if level > 1 {
            let row = rows.get(usize::from(level) - 1);
            let tile = row.and_then(|row| row.get(from..from + WIDTH));
            tile.unwrap_or_default().to_vec()
        } else if known.below == Some(believed)
            && (known.reckoned == Some(believed)
                || known.reckoned.is_none() && self.may_lack(place))
        {
            return Ok(());
        } else {
            let gone = self.findings.gone;
            let row = self.leaves(place, &mut |_, _| {})?.0;
            self.findings.gone = gone;
            row
        };
        if below.iter().all(|known| known.candidates().is_empty()) {
            // What is missing was told, and nothing contradicts anything.
            return Ok(());
        }
        let root = |hashes: &[Hash]| tree_of(hashes).root() == believed;
        let Some(chosen) = choose(&below, root) else {
            let height = u32::from(level) * u32::from(TILE_HEIGHT);
            self.findings.add(Finding::Entries {
                from: place << height,
                to: (place + 1) << height,
            });
            return Ok(());
        };
        for ((offset, known), believed) in (0..).zip(&below).zip(chosen) {
            match level {
                1 => self.compare(0, (from + offset) as u64, known, believed),
                _ => self.check(rows, level - 1, from + offset, believed)?,
            }
        }
        Ok(())
    }

    fn compare(&mut self, level: u8, place: u64, known: &Known, believed: Hash) {
        let (index, position) = (place / u64::from(TILE_WIDTH), place % u64::from(TILE_WIDTH));
        if level == 0 && known.reckoned.is_some_and(|hash| hash != believed) {
            self.findings.add(Finding::Entry { index: place });
        }
        if known.stored.is_some_and(|hash| hash != believed)
            && let Some(tile) = Tile::at(Level::Hashes(level), index, self.size)
            && let Ok(position) = u16::try_from(position)
        {
            self.findings.add(Finding::Hash { tile, position });
        }
    }
}

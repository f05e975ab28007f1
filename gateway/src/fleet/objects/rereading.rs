//! What of the store is compared next: one bundle after the other with the tiles above it, log by log, for ever.

use std::collections::BTreeMap;

use portcullis_audit::tlog::{Level, TILE_HEIGHT, Tile};

use crate::ledger::tiles::LogId;

/// How far the comparing came.
#[derive(Debug, Default)]
pub(super) struct Rereading {
    log: Option<LogId>,
    /// The next bundle of that log.
    bundle: u64,
}

/// The next files to compare.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) log: LogId,
    pub(super) tiles: Vec<Tile>,
}

impl Rereading {
    /// The next bundle, and the tiles from its hashes up to the top, of the sizes that the store has.
    pub(super) fn next(&mut self, sizes: &BTreeMap<LogId, u64>) -> Option<Next> {
        // Each log at most once: there may be no entry at all.
        for _ in 0..=sizes.len() {
            if let Some(log) = &self.log
                && let Some(size) = sizes.get(log)
            {
                let tiles = path(self.bundle, *size);
                if !tiles.is_empty() {
                    self.bundle = self.bundle.saturating_add(1);
                    let log = log.clone();
                    return Some(Next { log, tiles });
                }
            }
            let after = self.log.as_ref();
            let later = sizes
                .keys()
                .find(|log| after.is_none_or(|after| *log > after));
            self.log = later.or_else(|| sizes.keys().next()).cloned();
            self.bundle = 0;
        }
        None
    }
}

/// A bundle and the tiles above it, in a tree of this size; nothing beyond its end.
fn path(bundle: u64, size: u64) -> Vec<Tile> {
    let Some(entries) = Tile::at(Level::Entries, bundle, size) else {
        return Vec::new();
    };
    let mut tiles = vec![entries];
    let mut index = bundle;
    for level in 0..=u8::MAX {
        // A tile has a place for what is full below it only.
        let Some(tile) = Tile::at(Level::Hashes(level), index, size) else {
            break;
        };
        tiles.push(tile);
        index >>= TILE_HEIGHT;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_every_log_has_its_turn_again_and_again() {
        let small = LogId::Tenant("acme".parse().unwrap());
        let large = LogId::Tenant("bravo".parse().unwrap());
        let empty = LogId::Tenant("carol".parse().unwrap());
        let sizes = [
            (LogId::Fleet, 70_000),
            (small, 255),
            (large, 256),
            (empty, 0),
        ];
        let sizes = BTreeMap::from(sizes);
        let mut wanted = Vec::new();
        for (log, size) in &sizes {
            for tile in Tile::added(0, *size) {
                wanted.push(format!("{log}/{}", tile.path()));
            }
        }
        let mut rereading = Rereading::default();
        let mut seen = BTreeMap::new();
        for _ in 0..2 * (274 + 1 + 1) {
            let next = rereading.next(&sizes).unwrap();
            for tile in next.tiles {
                *seen
                    .entry(format!("{}/{}", next.log, tile.path()))
                    .or_insert(0) += 1;
            }
        }
        for file in &wanted {
            assert!(seen.get(file).is_some_and(|times| *times >= 2), "{file}");
        }
        assert_eq!(seen.len(), wanted.len());
        assert_eq!(Rereading::default().next(&BTreeMap::new()), None);
    }
}

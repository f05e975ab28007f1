//! This node's own files, as they are to be in the store.

use std::sync::Arc;

use portcullis_audit::tlog::{
    Checkpoint, HASH_BYTES, Hash, Level, Note, Tile, append_entry, entries,
};

use crate::ledger::tiles::{LogFile, LogId, Logs};

/// A log as this node shows it.
pub(super) struct Shown {
    pub(super) checkpoint: Checkpoint,
    /// How many have signed it.
    pub(super) signers: usize,
    pub(super) bytes: Vec<u8>,
}

/// The checkpoint that this node shows; none where none was published.
pub(super) async fn shown(logs: &Arc<Logs>, log: &LogId) -> Result<Option<Shown>, String> {
    let Some(bytes) = read(logs, log, LogFile::Checkpoint).await? else {
        return Ok(None);
    };
    let note = Note::parse(&bytes).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|error| error.to_string())?;
    Ok(Some(Shown {
        checkpoint,
        signers: note.signatures.len(),
        bytes,
    }))
}

/// A tile or a bundle. A partial one goes when a later checkpoint supersedes it: it is the beginning of the one that followed.
pub(super) async fn tile(
    logs: &Arc<Logs>,
    log: &LogId,
    tile: Tile,
) -> Result<Option<Vec<u8>>, String> {
    if let Some(bytes) = read(logs, log, LogFile::Tile(tile)).await? {
        return Ok(Some(bytes));
    }
    if !tile.is_partial() {
        return Ok(None);
    }
    // The log may go on between the two readings.
    for _ in 0..AGAIN {
        let Some(now) = shown(logs, log).await? else {
            return Ok(None);
        };
        let wider = Tile::at(tile.level, tile.index, now.checkpoint.size);
        let Some(wider) = wider.filter(|wider| wider.width >= tile.width) else {
            return Ok(None);
        };
        if let Some(bytes) = read(logs, log, LogFile::Tile(wider)).await? {
            return Ok(beginning(&bytes, wider, tile.width));
        }
    }
    Ok(None)
}

const AGAIN: usize = 3;

/// The first so many of a wider tile.
fn beginning(bytes: &[u8], wider: Tile, width: u16) -> Option<Vec<u8>> {
    match wider.level {
        Level::Hashes(_) => {
            let part = bytes.get(..usize::from(width).checked_mul(HASH_BYTES)?)?;
            Some(part.to_vec())
        }
        Level::Entries => {
            let all = entries(bytes, wider.width).ok()?;
            let mut bundle = Vec::new();
            for entry in all.into_iter().take(usize::from(width)) {
                append_entry(&mut bundle, entry).ok()?;
            }
            Some(bundle)
        }
    }
}

/// The root of this size, from this node's tiles; none if it has not come to it.
pub(super) async fn root_at(
    logs: &Arc<Logs>,
    log: &LogId,
    size: u64,
) -> Result<Option<Hash>, String> {
    let (logs, log) = (Arc::clone(logs), log.clone());
    let found = tokio::task::spawn_blocking(move || logs.root_at(&log, size)).await;
    let found = found.map_err(|error| error.to_string())?;
    found.map_err(|error| format!("this node's files: {error}"))
}

/// Reads a file where waiting for the disk is allowed.
async fn read(logs: &Arc<Logs>, log: &LogId, file: LogFile) -> Result<Option<Vec<u8>>, String> {
    let (logs, log) = (Arc::clone(logs), log.clone());
    let read = tokio::task::spawn_blocking(move || logs.read(&log, file)).await;
    let read = read.map_err(|error| error.to_string())?;
    read.map_err(|error| format!("this node's file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_file_that_is_gone_is_the_beginning_of_the_one_that_followed() {
        let entry = |number: u8| vec![number; usize::from(number)];
        let bundle = |count: u8| {
            let mut bundle = Vec::new();
            for number in 0..count {
                append_entry(&mut bundle, &entry(number)).unwrap();
            }
            bundle
        };
        let at = |level| Tile::at(level, 0, 9).unwrap();
        let part = beginning(&bundle(9), at(Level::Entries), 4);
        assert_eq!(part.unwrap(), bundle(4));
        let hashes = vec![7; 9 * HASH_BYTES];
        let part = beginning(&hashes, at(Level::Hashes(0)), 4).unwrap();
        assert_eq!(part.len(), 4 * HASH_BYTES);
        assert_eq!(beginning(&[1, 2], at(Level::Entries), 4), None);
        assert_eq!(beginning(&[1, 2], at(Level::Hashes(0)), 4), None);
    }
}

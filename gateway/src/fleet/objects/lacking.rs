//! Logs that let go of entries before the store had them.

use portcullis_audit::tlog::{Level, TILE_WIDTH, Tile};

use super::copying::{Copying, Problem};
use super::store::{Failed, Got, Put};
use crate::ledger::tiles::{KeptFrom, LogFile, LogId};

impl Copying<'_> {
    /// What says that this node may lack a bundle, if it does.
    pub(super) fn may_lack(&self, log: &LogId, tile: Tile) -> Option<KeptFrom> {
        let kept = self.logs.kept_from(log)?;
        let end = tile
            .index
            .saturating_add(1)
            .saturating_mul(u64::from(TILE_WIDTH));
        (tile.level == Level::Entries && end <= kept.kept_from).then_some(kept)
    }

    /// Says beside the copy of a log what it may lack: it was let go of before it was copied.
    pub(super) async fn say_kept(&self, log: &LogId, kept: KeptFrom) -> Result<(), Problem> {
        let bytes = kept.line().into_bytes();
        let got = self.store.get(log, LogFile::KeptFrom).await;
        let put = match got.map_err(Problem::Failed)? {
            Some(got) if got.bytes == bytes => return Ok(()),
            Some(Got { tag: Some(tag), .. }) => {
                self.store.replace(log, LogFile::KeptFrom, bytes, tag).await
            }
            Some(Got { tag: None, .. }) => return Err(Problem::Failed(no_tag())),
            None => self.store.create(log, LogFile::KeptFrom, bytes).await,
        };
        match put.map_err(Problem::Failed)? {
            Put::Made(_) => Ok(()),
            Put::Exists => Err(Problem::Wait),
        }
    }
}

/// The store does not say by what a file of it is replaced.
pub(super) fn no_tag() -> Failed {
    Failed {
        kind: "answer",
        says: "the store gives no ETag, without which nothing can be replaced safely".to_owned(),
    }
}

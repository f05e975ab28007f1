//! A node that lets go of its state, to be given it anew.
//!
//! It keeps its vote, so that it cannot vote twice in a term. But it forgets entries that a majority
//! may have counted on it for: so until its state has come up to where the leader was when it
//! was let go (the fence), it does not vote, and shows what it showed before.

use crate::OpenError;
use crate::image::Image;
use crate::tables::{FENCE, RAFT, VOTE, corrupt, create, io, open_database, value};
use crate::types::{SnapshotMeta, Vote};
use portcullis_policy::{NodeId, State};
use redb::ReadableDatabase;
use std::fs::{self, File};
use std::path::Path;

/// What is shown meanwhile, also after a restart: an image beside the state's file.
const SERVED: &str = "served.img";
/// What must be free on the disk before a node that failed takes part again, in bytes.
pub const PROBE_BYTES: usize = 4 << 20;

/// Empties the file of a stopped node, which waits for a leader like a new one from then on: but it
/// keeps its vote, and votes no more until its state has come up to the entry `fence`. `served` is
/// what it shows until then, also after a restart.
pub(crate) fn empty(
    path: &Path,
    node: NodeId,
    fence: u64,
    served: &State,
) -> Result<(), OpenError> {
    let database = open_database(path)?;
    let damaged = |error: redb::Error| corrupt(path, error);
    let transaction = database.begin_read().map_err(|e| damaged(e.into()))?;
    let raft = transaction
        .open_table(RAFT)
        .map_err(|e| damaged(e.into()))?;
    let vote: Option<Vote> = value(&raft, VOTE, path)?;
    let image = Image::of_state(served).map_err(|error| io(path, error))?;
    let file = path.with_file_name(SERVED);
    image
        .write(&file, &SnapshotMeta::default())
        .map_err(|error| io(&file, error))?;
    let told = |error: postcard::Error| io(path, std::io::Error::other(error));
    let mut begins = vec![(FENCE, postcard::to_stdvec(&Some(fence)).map_err(told)?)];
    if let Some(vote) = vote {
        begins.push((VOTE, postcard::to_stdvec(&vote).map_err(told)?));
    }
    // Held until it is replaced.
    let emptied = create(path, node, begins);
    drop((raft, transaction, database));
    emptied
}

/// Lets go of what was served while the state was reinstalled. One that stays is never read.
pub(crate) fn forget_served(path: &Path) {
    drop(fs::remove_file(path.with_file_name(SERVED)));
}

/// Whether so much can be written and synced beside the file now.
pub(crate) fn probe(path: &Path) -> Result<(), OpenError> {
    let probe = path.with_extension("probe");
    let written = fs::write(&probe, vec![1; PROBE_BYTES])
        .and_then(|()| File::open(&probe)?.sync_all())
        .map_err(|error| io(path, error));
    drop(fs::remove_file(&probe));
    written
}

/// What is served while the state is being reinstalled.
pub(crate) fn served(path: &Path, fence: Option<u64>) -> Result<Option<State>, OpenError> {
    if fence.is_none() {
        forget_served(path);
        return Ok(None);
    }
    let file = path.with_file_name(SERVED);
    let read = Image::read(&file).and_then(|(_, image)| image.state());
    read.map(Some).map_err(|error| corrupt(&file, error))
}

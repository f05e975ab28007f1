//! What a write that failed left behind is written anew before it is believed.
//!
//! After a sync that failed, the kernel may take what it holds of the file for written though it is not
//! on the disk: reading it back proves nothing, and a second sync succeeds without doing anything. So the
//! file is never synced again. Its bytes go into another file, and once that one is synced and in the
//! place of the first, all that is read from there is on the disk, or found to be damaged.
//!
//! The mark beside the file says that this is due. It need not reach the disk: where it is lost with the
//! power, so is what the kernel held, and what is read then is what the disk has.

use crate::OpenError;
use crate::mark::Mark;
use crate::tables::{MODE, io};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes that are copied at once.
const CHUNK: usize = 256 << 10;

/// Writes the file anew if its mark says so.
pub(crate) fn if_due(path: &Path) -> Result<(), OpenError> {
    let told = |error| io(path, error);
    if !Mark::is_suspect(path).map_err(told)? {
        return Ok(());
    }
    // Two processes may find it so: one that writes does not find it so any more.
    let _turn = Mark::lock(path).map_err(told)?;
    if !Mark::is_suspect(path).map_err(told)? {
        return Ok(());
    }
    let new = path.with_extension("anew");
    let copied = copy(path, &new).map_err(|error| io(&new, error));
    if copied.is_err() {
        drop(fs::remove_file(&new));
    }
    let bytes = copied?;
    let moved = || {
        fs::rename(&new, path)?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Mark::trust(path)
    };
    moved().map_err(told)?;
    tracing::warn!(
        bytes,
        path = %path.display(),
        "a write of this file had failed: what there is of it was written anew"
    );
    Ok(())
}

/// Byte for byte: a copy by the file system could share what is in doubt.
fn copy(from: &Path, to: &Path) -> std::io::Result<u64> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(to)?;
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else {
            break;
        };
        to.write_all(read)?;
        bytes += u64::try_from(read.len()).unwrap_or(u64::MAX);
    }
    to.sync_all()?;
    Ok(bytes)
}

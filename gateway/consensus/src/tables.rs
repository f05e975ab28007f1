//! The state's file: the log, the vote, and where the snapshot is.
//!
//! Layout 1 had one record for each tenant and nothing else; opening such a file makes its
//! documents the state that the log begins after.

use crate::OpenError;
use crate::anew;
use crate::format::{self, DecodeError};
use crate::image::Image;
use crate::logs::Logs;
use crate::mark::Mark;
use crate::reinstall;
use crate::types::{Entry, LogId, Membership, SnapshotMeta, Vote};
use crate::whole::Whole;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderIdExt;
use portcullis_policy::{NodeId, Revision, Snapshot, State, Tenant};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Index → entry, in postcard.
pub(crate) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// What consensus must not forget, in postcard, by the keys below.
pub(crate) const RAFT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("raft");
pub(crate) const VOTE: &str = "vote";
pub(crate) const PURGED: &str = "purged";
pub(crate) const COMMITTED: &str = "committed";
/// The number of the last transaction: see [`Mark`].
pub(crate) const SEQUENCE: &str = "sequence";
/// The name of the snapshot's file, beside this one.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// Whose state this is.
const NODE: &str = "node";
/// While the state is being reinstalled (`Some`): the entry up to which it must come before this
/// node votes again, for it forgot what it had.
pub(crate) const FENCE: &str = "fence";

/// [`LAYOUT_KEY`], and in layout 1 [`REVISION_KEY`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LAYOUT_KEY: &str = "layout";
const REVISION_KEY: &str = "revision";
/// Layout 1: tenant id → document, as `format` writes it.
const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// The tables above; a file with a higher number was written by a later version.
const LAYOUT: u64 = 2;

/// Readable and writable by the owner alone.
pub(crate) const MODE: u32 = 0o600;
/// Memory for pages, in bytes. The file is read once, when it is opened.
const CACHE_BYTES: usize = 16 << 20;

/// All that a file said.
pub(crate) struct Loaded {
    pub(crate) database: Arc<Database>,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) sequence: u64,
    pub(crate) mark: Arc<Mark>,
    pub(crate) committed: Option<LogId>,
    /// By index, each with its size in bytes.
    pub(crate) entries: BTreeMap<u64, (Entry, usize)>,
    pub(crate) snapshot: Option<(SnapshotMeta, Image)>,
    pub(crate) whole: Whole,
    /// See [`FENCE`].
    pub(crate) fence: Option<u64>,
    /// What is served while the state is being reinstalled.
    pub(crate) served: Option<State>,
}

/// Where a file begins that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// This node is the only voter, of this state.
    Alone,
    /// This node waits until a leader speaks to it.
    Joining,
    /// It is an error: what this node remembers is lost.
    Never,
}

/// Opens the file and reads all of it, or begins one.
pub(crate) fn open(path: &Path, node: NodeId, beginning: Beginning) -> Result<Loaded, OpenError> {
    match fs::set_permissions(path, Permissions::from_mode(MODE)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => match beginning {
            Beginning::Alone => begin(path, node, &Whole::default())?,
            Beginning::Joining => create(path, node, Vec::new())?,
            Beginning::Never => {
                return Err(OpenError::Lost {
                    path: path.to_owned(),
                });
            }
        },
        Err(error) => return Err(io(path, error)),
    }
    anew::if_due(path)?;
    let database = open_database(path)?;
    match layout(&database, path)? {
        1 => {
            let state = documents(&database, path)?;
            let logs = Logs::default();
            drop(database);
            // Moved into the place of the old one: at every moment one of the two is whole.
            begin(path, node, &Whole { state, logs })?;
            load(open_database(path)?, path, node)
        }
        LAYOUT => load(database, path, node),
        newer if newer > LAYOUT => Err(OpenError::Newer {
            path: path.to_owned(),
            format: newer,
        }),
        other => Err(corrupt(path, format!("layout {other}"))),
    }
}

/// As [`begin`], in the place of a file that no process may have open.
pub(crate) fn begin_again(path: &Path, node: NodeId, whole: &Whole) -> Result<(), OpenError> {
    // Held until it is replaced; what is damaged or not there is replaced all the same.
    let held = match fs::metadata(path).map(|_| open_database(path)) {
        Ok(Err(OpenError::InUse { path })) => return Err(OpenError::InUse { path }),
        Ok(Ok(database)) => Some(database),
        Ok(Err(_)) | Err(_) => None,
    };
    begin(path, node, whole)?;
    drop(held);
    Ok(())
}

/// Begins a file in which `node` is the only voter and `whole` is what holds: as if a snapshot had
/// been installed that covers everything before.
pub(crate) fn begin(path: &Path, node: NodeId, whole: &Whole) -> Result<(), OpenError> {
    let first = LogId::new(
        openraft::alias::LeaderIdOf::<crate::types::Types>::new_committed(FIRST_TERM, node.get()),
        FIRST_INDEX,
    );
    let voters = BTreeSet::from([node.get()]);
    let membership = openraft::Membership::new_with_defaults(vec![voters], []);
    let meta = SnapshotMeta {
        last_log_id: Some(first),
        last_membership: Membership::new(Some(first), membership),
    };
    let image = Image::of(&whole.state, &whole.logs).map_err(|error| io(path, error))?;
    let name = free_name(path)?;
    let file = path.with_file_name(&name);
    image
        .write(&file, &meta)
        .map_err(|error| io(&file, error))?;
    let told = |error: postcard::Error| io(path, std::io::Error::other(error));
    let first = postcard::to_stdvec(&first).map_err(told)?;
    let name = postcard::to_stdvec(&name).map_err(told)?;
    let begins = vec![
        (PURGED, first.clone()),
        (COMMITTED, first),
        (SNAPSHOT, name),
    ];
    create(path, node, begins)
}

/// Terms begin here: above the one that an empty log has.
const FIRST_TERM: u64 = 1;
const FIRST_INDEX: u64 = 1;

/// The name of the file of the snapshot up to this index.
pub(crate) fn image_name(index: u64) -> String {
    format!("{IMAGE_BEGIN}{index}{IMAGE_END}")
}

const IMAGE_BEGIN: &str = "state-";
const IMAGE_END: &str = ".img";

/// A name that no image has yet: one that is there may be the one of the file that is replaced, and
/// until that has happened, it must stay.
fn free_name(path: &Path) -> Result<String, OpenError> {
    let names = (0..MAX_BEGINNINGS).map(|number| format!("state-begin-{number}{IMAGE_END}"));
    let mut free = names.filter(|name| !path.with_file_name(name).exists());
    free.next()
        .ok_or_else(|| io(path, std::io::Error::other("too many images lie beside it")))
}

/// Images of beginnings that were cut off may lie about; opening the file clears them away.
const MAX_BEGINNINGS: u32 = 1_000;

/// Removes the images that are not `current`: of snapshots that were replaced, and of ones that
/// were cut off. One that stays costs space and is never read.
pub(crate) fn sweep(path: &Path, current: Option<&str>) {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    let Ok(files) = fs::read_dir(parent) else {
        return;
    };
    let mut removed = false;
    for file in files.flatten() {
        let name = file.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let image = name.strip_suffix(".new").unwrap_or(name);
        let image = image.starts_with(IMAGE_BEGIN) && image.ends_with(IMAGE_END);
        if image && Some(name) != current {
            removed |= fs::remove_file(file.path()).is_ok();
        }
    }
    if removed && let Ok(directory) = File::open(parent) {
        // It is tried again with the next snapshot.
        drop(directory.sync_all());
    }
}

/// Makes a file under another name and moves it into place, so that a file which is there is a
/// whole one: an empty file is then known to be a damaged one.
pub(crate) fn create(
    path: &Path,
    node: NodeId,
    begins: Vec<(&str, Vec<u8>)>,
) -> Result<(), OpenError> {
    let new = new_name(path);
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(&new, error)),
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)
        .map_err(|error| io(&new, error))?;
    let begun = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let database = builder().create(&new)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(LOG)?;
            let mut raft = transaction.open_table(RAFT)?;
            let mut put = |key: &str, bytes: Vec<u8>| raft.insert(key, bytes.as_slice()).map(drop);
            put(NODE, postcard::to_stdvec(&node.get())?)?;
            for (key, bytes) in begins {
                put(key, bytes)?;
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(LAYOUT_KEY, LAYOUT)?;
        }
        transaction.commit()?;
        Ok(())
    };
    begun().map_err(|error| io(&new, std::io::Error::other(error)))?;
    let moved = || -> std::io::Result<()> {
        File::open(&new)?.sync_all()?;
        // Before it counts: a mark that is behind is no harm.
        Mark::begin(path)?;
        fs::rename(&new, path)?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    moved().map_err(|error| io(path, error))
}

fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Without this, a page that was altered on disk is believed, or panics.
    builder.set_check_integrity_on_open(true);
    builder
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open enum: whatever else is wrong with the file, it is not used"
)]
pub(crate) fn open_database(path: &Path) -> Result<Database, OpenError> {
    let length = fs::metadata(path).map_err(|error| io(path, error))?.len();
    if length == 0 {
        // The library would take it for a new file.
        return Err(corrupt(path, "it is empty"));
    }
    builder().open(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse {
                path: path.to_owned(),
            }
        }
        DatabaseError::Storage(redb::StorageError::Io(error))
            if !matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ) =>
        {
            io(path, error)
        }
        other => corrupt(path, other),
    })
}

fn layout(database: &Database, path: &Path) -> Result<u64, OpenError> {
    number(database, path, LAYOUT_KEY)
}

fn number(database: &Database, path: &Path, key: &str) -> Result<u64, OpenError> {
    let damaged = |error: redb::Error| corrupt(path, error);
    let transaction = database.begin_read().map_err(|e| damaged(e.into()))?;
    let meta = transaction
        .open_table(META)
        .map_err(|e| damaged(e.into()))?;
    let found = meta.get(key).map_err(|e| damaged(e.into()))?;
    found
        .map(|value| value.value())
        .ok_or_else(|| corrupt(path, format!("no {key}")))
}

fn load(database: Database, path: &Path, node: NodeId) -> Result<Loaded, OpenError> {
    let damaged = |error: redb::Error| corrupt(path, error);
    let transaction = database.begin_read().map_err(|e| damaged(e.into()))?;
    let raft = transaction
        .open_table(RAFT)
        .map_err(|e| damaged(e.into()))?;
    let owner: Option<u64> = value(&raft, NODE, path)?;
    if owner != Some(node.get()) {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
            node: owner.unwrap_or_default(),
        });
    }
    let mut entries = BTreeMap::new();
    let log = transaction.open_table(LOG).map_err(|e| damaged(e.into()))?;
    for record in log.iter().map_err(|e| damaged(e.into()))? {
        let (index, bytes) = record.map_err(|e| damaged(e.into()))?;
        let (index, bytes) = (index.value(), bytes.value());
        let entry: Entry = postcard::from_bytes(bytes)
            .map_err(|error| corrupt(path, format!("entry {index}: {error}")))?;
        if entry.log_id().index != index {
            return Err(corrupt(path, format!("entry {index} says it is another")));
        }
        entries.insert(index, (entry, bytes.len()));
    }
    let name = value::<String>(&raft, SNAPSHOT, path)?;
    let snapshot = match &name {
        None => None,
        Some(name) => {
            let file = path.with_file_name(name);
            let read = Image::read(&file).map_err(|error| corrupt(&file, error))?;
            Some(read)
        }
    };
    let whole = match &snapshot {
        None => Whole::default(),
        Some((_, image)) => image.whole().map_err(|error| corrupt(path, error))?,
    };
    let sequence: u64 = value(&raft, SEQUENCE, path)?.unwrap_or_default();
    let (mark, reached) = Mark::open(path).map_err(|error| corrupt(path, error))?;
    if sequence < reached {
        return Err(corrupt(
            path,
            format!(
                "it has gone back: it ends with write {sequence}, and write {reached} was durable"
            ),
        ));
    }
    let fence = value::<Option<u64>>(&raft, FENCE, path)?.flatten();
    let served = reinstall::served(path, fence)?;
    let loaded = Loaded {
        fence,
        served,
        sequence,
        mark: Arc::new(mark),
        vote: value(&raft, VOTE, path)?,
        purged: value(&raft, PURGED, path)?,
        committed: value(&raft, COMMITTED, path)?,
        entries,
        snapshot,
        whole,
        database: Arc::new(database),
    };
    check(&loaded, path)?;
    sweep(path, name.as_deref());
    Ok(loaded)
}

/// A log with a hole is not believed.
fn check(loaded: &Loaded, path: &Path) -> Result<(), OpenError> {
    let after = loaded
        .purged
        .map_or(0, |purged| purged.index.saturating_add(1));
    let begins = loaded.entries.first_key_value().map(|(index, _)| *index);
    let ends = loaded.entries.last_key_value().map(|(index, _)| *index);
    let count = u64::try_from(loaded.entries.len()).unwrap_or(u64::MAX);
    if let (Some(begins), Some(ends)) = (begins, ends)
        && (begins != after || ends - begins + 1 != count)
    {
        return Err(corrupt(
            path,
            format!(
                "the log has {count} entries from {begins} to {ends}, and should begin at {after}"
            ),
        ));
    }
    let covered = loaded
        .snapshot
        .as_ref()
        .and_then(|(meta, _)| meta.last_log_id)
        .map(|last| last.index);
    if loaded.purged.map(|purged| purged.index) > covered {
        return Err(corrupt(
            path,
            "entries were removed that no snapshot covers",
        ));
    }
    let last = ends
        .or(loaded.purged.map(|purged| purged.index))
        .max(covered);
    if loaded.committed.map(|committed| committed.index) > last {
        return Err(corrupt(path, "entries that were committed are missing"));
    }
    Ok(())
}

pub(crate) fn value<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
    path: &Path,
) -> Result<Option<T>, OpenError> {
    let found = table.get(key).map_err(|error| corrupt(path, error))?;
    found
        .map(|bytes| {
            postcard::from_bytes(bytes.value())
                .map_err(|error| corrupt(path, format!("{key}: {error}")))
        })
        .transpose()
}

/// The state that a file of layout 1 describes.
fn documents(database: &Database, path: &Path) -> Result<State, OpenError> {
    let damaged = |error: redb::Error| corrupt(path, error);
    let revision = Revision::new(number(database, path, REVISION_KEY)?);
    let transaction = database.begin_read().map_err(|e| damaged(e.into()))?;
    let table = transaction
        .open_table(TENANTS)
        .map_err(|e| damaged(e.into()))?;
    let mut tenants = Vec::new();
    for record in table.iter().map_err(|e| damaged(e.into()))? {
        let (key, bytes) = record.map_err(|e| damaged(e.into()))?;
        tenants.push(tenant(key.value(), bytes.value(), path)?);
    }
    State::restore(Snapshot::of_documents(revision, tenants)).map_err(|rejection| {
        OpenError::Rejected {
            path: path.to_owned(),
            rejection,
        }
    })
}

fn tenant(key: &str, bytes: &[u8], path: &Path) -> Result<Tenant, OpenError> {
    match format::decode(bytes) {
        Ok(tenant) if tenant.id.as_str() == key => Ok(tenant),
        Ok(tenant) => {
            let found = format!("tenant {} under the key {key:?}", tenant.id);
            Err(corrupt(path, found))
        }
        Err(DecodeError::Newer(format)) => Err(OpenError::Newer {
            path: path.to_owned(),
            format: format.into(),
        }),
        Err(DecodeError::Malformed(found)) => {
            Err(corrupt(path, format!("tenant {key:?}: {found}")))
        }
    }
}

pub(crate) fn corrupt(path: &Path, found: impl std::fmt::Display) -> OpenError {
    OpenError::Corrupt {
        path: path.to_owned(),
        found: found.to_string(),
    }
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

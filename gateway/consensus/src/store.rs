//! The state's file: one record per tenant, and the revision at which they hold together.

use crate::format::{self, DecodeError};
use crate::{OpenError, StorageError};
use portcullis_policy::{Revision, Snapshot, Tenant, TenantAt, TenantId, View};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An open file, held against other processes.
pub(crate) struct Store {
    database: Database,
}

/// Tenant id → document, as `format` writes it.
const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// Tenant id → the revision at which its document last changed.
const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");
/// [`LAYOUT_KEY`] and [`REVISION_KEY`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LAYOUT_KEY: &str = "layout";
const REVISION_KEY: &str = "revision";
/// The tables above; a file with a higher number was written by a later version.
const LAYOUT: u64 = 1;

/// Readable and writable by the owner alone.
const MODE: u32 = 0o600;

/// Memory for pages, in bytes. The file is read once, when it is opened.
const CACHE_BYTES: usize = 16 << 20;

impl Store {
    /// Opens the file, or makes an empty one, and reads all of it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Snapshot), OpenError> {
        match fs::set_permissions(path, Permissions::from_mode(MODE)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(io(path, error)),
        }
        let database = open_database(path)?;
        let snapshot = read(&database, path)?;
        Ok((Self { database }, snapshot))
    }

    /// Writes the documents of `changed` (absent from `view` means removed) and the revision of
    /// `view` in one transaction. When it returns, they survive the loss of power.
    pub(crate) fn write(&self, view: &View, changed: &[TenantId]) -> Result<(), StorageError> {
        let mut transaction = self.database.begin_write().map_err(database)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(database)?;
        {
            let mut tenants = transaction.open_table(TENANTS).map_err(database)?;
            let mut revisions = transaction.open_table(REVISIONS).map_err(database)?;
            for id in changed {
                match view.tenant(id) {
                    Some(tenant) => {
                        let bytes =
                            format::encode(&tenant.document()).map_err(StorageError::Encode)?;
                        tenants
                            .insert(id.as_str(), bytes.as_slice())
                            .map_err(database)?;
                        revisions
                            .insert(id.as_str(), tenant.revision().get())
                            .map_err(database)?;
                    }
                    None => {
                        tenants.remove(id.as_str()).map_err(database)?;
                        revisions.remove(id.as_str()).map_err(database)?;
                    }
                }
            }
            let mut meta = transaction.open_table(META).map_err(database)?;
            meta.insert(REVISION_KEY, view.revision().get())
                .map_err(database)?;
        }
        transaction.commit().map_err(database)
    }
}

/// Makes an empty state under another name and moves it into place, so that a file which is there
/// is a whole one: an empty file is then known to be a damaged one.
fn create(path: &Path) -> Result<(), OpenError> {
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
    let begun = || -> Result<(), redb::Error> {
        let database = builder().create(&new)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(TENANTS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(LAYOUT_KEY, LAYOUT)?;
            meta.insert(REVISION_KEY, Revision::default().get())?;
        }
        transaction.commit()?;
        Ok(())
    };
    begun().map_err(|error| io(&new, std::io::Error::other(error)))?;
    let moved = || -> std::io::Result<()> {
        File::open(&new)?.sync_all()?;
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
fn open_database(path: &Path) -> Result<Database, OpenError> {
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

fn read(database: &Database, path: &Path) -> Result<Snapshot, OpenError> {
    let damaged = |error: redb::Error| corrupt(path, error);
    let transaction = database.begin_read().map_err(|e| damaged(e.into()))?;
    let meta = transaction
        .open_table(META)
        .map_err(|e| damaged(e.into()))?;
    let number = |key: &str| {
        let found = meta.get(key).map_err(|e| damaged(e.into()))?;
        found
            .map(|value| value.value())
            .ok_or_else(|| corrupt(path, format!("no {key}")))
    };
    let layout = number(LAYOUT_KEY)?;
    if layout > LAYOUT {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            format: layout,
        });
    }
    if layout != LAYOUT {
        return Err(corrupt(path, format!("layout {layout}")));
    }
    let revision = Revision::new(number(REVISION_KEY)?);

    let table = transaction
        .open_table(TENANTS)
        .map_err(|e| damaged(e.into()))?;
    // A file that was written before there was this table has none.
    let revisions = transaction.open_table(REVISIONS).ok();
    let mut snapshot = Snapshot::of_documents(revision, Vec::new());
    for record in table.iter().map_err(|e| damaged(e.into()))? {
        let (key, value) = record.map_err(|e| damaged(e.into()))?;
        let document = tenant(key.value(), value.value(), path)?;
        let changed = match &revisions {
            Some(revisions) => revisions
                .get(key.value())
                .map_err(|e| damaged(e.into()))?
                .map(|revision| Revision::new(revision.value())),
            None => None,
        };
        snapshot.tenants.push(TenantAt {
            revision: changed.unwrap_or(revision),
            document,
        });
    }
    Ok(snapshot)
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

fn corrupt(path: &Path, found: impl std::fmt::Display) -> OpenError {
    OpenError::Corrupt {
        path: path.to_owned(),
        found: found.to_string(),
    }
}

fn io(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn database(error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::Database(Box::new(error))
}

//! Files of logs: written beside and renamed, read up to a limit, and what of them is not synced yet.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::LogError;
use crate::ledger::limits::{LOG_UNSYNCED, LOG_UNSYNCED_ONE_BY_ONE};

/// What was written and is not known to be on disk.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    /// More than could be remembered: everything.
    all: bool,
}

impl Unsynced {
    /// Makes a folder and those above it, for their owner alone.
    pub(super) fn make_folder(&mut self, folder: &Path) -> Result<(), LogError> {
        let mut missing = Vec::new();
        let mut at = folder;
        while !at.is_dir() {
            missing.push(at);
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for folder in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(0o700).create(folder);
            if let Err(error) = made
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(LogError::io(folder)(error));
            }
            self.note(folder, None);
        }
        Ok(())
    }

    /// Puts a file in its place, whole or not at all.
    pub(super) fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
        if let Some(folder) = path.parent() {
            self.make_folder(folder)?;
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(BESIDE);
        let beside = PathBuf::from(beside);
        let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            // What is left of it is overwritten by the next attempt.
            drop(fs::remove_file(&beside));
            return Err(LogError::io(path)(error));
        }
        self.note(path, Some(path));
        Ok(())
    }

    /// Removes a file that may be gone already, and its folder if nothing is left in it.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), LogError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io(path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.files.remove(path);
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        // Not empty is no failure; whatever else is wrong with it is met when it is next used.
        if fs::remove_dir(folder).is_ok() {
            self.folders.remove(folder);
            self.note(folder, None);
        } else {
            self.note(path, None);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty() && !self.all
    }

    pub(super) fn take(&mut self) -> Self {
        mem::take(self)
    }

    /// Makes it durable. Many files cost less when the whole file system is synced.
    pub(super) fn sync(&self, root: &Path) -> Result<(), (PathBuf, io::Error)> {
        if self.all || self.files.len() + self.folders.len() > LOG_UNSYNCED_ONE_BY_ONE {
            let all = File::open(root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
            return all.map_err(|error| (root.to_owned(), error));
        }
        for path in self.files.iter().chain(&self.folders) {
            match File::open(path).and_then(|file| file.sync_all()) {
                // Superseded and removed in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| (path.clone(), error))?,
            }
        }
        Ok(())
    }

    /// Something in the folder above `path` changed, and this file was written.
    fn note(&mut self, path: &Path, file: Option<&Path>) {
        self.files.extend(file.map(Path::to_owned));
        self.folders.extend(path.parent().map(Path::to_owned));
        if self.files.len() + self.folders.len() > LOG_UNSYNCED {
            *self = Self {
                all: true,
                ..Self::default()
            };
        }
    }
}

/// Follows the name of a file that is being written.
const BESIDE: &str = ".new";

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// The bytes of a file, nothing if there is none.
///
/// # Errors
/// It is no file, longer than `limit`, or cannot be read.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    // A pipe would be waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not a file",
        ));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {limit} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// The numbers of the files in a folder that are called as tiles are, with `suffix` after the last digits; in order.
///
/// # Errors
/// Whatever the system says. A folder that is not there has none.
pub(crate) fn numbered(folder: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0_u64)];
    while let Some((folder, above)) = folders.pop() {
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed?,
        };
        for entry in listed {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let digits = |text: &str| {
                let three = text.len() == 3 && text.bytes().all(|it| it.is_ascii_digit());
                let group: u64 = three.then(|| text.parse().ok()).flatten()?;
                above.checked_mul(1_000)?.checked_add(group)
            };
            if let Some(number) = name.strip_suffix(suffix).and_then(digits) {
                numbers.push(number);
            } else if let Some(number) = name.strip_prefix('x').and_then(digits) {
                folders.push((entry.path(), number));
            }
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

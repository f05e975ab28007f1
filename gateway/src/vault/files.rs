//! The vault's files: a key's is `NAME.sealed`, written whole or not at all, readable by its owner alone.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::KeyName;
use crate::runtime::files::write_private;

/// Keys in one vault.
pub const MAX_KEYS: usize = 16_384;
/// The largest file of a vault, in bytes.
const MAX_FILE: u64 = 64 * 1024;

pub(super) fn write(directory: &Path, name: &KeyName, sealed: &[u8]) -> Result<(), String> {
    make(directory)?;
    if !is_there(directory, name) && count(directory)? >= MAX_KEYS {
        return Err(format!("it holds {MAX_KEYS} keys, and no more"));
    }
    write_file(&path(directory, name), sealed)
}

pub(super) fn read(directory: &Path, name: &KeyName) -> Result<Option<Vec<u8>>, String> {
    read_file(&path(directory, name))
}

pub(super) fn is_there(directory: &Path, name: &KeyName) -> bool {
    path(directory, name).exists()
}

/// At most [`MAX_KEYS`]; what is no key's file is not named.
pub(super) fn names(directory: &Path) -> Vec<KeyName> {
    let all = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = all.filter_map(|entry| {
        let name = entry.file_name();
        KeyName::new(name.to_str()?.strip_suffix(".sealed")?).ok()
    });
    names.take(MAX_KEYS).collect()
}

pub(super) fn remove(directory: &Path, name: &KeyName) -> Result<(), String> {
    let path = path(directory, name);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// What is in a file; none if it is not there.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error)),
    };
    let mut bytes = Vec::new();
    let length = file
        .take(MAX_FILE.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(told)?;
    match u64::try_from(length).is_ok_and(|length| length <= MAX_FILE) {
        true => Ok(Some(bytes)),
        false => Err(format!("{}: larger than {MAX_FILE} bytes", path.display())),
    }
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), String> {
    write_private(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn make(directory: &Path) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))
}

fn count(directory: &Path) -> Result<usize, String> {
    fs::read_dir(directory)
        .map(Iterator::count)
        .map_err(|error| format!("{}: {error}", directory.display()))
}

fn path(directory: &Path, name: &KeyName) -> PathBuf {
    directory.join(format!("{name}.sealed"))
}

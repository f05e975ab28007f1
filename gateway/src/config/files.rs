//! Reading a small text file without being led astray: a device, a pipe, a file without end.

use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's text, if it is a regular file of at most `maximum` bytes of UTF-8.
///
/// The error says what is wrong with the file, but not which file it is.
pub(super) fn read_text(path: &Path, maximum: u64) -> Result<String, String> {
    let (file, _) = open(path)?;
    read(file, maximum)
}

/// Opens a regular file; what the metadata says holds of the opened file, whatever happens to the
/// path meanwhile.
pub(super) fn open(path: &Path) -> Result<(File, Metadata), String> {
    // Without O_NONBLOCK, opening a named pipe waits for whoever writes to it.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("cannot be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    Ok((file, metadata))
}

/// All of an opened file, at most `maximum` bytes.
pub(super) fn read(file: File, maximum: u64) -> Result<String, String> {
    // Room for all of it at once: a growing buffer would leave copies of a key behind.
    let expected = file.metadata().map_or(0, |metadata| metadata.len());
    let room = usize::try_from(expected.min(maximum)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(room.saturating_add(1));
    file.take(maximum.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > maximum {
        return Err(format!("is larger than {maximum} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(at)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("is not UTF-8 text (byte {at}, in line {line})")
    })
}

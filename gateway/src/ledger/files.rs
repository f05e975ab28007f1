//! The files of a ledger: opening after whatever happened, appending, rotating, letting go.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;
use parking_lot::Mutex;

use super::limits::{Limits, MAX_LINE};
use super::tail::Place;

/// An open ledger directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    limits: Limits,
    current: Mutex<Current>,
    /// Held for as long as the ledger is open: one process at a time.
    _lock: File,
}

/// `events.jsonl`, and the length up to which it holds whole lines.
#[derive(Debug)]
struct Current {
    file: File,
    whole: u64,
    /// Up to where it is on disk, not only with the kernel.
    durable: u64,
    /// The number that it has once it is rotated.
    number: u64,
}

/// Half a line that a crash left at the end of `events.jsonl`.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) bytes: usize,
    pub(super) kept_in: &'static str,
}

impl Files {
    /// Opens (or makes) the directory; moves a torn last line aside, so that the next line begins
    /// where a line should.
    pub(super) fn open(directory: &Path, limits: Limits) -> io::Result<(Self, Option<Torn>)> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let lock = open_for_append(&directory.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process has this ledger open",
            ),
            TryLockError::Error(error) => error,
        })?;
        let file = open_for_append(&directory.join(CURRENT))?;
        let torn = set_torn_line_aside(directory, &file)?;
        let whole = file.metadata()?.len();
        // What a process that was killed wrote may still be with the kernel alone.
        file.sync_data()?;
        sync_directory(directory)?;
        let last = rotated_in(directory)?.pop();
        let current = Mutex::new(Current {
            file,
            whole,
            durable: whole,
            number: last.map_or(1, |(number, _)| number.saturating_add(1)),
        });
        Ok((
            Self {
                directory: directory.to_owned(),
                limits,
                current,
                _lock: lock,
            },
            torn,
        ))
    }

    /// Appends whole lines with one write, after rotating if the file is full. On an error nothing
    /// of them stays in the file.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut current = self.current.lock();
        if lines.is_empty() {
            return Ok(());
        }
        // A write that failed may have left a part behind, and the truncation may have failed too.
        if current.file.metadata()?.len() != current.whole {
            current.file.set_len(current.whole)?;
        }
        if current.whole >= self.limits.file_bytes {
            self.rotate(&mut current)?;
        }
        if let Err(error) = current.file.write_all(lines) {
            let whole = current.whole;
            current.file.set_len(whole).unwrap_or_else(
                |error| tracing::error!(%error, "half a line stays in the ledger for now"),
            );
            return Err(error);
        }
        current.whole = current
            .whole
            .saturating_add(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut current = self.current.lock();
        current.file.sync_data()?;
        current.durable = current.whole;
        Ok(())
    }

    /// The oldest line that is kept, and where the durable ones end.
    pub(super) fn span(&self) -> io::Result<(Place, Place)> {
        let current = self.current.lock();
        let oldest = self.rotated()?.first().map(|(number, _)| *number);
        let end = Place {
            file: current.number,
            offset: current.durable,
        };
        let file = oldest.unwrap_or(current.number);
        Ok((Place { file, offset: 0 }, end))
    }

    /// Durable bytes behind a place.
    pub(super) fn behind(&self, place: Place) -> io::Result<u64> {
        let current = self.current.lock();
        let mut files = vec![(current.number, current.durable)];
        for (number, path) in self.rotated()? {
            files.push((number, fs::metadata(path)?.len()));
        }
        let left = files.into_iter().map(|(number, size)| match number {
            number if number == place.file => size.saturating_sub(place.offset),
            number if number > place.file => size,
            _ => 0,
        });
        Ok(left.fold(0, u64::saturating_add))
    }

    /// The file of this number, and up to where it is durable; none if there is none such.
    pub(super) fn open_numbered(&self, number: u64) -> io::Result<Option<Numbered>> {
        let current = self.current.lock();
        let (path, last) = if number == current.number {
            (self.directory.join(CURRENT), true)
        } else {
            (self.directory.join(rotated_name(number)), false)
        };
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let file = opened?;
                let end = match last {
                    true => current.durable,
                    false => file.metadata()?.len(),
                };
                Ok(Some(Numbered { file, end, last }))
            }
        }
    }

    /// Every file, newest first, opened now: what rotation does afterwards does not disturb a
    /// reader. The kept changes, which are the oldest, come last.
    pub(super) fn open_all(&self) -> io::Result<Vec<File>> {
        let _current = self.current.lock();
        let mut paths = vec![self.directory.join(CURRENT)];
        paths.extend(self.rotated()?.into_iter().rev().map(|(_, path)| path));
        paths.extend([CHANGES, CHANGES_OLDER].map(|name| self.directory.join(name)));
        paths
            .into_iter()
            .filter_map(|path| match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                opened => Some(opened),
            })
            .collect()
    }

    /// Renames the current file to the next number, begins a new one, and lets go of the oldest.
    fn rotate(&self, current: &mut Current) -> io::Result<()> {
        current.file.sync_data()?;
        let number = current.number;
        fs::rename(
            self.directory.join(CURRENT),
            self.directory.join(rotated_name(number)),
        )?;
        *current = Current {
            file: open_for_append(&self.directory.join(CURRENT))?,
            whole: 0,
            durable: 0,
            number: number.saturating_add(1),
        };
        sync_directory(&self.directory)?;
        let rotated = self.rotated()?;
        let too_many = rotated.len().saturating_sub(self.limits.kept_files);
        for (_, path) in rotated.iter().take(too_many) {
            // A file that cannot be let go of is no reason not to write; the next rotation tries again.
            if let Err(error) = self.let_go(path) {
                tracing::error!(%error, file = %path.display(), "a rotated ledger file could not be removed");
            }
        }
        Ok(())
    }

    /// Removes a rotated file once its policy changes are safe elsewhere.
    fn let_go(&self, path: &Path) -> io::Result<()> {
        let changes_path = self.directory.join(CHANGES);
        let mut changes = open_for_append(&changes_path)?;
        let mut kept = Vec::new();
        each_line(File::open(path)?, |line| {
            if memmem::find(line, KEPT_MARK).is_some() {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        })?;
        changes.write_all(&kept)?;
        changes.sync_data()?;
        if changes.metadata()?.len() > self.limits.changes_bytes {
            tracing::warn!(
                file = CHANGES,
                "policy changes outgrew their file; it was set aside and the one before it removed"
            );
            fs::rename(&changes_path, self.directory.join(CHANGES_OLDER))?;
        }
        fs::remove_file(path)?;
        sync_directory(&self.directory)
    }

    /// The rotated files, oldest first, with their numbers.
    fn rotated(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        rotated_in(&self.directory)
    }
}

fn rotated_in(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut rotated = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let number = name
            .strip_prefix("events-")
            .and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            rotated.push((number, path));
        }
    }
    rotated.sort();
    Ok(rotated)
}

fn rotated_name(number: u64) -> String {
    format!("events-{number:06}.jsonl")
}

/// One of the files, to be read from somewhere on.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) file: File,
    pub(super) end: u64,
    /// It is still written.
    pub(super) last: bool,
}

const CURRENT: &str = "events.jsonl";
const CHANGES: &str = "changes.jsonl";
const CHANGES_OLDER: &str = "changes-older.jsonl";
const TORN: &str = "torn.jsonl";

/// Stands in the line of every policy change, and as JSON escapes quotation marks, in no text.
const KEPT_MARK: &[u8] = br#""kind":"policy."#;

/// Calls `visit` for every line (without its end) that is not longer than `MAX_LINE`.
pub(super) fn each_line(file: File, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(MAX_LINE, file);
    let mut line = Vec::new();
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    loop {
        line.clear();
        if reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            visit(&line);
        } else if line.len() < MAX_LINE {
            return Ok(()); // Being written, or torn.
        } else {
            reader.skip_until(b'\n')?;
        }
    }
}

/// Moves what stands after the last end of line into `torn.jsonl`.
fn set_torn_line_aside(directory: &Path, file: &File) -> io::Result<Option<Torn>> {
    let length = file.metadata()?.len();
    let window = length.min(u64::try_from(MAX_LINE).unwrap_or(u64::MAX));
    let mut tail = vec![0; usize::try_from(window).unwrap_or(MAX_LINE)];
    file.read_exact_at(&mut tail, length.saturating_sub(window))?;
    let torn = tail
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    if torn.is_empty() {
        return Ok(None);
    }
    let mut aside = open_for_append(&directory.join(TORN))?;
    aside.seek(SeekFrom::End(0))?;
    aside.write_all(torn)?;
    aside.write_all(b"\n")?;
    aside.sync_data()?;
    let torn = Torn {
        bytes: torn.len(),
        kept_in: TORN,
    };
    if torn.bytes < MAX_LINE {
        file.set_len(length.saturating_sub(u64::try_from(torn.bytes).unwrap_or_default()))?;
    } else {
        // No line is that long: this is not ours. It is ended, so that our next line is a line.
        (&*file).write_all(b"\n")?;
    }
    file.sync_data()?;
    Ok(Some(torn))
}

fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// A new or renamed file is durable when its directory is.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

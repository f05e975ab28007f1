//! Checkpoints that do not fit each other, kept in pairs.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use portcullis_audit::tlog::{Against, Hash, Proves};

use super::files::{make_folder, replace, sync_folder_of};
use crate::ledger::limits::WITNESS_EVIDENCE;

/// A folder of pairs.
#[derive(Debug)]
pub(super) struct Evidence {
    folder: PathBuf,
    /// The names of those that prove two histories,
    contradictions: VecDeque<String>,
    /// and of those that prove nothing by themselves, oldest first.
    unproven: VecDeque<String>,
}

/// What became of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It lies in these two files now: the older checkpoint and the newer.
    New(PathBuf, PathBuf),
    /// It was there.
    Before,
    /// There are as many as are kept, and each is proof enough.
    Full,
}

impl Evidence {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // The newer is written last: without it there is no pair.
            if let Some(name) = name.strip_suffix(NEWER) {
                let at = entry.metadata()?.modified();
                found.push((at.unwrap_or(SystemTime::UNIX_EPOCH), name.to_owned()));
            }
        }
        found.sort();
        let named = |kind: &str| {
            let names = found.iter().map(|(_, name)| name);
            names
                .filter(|name| name.starts_with(kind))
                .cloned()
                .collect()
        };
        Ok(Self {
            folder: folder.to_owned(),
            contradictions: named(CONTRADICTION),
            unproven: named(UNPROVEN),
        })
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.contradictions.len(), self.unproven.len())
    }

    pub(super) fn keep(&mut self, against: &Against) -> io::Result<Kept> {
        let (older, newer) = (against.older.to_string(), against.newer.to_string());
        // The texts alone: a log may sign one text as often as it likes.
        let texts = format!("{}\0{}", against.older.text, against.newer.text);
        let Hash([a, b, c, d, e, f, ..]) = Hash::of_leaf(texts.as_bytes());
        let (kind, names) = match against.proves {
            Proves::TwoHistories => (CONTRADICTION, &mut self.contradictions),
            Proves::Nothing => (UNPROVEN, &mut self.unproven),
        };
        let name = format!("{kind}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
        if names.contains(&name) {
            return Ok(Kept::Before);
        }
        if names.len() >= WITNESS_EVIDENCE {
            if against.proves == Proves::TwoHistories {
                return Ok(Kept::Full);
            }
            // Anybody can provoke one of these; a log that was rewritten provokes them again and again.
            if let Some(oldest) = names.pop_front() {
                for end in [NEWER, OLDER] {
                    remove(&self.folder.join(format!("{oldest}{end}")))?;
                }
            }
        }
        let paths = [OLDER, NEWER].map(|end| self.folder.join(format!("{name}{end}")));
        let [to_older, to_newer] = &paths;
        replace(to_older, older.as_bytes())?;
        replace(to_newer, newer.as_bytes())?;
        names.push_back(name);
        let [older, newer] = paths;
        Ok(Kept::New(older, newer))
    }
}

const CONTRADICTION: &str = "contradiction-";
const UNPROVEN: &str = "unproven-";
const OLDER: &str = "-older.checkpoint";
const NEWER: &str = "-newer.checkpoint";

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sync_folder_of(path),
    }
}

//! How far a sink has each log: a small file, replaced whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::SHIP_CURSOR_BYTES;
use crate::ledger::tiles::read;

/// The next index of each log.
#[derive(Debug)]
pub(super) struct Cursor {
    folder: PathBuf,
    file: PathBuf,
    next: BTreeMap<String, u64>,
    /// The latest that were sent, where nobody says that they arrived; at most so many.
    trail: (usize, VecDeque<(String, u64)>),
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    next: BTreeMap<String, u64>,
}

const VERSION: u32 = 1;

impl Cursor {
    /// What the file of this sink says. One that cannot be understood is begun anew, which repeats entries and loses none.
    pub(super) fn open(folder: &Path, sink: &str) -> Self {
        let file = folder.join(format!("{sink}.json"));
        let next = match recall(&file) {
            Ok(next) => next,
            Err(why) => {
                tracing::warn!(file = %file.display(), why, "how far a sink has the audit logs is not known: they are shipped from the start");
                BTreeMap::new()
            }
        };
        Self {
            folder: folder.to_owned(),
            file,
            next,
            trail: (0, VecDeque::new()),
        }
    }

    /// Of a sink that keeps its own cursor: what it says, which no file does.
    pub(super) fn of_sink(next: BTreeMap<String, u64>) -> Self {
        Self {
            folder: PathBuf::new(),
            file: PathBuf::new(),
            next,
            trail: (0, VecDeque::new()),
        }
    }

    /// Whether this is how far each log is.
    pub(super) fn is(&self, next: &BTreeMap<String, u64>) -> bool {
        self.next == *next
    }

    /// From now on, the latest so many are not taken to have arrived.
    pub(super) fn trail(&mut self, most: usize) {
        self.trail.0 = most;
    }

    /// Goes back to before what may not have arrived.
    pub(super) fn again(&mut self) {
        self.next = self.arrived();
        self.trail.1.clear();
    }

    /// All of it has arrived.
    pub(super) fn settled(&mut self) {
        self.trail.1.clear();
    }

    fn arrived(&self) -> BTreeMap<String, u64> {
        let mut next = self.next.clone();
        for (log, first) in &self.trail.1 {
            if let Some(next) = next.get_mut(log) {
                *next = (*next).min(*first);
            }
        }
        next
    }

    pub(super) fn next(&self, log: &str) -> u64 {
        self.next.get(log).copied().unwrap_or_default()
    }

    /// Takes down that the sink has a log from `first` up to, and without, `next`. Not yet durable.
    pub(super) fn set(&mut self, log: &str, first: u64, next: u64) {
        self.next.insert(log.to_owned(), next);
        let (most, trail) = &mut self.trail;
        if *most > 0 {
            trail.push_back((log.to_owned(), first));
            while trail.len() > *most {
                trail.pop_front();
            }
        }
    }

    /// Makes it durable.
    pub(super) fn save(&self) -> io::Result<()> {
        let written = Written {
            version: VERSION,
            next: self.arrived(),
        };
        let text = serde_json::to_vec(&written)?;
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.folder)?;
        let beside = self.file.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn recall(file: &Path) -> Result<BTreeMap<String, u64>, String> {
    let bytes = read(file, SHIP_CURSOR_BYTES).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else {
        return Ok(BTreeMap::new());
    };
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    match written.version {
        VERSION => Ok(written.next),
        other => Err(format!("it is of version {other}")),
    }
}

//! Taking one entry out of a log, with all that proves it; and the proof that a log only grew.

use std::fmt;

use portcullis_audit::tlog::{
    Checkpoint, Evidence, Hash, Level, MAX_BUNDLE_BYTES, MAX_TILE_BYTES, Note, TILE_WIDTH, Tile,
    Tiles, check_consistency, check_inclusion, decode_tile, encode_tile, entries,
    prove_consistency, prove_inclusion, root_at,
};
use portcullis_audit::{Event, kinds};

use serde_json::Value;

use super::log::said_kept;
use super::report::LogReport;
use super::source::Source;
use super::{InspectError, get};
use crate::ledger::limits::{LOG_CHANGES, MAX_FOUND};
use crate::ledger::tiles::{CHECKPOINT, KEPT_FROM};

/// Which entry is wanted.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The one with this index, from 0.
    Index(u64),
    /// The one event of an attempt, by the reference that the client was told.
    Reference(String),
    /// The one that anchors a file of connections' lines of a node.
    Batch {
        /// The node's name,
        node: String,
        /// and the file's.
        file: String,
    },
    /// By its place; if the log let go of it, these bytes, which somebody kept and which must be what was signed.
    Kept(u64, Vec<u8>),
}

/// An entry, and what proves it: the entry itself is the proof's extra data.
#[derive(Clone, Debug)]
pub struct Proven {
    /// What is written.
    pub evidence: Evidence,
    /// The entry.
    pub entry: Vec<u8>,
}

/// Makes the proof of an entry in the log that lies at `log` (nothing: in the source itself).
///
/// # Errors
/// [`ProveError`]
pub fn prove(source: &mut dyn Source, log: &str, wanted: &Wanted) -> Result<Proven, ProveError> {
    let path = LogReport::new(log).path(CHECKPOINT);
    let mut before = None;
    loop {
        let bytes = get(source, &path)?;
        let bytes = bytes.ok_or_else(|| ProveError::Damaged {
            path: path.clone(),
            problem: "it is missing".to_owned(),
        })?;
        let error = match once(source, log, wanted, &bytes) {
            Err(error @ ProveError::Damaged { .. }) => error,
            done => return done,
        };
        // Partial tiles go when they are superseded.
        let (times, known) = before.unwrap_or((0, Vec::new()));
        if known == bytes || times >= LOG_CHANGES {
            return Err(error);
        }
        before = Some((times + 1, bytes));
    }
}

fn once(
    source: &mut dyn Source,
    log: &str,
    wanted: &Wanted,
    bytes: &[u8],
) -> Result<Proven, ProveError> {
    let of_log = LogReport::new(log);
    let damaged = |file: &str, problem: &dyn fmt::Display| ProveError::Damaged {
        path: of_log.path(file),
        problem: problem.to_string(),
    };
    let note = Note::parse(bytes).map_err(|error| damaged(CHECKPOINT, &error))?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|error| damaged(CHECKPOINT, &error))?;
    let mut files = Files {
        source,
        log: of_log.clone(),
        size: checkpoint.size,
    };
    let index = match wanted {
        Wanted::Index(index) | Wanted::Kept(index, _) => *index,
        Wanted::Reference(reference) => {
            files.search(reference, |it| it.reference.as_deref() == Some(reference))?
        }
        Wanted::Batch { node, file } => files.search(file, |it| {
            it.kind == kinds::CONNECTIONS_BATCH
                && it.node == node.as_str()
                && it.field("file").and_then(Value::as_str) == Some(file)
        })?,
    };
    let beyond = ProveError::Beyond {
        index,
        size: checkpoint.size,
    };
    let bundle = Tile::at(
        Level::Entries,
        index / u64::from(TILE_WIDTH),
        checkpoint.size,
    );
    let Some(bundle) = bundle.filter(|_| index < checkpoint.size) else {
        return Err(beyond);
    };
    let place = usize::try_from(index % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
    let entry = match (files.entries(bundle), wanted) {
        (Err(ProveError::Gone { .. }), Wanted::Kept(_, entry)) => entry.clone(),
        (entries, _) => entries?.into_iter().nth(place).ok_or(beyond)?,
    };
    let mut tiles = Tiles::new(checkpoint.size, |tile| files.tile(tile));
    let proof = prove_inclusion(index, checkpoint.size, &mut tiles);
    let proof = proof.map_err(|error| damaged("tile", &error))?;
    let leaf = Hash::of_leaf(&entry);
    check_inclusion(leaf, index, &proof, checkpoint.size, checkpoint.root).map_err(|_| {
        let problem = "the entry or a hash was changed; `portcullis audit verify` says which";
        damaged(&bundle.path(), &problem)
    })?;
    Ok(Proven {
        evidence: Evidence {
            extra: Some(entry.clone()),
            index,
            proof,
            checkpoint: note,
        },
        entry,
    })
}

/// The proof that a log began, when it had `old` entries, as it is in this checkpoint of it; for a witness.
///
/// # Errors
/// [`ProveError`]
pub fn growth(
    source: &mut dyn Source,
    log: &str,
    old: u64,
    checkpoint: &Checkpoint,
) -> Result<Vec<Hash>, ProveError> {
    let of_log = LogReport::new(log);
    let new = (checkpoint.size, checkpoint.root);
    if old > checkpoint.size {
        return Err(ProveError::Beyond {
            index: old,
            size: checkpoint.size,
        });
    }
    let mut files = Files {
        source,
        log: of_log.clone(),
        size: checkpoint.size,
    };
    let mut tiles = Tiles::new(checkpoint.size, |tile| files.tile(tile));
    let proof = prove_consistency(old, checkpoint.size, &mut tiles);
    let old = root_at(old, &mut tiles).map(|root| (old, root));
    let proved = match (proof, old) {
        (Ok(proof), Ok(old)) => check_consistency(old, new, &proof)
            .map(|()| proof)
            .map_err(|error| error.to_string()),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    };
    proved.map_err(|problem| ProveError::Damaged {
        path: of_log.path("tile"),
        problem,
    })
}

/// A log's name in its checkpoint, and its root when it had so many entries.
///
/// # Errors
/// [`ProveError`]
pub fn root(source: &mut dyn Source, log: &str, size: u64) -> Result<(String, Hash), ProveError> {
    let of_log = LogReport::new(log);
    let damaged = |file: &str, problem: &dyn fmt::Display| ProveError::Damaged {
        path: of_log.path(file),
        problem: problem.to_string(),
    };
    let bytes = get(source, &of_log.path(CHECKPOINT))?;
    let bytes = bytes.ok_or_else(|| damaged(CHECKPOINT, &"it is missing"))?;
    let note = Note::parse(&bytes).map_err(|error| damaged(CHECKPOINT, &error))?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|error| damaged(CHECKPOINT, &error))?;
    if size > checkpoint.size {
        return Err(ProveError::Beyond {
            index: size,
            size: checkpoint.size,
        });
    }
    let mut files = Files {
        source,
        log: of_log.clone(),
        size: checkpoint.size,
    };
    let mut tiles = Tiles::new(checkpoint.size, |tile| files.tile(tile));
    let root = root_at(size, &mut tiles).map_err(|error| damaged("tile", &error))?;
    Ok((checkpoint.origin, root))
}

struct Files<'a> {
    source: &'a mut dyn Source,
    log: LogReport,
    size: u64,
}

impl Files<'_> {
    /// The one entry that `fits`, among those that have this text in them.
    fn search(&mut self, wanted: &str, fits: impl Fn(&Event) -> bool) -> Result<u64, ProveError> {
        let mut found = Vec::new();
        let width = u64::from(TILE_WIDTH);
        for number in 0..self.size.div_ceil(width) {
            let Some(bundle) = Tile::at(Level::Entries, number, self.size) else {
                break;
            };
            let read = match self.entries(bundle) {
                Err(ProveError::Gone { .. }) => continue,
                read => read?,
            };
            for (index, entry) in (number * width..).zip(read) {
                let text = std::str::from_utf8(&entry).ok();
                // Looked for first because it is cheap.
                let event = text.filter(|text| text.contains(wanted));
                let event = event.and_then(|text| Event::parse(text).ok());
                let event = event.filter(|it| fits(it));
                if let Some(event) = event
                    && found.len() < MAX_FOUND
                {
                    found.push((index, event.kind.into_owned()));
                }
            }
        }
        match found.as_slice() {
            [(index, _)] => Ok(*index),
            [] => Err(ProveError::NotFound(wanted.to_owned())),
            _ => Err(ProveError::Several(found)),
        }
    }

    fn entries(&mut self, bundle: Tile) -> Result<Vec<Vec<u8>>, ProveError> {
        let found = self.file(bundle, MAX_BUNDLE_BYTES);
        if matches!(found, Err(ProveError::Damaged { .. })) {
            let kept = said_kept(self.source, &self.log.path(KEPT_FROM))?;
            let kept_from = kept.map_or(0, |kept| kept.kept_from);
            if bundle.index < kept_from / u64::from(TILE_WIDTH) {
                return Err(ProveError::Gone { kept_from });
            }
        }
        let (bytes, width) = found?;
        let entries = entries(&bytes, width).map_err(|error| ProveError::Damaged {
            path: self.log.path(&bundle.path()),
            problem: error.to_string(),
        })?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The bytes of a tile of this width.
    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, ProveError> {
        let (bytes, width) = self.file(tile, MAX_TILE_BYTES)?;
        let Some(mut hashes) = decode_tile(&bytes, width) else {
            return Err(ProveError::Damaged {
                path: self.log.path(&tile.path()),
                problem: format!("{} bytes are not {width} hashes", bytes.len()),
            });
        };
        hashes.truncate(usize::from(tile.width));
        Ok(encode_tile(&hashes))
    }

    /// A file and its width: the full one where the partial one is gone.
    fn file(&mut self, tile: Tile, limit: usize) -> Result<(Vec<u8>, u16), ProveError> {
        for tile in [tile, tile.full()] {
            let path = self.log.path(&tile.path());
            let read = self.source.read(&path, limit);
            if let Some(bytes) = read.map_err(|problem| InspectError::Read { path, problem })? {
                return Ok((bytes, tile.width));
            }
        }
        Err(ProveError::Damaged {
            path: self.log.path(&tile.path()),
            problem: "it is missing".to_owned(),
        })
    }
}

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProveError {
    /// Nothing can be said about the log.
    Inspect(InspectError),
    /// A file is missing or was changed.
    Damaged {
        /// Which,
        path: String,
        /// and how.
        problem: String,
    },
    /// The log has no such entry.
    Beyond {
        /// The index that was asked for,
        index: u64,
        /// and how many the log has.
        size: u64,
    },
    /// It was kept for as long as was decided.
    Gone {
        /// Entries before this one were let go of.
        kept_from: u64,
    },
    /// No entry has this reference, or anchors this file.
    NotFound(String),
    /// Several have it: their indexes and kinds.
    Several(Vec<(u64, String)>),
}

impl From<InspectError> for ProveError {
    fn from(error: InspectError) -> Self {
        Self::Inspect(error)
    }
}

impl fmt::Display for ProveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspect(error) => write!(f, "{error}"),
            Self::Damaged { path, problem } => write!(f, "{path}: {problem}"),
            Self::Beyond { index, size } => {
                write!(f, "there is no entry {index}: the log has {size}, from 0")
            }
            Self::Gone { kept_from } => write!(
                f,
                "it was let go of: the log keeps its entries from {kept_from} on; ask a copy that still has it"
            ),
            Self::NotFound(reference) => write!(
                f,
                "no entry has the reference {reference}; a single connection is in a batch: name the node's files by --batches"
            ),
            Self::Several(found) => {
                f.write_str("several entries have this reference; name one by --index:")?;
                found
                    .iter()
                    .try_for_each(|(index, kind)| write!(f, "\n  {index}  {kind}"))
            }
        }
    }
}

impl std::error::Error for ProveError {}

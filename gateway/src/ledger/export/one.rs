//! One log of a bundle: what of it is copied, and what of its entries is selected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use memchr::memmem;
use portcullis_audit::tlog::{
    Checkpoint, Level, MAX_NOTE_BYTES, Note, TILE_WIDTH, Tile, TrustPolicy, entries, verify_from,
};
use portcullis_audit::{Event, kinds, moment};
use serde_json::{Value, json};

use super::write::{Folder, Sheets};
use super::{ExportError, Period};
use crate::ledger::inspect::{GoneReport, InspectError, Source};
use crate::ledger::tiles::{CHECKPOINT, LogFile, LogId, limit};

/// One log.
pub(super) struct One<'a> {
    pub(super) source: &'a mut dyn Source,
    /// Where it lies in the source; nothing: the source is the log.
    pub(super) place: &'a str,
    pub(super) id: LogId,
    note: Vec<u8>,
    checkpoint: Checkpoint,
    /// Who cosigned this checkpoint, and when, Unix seconds.
    cosigned: BTreeMap<String, u64>,
    /// What was let go of.
    gone: Option<GoneReport>,
    /// The first and the last entry of the period.
    span: Option<(u64, u64)>,
    /// The policy change that held at the start and at the end of the period.
    pub(super) at_start: Option<u64>,
    pub(super) at_end: Option<u64>,
    /// Tenants of which an entry of the period is a head.
    pub(super) heads: BTreeSet<String>,
    /// Bundles that were copied.
    copied: BTreeSet<u64>,
    /// The bundle that was read last.
    bundle: Option<(u64, Vec<Vec<u8>>)>,
}

impl<'a> One<'a> {
    /// Reads the whole log once, and checks it on the way.
    pub(super) fn open(
        source: &'a mut dyn Source,
        trust: &TrustPolicy,
        place: &'a str,
        id: LogId,
        gone: Option<GoneReport>,
        period: &Period,
    ) -> Result<Self, ExportError> {
        let damaged = |what: String| ExportError::Changed(what);
        let path = path_in(place, CHECKPOINT);
        let bytes = read(source, &path, MAX_NOTE_BYTES)?.ok_or_else(|| damaged(path.clone()))?;
        let note = Note::parse(&bytes).map_err(|error| damaged(format!("{path}: {error}")))?;
        let said =
            Checkpoint::parse(&note.text).map_err(|error| damaged(format!("{path}: {error}")))?;
        let own = trust.for_log(&said.origin);
        let own = own.ok_or_else(|| damaged(format!("{path}: another log's")))?;
        let believed = own
            .check(&note)
            .map_err(|error| damaged(format!("{path}: {error}")))?;
        let (checkpoint, cosigned) = (believed.checkpoint, believed.witnesses);
        let (mut span, mut at_start, mut at_end) = (None::<(u64, u64)>, None, None);
        // `inspect` saw the entry that says so.
        let kept_from = gone.map_or(0, |gone| gone.kept_from);
        let findings = verify_from(
            &checkpoint,
            kept_from,
            |tile| read_tile(source, place, tile),
            |index, leaf| {
                let Some(line) = leaf.entry else { return };
                let Some(at) = moment_of(line) else { return };
                // What is left before that is the policy alone.
                if period.has(at) && index >= kept_from {
                    span = Some((span.map_or(index, |(first, _)| first), index));
                }
                if contains(line, POLICY_APPLIED) {
                    if at < period.from_ms {
                        at_start = Some(index);
                    }
                    if at < period.to_ms {
                        at_end = Some(index);
                    }
                }
            },
        )?;
        if !findings.is_clean() {
            return Err(damaged(format!("{id}: it changed while it was read")));
        }
        Ok(Self {
            source,
            place,
            id,
            note: bytes,
            checkpoint,
            cosigned,
            gone,
            span,
            at_start,
            at_end,
            heads: BTreeSet::new(),
            copied: BTreeSet::new(),
            bundle: None,
        })
    }

    /// Entries from the first to the last of the period.
    pub(super) fn inside(&self) -> u64 {
        self.span.map_or(0, |(first, last)| {
            last.saturating_sub(first).saturating_add(1)
        })
    }

    /// Copies the checkpoint, the entries of the period, those that the policy comes from, and the hashes that lead from them to the root.
    pub(super) fn copy(&mut self, folder: &mut Folder) -> Result<(), ExportError> {
        let size = self.checkpoint.size;
        let base = format!("log/{}", self.id);
        folder.put(&format!("{base}/{CHECKPOINT}"), &self.note)?;
        let width = u64::from(TILE_WIDTH);
        let mut bundles = BTreeSet::new();
        if let Some((first, last)) = self.span {
            bundles.extend(first / width..=last / width);
        }
        // The entry that says what was let go of: without it nobody can tell that from what is missing.
        bundles.extend(self.gone.map(|gone| gone.declared_by / width));
        for at in [self.at_start, self.at_end].into_iter().flatten() {
            let first = at.saturating_sub(self.parts(at)?);
            bundles.extend(first / width..=at / width);
        }
        for index in &bundles {
            for level in [Level::Entries, Level::Hashes(0)] {
                self.copy_tile(folder, &base, Tile::at(level, *index, size))?;
            }
        }
        // What stands at the right edge of each level makes the root.
        if !bundles.contains(&(size / width)) {
            self.copy_tile(
                folder,
                &base,
                Tile::at(Level::Hashes(0), size / width, size),
            )?;
        }
        for level in 1_u8.. {
            if Tile::at(Level::Hashes(level), 0, size).is_none() {
                break;
            }
            let mut index = 0;
            while let Some(tile) = Tile::at(Level::Hashes(level), index, size) {
                self.copy_tile(folder, &base, Some(tile))?;
                index += 1;
            }
        }
        self.copied = bundles;
        Ok(())
    }

    fn copy_tile(
        &mut self,
        folder: &mut Folder,
        base: &str,
        tile: Option<Tile>,
    ) -> Result<(), ExportError> {
        let Some(tile) = tile else {
            return Ok(());
        };
        let bytes = self.tile(tile)?;
        folder.put(&format!("{base}/{}", tile.path()), &bytes)
    }

    /// A file of the log. Of one that was partial when the checkpoint was made, the full one will do: its beginning is the same.
    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, ExportError> {
        let changed = || ExportError::Changed(path_in(self.place, &tile.path()));
        let bytes = read_tile(self.source, self.place, tile)?;
        if let Some(bytes) = bytes {
            return Ok(bytes);
        }
        let bytes = read_tile(self.source, self.place, tile.full())?;
        let bytes = bytes.filter(|_| tile.is_partial()).ok_or_else(changed)?;
        let end = match tile.level {
            Level::Hashes(_) => usize::from(tile.width).saturating_mul(HASH),
            Level::Entries => {
                let all = entries(&bytes, TILE_WIDTH).map_err(|_| changed())?;
                let kept = all.into_iter().take(usize::from(tile.width));
                kept.fold(0_usize, |end, entry| end.saturating_add(2 + entry.len()))
            }
        };
        bytes.get(..end).map(<[u8]>::to_vec).ok_or_else(changed)
    }

    fn entry(&mut self, index: u64) -> Result<String, ExportError> {
        let id = self.id.clone();
        let changed = || ExportError::Changed(format!("{id}: entry {index}"));
        let width = u64::from(TILE_WIDTH);
        let wanted = index / width;
        if self.bundle.as_ref().is_none_or(|(at, _)| *at != wanted) {
            let tile = Tile::at(Level::Entries, wanted, self.checkpoint.size);
            let tile = tile.ok_or_else(changed)?;
            let bytes = self.tile(tile)?;
            let read = entries(&bytes, tile.width).map_err(|_| changed())?;
            self.bundle = Some((wanted, read.into_iter().map(<[u8]>::to_vec).collect()));
        }
        let place = usize::try_from(index % width).unwrap_or(usize::MAX);
        let found = self.bundle.as_ref().and_then(|(_, all)| all.get(place));
        let found = found.and_then(|entry| String::from_utf8(entry.clone()).ok());
        found.ok_or_else(changed)
    }

    /// Puts the entries of the period into the populations that take them; those of which a proof is wanted.
    pub(super) fn select(
        &mut self,
        period: &Period,
        sheets: &mut Sheets,
    ) -> Result<Vec<u64>, ExportError> {
        let mut proved = Vec::new();
        let Some((first, last)) = self.span else {
            return Ok(proved);
        };
        let log = self.id.to_string();
        for index in first..=last {
            let line = self.entry(index)?;
            let Ok(event) = Event::parse(&line) else {
                return Err(ExportError::Changed(format!(
                    "{log}: entry {index} is no event"
                )));
            };
            if !period.has(event.at_ms) {
                continue;
            }
            if event.kind == kinds::LOG_HEAD {
                self.heads.extend(event.tenant.clone());
            }
            let mut wants_proof = false;
            for (population, sheet) in &mut sheets.0 {
                let events = population.takes(&event);
                if events > 0 {
                    wants_proof |= population.proved;
                    let added = sheet.add(&log, index, &event, &line, events);
                    added.map_err(ExportError::io(Path::new(population.name)))?;
                }
            }
            if wants_proof {
                proved.push(index);
            }
        }
        Ok(proved)
    }

    /// How many entries before this one its document is spread over.
    fn parts(&mut self, index: u64) -> Result<u64, ExportError> {
        let line = self.entry(index)?;
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let parts = event.pointer("/document/parts").and_then(Value::as_u64);
        Ok(parts.unwrap_or_default().min(index))
    }

    /// The document that a change left, and which entries it is from.
    pub(super) fn document(&mut self, index: u64) -> Result<Value, ExportError> {
        let parts = self.parts(index)?;
        let line = self.entry(index)?;
        let mut texts = Vec::new();
        for part in index - parts..index {
            texts.push(self.entry(part)?);
        }
        let document = put_together(&line, &texts);
        let document = document.ok_or_else(|| {
            ExportError::Changed(format!("{}: the document of entry {index}", self.id))
        })?;
        Ok(json!({ "entry": index, "parts": parts, "document": document }))
    }

    /// The moment after which the log says nothing: whoever cosigned it first saw no more of it. None: nobody did.
    pub(super) fn nothing_after(&self) -> Option<i64> {
        self.cosigned.values().min().map(|at| milliseconds(*at))
    }

    pub(super) fn describe(&self) -> Value {
        let cosigned = self.cosigned.iter();
        let cosigned = cosigned.map(|(name, at)| (name, moment::to_text(milliseconds(*at))));
        json!({
            "log": self.id.to_string(),
            "origin": self.checkpoint.origin,
            "size": self.checkpoint.size,
            "root": self.checkpoint.root.to_string(),
            "cosigned": cosigned.collect::<BTreeMap<_, _>>(),
            "gone": self.gone,
            "first": self.span.map(|(first, _)| first),
            "last": self.span.map(|(_, last)| last),
            "bundles": self.copied,
        })
    }
}

/// The document of a change from the entry that says so and from those that it is spread over; null is that it is gone, and what cannot
/// be read is nothing.
fn put_together(change: &str, parts: &[String]) -> Option<Value> {
    if parts.is_empty() {
        let event: Value = serde_json::from_str(change).ok()?;
        return Some(event.get("document").cloned().unwrap_or_default());
    }
    let mut text = String::new();
    for part in parts {
        let part: Value = serde_json::from_str(part).ok()?;
        text.push_str(part.get("text")?.as_str()?);
    }
    serde_json::from_str(&text).ok()
}

fn milliseconds(seconds: u64) -> i64 {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000)
}

const HASH: usize = 32;
const POLICY_APPLIED: &str = "\"kind\":\"policy.applied\"";

fn contains(line: &[u8], wanted: &str) -> bool {
    memmem::find(line, wanted.as_bytes()).is_some()
}

/// When an entry's event happened. Its members are in the order of their names, and `at` is the first or stands behind what begins
/// with a lesser letter.
fn moment_of(line: &[u8]) -> Option<i64> {
    const MEMBER: &[u8] = b"\"at\":\"";
    const MOMENT: usize = 24;
    // Cheap where it is the first, as of nearly all; read as JSON otherwise.
    let first = line
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_prefix(MEMBER));
    match first.and_then(|rest| rest.get(..MOMENT)) {
        Some(text) => moment::from_text(std::str::from_utf8(text).ok()?),
        None => Some(Event::parse(std::str::from_utf8(line).ok()?).ok()?.at_ms),
    }
}

fn path_in(place: &str, file: &str) -> String {
    match place {
        "" => file.to_owned(),
        place => format!("{place}/{file}"),
    }
}

fn read(source: &mut dyn Source, path: &str, most: usize) -> Result<Option<Vec<u8>>, InspectError> {
    source
        .read(path, most)
        .map_err(|problem| InspectError::Read {
            path: path.to_owned(),
            problem,
        })
}

fn read_tile(
    source: &mut dyn Source,
    place: &str,
    tile: Tile,
) -> Result<Option<Vec<u8>>, InspectError> {
    read(
        source,
        &path_in(place, &tile.path()),
        limit(LogFile::Tile(tile)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_in_parts_that_cannot_be_read_is_not_one_that_is_gone() {
        let change = r#"{"document":{"parts":2}}"#;
        let parts = |all: [&str; 2]| all.map(str::to_owned);
        let whole = parts([r#"{"text":"{\"a\":"}"#, r#"{"text":"1}"}"#]);
        assert_eq!(put_together(change, &whole), Some(json!({"a": 1})));
        for broken in [
            [r#"{"text":"{\"a\":"}"#, r#"{"text":"1"}"#],
            [r#"{"text":"{\"a\":"}"#, r#"{"other":"1}"}"#],
            [r#"{"text":"{\"a\":"}"#, r#"{"text":1}"#],
            [r#"{"text":"{\"a\":1}"}"#, "no entry"],
        ] {
            assert_eq!(put_together(change, &parts(broken)), None, "{broken:?}");
        }
        assert_eq!(put_together("{}", &[]), Some(Value::Null));
    }
}

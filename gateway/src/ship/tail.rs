//! Reading logs as they grow, from where a sink has them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{Checkpoint, Hash, Level, Note, Tile, decode_tile, entries};
use portcullis_audit::{Event, kinds};

use super::cursor::Cursor;
use super::limits::{
    SHIP_BATCH, SHIP_BATCH_BYTES, SHIP_GAP_BUNDLES, SHIP_GAP_LOOKS, SHIP_LOOK, SHIP_LOOKS_AFTER,
    SHIP_LOOKS_AT_ALL,
};
use crate::ledger::inspect::{Directory, Source as _};
use crate::ledger::tiles::{LogFile, LogId, limit};
use crate::runtime::clock::{self, Instant};

/// One entry of a log, or a gap where entries should be.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its log: `fleet` or `tenants/TENANT`.
    pub log: String,
    /// What its log is called everywhere: `portcullis/FLEET` or `portcullis/FLEET/tenants/TENANT`.
    pub origin: String,
    /// Its index; of a gap, the first that is missing.
    pub first: u64,
    /// Its index; of a gap, the last that is missing.
    pub last: u64,
    /// The entry as it stands in the log; a gap is told in the same form.
    pub line: String,
    /// What it says.
    pub event: Event,
    gap: bool,
}

impl Item {
    /// Whether it tells of entries that could not be read.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.gap
    }

    /// What receivers know a repetition by: `ORIGIN:INDEX`, for a gap `ORIGIN:FIRST-LAST`.
    #[must_use]
    pub fn uid(&self) -> String {
        let Self {
            origin,
            first,
            last,
            ..
        } = self;
        match self.gap {
            true => format!("{origin}:{first}-{last}"),
            false => format!("{origin}:{first}"),
        }
    }

    /// Of an entry; nothing if it is no event.
    pub(super) fn entry(log: &str, origin: &str, index: u64, line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        Some(Self {
            log: log.to_owned(),
            origin: origin.to_owned(),
            first: index,
            last: index,
            event: Event::parse(line).ok()?,
            line: line.to_owned(),
            gap: false,
        })
    }

    /// Of what could not be read.
    pub(super) fn gap(
        log: &str,
        origin: &str,
        (first, last): (u64, u64),
        at_ms: i64,
        who: Who<'_>,
    ) -> Self {
        let mut event = Event::new(at_ms, kinds::SHIP_GAP, who.node)
            .with("log", log)
            .with("sink", who.sink)
            .with("first", first)
            .with("last", last);
        if let Ok(LogId::Tenant(tenant)) = log.parse() {
            event.tenant = Some(tenant.to_string());
        }
        Self {
            log: log.to_owned(),
            origin: origin.to_owned(),
            first,
            last,
            line: event.line(),
            event,
            gap: true,
        }
    }
}

/// Who could not read, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    /// This node.
    pub(super) node: &'a str,
    /// The sink.
    pub(super) sink: &'a str,
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In order within each log.
    pub(super) items: Vec<Item>,
    /// Entries that the sink lacks, these among them.
    pub(super) lag: u64,
    /// Why there is not more.
    pub(super) problem: Option<String>,
}

/// The logs of a node, as one sink follows them.
#[derive(Debug)]
pub(super) struct Tail {
    source: Directory,
    cursor: Cursor,
    node: String,
    sink: String,
    /// Of each log, the index that cannot be read, and how many looks found so.
    unreadable: BTreeMap<String, (u64, u32)>,
    /// How far logs were, when that was looked at, and why not of all.
    heads: Vec<Head>,
    looked: Option<Instant>,
    problem: Option<String>,
    /// How long the fleet's log has been, and for how many looks nothing was to be sent.
    quiet: (u64, u32),
}

/// How far a log is.
#[derive(Debug)]
struct Head {
    log: String,
    origin: String,
    size: u64,
}

impl Tail {
    pub(super) fn open(logs: PathBuf, cursors: &Path, sink: &str, node: &str) -> Self {
        Self {
            source: Directory(logs),
            cursor: Cursor::open(cursors, sink),
            node: node.to_owned(),
            sink: sink.to_owned(),
            unreadable: BTreeMap::new(),
            heads: Vec::new(),
            looked: None,
            problem: None,
            quiet: (0, 0),
        }
    }

    /// For a sink that keeps its own cursor; it says so by [`Tail::stand`].
    pub(super) fn of_sink(logs: PathBuf, sink: &str, node: &str) -> Self {
        Self {
            source: Directory(logs),
            cursor: Cursor::of_sink(BTreeMap::new()),
            node: node.to_owned(),
            sink: sink.to_owned(),
            unreadable: BTreeMap::new(),
            heads: Vec::new(),
            looked: None,
            problem: None,
            quiet: (0, 0),
        }
    }

    /// The sink says how far it has each log.
    pub(super) fn stand(&mut self, next: BTreeMap<String, u64>) {
        if !self.cursor.is(&next) {
            self.cursor = Cursor::of_sink(next);
            self.quiet.1 = 0;
        }
    }

    /// Nothing more is read of this log until [`Tail::stand`] says where.
    pub(super) fn skip(&mut self, log: &str) {
        self.cursor.set(log, u64::MAX, u64::MAX);
    }

    /// A sink that keeps its own cursor has these.
    pub(super) fn passed(&mut self, items: &[Item]) {
        for item in items {
            let next = item.last.saturating_add(1);
            self.cursor.set(&item.log, item.first, next);
        }
    }

    /// The same, for a sink that does not say what it has: the latest so many of those that it was given are taken to be on their way.
    pub(super) fn unconfirmed(mut self, most: usize) -> Self {
        self.cursor.trail(most);
        self
    }

    /// Another node ships: what could not be read is looked at afresh once it is this one's turn again.
    pub(super) fn forget(&mut self) {
        self.unreadable.clear();
    }

    /// What was on its way may not have arrived: it is sent again.
    pub(super) fn again(&mut self) {
        self.cursor.again();
        self.quiet.1 = 0;
    }

    /// What was on its way has arrived.
    ///
    /// # Errors
    /// Those of [`Tail::advance`].
    pub(super) fn settled(&mut self) -> io::Result<()> {
        self.cursor.settled();
        self.cursor.save()
    }

    /// Reads what the sink lacks, a batch of it. Waits for the disk.
    pub(super) fn next(&mut self) -> Batch {
        let now = clock::instant();
        // Thousands of logs are not looked at for each batch.
        let soon = |looked: Instant| now.duration_since(looked) < SHIP_LOOK;
        if !self.looked.is_some_and(soon) {
            self.look();
            self.looked = Some(now);
        }
        let mut batch = Batch {
            problem: self.problem.clone(),
            ..Batch::default()
        };
        let mut bytes = 0;
        let heads = std::mem::take(&mut self.heads);
        for Head { log, origin, size } in &heads {
            let mut next = self.cursor.next(log);
            batch.lag = batch.lag.saturating_add(size.saturating_sub(next));
            while next < *size && batch.items.len() < SHIP_BATCH && bytes < SHIP_BATCH_BYTES {
                let Some(read) = self.read((log, origin), next, *size) else {
                    // Files of a log that is being filled from another node come later.
                    break;
                };
                for item in read {
                    if batch.items.len() >= SHIP_BATCH || bytes >= SHIP_BATCH_BYTES {
                        break;
                    }
                    bytes = bytes.saturating_add(item.line.len());
                    next = item.last.saturating_add(1);
                    batch.items.push(item);
                }
            }
        }
        self.heads = heads;
        if batch.lag > 0 || batch.problem.is_some() {
            self.quiet.1 = 0;
        }
        batch
    }

    /// Looks how far the logs are that may have grown. Where a tenant's did, the fleet's does, so that tenants' are left alone for most of
    /// the time while that one has not.
    fn look(&mut self) {
        (self.heads, self.problem) = (Vec::new(), None);
        let fleet = LogId::Fleet.to_string();
        self.look_at(fleet);
        let size = self.heads.first().map_or(0, |fleet| fleet.size);
        let looks = match self.quiet {
            (before, looks) if before == size => looks.saturating_add(1),
            _ => 0,
        };
        self.quiet = (size, looks);
        if looks > SHIP_LOOKS_AFTER && !looks.is_multiple_of(SHIP_LOOKS_AT_ALL) {
            return;
        }
        match self.source.tenants() {
            Ok(mut tenants) => {
                tenants.sort();
                let names = tenants.iter().map(|tenant| format!("tenants/{tenant}"));
                // Nobody signed anything of another name.
                for log in names.filter(|name| name.parse::<LogId>().is_ok()) {
                    self.look_at(log);
                }
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn look_at(&mut self, log: String) {
        match self.head(log) {
            Ok(head) => self.heads.push(head),
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// The sink has these, as far as it says.
    ///
    /// # Errors
    /// The cursor could not be made durable. It has moved nonetheless: only a restart repeats them.
    pub(super) fn advance(&mut self, items: &[Item]) -> io::Result<()> {
        for item in items {
            self.cursor
                .set(&item.log, item.first, item.last.saturating_add(1));
        }
        self.cursor.save()
    }

    /// How far the published checkpoint of a log is; nowhere without one.
    fn head(&mut self, log: String) -> Result<Head, String> {
        let read = self.file(&log, LogFile::Checkpoint);
        let read = read.map_err(|problem| format!("the checkpoint of {log}: {problem}"))?;
        let Some(bytes) = read else {
            return Ok(Head {
                log,
                origin: String::new(),
                size: 0,
            });
        };
        let note = Note::parse(&bytes).map_err(|error| format!("{log}: {error}"))?;
        let checkpoint = Checkpoint::parse(&note.text);
        let checkpoint = checkpoint.map_err(|error| format!("{log}: {error}"))?;
        Ok(Head {
            log,
            origin: checkpoint.origin,
            size: checkpoint.size,
        })
    }

    /// What the bundle has in which the entry `next` lies, from there on; nothing if it may be readable later.
    fn read(&mut self, log: (&str, &str), next: u64, size: u64) -> Option<Vec<Item>> {
        let (name, origin) = log;
        let index = next / WIDTH;
        let skip = usize::try_from(next % WIDTH).ok()?;
        let width =
            usize::try_from(size.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH)).ok()?;
        let found = self.bundle(name, index, size).unwrap_or_default();
        let mut items = Vec::new();
        let mut missing: Option<(u64, u64)> = None;
        for (at, place) in (next..).zip(skip..width) {
            let line = found.get(place).and_then(Option::as_deref);
            match line.and_then(|line| Item::entry(name, origin, at, line)) {
                Some(item) => {
                    if let Some(gap) = missing.take() {
                        items.push(self.gap(log, gap));
                    }
                    items.push(item);
                }
                None if items.is_empty() || missing.is_some() => {
                    missing = Some((missing.map_or(at, |(first, _)| first), at));
                }
                // What comes before goes first; this is looked at again.
                None => break,
            }
        }
        let given_up = (missing.is_none() && !items.first().is_some_and(Item::is_gap))
            || self.given_up(name, next);
        if !given_up {
            return None;
        }
        if let Some((first, last)) = missing {
            let last = self.missing_until(name, last, size);
            items.push(self.gap(log, (first, last)));
        }
        if !items.first().is_some_and(Item::is_gap) {
            self.unreadable.remove(name);
        }
        Some(items)
    }

    /// Whether enough looks found the same entry unreadable; this is one.
    fn given_up(&mut self, log: &str, next: u64) -> bool {
        let (at, looks) = self.unreadable.entry(log.to_owned()).or_default();
        if *at != next {
            (*at, *looks) = (next, 0);
        }
        *looks = looks.saturating_add(1);
        *looks >= SHIP_GAP_LOOKS
    }

    /// The last of the entries that are missing after this one, as far as whole bundles are: what is kept no more is told as one gap.
    fn missing_until(&mut self, log: &str, mut last: u64, size: u64) -> u64 {
        for _ in 0..SHIP_GAP_BUNDLES {
            let next = last.saturating_add(1);
            if next >= size || !next.is_multiple_of(WIDTH) {
                break;
            }
            let found = self.bundle(log, next / WIDTH, size).unwrap_or_default();
            if found.iter().any(Option::is_some) {
                break;
            }
            last = next.saturating_add(WIDTH).min(size).saturating_sub(1);
        }
        last
    }

    fn gap(&self, (log, origin): (&str, &str), range: (u64, u64)) -> Item {
        let who = Who {
            node: &self.node,
            sink: &self.sink,
        };
        Item::gap(log, origin, range, clock::now().as_millis(), who)
    }

    /// The entries of a bundle, as far as they are there and are what the tree's hashes say.
    fn bundle(&mut self, log: &str, index: u64, size: u64) -> Option<Vec<Option<Vec<u8>>>> {
        let (width, bundle) = self.tile(log, Tile::at(Level::Entries, index, size)?)?;
        let (hashes_width, hashes) = self.tile(log, Tile::at(Level::Hashes(0), index, size)?)?;
        let hashes = decode_tile(&hashes, hashes_width)?;
        // Of one that is torn, what comes before the tear.
        let lines = match entries(&bundle, width) {
            Ok(lines) => lines,
            Err(_) => whole_entries(&bundle, width),
        };
        let checked = lines.into_iter().zip(hashes).map(|(line, hash)| {
            let same = Hash::of_leaf(line) == hash;
            same.then(|| line.to_vec())
        });
        Some(checked.collect())
    }

    /// A tile, or the wider one that came after it, and its width.
    fn tile(&mut self, log: &str, tile: Tile) -> Option<(u16, Vec<u8>)> {
        for tile in [tile, tile.full()] {
            if let Ok(Some(bytes)) = self.file(log, LogFile::Tile(tile)) {
                return Some((tile.width, bytes));
            }
        }
        // The log went on since its head was read: what was partial then is a part of more.
        let size = self.head(log.to_owned()).ok()?.size;
        let wider = Tile::at(tile.level, tile.index, size);
        let wider = wider.filter(|wider| wider.width > tile.width)?;
        let bytes = self.file(log, LogFile::Tile(wider)).ok().flatten()?;
        Some((wider.width, bytes))
    }

    fn file(&mut self, log: &str, file: LogFile) -> Result<Option<Vec<u8>>, String> {
        self.source.read(&format!("{log}/{file}"), limit(file))
    }
}

/// Entries of a bundle.
const WIDTH: u64 = 256;

fn whole_entries(bundle: &[u8], width: u16) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = bundle;
    while found.len() < usize::from(width) {
        let entry = rest.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, after)) = entry else { break };
        found.push(entry);
        rest = after;
    }
    found
}

#[cfg(test)]
pub(super) mod tests;

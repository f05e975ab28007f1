//! A node's own events on their way into the fleet's audit logs: each once, whatever crashes.
//!
//! The ledger's files are where they wait. One record at a time is made of what is durable there
//! (`step`), written to `recording` with the place where the next begins (`outbox`), and only then
//! given to the fleet, again and again until it is known to be in the logs, which take it once. What
//! comes with every connection is not in the record itself: its lines go to a file (`batches`), and
//! the record holds the root of their tree. What cannot be recorded is counted and told
//! (`log.gap`).
//!
//! Deliberately absent: how a record gets to the fleet.

mod batches;
mod outbox;
mod step;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_audit::Event;

use self::batches::Batches;
pub use self::batches::{NotTheBatch, check_batch, prove_in_batch};
use self::outbox::Outgoing;
use self::step::{Gaps, Own, Room, Step};
use super::Ledger;
use super::limits::{RECORD_WINDOW, RecordLimits};
use super::tail::{Place, Tail};

/// A record to be given to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts this node's records.
    pub sequence: u64,
    /// The lines of its events.
    pub events: Vec<Vec<u8>>,
}

/// What a node records, and how far it is.
#[derive(Debug)]
pub struct Recording {
    ledger: Arc<Ledger>,
    own: Own,
    limits: RecordLimits,
    path: PathBuf,
    batches: Batches,
    /// Not known to be in the logs.
    outgoing: Option<Outgoing>,
    /// The last record that is known to be in the logs, as far as this node knows; 0: none.
    sequence: u64,
    /// Where the next record begins.
    place: Place,
    /// What the next record has to tell besides.
    gaps: Gaps,
}

/// The file of the record that is on its way, and the folder of the batches.
const OUTBOX: &str = "recording";
const BATCHES: &str = "batches";

impl Recording {
    /// Opens what lies in the ledger's `directory`. `own` says of which kinds all nodes make the
    /// leaves by themselves: they are not recorded.
    ///
    /// # Errors
    /// Those of reading and writing there.
    pub fn open(ledger: Arc<Ledger>, directory: &Path, own: fn(&str) -> bool) -> io::Result<Self> {
        Self::open_within(ledger, directory, own, RecordLimits::ORDINARY)
    }

    /// `open` with other limits.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open_within(
        ledger: Arc<Ledger>,
        directory: &Path,
        own: fn(&str) -> bool,
        limits: RecordLimits,
    ) -> io::Result<Self> {
        let path = directory.join(OUTBOX);
        let bytes = outbox::read(&path)?;
        let outgoing = bytes.as_deref().map(Outgoing::from_bytes);
        let (oldest, end) = ledger.span()?;
        let mut gaps = Gaps::default();
        let place = match &outgoing {
            Some(Some(outgoing)) => outgoing.next,
            // Where it had come to is lost: nothing is recorded twice.
            Some(None) => {
                tracing::error!(file = %path.display(), "what this node was recording cannot be read; it records what happens from now on");
                gaps.note("outbox");
                end
            }
            None => oldest,
        };
        let outgoing = outgoing.flatten();
        let last = outgoing.as_ref().map_or(0, |it| it.batch);
        Ok(Self {
            batches: Batches::open(&directory.join(BATCHES), limits, last)?,
            ledger,
            own,
            limits,
            path,
            sequence: outgoing
                .as_ref()
                .map_or(0, |it| it.sequence.saturating_sub(1)),
            outgoing,
            place,
            gaps,
        })
    }

    /// The record that is to be given to the fleet, durable here; none while there is nothing new.
    /// The same again until one of the other functions says what became of it. Reads and writes
    /// files: call it where waiting is allowed.
    ///
    /// # Errors
    /// Those of reading and writing; the same is tried again by the next call.
    pub fn next(&mut self, at_ms: i64) -> io::Result<Option<Record>> {
        if self.outgoing.is_none() {
            self.outgoing = self.make(at_ms)?;
        }
        Ok(self.outgoing.as_ref().map(|outgoing| Record {
            sequence: outgoing.sequence,
            events: outgoing.events.clone(),
        }))
    }

    /// The record is in the logs.
    pub fn done(&mut self) {
        if let Some(outgoing) = self.outgoing.take() {
            self.sequence = outgoing.sequence;
        }
    }

    /// The fleet has records of this node up to `through`, which is more than this one knows of:
    /// its files were older than they should be. Nothing is recorded twice: it goes on with what
    /// happens from now on.
    ///
    /// # Errors
    /// Those of reading.
    pub fn overtaken(&mut self, through: u64) -> io::Result<()> {
        self.outgoing = None;
        self.sequence = through;
        self.place = self.ledger.span()?.1;
        self.gaps.note("older_files");
        Ok(())
    }

    /// The fleet has records of this node up to `through` only, and lost later ones: what it was to
    /// be given comes after that.
    ///
    /// # Errors
    /// Those of writing.
    pub fn renumber(&mut self, through: u64) -> io::Result<()> {
        let Some(outgoing) = &self.outgoing else {
            return Ok(());
        };
        let renumbered = Outgoing {
            sequence: through.saturating_add(1),
            ..outgoing.clone()
        };
        outbox::replace(&self.path, &renumbered.to_bytes()?)?;
        self.sequence = through;
        self.outgoing = Some(renumbered);
        // A node that records for the first time with files of another fleet lost nothing there.
        if through > 0 {
            self.gaps.note("records_lost");
        }
        Ok(())
    }

    /// The fleet will never take the record: its events are counted instead.
    ///
    /// # Errors
    /// Those of writing.
    pub fn refused(&mut self, at_ms: i64) -> io::Result<()> {
        let Some(outgoing) = &self.outgoing else {
            return Ok(());
        };
        let mut gaps = Gaps::default();
        for line in &outgoing.events {
            let event = std::str::from_utf8(line).ok().map(Event::parse);
            let kind = event.and_then(Result::ok).map(|event| event.kind);
            gaps.count("refused", kind.as_deref().unwrap_or_default());
        }
        let events = gaps.events(self.ledger.node(), at_ms);
        let instead = Outgoing {
            events: events.iter().map(|it| it.line().into_bytes()).collect(),
            ..outgoing.clone()
        };
        outbox::replace(&self.path, &instead.to_bytes()?)?;
        self.outgoing = Some(instead);
        Ok(())
    }

    fn make(&mut self, at_ms: i64) -> io::Result<Option<Outgoing>> {
        let ledger = Arc::clone(&self.ledger);
        let mut step = Step::new(ledger.node(), self.own, self.limits);
        // Kept until they are on disk: what fails here begins anew.
        step.gaps = self.gaps.clone();
        let mut place = self.catch_up(&mut step.gaps)?;
        match ledger.tail(place, RECORD_WINDOW)? {
            Tail::Gone => {
                let (oldest, end) = ledger.span()?;
                step.gaps.note("ledger_changed");
                place = if place < oldest { oldest } else { end };
            }
            Tail::Lines(lines, next) => {
                // The tail may have begun in the next file.
                let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
                place = Place {
                    offset: next.offset.saturating_sub(length),
                    ..next
                };
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    let text = line.strip_suffix(b"\n").unwrap_or(line);
                    if step.take(text) == Room::Full {
                        break;
                    }
                    let taken = u64::try_from(line.len()).unwrap_or(u64::MAX);
                    place.offset = place.offset.saturating_add(taken);
                }
            }
        }
        if step.is_empty() {
            self.place = place;
            return Ok(None);
        }
        let mut events = step.gaps.events(ledger.node(), at_ms);
        if !step.batches.is_empty() {
            let anchors = self.batches.write(ledger.node(), at_ms, &step.batches)?;
            events.extend(anchors);
        }
        let lines = events.iter().map(|event| event.line().into_bytes());
        let outgoing = Outgoing {
            sequence: self.sequence.saturating_add(1),
            next: place,
            batch: self.batches.last(),
            events: lines.chain(step.singles).collect(),
        };
        outbox::replace(&self.path, &outgoing.to_bytes()?)?;
        self.place = place;
        self.gaps = Gaps::default();
        Ok(Some(outgoing))
    }

    /// Counts what waits for too long already; where the rest begins.
    fn catch_up(&self, gaps: &mut Gaps) -> io::Result<Place> {
        let mut place = self.place;
        while self.ledger.behind(place)? > self.limits.behind_bytes {
            match self.ledger.tail(place, RECORD_WINDOW)? {
                // The last file is waited for, whatever its size.
                Tail::Lines(lines, next) if !lines.is_empty() => {
                    for line in lines
                        .split(|byte| *byte == b'\n')
                        .filter(|it| !it.is_empty())
                    {
                        let event = std::str::from_utf8(line).ok().map(Event::parse);
                        let kind = event.and_then(Result::ok).map(|event| event.kind);
                        let kind = kind.as_deref().unwrap_or_default();
                        if !(self.own)(kind) {
                            gaps.count("behind", kind);
                        }
                    }
                    place = next;
                }
                Tail::Lines(..) | Tail::Gone => break,
            }
        }
        Ok(place)
    }
}

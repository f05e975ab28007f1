//! One log after the other is brought up to date in the store; what the store says of itself is believed only as far as this node's own
//! tiles say the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use portcullis_audit::kinds;
use portcullis_audit::tlog::{Checkpoint, NotBelieved, Note, TILE_WIDTH, Tile, TrustPolicy};

use super::lacking::no_tag;
use super::own::{self, Shown};
use super::rereading::Rereading;
use super::store::{Failed, Got, Put, Store};
use crate::fleet::Fleet;
use crate::fleet::keeping::{Keeping, id_of};
use crate::ledger::tiles::{LogFile, LogId, Logs};
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::{
    OBJECTS_AHEAD, OBJECTS_AT_ONCE, OBJECTS_FAILURES, OBJECTS_PAUSE, OBJECTS_STEP,
};

/// What a leader found out about the store. Nothing of it is kept: whoever leads next asks the store.
pub(super) struct Copying<'a> {
    fleet: &'a Fleet,
    pub(super) store: &'a Store,
    keeping: &'a Keeping,
    pub(super) logs: Arc<Logs>,
    of: BTreeMap<LogId, Of>,
    rereading: Rereading,
    reread_at: Instant,
    /// With which log the next round begins.
    turn: usize,
}

/// What is known of one log in the store.
#[derive(Default)]
struct Of {
    has: Option<Has>,
    /// The size that the store had when it was last asked or written; nothing before that.
    seen: Option<u64>,
    /// All full tiles up to this size are there.
    copied: u64,
    wrong: Option<Wrong>,
    /// Since when it has more than this node,
    ahead: Option<Instant>,
    /// and since when less.
    behind: Option<Instant>,
}

/// The store's checkpoint, which is one of this node's own tree.
struct Has {
    size: u64,
    signers: usize,
    /// Whether the fleet's trust believes it; one of older voters it may not.
    believed: bool,
    tag: Option<String>,
}

struct Wrong {
    file: LogFile,
    /// When it is looked at again.
    again: Instant,
}

/// Why a log is not up to date in the store.
#[derive(Debug)]
pub(super) enum Problem {
    /// The store has something else under this name.
    Contradicted(LogFile, String),
    /// The store, or this node's disk, does not do what it should.
    Failed(Failed),
    /// Not now; the next round may.
    Wait,
}

/// How a round ended.
pub(super) struct Round {
    /// Entries that the store lacks.
    pub(super) lag: u64,
    /// For how long the log that waits longest has waited.
    pub(super) age: Duration,
    /// Logs of which the store has another history.
    pub(super) contradicted: usize,
    pub(super) failed: Option<Failed>,
}

impl<'a> Copying<'a> {
    pub(super) fn new(fleet: &'a Fleet, store: &'a Store, keeping: &'a Keeping) -> Self {
        Self {
            fleet,
            store,
            keeping,
            logs: Arc::clone(keeping.logs()),
            of: BTreeMap::new(),
            rereading: Rereading::default(),
            reread_at: clock::instant(),
            turn: 0,
        }
    }

    /// One round over all logs.
    pub(super) async fn round(&mut self) -> Round {
        let Some(trust) = self.fleet.audit_trust() else {
            return self.told(None);
        };
        // The fleet's checkpoint is read first and written last: whoever reads it in the store finds every log at least as long as it says.
        let fleets = own::shown(&self.logs, &LogId::Fleet).await;
        let mut logs = self.logs.logs();
        logs.retain(|log| *log != LogId::Fleet);
        if !logs.is_empty() {
            // One that fails again and again does not hold up the same others each time.
            self.turn = (self.turn + 1) % logs.len();
            logs.rotate_left(self.turn);
        }
        let (mut failures, mut first, mut whole) = (0, None, true);
        for log in logs {
            if failures >= OBJECTS_FAILURES {
                whole = false;
                break;
            }
            let shown = own::shown(&self.logs, &log).await;
            if let Err(failed) = self.one(&log, shown, &trust, &mut whole).await {
                failures += 1;
                first.get_or_insert(failed);
            }
        }
        if whole
            && failures == 0
            && let Err(failed) = self.one(&LogId::Fleet, fleets, &trust, &mut whole).await
        {
            first.get_or_insert(failed);
        }
        if first.is_none() {
            first = self.reread().await.err();
        }
        self.told(first)
    }

    /// Says how things stand.
    fn told(&mut self, failed: Option<Failed>) -> Round {
        let now = clock::instant();
        let mut round = Round {
            lag: 0,
            age: Duration::ZERO,
            contradicted: 0,
            failed,
        };
        for (log, of) in &mut self.of {
            let size = self.logs.tree(log).map_or(0, |tree| tree.size());
            round.lag += size.saturating_sub(of.seen.unwrap_or(0));
            round.contradicted += usize::from(of.wrong.is_some());
            if let Some(behind) = of.behind {
                round.age = round.age.max(now.saturating_duration_since(behind));
            }
        }
        round
    }

    async fn one(
        &mut self,
        log: &LogId,
        shown: Result<Option<Shown>, String>,
        trust: &TrustPolicy,
        whole: &mut bool,
    ) -> Result<(), Failed> {
        let mut of = self.of.remove(log).unwrap_or_default();
        let brought = match shown {
            Ok(None) => Ok(()),
            Ok(Some(shown)) => self.bring(log, &mut of, &shown, trust).await,
            Err(says) => Err(disk(says)),
        };
        let outcome = match brought {
            Ok(()) => {
                of.behind = None;
                Ok(())
            }
            Err(Problem::Contradicted(file, says)) => {
                self.contradicted(log, &mut of, file, &says);
                Ok(())
            }
            Err(Problem::Wait) => {
                *whole = *whole && of.wrong.is_some();
                Ok(())
            }
            Err(Problem::Failed(mut failed)) => {
                failed.says = format!("{log}: {}", failed.says);
                Err(failed)
            }
        };
        self.of.insert(log.clone(), of);
        outcome
    }

    /// Brings one log up to date.
    async fn bring(
        &self,
        log: &LogId,
        of: &mut Of,
        shown: &Shown,
        trust: &TrustPolicy,
    ) -> Result<(), Problem> {
        if of
            .has
            .as_ref()
            .is_none_or(|has| has.size < shown.checkpoint.size)
        {
            of.behind.get_or_insert_with(clock::instant);
        }
        if let Some(wrong) = &of.wrong {
            if clock::instant() < wrong.again {
                return Err(Problem::Wait);
            }
            // It may have been mended, and nothing is promised over it until then.
            if let LogFile::Tile(tile) = wrong.file {
                self.compare(log, tile).await?;
            }
            of.has = None;
        }
        if of.has.is_none() {
            self.ask(log, of, shown, trust).await?;
        }
        if of.wrong.take().is_some() {
            tracing::info!(%log, "the object store has the audit log as this node has it again");
        }
        let (from, tag) = match &of.has {
            Some(has) if has.size == shown.checkpoint.size => {
                if has.believed && has.signers >= shown.signers {
                    return Ok(());
                }
                (has.size, Some(has.tag.clone()))
            }
            Some(has) => (has.size, Some(has.tag.clone())),
            None => (0, None),
        };
        self.copy(log, of, from, shown.checkpoint.size).await?;
        let bytes = shown.bytes.clone();
        let put = match tag {
            None => self.store.create(log, LogFile::Checkpoint, bytes).await,
            Some(Some(tag)) => {
                let put = self.store.replace(log, LogFile::Checkpoint, bytes, tag);
                put.await
            }
            Some(None) => Err(no_tag()),
        };
        // Whatever comes of it, the one that was known is not there any more.
        of.has = None;
        match put.map_err(Problem::Failed)? {
            // Another node wrote there: it is asked for what.
            Put::Exists => Err(Problem::Wait),
            Put::Made(tag) => {
                of.seen = Some(shown.checkpoint.size);
                of.has = tag.map(|tag| Has {
                    size: shown.checkpoint.size,
                    signers: shown.signers,
                    believed: true,
                    tag: Some(tag),
                });
                Ok(())
            }
        }
    }

    /// The files between two sizes: first what is final, then what is partial. A long way takes several rounds.
    async fn copy(&self, log: &LogId, of: &mut Of, from: u64, to: u64) -> Result<(), Problem> {
        of.copied = of.copied.max(from);
        let step = u64::from(TILE_WIDTH).saturating_mul(OBJECTS_STEP);
        let until = of.copied.saturating_add(step);
        let until = until.saturating_sub(until % step).min(to);
        let full = Tile::added(of.copied.min(until), until).into_iter();
        let full = full.filter(|tile| !tile.is_partial());
        self.put_all(log, full).await?;
        of.copied = of.copied.max(until);
        if until < to {
            return Err(Problem::Wait);
        }
        let partial = Tile::added(from, to).into_iter().filter(Tile::is_partial);
        self.put_all(log, partial).await
    }

    async fn put_all(&self, log: &LogId, tiles: impl Iterator<Item = Tile>) -> Result<(), Problem> {
        let puts = tiles.map(|tile| self.put(log, tile));
        let mut puts = stream::iter(puts).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some(put) = puts.next().await {
            put?;
        }
        Ok(())
    }

    /// What the store says that it has of a log, held against what this node has.
    async fn ask(
        &self,
        log: &LogId,
        of: &mut Of,
        shown: &Shown,
        trust: &TrustPolicy,
    ) -> Result<(), Problem> {
        let got = self.store.get(log, LogFile::Checkpoint).await;
        let has = match got.map_err(Problem::Failed)? {
            None => None,
            Some(got) => Some(self.judge(log, of, got, shown, trust).await?),
        };
        let size = has.as_ref().map_or(0, |has| has.size);
        if let Some(seen) = of.seen
            && size < seen
        {
            self.went_back(log, seen, size);
            of.copied = size;
        }
        (of.seen, of.has, of.ahead) = (Some(size), has, None);
        Ok(())
    }

    async fn judge(
        &self,
        log: &LogId,
        of: &mut Of,
        got: Got,
        shown: &Shown,
        trust: &TrustPolicy,
    ) -> Result<Has, Problem> {
        let wrong = |says: String| Problem::Contradicted(LogFile::Checkpoint, says);
        let ours = &shown.checkpoint;
        let (note, theirs, believed) = read(&got.bytes, &ours.origin, trust).map_err(wrong)?;
        let root = own::root_at(&self.logs, log, theirs.size).await;
        match root.map_err(disk)? {
            Some(root) if root != theirs.root => Err(wrong(format!(
                "the log signed another tree of its first {} entries, with the root {}",
                theirs.size, theirs.root
            ))),
            Some(_) if theirs.size <= ours.size => Ok(Has {
                size: theirs.size,
                signers: note.signatures.len(),
                believed,
                tag: got.tag,
            }),
            // This node's next checkpoint will be at least that.
            Some(_) => Err(Problem::Wait),
            None => {
                let partial = self.keeping.partial();
                if partial.iter().any(|partial| id_of(partial) == *log) {
                    return Err(Problem::Wait);
                }
                let since = *of.ahead.get_or_insert_with(clock::instant);
                if clock::instant().saturating_duration_since(since) < OBJECTS_AHEAD {
                    return Err(Problem::Wait);
                }
                let size = self.logs.tree(log).map_or(0, |tree| tree.size());
                Err(wrong(format!(
                    "it has {} entries, signed by the log, and the fleet has {size}: the fleet went back",
                    theirs.size
                )))
            }
        }
    }

    async fn put(&self, log: &LogId, tile: Tile) -> Result<(), Problem> {
        // A partial file that is gone although nothing followed it: the log is being written anew.
        let bytes = own::tile(&self.logs, log, tile).await.map_err(disk)?;
        let Some(bytes) = bytes else {
            return match self.may_lack(log, tile) {
                Some(kept) => self.say_kept(log, kept).await,
                None => Err(Problem::Wait),
            };
        };
        let file = LogFile::Tile(tile);
        let put = self.store.create(log, file, bytes).await;
        match put.map_err(Problem::Failed)? {
            Put::Made(_) => {
                metrics::counter!("portcullis_audit_objects_put_total").increment(1);
                Ok(())
            }
            // From a round that was broken off, or of a leader before.
            Put::Exists => self.compare(log, tile).await,
        }
    }

    /// Compares a file of the store with this node's. One that is missing is put there.
    async fn compare(&self, log: &LogId, tile: Tile) -> Result<(), Problem> {
        let file = LogFile::Tile(tile);
        let ours = own::tile(&self.logs, log, tile).await.map_err(disk)?;
        // Of what was let go of here the store may have a copy; there is nothing to hold it against.
        let ours = ours.ok_or(Problem::Wait)?;
        let theirs = self.store.get(log, file).await.map_err(Problem::Failed)?;
        match theirs {
            Some(theirs) if theirs.bytes == ours => Ok(()),
            Some(theirs) => Err(Problem::Contradicted(
                file,
                format!(
                    "its {} bytes are not the {} bytes that this node has",
                    theirs.bytes.len(),
                    ours.len()
                ),
            )),
            None => {
                tracing::warn!(%log, %file, "a file of an audit log is missing in the object store; it is put there again");
                let put = self.store.create(log, file, ours).await;
                match put.map_err(Problem::Failed)? {
                    Put::Made(_) => {
                        metrics::counter!("portcullis_audit_objects_restored_total").increment(1);
                        Ok(())
                    }
                    Put::Exists => Err(Problem::Wait),
                }
            }
        }
    }

    /// Compares the next few files of those that the store has, when it is time.
    async fn reread(&mut self) -> Result<(), Failed> {
        let now = clock::instant();
        if now < self.reread_at {
            return Ok(());
        }
        let sizes = self.of.iter().filter(|(_, of)| of.wrong.is_none());
        let sizes = sizes.filter_map(|(log, of)| Some((log.clone(), of.has.as_ref()?.size)));
        let sizes: BTreeMap<LogId, u64> = sizes.collect();
        let Some(next) = self.rereading.next(&sizes) else {
            return Ok(());
        };
        let mut of = self.of.remove(&next.log).unwrap_or_default();
        let mut outcome = Ok(());
        for tile in next.tiles {
            match self.compare(&next.log, tile).await {
                Ok(()) | Err(Problem::Wait) => {}
                Err(Problem::Contradicted(file, says)) => {
                    self.contradicted(&next.log, &mut of, file, &says);
                }
                Err(Problem::Failed(failed)) => outcome = Err(failed),
            }
        }
        // The next round asks for its checkpoint again: one that went back is found so.
        of.has = None;
        self.of.insert(next.log, of);
        if outcome.is_ok() {
            self.reread_at = now + self.store.reread();
        }
        outcome
    }

    /// Says that the store has something else than this node, once, and stops copying the log.
    fn contradicted(&self, log: &LogId, of: &mut Of, file: LogFile, says: &str) {
        let told = of.wrong.as_ref().is_some_and(|wrong| wrong.file == file);
        of.wrong = Some(Wrong {
            file,
            again: clock::instant() + OBJECTS_PAUSE,
        });
        of.has = None;
        if told {
            return;
        }
        metrics::counter!("portcullis_audit_objects_contradictions_total").increment(1);
        tracing::error!(%log, %file, says, "the object store contradicts an audit log: it was altered there or here; nothing is overwritten, and this log is not copied until they agree");
        self.fleet.record(kinds::OBJECTS_CONTRADICTED, |event| {
            event
                .with("log", log.to_string())
                .with("file", file.to_string())
                .with("says", says.to_owned())
        });
    }

    /// What the store had is not there any more. It is given it again, and that is not passed over.
    fn went_back(&self, log: &LogId, had: u64, has: u64) {
        metrics::counter!("portcullis_audit_objects_contradictions_total").increment(1);
        tracing::error!(%log, had, has, "the object store went back: it had more of an audit log; what it lost is copied again");
        self.fleet.record(kinds::OBJECTS_CONTRADICTED, |event| {
            let event = event.with("log", log.to_string());
            let event = event.with("file", LogFile::Checkpoint.to_string());
            event.with(
                "says",
                format!("it was rolled back: it had {had} entries and has {has}"),
            )
        });
    }
}

/// A checkpoint that the log of this name signed, and whether the fleet's trust believes it: one that too few of today's voters signed is
/// as good as its root.
fn read(
    bytes: &[u8],
    origin: &str,
    trust: &TrustPolicy,
) -> Result<(Note, Checkpoint, bool), String> {
    let note = Note::parse(bytes).map_err(|error| error.to_string())?;
    let trust = trust.for_log(origin);
    let trust = trust.ok_or("the fleet's trust does not name the log")?;
    let believed = match trust.check(&note) {
        Ok(_) => true,
        Err(NotBelieved::NoQuorum { .. }) => false,
        Err(error) => return Err(error.to_string()),
    };
    let checkpoint = Checkpoint::parse(&note.text).map_err(|error| error.to_string())?;
    Ok((note, checkpoint, believed))
}

fn disk(says: String) -> Problem {
    Problem::Failed(Failed { kind: "disk", says })
}

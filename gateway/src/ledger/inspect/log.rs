//! One log: its checkpoint, its tree, and what was said of it before.

use std::collections::BTreeMap;

use portcullis_audit::tlog::{
    Checkpoint, Finding, Level, MAX_NOTE_BYTES, NotBelieved, Note, TILE_HEIGHT, TILE_WIDTH, Tile,
    TrustPolicy, verify_from,
};

use super::heads::{By, Claim, Claims, Heads};
use super::report::{Kind, LogReport};
use super::source::Source;
use super::{Earlier, InspectError, get};
use crate::ledger::limits::{LOG_CHANGES, LOG_MISSING};
use crate::ledger::tiles::{CHECKPOINT, KEPT_FROM, KeptFrom, LogFile, WITNESSED, limit};

/// What is known of a log beforehand.
#[derive(Default)]
pub(super) struct Whose<'a> {
    /// The name that it must have; without one, any that the policy names.
    pub(super) origin: Option<String>,
    /// What the fleet's log says of it.
    pub(super) claims: Claims,
    /// Where to put the heads that it has itself.
    pub(super) collect: Option<&'a mut Heads>,
}

/// A log that was looked at.
pub(super) struct Inspected {
    pub(super) report: LogReport,
    /// The entries that cannot be relied upon: first and last.
    pub(super) damaged: Vec<(u64, u64)>,
    /// Its checkpoint as it is signed.
    pub(super) checkpoint: String,
    /// Its name, if the log itself signed the checkpoint.
    pub(super) origin: Option<String>,
    /// The fleet's heads that were compared with it.
    pub(super) compared: u64,
}

/// Checks the log that lies at `name`. If its checkpoint changes meanwhile and something is not there, it is checked again: partial tiles
/// go when they are superseded.
pub(super) fn inspect_log(
    source: &mut dyn Source,
    name: &str,
    mut whose: Whose<'_>,
    trust: &TrustPolicy,
    earlier: &[Earlier],
) -> Result<Inspected, InspectError> {
    let path = LogReport::new(name).path(CHECKPOINT);
    let mut bytes = get(source, &path)?;
    let given = whose.claims.clone();
    for _ in 0..LOG_CHANGES {
        whose.claims = given.clone();
        if let Some(heads) = whose.collect.as_deref_mut() {
            *heads = Heads::default();
        }
        let seen = once(source, name, bytes.as_deref(), &mut whose, trust, earlier)?;
        if seen.report.findings.is_empty() {
            return Ok(seen);
        }
        let now = get(source, &path)?;
        if now == bytes {
            return Ok(seen);
        }
        bytes = now;
    }
    Err(InspectError::Read {
        path,
        problem: "it changes faster than the log can be read; copy the log and check the copy"
            .to_owned(),
    })
}

fn once(
    source: &mut dyn Source,
    name: &str,
    bytes: Option<&[u8]>,
    whose: &mut Whose<'_>,
    trust: &TrustPolicy,
    earlier: &[Earlier],
) -> Result<Inspected, InspectError> {
    let mut seen = Inspected {
        report: LogReport::new(name),
        damaged: Vec::new(),
        checkpoint: String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned(),
        origin: None,
        compared: 0,
    };
    let Some(checkpoint) = believe(&mut seen.report, bytes, whose, trust) else {
        // Without a checkpoint nothing that was said before is kept.
        whose.claims.begin();
        return Ok(seen);
    };
    seen.origin = Some(checkpoint.origin.clone());
    let claims = earlier
        .iter()
        .filter(|one| one.checkpoint.origin == checkpoint.origin);
    let witnessed = witnessed(source, &mut seen.report, &checkpoint, trust)?;
    whose.claims.add(witnessed);
    whose.claims.add(claims.map(|one| Claim {
        size: one.checkpoint.size,
        root: one.checkpoint.root,
        by: By::Itself(one.text.clone()),
    }));
    check_tree(source, &mut seen, &checkpoint, whose)?;
    judge(&mut seen, &checkpoint, &whose.claims);
    Ok(seen)
}

/// What witnesses cosigned is told, if it is as the policy asks; the log must fit it like anything that it signed.
fn witnessed(
    source: &mut dyn Source,
    report: &mut LogReport,
    checkpoint: &Checkpoint,
    trust: &TrustPolicy,
) -> Result<Option<Claim>, InspectError> {
    let Some(trust) = trust.for_log(&checkpoint.origin) else {
        return Ok(None);
    };
    let bytes = get(source, &report.path(WITNESSED))?;
    let note = bytes.and_then(|bytes| Note::parse(&bytes).ok());
    let Some((note, believed)) = note.and_then(|note| {
        let believed = trust.check(&note).ok()?;
        Some((note, believed))
    }) else {
        return Ok(None);
    };
    if believed.checkpoint.origin != checkpoint.origin {
        return Ok(None);
    }
    // Control nodes cosign each checkpoint: their keys are named beneath the fleet's log.
    let fleet = checkpoint.origin.split("/tenants/").next();
    let nodes = format!("{}/nodes/", fleet.unwrap_or_default());
    let mut by = believed.witnesses;
    by.retain(|name, _| {
        let key = trust.witness(name);
        key.is_some_and(|key| !key.name().starts_with(&nodes))
    });
    if by.is_empty() {
        return Ok(None);
    }
    report.witnessed(believed.checkpoint.size, by);
    Ok(Some(Claim {
        size: believed.checkpoint.size,
        root: believed.checkpoint.root,
        by: By::Itself(note.to_string()),
    }))
}

/// The checkpoint, if the log itself signed it; whatever else is wrong with it is reported.
fn believe(
    report: &mut LogReport,
    bytes: Option<&[u8]>,
    whose: &Whose<'_>,
    trust: &TrustPolicy,
) -> Option<Checkpoint> {
    let Some(bytes) = bytes else {
        report.add(Kind::Missing, CHECKPOINT, "it is missing");
        return None;
    };
    if bytes.is_empty() || bytes.len() > MAX_NOTE_BYTES {
        report.add(
            Kind::Malformed,
            CHECKPOINT,
            "its length is none of a checkpoint",
        );
        return None;
    }
    let note = match Note::parse(bytes) {
        Ok(note) => note,
        Err(error) => {
            report.add(Kind::Malformed, CHECKPOINT, error.to_string());
            return None;
        }
    };
    let checkpoint = match Checkpoint::parse(&note.text) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.add(Kind::Malformed, CHECKPOINT, error.to_string());
            return None;
        }
    };
    report.describe(&checkpoint);
    if let Some(wanted) = whose
        .origin
        .as_ref()
        .filter(|wanted| **wanted != checkpoint.origin)
    {
        let says = format!("it is of {}, not of {wanted}", checkpoint.origin);
        report.add(Kind::NotBelieved, CHECKPOINT, says);
        return None;
    }
    let Some(trust) = trust.for_log(&checkpoint.origin) else {
        let error = NotBelieved::OtherLog(checkpoint.origin);
        report.add(Kind::NotBelieved, CHECKPOINT, error.to_string());
        return None;
    };
    match trust.check(&note) {
        Ok(believed) => {
            report.cosigned(believed.witnesses);
            Some(checkpoint)
        }
        // The log itself signed it: what it promises is worth a look.
        Err(error @ NotBelieved::NoQuorum { .. }) => {
            report.add(Kind::NotBelieved, CHECKPOINT, error.to_string());
            Some(checkpoint)
        }
        Err(error) => {
            report.add(Kind::NotBelieved, CHECKPOINT, error.to_string());
            None
        }
    }
}

/// Every entry and every tile.
fn check_tree(
    source: &mut dyn Source,
    seen: &mut Inspected,
    checkpoint: &Checkpoint,
    whose: &mut Whose<'_>,
) -> Result<(), InspectError> {
    let (claims, collect) = (&mut whose.claims, &mut whose.collect);
    claims.begin();
    let report = &mut seen.report;
    let mut files = Files {
        source,
        log: report.log.clone(),
        kept: BTreeMap::new(),
        missing: 0,
        first_missing: None,
    };
    // What is partial goes first when the log grows: it is read first.
    for tile in edge(checkpoint.size) {
        let bytes = files.read(tile).map_err(Stop::into_error)?;
        files.kept.insert(tile, bytes);
    }
    let kept = said_kept(files.source, &report.path(KEPT_FROM))?;
    let kept_from = kept.map_or(0, |kept| kept.kept_from);
    let (mut failed, mut declared) = (None, false);
    let found = verify_from(
        checkpoint,
        kept_from,
        |tile| files.take(tile, kept_from),
        |index, leaf| {
            claims.see(index, leaf.hash);
            let Some(entry) = leaf.entry else { return };
            declared |= kept.is_some_and(|kept| kept.is_declared(index, entry));
            if let Some(heads) = collect.as_deref_mut()
                && let Err(error) = heads.see(index, entry)
            {
                failed.get_or_insert(error);
            }
        },
    );
    if let Some(error) = failed {
        return Err(error);
    }
    match found {
        Ok(findings) => {
            for finding in &findings.all {
                report.add_finding(finding);
                if !matches!(finding, Finding::Hash { .. }) {
                    let last = report.findings.last();
                    seen.damaged
                        .extend(last.and_then(|found| found.first.zip(found.last)));
                }
            }
            report.more = findings.more;
            if let Some(kept) = kept.filter(|_| findings.gone > 0) {
                report.lacks(kept, findings.gone, declared);
            }
            if findings.more > 0 {
                seen.damaged.push((0, u64::MAX));
            }
        }
        Err(Stop::TooMuchMissing) => {
            let first = files.first_missing.map(|tile| tile.path());
            let says = format!("it is missing, and {LOG_MISSING} more files are");
            report.add(Kind::Missing, &first.unwrap_or_default(), says);
            seen.damaged.push((0, u64::MAX));
        }
        Err(stop @ Stop::Failed(_)) => return Err(stop.into_error()),
    }
    Ok(())
}

/// What the log's files say that it may lack. It is believed once the entry was seen that says the same.
pub(super) fn said_kept(
    source: &mut dyn Source,
    path: &str,
) -> Result<Option<KeptFrom>, InspectError> {
    let bytes = get(source, path)?;
    Ok(bytes.and_then(|bytes| KeptFrom::parse(&bytes)))
}

/// Compares the log with what was signed of it before.
fn judge(seen: &mut Inspected, checkpoint: &Checkpoint, claims: &Claims) {
    seen.compared = claims.compared();
    let clean = seen.damaged.is_empty();
    let (wrong, unseen) = claims.judged();
    let (size, root) = (checkpoint.size, checkpoint.root);
    // Entries that were changed fit nothing: only what the checkpoint itself contradicts is told then.
    let contradicts = |claim: &&Claim| clean || claim.size == size && claim.root != root;
    let wrong = wrong.iter().filter(contradicts);
    let unseen = unseen.iter();
    let unseen =
        unseen.filter(|claim| claim.size > size || claim.size == size && claim.root != root);
    let (mut told, mut more) = (0, 0);
    for claim in wrong.chain(unseen) {
        if told > 0 && matches!(claim.by, By::Fleet(_)) {
            more += 1;
            continue;
        }
        told += u32::from(matches!(claim.by, By::Fleet(_)));
        let shorter = claim.size > size;
        let (kind, says, older) = match &claim.by {
            By::Fleet(index) if shorter => {
                let says = format!(
                    "it ends after {size} entries; entry {index} of the fleet's log says that it has {}",
                    claim.size
                );
                (Kind::Missing, says, None)
            }
            By::Fleet(index) => {
                let says = format!(
                    "its first {} entries are not those of which entry {index} of the fleet's log has the root {}",
                    claim.size, claim.root
                );
                (Kind::Contradiction, says, Some(claims.fleet.clone()))
            }
            By::Itself(older) if shorter => {
                let says = format!(
                    "it was rolled back: it had {} entries and has {size}",
                    claim.size
                );
                (Kind::Contradiction, says, Some(older.clone()))
            }
            By::Itself(older) => {
                let says = format!(
                    "it was rewritten (a split view): the log signed another tree of its first {} entries",
                    claim.size
                );
                (Kind::Contradiction, says, Some(older.clone()))
            }
        };
        let newer = seen.checkpoint.clone();
        let found = seen.report.add(kind, CHECKPOINT, says);
        if shorter {
            (found.first, found.last) = (Some(size), Some(claim.size.saturating_sub(1)));
        }
        found.proof = older.map(|older| (older, newer));
    }
    seen.report.more = seen.report.more.saturating_add(more);
}

/// The partial tiles and the partial bundle of a log of this size.
fn edge(size: u64) -> impl Iterator<Item = Tile> {
    let width = u64::from(TILE_WIDTH);
    let levels = (0..=u8::MAX).map_while(move |level| {
        let shift = u32::from(level).checked_mul(u32::from(TILE_HEIGHT))?;
        let hashes = size.checked_shr(shift).filter(|hashes| *hashes > 0)?;
        Some((Level::Hashes(level), hashes / width))
    });
    [(Level::Entries, size / width)]
        .into_iter()
        .chain(levels)
        .filter_map(move |(level, index)| Tile::at(level, index, size))
}

/// The tiles of one log.
struct Files<'a> {
    source: &'a mut dyn Source,
    log: String,
    kept: BTreeMap<Tile, Option<Vec<u8>>>,
    missing: usize,
    first_missing: Option<Tile>,
}

enum Stop {
    Failed(InspectError),
    TooMuchMissing,
}

impl Stop {
    fn into_error(self) -> InspectError {
        match self {
            Self::Failed(error) => error,
            Self::TooMuchMissing => InspectError::NoLog,
        }
    }
}

impl Files<'_> {
    fn take(&mut self, tile: Tile, kept_from: u64) -> Result<Option<Vec<u8>>, Stop> {
        // It is asked for again where something is wrong.
        if let Some(kept) = self.kept.get(&tile) {
            return Ok(kept.clone());
        }
        let read = self.read(tile)?;
        let let_go = tile.level == Level::Entries && tile.index < kept_from / u64::from(TILE_WIDTH);
        if read.is_none() && !tile.is_partial() && !let_go {
            self.first_missing.get_or_insert(tile);
            self.missing += 1;
            if self.missing > LOG_MISSING {
                return Err(Stop::TooMuchMissing);
            }
        }
        Ok(read)
    }

    fn read(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, Stop> {
        let path = LogReport::new(&self.log).path(&tile.path());
        let read = self.source.read(&path, limit(LogFile::Tile(tile)));
        read.map_err(|problem| Stop::Failed(InspectError::Read { path, problem }))
    }
}

//! What an inspection found.

use std::collections::BTreeMap;

use portcullis_audit::moment;
use portcullis_audit::tlog::{Checkpoint, Finding, Level, TILE_WIDTH, Tile};
use serde::Serialize;

use crate::ledger::tiles::{KEPT_FROM, KeptFrom};

/// All logs that were looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All in all.
    pub verdict: Verdict,
    /// The fleet's first.
    pub logs: Vec<LogReport>,
    /// Heads of tenants' logs in the fleet's that were compared with them.
    pub heads: u64,
}

/// The worst that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything is there, and as it was signed.
    Good,
    /// What is there is as it was signed, and something is missing.
    Incomplete,
    /// Something is not as it was signed, or not signed by whom it should be.
    Tampered,
    /// Two signed statements about a log contradict each other.
    Contradicted,
}

/// One log.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Where it lies: `fleet`, `tenants/TENANT`, or nothing where only one log was looked at.
    pub log: String,
    /// Its name, as its checkpoint says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Entries, as its checkpoint says.
    pub size: u64,
    /// The root of its tree, as its checkpoint says, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Who cosigned, and when.
    pub cosigned: BTreeMap<String, String>,
    /// The newest that a witness outside of the fleet cosigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<WitnessedReport>,
    /// What it lacks because it was let go of, as the log itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<GoneReport>,
    /// What is wrong, by place.
    pub findings: Vec<Found>,
    /// Findings that are not told one by one.
    pub more: u64,
}

/// Entries that were kept for as long as was decided, and that are not there any more. Their hashes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GoneReport {
    /// How many of them are gone.
    pub entries: u64,
    /// All that is gone came before this entry.
    pub kept_from: u64,
    /// The entry of the log that says so.
    pub declared_by: u64,
}

/// The newest checkpoint of a log that a witness outside of the fleet cosigned.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessedReport {
    /// Entries that it has.
    pub size: u64,
    /// Which witnesses cosigned it, and when.
    pub cosigned: BTreeMap<String, String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// The file it is in, relative to what was looked at.
    pub file: String,
    /// The first entry that it concerns, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The last entry that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// In words.
    pub says: String,
    /// The two signed notes that contradict each other, the older first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<(String, String)>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file or entries that the checkpoint promises are not there.
    Missing,
    /// An entry or a hash is not the one that was signed.
    Changed,
    /// A file is none of its kind.
    Malformed,
    /// The checkpoint is not signed as the trust policy asks.
    NotBelieved,
    /// It contradicts another signed statement.
    Contradiction,
}

impl Kind {
    fn verdict(self) -> Verdict {
        match self {
            Self::Missing => Verdict::Incomplete,
            Self::Changed | Self::Malformed | Self::NotBelieved => Verdict::Tampered,
            Self::Contradiction => Verdict::Contradicted,
        }
    }
}

impl Report {
    pub(super) fn of(logs: Vec<LogReport>, heads: u64) -> Self {
        let kinds = logs.iter().flat_map(|log| &log.findings);
        let verdicts = kinds.map(|found| found.kind.verdict());
        Self {
            verdict: verdicts.max().unwrap_or(Verdict::Good),
            logs,
            heads,
        }
    }

    /// Several reports as one.
    #[must_use]
    pub fn together(reports: Vec<Self>) -> Self {
        let heads = reports.iter().map(|report| report.heads).sum();
        Self::of(reports.into_iter().flat_map(|it| it.logs).collect(), heads)
    }

    /// The report of one log, under this name.
    #[must_use]
    pub fn named(mut self, log: &str) -> Self {
        for report in &mut self.logs {
            log.clone_into(&mut report.log);
        }
        self
    }
}

/// Times in Unix seconds, as they are shown.
fn moments(times: BTreeMap<String, u64>) -> BTreeMap<String, String> {
    let text = |seconds: u64| {
        let milliseconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        moment::to_text(milliseconds.saturating_mul(1_000))
    };
    times
        .into_iter()
        .map(|(name, at)| (name, text(at)))
        .collect()
}

impl LogReport {
    pub(super) fn new(log: &str) -> Self {
        Self {
            log: log.to_owned(),
            origin: None,
            size: 0,
            root: None,
            cosigned: BTreeMap::new(),
            witnessed: None,
            gone: None,
            findings: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn describe(&mut self, checkpoint: &Checkpoint) {
        self.origin = Some(checkpoint.origin.clone());
        self.size = checkpoint.size;
        self.root = Some(checkpoint.root.to_string());
    }

    pub(super) fn cosigned(&mut self, witnesses: BTreeMap<String, u64>) {
        self.cosigned = moments(witnesses);
    }

    pub(super) fn witnessed(&mut self, size: u64, witnesses: BTreeMap<String, u64>) {
        self.witnessed = Some(WitnessedReport {
            size,
            cosigned: moments(witnesses),
        });
    }

    /// Entries are gone; by right, if the log `declared` it.
    pub(super) fn lacks(&mut self, kept: KeptFrom, entries: u64, declared: bool) {
        let KeptFrom {
            kept_from,
            declared_by,
        } = kept;
        if declared {
            self.gone = Some(GoneReport {
                entries,
                kept_from,
                declared_by,
            });
            return;
        }
        let says = format!(
            "{entries} of the entries before {kept_from} are missing, and entry {declared_by} does not say that they were let go of"
        );
        let found = self.add(Kind::Missing, KEPT_FROM, says);
        (found.first, found.last) = (Some(0), Some(kept_from.saturating_sub(1)));
    }

    /// Adds what is wrong with a file of this log.
    pub(super) fn add(&mut self, kind: Kind, file: &str, says: impl Into<String>) -> &mut Found {
        let file = self.path(file);
        self.push(Found {
            kind,
            file,
            first: None,
            last: None,
            says: says.into(),
            proof: None,
        })
    }

    /// Adds what the check of the tree found.
    pub(super) fn add_finding(&mut self, finding: &Finding) {
        let (kind, tile, says) = match finding {
            Finding::Entry { index } => {
                let says = format!("entry {index} was changed");
                let tile = bundle(*index);
                let found = self.add(Kind::Changed, &self.name(tile), says);
                (found.first, found.last) = (Some(*index), Some(*index));
                return;
            }
            Finding::Entries { from, to } => {
                let says = finding.to_string();
                let found = self.add(Kind::Changed, "tile/entries", says);
                (found.first, found.last) = (Some(*from), Some(to.saturating_sub(1)));
                return;
            }
            Finding::Hash { tile, position } => {
                let says = format!("hash {position} was changed");
                let found = self.add(Kind::Changed, &tile.path(), says);
                let at = tile.subtrees().nth(usize::from(*position));
                found.first = at.map(|at| at.index << at.level);
                found.last = at.map(|at| ((at.index + 1) << at.level).saturating_sub(1));
                return;
            }
            Finding::Malformed { tile, problem } => (Kind::Malformed, tile, problem.clone()),
            Finding::Missing { tile } => (Kind::Missing, tile, "it is missing".to_owned()),
        };
        let found = self.add(kind, &tile.path(), says);
        found.first = tile.subtrees().next().map(|at| at.index << at.level);
        let last = tile.subtrees().last();
        found.last = last.map(|at| ((at.index + 1) << at.level).saturating_sub(1));
    }

    pub(super) fn path(&self, file: &str) -> String {
        match self.log.as_str() {
            "" => file.to_owned(),
            log => format!("{log}/{file}"),
        }
    }

    /// A bundle's file as this log has it: the last one may be partial.
    fn name(&self, tile: Tile) -> String {
        let now = Tile::at(tile.level, tile.index, self.size);
        now.unwrap_or(tile).path()
    }

    fn push(&mut self, found: Found) -> &mut Found {
        self.findings.push(found);
        let last = self.findings.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was just put there")]
        &mut self.findings[last]
    }
}

/// The bundle that has this entry.
fn bundle(index: u64) -> Tile {
    Tile {
        level: Level::Entries,
        index: index / u64::from(TILE_WIDTH),
        width: TILE_WIDTH,
    }
}

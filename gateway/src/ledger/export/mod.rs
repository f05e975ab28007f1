//! What an auditor is handed: the entries of a period, by population, with all that proves them, and a program that checks it.
//!
//! Nothing of ours is needed to open it. The same logs, period and trust policy make the same bytes. All logs are checked first; of what is
//! not as it was signed nothing is written.

mod one;
mod populations;
mod sheet;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_audit::moment;
use portcullis_audit::tlog::TrustPolicy;
use portcullis_policy::TenantId;
use serde_json::{Value, json};

use self::one::One;
use self::populations::{ALL, OTHER};
use self::write::{Folder, Sheets};
use super::inspect::{InspectError, ProveError, Report, Source, Verdict, Wanted, inspect, prove};
use super::limits::{EXPORT_ENTRIES, EXPORT_PROOFS};
use super::tiles::LogId;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Period {
    /// From this moment on, Unix milliseconds,
    pub from_ms: i64,
    /// and before this one.
    pub to_ms: i64,
    /// The log of this tenant alone; none: every log that is there.
    pub tenant: Option<TenantId>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// How many entries of the period each population has, by name.
    pub counts: Vec<(&'static str, u64)>,
    /// Logs.
    pub logs: usize,
    /// Proofs of single entries.
    pub proofs: usize,
    /// Entries that are to come with their proof and do not: there are too many.
    pub unproved: u64,
    /// The moment, Unix milliseconds, after which the logs say nothing; none: nobody cosigned them.
    pub nothing_after: Option<i64>,
}

impl Exported {
    /// Whether the logs go on until the end of the period, as far as anybody signed.
    #[must_use]
    pub fn reaches(&self, end_ms: i64) -> bool {
        self.nothing_after.is_some_and(|at| at >= end_ms)
    }
}

/// Writes the bundle into a directory that is empty or not there yet.
///
/// # Errors
/// [`ExportError`]; what was written until then has no `SHA256SUMS`, and is to be thrown away.
pub fn export(
    source: &mut dyn Source,
    trust: &TrustPolicy,
    period: &Period,
    out: &Path,
) -> Result<Exported, ExportError> {
    let report = inspect(source, trust, &[])?;
    if report.verdict != Verdict::Good {
        return Err(ExportError::NotGood(Box::new(report)));
    }
    let mut folder = Folder::make(out)?;
    let mut sheets = Sheets::begin(&mut folder)?;
    let mut told = Vec::new();
    let mut done = Exported {
        counts: Vec::new(),
        logs: 0,
        proofs: 0,
        unproved: 0,
        nothing_after: None,
    };
    let mut newest = Newest::default();
    let (mut heads, mut written) = (BTreeSet::new(), BTreeSet::new());
    let (mut start, mut end) = (Vec::new(), Vec::new());
    let mut total = 0_usize;
    for log in &report.logs {
        let origin = log.origin.clone().unwrap_or_default();
        let Some(id) = log_of(&origin).filter(|id| period.wants(id)) else {
            continue;
        };
        let mut one = One::open(source, trust, &log.log, id, log.gone, period)?;
        total = total.saturating_add(usize::try_from(one.inside()).unwrap_or(usize::MAX));
        if total > EXPORT_ENTRIES {
            return Err(ExportError::TooMany(EXPORT_ENTRIES));
        }
        one.copy(&mut folder)?;
        let proved = one.select(period, &mut sheets)?;
        for index in proved {
            if done.proofs >= EXPORT_PROOFS {
                done.unproved = done.unproved.saturating_add(1);
                continue;
            }
            let proof = prove(one.source, one.place, &Wanted::Index(index))?;
            let name = one.id.to_string().replace('/', "-");
            let file = format!("proofs/{name}-{index}.tlog-proof");
            folder.put(&file, proof.evidence.to_string().as_bytes())?;
            done.proofs += 1;
        }
        if let LogId::Tenant(tenant) = one.id.clone() {
            for (at, into) in [(one.at_start, &mut start), (one.at_end, &mut end)] {
                let document = at.map(|at| one.document(at)).transpose()?;
                into.push((tenant.to_string(), document.unwrap_or(Value::Null)));
            }
        }
        heads.append(&mut one.heads);
        if let LogId::Tenant(tenant) = &one.id {
            written.insert(tenant.to_string());
        }
        newest.see(&one);
        told.push(one.describe());
        done.logs += 1;
    }
    if let Some(begun) = heads.difference(&written).next() {
        // Its first head came while this was read.
        return Err(ExportError::Changed(format!("the log of {begun}")));
    }
    if done.logs == 0 {
        return Err(ExportError::NoSuchLog(period.tenant.clone()));
    }
    done.nothing_after = newest.nothing_after();
    let counts = sheets.end()?;
    done.counts = counts
        .iter()
        .map(|(name, told)| (*name, count(told)))
        .collect();
    for (name, ms, tenants) in [("start", period.from_ms, start), ("end", period.to_ms, end)] {
        let tenants: serde_json::Map<String, Value> = tenants.into_iter().collect();
        let policy = json!({ "before": moment::to_text(ms), "tenants": tenants });
        folder.put(&format!("policy/{name}.json"), &pretty(&policy))?;
    }
    let populations = counts
        .into_iter()
        .map(|(name, told)| (name.to_owned(), told));
    let manifest = json!({
        "format": "portcullis evidence bundle v1",
        "from": moment::to_text(period.from_ms),
        "to": moment::to_text(period.to_ms),
        "nothing_after": done.nothing_after.map(moment::to_text),
        "logs": told,
        "populations": populations.collect::<serde_json::Map<String, Value>>(),
        "proofs": done.proofs,
        "unproved": done.unproved,
    });
    folder.put("manifest.json", &pretty(&manifest))?;
    folder.put("trust.policy", trust.to_string().as_bytes())?;
    folder.put("README.txt", README.as_bytes())?;
    folder.put("controls.md", CONTROLS.as_bytes())?;
    folder.put("verify.py", VERIFY.as_bytes())?;
    folder.seal()?;
    Ok(done)
}

/// Until when the logs say anything. The fleet's says how far the others are, and each time that one of them grew; without it, they
/// count themselves.
#[derive(Default)]
struct Newest {
    fleet: Option<Option<i64>>,
    tenants: Vec<Option<i64>>,
}

impl Newest {
    fn see(&mut self, log: &One<'_>) {
        match log.id {
            LogId::Fleet => self.fleet = Some(log.nothing_after()),
            LogId::Tenant(_) => self.tenants.push(log.nothing_after()),
        }
    }

    fn nothing_after(&self) -> Option<i64> {
        // None is less than any moment.
        self.fleet.or_else(|| self.tenants.iter().copied().min())?
    }
}

const README: &str = include_str!("README.txt");
const CONTROLS: &str = include_str!("controls.md");
const VERIFY: &str = include_str!("verify.py");

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn count(told: &Value) -> u64 {
    told.get("count")
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// `portcullis/FLEET`, or that of a tenant's log beneath it.
fn log_of(origin: &str) -> Option<LogId> {
    match origin.split_once("/tenants/") {
        None => Some(LogId::Fleet),
        Some((_, tenant)) => Some(LogId::Tenant(TenantId::parse(tenant).ok()?)),
    }
}

impl Period {
    fn wants(&self, log: &LogId) -> bool {
        match (&self.tenant, log) {
            (None, _) => true,
            (Some(wanted), LogId::Tenant(tenant)) => wanted == tenant,
            (Some(_), LogId::Fleet) => false,
        }
    }

    fn has(&self, at_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&at_ms)
    }
}

/// Why there is no bundle.
#[derive(Debug)]
pub enum ExportError {
    /// The logs cannot be read.
    Inspect(InspectError),
    /// They are not as they were signed, or not complete.
    NotGood(Box<Report>),
    /// A file is another than a moment ago.
    Changed(String),
    /// There is no such log.
    NoSuchLog(Option<TenantId>),
    /// More entries than one bundle may have.
    TooMany(usize),
    /// The directory has something in it.
    NotEmpty(PathBuf),
    /// A proof cannot be made.
    Prove(ProveError),
    /// A file cannot be written.
    Io(PathBuf, io::Error),
}

impl ExportError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io(path, error)
    }
}

impl From<InspectError> for ExportError {
    fn from(error: InspectError) -> Self {
        Self::Inspect(error)
    }
}

impl From<ProveError> for ExportError {
    fn from(error: ProveError) -> Self {
        Self::Prove(error)
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspect(error) => error.fmt(f),
            Self::NotGood(_) => f.write_str("the logs are not good: nothing was written"),
            Self::Changed(what) => write!(
                f,
                "{what}: not what it was; try again with a copy that nobody writes to"
            ),
            Self::NoSuchLog(Some(tenant)) => write!(f, "there is no log of the tenant {tenant}"),
            Self::NoSuchLog(None) => f.write_str("there is no log"),
            Self::TooMany(most) => {
                write!(
                    f,
                    "the period has more than {most} entries: ask for a shorter one"
                )
            }
            Self::NotEmpty(path) => {
                write!(
                    f,
                    "{}: it is there and not empty: name a directory that is not",
                    path.display()
                )
            }
            Self::Prove(error) => error.fmt(f),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ExportError {}

/// All populations, in the order of their files.
fn all() -> impl Iterator<Item = &'static populations::Population> {
    ALL.iter().chain(std::iter::once(&OTHER))
}

//! Checking logs that somebody handed over, without any node: is everything there (completeness), as it was signed (integrity), and the
//! same history that was signed before.
//!
//! Deliberately absent: where the files come from ([`Source`]), and whom to believe (the trust policy that whoever asks brings).

mod heads;
mod line;
mod log;
mod past;
mod prove;
mod report;
mod sight;
mod source;

use std::fmt;

use portcullis_audit::tlog::{Checkpoint, MAX_NOTE_BYTES, NotBelieved, Note, TrustPolicy};
use portcullis_policy::TenantId;

pub use self::heads::HEAD;
use self::heads::Heads;
pub use self::line::{LineError, LineProof, prove_line};
use self::log::{Whose, inspect_log};
pub use self::past::{AttemptThen, ChangeThen, Past, PastError, Then, past};
pub use self::prove::{ProveError, Proven, Wanted, growth, prove, root};
pub use self::report::{Found, GoneReport, Kind, LogReport, Report, Verdict, WitnessedReport};
pub use self::source::{Directory, Source};
use super::tiles::{CHECKPOINT, LogId, TENANTS};

/// A checkpoint that was seen earlier, and by which a log is held to its history.
#[derive(Clone, Debug)]
pub struct Earlier {
    checkpoint: Checkpoint,
    text: String,
}

impl Earlier {
    /// How many entries the log had.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Whether it is of this log of a fleet, by its origin.
    #[must_use]
    pub fn is_of(&self, log: &LogId) -> bool {
        let tenant = self.checkpoint.origin.split_once("/tenants/");
        match (log, tenant) {
            (LogId::Fleet, None) => true,
            (LogId::Tenant(wanted), Some((_, tenant))) => tenant == wanted.as_str(),
            (LogId::Fleet, Some(_)) | (LogId::Tenant(_), None) => false,
        }
    }

    /// Reads one. The log itself must have signed it; whether enough others did is not asked, because what a log signed binds it.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(bytes: &[u8], trust: &TrustPolicy) -> Result<Self, String> {
        let note = Note::parse(bytes).map_err(|error| format!("it is no checkpoint: {error}"))?;
        let checkpoint = Checkpoint::parse(&note.text)
            .map_err(|error| format!("it is no checkpoint: {error}"))?;
        let trust = trust.for_log(&checkpoint.origin).ok_or_else(|| {
            format!(
                "it is of a log that the trust policy does not name: {}",
                checkpoint.origin
            )
        })?;
        match trust.check(&note) {
            Ok(_) | Err(NotBelieved::NoQuorum { .. }) => Ok(Self {
                checkpoint,
                text: String::from_utf8_lossy(bytes).into_owned(),
            }),
            Err(error) => Err(format!("it is not to be believed: {error}")),
        }
    }
}

/// Checks one log, or the fleet's with those of all tenants, whichever lies there.
///
/// # Errors
/// [`InspectError`]; whatever is wrong with the logs themselves is in the report.
pub fn inspect(
    source: &mut dyn Source,
    trust: &TrustPolicy,
    earlier: &[Earlier],
) -> Result<Report, InspectError> {
    let mut logs = Vec::new();
    let mut compared = 0;
    match what(source)? {
        What::Log => {
            let whose = Whose::default();
            logs.push(inspect_log(source, "", whose, trust, earlier)?.report);
        }
        What::Logs => {
            let mut heads = Heads::default();
            let whose = Whose {
                collect: Some(&mut heads),
                ..Whose::default()
            };
            let fleet = inspect_log(source, &LogId::Fleet.to_string(), whose, trust, earlier)?;
            heads.forget(&fleet.damaged);
            let mut tenants = source.tenants().map_err(|problem| InspectError::Read {
                path: TENANTS.to_owned(),
                problem,
            })?;
            tenants.extend(heads.tenants());
            tenants.sort();
            tenants.dedup();
            let mut of_tenants = Vec::with_capacity(tenants.len());
            for tenant in tenants {
                // Nobody signed anything of such a name: whatever lies there is no log.
                let Ok(id) = TenantId::parse(&tenant) else {
                    continue;
                };
                let name = LogId::Tenant(id).to_string();
                let claims = heads.of(&tenant, &fleet.checkpoint);
                let checkpoint = format!("{name}/{CHECKPOINT}");
                if claims.is_empty() && get(source, &checkpoint)?.is_none() {
                    // Its first checkpoint is not published yet.
                    continue;
                }
                let above = fleet.origin.as_ref();
                let whose = Whose {
                    origin: above.map(|fleet| format!("{fleet}/{name}")),
                    claims,
                    collect: None,
                };
                let tenant = inspect_log(source, &name, whose, trust, earlier)?;
                compared += tenant.compared;
                of_tenants.push(tenant.report);
            }
            logs.push(fleet.report);
            logs.extend(of_tenants);
        }
    }
    for one in earlier {
        let origin = Some(&one.checkpoint.origin);
        if !logs.iter().any(|log| log.origin.as_ref() == origin) {
            return Err(InspectError::OtherLog(one.checkpoint.origin.clone()));
        }
    }
    Ok(Report::of(logs, compared))
}

/// What lies somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One log.
    Log,
    /// The fleet's log, and those of tenants.
    Logs,
}

/// Finds out what lies there.
///
/// # Errors
/// [`InspectError`]; also that no log does.
pub fn what(source: &mut dyn Source) -> Result<What, InspectError> {
    if get(source, CHECKPOINT)?.is_some() {
        return Ok(What::Log);
    }
    let fleet = format!("{}/{CHECKPOINT}", LogId::Fleet);
    if get(source, &fleet)?.is_some() {
        return Ok(What::Logs);
    }
    // The fleet's checkpoint may be what is missing.
    match source.tenants() {
        Ok(tenants) if !tenants.is_empty() => Ok(What::Logs),
        Ok(_) => Err(InspectError::NoLog),
        Err(problem) => Err(InspectError::Read {
            path: TENANTS.to_owned(),
            problem,
        }),
    }
}

fn get(source: &mut dyn Source, path: &str) -> Result<Option<Vec<u8>>, InspectError> {
    let read = source.read(path, MAX_NOTE_BYTES);
    read.map_err(|problem| InspectError::Read {
        path: path.to_owned(),
        problem,
    })
}

/// Why nothing can be said about logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectError {
    /// There is no log there.
    NoLog,
    /// A file may be there, and could not be read.
    Read {
        /// Which,
        path: String,
        /// and why.
        problem: String,
    },
    /// An earlier checkpoint is of a log that is not there; its origin.
    OtherLog(String),
    /// The fleet's log has more heads of tenants' logs than are compared.
    TooManyHeads(usize),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLog => write!(
                f,
                "there is no log: neither `{CHECKPOINT}` nor `{}/{CHECKPOINT}`",
                LogId::Fleet
            ),
            Self::Read { path, problem } => write!(f, "{path}: {problem}"),
            Self::OtherLog(origin) => {
                write!(
                    f,
                    "the earlier checkpoint is of {origin}, which is not there"
                )
            }
            Self::TooManyHeads(limit) => {
                write!(
                    f,
                    "the fleet's log has more than {limit} heads of tenants' logs"
                )
            }
        }
    }
}

impl std::error::Error for InspectError {}

//! One line of a batch of connections, and what proves it: its place in the batch's tree, whose root an entry of the log has.
//!
//! The entry is proved like any other. The line lies with the node that saw the connection, in `data/audit/batches`.

use std::fmt;
use std::fs;
use std::path::Path;

use portcullis_audit::tlog::{Hash, check_inclusion};
use portcullis_audit::{Event, kinds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prove::{ProveError, Proven, Wanted, prove};
use super::source::Source;
use crate::ledger::limits::BATCH_FILE_BYTES;
use crate::ledger::recording::{check_batch, prove_in_batch};
use crate::ledger::tiles::{LogId, read};

/// A line and the hashes that lead from it to its batch's root (RFC 6962, section 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineProof {
    /// The line, as the node wrote it, without a newline.
    pub line: String,
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Hashes, in base64.
    pub proof: Vec<String>,
}

/// The line of a connection with this reference among the files of `batches`, and the entry that anchors it. `log` is where the logs lie or the
/// one log (nothing: in the source itself).
///
/// # Errors
/// [`LineError`]
pub fn prove_line(
    source: &mut dyn Source,
    log: &str,
    batches: &Path,
    reference: &str,
) -> Result<(Proven, LineProof), LineError> {
    let (name, file, event) = find(batches, reference)?;
    if let (Ok(LogId::Tenant(asked)), Some(tenant)) = (log.parse(), event.tenant.as_deref())
        && asked.as_str() != tenant
    {
        return Err(LineError::OtherLog(tenant.to_owned()));
    }
    let wanted = Wanted::Batch {
        node: event.node.to_string(),
        file: name.clone(),
    };
    let proven = prove(source, log, &wanted)?;
    let broken = |problem: &dyn fmt::Display| LineError::Broken(name.clone(), problem.to_string());
    let anchor = std::str::from_utf8(&proven.entry).ok();
    let anchor = anchor.and_then(|line| Event::parse(line).ok());
    let anchor = anchor.ok_or_else(|| broken(&"its entry is no event"))?;
    let lines = check_batch(&file, &anchor).map_err(|error| broken(&error))?;
    let has = |line: &&[u8]| event_of(line, reference).is_some();
    let place = lines.iter().position(has);
    let place = place.ok_or_else(|| broken(&"the line is in another batch of it"))?;
    let index = u64::try_from(place).unwrap_or(u64::MAX);
    let proof = prove_in_batch(&lines, index).unwrap_or_default();
    let line = lines.get(place).copied().unwrap_or_default();
    Ok((
        proven,
        LineProof {
            line: String::from_utf8_lossy(line).into_owned(),
            index,
            proof: proof.iter().map(Hash::to_string).collect(),
        },
    ))
}

impl LineProof {
    /// Holds the line against an entry that is proved.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, entry: &[u8]) -> Result<(), String> {
        let anchor = std::str::from_utf8(entry).ok();
        let anchor = anchor.and_then(|line| Event::parse(line).ok());
        let anchor = anchor.filter(|it| it.kind == kinds::CONNECTIONS_BATCH);
        let anchor = anchor.ok_or("the entry anchors no batch of connections")?;
        let events = anchor.field("events").and_then(Value::as_u64);
        let root = anchor.field("root").and_then(Value::as_str);
        let (Some(events), Some(root)) = (events, root.and_then(Hash::parse)) else {
            return Err("the entry says no root".to_owned());
        };
        let hashes: Option<Vec<Hash>> = self.proof.iter().map(|it| Hash::parse(it)).collect();
        let hashes = hashes.ok_or("a hash of the line's proof is none")?;
        let leaf = Hash::of_leaf(self.line.as_bytes());
        check_inclusion(leaf, self.index, &hashes, events, root)
            .map_err(|_| "the line is not the one of the batch at its place".to_owned())
    }
}

/// The file that has the line, newest first, and the line's event.
fn find(batches: &Path, reference: &str) -> Result<(String, Vec<u8>, Event), LineError> {
    let told =
        |problem: &dyn fmt::Display| LineError::Read(format!("{}: {problem}", batches.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(batches).map_err(|error| told(&error))? {
        let name = entry.map_err(|error| told(&error))?.file_name();
        names.extend(
            name.into_string()
                .ok()
                .filter(|name| name.ends_with(".jsonl")),
        );
    }
    names.sort_unstable();
    for name in names.into_iter().rev() {
        let path = batches.join(&name);
        // The oldest go while this looks.
        let Some(file) = read(&path, BATCH_FILE_BYTES).map_err(|error| told(&error))? else {
            continue;
        };
        let found = file
            .split(|byte| *byte == b'\n')
            .find_map(|line| event_of(line, reference));
        if let Some(event) = found {
            return Ok((name, file, event));
        }
    }
    Err(LineError::NoLine(reference.to_owned()))
}

fn event_of(line: &[u8], reference: &str) -> Option<Event> {
    let line = std::str::from_utf8(line).ok()?;
    // Looked for first because it is cheap.
    let event = line
        .contains(reference)
        .then(|| Event::parse(line).ok())??;
    (event.reference.as_deref() == Some(reference)).then_some(event)
}

/// Why a line is not proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// The files of batches cannot be read; a sentence.
    Read(String),
    /// No line has this reference.
    NoLine(String),
    /// It is in the log of this tenant.
    OtherLog(String),
    /// A file is not what the log anchored: which, and how.
    Broken(String, String),
    /// Its entry cannot be proved.
    Entry(ProveError),
}

impl From<ProveError> for LineError {
    fn from(error: ProveError) -> Self {
        Self::Entry(error)
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(problem) => f.write_str(problem),
            Self::NoLine(reference) => write!(
                f,
                "no line of these batches has the reference {reference}: they are those of one node, which lets the oldest go; `portcullis why` asks all nodes"
            ),
            Self::OtherLog(tenant) => {
                write!(f, "it is a connection of {tenant}: name --log {tenant}")
            }
            Self::Broken(file, problem) => write!(f, "{file}: {problem}"),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LineError {}

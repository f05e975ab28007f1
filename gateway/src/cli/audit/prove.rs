//! `audit prove`, `audit check`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use portcullis_audit::moment;
use portcullis_audit::tlog::{
    Believed, Evidence, MAX_ENTRY_BYTES, MAX_EXTRA_BYTES, MAX_NOTE_BYTES, MAX_PROOF_HASHES,
};
use serde_json::{Value, json};

use super::open::opened;
use super::{apart, failed, read, source, trusted};
use crate::cli::audit_args::{CheckArgs, ProveArgs};
use crate::cli::exit::Exit;
use crate::cli::output::{complain, printable, say};
use crate::ledger::inspect::{
    LineError, LineProof, ProveError, Proven, Wanted, What, prove as prove_entry, prove_line, what,
};

/// Takes one entry out of a log.
pub(in crate::cli) async fn prove(args: ProveArgs) -> Exit {
    let (proven, line) = match proof(&args).await {
        Ok(Ok(proven)) => proven,
        Ok(Err(error @ (LineError::Entry(ProveError::Damaged { .. }) | LineError::Broken(..)))) => {
            complain(&printable(&format!("error: {error}")));
            return Exit::Tampered;
        }
        Ok(Err(error)) => return failed(&error.to_string()),
        Err(problem) => return failed(&problem),
    };
    let text = proven.evidence.to_string();
    let Some(out) = &args.out else {
        say(&text);
        return Exit::Done;
    };
    let mut files = vec![(out.clone(), text)];
    if let Some(line) = &line {
        let mut beside = out.clone().into_os_string();
        beside.push(".line");
        let text = serde_json::json!(line).to_string();
        files.push((PathBuf::from(beside), format!("{text}\n")));
    }
    for (path, text) in files {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let opened = options.open(&path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(text.as_bytes())) {
            return failed(&format!("{}: {error}", path.display()));
        }
    }
    let event = String::from_utf8_lossy(&proven.entry);
    match args.json {
        true => {
            let mut said = json!({ "index": proven.evidence.index, "event": event_of(&proven.entry), "proof": out });
            if let (Some(line), Some(said)) = (&line, said.as_object_mut()) {
                said.insert("line".to_owned(), event_of(line.line.as_bytes()));
            }
            say(&said.to_string());
        }
        false => say(&printable(&format!(
            "entry {} in {}:\n{event}",
            proven.evidence.index,
            out.display()
        ))),
    }
    if let Some(line) = line.filter(|_| !args.json) {
        say(&printable(&format!(
            "line {} of that batch in {}.line:\n{}",
            line.index,
            out.display(),
            line.line
        )));
    }
    Exit::Done
}

type Proved = Result<(Proven, Option<LineProof>), LineError>;

async fn proof(args: &ProveArgs) -> Result<Proved, String> {
    let mut source = source(&args.place).await?;
    let (log, batches) = (args.log.clone(), args.batches.clone());
    let wanted = match (&args.index, &args.reference) {
        (Some(index), _) => Wanted::Index(*index),
        (None, Some(reference)) => Wanted::Reference(reference.to_string()),
        (None, None) => return Err("name the entry by --index or --reference".to_owned()),
    };
    apart(move || {
        let there = what(&mut *source).map_err(|error| error.to_string())?;
        let log = match (there, log) {
            (What::Log, None) => String::new(),
            (What::Log, Some(_)) => {
                return Err("there is only one log: leave --log away".to_owned());
            }
            (What::Logs, Some(log)) => log.to_string(),
            (What::Logs, None) => {
                return Err("there are several logs: name one by --log".to_owned());
            }
        };
        if let (Some(batches), Wanted::Reference(reference)) = (batches, &wanted) {
            let proved = prove_line(&mut *source, &log, &batches, reference);
            return Ok(proved.map(|(proven, line)| (proven, Some(line))));
        }
        let proved = prove_entry(&mut *source, &log, &wanted);
        Ok(proved.map(|proven| (proven, None)).map_err(LineError::from))
    })
    .await?
    .map_err(|problem| format!("{}: {problem}", args.place.place.display()))
}

/// Checks a proof.
pub(in crate::cli) async fn check(args: CheckArgs) -> Exit {
    let (trust, bytes, entry) = match inputs(&args) {
        Ok(inputs) => inputs,
        Err(problem) => return failed(&problem),
    };
    match judge(&trust, &bytes, entry) {
        Ok((evidence, believed, entry)) => {
            let line = match args
                .line
                .as_deref()
                .map(|file| line(file, &entry))
                .transpose()
            {
                Ok(line) => line,
                Err(problem) => return not_proved(&args, &problem),
            };
            let openings = args.openings.as_deref();
            let openings = openings.map(|file| opened(file, evidence.index, &entry));
            let openings = match openings.transpose() {
                Ok(openings) => openings.unwrap_or_default(),
                Err(problem) => return not_proved(&args, &problem),
            };
            let checkpoint = &believed.checkpoint;
            let witnesses = believed.witnesses.iter();
            let witnesses: Vec<(&String, String)> =
                witnesses.map(|(name, at)| (name, seconds(*at))).collect();
            if args.json {
                let cosigned: serde_json::Map<String, Value> = witnesses
                    .into_iter()
                    .map(|(name, at)| (name.clone(), at.into()))
                    .collect();
                let said = json!({
                    "proved": true,
                    "origin": checkpoint.origin,
                    "index": evidence.index,
                    "size": checkpoint.size,
                    "cosigned": cosigned,
                    "event": event_of(&entry),
                    "line": line.as_ref().map(|it| event_of(it.line.as_bytes())),
                    "opened": openings
                        .iter()
                        .map(|it| (it.field.clone(), it.value.clone()))
                        .collect::<serde_json::Map<String, Value>>(),
                });
                say(&said.to_string());
            } else {
                let cosigned: Vec<String> = witnesses
                    .into_iter()
                    .map(|(name, at)| format!(", cosigned by {name} at {at}"))
                    .collect();
                say(&printable(&format!(
                    "proved: entry {} of {} ({} entries{}):\n{}",
                    evidence.index,
                    checkpoint.origin,
                    checkpoint.size,
                    cosigned.concat(),
                    String::from_utf8_lossy(&entry)
                )));
                if let Some(line) = line {
                    say(&printable(&format!(
                        "line {} of that batch: {}",
                        line.index, line.line
                    )));
                }
                for opening in openings {
                    say(&printable(&format!(
                        "opened: {} is {}",
                        opening.field, opening.value
                    )));
                }
            }
            Exit::Done
        }
        Err(problem) => not_proved(&args, &problem),
    }
}

/// The line in a file, if it is one of the batch that this entry anchors.
fn line(file: &Path, entry: &[u8]) -> Result<LineProof, String> {
    let bytes = read(file, 2 * MAX_EXTRA_BYTES + 64 * MAX_PROOF_HASHES)?;
    let line: Result<LineProof, _> = serde_json::from_slice(&bytes);
    let line = line.map_err(|error| format!("{}: {error}", file.display()))?;
    let checked = line.check(entry);
    checked.map_err(|problem| format!("{}: {problem}", file.display()))?;
    Ok(line)
}

fn not_proved(args: &CheckArgs, problem: &str) -> Exit {
    match args.json {
        true => say(&json!({ "proved": false, "problem": problem }).to_string()),
        false => complain(&printable(&format!("NOT PROVED: {problem}"))),
    }
    Exit::Tampered
}

type Inputs = (
    portcullis_audit::tlog::TrustPolicy,
    Vec<u8>,
    Option<Vec<u8>>,
);

fn inputs(args: &CheckArgs) -> Result<Inputs, String> {
    let trust = trusted(&args.trust)?;
    let most = 2 * MAX_EXTRA_BYTES + 64 * MAX_PROOF_HASHES + MAX_NOTE_BYTES;
    let bytes = read(&args.proof, most)?;
    let entry = args.entry.as_deref();
    let entry = entry.map(|file| read(file, MAX_ENTRY_BYTES)).transpose()?;
    Ok((trust, bytes, entry))
}

fn judge(
    trust: &portcullis_audit::tlog::TrustPolicy,
    bytes: &[u8],
    entry: Option<Vec<u8>>,
) -> Result<(Evidence, Believed, Vec<u8>), String> {
    let with_source = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let evidence = Evidence::parse(bytes).map_err(|error| with_source(&error))?;
    let entry = entry.or_else(|| evidence.extra.clone());
    let entry = entry.ok_or("the proof does not carry its entry: name it by --entry")?;
    let checkpoint = evidence
        .check(&entry)
        .map_err(|error| with_source(&error))?;
    let trust = trust.for_log(&checkpoint.origin);
    let trust = trust.ok_or_else(|| {
        format!(
            "it is of a log that the trust policy does not name: {}",
            checkpoint.origin
        )
    })?;
    let believed = trust
        .check(&evidence.checkpoint)
        .map_err(|error| format!("its checkpoint is not believed: {error}"))?;
    Ok((evidence, believed, entry))
}

fn seconds(at: u64) -> String {
    moment::to_text(i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(1_000))
}

/// An entry as JSON; as a text if it is none.
fn event_of(entry: &[u8]) -> Value {
    serde_json::from_slice(entry)
        .unwrap_or_else(|_| String::from_utf8_lossy(entry).into_owned().into())
}

//! `audit verify`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{Hash, MAX_NOTE_BYTES};

use super::{apart, failed, read, source, trusted};
use crate::cli::audit_args::VerifyArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{complain, counted, printable, say};
use crate::ledger::inspect::{Earlier, Found, Kind, LogReport, Report, Verdict, inspect};

/// Checks logs.
pub(in crate::cli) async fn verify(args: VerifyArgs) -> Exit {
    match look(&args).await {
        Ok(report) => {
            let kept = keep(&args, &report);
            match args.json {
                true => say(&serde_json::to_string(&report).unwrap_or_default()),
                false => say(&printable(&told(&report))),
            }
            match kept {
                Ok(files) => files.iter().for_each(|line| complain(&printable(line))),
                Err(problem) => complain(&printable(&format!("error: {problem}"))),
            }
            exit(report.verdict)
        }
        Err(problem) => failed(&problem),
    }
}

pub(super) fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Good => Exit::Done,
        Verdict::Incomplete => Exit::Incomplete,
        Verdict::Tampered => Exit::Tampered,
        Verdict::Contradicted => Exit::Contradicted,
    }
}

async fn look(args: &VerifyArgs) -> Result<Report, String> {
    let trust = trusted(&args.trust)?;
    let mut earlier = Vec::with_capacity(args.since.len());
    for file in &args.since {
        let bytes = read(file, MAX_NOTE_BYTES)?;
        let one = Earlier::parse(&bytes, &trust);
        earlier.push(one.map_err(|error| format!("{}: {error}", file.display()))?);
    }
    let mut source = source(&args.place).await?;
    let report = apart(move || inspect(&mut *source, &trust, &earlier)).await?;
    report.map_err(|error| format!("{}: {error}", args.place.place.display()))
}

/// Keeps what proves that a log showed two histories; what was kept, in words.
fn keep(args: &VerifyArgs, report: &Report) -> Result<Vec<String>, String> {
    let beside = args.since.first().map(|file| match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => PathBuf::from("."),
    });
    let Some(folder) = args.keep.clone().or(beside) else {
        return Ok(Vec::new());
    };
    keep_proofs(&folder, report)
}

/// The same, in this directory.
pub(super) fn keep_proofs(folder: &Path, report: &Report) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    let proofs = report.logs.iter().flat_map(|log| &log.findings);
    for (older, newer) in proofs.filter_map(|found| found.proof.as_ref()) {
        let Hash(hash) = Hash::of_leaf(format!("{older}\0{newer}").as_bytes());
        let [a, b, c, d, ..] = hash;
        let name = format!("contradiction-{a:02x}{b:02x}{c:02x}{d:02x}");
        let mut paths = Vec::new();
        for (which, note) in [("older", older), ("newer", newer)] {
            let path = folder.join(format!("{name}-{which}.checkpoint"));
            write_new(&path, note.as_bytes()).map_err(|error| {
                format!(
                    "the checkpoints could not be kept: {}: {error}",
                    path.display()
                )
            })?;
            paths.push(path.display().to_string());
        }
        kept.push(format!("kept as proof: {}", paths.join(", ")));
    }
    Ok(kept)
}

/// Writes a file for its owner alone; one that is there already has the same name only if it is the same.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        opened => opened.and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        }),
    }
}

pub(super) fn told(report: &Report) -> String {
    let mut text = String::new();
    for log in &report.logs {
        text.push_str(&line(log));
        for found in &log.findings {
            text.push_str(&format!(
                "  {}: {}: {}\n",
                found.file,
                kind(found),
                found.says
            ));
        }
        if log.more > 0 {
            text.push_str(&format!("  and {} more\n", log.more));
        }
    }
    let entries: u64 = report.logs.iter().map(|log| log.size).sum();
    let logs = counted(report.logs.len(), "log");
    let gone: u64 = report
        .logs
        .iter()
        .filter_map(|log| log.gone)
        .map(|gone| gone.entries)
        .sum();
    let all = format!(
        "{logs}, {entries} entries, {} heads of tenants' logs compared",
        report.heads
    );
    let end = match report.verdict {
        Verdict::Good if gone > 0 => {
            "everything is as it was signed, and there but for what was let go of in due time"
        }
        Verdict::Good => "everything is there and as it was signed",
        Verdict::Incomplete => {
            "NOT COMPLETE: what is there is as it was signed, and something is missing"
        }
        Verdict::Tampered => "NOT AS IT WAS SIGNED",
        Verdict::Contradicted => "CONTRADICTED: two signed statements do not fit each other",
    };
    format!("{text}{all}: {end}")
}

fn line(log: &LogReport) -> String {
    let name = match log.log.as_str() {
        "" => log.origin.as_deref().unwrap_or("log"),
        name => name,
    };
    let verdict = match log.findings.is_empty() {
        true => "good",
        false => "NOT GOOD",
    };
    let mut text = format!("{name}: {verdict}, {} entries", log.size);
    if !log.cosigned.is_empty() {
        let cosigned = log.cosigned.iter();
        let cosigned: Vec<String> = cosigned
            .map(|(name, at)| format!("{name} at {at}"))
            .collect();
        text.push_str(&format!(", cosigned by {}", cosigned.join(", ")));
    }
    if let Some(witnessed) = &log.witnessed {
        let by = witnessed.cosigned.iter();
        let by: Vec<String> = by.map(|(name, at)| format!("{name} at {at}")).collect();
        text.push_str(&format!(
            "; {} entries witnessed by {}",
            witnessed.size,
            by.join(", ")
        ));
    }
    if let Some(gone) = &log.gone {
        text.push_str(&format!(
            "; {} entries before {} were let go of, as entry {} says",
            gone.entries, gone.kept_from, gone.declared_by
        ));
    }
    text.push('\n');
    text
}

fn kind(found: &Found) -> &'static str {
    match found.kind {
        Kind::Missing => "missing",
        Kind::Changed => "changed",
        Kind::Malformed => "malformed",
        Kind::NotBelieved => "not believed",
        Kind::Contradiction => "contradiction",
    }
}

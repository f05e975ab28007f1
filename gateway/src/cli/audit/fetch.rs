//! `audit fetch`.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use portcullis_audit::tlog::{Level, MAX_NOTE_BYTES, TILE_WIDTH, Tile, TrustPolicy};

use super::verify::{exit, keep_proofs, told};
use super::{apart, read, trusted};
use crate::api::types::AuditLogsReply;
use crate::cli::ask::{Failure, Node};
use crate::cli::audit_args::FetchArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{complain, printable};
use crate::fleet::home::write_private;
use crate::ledger::inspect::{Directory, Earlier, Report, Source, Verdict, inspect};
use crate::ledger::tiles::{CHECKPOINT, KEPT_FROM, KeptFrom, LogFile, LogId};

/// Fetches what is new of logs, checks all of it, and only then lets it count: the checkpoint that was
/// there stays until the one that follows it was believed and found to contain it.
pub(in crate::cli) async fn fetch(args: FetchArgs) -> Exit {
    let node = Node::of(&args.node);
    match fetched(&node, &args).await {
        Ok(report) => {
            let json = serde_json::to_value(&report).unwrap_or_default();
            node.tell(&json, &told(&report));
            exit(report.verdict)
        }
        Err(failure) => node.fail(&failure),
    }
}

async fn fetched(node: &Node, args: &FetchArgs) -> Result<Report, Failure> {
    let trust = trusted(&args.trust).map_err(Failure::Local)?;
    let mut logs: Vec<LogId> = args.log.iter().map(|name| name.0.clone()).collect();
    if logs.is_empty() {
        let said = node.get::<AuditLogsReply>("/v1/audit/logs").await?;
        let named = said.value.logs.iter().map(|name| name.parse());
        logs = named.collect::<Result<_, _>>().map_err(Failure::Foreign)?;
    }
    logs.sort();
    if logs.is_empty() {
        return Err(Failure::Foreign("there is no log yet".to_owned()));
    }
    let mut reports = Vec::new();
    for log in &logs {
        let folder = args.directory.join(log.to_string());
        reports.push(fetch_one(node, log, &folder, &trust).await?);
    }
    if reports.iter().any(|it| it.verdict != Verdict::Good) || !logs.contains(&LogId::Fleet) {
        return Ok(Report::together(reports));
    }
    // What the fleet's log says of the others can be compared only now.
    let directory = args.directory.clone();
    let all = apart(move || inspect(&mut Directory(directory), &trust, &[])).await;
    all.and_then(|all| all.map_err(|error| error.to_string()))
        .map_err(Failure::Local)
}

async fn fetch_one(
    node: &Node,
    log: &LogId,
    folder: &Path,
    trust: &TrustPolicy,
) -> Result<Report, Failure> {
    let local = |error: String| Failure::Local(error);
    let kept = folder.join(CHECKPOINT);
    let before = match read(&kept, MAX_NOTE_BYTES) {
        Ok(bytes) => Some(bytes),
        Err(_) if !kept.exists() => None,
        Err(error) => return Err(local(error)),
    };
    let mut earlier = Vec::new();
    let mut size = 0;
    if let Some(bytes) = &before {
        let one = signed(bytes, log, trust);
        let one = one.map_err(|error| local(format!("{}: {error}", kept.display())))?;
        size = one.size();
        earlier.push(one);
    }
    let mut attempts = 0;
    let told = loop {
        attempts += 1;
        match files(node, log, folder, size, trust).await {
            // What is partial is gone once the log has grown.
            Err(Failure::Refused { error, .. })
                if error.code == NO_SUCH_FILE && attempts < ATTEMPTS => {}
            fetched => break fetched?,
        }
    };
    let mut source = Newer {
        directory: Directory(folder.to_owned()),
        told: told.clone(),
    };
    let trust = trust.clone();
    let report = apart(move || inspect(&mut source, &trust, &earlier)).await;
    let report = report
        .and_then(|report| report.map_err(|error| format!("{log}: {error}")))
        .map_err(local)?;
    let report = report.named(&log.to_string());
    if report.verdict == Verdict::Good {
        if let Some(bytes) = &told.kept {
            write(&folder.join(KEPT_FROM), bytes).map_err(local)?;
        }
        write(&kept, &told.checkpoint).map_err(local)?;
        sweep(folder, size, told.size);
    }
    for line in keep_proofs(folder, &report).map_err(local)? {
        complain(&printable(&line));
    }
    Ok(report)
}

/// What a node tells of a log now, before it counts.
#[derive(Clone)]
struct Told {
    checkpoint: Vec<u8>,
    /// The entries that it promises.
    size: u64,
    /// What the log may lack.
    kept: Option<Vec<u8>>,
}

/// A checkpoint that the log itself signed, of this log: one key signs for all of a fleet's.
fn signed(bytes: &[u8], log: &LogId, trust: &TrustPolicy) -> Result<Earlier, String> {
    let one = Earlier::parse(bytes, trust)?;
    match one.is_of(log) {
        true => Ok(one),
        false => Err(format!("this checkpoint is of another log than {log}")),
    }
}

/// Fetches the checkpoint, and of what it promises all that a log of `size` entries did not have. Nothing is asked for that the log did
/// not sign.
async fn files(
    node: &Node,
    log: &LogId,
    folder: &Path,
    size: u64,
    trust: &TrustPolicy,
) -> Result<Told, Failure> {
    let checkpoint = ask_for(node, log, LogFile::Checkpoint).await?;
    let new = signed(&checkpoint, log, trust)
        .map_err(Failure::Foreign)?
        .size();
    let kept = match ask_for(node, log, LogFile::KeptFrom).await {
        Err(Failure::Refused { error, .. }) if error.code == NO_SUCH_FILE => None,
        said => Some(said?),
    };
    let kept_from = kept.as_deref().and_then(KeptFrom::parse);
    let kept_from = kept_from.map_or(0, |kept| kept.kept_from);
    for tile in Tile::added(size.min(new), new) {
        let path = folder.join(tile.path());
        let asked = ask_for(node, log, LogFile::Tile(tile)).await;
        let may_lack =
            tile.level == Level::Entries && tile.index < kept_from / u64::from(TILE_WIDTH);
        let bytes = match asked {
            Err(Failure::Refused { error, .. }) if may_lack && error.code == NO_SUCH_FILE => {
                continue;
            }
            asked => asked?,
        };
        let written = apart(move || write(&path, &bytes)).await;
        written.flatten().map_err(Failure::Local)?;
    }
    Ok(Told {
        checkpoint,
        size: new,
        kept,
    })
}

/// What a node says of a file that it does not have.
const NO_SUCH_FILE: &str = "no_such_file";

/// Times that a log is begun again which grows while it is fetched.
const ATTEMPTS: u32 = 5;

async fn ask_for(node: &Node, log: &LogId, file: LogFile) -> Result<Vec<u8>, Failure> {
    let target = format!("/v1/audit/file?path={log}/{file}");
    node.get_octets(&target).await
}

/// A directory with what a node tells now in the place of what lies there.
struct Newer {
    directory: Directory,
    told: Told,
}

impl Source for Newer {
    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, String> {
        match path {
            CHECKPOINT => Ok(Some(self.told.checkpoint.clone())),
            KEPT_FROM => Ok(self.told.kept.clone()),
            _ => self.directory.read(path, limit),
        }
    }

    fn tenants(&mut self) -> Result<Vec<String>, String> {
        self.directory.tenants()
    }
}

/// Writes a file whole, for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    write_private(path, bytes).map_err(|error| error.to_string())
}

/// Removes what was partial in a log of this size, and no longer is in one of the other.
fn sweep(folder: &Path, before: u64, now: u64) {
    let partial = |size| Tile::added(0, size).into_iter().filter(Tile::is_partial);
    let needed: Vec<Tile> = partial(now).collect();
    for tile in partial(before).filter(|tile| !needed.contains(tile)) {
        // What stays is in nobody's way.
        drop(fs::remove_file(folder.join(tile.path())));
    }
}

//! `audit search`.

use portcullis_audit::moment;
use portcullis_audit::tlog::{Hash, TrustPolicy};
use serde_json::{Value, json};

use super::{apart, failed, source, trusted};
use crate::cli::audit_args::WhereArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{complain, printable, say};
use crate::cli::search_args::{IndexArgs, SearchArgs};
use crate::config::index::IndexPlace;
use crate::config::node::NodeConfig;
use crate::database::index::{Found, Index, Purpose, Question, Row};
use crate::ledger::inspect::{ProveError, Source, Wanted, What, prove, what};

/// Finds entries in the index, and compares them with the logs where that is wanted.
pub(in crate::cli) async fn search(args: SearchArgs) -> Exit {
    let found = match asked(&args).await {
        Ok(found) => found,
        Err(problem) => return failed(&problem),
    };
    let checked = match check(&args, &found).await {
        Ok(checked) => checked,
        Err(problem) => return failed(&problem),
    };
    match args.json {
        true => say(&json_of(&found, checked.as_deref()).to_string()),
        false => tell(&found, checked.as_deref()),
    }
    let wrong = checked.into_iter().flatten().any(|it| it.is_some());
    match wrong {
        true => Exit::Tampered,
        false => Exit::Done,
    }
}

async fn asked(args: &SearchArgs) -> Result<Found, String> {
    let place = place(&args.index).await?;
    let question = Question {
        log: args.log.as_ref().map(ToString::to_string),
        kind: args.kind.clone(),
        tenant: args.tenant.as_ref().map(ToString::to_string),
        actor: args.actor.clone(),
        from_ms: args.from.map(|at| at.0),
        to_ms: args.to.map(|at| at.0),
        contains: args.contains.as_ref().map(|it| it.0.clone()),
        after: args.after.clone(),
        limit: args.limit,
    };
    let at = place.url.to_string();
    let failed = |error| format!("the index at {at}: {error}");
    let index = Index::open(&place, Purpose::Search).await;
    let index = index.map_err(failed)?;
    index.search(&question).await.map_err(failed)
}

async fn place(args: &IndexArgs) -> Result<IndexPlace, String> {
    if let Some(url) = &args.index_url {
        let place = IndexPlace {
            url: url.clone(),
            ca: args.index_ca.clone(),
            password: args.password_file.clone(),
            schema: args.schema.clone().unwrap_or_default(),
        };
        return place.check().map(|()| place);
    }
    let file = args.config.clone().unwrap_or_default();
    let read = file.clone();
    let config = apart(move || NodeConfig::read(&read)).await?;
    let config = config.map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let missing = || format!("{}: it has no [audit.index]", file.display());
    config.audit.index.ok_or_else(missing)
}

/// What is wrong with each entry, if it was to be compared.
async fn check(args: &SearchArgs, found: &Found) -> Result<Option<Vec<Option<String>>>, String> {
    let Some(place) = &args.check else {
        return Ok(None);
    };
    let trust = args.trust.as_deref().map(trusted).transpose()?;
    let place = WhereArgs {
        place: place.clone(),
        ca: args.check_ca.clone(),
    };
    let mut source = source(&place).await?;
    let rows = found.rows.clone();
    let checked = apart(move || {
        if let What::Log = what(&mut *source).map_err(|error| error.to_string())? {
            return Err("there is only one log: name the directory of all logs".to_owned());
        }
        let compared = rows.iter();
        compared
            .map(|row| compare(row, &mut *source, trust.as_ref()))
            .collect()
    });
    let checked: Result<_, String> = checked.await?;
    checked
        .map(Some)
        .map_err(|problem| format!("{}: {problem}", place.place.display()))
}

/// What is wrong with one, as the log has it.
fn compare(
    row: &Row,
    source: &mut dyn Source,
    trust: Option<&TrustPolicy>,
) -> Result<Option<String>, String> {
    let is_log = row.log.parse::<crate::ledger::tiles::LogId>().is_ok();
    let Some(index) = u64::try_from(row.index).ok().filter(|_| is_log) else {
        return Ok(Some("no log has such an entry".to_owned()));
    };
    // What the log let go of is proved by its hash, which it keeps.
    let kept = Wanted::Kept(index, row.event.to_string().into_bytes());
    let proven = match prove(source, &row.log, &kept) {
        Ok(proven) => proven,
        Err(error @ ProveError::Beyond { .. }) => return Ok(Some(error.to_string())),
        Err(error @ ProveError::Damaged { .. }) => {
            return Ok(Some(format!("the log does not prove it: {error}")));
        }
        Err(error) => return Err(error.to_string()),
    };
    if let Some(trust) = trust {
        let origin = proven.evidence.checkpoint.text.lines().next();
        let origin = origin.unwrap_or_default();
        let Some(trust) = trust.for_log(origin) else {
            return Ok(Some(format!(
                "the trust policy does not name the log {origin}"
            )));
        };
        if let Err(error) = trust.check(&proven.evidence.checkpoint) {
            return Ok(Some(format!("its checkpoint is not believed: {error}")));
        }
    }
    if Hash::of_leaf(&proven.entry) != row.leaf_hash {
        return Ok(Some("the log has another entry there".to_owned()));
    }
    match Row::of(&row.log, index, &proven.entry) {
        Some(whole) if whole == *row => Ok(None),
        Some(_) => Ok(Some(
            "the index says something else than the entry".to_owned(),
        )),
        None => Ok(Some("the entry in the log is no event".to_owned())),
    }
}

fn json_of(found: &Found, checked: Option<&[Option<String>]>) -> Value {
    let rows = found.rows.iter().enumerate();
    let entries: Vec<Value> = rows
        .map(|(at, row)| {
            let mut entry = json!({
                "log": row.log,
                "index": row.index,
                "at": moment::to_text(row.at_ms),
                "kind": row.kind,
                "tenant": row.tenant,
                "actor": row.actor,
                "position": row.position,
                "revision": row.revision,
                "leaf_hash": row.leaf_hash.to_string(),
                "event": row.event,
            });
            if let (Some(entry), Some(wrong)) =
                (entry.as_object_mut(), checked.and_then(|it| it.get(at)))
            {
                entry.insert("as_logged".to_owned(), wrong.is_none().into());
                entry.insert("problem".to_owned(), wrong.clone().into());
            }
            entry
        })
        .collect();
    json!({ "entries": entries, "next": found.next.as_ref().map(ToString::to_string) })
}

fn tell(found: &Found, checked: Option<&[Option<String>]>) {
    for (at, row) in found.rows.iter().enumerate() {
        let actor = row.actor.as_deref().unwrap_or("-");
        let tenant = row.tenant.as_deref().unwrap_or("-");
        let verdict = match checked.and_then(|it| it.get(at)) {
            None => String::new(),
            Some(None) => "  as logged".to_owned(),
            Some(Some(problem)) => format!("  NOT AS LOGGED: {problem}"),
        };
        say(&printable(&format!(
            "{}  {} {}  {}  {tenant}  {}{verdict}",
            moment::to_text(row.at_ms),
            row.log,
            row.index,
            row.kind,
            shortened(actor),
        )));
    }
    match (&found.next, found.rows.is_empty()) {
        (Some(next), _) => complain(&printable(&format!("there are more: --after {next}"))),
        (None, true) => complain("nothing was found"),
        (None, false) => {}
    }
}

/// A commitment stands for somebody who is not named; twelve digits tell one from another.
fn shortened(actor: &str) -> &str {
    match actor.strip_prefix("commitment:") {
        Some(hex) => {
            let rest = hex
                .char_indices()
                .nth(12)
                .map_or(0, |(at, _)| hex.len() - at);
            actor.get(..actor.len() - rest).unwrap_or(actor)
        }
        None => actor,
    }
}

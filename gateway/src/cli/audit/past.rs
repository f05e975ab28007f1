//! `audit reach`.

use portcullis_policy::Address;
use serde_json::{Value, json};

use super::{apart, failed, source, trusted};
use crate::cli::audit_args::PastArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{complain, printable, say};
use crate::ledger::inspect::{ChangeThen, Past, PastError, Then, past};

/// Says who could reach an endpoint then.
pub(in crate::cli) async fn reach(args: PastArgs) -> Exit {
    let told = match asked(&args).await {
        Ok(told) => told,
        Err(problem) => return failed(&problem),
    };
    match told {
        Ok(told) => {
            match args.json {
                true => say(&json_of(&args, &told).to_string()),
                false => say(&printable(&text_of(&args, &told))),
            }
            Exit::Done
        }
        Err(error) => {
            complain(&printable(&format!(
                "error: {}: {error}",
                args.place.place.display()
            )));
            match error {
                PastError::NotBelieved(_) | PastError::NotGood { tampered: true } => Exit::Tampered,
                PastError::NotGood { tampered: false }
                | PastError::Missing(_)
                | PastError::Gone(_) => Exit::Incomplete,
                PastError::Inspect(_) | PastError::OtherLog(_) | PastError::Unfit(_) => Exit::Error,
            }
        }
    }
}

async fn asked(args: &PastArgs) -> Result<Result<Past, PastError>, String> {
    let trust = trusted(&args.trust)?;
    let mut source = source(&args.place).await?;
    let then = Then {
        tenant: args.to.tenant.clone(),
        endpoint: args.to.endpoint.clone(),
        at: args.at,
        from: args
            .from
            .map(|address| (Address::from(address), args.via.clone())),
    };
    apart(move || past(&mut *source, &trust, &then)).await
}

/// Prefixes of a door that are listed; the rest is counted.
const LISTED: usize = 50;

fn text_of(args: &PastArgs, past: &Past) -> String {
    let to = format!("{}/{}", args.to.tenant, args.to.endpoint);
    let mut text = match &past.in_force {
        None => format!("{to} at {}: the tenant had no policy yet", args.at),
        Some(change) => format!("{to} at {}, under {}:", args.at, change_of(change)),
    };
    match &past.reach {
        None if past.in_force.is_some() => text.push_str("\n  there was no such endpoint"),
        None => {}
        Some(reach) if reach.0.is_empty() => text.push_str("\n  nobody"),
        Some(reach) => {
            for (door, set) in &reach.0 {
                let mut prefixes = set.prefixes();
                let listed: Vec<String> = prefixes
                    .by_ref()
                    .take(LISTED)
                    .map(|prefix| prefix.to_string())
                    .collect();
                text.push_str(&format!("\n  via {door}: {}", listed.join(", ")));
                match prefixes.count() {
                    0 => {}
                    more => text.push_str(&format!(" and {more} more")),
                }
            }
        }
    }
    if let Some(change) = &past.changed_by {
        text.push_str(&format!(
            "\nwho can reach it was last changed by {}",
            change_of(change)
        ));
    }
    if let (None, Some(_), Some(kept_from)) = (&past.changed_by, &past.reach, past.kept_from) {
        text.push_str(&format!(
            "\nwho can reach it was last changed before entry {kept_from}; that was let go of"
        ));
    }
    if let (Some(attempt), Some(from)) = (&past.attempt, args.from) {
        let word = if attempt.permitted { "YES" } else { "NO" };
        text.push_str(&format!(
            "\n{from} via {}: {word}: {}",
            args.via, attempt.verdict
        ));
        if let Some(change) = &attempt.admitted_by {
            text.push_str(&format!("\n  admitted by {}", change_of(change)));
        }
    }
    text.push_str(&format!(
        "\nof {} entries, all as they were signed; this is what was decided: a node that had not heard of it yet enforced what was before",
        past.size
    ));
    text
}

fn change_of(change: &ChangeThen) -> String {
    format!(
        "revision {} of {}, by {} (entry {})",
        change.revision, change.at, change.by, change.entry
    )
}

fn json_of(args: &PastArgs, past: &Past) -> Value {
    let doors = past.reach.as_ref().map(|reach| {
        let doors = reach.0.iter().map(|(door, set)| {
            let prefixes = set.prefixes().map(|prefix| prefix.to_string());
            (door.to_string(), prefixes.collect())
        });
        Value::Object(doors.collect())
    });
    let attempt = past.attempt.as_ref().map(|attempt| {
        json!({
            "permitted": attempt.permitted,
            "verdict": attempt.verdict,
            "admitted_by": attempt.admitted_by,
        })
    });
    json!({
        "tenant": args.to.tenant.to_string(),
        "endpoint": args.to.endpoint.to_string(),
        "at": args.at.to_string(),
        "entries": past.size,
        "in_force": past.in_force,
        "reach": doors,
        "changed_by": past.changed_by,
        "kept_from": past.kept_from,
        "attempt": attempt,
    })
}

//! What came of the attacks, for a person and for a program.

use serde_json::json;

use super::args::Target;
use super::attack::{Attack, Outcome, Verdict};
use crate::cli::output::{counted, printable, say};
use crate::cli::text::table::table;

/// Names the attacks.
pub(super) fn list(attacks: &[Attack], as_json: bool) {
    if as_json {
        let attacks: Vec<_> = attacks
            .iter()
            .map(|it| json!({"name": it.name, "does": it.does, "must": it.must.text()}))
            .collect();
        return say(&json!({ "attacks": attacks }).to_string());
    }
    let rows: Vec<Vec<String>> = attacks
        .iter()
        .map(|it| vec![it.name.to_owned(), it.does.clone(), it.must.text()])
        .collect();
    say(&printable(&table(&rows)));
}

/// Prints the outcomes.
pub(super) fn print(against: &Target, outcomes: &[Outcome], as_json: bool) {
    let count = |verdict| outcomes.iter().filter(|it| it.verdict == verdict).count();
    if as_json {
        let attacks: Vec<_> = outcomes.iter().map(one).collect();
        let all = json!({
            "against": against.to_string(),
            "refused": count(Verdict::Refused),
            "not_refused": count(Verdict::NotRefused),
            "failed": count(Verdict::Failed),
            "not_run": count(Verdict::NotRun),
            "attacks": attacks,
        });
        return say(&all.to_string());
    }
    let mut rows = Vec::new();
    for outcome in outcomes {
        let (word, name) = (
            outcome.verdict.word().to_owned(),
            outcome.attack.name.to_owned(),
        );
        rows.push(vec![word, name, outcome.happened.clone()]);
    }
    let mut text = table(&rows);
    for outcome in outcomes
        .iter()
        .filter(|it| it.verdict == Verdict::NotRefused)
    {
        let Attack {
            name, does, must, ..
        } = &outcome.attack;
        text.push_str(&format!("\n{name}: {does}\n  must be {}\n", must.text()));
    }
    let attacks = counted(outcomes.len(), "attack");
    let mut summary = format!(
        "{attacks} on {against}: {} refused",
        count(Verdict::Refused)
    );
    for verdict in [Verdict::NotRefused, Verdict::Failed, Verdict::NotRun] {
        if count(verdict) > 0 {
            summary.push_str(&format!(", {} {}", count(verdict), verdict.word()));
        }
    }
    say(&printable(&format!("{text}\n{summary}")));
}

fn one(outcome: &Outcome) -> serde_json::Value {
    let verdict = match outcome.verdict {
        Verdict::Refused => "refused",
        Verdict::NotRefused => "not_refused",
        Verdict::NotRun => "not_run",
        Verdict::Failed => "failed",
    };
    json!({
        "name": outcome.attack.name,
        "does": outcome.attack.does,
        "must": outcome.attack.must.text(),
        "happened": outcome.happened,
        "verdict": verdict,
    })
}

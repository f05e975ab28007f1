//! `audit export`.

use std::fmt::Write as _;

use portcullis_audit::moment;

use super::verify::{exit, told};
use super::{apart, failed, source, trusted};
use crate::cli::audit_args::ExportArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{complain, counted, printable, say};
use crate::ledger::export::{ExportError, Exported, Period, export as write};
use crate::ledger::inspect::ProveError;

/// Writes an evidence bundle for an auditor.
pub(in crate::cli) async fn export(args: ExportArgs) -> Exit {
    let done = match exported(&args).await {
        Ok(done) => done,
        Err(problem) => return failed(&problem),
    };
    match done {
        Ok(done) => {
            if !done.reaches(args.to.as_millis()) {
                complain(&printable(&short(&args, &done)));
            }
            say(&printable(&text_of(&args, &done)));
            Exit::Done
        }
        Err(ExportError::NotGood(report)) => {
            complain(&printable(&told(&report)));
            complain("error: the logs are not as they should be: nothing was written");
            exit(report.verdict)
        }
        Err(error @ (ExportError::Changed(_) | ExportError::Prove(ProveError::Damaged { .. }))) => {
            complain(&printable(&format!("error: {error}")));
            Exit::Tampered
        }
        Err(error) => failed(&error.to_string()),
    }
}

async fn exported(args: &ExportArgs) -> Result<Result<Exported, ExportError>, String> {
    let period = Period {
        from_ms: args.from.as_millis(),
        to_ms: args.to.as_millis(),
        tenant: args.tenant.clone(),
    };
    if period.from_ms >= period.to_ms {
        return Err("the period is empty: --to must be after --from".to_owned());
    }
    let trust = trusted(&args.trust)?;
    let mut source = source(&args.place).await?;
    let out = args.out.clone();
    apart(move || write(&mut *source, &trust, &period, &out)).await
}

/// The period ends after the logs do.
fn short(args: &ExportArgs, done: &Exported) -> String {
    let Some(at) = done.nothing_after.map(moment::to_text) else {
        return "WARNING: nobody cosigned these logs: nothing shows until when they say anything"
            .to_owned();
    };
    let to = moment::to_text(args.to.as_millis());
    format!(
        "WARNING: THE PERIOD IS NOT WHOLE: the logs say nothing after {at}, and it ends at {to}; export it again once the logs, or a copy that is newer, go on until then"
    )
}

fn text_of(args: &ExportArgs, done: &Exported) -> String {
    let out = args.out.display();
    let mut text = format!("{out}: evidence of {}:\n", counted(done.logs, "log"));
    for (name, count) in done.counts.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "  {name}: {count}");
    }
    let none = done.counts.iter().filter(|(_, count)| *count == 0);
    let none: Vec<&str> = none.map(|(name, _)| *name).collect();
    if !none.is_empty() {
        let _ = writeln!(text, "  none of: {}", none.join(", "));
    }
    let _ = writeln!(text, "proofs of single entries: {}", done.proofs);
    if done.unproved > 0 {
        let _ = writeln!(
            text,
            "  {} more entries come without one of their own",
            done.unproved
        );
    }
    let _ = write!(
        text,
        "to check it, with nothing but Python: python3 -I -S {out}/verify.py"
    );
    text
}

//! `audit open`, and what it printed beside a proof.

use std::path::Path;

use portcullis_audit::Event;
use portcullis_audit::personal::{Opening, commitment};

use super::read;
use crate::api::types::AuditOpeningsReply;
use crate::cli::ask::Node;
use crate::cli::audit_args::OpenArgs;
use crate::cli::exit::Exit;
use crate::ledger::limits::OPENINGS_BYTES;

/// Prints what opens an entry's commitments, a line each.
pub(in crate::cli) async fn open(args: OpenArgs) -> Exit {
    let node = Node::of(&args.node);
    let target = format!("/v1/audit/openings?log={}&entry={}", args.log, args.index);
    match node.get::<AuditOpeningsReply>(&target).await {
        Ok(said) if said.value.openings.is_empty() && !args.node.json => {
            node.fail(&crate::cli::ask::Failure::Local(
                "nothing opens that entry: it names nobody, or what opened it was erased"
                    .to_owned(),
            ))
        }
        Ok(said) => {
            node.print(&said, |reply| reply.openings.join("\n"));
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// The openings in a file that open commitments of this entry.
pub(super) fn opened(file: &Path, index: u64, entry: &[u8]) -> Result<Vec<Opening>, String> {
    let told = |problem: &str| format!("{}: {problem}", file.display());
    let bytes = read(file, OPENINGS_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| told("it is not UTF-8"))?;
    let event = std::str::from_utf8(entry).ok();
    let event = event.and_then(|line| Event::parse(line).ok());
    let event = event.ok_or_else(|| told("the entry is no event: it has no commitments"))?;
    let mut openings = Vec::new();
    for (number, line) in (1_u64..).zip(text.lines()) {
        let opening = Opening::parse(line)
            .ok_or_else(|| told(&format!("line {number} is none of `audit open`")))?;
        if opening.index != index {
            continue;
        }
        let committed = event.field(&opening.field).and_then(commitment);
        match committed {
            Some(_) if opening.opens(&event) => openings.push(opening),
            Some(_) | None => {
                return Err(told(&format!(
                    "line {number} does not open `{}` of entry {index}: the log committed to something else",
                    opening.field
                )));
            }
        }
    }
    match openings.is_empty() {
        true => Err(told(&format!("nothing in it is of entry {index}"))),
        false => Ok(openings),
    }
}

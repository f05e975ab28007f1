//! `plan`, `apply`, `policy check`, `policy show`.

use std::path::Path;

use serde_json::json;

use super::args::{ApplyArgs, PlanArgs, PolicyCheckArgs, PolicyShowArgs};
use super::ask::{Failure, Node};
use super::exit::Exit;
use super::output::{complain, counted, printable, say};
use super::text::change;
use crate::api::types::{ApplyReply, ErrorBody, PlanReply, PolicyReply, PolicyRequest};
use crate::config::FileError;
use crate::config::policy_files;

/// What applying the directory would change.
pub(super) async fn plan(args: PlanArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = match request(&args.directory, args.prune, true) {
        Ok(request) => node.post::<_, PlanReply>("/v1/plan", &request).await,
        Err(failure) => Err(failure),
    };
    match said {
        Ok(said) => {
            node.print(&said, change::plan);
            if args.detailed_exit_code && said.value.changed {
                Exit::Differences
            } else {
                Exit::Done
            }
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Puts the directory into force.
pub(super) async fn apply(args: ApplyArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = match request(&args.directory, args.prune, args.receipt) {
        Ok(request) => node.post::<_, ApplyReply>("/v1/apply", &request).await,
        Err(failure) => Err(failure),
    };
    match said {
        Ok(said) => {
            let detail = if args.receipt {
                change::Detail::Receipt
            } else {
                change::Detail::Summary
            };
            node.print(&said, |reply| change::applied(reply, detail));
            let reply = &said.value;
            let silent = reply.nodes_in_force < reply.nodes;
            let unfinished = args.receipt && (reply.enforcement.unfinished > 0 || silent);
            if unfinished {
                Exit::Unfinished
            } else {
                Exit::Done
            }
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Reads a directory without a node.
pub(super) fn check(args: &PolicyCheckArgs) -> Exit {
    let parsed =
        policy_files::collect(&args.directory).and_then(|files| policy_files::parse(&files));
    match parsed {
        Ok(tenants) if args.json => {
            let tenants: Vec<String> = tenants.iter().map(|tenant| tenant.id.to_string()).collect();
            say(&json!({ "valid": true, "tenants": tenants }).to_string());
            Exit::Done
        }
        Ok(tenants) => {
            let endpoints: usize = tenants.iter().map(|tenant| tenant.endpoints.len()).sum();
            say(&format!(
                "valid: {}, {}",
                counted(tenants.len(), "tenant"),
                counted(endpoints, "endpoint")
            ));
            Exit::Done
        }
        Err(errors) if args.json => {
            say(&json!({ "valid": false, "files": errors }).to_string());
            Exit::Refused
        }
        Err(errors) => {
            for error in &errors {
                complain(&printable(&format!("error: {error}")));
            }
            complain(&format!("refused: {}", counted(errors.len(), "mistake")));
            Exit::Refused
        }
    }
}

/// Prints the document in force.
pub(super) async fn show(args: PolicyShowArgs) -> Exit {
    let node = Node::of(&args.node);
    match node
        .get::<PolicyReply>(&format!("/v1/policy/{}", args.tenant))
        .await
    {
        Ok(said) => {
            node.print(&said, |reply| {
                serde_json::to_string_pretty(&reply.document).unwrap_or_default()
            });
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// The directory as it travels. The node reads it, so that a refusal is on its record too.
fn request(directory: &Path, prune: bool, receipt: bool) -> Result<PolicyRequest, Failure> {
    let files = policy_files::collect(directory).map_err(refused)?;
    Ok(PolicyRequest {
        files: files.files,
        prune,
        receipt,
        request: None,
    })
}

fn refused(files: Vec<FileError>) -> Failure {
    let error = ErrorBody {
        code: "policy_invalid".to_owned(),
        message: format!(
            "the policy files are refused: {}",
            counted(files.len(), "mistake")
        ),
        next: Some("correct the places named above; nothing was changed".to_owned()),
        files,
    };
    Failure::Refused { status: 422, error }
}

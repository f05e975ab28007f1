//! `plan`, `apply`, `policy check`, `policy show`, `policy put`.

use std::path::Path;

use portcullis_policy::RequestId;
use serde_json::json;

use super::args::{ApplyArgs, PlanArgs, PolicyCheckArgs, PolicyShowArgs};
use super::ask::{Failure, Node, Said};
use super::exit::Exit;
use super::operator_args::PolicyPutArgs;
use super::output::{complain, counted, printable, say};
use super::text::{change, people};
use crate::api::types::{
    ApplyReply, ErrorBody, PlanReply, PolicyReply, PolicyRequest, TenantRequest,
};
use crate::config::FileError;
use crate::config::policy_files;
use crate::runtime::random;

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
        Ok(request) => node.post_once::<_, ApplyReply>("/v1/apply", &request).await,
        Err(failure) => Err(failure),
    };
    applied(&node, said, args.receipt)
}

/// Puts one tenant's file into force.
pub(super) async fn put(args: PolicyPutArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = match one_tenant(&node, &args).await {
        Ok(request) => {
            let target = format!("/v1/tenants/{}", args.tenant);
            node.post_once::<_, ApplyReply>(&target, &request).await
        }
        Err(failure) => Err(failure),
    };
    applied(&node, said, false)
}

async fn one_tenant(node: &Node, args: &PolicyPutArgs) -> Result<TenantRequest, Failure> {
    let file = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::Local(format!("{}: {error}", args.file.display())))?;
    let expected = match args.expected {
        Some(expected) => Some(expected),
        None => match node
            .get::<PolicyReply>(&format!("/v1/policy/{}", args.tenant))
            .await
        {
            Ok(said) => Some(said.value.document_revision),
            Err(Failure::Refused { status: 404, .. }) => None,
            Err(failure) => return Err(failure),
        },
    };
    Ok(TenantRequest {
        file,
        expected,
        request: Some(request_id()),
    })
}

/// Prints what became of a change.
pub(super) fn applied(node: &Node, said: Result<Said<ApplyReply>, Failure>, receipt: bool) -> Exit {
    match said {
        Ok(said) => {
            let detail = if receipt {
                change::Detail::Receipt
            } else {
                change::Detail::Summary
            };
            node.print(&said, |reply| match &reply.pending {
                Some(pending) => people::waits(pending),
                None => change::applied(reply, detail),
            });
            let reply = &said.value;
            let silent = reply.nodes_in_force < reply.nodes;
            if reply.pending.is_some() {
                Exit::Waiting
            } else if receipt && (reply.enforcement.unfinished > 0 || silent) {
                Exit::Unfinished
            } else {
                Exit::Done
            }
        }
        Err(failure) => node.fail(&failure),
    }
}

/// A number of its own for a request.
pub(super) fn request_id() -> String {
    RequestId::new(random::bytes()).to_string()
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
        request: Some(request_id()),
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

//! `audit trust`.

use portcullis_audit::tlog::TrustPolicy;

use crate::api::types::AuditTrustReply;
use crate::cli::ask::{Failure, Node, Said};
use crate::cli::audit_args::TrustArgs;
use crate::cli::exit::Exit;

/// Prints whose signatures make the logs believed, as a node of the fleet has it.
pub(in crate::cli) async fn trust(args: TrustArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = node.get::<AuditTrustReply>("/v1/audit/trust").await;
    match said.and_then(|said| narrowed(said, &args)) {
        Ok(said) => {
            node.print(&said, |reply| reply.policy.trim_end().to_owned());
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// For one tenant's log, whose name a stranger's tool wants beside the key.
fn narrowed(
    said: Said<AuditTrustReply>,
    args: &TrustArgs,
) -> Result<Said<AuditTrustReply>, Failure> {
    let Some(tenant) = &args.tenant else {
        return Ok(said);
    };
    let foreign = |error: &dyn std::fmt::Display| Failure::Foreign(error.to_string());
    let policy = TrustPolicy::parse(&said.value.policy).map_err(|error| foreign(&error))?;
    let above = policy.logs().first().map(|log| log.name().to_owned());
    let origin = format!("{}/tenants/{tenant}", above.unwrap_or_default());
    let policy = policy.for_log(&origin);
    let policy = policy.ok_or_else(|| foreign(&"it names no log"))?;
    let value = AuditTrustReply {
        policy: policy.to_string(),
    };
    let raw = serde_json::to_string(&value).map_err(|error| foreign(&error))?;
    Ok(Said { value, raw })
}

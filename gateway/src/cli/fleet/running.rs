//! What a running control node is asked about its fleet.

use crate::api::fleet_types::{
    FleetChangeReply, FleetReply, InviteReply, InviteRequest, RemoveRequest,
};
use crate::cli::ask::{Failure, Node};
use crate::cli::exit::Exit;
use crate::cli::fleet_args::{BackupArgs, FleetStatusArgs, InviteArgs, RemoveArgs, StepDownArgs};
use crate::cli::text::fleet as text;
use crate::fleet::home::write_private;
use portcullis_consensus::from_backup;

/// Every node.
pub(in crate::cli) async fn status(args: FleetStatusArgs) -> Exit {
    let node = Node::of(&args.node);
    match node.get::<FleetReply>("/v1/fleet").await {
        Ok(said) => {
            node.print(&said, text::status);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// A token for one more node. It alone goes to stdout, so that it can be piped.
pub(in crate::cli) async fn invite(args: InviteArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = InviteRequest {
        name: args.name,
        roles: args.roles,
        minutes: args.minutes,
    };
    match node
        .post::<_, InviteReply>("/v1/fleet/invite", &request)
        .await
    {
        Ok(said) => {
            node.print(&said, |reply| reply.token.clone());
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// All that is in force, into a file.
pub(in crate::cli) async fn backup(args: BackupArgs) -> Exit {
    let node = Node::of(&args.node);
    let bytes = match node.get_octets("/v1/backup").await {
        Ok(bytes) => bytes,
        Err(failure) => return node.fail(&failure),
    };
    let written = from_backup(&bytes)
        .map_err(|error| format!("what the node sent is no back-up: {error}"))
        .and_then(|state| {
            write_private(&args.file, &bytes).map_err(|error| error.to_string())?;
            Ok(state)
        });
    match written {
        Ok(state) => {
            let (file, revision) = (args.file.display(), state.revision());
            let tenants = state.view().tenants().count();
            node.tell(
                &serde_json::json!({ "file": file.to_string(), "revision": revision.get(), "tenants": tenants, "bytes": bytes.len() }),
                &format!("{file}: revision {revision}, {tenants} tenants, {} bytes", bytes.len()),
            );
            Exit::Done
        }
        Err(problem) => node.fail(&Failure::Local(problem)),
    }
}

/// A node less.
pub(in crate::cli) async fn remove(args: RemoveArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = RemoveRequest { name: args.name };
    match node
        .post::<_, FleetChangeReply>("/v1/fleet/remove", &request)
        .await
    {
        Ok(said) => {
            node.print(&said, text::removed);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Another leader.
pub(in crate::cli) async fn step_down(args: StepDownArgs) -> Exit {
    let node = Node::of(&args.node);
    match node.post::<_, FleetReply>("/v1/fleet/step-down", &()).await {
        Ok(said) => {
            node.print(&said, text::status);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

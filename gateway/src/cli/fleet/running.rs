//! What a running control node is asked about its fleet.

use crate::api::fleet_types::{
    FleetChangeReply, FleetReply, InviteReply, InviteRequest, RemoveRequest,
};
use crate::cli::ask::Node;
use crate::cli::exit::Exit;
use crate::cli::fleet_args::{FleetStatusArgs, InviteArgs, RemoveArgs, StepDownArgs};
use crate::cli::text::fleet as text;

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

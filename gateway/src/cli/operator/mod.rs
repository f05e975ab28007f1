//! The commands about the people who command the fleet, and about what needs two of them.

pub(super) mod identity;

use std::path::Path;

use super::ask::{Failure, Node, Said};
use super::exit::Exit;
use super::operator_args::{
    ApproveArgs, GuardRailsSetArgs, GuardRailsShowArgs, OperatorAddArgs, OperatorListArgs,
    OperatorRemoveArgs, PendingArgs, People, RejectArgs,
};
use super::policy;
use super::text::people as text;
use crate::api::operator_types::{
    ApproveRequest, ChangedReply, OperatorRequest, OperatorsReply, PendingReply, Rails,
    RejectRequest, RemoveOperatorRequest,
};
use crate::api::types::ApplyReply;

/// Makes an operator, or another certificate for one.
pub(super) async fn add(args: OperatorAddArgs) -> Exit {
    let node = Node::of(&args.node);
    match added(&node, &args).await {
        Ok(said) => {
            node.print(&said, |reply| {
                text::added(&args.name, reply, args.out.as_deref())
            });
            waiting_or_done(&said.value)
        }
        Err(failure) => node.fail(&failure),
    }
}

async fn added(node: &Node, args: &OperatorAddArgs) -> Result<Said<ChangedReply>, Failure> {
    let certificate_request = match (&args.out, &args.request) {
        (Some(directory), _) => Some(identity::request(directory).map_err(Failure::Local)?),
        (None, Some(file)) => Some(read(file).map_err(Failure::Local)?),
        (None, None) => None,
    };
    let request = OperatorRequest {
        name: args.name.clone(),
        roles: args.roles.clone(),
        tenants: args.tenants.iter().map(ToString::to_string).collect(),
        certificate_request,
    };
    let said: Said<ChangedReply> = node.post("/v1/operators", &request).await?;
    if let (Some(directory), Some(chain), Some(authority)) =
        (&args.out, &said.value.certificate, &said.value.authority)
    {
        identity::keep(directory, chain, authority).map_err(Failure::Local)?;
    }
    Ok(said)
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Everybody.
pub(super) async fn list(args: OperatorListArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = node.get::<OperatorsReply>("/v1/operators").await;
    printed(&node, said, text::operators)
}

/// An operator less.
pub(super) async fn remove(args: OperatorRemoveArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = RemoveOperatorRequest { name: args.name };
    let said = node.post("/v1/operators/remove", &request).await;
    changed(&node, said)
}

/// What waits.
pub(super) async fn pending(args: PendingArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = node.get::<PendingReply>("/v1/pending").await;
    printed(&node, said, text::pending)
}

/// A second person agrees.
pub(super) async fn approve(args: ApproveArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = ApproveRequest {
        id: args.id,
        digest: args.digest,
    };
    let said = node.post::<_, ApplyReply>("/v1/approve", &request).await;
    policy::applied(&node, said, true)
}

/// A change less.
pub(super) async fn reject(args: RejectArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = node
        .post("/v1/reject", &RejectRequest { id: args.id })
        .await;
    changed(&node, said)
}

/// What needs two people.
pub(super) async fn show_rails(args: GuardRailsShowArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = node.get::<Rails>("/v1/guard-rails").await;
    printed(&node, said, text::rails)
}

/// What needs two people from now on.
pub(super) async fn set_rails(args: GuardRailsSetArgs) -> Exit {
    let node = Node::of(&args.node);
    let before = match node.get::<Rails>("/v1/guard-rails").await {
        Ok(said) => said.value,
        Err(failure) => return node.fail(&failure),
    };
    let said = |asked: Option<People>, before| asked.map_or(before, |it| it == People::Two);
    let rails = Rails {
        anywhere: said(args.anywhere, before.anywhere),
        operators: said(args.operators, before.operators),
        guard_rails: said(args.guard_rails, before.guard_rails),
    };
    let said = node.post("/v1/guard-rails", &rails).await;
    changed(&node, said)
}

/// Prints what became of a change.
pub(super) fn changed(node: &Node, said: Result<Said<ChangedReply>, Failure>) -> Exit {
    match said {
        Ok(said) => {
            node.print(&said, text::changed);
            waiting_or_done(&said.value)
        }
        Err(failure) => node.fail(&failure),
    }
}

fn waiting_or_done(reply: &ChangedReply) -> Exit {
    if reply.pending.is_some() {
        Exit::Waiting
    } else {
        Exit::Done
    }
}

fn printed<T>(
    node: &Node,
    said: Result<Said<T>, Failure>,
    human: impl FnOnce(&T) -> String,
) -> Exit {
    match said {
        Ok(said) => {
            node.print(&said, human);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

//! Who commands the fleet, and what waits for a second person.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::JoinRequest;
use portcullis_policy::{
    Command, Digest, KeyHash, OperatorId, Pending, PendingId, People, Role, TenantId,
};
use serde_json::Value;

use super::operator_types::{
    ApproveRequest, ChangedReply, OperatorReply, OperatorRequest, OperatorsReply, PendingChange,
    PendingReply, Rails, RejectRequest, RemoveOperatorRequest, Waiting,
};
use super::policy::{self, Patience, Proposal, Wanted};
use super::types::ApplyReply;
use super::{Node, Refusal, Who, describe, fleet};
use crate::fleet::Written;
use crate::runtime::clock;

/// Everybody.
pub(super) fn list(node: &Node) -> OperatorsReply {
    let all = node.fleet.operators().into_iter();
    OperatorsReply {
        operators: all.map(|(id, roles)| told(&id, &roles)).collect(),
    }
}

fn told(id: &OperatorId, roles: &[Role]) -> OperatorReply {
    let mut tenants = BTreeSet::new();
    let names = roles.iter().map(|role| match role {
        Role::FleetOperator => FLEET_OPERATOR,
        Role::PolicyAuthor => POLICY_AUTHOR,
        Role::TenantOperator(own) => {
            tenants.extend(own.iter().map(ToString::to_string));
            TENANT_OPERATOR
        }
        Role::Auditor => AUDITOR,
        Role::Reader => READER,
    });
    OperatorReply {
        name: id.to_string(),
        roles: names.map(str::to_owned).collect(),
        tenants: tenants.into_iter().collect(),
    }
}

const FLEET_OPERATOR: &str = "fleet-operator";
const POLICY_AUTHOR: &str = "policy-author";
const TENANT_OPERATOR: &str = "tenant-operator";
const AUDITOR: &str = "auditor";
const READER: &str = "reader";

/// Makes an operator, or changes what one may do; with a request, also a certificate.
pub(super) async fn put(
    node: &Arc<Node>,
    who: &Who,
    asked: &OperatorRequest,
) -> Result<ChangedReply, Refusal> {
    let operator = name(&asked.name)?;
    let roles = roles(asked)?;
    let request = match &asked.certificate_request {
        None => None,
        Some(pem) => Some(
            JoinRequest::from_pem(pem)
                .map_err(|error| Refusal::malformed("certificate_request", &error))?,
        ),
    };
    // Whoever has an operator's certificate is that operator. Where it takes two people to make one,
    // nobody gets another one's over the network, alone.
    let two = node
        .fleet
        .guard_rails()
        .is_some_and(|rails| rails.operators == People::TwoPeople);
    if request.is_some() && two && !who.is_local() {
        return Err(Refusal::new(
            403,
            "issued_locally",
            "where operators take two people, certificates are issued on a control node only",
        )
        .next("run `portcullis operator add` on a control node, without --node"));
    }
    let command = Command::PutOperator {
        operator: operator.clone(),
        roles,
    };
    let written = write(node, who, command).await?;
    let mut reply = changed(&written);
    record(node, kinds::OPERATOR_ADDED, who, &reply, |event| {
        event
            .with("name", operator.as_str())
            .with("roles", asked.roles.join(","))
            .with("tenants", asked.tenants.join(","))
            .with("certificate", request.is_some())
    })
    .await;
    if let Some(request) = request.filter(|_| reply.pending.is_none()) {
        let key = KeyHash::new(request.key().hash());
        // Had before it is bound: a vault that is sealed must not cost the certificate of before.
        let issued = node
            .fleet
            .issue_operator(&operator, &request)
            .map_err(|error| fleet::not_written(&error))?;
        let bound = node.fleet.bind_operator(who.author(), &operator, key).await;
        let bound = bound.map_err(|error| fleet::not_written(&error))?;
        reply.revision = bound.revision.get();
        let event = event(node, kinds::OPERATOR_BOUND, who)
            .with("name", operator.as_str())
            .with("key", key.to_string());
        durable(node, event).await;
        reply.certificate = Some(issued.chain);
        reply.authority = Some(issued.authority);
        reply.until = Some(issued.until.to_string());
    }
    Ok(reply)
}

/// An operator less.
pub(super) async fn remove(
    node: &Arc<Node>,
    who: &Who,
    asked: &RemoveOperatorRequest,
) -> Result<ChangedReply, Refusal> {
    let operator = name(&asked.name)?;
    if node.fleet.roles_of(&operator).is_none() {
        return Err(Refusal::new(
            404,
            "no_such_operator",
            format!("there is no operator {operator}"),
        )
        .next("`portcullis operator list` shows who there is"));
    }
    let command = Command::RemoveOperator {
        operator: operator.clone(),
    };
    let reply = changed(&write(node, who, command).await?);
    record(node, kinds::OPERATOR_REMOVED, who, &reply, |event| {
        event.with("name", operator.as_str())
    })
    .await;
    Ok(reply)
}

/// What waits.
pub(super) async fn pending(node: &Arc<Node>) -> Result<PendingReply, Refusal> {
    let node = Arc::clone(node);
    policy::in_background(move || {
        let mut waiting = node.fleet.pending();
        waiting.sort_by_key(|one| one.id);
        let pending = waiting.iter().map(|one| looked_at(&node, one)).collect();
        Ok(PendingReply { pending })
    })
    .await
}

fn looked_at(node: &Node, one: &Pending) -> Waiting {
    let rehearsed = node
        .fleet
        .rehearse_as(one.author.clone(), one.command.clone(), clock::now());
    let before = node.fleet.view();
    let (difference, refused) = match rehearsed {
        Ok(it) => {
            let difference = describe::difference(&before, &it.view, &it.applied, &[]);
            (Some(difference), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let command = serde_json::to_value(&one.command).unwrap_or(Value::Null);
    Waiting {
        change: PendingChange {
            id: one.id.get(),
            digest: one.digest.to_string(),
            expires: one.expires.to_string(),
        },
        author: one.author.name.clone(),
        kind: kind(&one.command).to_owned(),
        command,
        difference,
        refused,
    }
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Apply { .. } => "apply",
        Command::PutOperator { .. } => "put-operator",
        Command::RemoveOperator { .. } => "remove-operator",
        Command::SetGuardRails { .. } => "set-guard-rails",
        Command::SetKeeping { .. } => "set-keeping",
        // Nothing else can wait.
        Command::Found { .. }
        | Command::Invite { .. }
        | Command::Withdraw { .. }
        | Command::Admit { .. }
        | Command::Remove { .. }
        | Command::Report { .. }
        | Command::Stage { .. }
        | Command::Commit { .. }
        | Command::Discard { .. }
        | Command::Revoke { .. }
        | Command::Unrevoke { .. }
        | Command::Recover { .. }
        | Command::Succession { .. }
        | Command::BindOperator { .. }
        | Command::Approve { .. }
        | Command::Reject { .. }
        | Command::Seal
        | Command::Authority { .. }
        | Command::Record { .. } => "other",
    }
}

/// A second person agrees: it is done as if the first one could have done it alone.
pub(super) async fn approve(
    node: &Arc<Node>,
    who: &Who,
    asked: &ApproveRequest,
) -> Result<ApplyReply, Refusal> {
    let digest: Digest = asked
        .digest
        .parse()
        .map_err(|error| Refusal::malformed("digest", &error))?;
    let pending = PendingId::new(asked.id);
    let by = node
        .fleet
        .pending_change(pending)
        .map(|one| one.author.name);
    let reply = policy::apply(
        node,
        Proposal {
            wanted: Wanted::Approval { pending, digest },
            who: who.clone(),
            request: None,
            patience: Patience::Receipt,
        },
    )
    .await?;
    let event = event(node, kinds::CHANGE_APPROVED, who)
        .with("pending", asked.id)
        .with("digest", asked.digest.as_str())
        .with("proposed_by", by.unwrap_or_default());
    durable(node, event).await;
    Ok(reply)
}

/// A change that waited is dropped.
pub(super) async fn reject(
    node: &Arc<Node>,
    who: &Who,
    asked: &RejectRequest,
) -> Result<ChangedReply, Refusal> {
    let command = Command::Reject {
        pending: PendingId::new(asked.id),
    };
    let reply = changed(&write(node, who, command).await?);
    let event = event(node, kinds::CHANGE_REJECTED, who).with("pending", asked.id);
    durable(node, event).await;
    Ok(reply)
}

/// What needs two people.
pub(super) fn guard_rails(node: &Node) -> Result<Rails, Refusal> {
    node.fleet.guard_rails().map(Rails::from).ok_or_else(|| {
        Refusal::new(
            409,
            "no_fleet",
            "this node is by itself: there are no guard rails",
        )
        .next("`portcullis init` founds a fleet")
    })
}

/// What needs two people from now on.
pub(super) async fn set_guard_rails(
    node: &Arc<Node>,
    who: &Who,
    asked: Rails,
) -> Result<ChangedReply, Refusal> {
    let command = Command::SetGuardRails {
        guard_rails: asked.into(),
    };
    let reply = changed(&write(node, who, command).await?);
    record(node, kinds::GUARD_RAILS_SET, who, &reply, |event| {
        event
            .with("anywhere", asked.anywhere)
            .with("operators", asked.operators)
            .with("guard_rails", asked.guard_rails)
    })
    .await;
    Ok(reply)
}

pub(super) async fn write(
    node: &Arc<Node>,
    who: &Who,
    command: Command,
) -> Result<Written, Refusal> {
    node.fleet
        .write(None, who.author(), command)
        .await
        .map_err(|error| fleet::not_written(&error))
}

pub(super) fn changed(written: &Written) -> ChangedReply {
    ChangedReply {
        revision: written.revision.get(),
        pending: PendingChange::of(&written.told),
        certificate: None,
        authority: None,
        until: None,
    }
}

fn name(text: &str) -> Result<OperatorId, Refusal> {
    text.parse()
        .map_err(|error| Refusal::malformed("name", &error))
}

fn roles(asked: &OperatorRequest) -> Result<Vec<Role>, Refusal> {
    let mut tenants = BTreeSet::new();
    for text in &asked.tenants {
        let tenant: TenantId = text
            .parse()
            .map_err(|error| Refusal::malformed("tenants", &error))?;
        tenants.insert(tenant);
    }
    let mut roles = BTreeSet::new();
    for text in &asked.roles {
        roles.insert(match text.as_str() {
            FLEET_OPERATOR => Role::FleetOperator,
            POLICY_AUTHOR => Role::PolicyAuthor,
            TENANT_OPERATOR => Role::TenantOperator(tenants.clone()),
            AUDITOR => Role::Auditor,
            READER => Role::Reader,
            _ => {
                return Err(Refusal::new(
                    400,
                    "malformed",
                    "roles: write fleet-operator, policy-author, tenant-operator, auditor or reader",
                ));
            }
        });
    }
    let of_tenants = asked.roles.iter().any(|role| role == TENANT_OPERATOR);
    if of_tenants == tenants.is_empty() {
        return Err(Refusal::new(
            400,
            "malformed",
            "tenants: named for the role tenant-operator, and only for it",
        ));
    }
    Ok(roles.into_iter().collect())
}

/// Evidence of a change, or of its wait for a second person.
pub(super) async fn record(
    node: &Node,
    kind: &'static str,
    who: &Who,
    reply: &ChangedReply,
    more: impl FnOnce(Event) -> Event,
) {
    match &reply.pending {
        Some(pending) => record_waiting(node, who.name(), kind, pending).await,
        None => {
            let mut event = more(event(node, kind, who));
            event.revision = Some(reply.revision);
            durable(node, event).await;
        }
    }
}

/// Evidence that a change waits for a second person.
pub(super) async fn record_waiting(node: &Node, by: &str, what: &str, pending: &PendingChange) {
    let now = clock::now().as_millis();
    let event = Event::new(now, kinds::CHANGE_WAITING, &*node.name)
        .with("by", by)
        .with("what", what)
        .with("pending", pending.id)
        .with("digest", pending.digest.as_str());
    durable(node, event).await;
}

fn event(node: &Node, kind: &'static str, who: &Who) -> Event {
    Event::new(clock::now().as_millis(), kind, &*node.name).with("by", who.name())
}

async fn durable(node: &Node, event: Event) {
    if let Err(error) = node.ledger.record_durable(event).await {
        tracing::error!(%error, "the audit event of a command could not be made durable");
    }
}

//! What is asked about the fleet, and how it is changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_audit::{Event, kinds, moment};
use portcullis_consensus::to_backup;
use portcullis_policy::{Author, NodeName, NodeRole};

use super::fleet_types::{
    FleetChangeReply, FleetNode, FleetReply, InviteReply, InviteRequest, RemoveRequest,
};
use super::{Node, Refusal};
use crate::fleet::{Known, WriteError};
use crate::http::limits::MAX_ADMIN_REPLY;
use crate::runtime::clock::{self, Duration};

/// Minutes for which a token may be good: a day.
const MAX_INVITE_MINUTES: u32 = 24 * 60;

/// Every node, as this one knows it.
pub(super) fn status(node: &Node) -> FleetReply {
    let fleet = &node.fleet;
    let standing = fleet.standing();
    FleetReply {
        node: node.name.clone(),
        fleet: standing.fleet.map(|fleet| fleet.to_string()),
        epoch: standing.epoch,
        fenced: standing.fenced,
        revision: node.front.view().revision().get(),
        leader: standing.leader.map(|leader| leader.to_string()),
        quorum: standing.lease.is_some(),
        lease_ms: standing.lease.map_or(0, milliseconds),
        problems: fleet.problems(),
        nodes: standing.nodes.iter().map(node_reply).collect(),
    }
}

fn node_reply(known: &Known) -> FleetNode {
    let report = known.heard.as_ref().map(|heard| &heard.report);
    FleetNode {
        id: known.node.id.get(),
        name: known.node.name.to_string(),
        roles: known.node.roles.iter().map(ToString::to_string).collect(),
        address: known.node.address.clone(),
        consensus: known.part.to_owned(),
        state: known.state.map(str::to_owned),
        revision: report.map(|report| report.through.get()),
        connections: report.map(|report| report.connections),
        heard_ms: known.heard.as_ref().map(|heard| milliseconds(heard.ago)),
        stale: report.map(|report| report.stale),
        stale_limit: report.map(|report| report.stale_limit),
        version: report.map(|report| report.version.clone()),
        level: known.node.level,
        clock_skew_ms: known.clock_skew_ms,
    }
}

/// A token for one more node.
pub(super) async fn invite(
    node: &Arc<Node>,
    author: Author,
    asked: &InviteRequest,
) -> Result<InviteReply, Refusal> {
    let name: NodeName = asked
        .name
        .parse()
        .map_err(|error| Refusal::malformed("name", &error))?;
    let mut roles = BTreeSet::new();
    for role in &asked.roles {
        let role: NodeRole = role
            .parse()
            .map_err(|error| Refusal::malformed("roles", &error))?;
        roles.insert(role);
    }
    if asked.minutes == 0 || asked.minutes > MAX_INVITE_MINUTES {
        return Err(Refusal::new(
            400,
            "malformed",
            format!("minutes: a token is good for 1 to {MAX_INVITE_MINUTES}"),
        ));
    }
    let lasting = Duration::from_secs(u64::from(asked.minutes) * 60);
    let by = author.name.clone();
    let (token, expires) = node
        .fleet
        .invite(author, name, roles, lasting)
        .await
        .map_err(|error| not_written(&error))?;
    record(node, kinds::FLEET_INVITED, &by, &asked.name).await;
    Ok(InviteReply {
        token: token.to_text().to_string(),
        name: asked.name.clone(),
        expires: moment::to_text(expires.as_millis()),
    })
}

/// A node less.
pub(super) async fn remove(
    node: &Arc<Node>,
    author: Author,
    asked: &RemoveRequest,
) -> Result<FleetChangeReply, Refusal> {
    let name: NodeName = asked
        .name
        .parse()
        .map_err(|error| Refusal::malformed("name", &error))?;
    let by = author.name.clone();
    let (id, written) = node
        .fleet
        .remove(author, &name)
        .await
        .map_err(|error| not_written(&error))?;
    record(node, kinds::FLEET_REMOVED, &by, &asked.name).await;
    Ok(FleetChangeReply {
        revision: written.revision.get(),
        name: asked.name.clone(),
        id: id.get(),
    })
}

/// The whole state as a file.
pub(super) async fn backup(node: &Arc<Node>) -> Result<Vec<u8>, Refusal> {
    let state = node.fleet.state().ok_or_else(|| {
        Refusal::new(409, "not_control", "this node holds no state").next("ask a control node")
    })?;
    let made = tokio::task::spawn_blocking(move || to_backup(&state)).await;
    let bytes = made
        .map_err(|error| Refusal::new(500, "internal", error.to_string()))?
        .map_err(|error| Refusal::new(500, "internal", error.to_string()))?;
    if bytes.len() > MAX_ADMIN_REPLY {
        let problem = format!("the back-up has more than {MAX_ADMIN_REPLY} bytes");
        return Err(Refusal::new(500, "too_large", problem));
    }
    Ok(bytes)
}

/// Another leader, where this node leads.
pub(super) async fn step_down(node: &Arc<Node>) -> Result<FleetReply, Refusal> {
    node.fleet
        .step_down()
        .await
        .map_err(|problem| Refusal::new(409, "not_leading", problem))?;
    Ok(status(node))
}

async fn record(node: &Node, kind: &'static str, by: &str, name: &str) {
    let event = Event::new(clock::now().as_millis(), kind, &*node.name)
        .with("by", by)
        .with("name", name);
    if let Err(error) = node.ledger.record_durable(event).await {
        tracing::error!(%error, "the audit event of a change of the fleet could not be made durable");
    }
}

/// The code of a command that may have been executed: nobody said.
pub(super) const UNKNOWN_OUTCOME: &str = "unknown_outcome";

/// Why a command was not executed, as whoever gave it is told.
pub(super) fn not_written(error: &WriteError) -> Refusal {
    match error {
        WriteError::Rejected { code, message, status } => {
            Refusal::new(*status, code, message.clone())
        }
        WriteError::NoQuorum => Refusal::new(
            503,
            "no_quorum",
            "no quorum of control nodes answers: nothing can be changed; customers are served as before",
        )
        .next("`portcullis fleet status` on each control node; `portcullis recover` when a majority is lost for good"),
        WriteError::Unknown => Refusal::new(
            504,
            UNKNOWN_OUTCOME,
            "nobody confirmed the change in time: it may have been made",
        )
        .next("repeat it: what was made already is not made twice"),
        WriteError::NotControl => Refusal::new(
            421,
            "not_a_control_node",
            "this node only carries traffic: commands go to a control node",
        )
        .next("run this on a control node; `portcullis fleet status` names them"),
        WriteError::Fenced(why) => fenced(why.clone()),
        WriteError::Joining => Refusal::new(
            503,
            "joining",
            "this node has joined and was not given the fleet's state yet",
        )
        .next("ask again in a moment, or another control node; where that does not end, `portcullis fleet status` on both"),
        WriteError::Storage(problem) => Refusal::new(500, "not_durable", problem.clone())
            .next("make room on the disk under `data` in node.toml; `portcullis fleet status` on this node says whether it takes part again by itself"),
    }
}

/// What a node answers that has no part in deciding any more.
pub(super) fn fenced(why: String) -> Refusal {
    Refusal::new(503, "fenced", why).next("ask another control node; stop this one, empty its data directory and join it anew: `portcullis fleet status` on it says more")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! What can be asked and changes nothing: explain, reach, connections, why, status, policy.
//!
//! A tenant whom somebody may not look at is answered like one that does not exist.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use portcullis_audit::moment;
use portcullis_policy::{
    Action, Address, Attempt, Decision, EndpointId, Origin, Purpose, Reference, TenantId,
    Timestamp, explain as decide_aloud, reach as reach_of,
};
use serde_json::Value;

use super::describe::addresses;
use super::limits::{MAX_NAME, MAX_PREFIXES};
use super::types::{
    ConnectionsReply, DoorReach, ExplainReply, ExplainRequest, PolicyReply, ReachReply,
    StatusReply, WhyReply,
};
use super::{Node, Refusal, Who, evidence};
use crate::runtime::clock;

/// Decides an attempt that nobody made, by the very function that decides those that are made.
pub(super) fn explain(
    node: &Node,
    who: &Who,
    asked: &ExplainRequest,
) -> Result<ExplainReply, Refusal> {
    let tenant: TenantId = parse("tenant", &asked.tenant)?;
    let endpoint: EndpointId = parse("endpoint", &asked.endpoint)?;
    let origin: Origin = parse("via", &asked.via)?;
    let address: Address = parse("address", &asked.address)?;
    let at = moment_or_now(asked.at.as_deref())?;
    if [&asked.user, &asked.database]
        .into_iter()
        .any(|name| name.len() > MAX_NAME)
    {
        return Err(Refusal::new(
            400,
            "malformed",
            format!("user or database is longer than {MAX_NAME} bytes"),
        ));
    }
    let view = node.front.view();
    let place = view
        .endpoint(&tenant, &endpoint)
        .filter(|_| who.may(Action::Explain, Some(&tenant)))
        .ok_or_else(|| no_such_endpoint(&tenant, &endpoint))?;
    let attempt = Attempt {
        origin: &origin,
        address,
        server_name: place.endpoint().names.first(),
        user: &asked.user,
        database: &asked.database,
        replication: asked.replication,
        certificate: None,
        purpose: Purpose::Connect,
        // Of another moment nobody knows how old the policy will be.
        unconfirmed: match asked.at {
            None => node.front.unconfirmed(),
            Some(_) => 0,
        },
    };
    let explanation = decide_aloud(&view, &attempt, at);
    let (code, entry, client) = match &explanation.decision {
        Decision::Permitted(permit) => ("permitted", Some(permit.entry().to_string()), None),
        Decision::Denied(denial) => {
            let nobodys = Reference::from_bits(0);
            let told = denial
                .for_client(&nobodys)
                .replace(&nobodys.to_string(), "PC-…");
            (
                denial.code(),
                denial.entry().map(|entry| entry.to_string()),
                Some(told),
            )
        }
    };
    Ok(ExplainReply {
        revision: view.revision().get(),
        permitted: client.is_none(),
        code: code.to_owned(),
        entry,
        narration: explanation
            .story
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect(),
        story: explanation.verdict,
        next: client
            .as_ref()
            .map(|_| format!("portcullis reach {tenant}/{endpoint}")),
        client,
    })
}

/// Who can reach an endpoint, exactly.
pub(super) fn reach(
    node: &Node,
    who: &Who,
    query: &BTreeMap<String, String>,
) -> Result<ReachReply, Refusal> {
    only(query, &["tenant", "endpoint", "at"])?;
    let required = |name: &str| {
        query
            .get(name)
            .ok_or_else(|| Refusal::new(400, "malformed", format!("the query must name {name}=")))
    };
    let tenant: TenantId = parse("tenant", required("tenant")?)?;
    let endpoint: EndpointId = parse("endpoint", required("endpoint")?)?;
    let at = moment_or_now(query.get("at").map(String::as_str))?;
    let view = node.front.view();
    let reach = reach_of(&view, &tenant, &endpoint, at)
        .filter(|_| who.may(Action::Reach, Some(&tenant)))
        .ok_or_else(|| no_such_endpoint(&tenant, &endpoint))?;
    let doors = reach.0.iter().map(|(door, set)| DoorReach {
        door: door.to_string(),
        addresses: addresses(set, MAX_PREFIXES),
    });
    Ok(ReachReply {
        tenant: tenant.to_string(),
        endpoint: endpoint.to_string(),
        revision: view.revision().get(),
        at: at.to_string(),
        doors: doors.collect(),
    })
}

/// Live connections, oldest first.
pub(super) fn connections(
    node: &Node,
    who: &Who,
    query: &BTreeMap<String, String>,
) -> Result<ConnectionsReply, Refusal> {
    only(query, &["tenant"])?;
    let tenant: Option<TenantId> = query
        .get("tenant")
        .map(|tenant| parse("tenant", tenant))
        .transpose()?;
    let mut connections = node.front.connections();
    connections.retain(|one| {
        tenant
            .as_ref()
            .is_none_or(|tenant| one.tenant == tenant.as_str())
            && of_theirs(who, Action::Connections, Some(&one.tenant))
    });
    connections.sort_by(|a, b| (a.since_ms, &a.reference).cmp(&(b.since_ms, &b.reference)));
    Ok(ConnectionsReply {
        node: node.name.clone(),
        connections,
    })
}

/// Everything that evidence says under a reference.
pub(super) async fn why(node: &Node, who: &Who, reference: &str) -> Result<WhyReply, Refusal> {
    let sought: Reference = parse("reference", reference)?;
    let ledger = Arc::clone(&node.ledger);
    let search = tokio::task::spawn_blocking(move || ledger.find(&sought));
    // A cancel request that was passed on left events on two nodes.
    let (searched, elsewhere) = tokio::join!(search, node.fleet.find_elsewhere(sought));
    let events = searched
        .map_err(|error| error.to_string())
        .and_then(|found| found.map_err(|error| error.to_string()));
    let mut events = events.map_err(|error| {
        Refusal::new(
            500,
            "ledger_unreadable",
            format!("the audit events could not be read: {error}"),
        )
        .next("look at the ledger's directory, under `data` in node.toml")
    })?;
    let reference = sought.to_string();
    let live = node
        .front
        .connections()
        .into_iter()
        .find(|one| one.reference == reference)
        .filter(|one| of_theirs(who, Action::Why, Some(&one.tenant)));
    events.extend(elsewhere.events);
    events.sort_by_key(|event| event.at_ms);
    events.retain(|event| of_theirs(who, Action::Why, event.tenant.as_deref()));
    if events.is_empty() && live.is_none() {
        return Err(unknown_reference(&reference, &elsewhere.silent));
    }
    evidence::was_read(node, who, &reference);
    let events = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(&event.line()).ok());
    Ok(WhyReply {
        events: events.collect(),
        reference,
        live,
        silent: elsewhere.silent,
    })
}

fn unknown_reference(reference: &str, silent: &[String]) -> Refusal {
    let nothing = format!("nothing is known under {reference}");
    match silent {
        [] => Refusal::new(404, "unknown_reference", nothing)
            .next("check the reference; old events may have been rotated out"),
        silent => Refusal::new(
            404,
            "unknown_reference",
            format!(
                "{nothing}, but not every node answered: {} did not",
                silent.join(", ")
            ),
        )
        .next("ask again once they are there, or on the machine of one of them"),
    }
}

/// The node itself.
pub(super) fn status(node: &Node) -> StatusReply {
    let view = node.front.view();
    StatusReply {
        node: node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: view.revision().get(),
        tenants: view.tenants().count(),
        endpoints: view.tenants().map(|tenant| tenant.endpoints().len()).sum(),
        connections: node.front.connections().len(),
        since: moment::to_text(node.since.as_millis()),
    }
}

/// The document in force.
pub(super) fn policy(node: &Node, who: &Who, tenant: &str) -> Result<PolicyReply, Refusal> {
    let id: TenantId = parse("tenant", tenant)?;
    let view = node.front.view();
    let tenant = view
        .tenant(&id)
        .filter(|_| who.may(Action::Policy, Some(&id)))
        .ok_or_else(|| Refusal::no_such_tenant(&id))?;
    let document = tenant.document();
    let document = serde_json::to_value(&document).map_err(|error| {
        Refusal::new(
            500,
            "answer_unwritable",
            format!("the document could not be written as JSON: {error}"),
        )
    })?;
    Ok(PolicyReply {
        revision: view.revision().get(),
        document_revision: tenant.revision().get(),
        document,
    })
}

/// Whether they may ask this about something that is of this tenant, or of none that is known.
fn of_theirs(who: &Who, action: Action, tenant: Option<&str>) -> bool {
    let named = tenant.and_then(|tenant| tenant.parse::<TenantId>().ok());
    who.may(action, named.as_ref())
}

fn no_such_endpoint(tenant: &TenantId, endpoint: &EndpointId) -> Refusal {
    Refusal::new(
        404,
        "no_such_endpoint",
        format!("no endpoint {tenant}/{endpoint} is in force"),
    )
    .next("`portcullis plan DIR` shows whether a policy that has it was not applied")
}

/// The moment that is asked about, or now.
fn moment_or_now(text: Option<&str>) -> Result<Timestamp, Refusal> {
    text.map_or_else(|| Ok(clock::now()), |text| parse("at", text))
}

fn parse<T>(what: &str, text: &str) -> Result<T, Refusal>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse()
        .map_err(|error| Refusal::malformed(what, &error))
}

/// A query that names something else was meant otherwise.
pub(super) fn only(query: &BTreeMap<String, String>, known: &[&str]) -> Result<(), Refusal> {
    match query.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            400,
            "malformed",
            format!("the query names {name}, which is not known here"),
        )),
    }
}

//! Attempts, connections and clusters as text: what was decided and why, who is there.

use portcullis_audit::moment;
use serde_json::{Map, Value};

use super::table::table;
use crate::api::types::{ClusterCheckReply, ConnectionsReply, ExplainReply, StatusReply, WhyReply};
use crate::cli::output::counted;
use crate::proxy::LiveConnection;

/// Every check, then the outcome in the operator's and in the client's voice.
pub(in crate::cli) fn explain(reply: &ExplainReply) -> String {
    let mut out = String::new();
    for line in &reply.narration {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(if reply.permitted {
        "PERMITTED\n"
    } else {
        "DENIED\n"
    });
    out.push_str(&format!("  {}\n", reply.story));
    if let Some(client) = &reply.client {
        out.push_str(&format!("  the client is told: {client}\n"));
    }
    if let Some(next) = &reply.next {
        out.push_str(&format!("next: `{next}` shows who may\n"));
    }
    out
}

/// Every event of an attempt, oldest first, with all its facts.
pub(in crate::cli) fn why(reply: &WhyReply) -> String {
    let mut out = format!(
        "{}: {}\n",
        reply.reference,
        counted(reply.events.len(), "event")
    );
    for event in &reply.events {
        if let Value::Object(members) = event {
            out.push('\n');
            one_event(&mut out, members);
        }
    }
    if let Some(live) = &reply.live {
        out.push_str(&format!(
            "\nthe connection is {} now, by {} at revision {}\n",
            live.state, live.entry, live.revision
        ));
    }
    if !reply.silent.is_empty() {
        out.push_str(&format!(
            "\nnot every node answered; there may be more on {}\n",
            reply.silent.join(", ")
        ));
    }
    out
}

/// A headline, the facts in columns, then texts of several lines.
fn one_event(out: &mut String, members: &Map<String, Value>) {
    let word = |name: &str| members.get(name).map(plain).unwrap_or_default();
    out.push_str(&format!("{}  {}", word("at"), word("kind")));
    for (name, prefix) in [
        ("code", " "),
        ("tenant", "  tenant "),
        ("node", "  on "),
        ("revision", "  at revision "),
    ] {
        if members.contains_key(name) {
            out.push_str(&format!("{prefix}{}", word(name)));
        }
    }
    out.push('\n');
    let told = |name: &str| {
        matches!(
            name,
            "at" | "kind" | "code" | "tenant" | "node" | "revision" | "reference" | "story"
        )
    };
    let facts = members
        .iter()
        .filter(|(name, _)| !told(name))
        .map(|(name, value)| (name, plain(value)));
    let (long, short): (Vec<_>, Vec<_>) = facts.partition(|(_, value)| value.contains('\n'));
    let rows: Vec<Vec<String>> = short
        .into_iter()
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    out.push_str(&table(&rows));
    if members.contains_key("story") {
        out.push_str(&format!("  {}\n", word("story").replace('\n', "\n  ")));
    }
    for (name, value) in long {
        out.push_str(&format!(
            "  {name}:\n    {}\n",
            value.trim_end().replace('\n', "\n    ")
        ));
    }
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Live connections, one to a line.
pub(in crate::cli) fn connections(reply: &ConnectionsReply) -> String {
    let count = format!(
        "{} on {}\n",
        counted(reply.connections.len(), "live connection"),
        reply.node
    );
    if reply.connections.is_empty() {
        return count;
    }
    let header = [
        "REFERENCE",
        "ENDPOINT",
        "USER",
        "DATABASE",
        "FROM",
        "DOOR",
        "ENTRY",
        "STATE",
        "SINCE",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(reply.connections.iter().map(row));
    table(&rows) + &count
}

fn row(one: &LiveConnection) -> Vec<String> {
    vec![
        one.reference.clone(),
        format!("{}/{}", one.tenant, one.endpoint),
        one.user.clone(),
        one.database.clone(),
        format!("{} port {}", one.address, one.port),
        one.origin.clone(),
        one.entry.clone(),
        one.state.clone(),
        moment::to_text(one.since_ms),
    ]
}

/// What was looked at in each cluster, and what to do about what is not as it must be.
pub(in crate::cli) fn cluster_check(reply: &ClusterCheckReply) -> String {
    let mut out = String::new();
    for cluster in &reply.clusters {
        out.push_str(&format!("{}/{}\n", reply.tenant, cluster.cluster));
        for step in &cluster.steps {
            out.push_str(&format!(
                "  {:<8} {}: {}\n",
                step.outcome, step.what, step.found
            ));
            for line in step.fix.iter().flat_map(|fix| fix.lines()) {
                out.push_str(&format!("           > {line}\n"));
            }
        }
        out.push_str(match cluster.served {
            true => "this cluster can be served as its policy says\n\n",
            false => "this cluster can NOT be served as its policy says: see the failed steps\n\n",
        });
    }
    if reply.clusters.is_empty() {
        out.push_str(&format!("tenant {} has no cluster\n", reply.tenant));
    }
    out
}

/// The node.
pub(in crate::cli) fn status(reply: &StatusReply) -> String {
    let rows = [
        ("node", reply.node.clone()),
        ("version", reply.version.clone()),
        ("since", reply.since.clone()),
        ("revision", reply.revision.to_string()),
        ("tenants", reply.tenants.to_string()),
        ("endpoints", reply.endpoints.to_string()),
        ("connections", reply.connections.to_string()),
    ];
    table(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_story_of_an_attempt_gives_every_fact_and_the_narration() {
        let reply = WhyReply {
            reference: "PC-0123-4567-89AB".to_owned(),
            events: vec![json!({
                "at": "2026-11-22T16:04:05.678Z", "kind": "connection.denied", "code": "address_not_listed",
                "node": "gw1", "revision": 812, "tenant": "acme", "reference": "PC-0123-4567-89AB",
                "address": "198.51.100.7", "user": "app", "port": 40000,
                "story": "the whole of it", "narration": "ok   door\nNO   address\n",
            })],
            live: None,
            silent: Vec::new(),
        };
        assert_eq!(
            why(&reply),
            "\
PC-0123-4567-89AB: 1 event

2026-11-22T16:04:05.678Z  connection.denied address_not_listed  tenant acme  on gw1  at revision 812
  address  198.51.100.7
  port     40000
  user     app
  the whole of it
  narration:
    ok   door
    NO   address
"
        );
    }

    #[test]
    fn a_denial_is_explained_with_the_clients_voice_and_the_next_command() {
        let reply = ExplainReply {
            revision: 2,
            permitted: false,
            code: "address_not_listed".to_owned(),
            entry: None,
            narration: vec!["NO   address      198.51.100.7 is in no entry via public".to_owned()],
            story: "address_not_listed: …".to_owned(),
            client: Some("connection not permitted (reference PC-…)".to_owned()),
            next: Some("portcullis reach acme/orders".to_owned()),
        };
        let text = explain(&reply);
        assert!(
            text.contains("\nDENIED\n")
                && text.contains("the client is told: connection not permitted"),
            "{text}"
        );
        assert!(
            text.ends_with("next: `portcullis reach acme/orders` shows who may\n"),
            "{text}"
        );
    }
}

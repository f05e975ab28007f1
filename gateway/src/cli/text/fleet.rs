//! The fleet in words.

use super::table::table;
use crate::api::fleet_types::{FleetChangeReply, FleetNode, FleetReply};

/// A line on the whole, and one for each node.
pub(in crate::cli) fn status(reply: &FleetReply) -> String {
    let Some(fleet) = &reply.fleet else {
        return format!(
            "{} is a node by itself, at revision {}; `portcullis init` founds a fleet\n",
            reply.node, reply.revision
        );
    };
    let leads = match (&reply.leader, reply.quorum) {
        (Some(leader), true) => format!("{leader} leads"),
        (Some(leader), false) => format!("{leader} led last, and no quorum confirms it"),
        (None, _) => "nobody is known to lead".to_owned(),
    };
    let mut rows = vec![
        [
            "node",
            "id",
            "roles",
            "consensus",
            "state",
            "revision",
            "connections",
            "heard",
            "address",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(reply.nodes.iter().map(row));
    let problems: String = reply
        .problems
        .iter()
        .map(|problem| format!("\n{problem}\n"))
        .collect();
    let fenced = reply.fenced.map_or_else(String::new, |epoch| {
        format!(
            "FENCED: epoch {epoch} began without {}; it decides nothing any more. Stop it, empty its data directory, and join it anew by a token of a node of that epoch\n",
            reply.node
        )
    });
    format!(
        "fleet {fleet}, epoch {}: {leads}; revision {} is in force on {}\n{fenced}\n{}{problems}",
        reply.epoch,
        reply.revision,
        reply.node,
        table(&rows)
    )
}

fn row(node: &FleetNode) -> Vec<String> {
    let or_dash = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let revision = match (node.revision, node.stale) {
        (Some(revision), Some(stale)) if stale > STALE_SHOWN => {
            format!("{revision} (stale for {stale} s)")
        }
        (revision, _) => or_dash(revision),
    };
    vec![
        node.name.clone(),
        node.id.to_string(),
        node.roles.join("+"),
        node.consensus.clone(),
        node.state.clone().unwrap_or_else(|| "-".to_owned()),
        revision,
        or_dash(node.connections),
        node.heard_ms.map_or_else(|| "never".to_owned(), ago),
        node.address
            .clone()
            .unwrap_or_else(|| "dials out".to_owned()),
    ]
}

/// Below this a node only waited for its next confirmation.
const STALE_SHOWN: u64 = 5;

/// `now`, `12 s ago`, `3 min ago`.
pub(in crate::cli) fn ago(milliseconds: u64) -> String {
    match milliseconds / 1_000 {
        0..=2 => "now".to_owned(),
        seconds => format!("{} ago", lasting(seconds)),
    }
}

/// `12 s`, `3 min`, `24 h`.
pub(in crate::cli) fn lasting(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// A node that was removed.
pub(in crate::cli) fn removed(reply: &FleetChangeReply) -> String {
    format!(
        "{} (node {}) is out of the fleet at revision {}; its certificate and its data work nowhere any more\n",
        reply.name, reply.id, reply.revision
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, consensus: &str, heard_ms: Option<u64>, stale: u64) -> FleetNode {
        FleetNode {
            id: 1,
            name: name.to_owned(),
            roles: vec!["control".to_owned(), "gateway".to_owned()],
            address: Some("10.0.0.1:7443".to_owned()),
            consensus: consensus.to_owned(),
            state: Some("same".to_owned()),
            revision: heard_ms.map(|_| 7),
            connections: heard_ms.map(|_| 3),
            heard_ms,
            stale: heard_ms.map(|_| stale),
            stale_limit: None,
            version: None,
            level: 1,
            clock_skew_ms: None,
        }
    }

    #[test]
    fn the_status_names_the_leader_and_who_is_silent() {
        let reply = FleetReply {
            node: "n1".to_owned(),
            fleet: Some("00ff".to_owned()),
            epoch: 1,
            fenced: None,
            revision: 7,
            leader: Some("n1".to_owned()),
            quorum: true,
            lease_ms: 9_000,
            problems: vec!["the state of n3 is not that of a majority".to_owned()],
            nodes: vec![
                node("n1", "leader", Some(0), 0),
                node("n2", "voter", Some(65_000), 60),
                node("n3", "voter", None, 0),
            ],
        };
        let text = status(&reply);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "fleet 00ff, epoch 1: n1 leads; revision 7 is in force on n1"
        );
        assert!(lines[3].starts_with("n1    1   control+gateway  leader     same"));
        assert!(lines[4].contains("7 (stale for 60 s)") && lines[4].contains("65 s ago"));
        assert!(lines[5].contains("never"));
        assert_eq!(lines[7], "the state of n3 is not that of a majority");
        let fenced = status(&FleetReply {
            fenced: Some(2),
            ..reply
        });
        assert!(fenced.contains("FENCED: epoch 2 began without n1"));
    }
}

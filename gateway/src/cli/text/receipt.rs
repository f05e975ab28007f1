//! The one line of a receipt, and those of the nodes that did not confirm it.

use super::change::milliseconds;
use super::fleet::{ago, lasting};
use crate::api::types::{ApplyReply, NodeReceipt};
use crate::cli::output::counted;

/// `in force on 1/1 nodes at revision 812, 4 connections closed, slowest 38 ms`, and a line for
/// each node that did not say so.
pub(super) fn receipt(reply: &ApplyReply) -> String {
    let others = || reply.receipts.iter().filter(|node| node.name != reply.node);
    let elsewhere = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let closed =
        reply.enforcement.closed.len() + elsewhere(others().filter_map(|node| node.closed).sum());
    let unfinished =
        reply.enforcement.unfinished + elsewhere(others().map(|node| node.unfinished).sum());
    let mut line = format!(
        "in force on {}/{} nodes at revision {}, {} closed",
        reply.nodes_in_force,
        reply.nodes,
        reply.revision,
        counted(closed, "connection")
    );
    if let Some(slowest) = reply.slowest_ms {
        line.push_str(&format!(", slowest {}", milliseconds(slowest)));
    }
    if !reply.changed {
        line.push_str("; nothing differed");
    }
    if unfinished > 0 {
        line.push_str(&format!(
            "; {} NOT seen closed in time: see `portcullis connections`",
            counted(unfinished, "connection")
        ));
    }
    for node in &reply.receipts {
        if !node.in_force {
            line.push('\n');
            line.push_str(&silent(node));
        }
    }
    line
}

/// What is known of a node that did not confirm a change.
fn silent(node: &NodeReceipt) -> String {
    let heard = node.heard_ms.map_or_else(
        || "never heard".to_owned(),
        |it| format!("last heard {}", ago(it)),
    );
    let serves = match (node.revision, node.stale_limit) {
        (Some(revision), Some(limit)) => format!(
            "; it goes on serving revision {revision} until it has been without confirmation for {}",
            lasting(limit)
        ),
        (Some(revision), None) => format!("; it may go on serving revision {revision}"),
        (None, _) => String::new(),
    };
    format!("NOT confirmed by {}: {heard}{serves}", node.name)
}

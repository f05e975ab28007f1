//! The audit logs, as files for whoever may read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_policy::Action;

use super::questions::only;
use super::types::{AuditLogsReply, AuditOpeningsReply, AuditTrustReply};
use super::who::Who;
use super::{Node, Refusal};
use crate::ledger::tiles::{LogFile, LogId, parse_path};
use crate::runtime::clock;

/// Whose signatures make a checkpoint of the fleet's audit log believed (C2SP tlog-policy).
pub(super) fn trust(node: &Node) -> Result<AuditTrustReply, Refusal> {
    let trust = node.fleet.audit_trust().ok_or_else(no_log)?;
    Ok(AuditTrustReply {
        policy: trust.to_string(),
    })
}

/// The logs that they may read.
pub(super) fn logs(node: &Arc<Node>, who: &Who) -> Result<AuditLogsReply, Refusal> {
    let logs = node.fleet.audit_logs().ok_or_else(no_log)?;
    let logs = logs.iter().filter(|log| may_read(who, log));
    Ok(AuditLogsReply {
        logs: logs.map(ToString::to_string).collect(),
    })
}

/// A file of a log. That of another tenant is not there.
pub(super) async fn file(
    node: &Arc<Node>,
    who: &Who,
    query: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Refusal> {
    only(query, &["path"])?;
    let path = query.get("path").map_or("", String::as_str);
    let (log, file) = parse_path(path).ok_or_else(|| {
        Refusal::new(400, "malformed", "the query must name path=LOG/FILE")
            .next("LOG is fleet or tenants/TENANT, FILE as C2SP tlog-tiles names it")
    })?;
    let absent = || Refusal::new(404, "no_such_file", format!("there is no {path}"));
    if !may_read(who, &log) {
        return Err(absent());
    }
    // Whoever reads a log begins with its checkpoint.
    if file == LogFile::Checkpoint {
        was_read(node, who, &log.to_string());
    }
    let found = node.fleet.audit_file(log, file).await.ok_or_else(no_log)?;
    found
        .map_err(|problem| Refusal::new(500, "audit_log_unreadable", problem))?
        .ok_or_else(absent)
}

/// What opens an entry's commitments: for those who may read all logs, because what a tenant may read of its own names nobody.
pub(super) async fn openings(
    node: &Arc<Node>,
    who: &Who,
    query: &BTreeMap<String, String>,
) -> Result<AuditOpeningsReply, Refusal> {
    only(query, &["log", "entry"])?;
    let log = query.get("log").and_then(|log| log.parse::<LogId>().ok());
    let entry = query.get("entry").and_then(|entry| entry.parse().ok());
    let (Some(log), Some(entry)) = (log, entry) else {
        return Err(Refusal::new(
            400,
            "malformed",
            "the query must name log=LOG and entry=INDEX",
        )
        .next("LOG is fleet or tenants/TENANT, INDEX a number from 0"));
    };
    if !who.may(Action::AuditLog, None) {
        let absent = format!("there is nothing that opens entry {entry} of {log}");
        return Err(Refusal::new(404, "no_such_file", absent));
    }
    was_read(node, who, &format!("{log} openings {entry}"));
    let found = node.fleet.audit_openings(log, entry).await;
    let openings = found
        .ok_or_else(no_log)?
        .map_err(|problem| Refusal::new(500, "audit_log_unreadable", problem))?;
    Ok(AuditOpeningsReply { openings })
}

/// Leaves an event: somebody was told what evidence says under a reference, or reads a log.
pub(super) fn was_read(node: &Node, who: &Who, asked: &str) {
    let event = Event::new(clock::now().as_millis(), kinds::EVIDENCE_READ, &*node.name);
    node.ledger
        .record(event.with("by", who.name()).with("asked", asked));
}

fn may_read(who: &Who, log: &LogId) -> bool {
    match log {
        LogId::Fleet => who.may(Action::AuditLog, None),
        LogId::Tenant(tenant) => who.may(Action::AuditLog, Some(tenant)),
    }
}

fn no_log() -> Refusal {
    Refusal::new(404, "no_audit_log", "this node keeps no audit log").next("ask a control node")
}

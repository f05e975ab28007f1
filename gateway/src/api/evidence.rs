//! The audit logs, as files for whoever may read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::tlog::Level;
use portcullis_audit::{Event, kinds};
use portcullis_policy::Action;

use super::questions::only;
use super::types::{AuditLogsReply, AuditOpeningsReply, AuditTrustReply};
use super::who::Who;
use super::{Node, Refusal};
use crate::ledger::tiles::{LogFile, LogId, parse_path};
use crate::runtime::clock::{self, Duration, Instant};

/// Who read entries of which log lately: one reading is one event, not one for each of its files.
#[derive(Debug, Default)]
pub struct Readers(Mutex<BTreeMap<(String, LogId), Instant>>);

/// A reading lasts so long.
pub(super) const READING: Duration = Duration::from_secs(600);
/// Readings that are known at once; one beyond them is told file by file.
pub(super) const READINGS: usize = 1_024;

impl Readers {
    /// Whether a reading begins with this file.
    fn begins(&self, who: &str, log: &LogId, now: Instant) -> bool {
        let mut known = self.0.lock();
        known.retain(|_, since| now.saturating_duration_since(*since) < READING);
        let reading = (who.to_owned(), log.clone());
        let begins = !known.contains_key(&reading);
        if begins && known.len() < READINGS {
            known.insert(reading, now);
        }
        begins
    }
}

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
    let reads = match file {
        LogFile::Checkpoint => true,
        // Full bundles never change: who reads them need not ask for the checkpoint first.
        LogFile::Tile(tile) if tile.level == Level::Entries => {
            node.readers.begins(who.name(), &log, clock::instant())
        }
        LogFile::Tile(_) | LogFile::Witnessed | LogFile::KeptFrom => false,
    };
    if reads {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_told_once_and_again_when_it_begins_again() {
        let readers = Readers::default();
        let (fleet, start) = (LogId::Fleet, clock::instant());
        assert!(readers.begins("ada", &fleet, start));
        assert!(!readers.begins("ada", &fleet, start + Duration::from_secs(1)));
        assert!(readers.begins("bob", &fleet, start));
        let acme = LogId::Tenant("acme".parse().unwrap());
        assert!(readers.begins("ada", &acme, start));
        assert!(readers.begins("ada", &fleet, start + READING));
        // Nobody hides behind those who read much.
        for number in 0..READINGS {
            readers.begins(&number.to_string(), &fleet, start + READING);
        }
        for _ in 0..2 {
            assert!(readers.begins("eve", &fleet, start + READING));
        }
    }
}

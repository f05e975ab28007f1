//! The audit logs of a fleet: the same on every control node, signed by a majority, checked offline.

use std::path::Path;
use std::time::Duration;

use portcullis_audit::tlog::{Checkpoint, Note, NoteKey, Tile, TrustPolicy, verify};
use portcullis_audit::{Event, kinds};
use portcullis_tests::fleet::Guests;
use portcullis_tests::{Finished, Fleet, Scratch, wait};
use serde_json::Value;

/// A log that is believed, and its events.
struct Log {
    checkpoint: Checkpoint,
    signers: usize,
    events: Vec<Event>,
}

/// Reads a log from its directory alone, and what everybody may know.
fn read(directory: &Path, trust: &TrustPolicy) -> Option<Log> {
    let note = Note::parse(&std::fs::read(directory.join("checkpoint")).ok()?).unwrap();
    let believed = trust.check(&note).unwrap();
    let mut events = Vec::new();
    let read = |tile: Tile| -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(directory.join(tile.path())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let findings = verify(&believed.checkpoint, read, |_, line| {
        events.push(Event::parse(std::str::from_utf8(line).unwrap()).unwrap());
    });
    assert!(findings.unwrap().is_clean());
    Some(Log {
        checkpoint: believed.checkpoint,
        signers: believed.witnesses.len(),
        events,
    })
}

/// The same keys for a tenant's log.
fn trust_of_tenant(trust: &TrustPolicy, tenant: &str) -> TrustPolicy {
    let log = &trust.logs()[0];
    let name = format!("{}/tenants/{tenant}", log.name());
    let key = NoteKey::new(&name, log.kind(), *log.bytes()).unwrap();
    let text = trust
        .to_string()
        .replace(&log.to_string(), &key.to_string());
    TrustPolicy::parse(&text).unwrap()
}

#[test]
fn every_change_is_in_a_log_that_each_control_node_has_and_a_majority_signed() {
    let mut fleet = Fleet::of(3);
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    let revision = reply["revision"].as_u64().unwrap();
    let told = fleet.nodes[1].ask("GET", "/v1/audit/trust", &Value::Null);
    let told = told.unwrap().ok();
    let trust = TrustPolicy::parse(told["policy"].as_str().unwrap()).unwrap();
    let tenant = trust_of_tenant(&trust, "acme");
    let logs = |fleet: &Fleet, node: usize| {
        let directory = fleet.nodes[node].data().join("audit/logs");
        let own = read(&directory.join("tenants/acme"), &tenant)?;
        let whole = read(&directory.join("fleet"), &trust)?;
        Some((whole, own))
    };
    let has = |own: &Log, revision| own.events.iter().any(|it| it.revision == Some(revision));
    for node in 0..3 {
        wait::wait_for("a checkpoint of three", Duration::from_secs(20), || {
            logs(&fleet, node).is_some_and(|(whole, own)| whole.signers == 3 && has(&own, revision))
        });
        let (whole, _) = logs(&fleet, node).unwrap();
        let founded = whole
            .events
            .iter()
            .filter(|it| it.kind == kinds::FLEET_FOUNDED);
        assert_eq!(founded.count(), 1);
        // The fleet's log binds the tenant's, which goes on meanwhile.
        wait::wait_for("the head of the log", Duration::from_secs(20), || {
            let (whole, own) = logs(&fleet, node).unwrap();
            let head = whole.events.iter().rev().find(|event| {
                event.kind == kinds::LOG_HEAD
                    && event.tenant.as_deref() == Some("acme")
                    && event.field("size") == Some(&Value::from(own.checkpoint.size))
            });
            let root = Value::from(own.checkpoint.root.to_string());
            head.is_some_and(|head| {
                assert_eq!(head.field("root"), Some(&root));
                true
            })
        });
    }

    // Two of three go on signing, and the third has all of it once it is back.
    let leader = fleet.leader();
    fleet.nodes[leader].kill();
    let next = (leader + 1) % 3;
    let reply = fleet.nodes[next]
        .apply(&[fleet.policy(Guests::Welcome)])
        .ok();
    let revision = reply["revision"].as_u64().unwrap();
    wait::wait_for("a checkpoint of two", Duration::from_secs(20), || {
        logs(&fleet, next).is_some_and(|(whole, own)| whole.signers == 2 && has(&own, revision))
    });
    fleet.nodes[leader].start();
    wait::wait_for("the same again", Duration::from_secs(30), || {
        logs(&fleet, leader).is_some_and(|(_, own)| has(&own, revision))
    });

    // What the tool says, of what anybody can fetch, and of the same with one bit changed.
    let scratch = Scratch::new("audit-fleet");
    let trust = scratch.path().join("trust.policy");
    let socket = fleet.nodes[next].socket().display().to_string();
    let told = fleet.nodes[next].portcullis(&["audit", "trust", "--socket", &socket]);
    std::fs::write(&trust, format!("{}\n", told.ok())).unwrap();
    let copied = scratch.path().join("logs");
    let logs = fleet.nodes[next].data().join("audit/logs");
    // A log grows while it is copied, and one that is copied whole says so.
    wait::wait_for("a copy that is whole", Duration::from_secs(30), || {
        drop(std::fs::remove_dir_all(&copied));
        copy(&logs, &copied);
        check(&fleet, &copied, &trust).status.success()
    });
    let entries = copied.join("tenants/acme/tile/entries");
    let file = std::fs::read_dir(entries.join("000.p")).unwrap().next();
    let file = file.unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    // The first letter of the first entry, after its length.
    bytes[3] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let told = check(&fleet, &copied, &trust);
    assert_eq!(told.status.code(), Some(7), "{told}");
    assert!(told.to_string().contains("entry 0"), "{told}");
}

fn check(fleet: &Fleet, logs: &Path, trust: &Path) -> Finished {
    let (logs, trust) = (logs.display().to_string(), trust.display().to_string());
    fleet.nodes[0].portcullis(&["audit", "verify", &logs, "--trust", &trust])
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            // What is partial is replaced while it is looked at.
            drop(std::fs::copy(&path, &to));
        }
    }
}

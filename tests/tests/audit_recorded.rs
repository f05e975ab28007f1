//! What nodes saw is in the fleet's audit logs, each event once, whatever became of its node.

mod scene;

use std::path::Path;
use std::time::Duration;

use portcullis::ledger::recording::{check_batch, prove_in_batch};
use portcullis_audit::tlog::{Hash, Note, NoteKey, Tile, TrustPolicy, check_inclusion, verify};
use portcullis_audit::{Event, kinds};
use portcullis_tests::client::{Binding, V3_0, startup};
use portcullis_tests::fleet::{GATEWAY, Guests};
use portcullis_tests::{Ending, EndpointText, Fleet, Gateway, Scratch, Version, process, wait};
use scene::{NAME, acme, gateway, here, server};
use serde_json::Value;

/// How long what was recorded may take to be sealed and signed.
const SOON: Duration = Duration::from_secs(60);

/// The events of a log, from its directory and what everybody may know. Partial tiles go once a later
/// checkpoint is there: whoever meets that begins again, and what is not whole under a checkpoint that
/// stays is wrong.
fn read(directory: &Path, trust: &TrustPolicy) -> Option<Vec<Event>> {
    let shown = || std::fs::read(directory.join("checkpoint")).ok();
    for _ in 0..100 {
        let bytes = shown()?;
        let note = Note::parse(&bytes).unwrap();
        let believed = trust.check(&note).unwrap();
        let mut events = Vec::new();
        let read = |tile: Tile| match std::fs::read(directory.join(tile.path())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let findings = verify(&believed.checkpoint, read, |_, line| {
            events.push(Event::parse(std::str::from_utf8(line).unwrap()).unwrap());
        });
        let findings = findings.unwrap();
        if findings.is_clean() {
            return Some(events);
        }
        assert!(shown() != Some(bytes), "{directory:?}: {findings:?}");
    }
    panic!("{} changes whenever it is read", directory.display());
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

struct Logs {
    trust: TrustPolicy,
    tenant: TrustPolicy,
}

impl Logs {
    fn of(fleet: &Fleet) -> Self {
        let told = fleet.nodes[1].ask("GET", "/v1/audit/trust", &Value::Null);
        let told = told.unwrap().ok();
        let trust = TrustPolicy::parse(told["policy"].as_str().unwrap()).unwrap();
        Self {
            tenant: trust_of_tenant(&trust, "acme"),
            trust,
        }
    }

    /// What a control node's copies of the logs hold.
    fn fleets(&self, fleet: &Fleet, node: usize) -> Vec<Event> {
        let folder = fleet.nodes[node].data().join("audit/logs/fleet");
        read(&folder, &self.trust).unwrap_or_default()
    }

    fn tenants(&self, fleet: &Fleet, node: usize) -> Vec<Event> {
        let folder = fleet.nodes[node].data().join("audit/logs/tenants/acme");
        read(&folder, &self.tenant).unwrap_or_default()
    }
}

fn starts(events: &[Event], node: &str) -> usize {
    let started = events.iter();
    started
        .filter(|it| it.kind == kinds::NODE_STARTED && it.node == node)
        .count()
}

/// Somebody who is not let in comes to a node.
fn refuse(fleet: &Fleet, node: usize) {
    let mut client = fleet.dial(node, fleet.guest()).connect().unwrap();
    let parameters = [("user", "app"), ("database", "postgres")];
    client.send(&startup(V3_0, &parameters)).unwrap();
    match client.authenticate("app", "secret", Binding::None) {
        Err(Ending::Refused(_)) => {}
        other => panic!("should have been refused: {other:?}"),
    }
}

#[test]
fn what_every_node_saw_is_in_the_logs_once_also_after_it_was_killed() {
    let mut fleet = Fleet::of(3);
    let edge = fleet.unmade("edge", GATEWAY);
    fleet.join(edge, "gateway");
    fleet.nodes[edge].start();
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 4, "{reply}");
    let logs = Logs::of(&fleet);
    let names: Vec<String> = fleet.nodes.iter().map(|it| it.name().to_owned()).collect();
    // How often each node was started, by its own files.
    let own = |fleet: &Fleet, node: usize| {
        let events = fleet.nodes[node].events();
        let started = events.iter().filter(|it| it["kind"] == "node.started");
        started.count()
    };
    let all_started = |fleet: &Fleet, from: usize| {
        let events = logs.fleets(fleet, from);
        (0..4).all(|node| starts(&events, &names[node]) >= own(fleet, node))
    };
    wait::wait_for("the start of every node to be in the log", SOON, || {
        (0..3).all(|from| all_started(&fleet, from))
    });

    // Whoever is not let in at a gateway that decides nothing.
    refuse(&fleet, edge);
    let denied = fleet.nodes[edge].event("a guest who is not let in", |event| {
        event["kind"] == "connection.denied"
    });
    let reference = denied["reference"].as_str().unwrap();
    let anchors = |fleet: &Fleet| -> Vec<Event> {
        let events = logs.tenants(fleet, 0);
        let anchors = events.into_iter();
        anchors
            .filter(|it| it.kind == kinds::CONNECTIONS_BATCH && it.node == "edge")
            .collect()
    };
    wait::wait_for("the refusal to be anchored", SOON, || {
        !anchors(&fleet).is_empty()
    });
    // Killed, with what it was about to record, and without.
    for node in [edge, 0, edge, 1] {
        fleet.nodes[node].kill();
        fleet.nodes[node].start();
    }
    wait::wait_for("every start to be in the log again", SOON, || {
        (0..3).all(|from| all_started(&fleet, from))
    });
    fleet.nodes[edge].stop();
    let anchored = anchors(&fleet);
    let mut found = 0;
    for anchor in &anchored {
        let file = anchor.field("file").and_then(Value::as_str).unwrap();
        let file = fleet.nodes[edge].data().join("audit/batches").join(file);
        let file = std::fs::read(file).unwrap();
        let lines = check_batch(&file, anchor).unwrap();
        let root = anchor.field("root").and_then(Value::as_str).unwrap();
        for (index, line) in (0..).zip(&lines) {
            let event = Event::parse(std::str::from_utf8(line).unwrap()).unwrap();
            assert_eq!(event.tenant.as_deref(), Some("acme"));
            if event.reference.as_deref() == Some(reference) {
                let proof = prove_in_batch(&lines, index).unwrap();
                let (size, root) = (lines.len() as u64, Hash::parse(root).unwrap());
                check_inclusion(Hash::of_leaf(line), index, &proof, size, root).unwrap();
                found += 1;
            }
        }
    }
    assert_eq!(found, 1, "{anchored:?}");
    for from in 0..3 {
        let events = logs.fleets(&fleet, from);
        for (node, name) in names.iter().enumerate() {
            assert_eq!(
                starts(&events, name),
                own(&fleet, node),
                "{name} as {from} has it"
            );
        }
        assert!(events.iter().all(|it| it.kind != kinds::LOG_GAP));
    }
    let of_edge = own(&fleet, edge);
    assert_eq!(of_edge, 3);
}

/// The lines of a node's connections, each proved to be under the root that its log has.
fn lines_of_connections(gateway: &Gateway, log: &[Event]) -> Vec<Event> {
    let batches = gateway.data_directory().join("audit/batches");
    let mut said = Vec::new();
    for anchor in log.iter().filter(|it| it.kind == kinds::CONNECTIONS_BATCH) {
        let text = |name: &str| anchor.field(name).and_then(Value::as_str).unwrap();
        let file = std::fs::read(batches.join(text("file"))).unwrap();
        let lines = check_batch(&file, anchor).unwrap();
        let (size, root) = (lines.len() as u64, Hash::parse(text("root")).unwrap());
        for (index, line) in (0..).zip(&lines) {
            let proof = prove_in_batch(&lines, index).unwrap();
            check_inclusion(Hash::of_leaf(line), index, &proof, size, root).unwrap();
            said.push(Event::parse(std::str::from_utf8(line).unwrap()).unwrap());
        }
    }
    said
}

#[test]
fn what_a_node_alone_saw_is_in_its_logs_once_also_after_it_was_killed() {
    let orders = EndpointText::new("orders", NAME).allow("127.0.1.0/24", "public");
    let mut gateway = gateway(&acme(server(Version::V18), orders));
    let told = gateway.command(&["audit", "trust"]);
    let trust = TrustPolicy::parse(&format!("{}\n", told.ok())).unwrap();
    let tenant = trust_of_tenant(&trust, "acme");
    let logs = gateway.data_directory().join("audit/logs");
    let own = || read(&logs.join("fleet"), &trust).unwrap_or_default();
    let acmes = || read(&logs.join("tenants/acme"), &tenant).unwrap_or_default();

    let mut references = Vec::new();
    for round in 1..=2 {
        let mut guest = gateway
            .dial(NAME)
            .from(here(1, round))
            .sign_in("app", "secret", "postgres");
        assert_eq!(guest.query("select 1").unwrap(), [[Some("1".to_owned())]]);
        let refused = gateway.dial(NAME).from(here(9, round));
        let started = refused.start(&[("user", "app"), ("database", "postgres")]);
        let refusal = match started
            .unwrap()
            .authenticate("app", "secret", Binding::None)
        {
            Err(Ending::Refused(refusal)) => refusal,
            other => panic!("should have been refused: {other:?}"),
        };
        references.push(refusal.reference());
        drop(guest);
        let all = || lines_of_connections(&gateway, &acmes());
        wait::wait_for("what was seen to be in the logs", SOON, || {
            let (lines, round) = (all(), usize::from(round));
            let of = |kind: &str| lines.iter().filter(|it| it.kind == kind).count();
            [
                kinds::CONNECTION_PERMITTED,
                kinds::CONNECTION_CLOSED,
                kinds::CONNECTION_DENIED,
            ]
            .iter()
            .all(|kind| of(kind) >= round)
                && starts(&own(), &own_name(&gateway)) >= round
        });
        gateway.kill();
        gateway.start_again();
    }
    let name = own_name(&gateway);
    wait::wait_for("every start to be in the log", SOON, || {
        starts(&own(), &name) >= 3
    });
    let lines = lines_of_connections(&gateway, &acmes());
    for reference in &references {
        let of_it = lines.iter();
        let of_it = of_it.filter(|it| it.reference.as_deref() == Some(reference));
        assert_eq!(of_it.count(), 1, "{reference}: {lines:?}");
    }
    assert_eq!(
        lines
            .iter()
            .filter(|it| it.kind == kinds::CONNECTION_PERMITTED)
            .count(),
        2
    );
    let own = own();
    assert_eq!(starts(&own, &name), 3);
    assert!(own.iter().all(|it| it.kind != kinds::LOG_GAP), "{own:?}");
    one_connection_is_proved(&gateway, &logs, &references, told.ok());
}

/// What a client was told is proved from files alone: the line, the batch, the log.
fn one_connection_is_proved(gateway: &Gateway, logs: &Path, references: &[String], trust: &str) {
    let scratch = Scratch::new("audit-line");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::write(path("trust"), format!("{trust}\n")).unwrap();
    let batches = gateway.data_directory().join("audit/batches");
    let (logs, batches) = (logs.display().to_string(), batches.display().to_string());
    let audit = |arguments: &[&str]| {
        let mut command = std::process::Command::new(portcullis_tests::gateway::binary());
        process::run(command.arg("audit").args(arguments), SOON)
    };
    let prove = |log: &str, reference: &str| {
        let out = path("proof");
        let of = ["--log", log, "--reference", reference];
        audit(
            &[
                &["prove", &logs, "--batches", &batches, "--out", &out],
                &of[..],
            ]
            .concat(),
        )
    };
    for reference in references {
        let told = prove("acme", reference);
        assert!(told.status.success(), "{told}");
        let (proof, line, trust) = (path("proof"), path("proof.line"), path("trust"));
        let check = || audit(&["check", &proof, "--trust", &trust, "--line", &line]);
        let told = check();
        assert!(
            told.ok()
                .contains(&format!("\"reference\":\"{reference}\"")),
            "{told}"
        );
        // Nothing else is of that batch at that place.
        let good = std::fs::read_to_string(&line).unwrap();
        let other: Value = serde_json::from_str(&good).unwrap();
        let index = format!("\"index\":{}", other["index"]);
        for (from, to) in [
            ("connection.denied", "connection.closed"),
            (index.as_str(), "\"index\":99"),
            (
                "\"proof\":[",
                "\"proof\":[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",",
            ),
        ] {
            let changed = good.replace(from, to).replace(",]", "]");
            assert_ne!(changed, good);
            std::fs::write(&line, changed).unwrap();
            let told = check();
            assert_eq!(told.status.code(), Some(7), "{from}: {told}");
        }
        std::fs::write(&line, good).unwrap();
        assert!(check().status.success());
    }
    let told = prove("acme", "PC-0123-4567-89AB");
    assert!(
        told.stderr.contains("`portcullis why` asks all nodes"),
        "{told}"
    );
    let told = prove("fleet", &references[0]);
    assert!(!told.status.success(), "{told}");
}

fn own_name(gateway: &Gateway) -> String {
    let started = gateway.events();
    let started = started.iter().find(|it| it["kind"] == "node.started");
    started.unwrap()["node"].as_str().unwrap().to_owned()
}

//! The fleet's authority is exchanged for another under load, taken back, and waits for whoever cannot follow.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis::fleet::EXCHANGE_LOOK;
use portcullis::fleet::home::{Home, Piece};
use portcullis_tests::fleet::Load;
use portcullis_tests::fleet::{Fleet, GATEWAY, Guests, Node, figure};
use portcullis_tests::process::Finished;
use portcullis_tests::vault::sealed_files;
use portcullis_tests::{ports, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const CONTROL: &str = "control,gateway";

#[test]
fn an_authority_is_exchanged_under_load_without_one_failed_connection() {
    let mut fleet = Fleet::of(3);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    in_force(&fleet, Guests::Welcome, 4);
    let alice = operator(&fleet.nodes[0]);
    let api = format!("127.0.0.1:{}", ports::free());
    let node = &mut fleet.nodes[2];
    node.stop();
    node.rewrite(
        "[metrics]",
        &format!("[api]\nlisten = \"{api}\"\n[metrics]"),
    );
    node.start();
    in_force(&fleet, Guests::Welcome, 4);
    let before = settled(&fleet.nodes[0]);

    let load = Load::through(&fleet, &[0, 1, 2, gateway]);
    let began = Instant::now();
    let rotated = certs(&fleet.nodes[1], &["rotate"]);
    let took = began.elapsed();
    assert!(rotated.ok().contains(": settled"), "{rotated}");
    // It is in force everywhere, not only where it was commanded.
    for node in &fleet.nodes {
        wait::wait_for("all to be settled", SOON, || {
            authority(node)["phase"] == "settled"
        });
    }
    in_force(&fleet, Guests::Unwelcome, 4);
    in_force(&fleet, Guests::Welcome, 4);
    let (queries, connections) = load.served();
    let failures = load.failures();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(queries > 100 && connections > 10, "{queries} {connections}");
    figure("authority-exchange-ms", took.as_millis());
    figure(
        "authority-exchange-slowest-query-ms",
        load.slowest().as_millis(),
    );
    drop(load);

    let after = settled(&fleet.nodes[0]);
    assert_ne!(before, after);
    for (index, node) in fleet.nodes.iter().enumerate() {
        let listed = listed(node);
        assert_eq!(settled(node), after, "{}", node.name());
        let own = &listed["certificates"][0];
        assert_eq!(own["purpose"], "node", "{listed}");
        assert_eq!(
            own["authority"],
            after.as_str(),
            "{} shows another's",
            node.name()
        );
        if index != gateway {
            let name = format!("fleet-authority-{}.sealed", &after[..16]);
            wait::wait_for("the old key to be gone", SOON, || {
                let sealed = sealed_files(&node.data());
                sealed.len() == 1 && sealed[0].ends_with(&name)
            });
        }
    }
    assert!(!fleet.nodes[gateway].data().join("vault").exists());
    let changed = fleet.nodes[1].event("of the exchange", |event| {
        event["kind"] == "authority.changed" && event["step"] == "rotate"
    });
    assert_eq!(changed["purpose"], "fleet", "{changed}");

    // An operator who has a certificate of before commands on.
    let identity = alice.display().to_string();
    let asked = ["fleet", "status", "--node", &api, "--identity", &identity];
    let status = fleet.nodes[2].portcullis(&asked);
    assert!(status.ok().contains("edge"), "{status}");
    // All of it is on the disks, and who joins now joins the new one.
    for node in &mut fleet.nodes {
        node.stop();
    }
    for node in &mut fleet.nodes {
        node.start();
    }
    in_force(&fleet, Guests::Unwelcome, 4);
    let late = fleet.unmade("late", "[\"control\", \"gateway\"]");
    fleet.join(late, CONTROL);
    fleet.nodes[late].start();
    in_force(&fleet, Guests::Welcome, 5);
    assert_eq!(settled(&fleet.nodes[late]), after);
}

/// A node that is away keeps the old one in force; what was begun is taken back, and begun anew.
#[test]
fn an_exchange_waits_for_every_node_and_can_be_taken_back() {
    let mut fleet = Fleet::of(3);
    in_force(&fleet, Guests::Welcome, 3);
    let before = settled(&fleet.nodes[0]);
    let nothing = certs(&fleet.nodes[0], &["rotate", "--roll-back"]);
    assert!(
        nothing.refused().contains("not being exchanged"),
        "{nothing}"
    );

    fleet.nodes[2].stop();
    let waits = certs(&fleet.nodes[0], &["rotate", "--wait", "6"]);
    assert_eq!(waits.status.code(), Some(5), "{waits}");
    assert!(
        waits.refused().contains("trusting: waits for n3"),
        "{waits}"
    );
    let twice = certs(&fleet.nodes[1], &["rotate"]);
    assert!(twice.refused().contains("elsewhere: trusting"), "{twice}");
    let authority = authority(&fleet.nodes[1]);
    assert_eq!(authority["sha256"], before.as_str());
    assert_eq!(authority["next_issues"], false);
    assert_eq!(authority["waits_for"][0]["node"], "n3", "{authority}");
    let back = certs(&fleet.nodes[1], &["rotate", "--roll-back"]);
    assert!(back.ok().contains("settled"), "{back}");
    assert_eq!(settled(&fleet.nodes[0]), before);

    // One whose vault is sealed says so, and nothing goes on without it.
    let data = fleet.nodes[2].data();
    fs::rename(data.join("root.key"), data.join("elsewhere.key")).unwrap();
    fleet.nodes[2].start();
    let waits = certs(&fleet.nodes[0], &["rotate", "--wait", "6"]);
    assert_eq!(waits.status.code(), Some(5), "{waits}");
    let problem = || {
        let authority = self::authority(&fleet.nodes[0]);
        let problem = authority["waits_for"][0]["problem"]
            .as_str()
            .map(str::to_owned);
        problem.filter(|problem| problem.contains("vault is sealed"))
    };
    wait::wait_for("the node to say why it cannot", SOON, || {
        problem().is_some()
    });
    fs::rename(data.join("elsewhere.key"), data.join("root.key")).unwrap();
    wait::wait_for("the exchange to go on by itself", SOON, || {
        let authority = self::authority(&fleet.nodes[0]);
        authority["phase"] == "settled" && authority["sha256"] != before.as_str()
    });
    in_force(&fleet, Guests::Unwelcome, 3);
    wait::wait_for("the old one to be trusted no more", SOON, || {
        let trusted = Home::of(&data).read(Piece::Authority).unwrap();
        trusted.matches("BEGIN CERTIFICATE").count() == 1
    });
}

/// After two thirds of ten years nobody has to think of it.
#[test]
fn an_authority_that_is_due_is_exchanged_by_itself() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !Path::new(LIBRARY).exists() {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs libfaketime");
        return;
    }
    let mut fleet = Fleet::of(1);
    let before = settled(&fleet.nodes[0]);
    for (years, due) in [(6, false), (7, true)] {
        let node = &mut fleet.nodes[0];
        node.stop();
        node.environment(&[
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME", &format!("+{}d", years * 365)),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
        node.start();
        if due {
            wait::wait_for("another authority", SOON, || {
                let authority = authority(node);
                authority["phase"] == "settled" && authority["sha256"] != before.as_str()
            });
        } else {
            // Its own certificate is renewed: so much time has passed.
            let _ = node.event("that it was renewed", |event| {
                event["kind"] == "certificate.renewed"
            });
            std::thread::sleep(3 * EXCHANGE_LOOK);
            assert_eq!(settled(node), before);
        }
    }
}

fn in_force(fleet: &Fleet, guests: Guests, nodes: u64) {
    let policy = fleet.policy(guests);
    wait::wait_for("the policy to be in force", SOON, || {
        let reply = fleet.nodes[0].apply(std::slice::from_ref(&policy));
        reply.status == 200 && reply.body["nodes_in_force"] == nodes
    });
}

fn certs(node: &Node, arguments: &[&str]) -> Finished {
    let socket = node.socket().display().to_string();
    let all = [&["certs"], arguments, &["--socket", &socket]].concat();
    node.portcullis(&all)
}

fn listed(node: &Node) -> Value {
    let listed = certs(node, &["list", "--json"]);
    serde_json::from_str(listed.ok()).unwrap()
}

fn authority(node: &Node) -> Value {
    listed(node)["authorities"][0].clone()
}

/// SHA-256 of the one authority, once the state knows it and there is no other.
fn settled(node: &Node) -> String {
    let known = wait::until(SOON, || {
        let authority = authority(node);
        let sha256 = authority["sha256"].as_str()?;
        (authority["phase"] == "settled").then(|| sha256.to_owned())
    });
    known.expect("the authority to be known")
}

/// An operator's directory with a certificate of now.
fn operator(node: &Node) -> PathBuf {
    let out = node.folder().join("alice");
    let (text, socket) = (
        out.display().to_string(),
        node.socket().display().to_string(),
    );
    let added = node.portcullis(&[
        "operator",
        "add",
        "alice",
        "--roles",
        "fleet-operator",
        "--out",
        &text,
        "--socket",
        &socket,
    ]);
    let _ = added.ok();
    out
}

//! States that differ though every checksum holds: they are noticed, said and reinstalled, and
//! customers go on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portcullis_policy::{Revocations, Snapshot, Tenant, TenantAt};
use portcullis_tests::fleet::{BOTH, Guests, Load, Node, alter, figure};
use portcullis_tests::{Fleet, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_node_with_another_state_says_so_keeps_out_and_is_given_it_anew_while_customers_go_on() {
    let mut fleet = Fleet::of(3);
    let victim = (fleet.leader() + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
    let name = fleet.nodes[victim].name().to_owned();
    fleet.nodes[victim].stop();
    alter(&fleet.nodes[victim].data(), ghost);
    let began = Instant::now();
    fleet.nodes[victim].start();
    assert_eq!(
        tenants(&fleet.nodes[victim]),
        2,
        "it has what nobody decided"
    );
    let load = Load::through(&fleet, &[0, 1, 2]);

    // What the others and the node itself say of it, until it is healed; changes are made meanwhile.
    let (mut own, mut of_it) = (BTreeSet::new(), BTreeSet::new());
    let (mut detected, mut number) = (None, 0);
    let healed = wait::until(SOON, || {
        number += 1;
        // There may be so many tokens.
        if number < 200 {
            let (answer, _) = fleet.nodes[others[0]].write(&format!("meanwhile-{number}"));
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let status = fleet.nodes[victim].status()?;
        let seen = |status: &Value, all: &mut BTreeSet<String>| {
            let node = &status["nodes"][victim];
            let said = [&node["state"], &node["consensus"], &status["quorum"]];
            let said: Vec<String> = said.iter().map(ToString::to_string).collect();
            all.insert(said.join(" "));
        };
        seen(&status, &mut own);
        for other in &others {
            seen(&fleet.nodes[*other].status()?, &mut of_it);
        }
        if detected.is_none() && !status["problems"].as_array()?.is_empty() {
            detected = Some(began.elapsed());
        }
        let events = fleet.nodes[victim].events();
        let again = events
            .iter()
            .any(|event| event["kind"] == "fleet.reinstalled");
        (again && same_everywhere(&fleet)).then(|| began.elapsed())
    });
    let Some(healed) = healed else {
        panic!(
            "not healed: {own:?} {of_it:?}\n{}\n{:?}",
            fleet.nodes[victim].said(),
            fleet.nodes[others[0]].status()
        );
    };
    let detected = detected.expect("it said that it differs");
    figure("state-differs-detected-ms", detected.as_millis());
    figure("state-differs-healed-ms", healed.as_millis());

    // Each says which node differs, and the node itself too; it had no lease and no vote.
    for node in &fleet.nodes {
        let event = node.event("the difference", |event| {
            event["kind"] == "fleet.diverged" && event["name"] == *name
        });
        assert_eq!(event["by"].as_array().map(Vec::len), Some(2), "{event}");
        assert_ne!(event["root"], event["majority"], "{event}");
    }
    let kept_out = |said: &String| said.ends_with("\"none\" false");
    assert!(own.iter().any(kept_out), "{own:?}");
    let out = |said: &String| said.contains("\"none\"") || said.contains("\"learner\"");
    assert!(of_it.iter().any(out), "{of_it:?}");
    // Whoever differs or is being reinstalled votes nowhere and has no lease.
    for said in &own {
        assert!(
            said.starts_with("\"same\"") || said.starts_with("\"unknown\"") || kept_out(said),
            "{said}"
        );
    }

    fleet.settled();
    assert_eq!(
        tenants(&fleet.nodes[victim]),
        1,
        "what nobody decided is gone"
    );
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    let (queries, connections) = load.served();
    figure("state-differs-queries", queries);
    assert!(queries > 100 && connections > 10, "{queries} {connections}");
    // It takes part: with one of the others gone, the two decide.
    let reply = fleet.nodes[victim].apply(&[fleet.policy(Guests::Unwelcome)]);
    assert_eq!(reply.ok()["nodes_in_force"], 3);
    drop(load);
    fleet.nodes[others[1]].kill();
    let (answer, _) = fleet.nodes[victim].write("with-its-vote");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // And its state is good after a restart.
    fleet.nodes[victim].stop();
    fleet.nodes[victim].start();
    fleet.nodes[others[1]].start();
    fleet.settled();
    let same = wait::until(SOON, || same_everywhere(&fleet).then_some(()));
    assert!(same.is_some(), "{:?}", fleet.nodes[victim].status());
}

#[test]
fn a_leader_with_another_state_gives_the_lead_away_and_is_given_the_state_anew() {
    let mut fleet = Fleet::of(3);
    for node in &mut fleet.nodes {
        node.stop();
    }
    alter(&fleet.nodes[0].data(), ghost);
    // Of two nobody can be told wrong: the wrong one leads.
    fleet.nodes[0].start();
    fleet.nodes[1].start();
    fleet.settled();
    for _ in 0..10 {
        if fleet.leader() == 0 {
            break;
        }
        let _ = fleet.nodes[1].ask("POST", "/v1/fleet/step-down", &Value::Null);
        fleet.settled();
    }
    assert_eq!(fleet.leader(), 0);
    let load = Load::through(&fleet, &[0, 1]);
    let began = Instant::now();
    fleet.nodes[2].start();
    let healed = wait::until(SOON, || {
        let events = fleet.nodes[0].events();
        let again = events
            .iter()
            .any(|event| event["kind"] == "fleet.reinstalled");
        (again && same_everywhere(&fleet)).then(|| began.elapsed())
    });
    let Some(healed) = healed else {
        panic!("not healed: {:?}", fleet.nodes[1].status());
    };
    figure("leaders-state-differs-healed-ms", healed.as_millis());
    for node in &fleet.nodes[1..] {
        let event = node.event("the difference", |event| {
            event["kind"] == "fleet.diverged" && event["name"] == "n1"
        });
        assert_eq!(event["by"].as_array().map(Vec::len), Some(2), "{event}");
    }
    fleet.settled();
    assert_eq!(tenants(&fleet.nodes[0]), 1);
    let (answer, _) = fleet.nodes[0].write("as-before");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    drop(load);
    // It stands for election again: its vote and its log are as good as the other's.
    fleet.nodes[1].kill();
    for _ in 0..10 {
        let leader = fleet.leader_but(Some(1));
        if leader == 0 {
            return;
        }
        let _ = fleet.nodes[leader].ask("POST", "/v1/fleet/step-down", &Value::Null);
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("it never leads: {:?}", fleet.nodes[0].status());
}

#[test]
fn of_two_that_differ_nobody_is_told_wrong_and_both_say_so() {
    let mut fleet = Fleet::of(2);
    fleet.nodes[1].stop();
    alter(&fleet.nodes[1].data(), ghost);
    fleet.nodes[1].start();
    for node in &fleet.nodes {
        let event = node.event("the difference", |event| event["kind"] == "fleet.diverged");
        assert!(event["name"].is_null(), "{event}");
        assert_eq!(event["states"].as_array().map(Vec::len), Some(2), "{event}");
    }
    fleet.settled();
    // Nothing is reinstalled, and what is decided is decided.
    let (answer, _) = fleet.nodes[0].write("all-the-same");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(tenants(&fleet.nodes[1]), 2);
    for node in &fleet.nodes {
        let status = node.status().unwrap();
        let problem = status["problems"][0].as_str().unwrap_or_default();
        assert!(problem.contains("different states"), "{status}");
        assert!(problem.contains("n1, n2"), "{status}");
    }
}

/// A tenant that nobody decided on.
fn ghost(snapshot: &mut Snapshot) {
    snapshot.tenants.push(TenantAt {
        revision: snapshot.revision,
        document: Tenant::new("ghost".parse().expect("an id")),
        revoked: Revocations::default(),
    });
}

fn tenants(node: &Node) -> u64 {
    let status = node.ask("GET", "/v1/status", &Value::Null);
    status.expect("an answer").ok()["tenants"]
        .as_u64()
        .expect("a number")
}

fn same_everywhere(fleet: &Fleet) -> bool {
    fleet.nodes.iter().all(|node| {
        let status = node.status().unwrap_or_default();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.len() == fleet.nodes.len() && nodes.iter().all(|node| node["state"] == "same")
    })
}

#[test]
fn of_a_node_and_its_copy_one_votes_and_the_other_says_that_it_is_fenced() {
    let mut fleet = Fleet::of(3);
    let leader = fleet.leader();
    let (original, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let load = Load::through(&fleet, &[original, third]);
    let copy = started_copy(&mut fleet, original);
    let began = Instant::now();
    let fenced = |fleet: &Fleet| {
        let status = fleet.nodes[original].status()?;
        let said = status["problems"].to_string().contains("FENCED");
        let part = &status["nodes"][original]["consensus"];
        (said && *part == "fenced" && status["quorum"] == false).then_some(())
    };
    let votes = |fleet: &Fleet| {
        let status = fleet.nodes[copy].status()?;
        (status["quorum"] == true && !status["leader"].is_null()).then_some(())
    };
    assert!(
        wait::until(SOON, || fenced(&fleet)).is_some(),
        "{:?}",
        fleet.nodes[original].status()
    );
    figure("copied-node-fenced-ms", began.elapsed().as_millis());
    assert!(
        wait::until(SOON, || votes(&fleet)).is_some(),
        "{:?}",
        fleet.nodes[copy].status()
    );
    fleet.nodes[original].event("that it was overtaken", |event| {
        event["kind"] == "fleet.overtaken" && event["later"].as_u64() > event["own"].as_u64()
    });
    // Once it is told, it calls nobody: the other may have had nothing to refuse.
    wait::wait_for("a node that was started twice is refused", SOON, || {
        let others = [leader, third].map(|other| fleet.nodes[other].events());
        others
            .iter()
            .flatten()
            .any(|event| event["kind"] == "fleet.denied" && event["code"] == "started_twice")
    });
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        let (answer, took) = fleet.nodes[third].write(&format!("with-a-copy-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        slowest = slowest.max(took);
    }
    figure("copied-node-slowest-write-ms", slowest.as_millis());

    // Two of three votes are left, the copy's one of them.
    fleet.nodes[leader].kill();
    wait::wait_for("the third node and the copy decide", SOON, || {
        fleet.nodes[third].write("with-the-copy").0.status == 200
    });
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    drop(load);

    // The original's vote is not the third node's to count, also not after a restart.
    fleet.nodes[copy].kill();
    fleet.nodes[original].kill();
    fleet.nodes[original].start();
    assert!(
        wait::until(SOON, || fenced(&fleet)).is_some(),
        "{:?}",
        fleet.nodes[original].status()
    );
    drop(fleet.connect(original, fleet.resident()));
    let (answer, _) = fleet.nodes[original].write("through-the-original");
    assert_eq!((answer.status, answer.code()), (503, "fenced"));
    let (answer, _) = fleet.nodes[third].write("without-the-copy");
    assert_ne!(answer.status, 200, "{}", answer.body);
    fleet.nodes[copy].start();
    wait::wait_for("the third node and the copy decide again", SOON, || {
        fleet.nodes[third].write("with-the-copy-again").0.status == 200
    });
    assert!(fenced(&fleet).is_some());
}

/// A copy of a running node's data, started as another process on ports of its own; its index.
fn started_copy(fleet: &mut Fleet, original: usize) -> usize {
    let copy = fleet.unmade("copy", BOTH);
    let name = format!("name = \"{}\"", fleet.nodes[original].name());
    fleet.nodes[copy].rewrite("name = \"copy\"", &name);
    // A file may be copied in the middle of a write.
    for _ in 0..5 {
        drop(std::fs::remove_dir_all(fleet.nodes[copy].data()));
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([fleet.nodes[original].data(), fleet.nodes[copy].data()])
            .status();
        assert!(copied.unwrap().success());
        if fleet.nodes[copy].try_start().is_ok() {
            return copy;
        }
    }
    panic!("no copy starts: {}", fleet.nodes[copy].said());
}

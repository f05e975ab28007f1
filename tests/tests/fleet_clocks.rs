//! Clocks that are off, that are set, and that run fast.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use portcullis_tests::fleet::{Guests, Load, Node, figure};
use portcullis_tests::{Fleet, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_node_whose_clock_is_an_hour_off_is_named_never_leads_and_ends_nothing_elsewhere() {
    if !has_library() {
        return;
    }
    let mut fleet = Fleet::of(3);
    for (offset, expected) in [("+3600", HOUR_MS), ("-3600", -HOUR_MS)] {
        let skewed = fleet.leader();
        fleet.nodes[skewed].stop();
        fleet.nodes[skewed].environment(&[
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
        let honest = fleet.leader_but(Some(skewed));
        let began = Instant::now();
        fleet.nodes[skewed].start();
        let name = fleet.nodes[skewed].name().to_owned();
        fleet.nodes[honest].event("a wrong clock", |event| {
            said(event, &name, "wrong")
                && event["skew_ms"]
                    .as_i64()
                    .is_some_and(|it| near(it, expected))
        });
        figure(
            &format!("clock{offset}-named-ms"),
            began.elapsed().as_millis(),
        );
        // Everybody says so, the node itself too, which does nothing that needs a quorum.
        for index in 0..3 {
            wait::wait_for("all to say so", SOON, || {
                let status = fleet.nodes[index].status().unwrap();
                let skew = skew(&status, &name);
                skew.is_some_and(|it| near(it, expected)) && problems(&status, &name)
            });
        }
        wait::wait_for("its lease to be over", SOON, || {
            fleet.nodes[skewed].status().unwrap()["quorum"] == false
        });
        assert_ne!(fleet.leader(), skewed);
        // Whoever leads lets another lead: never that one.
        for _ in 0..3 {
            let leader = fleet.leader();
            let _ = fleet.nodes[leader].ask("POST", "/v1/fleet/step-down", &Value::Null);
            assert_ne!(fleet.leader(), skewed);
        }
        // What expires does so when it should, wherever the clock is right.
        let leader = fleet.leader();
        let expires = SystemTime::now() + Duration::from_secs(8);
        let until = format!(", expires: {}", moment(expires));
        let guest = fleet.guest().to_string();
        let policy = fleet.policy_with(Guests::Unwelcome, |endpoint| {
            endpoint.allow_with(&guest, "public", &until)
        });
        let answer = fleet.nodes[leader].apply(&[policy]);
        assert_eq!(answer.status, 200, "{offset} {}", answer.body);
        let mut client = fleet.connect(leader, fleet.guest());
        let _ending = client.read_to_end();
        let late = SystemTime::now()
            .duration_since(expires)
            .unwrap_or_else(|early| panic!("{offset}: early by {:?}", early.duration()));
        figure(&format!("clock{offset}-expiry-late-ms"), late.as_millis());
        assert!(late < Duration::from_secs(2), "{offset} {late:?}");
        // With only it and another left, the other leads, by its vote.
        let other = 3 - skewed - leader;
        fleet.nodes[leader].kill();
        assert_eq!(fleet.leader_but(Some(leader)), other);
        assert_stamped_now(&fleet.nodes[other], "two-left");
        fleet.nodes[leader].start();
        // Set right, it is one like all.
        fleet.nodes[skewed].stop();
        fleet.nodes[skewed].environment(&[]);
        fleet.nodes[skewed].start();
        let settled = fleet.settled();
        figure(
            &format!("clock{offset}-right-settled-ms"),
            settled.as_millis(),
        );
        fleet.nodes[other].event("a clock that is right again", |event| {
            said(event, &name, "right")
        });
        let answer = fleet.nodes[skewed].apply(&[fleet.policy(Guests::Welcome)]);
        assert_eq!(answer.status, 200, "{offset} {}", answer.body);
    }
}

#[test]
fn a_leader_whose_clock_is_set_stamps_nothing_by_it_and_has_another_lead() {
    if !has_library() {
        return;
    }
    let mut fleet = Fleet::of(3);
    let set = fleet.leader();
    fleet.nodes[set].stop();
    let file = fleet.nodes[set].folder().join("clock");
    std::fs::write(&file, "+0").unwrap();
    fleet.nodes[set].environment(&[
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", &file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    fleet.nodes[set].start();
    for offset in ["+3600", "-3600"] {
        fleet.settled();
        lead(&fleet, set);
        let load = Load::through(&fleet, &[0, 1, 2]);
        // Clocks are compared each second; a leader that was just elected has compared none.
        std::thread::sleep(Duration::from_secs(4));
        assert_stamped_now(&fleet.nodes[set], "before");
        std::fs::write(&file, offset).unwrap();
        let began = Instant::now();
        let mut made = 0;
        let moved = wait::until(SOON, || {
            // What is made meanwhile through another bears the right time, also where it is stamped
            // here: the state's time would be ahead for good. What is asked here is right or refused.
            assert_stamped_now(&fleet.nodes[(set + 1) % 3], "meanwhile");
            let (answer, _) = fleet.nodes[set].write("here");
            assert_eq!((answer.status, answer.code()), (503, "clock_wrong"));
            made += 1;
            let status = fleet.nodes[(set + 1) % 3].status()?;
            let leader = status["leader"].as_str()?;
            (leader != fleet.nodes[set].name()).then(|| began.elapsed())
        });
        let moved = moved.expect("another leads");
        figure(
            &format!("clock-set{offset}-lead-moved-ms"),
            moved.as_millis(),
        );
        figure(&format!("clock-set{offset}-made-meanwhile"), made);
        std::thread::sleep(Duration::from_secs(2));
        assert_ne!(fleet.leader(), set);
        assert_stamped_now(&fleet.nodes[(set + 1) % 3], "after");
        // Customers noticed nothing.
        assert!(load.failures().is_empty(), "{:?}", load.failures());
        drop(load);
        std::fs::write(&file, "+0").unwrap();
    }
    fleet.settled();
}

#[test]
fn a_clock_that_runs_fast_by_a_thousandth_costs_no_lead_and_moves_no_expiry() {
    if !has_library() {
        return;
    }
    let mut fleet = Fleet::of(3);
    let fast = fleet.leader();
    fleet.nodes[fast].stop();
    // Both the time of day and the clock by which it waits.
    fleet.nodes[fast].environment(&[("LD_PRELOAD", LIBRARY), ("FAKETIME", "+0 x1.001")]);
    fleet.nodes[fast].start();
    fleet.settled();
    lead(&fleet, fast);
    let name = fleet.nodes[fast].name().to_owned();
    let watcher = (fast + 1) % 3;
    let skew_now = || skew(&fleet.nodes[watcher].status().unwrap(), &name);
    let before = wait::until(SOON, skew_now).expect("it is measured");
    let began = Instant::now();
    for round in 0..3 {
        let expires = SystemTime::now() + Duration::from_secs(8);
        let until = format!(", expires: {}", moment(expires));
        let guest = fleet.guest().to_string();
        let policy = fleet.policy_with(Guests::Unwelcome, |endpoint| {
            endpoint.allow_with(&guest, "public", &until)
        });
        let answer = fleet.nodes[watcher].apply(&[policy]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let through = if round == 1 { watcher } else { fast };
        let mut client = fleet.connect(through, fleet.guest());
        let _ending = client.read_to_end();
        let late = SystemTime::now().duration_since(expires);
        let off = late.unwrap_or_else(|early| early.duration());
        figure(&format!("drift-expiry-{round}-off-ms"), off.as_millis());
        assert!(off < Duration::from_secs(1), "{round} {off:?}");
        assert_eq!(fleet.leader(), fast);
    }
    // It did run fast: by about a millisecond each second.
    let after = skew_now().expect("it is measured");
    let ran = began.elapsed().as_secs();
    figure("drift-seconds", ran);
    figure("drift-gained-ms", after - before);
    assert!(
        after - before > i64::try_from(ran).unwrap() / 4,
        "{before} {after} in {ran} s"
    );
}

fn has_library() -> bool {
    let is_there = Path::new(LIBRARY).exists();
    if !is_there {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs libfaketime");
    }
    is_there
}

/// Whether this event says that the clock of the node `name` stands so.
fn said(event: &Value, name: &str, outcome: &str) -> bool {
    event["kind"] == "time.skew" && event["name"] == name && event["outcome"] == outcome
}

fn near(skew: i64, expected: i64) -> bool {
    (skew - expected).abs() < 3_000
}

/// How far ahead a node's clock is, in the eyes of whoever said this, in milliseconds.
fn skew(status: &Value, name: &str) -> Option<i64> {
    let nodes = status["nodes"].as_array()?;
    let node = nodes.iter().find(|node| node["name"] == name)?;
    node["clock_skew_ms"].as_i64()
}

fn problems(status: &Value, name: &str) -> bool {
    let problems = status["problems"].as_array().unwrap();
    let told = format!("the clock of {name} is ");
    problems
        .iter()
        .any(|problem| problem.as_str().unwrap().contains(&told))
}

/// A command through this node is made, and stamped by a clock that is right: a token for a minute
/// says until when it is good.
fn assert_stamped_now(node: &Node, name: &str) {
    let made = SystemTime::now();
    let (answer, took) = node.write(name);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = answer.body["expires"].as_str().unwrap();
    let least = moment(made + Duration::from_secs(55));
    let most = moment(made + took + Duration::from_secs(65));
    assert!(
        *told > *least && *told < *most,
        "{told} is not {least} to {most}"
    );
}

/// Has the lead go round until it is that node's: whose clock was wrong a moment ago is asked last.
fn lead(fleet: &Fleet, wanted: usize) {
    wait::wait_for("the lead of the node", SOON, || {
        let leader = fleet.leader();
        if leader != wanted {
            let _ = fleet.nodes[leader].ask("POST", "/v1/fleet/step-down", &Value::Null);
            let _ = fleet.leader_but(Some(leader));
            std::thread::sleep(Duration::from_millis(250));
        }
        leader == wanted
    });
}

fn moment(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let milliseconds = i64::try_from(since.as_millis()).unwrap();
    portcullis_audit::moment::to_text(milliseconds)
}

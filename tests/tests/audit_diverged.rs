//! Audit logs that differ from what was decided: on one node, which is fenced and given them anew, and of
//! two fleets with one past, of which the witness that both ask signs one.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::fleet::{BOTH, Guests, Load, Node, alter_log, figure};
use portcullis_tests::gateway::binary;
use portcullis_tests::process::Service;
use portcullis_tests::{Finished, Fleet, Scratch, ports, wait};
use rustix::process::Signal;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn a_node_with_another_entry_in_a_log_and_the_same_state_is_fenced_and_given_the_logs_anew() {
    let mut fleet = Fleet::of(3);
    let scratch = Scratch::new("diverged");
    let trust = trust(&fleet.nodes[0], &scratch);
    let victim = (fleet.leader() + 1) % 3;
    let other = (victim + 1) % 3;
    let name = fleet.nodes[victim].name().to_owned();
    fleet.nodes[victim].stop();
    alter_log(&fleet.nodes[victim].data());
    fleet.nodes[victim].start();
    let load = Load::through(&fleet, &[0, 1, 2]);
    let began = std::time::Instant::now();
    let mut number = 0;
    let mut silent = false;
    let healed = wait::until(SOON, || {
        number += 1;
        // There may be so many tokens.
        if number < 200 {
            let (answer, _) = fleet.nodes[other].write(&format!("meanwhile-{number}"));
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let status = fleet.nodes[victim].status()?;
        let problems = status["problems"].to_string();
        silent |= problems.contains("not that of a majority") || problems.contains("reinstalled");
        let events = fleet.nodes[victim].events();
        events
            .iter()
            .any(|event| event["kind"] == "fleet.reinstalled")
            .then(|| began.elapsed())
    });
    let healed = healed.unwrap_or_else(|| panic!("{}", fleet.nodes[victim].said()));
    figure("log-differs-healed-ms", healed.as_millis());
    for node in &fleet.nodes {
        let event = node.event("the difference", |event| {
            event["kind"] == "fleet.diverged" && event["name"] == *name
        });
        assert_ne!(event["root"], event["majority"], "{event}");
    }
    assert!(silent, "it says so itself");
    fleet.settled();
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    for node in &fleet.nodes {
        good(node, &scratch, &trust);
    }
    // It takes part again.
    let (answer, _) = fleet.nodes[victim].write("after");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn of_a_fleet_and_its_copy_a_witness_signs_one_and_keeps_the_proof_against_the_other() {
    let mut fleet = Fleet::of(1);
    let scratch = Scratch::new("split");
    let trust = trust(&fleet.nodes[0], &scratch);
    let (_witness, url, key) = witness(&scratch, &trust);
    let twin = fleet.unmade("twin", BOTH);
    fleet.nodes[twin].rewrite("name = \"twin\"", "name = \"n1\"");
    let entry = format!(
        "[[audit.witnesses]]\nname = \"customer\"\nurl = \"{url}\"\nkey = \"{key}\"\n[[certificate]]\n"
    );
    for node in &fleet.nodes {
        node.rewrite("[[certificate]]\n", &entry);
    }
    fleet.nodes[0].stop();
    let (from, to) = (fleet.nodes[0].data(), fleet.nodes[twin].data());
    let copied = Command::new("cp").arg("-aT").args([from, to]).status();
    assert!(copied.unwrap().success());

    // The first goes on, and is witnessed.
    fleet.nodes[0].start();
    fleet.settled();
    let shown = |node: &Node, file: &str| {
        fs::read_to_string(node.data().join("audit/logs/tenants/acme").join(file)).ok()
    };
    let body = |note: &str| note.split("\n\n").next().unwrap_or_default().to_owned();
    wait::wait_for("a checkpoint", SOON, || {
        shown(&fleet.nodes[0], "checkpoint").is_some()
    });
    let before = shown(&fleet.nodes[0], "checkpoint").map(|it| body(&it));
    let _ = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    wait::wait_for("a cosignature", SOON, || {
        let witnessed = shown(&fleet.nodes[0], "checkpoint.witnessed").map(|it| body(&it));
        let checkpoint = shown(&fleet.nodes[0], "checkpoint").map(|it| body(&it));
        witnessed.is_some() && witnessed == checkpoint && checkpoint != before
    });
    // The other says something else at the same place.
    fleet.nodes[twin].start();
    let other = fleet.policy_with(Guests::Unwelcome, |endpoint| {
        endpoint.allow("198.51.100.7", "public")
    });
    let _ = fleet.nodes[twin].apply(&[other]).ok();
    let twins = &fleet.nodes[twin];
    // It waits for 10 s before it says so.
    let told = wait::until(SOON, || {
        let mut events = twins.events().into_iter();
        events.find(|it| it["kind"] == "log.contradicted" && it["log"] == "tenants/acme")
    });
    let event = told.unwrap_or_else(|| panic!("{}", twins.said()));
    assert_eq!(event["witness"], "customer", "{event}");
    let status = twins.status().unwrap();
    assert!(status["problems"].to_string().contains("CONTRADICTED"));
    wait::wait_for("what the twin shows", SOON, || {
        shown(twins, "checkpoint").map(|it| body(&it).lines().nth(1).map(str::to_owned))
            == shown(&fleet.nodes[0], "checkpoint")
                .map(|it| body(&it).lines().nth(1).map(str::to_owned))
    });

    // Both signed by the log, the same size, another root: kept by the witness, and proof by itself.
    let evidence = scratch.path().join("state/evidence");
    let pair = |end: &str| -> Vec<PathBuf> {
        let files = fs::read_dir(&evidence).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = files
            .map(|file| file.path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                let ours = fs::read_to_string(path).unwrap();
                let ours = ours.lines().next().unwrap().ends_with("/tenants/acme");
                ours && name.starts_with("contradiction-") && name.ends_with(end)
            })
            .collect();
        files.sort();
        files
    };
    wait::wait_for("the witness's evidence", SOON, || {
        !pair("-newer.checkpoint").is_empty()
    });
    let (older, newer) = (
        pair("-older.checkpoint").remove(0),
        pair("-newer.checkpoint").remove(0),
    );
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (one, two) = (lines(&read(&older)), lines(&read(&newer)));
    assert_eq!((&one[0], &one[1]), (&two[0], &two[1]));
    assert_ne!(one[2], two[2]);

    // Two auditors have each a history that is good by itself; together, they have the proof.
    let auditors = [0, twin].map(|node| good(&fleet.nodes[node], &scratch, &trust));
    for (own, others) in [(0, 1), (1, 0)] {
        let since = auditors[others].join("tenants/acme/checkpoint");
        let kept = scratch.path().join(format!("kept-{own}"));
        fs::create_dir(&kept).unwrap();
        let told = audit(&[
            "verify",
            auditors[own].to_str().unwrap(),
            "--trust",
            trust.to_str().unwrap(),
            "--since",
            since.to_str().unwrap(),
            "--keep",
            kept.to_str().unwrap(),
        ]);
        assert_eq!(told.status.code(), Some(9), "{told}");
        assert!(told.stdout.contains("split view"), "{told}");
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 2);
    }
    // What the witness kept tells the one from the other, without the other auditor.
    for (auditor, since, code) in [
        (0, &older, 0),
        (0, &newer, 9),
        (1, &older, 9),
        (1, &newer, 0),
    ] {
        let told = audit(&[
            "verify",
            auditors[auditor].to_str().unwrap(),
            "--trust",
            trust.to_str().unwrap(),
            "--since",
            since.to_str().unwrap(),
        ]);
        assert_eq!(told.status.code(), Some(code), "{told}");
    }
    // And the witness never signed the second.
    let witnessed = shown(&fleet.nodes[twin], "checkpoint.witnessed").unwrap_or_default();
    assert_ne!(body(&witnessed), two[..3].join("\n"));
}

/// Waits until a copy of the node's logs is good by the tool; the copy.
fn good(node: &Node, scratch: &Scratch, trust: &Path) -> PathBuf {
    let place = node.folder().file_name().unwrap().to_str().unwrap();
    let copied = scratch.path().join(format!("logs-of-{place}"));
    let mut last = None;
    let good = wait::until(SOON, || {
        drop(fs::remove_dir_all(&copied));
        copy(&node.data().join("audit/logs"), &copied);
        let (logs, trust) = (copied.to_str().unwrap(), trust.to_str().unwrap());
        let told = audit(&["verify", logs, "--trust", trust]);
        let good = told.status.success();
        last = Some(told);
        good.then_some(())
    });
    assert!(good.is_some(), "{place}: {last:?}\n{}", node.said());
    copied
}

fn audit(arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.arg("audit").args(arguments);
    portcullis_tests::process::run(&command, SOON)
}

fn trust(node: &Node, scratch: &Scratch) -> PathBuf {
    let socket = node.socket().display().to_string();
    let told = node.portcullis(&["audit", "trust", "--socket", &socket]);
    let path = scratch.path().join("trust.policy");
    fs::write(&path, format!("{}\n", told.ok())).unwrap();
    path
}

/// A witness that runs, its URL and the line that it printed.
fn witness(scratch: &Scratch, trust: &Path) -> (Service, String, String) {
    let address = format!("127.0.0.1:{}", ports::free());
    let mut command = Command::new(binary());
    command.args(["audit", "witness", "--name", "witness.example/w1"]);
    command.args(["--listen", &address]);
    command.arg("--trust").arg(trust);
    command.arg("--state").arg(scratch.path().join("state"));
    command.arg("--key").arg(scratch.path().join("w.pem"));
    let log = scratch.path().join("witness.log");
    let service = Service::start("the witness", &command, &log, Signal::TERM);
    let mut key = None;
    wait::wait_for("the witness", SOON, || {
        let said = service.log();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("witness witness.example/w1 "));
        key = line.map(|line| line.trim().to_owned());
        key.is_some() && TcpStream::connect(&address).is_ok()
    });
    (service, format!("http://{address}"), key.unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            // What is partial is replaced while it is looked at.
            drop(fs::copy(&path, &to));
        }
    }
}

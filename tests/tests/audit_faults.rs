//! Faults of the audit log alone: a disk that takes nothing more, and files that are not of the history
//! which the node's state has. What is claimed, what is told, that customers go on, that nothing is lost,
//! and that what a node says to do works.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_audit::tlog::{Checkpoint, Hash, KeyKind, Note, NoteKey};
use portcullis_certs::fleet::LogKey;
use portcullis_tests::fleet::{BOTH, Guests, Load, Node, figure};
use portcullis_tests::{Finished, Fleet, Scratch, requires_root, wait};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_for_the_logs_stops_their_checkpoints_and_nothing_else_and_room_brings_all_back() {
    requires_root!();
    let mut fleet = Fleet::of(2);
    let full = fleet.unmade("n3", BOTH);
    let _ = fleet.nodes[full].small_audit_disk(16);
    fleet.join(full, "control,gateway");
    fleet.nodes[full].start();
    fleet.settled();
    let load = Load::through(&fleet, &[0, 1, full]);
    wait::wait_for("a checkpoint", SOON, || size(&fleet.nodes[full]) > 0);
    assert!(fleet.nodes[full].disk().fill() > 1 << 20);
    let (before, meant) = (size(&fleet.nodes[full]), size(&fleet.nodes[0]));
    for number in 0..20 {
        // What a majority decided is answered, through the node itself, too: it is in the log of consensus, elsewhere.
        let (answer, _) = fleet.nodes[[0, full][number % 2]].write(&format!("full-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let welcome = fleet.policy(Guests::Unwelcome);
    let reply = fleet.nodes[full].apply(&[welcome]).ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    wait::wait_for("checkpoints on the others", SOON, || {
        size(&fleet.nodes[0]) >= meant + 21 && size(&fleet.nodes[1]) >= meant + 21
    });
    // It shows nothing that it does not have, and says what is wrong and what to do.
    assert!(size(&fleet.nodes[full]) <= before.max(meant));
    let told = wait::until(SOON, || {
        let status = fleet.nodes[full].status()?;
        let told = status["problems"].to_string();
        told.contains("make room on the disk under `data/audit`")
            .then_some(told)
    });
    let told = told.unwrap_or_else(|| panic!("{}", fleet.nodes[full].said()));
    assert!(told.contains("No space left on device"), "{told}");
    let said = fleet.nodes[full].said();
    assert_eq!(said.matches("audit logs cannot be written").count(), 1);
    assert!(said.contains("No space left on device"), "{said}");
    let status = fleet.nodes[full].status().unwrap();
    assert_eq!(status["quorum"], true, "it goes on deciding: {status}");
    let scratch = Scratch::new("audit-faults");
    // What it shows is whole, though it is not all there is.
    let own = fleet.nodes[full].data().join("audit/logs/fleet");
    let trust = trust(&fleet, &scratch);
    let copied = scratch.path().join("old");
    copy(&own, &copied);
    let verified = verify(&fleet, &copied, &trust, None);
    assert!(verified.status.success(), "{verified}");

    assert!(load.failures().is_empty(), "{:?}", load.failures());
    figure("full-audit-disk-queries", load.served().0);
    assert!(load.served().0 > 100);
    drop(load);

    // Started again without room it serves, decides, and says the same.
    fleet.nodes[full].kill();
    fleet.nodes[full].start();
    fleet.settled();
    let load = Load::through(&fleet, &[full]);
    wait::wait_for("the problem, told again", SOON, || {
        let status = fleet.nodes[full].status().unwrap();
        status["problems"].to_string().contains("`data/audit`")
    });
    let (answer, _) = fleet.nodes[full].write("full-again");
    assert_eq!(answer.status, 200, "{}", answer.body);
    fleet.nodes[full].disk().make_room();
    all_good(&fleet, &scratch, &trust);
    let problems = wait::until(SOON, || {
        let status = fleet.nodes[full].status()?;
        (status["problems"].as_array()?.is_empty()).then_some(())
    });
    assert!(problems.is_some(), "{:?}", fleet.nodes[full].status());
    assert!(fleet.nodes[full].said().contains("logs are written again"));
    assert!(fleet.nodes[full].ended().is_none(), "it was not restarted");
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_published_checkpoint_of_another_history_keeps_the_node_down_and_the_way_out_works() {
    let mut fleet = Fleet::of(3);
    let scratch = Scratch::new("forked");
    let trust = trust(&fleet, &scratch);
    let victim = (fleet.leader() + 1) % 3;
    fleet.nodes[victim].stop();
    let data = fleet.nodes[victim].data();
    let log = data.join("audit/logs/fleet");
    let whole = fs::read(log.join("checkpoint")).unwrap();

    // The log's key signed another root of the size.
    let key = LogKey::from_pem(&fs::read_to_string(data.join("fleet/log.key")).unwrap()).unwrap();
    let note = Note::parse(&whole).unwrap();
    let mut checkpoint = Checkpoint::parse(&note.text).unwrap();
    checkpoint.root = Hash::of_leaf(b"another history");
    let name = NoteKey::new(&checkpoint.origin, KeyKind::Log, key.public()).unwrap();
    let text = checkpoint.text();
    let forged = Note {
        signatures: vec![name.sign(&text, |text| key.sign(text))],
        text,
    };
    fs::write(log.join("checkpoint"), forged.to_string()).unwrap();
    let told = refused(&mut fleet.nodes[victim]);
    for part in [
        log.join("checkpoint").to_str().unwrap(),
        "this fleet's log key signed it",
        "as evidence",
        "--since",
        "move",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let kept = fs::read(log.join("checkpoint")).unwrap();
    assert_eq!(kept, forged.to_string().as_bytes(), "evidence is untouched");
    // The others go on, and what it says to do with them is proof.
    let (answer, _) = fleet.a_running_node().write("meanwhile");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let others = (victim + 1) % 3;
    let since = log.join("checkpoint");
    let good = scratch.path().join("good");
    let found = wait::until(SOON, || {
        drop(fs::remove_dir_all(&good));
        copy(&fleet.nodes[others].data().join("audit/logs"), &good);
        let told = verify(&fleet, &good, &trust, Some(&since));
        (told.status.code() == Some(9)).then_some(told)
    });
    assert!(found.unwrap().stdout.contains("split view"));

    // The way out: the log's folder alone is moved away.
    let aside = scratch.path().join("evidence");
    fs::rename(&log, &aside).unwrap();
    fleet.nodes[victim].start();
    fleet.settled();
    good_again(&fleet, victim, &scratch, &trust);

    // The same with a file that nobody signed: said so, and one file moved away is enough.
    fleet.nodes[victim].stop();
    let whole = fs::read_to_string(log.join("checkpoint")).unwrap();
    let root = whole.lines().nth(2).unwrap().to_owned();
    let other = Hash::of_leaf(b"a bit").to_string();
    fs::write(log.join("checkpoint"), whole.replacen(&root, &other, 1)).unwrap();
    let told = refused(&mut fleet.nodes[victim]);
    assert!(told.contains("does not bear the signature"), "{told}");
    fs::rename(log.join("checkpoint"), scratch.path().join("damaged")).unwrap();
    fleet.nodes[victim].start();
    fleet.settled();
    good_again(&fleet, victim, &scratch, &trust);
}

#[test]
fn an_entry_that_was_changed_on_disk_while_the_node_was_down_is_not_kept() {
    let mut fleet = Fleet::of(3);
    let scratch = Scratch::new("changed");
    let trust = trust(&fleet, &scratch);
    let victim = (fleet.leader() + 1) % 3;
    let _ = fleet.nodes[victim].write("one");
    std::thread::sleep(Duration::from_secs(2));
    fleet.nodes[victim].stop();
    let log = fleet.nodes[victim].data().join("audit/logs/fleet");
    let bundles: Vec<PathBuf> = fs::read_dir(log.join("tile/entries/000.p"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for file in &bundles {
        let mut bytes = fs::read(file).unwrap();
        bytes[10] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let copied = scratch.path().join("changed");
    copy(&log, &copied);
    let told = verify(&fleet, &copied, &trust, None);
    assert_eq!(told.status.code(), Some(7), "{told}");
    assert!(told.to_string().contains("entry 0"), "{told}");
    fleet.nodes[victim].start();
    fleet.settled();
    good_again(&fleet, victim, &scratch, &trust);
}

/// It ends instead of answering; what it said last.
fn refused(node: &mut Node) -> String {
    let told = node.try_start().expect_err("it started");
    let last = told.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: "), "{told}");
    last
}

/// The node's own files are whole again, and go on.
fn good_again(fleet: &Fleet, node: usize, scratch: &Scratch, trust: &Path) {
    let copied = scratch.path().join("again");
    let (answer, _) = fleet.nodes[node].write("again");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut last = None;
    let good = wait::until(SOON, || {
        drop(fs::remove_dir_all(&copied));
        copy(&fleet.nodes[node].data().join("audit/logs"), &copied);
        let told = verify(fleet, &copied, trust, None);
        let good = told.status.success();
        last = Some(told);
        good.then_some(())
    });
    let said = fleet.nodes[node].said();
    assert!(good.is_some(), "{last:?}\n{said}");
}

/// Waits until the logs of all nodes are good by the tool, and as long as each other.
fn all_good(fleet: &Fleet, scratch: &Scratch, trust: &Path) {
    for node in &fleet.nodes {
        let copied = scratch.path().join(format!("logs-{}", node.name()));
        let mut last = None;
        // A log grows while it is copied, and one that is copied whole says so.
        let good = wait::until(SOON, || {
            drop(fs::remove_dir_all(&copied));
            copy(&node.data().join("audit/logs"), &copied);
            let told = verify(fleet, &copied, trust, None);
            let good = told.status.success();
            last = Some(told);
            good.then_some(())
        });
        assert!(good.is_some(), "{}: {last:?}\n{}", node.name(), node.said());
    }
    wait::wait_for("logs of the same length", SOON, || {
        let sizes: Vec<u64> = fleet.nodes.iter().map(size).collect();
        sizes.iter().all(|size| *size == sizes[0])
    });
}

/// Entries under the checkpoint of the fleet's log that this node shows.
fn size(node: &Node) -> u64 {
    let path = node.data().join("audit/logs/fleet/checkpoint");
    let Ok(bytes) = fs::read(path) else { return 0 };
    let note = Note::parse(&bytes).unwrap();
    Checkpoint::parse(&note.text).unwrap().size
}

fn trust(fleet: &Fleet, scratch: &Scratch) -> PathBuf {
    let node = &fleet.nodes[0];
    let socket = node.socket().display().to_string();
    let told = node.portcullis(&["audit", "trust", "--socket", &socket]);
    let path = scratch.path().join("trust.policy");
    fs::write(&path, format!("{}\n", told.ok())).unwrap();
    path
}

fn verify(fleet: &Fleet, logs: &Path, trust: &Path, since: Option<&Path>) -> Finished {
    let (logs, trust) = (logs.display().to_string(), trust.display().to_string());
    let mut arguments = vec!["audit", "verify", &logs, "--trust", &trust];
    if let Some(since) = since {
        arguments.extend(["--since", since.to_str().unwrap()]);
    }
    fleet.nodes[0].portcullis(&arguments)
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

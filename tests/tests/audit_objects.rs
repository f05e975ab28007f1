//! The audit logs in an object store: whole, verifiable from there alone, and nothing in the store is believed, nor overwritten.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_audit::tlog::{Checkpoint, Note};
use portcullis_tests::fleet::Guests;
use portcullis_tests::scratch::{repository, tools};
use portcullis_tests::store::{BUCKET, Fault, Lock, ObjectStore};
use portcullis_tests::{Finished, Fleet, process, wait};
use serde_json::Value;

/// How long the store may take to have what is new; a pause after errors is in it.
const SOON: Duration = Duration::from_secs(120);

/// A fleet of one node that copies its logs.
struct Copied {
    fleet: Fleet,
    store: ObjectStore,
    written: usize,
}

impl Copied {
    fn start(lock: Lock, more: &str) -> Self {
        let store = ObjectStore::start(lock);
        let section = store.section(&store.key, more);
        let mut fleet = Fleet::of(1);
        fleet.nodes[0].stop();
        fleet.nodes[0].rewrite("[admin]\n", &format!("{section}[admin]\n"));
        fleet.nodes[0].start();
        Self {
            fleet,
            store,
            written: 0,
        }
    }

    /// Makes both logs longer.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.written += 1;
            let guests = match self.written % 2 {
                0 => Guests::Welcome,
                _ => Guests::Unwelcome,
            };
            let answer = self.fleet.nodes[0].apply(&[self.fleet.policy(guests)]);
            let _ = answer.ok();
        }
    }

    fn own(&self) -> Option<Checkpoint> {
        let path = self.fleet.nodes[0]
            .data()
            .join("audit/logs/fleet/checkpoint");
        parse(&std::fs::read(path).ok()?)
    }

    /// Waits until the store has the fleet's log up to what it is now.
    fn wait(&self) {
        // The log's own checkpoint follows its entries within a second or so.
        let mut before = None;
        wait::wait_for("a log that rests", SOON, || {
            std::thread::sleep(Duration::from_secs(3));
            let now = self.own().map(|it| it.size);
            std::mem::replace(&mut before, now) == now
        });
        let wanted = self.own().unwrap().size;
        let mut has = None;
        let up = wait::until(SOON, || {
            let copy = self.store.download("look");
            has = std::fs::read(copy.join("fleet/checkpoint")).ok();
            let size = has.as_deref().and_then(parse).map_or(0, |it| it.size);
            (size >= wanted).then_some(())
        });
        assert!(
            up.is_some(),
            "{wanted} entries, the store has {has:?}\n{}",
            self.fleet.nodes[0].said()
        );
    }

    fn trust(&self, name: &str, more: &[&str]) -> std::path::PathBuf {
        let node = &self.fleet.nodes[0];
        let socket = node.socket().display().to_string();
        let mut arguments = vec!["audit", "trust", "--socket", &socket];
        arguments.extend(more);
        let told = node.portcullis(&arguments);
        let path = node.folder().join(name);
        std::fs::write(&path, format!("{}\n", told.ok())).unwrap();
        path
    }

    fn verify(&self, place: &str, trust: &Path, more: &[&str]) -> Finished {
        let trust = trust.display().to_string();
        let mut arguments = vec!["audit", "verify", place, "--trust", &trust];
        arguments.extend(more);
        self.fleet.nodes[0].portcullis(&arguments)
    }

    fn event(&self, kind: &str, text: &str) -> Value {
        let mut found = None;
        let _ = wait::until(SOON, || {
            let events = self.fleet.nodes[0].events().into_iter();
            found = { events }.find(|it| it["kind"] == kind && it.to_string().contains(text));
            found.as_ref().map(drop)
        });
        found.unwrap_or_else(|| panic!("no {kind} of {text}:\n{}", self.fleet.nodes[0].said()))
    }

    fn count(&self, kind: &str) -> usize {
        let events = self.fleet.nodes[0].events().into_iter();
        events.filter(|it| it["kind"] == kind).count()
    }
}

fn parse(bytes: &[u8]) -> Option<Checkpoint> {
    let note = Note::parse(bytes).ok()?;
    Checkpoint::parse(&note.text).ok()
}

fn stranger(log: &Path, trust: &Path) -> Finished {
    let mut command = Command::new(tools().join("venv/bin/python"));
    command
        .arg(repository().join("tests/programs/tlog.py"))
        .arg("log")
        .args([log, trust]);
    process::run(&command, Duration::from_secs(120))
}

#[test]
fn a_store_that_comes_after_entries_were_let_go_of_says_what_it_lacks() {
    let mut fleet = Fleet::of(1);
    let change = |fleet: &Fleet, guests| drop(fleet.nodes[0].apply(&[fleet.policy(guests)]).ok());
    for _ in 0..300 {
        change(&fleet, Guests::Welcome);
        change(&fleet, Guests::Unwelcome);
    }
    let socket = fleet.nodes[0].socket().display().to_string();
    let keep = ["audit", "keep", "--entries", "1s", "--socket", &socket];
    assert!(fleet.nodes[0].portcullis(&keep).status.success());
    let logs = fleet.nodes[0].data().join("audit/logs");
    wait::wait_for("entries to go", SOON, || {
        let gone = |log: &str| !logs.join(log).join("tile/entries/000").exists();
        gone("fleet") && gone("tenants/acme")
    });
    let store = ObjectStore::start(Lock::On);
    let section = store.section(&store.key, "");
    fleet.nodes[0].stop();
    fleet.nodes[0].rewrite("[admin]\n", &format!("{section}[admin]\n"));
    fleet.nodes[0].start();
    change(&fleet, Guests::Welcome);
    let mut copied = Copied {
        fleet,
        store,
        written: 0,
    };
    copied.wait();
    let trust = copied.trust("all.policy", &[]);
    let verified = |copied: &Copied| {
        let copy = copied.store.download("copy");
        assert!(!copy.join("fleet/tile/entries/000").exists());
        assert!(copy.join("fleet/tile/0/000").exists());
        copied.verify(&copy.display().to_string(), &trust, &[])
    };
    let told = verified(&copied);
    assert!(told.ok().contains("were let go of, as entry "), "{told}");
    // What goes later was copied in time, and stays there.
    copied.write(300);
    copied.wait();
    let told = verified(&copied);
    assert!(told.status.success(), "{told}");
    assert_eq!(copied.count("objects.contradicted"), 0);
}

#[test]
fn the_logs_are_copied_locked_and_whoever_has_the_copy_alone_can_verify_it() {
    let mut copied = Copied::start(Lock::On, "retain-days = 30\nretain-mode = \"compliance\"");
    copied.write(300);
    copied.wait();
    // What is there survives a restart, and goes on.
    copied.fleet.nodes[0].kill();
    copied.fleet.nodes[0].start();
    copied.write(20);
    copied.wait();
    let (trust, acme) = (
        copied.trust("all.policy", &[]),
        copied.trust("acme.policy", &["--tenant", "acme"]),
    );
    copied.fleet.nodes[0].stop();
    let copy = copied.store.download("copy");
    let told = copied.verify(&copy.display().to_string(), &trust, &[]);
    assert!(told.ok().contains("2 logs"), "{told}");
    let _ = stranger(&copy.join("fleet"), &trust).ok();
    let _ = stranger(&copy.join("tenants/acme"), &acme).ok();
    assert_eq!(copied.count("objects.contradicted"), 0);
    assert_eq!(copied.count("objects.stalled"), 0);

    // What is final is locked, what changes is not.
    let locked = copied.store.owner(&["locked", BUCKET]);
    let keys: Vec<&str> = { locked.lines() }
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    for log in ["fleet", "tenants/acme"] {
        for file in ["tile/0/000", "tile/entries/000"] {
            assert!(
                keys.contains(&format!("copy/{log}/{file}").as_str()),
                "{locked}"
            );
        }
    }
    let changes = |key: &&str| key.contains(".p/") || key.ends_with("checkpoint");
    assert!(!keys.iter().any(changes), "{locked}");
    assert!(locked.lines().all(|line| line.contains(" COMPLIANCE 2")));
    for key in keys {
        let told = copied.store.owner(&["destroy", BUCKET, key]);
        assert!(told.starts_with("refused AccessDenied"), "{key}: {told}");
    }

    // Anybody's web server will do, and so does the store itself.
    let _ = copied.store.owner(&["open", BUCKET]);
    let (url, ca) = (copied.store.url(), copied.store.authority());
    let ca = ca.display().to_string();
    let told = copied.verify(&format!("{url}/{BUCKET}/copy"), &trust, &["--ca", &ca]);
    assert!(told.ok().contains("everything is there"), "{told}");
}

#[test]
fn a_wrong_key_is_refused_and_told_without_its_secret() {
    let store = ObjectStore::start(Lock::Off);
    let mut fleet = Fleet::of(1);
    fleet.nodes[0].stop();
    let key = (store.key.0.clone(), "TopSecretOfNobody".to_owned());
    let section = store.section(&key, "");
    fleet.nodes[0].rewrite("[admin]\n", &format!("{section}[admin]\n"));
    fleet.nodes[0].start();
    let copied = Copied {
        fleet,
        store,
        written: 0,
    };
    let event = copied.event("objects.stalled", "SignatureDoesNotMatch");
    assert_eq!(event["kind"], "objects.stalled");
    for text in [copied.fleet.nodes[0].log_text(), event.to_string()] {
        assert!(!text.contains("TopSecretOfNobody"));
    }
    let own = copied.store.owner(&["locked", BUCKET]);
    assert_eq!(own, "");
}

#[test]
fn whatever_the_way_to_the_store_does_commands_go_on_and_the_copy_is_whole_later() {
    let mut copied = Copied::start(Lock::Off, "");
    copied.write(10);
    copied.wait();
    for fault in [Fault::SlowDown, Fault::Stall, Fault::Hang, Fault::Truncate] {
        copied.store.fault(fault.clone());
        let before = copied.count("objects.stalled");
        let began = Instant::now();
        copied.write(20);
        // The store takes nothing meanwhile; nobody waits for a request of it.
        assert!(began.elapsed() < Duration::from_secs(20), "{fault:?}");
        wait::wait_for(&format!("{fault:?}"), SOON, || {
            copied.count("objects.stalled") > before
        });
        copied.store.fault(Fault::None);
        copied.wait();
        wait::wait_for("the all-clear", SOON, || {
            copied.count("objects.resumed") > before
        });
    }
    let trust = copied.trust("all.policy", &[]);
    copied.fleet.nodes[0].stop();
    let copy = copied.store.download("copy");
    let told = copied.verify(&copy.display().to_string(), &trust, &[]);
    assert!(told.ok().contains("everything is there"), "{told}");
    assert_eq!(copied.count("objects.contradicted"), 0);
}

#[test]
fn a_store_that_lies_loses_or_goes_back_is_noticed() {
    let mut copied = Copied::start(Lock::Off, "");
    copied.write(300);
    copied.wait();
    let old = copied.store.download("old").join("fleet/checkpoint");
    copied.write(20);
    copied.wait();

    // Rolled back to a checkpoint that was true.
    copied.store.overwrite("fleet/checkpoint", &old);
    let _ = copied.event("objects.contradicted", "rolled back");
    copied.wait();

    // A file that was lost is put there again.
    let lost = "copy/fleet/tile/entries/000";
    let _ = copied.store.owner(&["remove", BUCKET, lost]);
    wait::wait_for("the lost file", SOON, || {
        let copy = copied.store.download("look");
        copy.join("fleet/tile/entries/000").exists()
    });

    // It answers with other bytes: the log is not copied on, the other one is, and once it is as it was, both are.
    copied.store.fault(Fault::Lie("fleet/tile/entries/000"));
    let event = copied.event("objects.contradicted", "\"tile/entries/000\"");
    assert_eq!(event["log"], "fleet", "{event}");
    let size = |copied: &Copied, log: &str| {
        let copy = copied.store.download("look");
        let bytes = std::fs::read(copy.join(log).join("checkpoint")).unwrap();
        parse(&bytes).unwrap().size
    };
    let (fleets, acmes) = (size(&copied, "fleet"), size(&copied, "tenants/acme"));
    copied.write(1);
    wait::wait_for("the other log", SOON, || {
        size(&copied, "tenants/acme") > acmes
    });
    assert_eq!(size(&copied, "fleet"), fleets);
    copied.store.fault(Fault::None);
    copied.wait();
}

#[test]
fn another_history_in_the_store_is_noticed_and_never_overwritten() {
    // Two fleets; the second is told to copy to where the first did.
    let mut first = Copied::start(Lock::Off, "");
    first.write(5);
    first.wait();
    first.fleet.nodes[0].stop();
    let theirs = first.store.download("theirs");
    let mut fleet = Fleet::of(1);
    fleet.nodes[0].stop();
    let section = first.store.section(&first.store.key, "");
    fleet.nodes[0].rewrite("[admin]\n", &format!("{section}[admin]\n"));
    fleet.nodes[0].start();
    let mut second = Copied {
        fleet,
        store: first.store,
        written: 0,
    };
    let _ = second.event(
        "objects.contradicted",
        "it is of a log that the policy does not name",
    );
    second.write(10);
    wait::wait_for("rounds that went by", SOON, || {
        second.store.requests() > 0 && second.count("objects.contradicted") >= 2
    });
    std::thread::sleep(Duration::from_secs(5));
    let after = second.store.download("after");
    for log in ["fleet", "tenants/acme"] {
        let file = format!("{log}/checkpoint");
        let read = |folder: &Path| std::fs::read(folder.join(&file)).unwrap();
        assert_eq!(read(&theirs), read(&after), "{log}");
    }
}

#[test]
fn a_fleet_that_went_back_finds_its_own_later_history_in_the_store_and_leaves_it() {
    let mut copied = Copied::start(Lock::Off, "");
    copied.write(5);
    copied.wait();
    // All that it remembers, from a moment before.
    copied.fleet.nodes[0].stop();
    let (data, old) = (
        copied.fleet.nodes[0].data(),
        copied.fleet.nodes[0].folder().join("old"),
    );
    let copy = |from: &Path, to: &Path| {
        let mut command = Command::new("cp");
        command.arg("-a").args([from, to]);
        let _ = process::run(&command, Duration::from_secs(60)).ok();
    };
    copy(&data, &old);
    copied.fleet.nodes[0].start();
    copied.write(40);
    copied.wait();
    copied.fleet.nodes[0].stop();
    let before = copied.store.download("before");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    copied.fleet.nodes[0].start();
    let _ = copied.event("objects.contradicted", "the fleet went back");
    wait::wait_for("both logs", SOON, || {
        copied.count("objects.contradicted") >= 2
    });
    // And once it has gone on differently beyond that size, the two histories are told apart.
    copied.write(60);
    std::thread::sleep(Duration::from_secs(5));
    let after = copied.store.download("after");
    let read = |folder: &Path| std::fs::read(folder.join("fleet/checkpoint")).unwrap();
    assert_eq!(read(&before), read(&after));
}

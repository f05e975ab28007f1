//! The lead goes to a node that can take it, and a lease to one that has what was decided.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Load, figure};
use portcullis_tests::{Fleet, Scratch, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_leader_that_steps_down_passes_over_one_that_is_gone() {
    let mut fleet = Fleet::of(3);
    // The dead one is the first that would be found.
    let leader = fleet.leader();
    let dead = (0..3).find(|index| *index != leader).unwrap();
    let heir = 3 - leader - dead;
    let load = Load::through(&fleet, &[leader, heir]);
    fleet.nodes[dead].kill();
    // Longer than a voter that is there is ever silent.
    std::thread::sleep(Duration::from_millis(1_500));
    let began = Instant::now();
    let answer = fleet.nodes[leader]
        .ask("POST", "/v1/fleet/step-down", &Value::Null)
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (answer, _) = fleet.nodes[heir].write("after-stepping-down");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let gap = began.elapsed();
    figure("step-down-past-a-dead-node-write-gap-ms", gap.as_millis());
    assert_eq!(fleet.leader_but(Some(leader)), heir);
    let log = fleet.nodes[leader].said();
    let status = fleet.nodes[heir].status().unwrap();
    let asked = |index: usize| {
        let id = &status["nodes"][index]["id"];
        log.contains(&format!("\"heir\":\"{id}\""))
    };
    assert!(asked(heir) && !asked(dead), "{status} {log}");
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_leader_with_a_slow_disk_has_another_lead() {
    let scratch = Scratch::new("slow-disk");
    let Some(library) = slow_disk(&scratch) else {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs a C compiler");
        return;
    };
    let mut fleet = Fleet::of(3);
    let slow = fleet.leader();
    let switch = scratch.path().join("slow").display().to_string();
    fleet.nodes[slow].stop();
    fleet.nodes[slow].environment(&[
        ("LD_PRELOAD", &library.display().to_string()),
        ("SLOW_DISK", &switch),
    ]);
    fleet.nodes[slow].start();
    fleet.settled();
    for _ in 0..10 {
        let leader = fleet.leader();
        if leader == slow {
            break;
        }
        let _ = fleet.nodes[leader].ask("POST", "/v1/fleet/step-down", &Value::Null);
        fleet.settled();
    }
    assert_eq!(fleet.leader(), slow);
    let others: Vec<usize> = (0..3).filter(|index| *index != slow).collect();
    let load = Load::through(&fleet, &[0, 1, 2]);
    for number in 0..4 {
        let (answer, _) = fleet.nodes[slow].write(&format!("before-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    // From now on each sync of its disk takes most of a second.
    std::fs::write(&switch, "").unwrap();
    let began = Instant::now();
    let mut number = 0;
    let moved = wait::until(SOON, || {
        number += 1;
        let (answer, _) = fleet.nodes[others[0]].write(&format!("slow-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let leader = fleet.nodes[others[0]].status()?["leader"]
            .as_str()?
            .to_owned();
        (leader != fleet.nodes[slow].name()).then(|| began.elapsed())
    });
    let moved = moved.expect("another leads");
    figure("slow-disk-lead-moved-ms", moved.as_millis());
    let said = fleet.nodes[slow].said();
    assert!(said.contains("disk is slow"), "{said}");
    let (answer, took) = fleet.nodes[others[0]].write("fast-again");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("slow-disk-write-after-ms", took.as_millis());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    std::fs::remove_file(&switch).unwrap();
    fleet.settled();
}

#[test]
fn a_node_that_lacks_what_a_quorum_decided_has_no_lease_until_it_has_it() {
    let scratch = Scratch::new("hung-disk");
    let Some(library) = slow_disk(&scratch) else {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs a C compiler");
        return;
    };
    let mut fleet = Fleet::of(3);
    let leader = fleet.leader();
    let hung = (0..3).find(|index| *index != leader).unwrap();
    let switch = scratch.path().join("hung").display().to_string();
    fleet.nodes[hung].stop();
    fleet.nodes[hung].environment(&[
        ("LD_PRELOAD", &library.display().to_string()),
        ("SLOW_DISK", &switch),
    ]);
    fleet.nodes[hung].start();
    fleet.settled();
    let has_lease = |index: usize| {
        let quorum = fleet.nodes[index].status()?["quorum"].as_bool();
        Some(quorum == Some(true))
    };
    // Without anything that it lacks it goes on with its lease, however long its disk takes.
    std::fs::write(&switch, "hang").unwrap();
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(has_lease(hung), Some(true));
    let (answer, _) = fleet.nodes[leader].write("without-the-hung-one");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let began = Instant::now();
    let over = wait::until(SOON, || (!has_lease(hung)?).then(|| began.elapsed()));
    let over = over.expect("its lease is over");
    figure("hung-disk-lease-over-ms", over.as_millis());
    assert_eq!(has_lease(leader), Some(true));
    // It hears the leader all the while.
    let status = fleet.nodes[hung].status().unwrap();
    assert_eq!(status["nodes"][hung]["consensus"], "voter", "{status}");
    assert_eq!(
        status["leader"].as_str(),
        Some(fleet.nodes[leader].name()),
        "{status}"
    );
    std::fs::remove_file(&switch).unwrap();
    let settled = fleet.settled();
    figure("hung-disk-lease-again-ms", settled.as_millis());
}

/// A library that makes each sync wait while the file that `SLOW_DISK` names is there: for 800 ms, or,
/// where the file says `hang`, until it is there no longer.
fn slow_disk(scratch: &Scratch) -> Option<PathBuf> {
    const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static void wait_for_disk(void) {
    const char *slow = getenv("SLOW_DISK");
    int file = slow ? open(slow, O_RDONLY) : -1;
    if (file < 0) return;
    char how = 0;
    ssize_t count = read(file, &how, 1);
    close(file);
    if (count != 1 || how != 'h') { usleep(800000); return; }
    while (access(slow, F_OK) == 0) usleep(20000);
}
int fsync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_disk();
    return real(file);
}
int fdatasync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_disk();
    return real(file);
}
"#;
    if !Path::new("/usr/bin/cc").exists() {
        return None;
    }
    let source = scratch.path().join("slow.c");
    let library = scratch.path().join("slow.so");
    std::fs::write(&source, SOURCE).unwrap();
    let made = Command::new("/usr/bin/cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(made.success(), "the library cannot be made");
    Some(library)
}

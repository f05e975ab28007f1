//! A disk that fails one sync: what that left in memory is never taken for what is on the disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Guests, Load, figure};
use portcullis_tests::{Fleet, Scratch, wait};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_sync_that_failed_is_never_tried_again_and_the_state_is_written_anew() {
    let scratch = Scratch::new("sync");
    let Some(library) = failing_sync(&scratch) else {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs a C compiler");
        return;
    };
    let mut fleet = Fleet::of(3);
    let (switch, log) = (scratch.path().join("fail"), scratch.path().join("syncs"));
    for (round, way) in [Way::GoesOn, Way::IsKilled].into_iter().enumerate() {
        let failing = (fleet.leader() + 1) % 3;
        let others = [(failing + 1) % 3, (failing + 2) % 3];
        fleet.nodes[failing].stop();
        drop(std::fs::remove_file(&log));
        fleet.nodes[failing].environment(&[
            ("LD_PRELOAD", &library.display().to_string()),
            ("FAIL_SYNC", &switch.display().to_string()),
            ("SYNC_LOG", &log.display().to_string()),
        ]);
        fleet.nodes[failing].start();
        fleet.settled();
        let served = match way {
            Way::GoesOn => vec![0, 1, 2],
            Way::IsKilled => others.to_vec(),
        };
        let load = Load::through(&fleet, &served);
        let file = fleet.nodes[failing].state_file();
        let before = std::fs::metadata(&file).unwrap().ino();
        std::fs::write(&switch, "").unwrap();
        let began = Instant::now();
        let (answer, _) = fleet.nodes[others[0]].write(&format!("failing-{round}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        wait::wait_for("a sync to fail", SOON, || !switch.exists());
        if way == Way::IsKilled {
            // Before it could open its state again.
            fleet.nodes[failing].kill();
            assert_eq!(std::fs::metadata(&file).unwrap().ino(), before);
            fleet.nodes[failing].start();
        }
        wait::wait_for("another file", SOON, || {
            std::fs::metadata(&file).is_ok_and(|it| it.ino() != before)
        });
        let reply = fleet.nodes[others[0]]
            .apply(&[fleet.policy([Guests::Unwelcome, Guests::Welcome][round])])
            .ok();
        assert!(reply["nodes_in_force"].as_u64() >= Some(2), "{reply}");
        fleet.settled();
        let healed = began.elapsed();
        figure(
            &format!("failed-sync-{way:?}-settled-ms"),
            healed.as_millis(),
        );
        assert!(
            fleet.nodes[failing].ended().is_none(),
            "it was not restarted"
        );
        assert!(fleet.nodes[failing].said().contains("written anew"));
        // What failed was the state, and that file was not synced again.
        let log = std::fs::read_to_string(&log).unwrap();
        let own = |line: &&str| line.starts_with(&format!("{before} "));
        let of_file: Vec<&str> = log.lines().filter(own).collect();
        assert_eq!(
            of_file.last(),
            Some(&format!("{before} failed").as_str()),
            "{log}"
        );
        assert!(of_file.len() > 1, "{log}");
        assert!(load.failures().is_empty(), "{:?}", load.failures());
        drop(load);
        // It is needed, and has all that was decided.
        fleet.nodes[others[1]].kill();
        let (answer, _) = fleet.nodes[failing].write(&format!("needed-{round}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        fleet.nodes[others[1]].start();
        fleet.settled();
        fleet.nodes[failing].stop();
        fleet.nodes[failing].environment(&[]);
        fleet.nodes[failing].start();
        fleet.settled();
    }
}

/// What becomes of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It opens its state again by itself.
    GoesOn,
    /// It is killed before it does, and started.
    IsKilled,
}

/// A library that fails the next sync of a state's file while the file that `FAIL_SYNC` names is
/// there, which it removes; and writes down each by the number of its file.
fn failing_sync(scratch: &Scratch) -> Option<PathBuf> {
    const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int is_state(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    char *name = strrchr(path, '/');
    return name && strncmp(name, "/state.redb", 11) == 0;
}
static void note(int file, const char *what) {
    const char *log = getenv("SYNC_LOG");
    struct stat about;
    if (!log || fstat(file, &about) != 0) return;
    int to = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (to < 0) return;
    char line[64];
    int length = snprintf(line, sizeof line, "%lu %s\n", (unsigned long)about.st_ino, what);
    if (write(to, line, length) != length) abort();
    close(to);
}
static int sync_with(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!is_state(file)) return real(file);
    const char *fail = getenv("FAIL_SYNC");
    if (fail && unlink(fail) == 0) {
        note(file, "failed");
        errno = EIO;
        return -1;
    }
    note(file, "synced");
    return real(file);
}
int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }
"#;
    if !Path::new("/usr/bin/cc").exists() {
        return None;
    }
    let source = scratch.path().join("sync.c");
    let library = scratch.path().join("sync.so");
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

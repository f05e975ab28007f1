//! What the logs' files promise, tried on real files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use portcullis_audit::tlog::{Hash, Tile};

use super::home::{Home, append, leaf, note, publish};
use super::*;

#[test]
fn whatever_is_published_can_be_checked_and_nothing_else_lies_there() {
    let home = Home::new();
    let logs = home.open();
    let mut size = 0;
    for more in [1, 1, 253, 1, 1, 255, 256, 257, 3_000, 62_000, 6_000] {
        append(&logs, size, more);
        size += more;
        publish(&logs);
        assert_eq!(home.check(), size);
        if size % 2 == 0 {
            logs.durable().unwrap();
            let wanted: BTreeSet<String> = Tile::added(0, size)
                .iter()
                .map(Tile::path)
                .chain(["checkpoint".to_owned()])
                .collect();
            assert_eq!(home.files(), wanted, "{size}");
        }
    }
    assert!(size > 65_536);
}

#[test]
fn a_checkpoint_older_than_what_is_in_tiles_can_be_published() {
    let home = Home::new();
    let logs = home.open();
    for (first, more) in [(0, 100), (100, 200), (300, 5), (305, 700)] {
        append(&logs, first, more);
        let note = note(&logs.tree(&LogId::Fleet).unwrap());
        append(&logs, first + more, 3);
        // Only every second time is the log further on disk than the checkpoint.
        if first % 200 == 100 {
            logs.durable().unwrap();
        }
        logs.publish(&LogId::Fleet, &note).unwrap();
        assert_eq!(home.check(), first + more);
    }
}

#[test]
fn after_a_crash_the_same_leaves_are_appended_again_from_a_durable_size() {
    let home = Home::new();
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let (mut durable, mut size) = (Tree::EMPTY, 0);
    for _ in 0..60 {
        let logs = home.open();
        logs.begin(&LogId::Fleet, durable.clone()).unwrap();
        // What was there before the crash comes again, and more.
        let mut at = durable.size();
        let end = size + random(700);
        let published = home.published();
        while at < end {
            let more = (1 + random(300)).min(end - at);
            append(&logs, at, more);
            at += more;
            if at >= published && random(3) > 0 {
                publish(&logs);
            }
            if random(4) == 0 {
                logs.durable().unwrap();
                durable = logs.tree(&LogId::Fleet).unwrap();
            }
        }
        size = size.max(at);
        if at >= published {
            publish(&logs);
            assert_eq!(home.check(), at);
        }
        drop(logs);
        // The disk lost what was not synced.
        home.tear(durable.size(), &mut random);
    }
    assert!(size > 5_000);
}

#[test]
fn another_entry_where_there_is_one_is_named() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 300);
    logs.durable().unwrap();
    append(&logs, 300, 100);
    // In tiles, at an edge of them, and waiting.
    for index in [0, 17, 255, 256, 299, 300, 399] {
        append(&logs, index, 1);
        let wrong = logs.append(&LogId::Fleet, index, &[b"another"]);
        assert!(
            matches!(wrong, Err(LogError::Differs { log: LogId::Fleet, index: at }) if at == index),
            "{wrong:?}"
        );
    }
    let gap = logs.append(&LogId::Fleet, 401, &[b"later"]).unwrap_err();
    assert_eq!(
        gap.to_string(),
        "the log fleet goes on at entry 400, entry 401 was given"
    );
    let long = logs.append(&LogId::Fleet, 399, &[leaf(399), vec![0; 65_536]]);
    assert!(matches!(long, Err(LogError::TooLong { index: 400, .. })));
    assert_eq!(logs.tree(&LogId::Fleet).unwrap().size(), 400);
    append(&logs, 390, 20);
    publish(&logs);
    assert_eq!(home.check(), 410);
}

#[test]
fn a_history_other_than_the_published_one_is_not_written() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 300);
    publish(&logs);
    logs.durable().unwrap();
    drop(logs);
    let other = |size: u64| {
        let mut tree = Tree::EMPTY;
        (0..size).for_each(|n| tree.push(Hash::of_leaf(&leaf(n + u64::from(n == 9)))));
        tree
    };
    let fork = |done: Result<(), LogError>| {
        assert!(
            matches!(done, Err(LogError::Fork { size: 300, .. })),
            "{done:?}"
        );
    };
    let logs = home.open();
    // Up to the entry before the checkpoint's last nobody can know.
    let leaves: Vec<Vec<u8>> = (0..310).map(|n| leaf(n + u64::from(n == 9))).collect();
    logs.append(&LogId::Fleet, 0, &leaves[..299]).unwrap();
    let done = logs.append(&LogId::Fleet, 299, &leaves[299..]);
    fork(done.map(drop));
    assert_eq!(logs.tree(&LogId::Fleet).unwrap().size(), 299);
    // Not even where the files are of the other history.
    logs.durable().unwrap();
    drop(logs);
    let logs = home.open();
    logs.begin(&LogId::Fleet, other(299)).unwrap();
    fork(logs.append(&LogId::Fleet, 299, &leaves[299..]).map(drop));
    let note = note(&other(299));
    let older = logs.publish(&LogId::Fleet, &note);
    assert!(matches!(older, Err(LogError::Older { .. })), "{older:?}");
}

#[test]
fn what_is_published_is_a_checkpoint_of_this_tree() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 10);
    publish(&logs);
    let tree = logs.tree(&LogId::Fleet).unwrap();
    let good = note(&tree);
    let said = |text: &str| {
        let note = Note {
            text: text.to_owned(),
            ..good.clone()
        };
        logs.publish(&LogId::Fleet, &note).unwrap_err()
    };
    let (size, root) = (tree.size(), tree.root());
    let zeros = Hash([0; 32]);
    assert!(matches!(
        said("portcullis/f1\n"),
        LogError::NotACheckpoint(..)
    ));
    let other = said(&format!("portcullis/f2\n{size}\n{root}\n"));
    assert!(matches!(other, LogError::OtherLog(..)), "{other}");
    let fork = said(&format!("portcullis/f1\n{size}\n{zeros}\n"));
    assert!(matches!(fork, LogError::Fork { size: 10, .. }), "{fork}");
    let ahead = said(&format!("portcullis/f1\n11\n{root}\n"));
    assert!(
        matches!(
            ahead,
            LogError::Ahead {
                has: 10,
                size: 11,
                ..
            }
        ),
        "{ahead}"
    );
    let older = said(&format!("portcullis/f1\n9\n{root}\n"));
    assert!(
        matches!(
            older,
            LogError::Older {
                published: 10,
                size: 9,
                ..
            }
        ),
        "{older}"
    );
    let tenant = LogId::Tenant("acme".parse().unwrap());
    let unknown = logs.publish(&tenant, &good);
    assert!(matches!(unknown, Err(LogError::Unknown(log)) if log == tenant));
    assert_eq!(home.check(), 10);
}

#[test]
fn files_that_lack_what_the_owner_knows_are_named() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 1_000);
    publish(&logs);
    let at_1000 = logs.tree(&LogId::Fleet).unwrap();
    append(&logs, 1_000, 500);
    let at_1500 = logs.tree(&LogId::Fleet).unwrap();
    logs.durable().unwrap();
    let log = home.directory.join("fleet");
    let (edge, full) = ("tile/0/005.p/220", "tile/entries/003");
    // A wider file will do, and a full one.
    let begin_at_1000 = || {
        for path in ["tile/entries/003.p/232", "tile/0/003.p/232"] {
            fs::remove_file(log.join(path)).unwrap();
        }
        logs.begin(&LogId::Fleet, at_1000.clone())
    };
    begin_at_1000().unwrap();
    // Neither missing nor changed ones do.
    let named = |begun: Result<(), LogError>, path: &str| match begun {
        Err(LogError::Damaged { path: named, .. }) => assert_eq!(named, log.join(path)),
        other => panic!("{other:?}"),
    };
    let bytes = fs::read(log.join(full)).unwrap();
    let mut bad = bytes.clone();
    bad[50] ^= 1;
    fs::write(log.join(full), &bad).unwrap();
    named(begin_at_1000(), full);
    fs::write(log.join(full), &bytes).unwrap();
    logs.begin(&LogId::Fleet, at_1000.clone()).unwrap();
    fs::write(log.join(edge), b"short").unwrap();
    named(logs.begin(&LogId::Fleet, at_1500.clone()), edge);
    fs::remove_file(log.join(edge)).unwrap();
    named(logs.begin(&LogId::Fleet, at_1500), edge);
}

#[test]
fn a_log_whose_owner_is_further_is_caught_up_from_its_checkpoint() {
    let (home, there) = (Home::new(), Home::new());
    let logs = home.open();
    append(&logs, 0, 700);
    publish(&logs);
    logs.durable().unwrap();
    let theirs = there.open();
    append(&theirs, 0, 2_000);
    let further = theirs.tree(&LogId::Fleet).unwrap();
    let begun = logs.begin(&LogId::Fleet, further.clone());
    assert!(matches!(begun, Err(LogError::Damaged { .. })));
    let known = logs.published_tree(&LogId::Fleet).unwrap().unwrap();
    assert_eq!(known.size(), 700);
    logs.begin(&LogId::Fleet, known).unwrap();
    append(&logs, 700, 1_300);
    assert_eq!(logs.tree(&LogId::Fleet), Some(further));
    assert_eq!(
        logs.published_tree(&LogId::Tenant("acme".parse().unwrap()))
            .unwrap(),
        None
    );
    fs::write(home.directory.join("fleet/tile/1/000.p/2"), vec![0; 64]).unwrap();
    let damaged = logs.published_tree(&LogId::Fleet);
    assert!(
        matches!(damaged, Err(LogError::Damaged { .. })),
        "{damaged:?}"
    );
}

#[test]
fn what_could_not_be_written_is_not_claimed_and_is_written_later() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 300);
    publish(&logs);
    append(&logs, 300, 400);
    // A file where a folder must be.
    let (folder, aside) = (
        home.directory.join("fleet/tile/0"),
        home.directory.join("aside"),
    );
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, b"").unwrap();
    let note = note(&logs.tree(&LogId::Fleet).unwrap());
    for _ in 0..2 {
        assert!(logs.durable().is_err());
        assert!(logs.publish(&LogId::Fleet, &note).is_err());
    }
    assert_eq!(home.published(), 300);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    assert_eq!(home.check(), 300);
    logs.publish(&LogId::Fleet, &note).unwrap();
    assert_eq!(home.check(), 700);
    logs.durable().unwrap();
}

#[test]
fn many_logs_hold_nothing_open_and_little_in_memory() {
    let home = Home::new();
    let limit = 64 * 1024;
    let logs = Logs::open_within(&home.directory, limit).unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let tenant = |number: u32| LogId::Tenant(format!("t{number}").parse().unwrap());
    let before = descriptors();
    for first in 0..3 {
        for number in 0..400 {
            let leaves = [vec![b'x'; 500], leaf(first)];
            logs.append(&tenant(number), first * 2, &leaves).unwrap();
            let held = logs.held.lock();
            let waiting: usize = held.logs.values().map(Log::pending_bytes).sum();
            assert!(waiting < limit + 1_000, "{waiting} bytes wait");
        }
    }
    // Other tests of this process open files meanwhile, but not a thousand.
    assert!(descriptors() < before + 200);
    logs.durable().unwrap();
    for number in 0..400 {
        let tree = logs.tree(&tenant(number)).unwrap();
        logs.begin(&tenant(number), tree).unwrap();
    }
}

#[test]
fn who_reads_while_it_is_written_finds_every_checkpoint_whole() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 1);
    publish(&logs);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..400 {
                append(&logs, 1 + number * 9, 9);
                publish(&logs);
                if number % 50 == 0 {
                    logs.durable().unwrap();
                }
            }
        });
        let mut checked = 0;
        while !writer.is_finished() || checked == 0 {
            let note = home.checkpoint();
            let clean = home.verify(&note);
            // Only what a newer checkpoint superseded may be gone.
            assert!(clean.is_ok() || home.checkpoint() != note, "{clean:?}");
            checked += u32::from(clean.is_ok());
        }
    });
}

#[test]
fn everything_is_for_its_owner_alone_and_one_process_at_a_time() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 300);
    publish(&logs);
    let again = Logs::open(&home.directory);
    assert!(
        matches!(again, Err(LogError::Io { error, .. }) if error.kind() == io::ErrorKind::WouldBlock)
    );
    let mut folders = vec![home.directory.clone()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 5);
}

#[test]
fn a_path_names_a_file_of_a_log_or_nothing() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 300);
    publish(&logs);
    for path in [
        "fleet/checkpoint",
        "fleet/tile/0/000",
        "fleet/tile/entries/001.p/44",
    ] {
        let (log, file) = parse_path(path).unwrap();
        assert_eq!(format!("{log}/{file}"), path);
        let bytes = logs.read(&log, file).unwrap().unwrap();
        assert_eq!(bytes, fs::read(home.directory.join(path)).unwrap());
    }
    let (log, file) = parse_path("tenants/acme/tile/7/x001/x234/067.p/3").unwrap();
    assert_eq!(logs.read(&log, file).unwrap(), None);
    for path in [
        "",
        "fleet",
        "fleet/",
        "fleet/lock",
        "lock",
        "checkpoint",
        "tenants/checkpoint",
        "tenants/acme",
        "tenants//checkpoint",
        "tenants/../fleet/checkpoint",
        "tenants/../../secret/checkpoint",
        "fleet/../fleet/checkpoint",
        "fleet//checkpoint",
        "/fleet/checkpoint",
        "fleet/checkpoint/",
        "fleet/checkpoint.new",
        "fleet/tile/0/../0/000",
        "fleet/tile/0/0",
        "fleet/tile/8/000",
        "fleet/tile/0/000.p/256",
        "fleet/tile/0/000.p/0",
        "fleet/tile/0/000.p/1.new",
        "fleet/tile/00/000",
        "fleet/tile/0/x000/000",
        "tenants/acme/tenants/acme/checkpoint",
        "tenants/Acme/checkpoint",
        "tenants/acme\0/checkpoint",
    ] {
        assert_eq!(parse_path(path), None, "{path}");
    }
    // A pipe in a file's place is not waited for.
    let path = home.directory.join("fleet/checkpoint");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(logs.read(&LogId::Fleet, LogFile::Checkpoint).is_err());
}

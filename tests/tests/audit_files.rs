//! The files of the Merkle logs on a disk that is full.

use std::fs;

use portcullis::ledger::tiles::{LogError, LogId, Logs};
use portcullis_audit::tlog::{Checkpoint, Note, NoteSignature, Tile, verify};
use portcullis_tests::fleet::Disk;
use portcullis_tests::{Scratch, requires_root};

#[test]
fn on_a_full_disk_nothing_is_claimed_and_nothing_is_lost() {
    requires_root!();
    let scratch = Scratch::new("full");
    let over = scratch.path().join("disk");
    fs::create_dir(&over).unwrap();
    let disk = Disk::new(&scratch, &over, 8);
    let folder = disk.path().join("logs");
    let logs = Logs::open(&folder).unwrap();
    append(&logs, 0, 300);
    logs.publish(&LogId::Fleet, &note(&logs)).unwrap();
    logs.durable().unwrap();
    disk.fill();
    append(&logs, 300, 4_000);
    let wanted = note(&logs);
    let mut full = 0;
    for _ in 0..3 {
        for done in [logs.publish(&LogId::Fleet, &wanted), logs.durable()] {
            match done {
                Err(LogError::Io { error, .. })
                    if error.kind() == std::io::ErrorKind::StorageFull =>
                {
                    full += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(check(&folder), 300);
    }
    assert_eq!(full, 6);
    // What is appended meanwhile waits.
    append(&logs, 4_300, 100);
    disk.make_room();
    logs.publish(&LogId::Fleet, &wanted).unwrap();
    assert_eq!(check(&folder), 4_300);
    logs.publish(&LogId::Fleet, &note(&logs)).unwrap();
    logs.durable().unwrap();
    assert_eq!(check(&folder), 4_400);
    // The next process finds what this one says.
    let tree = logs.tree(&LogId::Fleet).unwrap();
    drop(logs);
    Logs::open(&folder)
        .unwrap()
        .begin(&LogId::Fleet, tree)
        .unwrap();
}

#[test]
fn leaves_that_find_no_room_anywhere_are_refused_whole() {
    requires_root!();
    let scratch = Scratch::new("room");
    let over = scratch.path().join("disk");
    fs::create_dir(&over).unwrap();
    let disk = Disk::new(&scratch, &over, 4);
    let logs = Logs::open(&disk.path().join("logs")).unwrap();
    // More than may wait in memory, on a disk that takes a part of it only.
    let leaves: Vec<Vec<u8>> = (0..250_u64).map(|n| vec![n as u8; 60_000]).collect();
    let mut size = 0;
    let refused = loop {
        match logs.append(&LogId::Fleet, size, &leaves) {
            Ok(now) => size = now,
            Err(error) => break error,
        }
        assert!(size < 10_000, "no limit is met");
    };
    assert!(matches!(refused, LogError::Io { .. }), "{refused:?}");
    assert_eq!(logs.tree(&LogId::Fleet).unwrap().size(), size);
}

fn append(logs: &Logs, first: u64, count: u64) {
    let leaves: Vec<Vec<u8>> = (first..first + count).map(leaf).collect();
    logs.append(&LogId::Fleet, first, &leaves).unwrap();
}

fn leaf(number: u64) -> Vec<u8> {
    format!("{{\"number\":{number}}}").into_bytes()
}

fn note(logs: &Logs) -> Note {
    let tree = logs.tree(&LogId::Fleet).unwrap();
    let checkpoint = Checkpoint {
        origin: "portcullis/f1".to_owned(),
        size: tree.size(),
        root: tree.root(),
    };
    let signature = NoteSignature {
        name: "portcullis/f1".to_owned(),
        key_id: [0; 4],
        bytes: vec![0; 64],
    };
    Note {
        text: checkpoint.text(),
        signatures: vec![signature],
    }
}

/// Checks every file of the published log; its size.
fn check(folder: &std::path::Path) -> u64 {
    let folder = folder.join("fleet");
    let note = Note::parse(&fs::read(folder.join("checkpoint")).unwrap()).unwrap();
    let checkpoint = Checkpoint::parse(&note.text).unwrap();
    let read = |tile: Tile| Ok::<_, ()>(fs::read(folder.join(tile.path())).ok());
    let findings = verify(&checkpoint, read, |index, entry| {
        assert_eq!(entry, leaf(index));
    });
    assert!(findings.unwrap().is_clean());
    checkpoint.size
}

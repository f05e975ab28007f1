//! A directory of logs for tests, and what is put into it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_audit::tlog::{Checkpoint, Note, Tile, Tree, verify};

use super::{LogId, Logs};

pub(super) fn append(logs: &Logs, first: u64, count: u64) {
    let leaves: Vec<Vec<u8>> = (first..first + count).map(leaf).collect();
    let size = logs.append(&LogId::Fleet, first, &leaves).unwrap();
    assert!(size >= first + count);
}

pub(super) fn publish(logs: &Logs) {
    let tree = logs.tree(&LogId::Fleet).unwrap();
    logs.publish(&LogId::Fleet, &note(&tree)).unwrap();
}

pub(super) fn leaf(number: u64) -> Vec<u8> {
    format!("leaf {number} {}", "x".repeat((number % 50) as usize)).into_bytes()
}

/// Nobody signed it: that is not these files' business.
pub(super) fn note(tree: &Tree) -> Note {
    let checkpoint = Checkpoint {
        origin: "portcullis/f1".to_owned(),
        size: tree.size(),
        root: tree.root(),
    };
    let signature = portcullis_audit::tlog::NoteSignature {
        name: "portcullis/f1".to_owned(),
        key_id: [1, 2, 3, 4],
        bytes: vec![0; 64],
    };
    Note {
        text: checkpoint.text(),
        signatures: vec![signature],
    }
}

/// A directory of logs.
pub(super) struct Home {
    pub(super) directory: PathBuf,
}

impl Home {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-tiles-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        Self { directory }
    }

    pub(super) fn open(&self) -> Logs {
        Logs::open(&self.directory).unwrap()
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let bytes = fs::read(self.directory.join("fleet/checkpoint")).unwrap();
        Checkpoint::parse(&Note::parse(&bytes).unwrap().text).unwrap()
    }

    /// The size of the published checkpoint, 0 if there is none.
    pub(super) fn published(&self) -> u64 {
        let there = self.directory.join("fleet/checkpoint").exists();
        if there { self.checkpoint().size } else { 0 }
    }

    /// Checks every file of the published log; its size.
    pub(super) fn check(&self) -> u64 {
        let checkpoint = self.checkpoint();
        self.verify(&checkpoint).unwrap();
        checkpoint.size
    }

    pub(super) fn verify(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let read = |tile: Tile| {
            let path = self.directory.join("fleet").join(tile.path());
            Ok::<_, Infallible>(fs::read(path).ok())
        };
        let mut shown = 0;
        let findings = verify(checkpoint, read, |index, entry| {
            assert_eq!(entry, leaf(index));
            shown += 1;
        });
        match findings.unwrap() {
            findings if findings.is_clean() && shown == checkpoint.size => Ok(()),
            findings => Err(format!("{findings:?}")),
        }
    }

    /// Everything in the fleet's log.
    pub(super) fn files(&self) -> BTreeSet<String> {
        let root = self.directory.join("fleet");
        let mut found = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let mut entries = fs::read_dir(&folder).unwrap().peekable();
            assert!(entries.peek().is_some(), "{} is empty", folder.display());
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found
    }

    /// Damages, at random, files that hold something beyond this size.
    pub(super) fn tear(&self, durable: u64, random: &mut impl FnMut(u64) -> u64) {
        for path in self.files() {
            let Some(tile) = Tile::parse(&path) else {
                continue;
            };
            let last = tile.subtrees().last().unwrap();
            let file = self.directory.join("fleet").join(&path);
            if (last.index + 1) << last.level > durable {
                match random(4) {
                    0 => fs::remove_file(file).unwrap(),
                    1 => fs::write(file, b"").unwrap(),
                    2 => {
                        let mut bytes = fs::read(&file).unwrap();
                        let at = random(bytes.len() as u64) as usize;
                        bytes[at] ^= 0x55;
                        fs::write(file, bytes).unwrap();
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

//! A stranger's verifier, written from the public formats alone, and ours: they agree on what holds and on what does not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use portcullis_audit::tlog::{
    Checkpoint, Evidence, Hash, KeyKind, Level, Note, NoteKey, Subtree, Tile, Tiles, Tree,
    TrustPolicy, append_entry, encode_tile, prove_inclusion, verify,
};
use portcullis_tests::scratch::{Scratch, repository, tools};

const ORIGIN: &str = "log.example/acme";
/// Whose signatures are under every checkpoint; two of them are asked for.
const VOTERS: [u8; 3] = [2, 3, 4];

#[test]
fn both_find_a_log_good_at_every_size_and_bad_with_any_part_of_it_changed() {
    for size in [0, 1, 255, 256, 257, 1_000, 70_000] {
        let log = Log::with(size);
        let said = log.strangers(&["log"]);
        assert_eq!(
            said.text(),
            format!("ok {ORIGIN} {size} {size}\n"),
            "{said:?}"
        );
        assert!(log.ours(), "{size}");
    }
    let whole = Log::with(70_000);
    for (path, byte) in [
        ("checkpoint", 3),
        ("checkpoint", 20),
        ("checkpoint", 120),
        ("tile/entries/001", 40),
        ("tile/entries/273.p/112", 0),
        ("tile/0/001", 5_000),
        ("tile/0/273.p/112", 1),
        ("tile/1/000", 0),
        ("tile/1/001.p/17", 543),
        ("tile/2/000.p/1", 31),
    ] {
        let file = whole.folder.path().join(path);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[byte] ^= 1;
        for bad in [bad, good[..good.len() - 1].to_vec()] {
            fs::write(&file, bad).unwrap();
            let said = whole.strangers(&["log"]);
            assert_eq!(said.code(), Some(1), "{path} {byte}: {said:?}");
            assert!(!whole.ours(), "{path} {byte}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(whole.strangers(&["log"]).code(), Some(1), "{path}");
        assert!(!whole.ours(), "{path}");
        fs::write(&file, good).unwrap();
    }
    assert!(whole.ours());
}

#[test]
fn a_stranger_accepts_our_proofs_for_their_entries_alone() {
    let log = Log::with(70_000);
    let entry_file = log.folder.path().join("entry");
    let proof_file = log.folder.path().join("entry.tlog-proof");
    for index in [0, 255, 256, 421, 65_536, 69_999] {
        let proof = log.prove(index);
        assert!(proof.len() < 2_048, "{} bytes", proof.len());
        fs::write(&proof_file, proof).unwrap();
        fs::write(&entry_file, entry(index)).unwrap();
        let files = [&proof_file, &log.policy(), &entry_file].map(|it| it.display().to_string());
        let said = stranger("proof", &files);
        assert_eq!(
            said.text(),
            format!("ok {ORIGIN} {index} 70000\n"),
            "{said:?}"
        );
        fs::write(&entry_file, entry(index + 1)).unwrap();
        assert_eq!(stranger("proof", &files).code(), Some(1), "{index}");
    }
}

#[test]
fn a_log_that_grew_is_told_from_one_that_was_rewritten() {
    let (short, long) = (Log::with(300), Log::with(70_000));
    let old = short.folder.path().join("checkpoint").display().to_string();
    let files = |log: &Log| {
        let folder = log.folder.path().display().to_string();
        [folder, old.clone(), log.policy().display().to_string()]
    };
    let said = stranger("consistent", &files(&long));
    assert_eq!(said.text(), "ok 300 70000\n", "{said:?}");
    let rewritten = Log::of((0..400).map(|n| entry(n + u64::from(n == 17))));
    assert!(rewritten.ours());
    let said = stranger("consistent", &files(&rewritten));
    assert_eq!(said.code(), Some(1), "{said:?}");
    assert!(said.text().contains("fork"), "{said:?}");
}

fn entry(n: u64) -> Vec<u8> {
    format!("{{\"kind\":\"policy.applied\",\"revision\":{n}}}").into_bytes()
}

/// A log in a folder, with the policy by which it is believed.
struct Log {
    folder: Scratch,
    hashes: BTreeMap<Subtree, Hash>,
    size: u64,
}

impl Log {
    fn with(size: u64) -> Self {
        Self::of((0..size).map(entry))
    }

    fn of(entries: impl Iterator<Item = Vec<u8>>) -> Self {
        let folder = Scratch::new("tlog");
        let (mut tree, mut hashes) = (Tree::EMPTY, BTreeMap::new());
        let entries: Vec<Vec<u8>> = entries.collect();
        for entry in &entries {
            tree.append(Hash::of_leaf(entry), |at, hash| {
                hashes.insert(at, hash);
            });
        }
        for tile in Tile::added(0, tree.size()) {
            let mut bytes = Vec::new();
            for at in tile.subtrees() {
                match tile.level {
                    Level::Entries => {
                        let index = usize::try_from(at.index).unwrap();
                        append_entry(&mut bytes, &entries[index]).unwrap();
                    }
                    Level::Hashes(_) => bytes.extend(encode_tile(&[hashes[&at]])),
                }
            }
            let file = folder.path().join(tile.path());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size: tree.size(),
            root: tree.root(),
        };
        let text = checkpoint.text();
        let mut signatures = vec![key(KeyKind::Log, 1).sign(&text, sign(1))];
        for voter in VOTERS {
            let key = key(KeyKind::Cosigner, voter);
            signatures.push(key.cosign(&text, 1_800_000_000, sign(voter)));
        }
        let note = Note { text, signatures };
        fs::write(folder.path().join("checkpoint"), note.to_string()).unwrap();
        let voters = VOTERS.map(|voter| key(KeyKind::Cosigner, voter));
        let policy = TrustPolicy::of(key(KeyKind::Log, 1), voters.to_vec(), 2).unwrap();
        let log = Self {
            folder,
            hashes,
            size: tree.size(),
        };
        fs::write(log.policy(), policy.to_string()).unwrap();
        log
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("policy")
    }

    fn strangers(&self, command: &[&str]) -> Said {
        let folder = self.folder.path().display().to_string();
        stranger(command[0], &[folder, self.policy().display().to_string()])
    }

    /// Whether our own verifier finds nothing.
    fn ours(&self) -> bool {
        let read = |path: &str| fs::read(self.folder.path().join(path)).ok();
        let policy = fs::read_to_string(self.policy()).unwrap();
        let policy = TrustPolicy::parse(&policy).unwrap();
        let Some(Ok(note)) = read("checkpoint").map(|bytes| Note::parse(&bytes)) else {
            return false;
        };
        let Ok(believed) = policy.check(&note) else {
            return false;
        };
        let read = |tile: Tile| Ok::<_, Infallible>(read(&tile.path()));
        verify(&believed.checkpoint, read, |_, _| {})
            .unwrap()
            .is_clean()
    }

    fn prove(&self, index: u64) -> String {
        let mut tiles = Tiles::new(self.size, |tile: Tile| {
            let hashes: Vec<Hash> = tile.subtrees().map(|at| self.hashes[&at]).collect();
            Ok::<_, Infallible>(encode_tile(&hashes))
        });
        let checkpoint = fs::read(self.folder.path().join("checkpoint")).unwrap();
        let evidence = Evidence {
            extra: None,
            index,
            proof: prove_inclusion(index, self.size, &mut tiles).unwrap(),
            checkpoint: Note::parse(&checkpoint).unwrap(),
        };
        evidence.to_string()
    }
}

fn key(kind: KeyKind, seed: u8) -> NoteKey {
    let name = match kind {
        KeyKind::Log => ORIGIN.to_owned(),
        KeyKind::Cosigner => format!("n{seed}.example"),
    };
    let public = pair(seed).public_key().as_ref().try_into().unwrap();
    NoteKey::new(&name, kind, public).unwrap()
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn sign(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| pair(seed).sign(message).as_ref().try_into().unwrap()
}

/// What the stranger's program said.
#[derive(Debug)]
struct Said(Output);

impl Said {
    fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    fn text(&self) -> String {
        let text = [self.0.stdout.clone(), self.0.stderr.clone()].concat();
        String::from_utf8(text).unwrap()
    }
}

fn stranger(command: &str, files: &[String]) -> Said {
    let program = repository().join("tests/programs/tlog.py");
    let python = tools().join("venv/bin/python");
    let mut stranger = Command::new(python);
    let ran = stranger.arg(program).arg(command).args(files).output();
    Said(ran.expect("python runs: `make setup` installs it"))
}

//! A whole log is checked: whatever is changed is named, and what is not there is told apart from what is wrong.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a helper fails"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use portcullis_audit::tlog::{
    Checkpoint, Finding, Findings, Hash, KeyKind, Level, NotAPolicy, NotBelieved, Note, NoteKey,
    Subtree, Tile, Tree, TrustPolicy, Wrong, append_entry, encode_tile, verify,
};
use proptest::prelude::*;

mod kept;

/// A log as its files.
#[derive(Clone)]
struct Files {
    checkpoint: Checkpoint,
    files: BTreeMap<Tile, Vec<u8>>,
}

fn entry(n: u64) -> Vec<u8> {
    format!("entry number {n:06}").into_bytes()
}

impl Files {
    fn of(entries: &[Vec<u8>]) -> Self {
        let (mut tree, mut hashes) = (Tree::EMPTY, BTreeMap::new());
        for entry in entries {
            tree.append(Hash::of_leaf(entry), |at, hash| {
                hashes.insert(at, hash);
            });
        }
        let mut files = BTreeMap::new();
        for tile in Tile::added(0, tree.size()) {
            let subtrees = tile.subtrees();
            let bytes = match tile.level {
                Level::Entries => {
                    let mut bundle = Vec::new();
                    for Subtree { index, .. } in subtrees {
                        let entry = &entries[usize::try_from(index).unwrap()];
                        append_entry(&mut bundle, entry).unwrap();
                    }
                    bundle
                }
                Level::Hashes(_) => {
                    encode_tile(&subtrees.map(|at| hashes[&at]).collect::<Vec<_>>())
                }
            };
            files.insert(tile, bytes);
        }
        Self {
            checkpoint: Checkpoint {
                origin: "log.example".to_owned(),
                size: tree.size(),
                root: tree.root(),
            },
            files,
        }
    }

    fn with(size: u64) -> Self {
        Self::of(&(0..size).map(entry).collect::<Vec<_>>())
    }

    fn verify(&self) -> Findings {
        let mut shown = 0;
        let read = |tile| Ok::<_, Infallible>(self.files.get(&tile).cloned());
        let found = verify(&self.checkpoint, read, |_, _| shown += 1).unwrap();
        if found.is_clean() {
            assert_eq!(shown, self.checkpoint.size);
        }
        found
    }

    fn file(&mut self, path: &str) -> &mut Vec<u8> {
        self.files.get_mut(&Tile::parse(path).unwrap()).unwrap()
    }

    fn told(&self) -> Vec<String> {
        self.verify().all.iter().map(Finding::to_string).collect()
    }
}

#[test]
fn a_log_as_it_was_written_is_clean_at_every_size() {
    for size in [
        0, 1, 2, 255, 256, 257, 511, 512, 1_000, 65_535, 65_536, 65_537, 70_000,
    ] {
        assert_eq!(Files::with(size).told(), [""; 0], "{size}");
    }
}

#[test]
fn a_changed_entry_is_named_by_its_place() {
    for (size, index) in [
        (1, 0),
        (300, 17),
        (300, 299),
        (70_000, 421),
        (70_000, 69_999),
    ] {
        let mut log = Files::with(size);
        let bundle = Tile::at(Level::Entries, index / 256, size).unwrap();
        let wanted = entry(index);
        let bytes = log.files.get_mut(&bundle).unwrap();
        let at = bytes
            .windows(wanted.len())
            .rposition(|it| it == wanted)
            .unwrap();
        bytes[at] ^= 1;
        assert_eq!(log.told(), [format!("entry {index} was changed")]);
        assert!(log.verify().is_tampered());
    }
}

#[test]
fn an_entry_and_its_hash_changed_together_are_both_named() {
    let mut entries: Vec<Vec<u8>> = (0..1_000).map(entry).collect();
    let honest = Files::of(&entries);
    entries[421] = b"nothing happened here".to_vec();
    let forged = Files::of(&entries);
    let mut log = honest.clone();
    for path in ["tile/entries/001", "tile/0/001"] {
        *log.file(path) = forged.files[&Tile::parse(path).unwrap()].clone();
    }
    // The tile above tells that neither is right; of 256 it cannot tell which.
    assert_eq!(
        log.told(),
        ["entries 256 to 511 are not those of the checkpoint"]
    );
    // All the way up: the checkpoint tells.
    let mut log = honest.clone();
    log.files = forged.files;
    assert_eq!(
        log.told(),
        ["entries 0 to 999 are not those of the checkpoint"]
    );
}

#[test]
fn a_changed_hash_is_named_by_its_tile_and_place() {
    for (path, byte, told) in [
        (
            "tile/0/001",
            165 * 32 + 5,
            "tile/0/001: hash 165 was changed",
        ),
        (
            "tile/0/273.p/112",
            0,
            "tile/0/273.p/112: hash 0 was changed",
        ),
        ("tile/1/000", 7 * 32, "tile/1/000: hash 7 was changed"),
        (
            "tile/1/001.p/17",
            16 * 32,
            "tile/1/001.p/17: hash 16 was changed",
        ),
        ("tile/2/000.p/1", 31, "tile/2/000.p/1: hash 0 was changed"),
    ] {
        let mut log = Files::with(70_000);
        log.file(path)[byte] ^= 0x80;
        assert_eq!(log.told(), [told]);
    }
}

#[test]
fn several_changes_are_each_named() {
    let mut log = Files::with(70_000);
    log.file("tile/0/001")[0] ^= 1;
    log.file("tile/1/000")[40] ^= 1;
    log.file("tile/2/000.p/1")[0] ^= 1;
    let last = log.file("tile/entries/273.p/112").len() - 1;
    log.file("tile/entries/273.p/112")[last] ^= 1;
    assert_eq!(
        log.told(),
        [
            "tile/2/000.p/1: hash 0 was changed",
            "tile/1/000: hash 1 was changed",
            "tile/0/001: hash 0 was changed",
            "entry 69999 was changed",
        ]
    );
}

#[test]
fn entries_swapped_removed_or_cut_off_are_named() {
    let mut entries: Vec<Vec<u8>> = (0..300).map(entry).collect();
    let honest = Files::of(&entries);
    entries.swap(17, 18);
    let mut log = honest.clone();
    *log.file("tile/entries/000") = Files::of(&entries).file("tile/entries/000").clone();
    assert_eq!(log.told(), ["entry 17 was changed", "entry 18 was changed"]);
    let mut log = honest.clone();
    let length = log.file("tile/entries/001.p/44").len();
    log.file("tile/entries/001.p/44").truncate(length - 3);
    assert_eq!(
        log.told(),
        ["tile/entries/001.p/44: it ends after 43 whole entries"]
    );
    assert!(log.verify().is_tampered());
    let mut log = honest.clone();
    log.file("tile/0/001.p/44").push(0);
    assert_eq!(
        log.told(),
        ["tile/0/001.p/44: 1409 bytes are not 44 hashes"]
    );
    // Bundles in each other's place.
    let mut log = Files::with(600);
    let one = log.file("tile/entries/000").clone();
    let two = std::mem::replace(log.file("tile/entries/001"), one);
    *log.file("tile/entries/000") = two;
    assert_eq!(log.told().len(), 512);
}

#[test]
fn what_is_missing_is_told_apart_from_what_is_wrong() {
    let mut log = Files::with(1_000);
    log.files.remove(&Tile::parse("tile/entries/001").unwrap());
    log.files.remove(&Tile::parse("tile/0/002").unwrap());
    assert_eq!(
        log.told(),
        [
            "tile/entries/001 is missing (entries 256 to 511)",
            "tile/0/002 is missing (entries 512 to 767)",
        ]
    );
    let found = log.verify();
    assert!(!found.is_clean() && !found.is_tampered());
    // What is left is checked all the same.
    log.file("tile/0/001")[0] ^= 1;
    assert!(log.verify().is_tampered());
    // A log of which nothing is left shows nothing.
    log.files.clear();
    assert!(log.verify().is_tampered());
}

#[test]
fn a_full_tile_does_where_the_partial_one_is_gone() {
    let (mut log, long) = (Files::with(300), Files::with(600));
    log.files
        .retain(|tile, _| !long.files.contains_key(&tile.full()));
    log.files.extend(
        long.files
            .into_iter()
            .filter(|(tile, _)| !tile.is_partial()),
    );
    assert!(
        !log.files
            .contains_key(&Tile::parse("tile/0/001.p/44").unwrap())
    );
    assert_eq!(log.told(), [""; 0]);
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn key(name: &str, kind: KeyKind, seed: u8) -> NoteKey {
    let public = pair(seed).public_key().as_ref().try_into().unwrap();
    NoteKey::new(name, kind, public).unwrap()
}

fn sign(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| pair(seed).sign(message).as_ref().try_into().unwrap()
}

#[test]
fn a_checkpoint_is_believed_by_its_log_and_enough_of_the_voters() {
    let log = key("log.example", KeyKind::Log, 1);
    let voters: Vec<NoteKey> = (2..5)
        .map(|seed| key(&format!("n{seed}"), KeyKind::Cosigner, seed))
        .collect();
    let policy = TrustPolicy::of(log.clone(), voters.clone(), 2).unwrap();
    assert_eq!(TrustPolicy::parse(&policy.to_string()), Ok(policy.clone()));
    let text = Files::with(3).checkpoint.text();
    let own = log.sign(&text, sign(1));
    let cosigned =
        |seed: u8| voters[usize::from(seed) - 2].cosign(&text, 100 + u64::from(seed), sign(seed));
    let note = |signatures: Vec<_>| Note {
        text: text.clone(),
        signatures,
    };
    let believed = policy
        .check(&note(vec![own.clone(), cosigned(2), cosigned(4)]))
        .unwrap();
    assert_eq!(believed.checkpoint.size, 3);
    let witnesses = BTreeMap::from([("w0".to_owned(), 102), ("w2".to_owned(), 104)]);
    assert_eq!(believed.witnesses, witnesses);
    let refused = |signatures| policy.check(&note(signatures)).unwrap_err();
    assert_eq!(
        refused(vec![own.clone(), cosigned(2)]).to_string(),
        "`voters` must have cosigned it, and only w0 did"
    );
    // Twice the same is one.
    assert!(matches!(
        refused(vec![own.clone(), cosigned(2), cosigned(2)]),
        NotBelieved::NoQuorum { .. }
    ));
    assert_eq!(
        refused(vec![cosigned(2), cosigned(3)]),
        NotBelieved::NotSigned("log.example".to_owned())
    );
    let mut wrong = cosigned(3);
    wrong.bytes[20] ^= 1;
    assert_eq!(
        refused(vec![own.clone(), cosigned(2), cosigned(4), wrong]),
        NotBelieved::WrongSignature("w1".to_owned())
    );
    // A stranger's signature neither helps nor harms.
    let stranger = key("n9", KeyKind::Cosigner, 9).cosign(&text, 1, sign(9));
    assert!(
        policy
            .check(&note(vec![own, cosigned(2), stranger, cosigned(3)]))
            .is_ok()
    );
    let other = key("other.example", KeyKind::Log, 1);
    let policy = TrustPolicy::of(other, Vec::new(), 0).unwrap();
    assert_eq!(
        policy.check(&note(Vec::new())),
        Err(NotBelieved::OtherLog("log.example".to_owned()))
    );
}

#[test]
fn a_policy_says_what_is_wrong_with_it_and_where() {
    let log = key("log.example", KeyKind::Log, 1);
    let one = key("n2", KeyKind::Cosigner, 2);
    let two = key("n3", KeyKind::Cosigner, 3);
    let good = format!(
        "# whom we believe\n\nlog {log} https://log.example/\n\twitness a {one}\nwitness b  {two}\n\
         group both all a b\nquorum both\n"
    );
    assert!(TrustPolicy::parse(&good).is_ok());
    for (wrong, number, what) in [
        (format!("log {one}\nquorum none\n"), 1, Wrong::KeyKind),
        (
            format!("log {log}\nlog {log}\nquorum none\n"),
            2,
            Wrong::Twice,
        ),
        (
            format!("witness a {one}\nwitness b {one}\nquorum a\n"),
            2,
            Wrong::Twice,
        ),
        (
            format!("witness none {one}\nquorum none\n"),
            1,
            Wrong::Twice,
        ),
        (
            format!("witness a {one}\ngroup g any a a\nquorum g\n"),
            2,
            Wrong::Twice,
        ),
        (
            format!("witness a {one}\ngroup g any a\ngroup h any a\nquorum g\n"),
            3,
            Wrong::Twice,
        ),
        (
            format!("witness a {one}\ngroup g 2 a\nquorum g\n"),
            2,
            Wrong::Threshold,
        ),
        (
            format!("witness a {one}\ngroup g 0 a\nquorum g\n"),
            2,
            Wrong::Threshold,
        ),
        ("quorum a\n".to_owned(), 1, Wrong::Unknown),
        (
            "quorum none\nquorum none\n".to_owned(),
            2,
            Wrong::SecondQuorum,
        ),
        ("logs\n".to_owned(), 1, Wrong::Form),
    ] {
        assert_eq!(
            TrustPolicy::parse(&wrong),
            Err(NotAPolicy::Line { number, what }),
            "{wrong}"
        );
    }
    assert_eq!(
        TrustPolicy::parse(&format!("log {log}\n")),
        Err(NotAPolicy::NoQuorum)
    );
}

#[test]
fn a_logs_key_is_that_of_the_logs_beneath_its_name_and_of_no_others() {
    let log = key("log.example/f", KeyKind::Log, 1);
    let voter = key("n2", KeyKind::Cosigner, 2);
    let policy = TrustPolicy::of(log.clone(), vec![voter.clone()], 1).unwrap();
    assert_eq!(policy.for_log("log.example/f"), Some(policy.clone()));
    for other in [
        "log.example",
        "log.example/fg",
        "log.example/g",
        "",
        "/log.example/f",
        "log.example/f/a b",
    ] {
        assert_eq!(policy.for_log(other), None, "{other}");
    }
    let below = policy.for_log("log.example/f/t/a").unwrap();
    let checkpoint = Checkpoint {
        origin: "log.example/f/t/a".to_owned(),
        ..Files::with(3).checkpoint
    };
    let text = checkpoint.text();
    let own = key("log.example/f/t/a", KeyKind::Log, 1).sign(&text, sign(1));
    let note = |signatures| Note {
        text: text.clone(),
        signatures,
    };
    let cosigned = voter.cosign(&text, 100, sign(2));
    let whole = note(vec![own.clone(), cosigned.clone()]);
    assert_eq!(below.check(&whole).unwrap().checkpoint, checkpoint);
    assert!(matches!(
        policy.check(&whole),
        Err(NotBelieved::OtherLog(_))
    ));
    // The conditions are the same, and the name that a signature bears is the log's own.
    let error = below.check(&note(vec![own])).unwrap_err();
    assert!(matches!(error, NotBelieved::NoQuorum { .. }), "{error}");
    let others = log.sign(&text, sign(1));
    let error = below.check(&note(vec![others, cosigned])).unwrap_err();
    assert!(matches!(error, NotBelieved::NotSigned(_)), "{error}");
    // A log that the policy names has the keys that it names for it.
    let named = key("log.example/f/t/a", KeyKind::Log, 3);
    let both = TrustPolicy::parse(&format!("log {log}\nlog {named}\nquorum none\n")).unwrap();
    let error = both.for_log("log.example/f/t/a").unwrap().check(&whole);
    assert!(matches!(error, Err(NotBelieved::NotSigned(_))), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_flipped_bit_anywhere_is_found(
        size in 1_u64..1_500, file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let mut log = Files::with(size);
        let tile = *log.files.keys().nth(file.index(log.files.len())).unwrap();
        let bytes = log.files.get_mut(&tile).unwrap();
        let byte = byte.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        let found = log.verify();
        prop_assert!(found.is_tampered());
        // It is named as near as its file tells.
        let [finding, ..] = found.all.as_slice() else { panic!("nothing") };
        match (tile.level, finding) {
            (Level::Hashes(_), Finding::Hash { tile: named, position }) => {
                prop_assert_eq!((*named, usize::from(*position)), (tile, byte / 32));
            }
            (Level::Entries, Finding::Entry { index }) => {
                prop_assert_eq!(*index / 256, tile.index);
            }
            (Level::Entries, Finding::Malformed { tile: named, .. }) => prop_assert_eq!(*named, tile),
            (_, other) => panic!("{other}"),
        }
    }
}

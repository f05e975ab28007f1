//! The tree, its proofs, its files and its notes, against the standards' own examples and against each other.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a helper fails"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use portcullis_audit::tlog::{
    Checkpoint, Evidence, Hash, KeyKind, Level, NoProof, NotAKey, NotANote, Note, NoteKey, Said,
    Subtree, Subtrees, TILE_WIDTH, Tile, Tiles, Tree, WrongBundle, WrongProof, append_entry,
    check_consistency, check_inclusion, encode_tile, entries, prove_consistency, prove_inclusion,
    root_at,
};
use proptest::prelude::*;

/// Every full subtree's hash, as a tree that grew showed them.
#[derive(Default)]
struct Grown {
    tree: Option<Tree>,
    hashes: BTreeMap<Subtree, Hash>,
    roots: Vec<Hash>,
}

impl Grown {
    fn of(leaves: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut grown = Self::default();
        let mut tree = Tree::EMPTY;
        grown.roots.push(tree.root());
        for leaf in leaves {
            tree.append(Hash::of_leaf(&leaf), |at, hash| {
                grown.hashes.insert(at, hash);
            });
            grown.roots.push(tree.root());
        }
        grown.tree = Some(tree);
        grown
    }

    fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).unwrap()]
    }

    fn tile(&self, tile: Tile) -> Vec<u8> {
        let hashes: Vec<Hash> = tile.subtrees().map(|at| self.hashes[&at]).collect();
        encode_tile(&hashes)
    }
}

impl Subtrees for Grown {
    type Error = Subtree;

    fn subtree(&mut self, at: Subtree) -> Result<Hash, Subtree> {
        self.hashes.get(&at).copied().ok_or(at)
    }
}

fn leaf(n: u64) -> Vec<u8> {
    format!("leaf {n}").into_bytes()
}

#[test]
fn the_tree_is_that_of_certificate_transparency() {
    // The leaves and roots with which that standard's implementations are tested.
    let leaves: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
            0x6e, 0x6f,
        ],
    ];
    let grown = Grown::of(leaves.map(<[u8]>::to_vec));
    let hex = |hash: Hash| hash.0.map(|byte| format!("{byte:02x}")).concat();
    for (size, root) in [
        (
            0,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            1,
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            8,
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ] {
        assert_eq!(hex(grown.root(size)), root);
    }
}

#[test]
fn every_leaf_of_every_small_tree_is_proved_and_no_other_is() {
    let mut grown = Grown::of((0..40).map(leaf));
    for size in 1..=40 {
        let root = grown.root(size);
        for index in 0..size {
            let proof = prove_inclusion(index, size, &mut grown).unwrap();
            let hash = Hash::of_leaf(&leaf(index));
            assert_eq!(check_inclusion(hash, index, &proof, size, root), Ok(()));
            let other = Hash::of_leaf(b"another");
            assert_eq!(
                check_inclusion(other, index, &proof, size, root),
                Err(WrongProof::Root)
            );
            for elsewhere in (0..size).filter(|elsewhere| *elsewhere != index) {
                assert!(check_inclusion(hash, elsewhere, &proof, size, root).is_err());
            }
            let mut longer = proof.clone();
            longer.push(other);
            assert!(check_inclusion(hash, index, &longer, size, root).is_err());
            if let Some((_, shorter)) = proof.split_last() {
                assert!(check_inclusion(hash, index, shorter, size, root).is_err());
            }
        }
        assert_eq!(
            prove_inclusion(size, size, &mut grown),
            Err(NoProof::Outside)
        );
        assert_eq!(root_at(size, &mut grown), Ok(root));
    }
}

#[test]
fn every_small_tree_is_proved_to_begin_as_every_smaller_one() {
    let mut grown = Grown::of((0..40).map(leaf));
    let mut other = Grown::of((0..40).map(|n| leaf(n + u64::from(n == 17))));
    for new in 0..=40 {
        for old in 0..=new {
            let (before, after) = ((old, grown.root(old)), (new, grown.root(new)));
            let proof = prove_consistency(old, new, &mut grown).unwrap();
            assert_eq!(
                check_consistency(before, after, &proof),
                Ok(()),
                "{old} {new}"
            );
            let mut longer = proof.clone();
            longer.push(Hash::of_nothing());
            assert!(check_consistency(before, after, &longer).is_err());
            if let Some((_, shorter)) = proof.split_last() {
                assert!(check_consistency(before, after, shorter).is_err());
            }
            // A history that was changed in the middle is not the same history.
            let changed = prove_consistency(old, new, &mut other).unwrap();
            let rewritten = check_consistency(before, (new, other.root(new)), &changed);
            assert_eq!(rewritten.is_err(), old > 17, "{old} {new}");
        }
        assert_eq!(
            prove_consistency(new + 1, new, &mut grown),
            Err(NoProof::Outside)
        );
        let (before, after) = ((new + 1, Hash::of_nothing()), (new, grown.root(new)));
        assert_eq!(
            check_consistency(before, after, &[]),
            Err(WrongProof::Outside)
        );
    }
}

#[test]
fn proofs_are_read_from_tiles_alone() {
    let size = 70_000;
    let grown = Grown::of((0..size).map(leaf));
    let root = grown.root(size);
    // The standard's own example of such a tree.
    let all = Tile::added(0, size);
    let count = |level: Level| all.iter().filter(|tile| tile.level == level).count();
    assert_eq!(count(Level::Entries), 274);
    assert_eq!(count(Level::Hashes(0)), 274);
    let width = |level: Level, index: u64| Tile::at(level, index, size).map(|tile| tile.width);
    assert_eq!(width(Level::Hashes(0), 273), Some(112));
    assert_eq!(width(Level::Hashes(1), 0), Some(TILE_WIDTH));
    assert_eq!(width(Level::Hashes(1), 1), Some(17));
    assert_eq!(width(Level::Hashes(2), 0), Some(1));
    assert_eq!(width(Level::Hashes(3), 0), None);
    assert_eq!(count(Level::Hashes(1)), 2);
    assert_eq!(count(Level::Hashes(2)), 1);
    assert_eq!(count(Level::Hashes(3)), 0);

    let mut read = 0;
    let mut tiles = Tiles::new(size, |tile| {
        read += 1;
        assert!(all.contains(&tile), "{tile:?}");
        Ok::<_, Infallible>(grown.tile(tile))
    });
    assert_eq!(root_at(size, &mut tiles), Ok(root));
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, size - 1] {
        let proof = prove_inclusion(index, size, &mut tiles).unwrap();
        let hash = Hash::of_leaf(&leaf(index));
        assert_eq!(check_inclusion(hash, index, &proof, size, root), Ok(()));
    }
    for old in [1, 255, 256, 257, 65_536, 65_537, size] {
        let proof = prove_consistency(old, size, &mut tiles).unwrap();
        let before = (old, grown.root(old));
        assert_eq!(check_consistency(before, (size, root), &proof), Ok(()));
    }
    drop(tiles);
    assert!(read < 40, "{read} tiles were read");
}

#[test]
fn a_tile_that_is_short_is_named() {
    let grown = Grown::of((0..300).map(leaf));
    let mut tiles = Tiles::new(300, |tile| {
        let mut bytes = grown.tile(tile);
        bytes.truncate(bytes.len() - 1);
        Ok::<_, Infallible>(bytes)
    });
    let problem = root_at(300, &mut tiles).unwrap_err().to_string();
    assert!(problem.contains("tile/"), "{problem}");
}

#[test]
fn a_growing_log_adds_the_tiles_that_changed_and_no_others() {
    let names =
        |old, new| -> Vec<String> { Tile::added(old, new).iter().map(Tile::path).collect() };
    assert_eq!(names(0, 0), [""; 0]);
    assert_eq!(names(0, 3), ["tile/entries/000.p/3", "tile/0/000.p/3"]);
    assert_eq!(
        names(255, 256),
        ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    );
    assert_eq!(names(256, 258), ["tile/entries/001.p/2", "tile/0/001.p/2"]);
    assert_eq!(names(258, 258), [""; 0]);
}

#[test]
fn a_tiles_path_has_one_spelling() {
    let far = Tile {
        level: Level::Hashes(1),
        index: 1_234_067,
        width: 5,
    };
    assert_eq!(far.path(), "tile/1/x001/x234/067.p/5");
    assert_eq!(far.full().path(), "tile/1/x001/x234/067");
    assert_eq!(Tile::parse(&far.path()), Some(far));
    for wrong in [
        "tile/1/x001/x234/67.p/5",
        "tile/1/001/x234/067.p/5",
        "tile/1/xx001/x234/067.p/5",
        "tile/1/x000/x234/067.p/5",
        "tile/1/x001/x234/x067.p/5",
        "tile/1/x001/x234/067.p/0",
        "tile/1/x001/x234/067.p/256",
        "tile/1/x001/x234/067.p/05",
        "tile/01/067",
        "tile/64/067",
        "tile/+1/067",
        "tile/entries",
        "tile/entries/",
        "tile/entries/../../checkpoint",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "/tile/0/000",
        "tile/0/000/",
    ] {
        assert_eq!(Tile::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_bundle_holds_its_entries_and_nothing_else() {
    let mut bundle = Vec::new();
    let longest = vec![7; 65_535];
    for entry in [b"first".as_slice(), b"", &longest] {
        append_entry(&mut bundle, entry).unwrap();
    }
    assert_eq!(append_entry(&mut bundle, &[0; 65_536]), Err(65_536));
    let read = entries(&bundle, 3).unwrap();
    assert_eq!(read, [b"first".as_slice(), b"", &longest]);
    assert_eq!(entries(&bundle, 4), Err(WrongBundle::Short(3)));
    assert_eq!(entries(&bundle, 2), Err(WrongBundle::Long(65_537)));
    bundle.pop();
    assert_eq!(entries(&bundle, 3), Err(WrongBundle::Short(2)));
    assert_eq!(entries(&[0], 1), Err(WrongBundle::Short(0)));
}

const POET: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SAYING: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn a_strangers_note_is_read_and_verified() {
    // The example of Go's own package for such notes.
    let key = NoteKey::parse(POET).unwrap();
    assert_eq!((key.name(), key.kind()), ("PeterNeumann", KeyKind::Log));
    assert_eq!(key.to_string(), POET);
    let note = Note::parse(SAYING.as_bytes()).unwrap();
    assert_eq!(note.to_string(), SAYING);
    assert_eq!(key.check(&note), Said::Yes { at: None });
    let mut changed = note.clone();
    changed.text = changed.text.replace("don't", "do");
    assert_eq!(key.check(&changed), Said::Wrong);
    let mut unsigned = note;
    unsigned.signatures[0].key_id[0] ^= 1;
    assert_eq!(key.check(&unsigned), Said::Nothing);
}

#[test]
fn what_is_no_note_and_no_key_is_refused_with_its_reason() {
    let refused = |text: &str| Note::parse(text.as_bytes()).unwrap_err();
    assert_eq!(refused(""), NotANote::NoSignatures);
    assert_eq!(refused("text\n"), NotANote::NoSignatures);
    assert_eq!(refused("text\n\nno dash\n"), NotANote::Signature);
    assert_eq!(refused(SAYING.trim_end()), NotANote::Signature);
    assert_eq!(refused(&SAYING.replace("you", "y\u{7}u")), NotANote::Text);
    assert_eq!(Note::parse(&[0xff, b'\n', b'\n']), Err(NotANote::Text));
    assert_eq!(refused(&"a".repeat(70_000)), NotANote::TooLong);
    let (_, line) = SAYING.split_once("\n\n").unwrap();
    let crowd = format!("text\n\n{}", line.repeat(65));
    assert_eq!(refused(&crowd), NotANote::TooManySignatures);
    let sixteen = format!("text\n\n{}", line.repeat(16));
    assert_eq!(
        Note::parse(sixteen.as_bytes()).unwrap().signatures.len(),
        16
    );

    let refused = |text: &str| NoteKey::parse(text).unwrap_err();
    assert_eq!(refused("PeterNeumann"), NotAKey::Form);
    assert_eq!(refused(&POET.replace("c74f", "c74e")), NotAKey::Number);
    assert_eq!(refused(&POET.replace("+ARpc", "+Brpc")), NotAKey::Kind);
    assert_eq!(refused(&POET.replace("+ARpc", "+Rpc")), NotAKey::Form);
    assert_eq!(refused(&POET.replace("PeterN", "Peter N")), NotAKey::Name);
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn key(name: &str, kind: KeyKind, pair: &Ed25519KeyPair) -> NoteKey {
    NoteKey::new(name, kind, pair.public_key().as_ref().try_into().unwrap()).unwrap()
}

fn signer(pair: &Ed25519KeyPair) -> impl FnOnce(&[u8]) -> [u8; 64] {
    |message| pair.sign(message).as_ref().try_into().unwrap()
}

#[test]
fn a_checkpoint_is_signed_cosigned_and_proves_an_entry() {
    let mut grown = Grown::of((0..1_000).map(leaf));
    let checkpoint = Checkpoint {
        origin: "log.example/acme".to_owned(),
        size: 1_000,
        root: grown.root(1_000),
    };
    let text = checkpoint.text();
    assert_eq!(Checkpoint::parse(&text), Ok(checkpoint.clone()));
    let (own, voter) = (pair(1), pair(2));
    let log = key("log.example/acme", KeyKind::Log, &own);
    let cosigner = key("n2.example", KeyKind::Cosigner, &voter);
    let note = Note {
        text: text.clone(),
        signatures: vec![
            log.sign(&text, signer(&own)),
            cosigner.cosign(&text, 1_679_315_147, signer(&voter)),
        ],
    };
    let evidence = Evidence {
        extra: Some(b"what else".to_vec()),
        index: 421,
        proof: prove_inclusion(421, 1_000, &mut grown).unwrap(),
        checkpoint: note,
    };
    let file = evidence.to_string();
    assert!(file.len() < 2_048, "{}", file.len());
    let read = Evidence::parse(file.as_bytes()).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(read.check(&leaf(421)), Ok(checkpoint));
    assert!(read.check(&leaf(420)).is_err());
    assert_eq!(log.check(&read.checkpoint), Said::Yes { at: None });
    let seen = Said::Yes {
        at: Some(1_679_315_147),
    };
    assert_eq!(cosigner.check(&read.checkpoint), seen);
    // The time is signed too.
    let mut later = read.clone();
    later.checkpoint.signatures[1].bytes[7] ^= 1;
    assert_eq!(cosigner.check(&later.checkpoint), Said::Wrong);
    // The same key as another kind of signer has not signed.
    let as_log = key("n2.example", KeyKind::Log, &voter);
    assert_eq!(as_log.check(&read.checkpoint), Said::Nothing);
    // Nothing of the file can be changed unseen.
    let bytes = file.as_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let Ok(changed) = Evidence::parse(&changed) else {
            continue;
        };
        let holds = changed.extra == read.extra
            && changed.check(&leaf(421)).is_ok()
            && log.check(&changed.checkpoint) == Said::Yes { at: None }
            && cosigner.check(&changed.checkpoint) == seen;
        assert!(!holds, "byte {at}");
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let root = Hash::of_nothing();
    for wrong in [
        String::new(),
        "\n0\n".to_owned(),
        format!("log\n0\n{root}"),
        format!("log\n00\n{root}\n"),
        format!("log\n+1\n{root}\n"),
        format!("log\n-1\n{root}\n"),
        format!("log\n4611686018427387905\n{root}\n"),
        "log\n1\nAAAA\n".to_owned(),
        format!("log\n1\n{root}\n\n"),
        format!("\n1\n{root}\n"),
    ] {
        assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
    }
    let extended = Checkpoint::parse(&format!("log\n1\n{root}\nmore\n"));
    assert_eq!(extended.map(|it| it.size), Ok(1));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(Note::parse(&bytes));
        drop(Evidence::parse(&bytes));
        drop(entries(&bytes, 3));
        if let Ok(text) = std::str::from_utf8(&bytes) {
            drop(Checkpoint::parse(text));
            drop(NoteKey::parse(text));
            Tile::parse(text);
        }
    }

    #[test]
    fn proofs_of_strangers_are_weighed_without_a_panic(
        index in any::<u64>(), old in any::<u64>(), size in any::<u64>(),
        proof in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let proof: Vec<Hash> = proof.into_iter().map(Hash).collect();
        let hash = Hash::of_nothing();
        prop_assert!(check_inclusion(hash, index, &proof, size, Hash::of_leaf(b"")).is_err());
        let _ = check_consistency((old, hash), (size, Hash::of_leaf(b"")), &proof);
    }

    #[test]
    fn trees_of_any_size_prove_any_leaf_and_any_beginning(
        size in 1_u64..3_000, index in any::<prop::sample::Index>(), old in any::<prop::sample::Index>(),
    ) {
        let mut grown = Grown::of((0..size).map(leaf));
        let whole = usize::try_from(size).unwrap();
        let index = u64::try_from(index.index(whole)).unwrap();
        let old = u64::try_from(old.index(whole + 1)).unwrap();
        let root = grown.root(size);
        let proof = prove_inclusion(index, size, &mut grown).unwrap();
        prop_assert_eq!(check_inclusion(Hash::of_leaf(&leaf(index)), index, &proof, size, root), Ok(()));
        let proof = prove_consistency(old, size, &mut grown).unwrap();
        let before = (old, grown.root(old));
        prop_assert_eq!(check_consistency(before, (size, root), &proof), Ok(()));
    }
}

//! A witness never cosigns two histories of a log, whatever it is asked, and reads whatever it is sent.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use portcullis_audit::tlog::{
    AddCheckpoint, Checkpoint, Hash, KeyKind, MAX_PROOF_HASHES, MAX_WITNESSED_LOGS,
    NotAddCheckpoint, Note, NoteKey, NoteSignature, Proves, Refusal, Refused, Remembered, Said,
    Subtree, Subtrees, Tree, TrustPolicy, Witness, Witnessed, prove_consistency, root_at,
};
use proptest::prelude::*;

const ORIGIN: &str = "portcullis/7f3a";
const LOG: u8 = 1;
const WITNESS: u8 = 9;

#[test]
fn a_log_that_grows_is_cosigned_and_the_cosignature_holds() {
    let (log, mut witness) = (Log::of(100, 0), witness());
    for (number, (old, new)) in [(0, 1), (1, 1), (1, 7), (7, 64), (64, 100)]
        .into_iter()
        .enumerate()
    {
        let now = 1_000 + u64::try_from(number).unwrap();
        let line = ask(&mut witness, &log.request(old, new), now).unwrap();
        let mut note = log.note(new);
        note.signatures.push(line);
        let note = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(
            key("w", KeyKind::Cosigner, WITNESS).check(&note),
            Said::Yes { at: Some(now) }
        );
        assert_eq!(witness.remembered()[ORIGIN].checkpoint().size, new);
    }
}

#[test]
fn every_refusal_has_the_status_of_the_specification() {
    let (log, other) = (Log::of(20, 0), Log::of(20, 1));
    let mut witness = witness();
    ask(&mut witness, &log.request(0, 10), 1).unwrap();
    let stranger = Log {
        origin: "log.example".to_owned(),
        ..Log::of(20, 0)
    };
    let forged = Log {
        seed: 7,
        ..Log::of(20, 0)
    };
    let mut broken = log.note(12);
    broken.text = broken.text.replace("12\n", "13\n");
    let broken = AddCheckpoint::new(10, vec![], broken).unwrap();
    let mut check = |request: &AddCheckpoint, status, why: fn(&Refusal) -> bool| {
        let refused = ask(&mut witness, request, 2).unwrap_err();
        assert_eq!(refused.why.status(), status, "{refused:?}");
        assert!(why(&refused.why), "{refused:?}");
        refused.against
    };
    check(&stranger.request(0, 5), 404, |why| {
        matches!(why, Refusal::UnknownLog(_))
    });
    for unsigned in [forged.request(10, 12), broken] {
        check(&unsigned, 403, |why| matches!(why, Refusal::NotSigned(_)));
    }
    // Too early, and rolled back: the size that is known is told, and it is no proof of anything.
    for (old, new) in [(0, 12), (5, 12), (11, 12), (0, 5), (5, 5)] {
        let against = check(&log.request(old, new), 409, |why| {
            matches!(why, Refusal::OtherSize { size: 10 })
        });
        assert_eq!(against, None);
    }
    // Two roots of one size are proof enough, whatever else the request says.
    for (old, new) in [(10, 10), (0, 10)] {
        let against = check(&other.request(old, new), 409, |why| {
            matches!(why, Refusal::OtherRoot { size: 10 })
        });
        let against = against.unwrap();
        assert_eq!(against.proves, Proves::TwoHistories);
        assert_eq!(
            (against.older, against.newer),
            (log.note(10), other.note(10))
        );
    }
    // A fork that goes on, and a proof that is wrong: seen alike.
    let mut wrong = log.proof(10, 12);
    wrong[0] = Hash::of_nothing();
    let wrong = AddCheckpoint::new(10, wrong, log.note(12)).unwrap();
    let without = AddCheckpoint::new(10, vec![], log.note(12)).unwrap();
    for request in [other.request(10, 12), wrong, without] {
        let against = check(&request, 422, |why| matches!(why, Refusal::WrongProof(_)));
        assert_eq!(against.unwrap().proves, Proves::Nothing);
    }
    // Nothing of it changed what is remembered.
    ask(&mut witness, &log.request(10, 20), 3).unwrap();
}

#[test]
fn the_key_of_a_fleet_is_that_of_the_logs_beneath_it_and_of_no_other() {
    let mut witness = witness();
    for (origin, known) in [
        ("portcullis/7f3a/tenants/acme", true),
        ("portcullis/7f3b", false),
        ("portcullis/7f3a-other", false),
    ] {
        let log = Log {
            origin: origin.to_owned(),
            ..Log::of(3, 0)
        };
        let asked = ask(&mut witness, &log.request(0, 3), 1);
        assert_eq!(asked.is_ok(), known, "{origin}: {asked:?}");
    }
}

#[test]
fn a_proof_for_the_first_checkpoint_is_empty_and_an_empty_tree_has_one_root() {
    let (log, mut witness) = (Log::of(4, 0), witness());
    let request = AddCheckpoint::new(0, vec![Hash::of_nothing()], log.note(3)).unwrap();
    let refused = ask(&mut witness, &request, 1).unwrap_err();
    assert_eq!(refused.why.status(), 422);
    let odd = sign(ORIGIN, LOG, 0, Hash::of_leaf(b"x"));
    let odd = AddCheckpoint::new(0, vec![], odd).unwrap();
    assert_eq!(ask(&mut witness, &odd, 1).unwrap_err().why.status(), 409);
    ask(&mut witness, &log.request(0, 0), 1).unwrap();
    assert_eq!(ask(&mut witness, &odd, 1).unwrap_err().why.status(), 409);
    ask(&mut witness, &log.request(0, 4), 1).unwrap();
}

#[test]
fn what_cannot_be_kept_is_not_signed_and_not_remembered() {
    let (log, mut witness) = (Log::of(9, 0), witness());
    let fails = |witness: &mut Witness, request: &AddCheckpoint| {
        let step = witness.consider(request, 5).unwrap();
        let key = key("w", KeyKind::Cosigner, WITNESS);
        let keep = |remembered: &Remembered| {
            assert_eq!(remembered[ORIGIN].checkpoint(), request.checkpoint());
            Err("the disk is full")
        };
        let signed = step.cosign(keep, &key, |_| panic!("it is signed before it is kept"));
        assert_eq!(signed, Err("the disk is full"));
    };
    fails(&mut witness, &log.request(0, 5));
    assert!(witness.remembered().is_empty());
    ask(&mut witness, &log.request(0, 5), 5).unwrap();
    fails(&mut witness, &log.request(5, 9));
    assert_eq!(witness.remembered()[ORIGIN].checkpoint().size, 5);
}

#[test]
fn a_clock_that_was_set_back_does_not_set_cosignatures_back() {
    let (log, mut witness) = (Log::of(9, 0), witness());
    for (old, new, now, at) in [(0, 1, 0, 1), (1, 2, 90, 90), (2, 3, 50, 90), (3, 4, 91, 91)] {
        let line = ask(&mut witness, &log.request(old, new), now).unwrap();
        let mut note = log.note(new);
        note.signatures = vec![line];
        let said = key("w", KeyKind::Cosigner, WITNESS).check(&note);
        assert_eq!(said, Said::Yes { at: Some(at) });
    }
}

#[test]
fn logs_are_remembered_up_to_a_limit_and_those_that_are_go_on() {
    let log = |number: usize| Log {
        origin: format!("{ORIGIN}/tenants/t{number}"),
        ..Log::of(2, 0)
    };
    let mut witness = witness();
    for number in 0..MAX_WITNESSED_LOGS {
        ask(&mut witness, &log(number).request(0, 1), 1).unwrap();
    }
    let more = ask(&mut witness, &log(MAX_WITNESSED_LOGS).request(0, 1), 1);
    assert_eq!(more.unwrap_err().why, Refusal::TooManyLogs);
    ask(&mut witness, &log(0).request(1, 2), 1).unwrap();
}

#[test]
fn of_the_signatures_only_the_logs_are_remembered() {
    let (log, mut witness) = (Log::of(3, 0), witness());
    let mut note = log.note(3);
    note.signatures.push(NoteSignature {
        name: "somebody".to_owned(),
        key_id: [1, 2, 3, 4],
        bytes: vec![7; 1_000],
    });
    let request = AddCheckpoint::new(0, vec![], note).unwrap();
    ask(&mut witness, &request, 1).unwrap();
    assert_eq!(witness.remembered()[ORIGIN].note(), &log.note(3));
    let again = Witnessed::of(log.note(3), 1).unwrap();
    assert_eq!(witness.remembered()[ORIGIN], again);
}

#[test]
fn a_request_is_read_as_it_is_written_and_in_no_other_spelling() {
    let log = Log::of(70, 0);
    let text = log.request(9, 70).to_string();
    let read = AddCheckpoint::parse(text.as_bytes()).unwrap();
    assert_eq!(read, log.request(9, 70));
    assert_eq!(read.to_string(), text);
    let (head, note) = text.split_once("\n\n").unwrap();
    let (_, proof) = head.split_once('\n').unwrap();
    let hash = Hash::of_nothing();
    let many = format!("{hash}\n").repeat(MAX_PROOF_HASHES + 1);
    for (wrong, why) in [
        (String::new(), NotAddCheckpoint::Form),
        (text.replace("\n\n", "\n"), NotAddCheckpoint::Form),
        (
            text.replacen("old 9", "old 09", 1),
            NotAddCheckpoint::OldSize,
        ),
        (
            text.replacen("old 9", "old +9", 1),
            NotAddCheckpoint::OldSize,
        ),
        (
            text.replacen("old 9", "old  9", 1),
            NotAddCheckpoint::OldSize,
        ),
        (
            text.replacen("old 9", "old -1", 1),
            NotAddCheckpoint::OldSize,
        ),
        (text.replacen("old 9", "old", 1), NotAddCheckpoint::OldSize),
        (
            text.replacen("old 9", "Old 9", 1),
            NotAddCheckpoint::OldSize,
        ),
        (
            text.replacen("old 9", "old 71", 1),
            NotAddCheckpoint::Shrinks,
        ),
        (
            text.replacen("old 9", "old 18446744073709551616", 1),
            NotAddCheckpoint::OldSize,
        ),
        (
            format!("old 9\r\n{proof}\n\n{note}"),
            NotAddCheckpoint::OldSize,
        ),
        (text.replacen("=\n", "\n", 1), NotAddCheckpoint::Proof),
        (
            format!("old 9\n{many}\n{note}"),
            NotAddCheckpoint::ProofTooLong,
        ),
        ("x".repeat(200_000), NotAddCheckpoint::TooLong),
    ] {
        let read = AddCheckpoint::parse(wrong.as_bytes());
        assert_eq!(read, Err(why), "{wrong:.200}");
    }
    for wrong in [
        text.trim_end().to_owned(),
        text.replacen("\u{2014} ", "- ", 1),
        format!("old 9\n{proof}\n\n{}", note.replacen("70\n", "x\n", 1)),
    ] {
        let read = AddCheckpoint::parse(wrong.as_bytes());
        assert!(
            matches!(
                read,
                Err(NotAddCheckpoint::Note(_) | NotAddCheckpoint::Checkpoint(_))
            ),
            "{read:?}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(read) = AddCheckpoint::parse(&bytes) {
            let written = read.to_string();
            prop_assert_eq!(written.as_bytes(), bytes.as_slice());
        }
    }

    /// Near misses: a good request with bytes put in, taken out and changed. What is read is written again as it was.
    #[test]
    fn a_request_with_anything_changed_is_refused_or_read_for_what_it_says(
        old in 0..40_u64, more in 0..40_u64, changes in proptest::collection::vec((any::<usize>(), 0..3_u8, any::<u8>()), 1..4),
    ) {
        let log = Log::of(old + more, 0);
        let mut bytes = log.request(old, old + more).to_string().into_bytes();
        for (at, how, byte) in changes {
            let at = at % bytes.len();
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(read) = AddCheckpoint::parse(&bytes) {
            let written = read.to_string();
            prop_assert_eq!(written.as_bytes(), bytes.as_slice());
            let mut witness = witness();
            drop(ask(&mut witness, &read, 1));
        }
    }

    /// Whoever holds the log's key, and asks whatever: all that was ever cosigned is one history, and only grows.
    #[test]
    fn what_was_cosigned_is_one_history(asked in proptest::collection::vec((0..3_u64, 0..3_u64, 0..24_u64, 0..24_u64, any::<bool>()), 1..60)) {
        let logs = [Log::of(24, 0), Log::of(24, 5), Log::of(24, 11)];
        let mut witness = witness();
        let (mut signed, mut largest) = (BTreeMap::new(), 0);
        for (one, other, old, new, known) in asked {
            let (one, other) = (&logs[usize::try_from(one).unwrap()], &logs[usize::try_from(other).unwrap()]);
            // Most of the time the one who asks knows where the witness is.
            let old = if known { largest.min(new) } else { old.min(new) };
            let request = AddCheckpoint::new(old, other.proof(old, new), one.note(new)).unwrap();
            if ask(&mut witness, &request, 1).is_ok() {
                prop_assert!(new >= largest);
                largest = new;
                let root = signed.entry(new).or_insert(request.checkpoint().root);
                prop_assert_eq!(*root, request.checkpoint().root);
            }
        }
        // There is one log of the three that has all of them.
        let whole = logs.iter().any(|log| signed.iter().all(|(size, root)| log.root(*size) == *root));
        prop_assert!(whole, "{:?}", signed);
    }
}

/// What a witness answers; what is kept is what it then remembers.
fn ask(witness: &mut Witness, request: &AddCheckpoint, now: u64) -> Result<NoteSignature, Refused> {
    let step = witness.consider(request, now)?;
    let key = key("w", KeyKind::Cosigner, WITNESS);
    let kept = |_: &Remembered| Ok::<_, Infallible>(());
    let Ok(line) = step.cosign(kept, &key, signer(WITNESS));
    Ok(line)
}

fn witness() -> Witness {
    let trust = TrustPolicy::of(key(ORIGIN, KeyKind::Log, LOG), vec![], 0).unwrap();
    Witness::new(trust, Remembered::new())
}

/// A log, and who signs it. Histories are the same up to where they part.
struct Log {
    origin: String,
    seed: u8,
    hashes: BTreeMap<Subtree, Hash>,
}

impl Log {
    /// A log of so many entries, of which those from `parts` on are another history's (0: none).
    fn of(size: u64, parts: u64) -> Self {
        let (mut tree, mut hashes) = (Tree::EMPTY, BTreeMap::new());
        for index in 0..size {
            let history = if parts > 0 && index >= parts - 1 {
                parts
            } else {
                0
            };
            let entry = format!("{index} of {history}");
            tree.append(Hash::of_leaf(entry.as_bytes()), |at, hash| {
                hashes.insert(at, hash);
            });
        }
        Self {
            origin: ORIGIN.to_owned(),
            seed: LOG,
            hashes,
        }
    }

    fn root(&self, size: u64) -> Hash {
        root_at(size, &mut Read(&self.hashes)).unwrap()
    }

    fn note(&self, size: u64) -> Note {
        sign(&self.origin, self.seed, size, self.root(size))
    }

    fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        prove_consistency(old, new, &mut Read(&self.hashes)).unwrap()
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        AddCheckpoint::new(old, self.proof(old, new), self.note(new)).unwrap()
    }
}

struct Read<'a>(&'a BTreeMap<Subtree, Hash>);

impl Subtrees for Read<'_> {
    type Error = &'static str;

    fn subtree(&mut self, at: Subtree) -> Result<Hash, Self::Error> {
        self.0.get(&at).copied().ok_or("not there")
    }
}

fn sign(origin: &str, seed: u8, size: u64, root: Hash) -> Note {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size,
        root,
    };
    let text = checkpoint.text();
    let line = key(origin, KeyKind::Log, seed).sign(&text, signer(seed));
    Note {
        text,
        signatures: vec![line],
    }
}

fn key(name: &str, kind: KeyKind, seed: u8) -> NoteKey {
    let public = pair(seed).public_key().as_ref().try_into().unwrap();
    NoteKey::new(name, kind, public).unwrap()
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn signer(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| pair(seed).sign(message).as_ref().try_into().unwrap()
}

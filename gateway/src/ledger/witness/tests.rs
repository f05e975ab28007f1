use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_audit::tlog::{
    Against, Checkpoint, Hash, Note, NoteSignature, Proves, Remembered, Witnessed,
};

use super::*;
use crate::ledger::limits::WITNESS_EVIDENCE;

#[test]
fn what_was_kept_is_there_again_and_belongs_to_one_process() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    let public = opened.key.public();
    for size in 1..=3 {
        opened.home.keep(&remembered(size)).unwrap();
    }
    assert!(matches!(place.open(), Err(HomeError::Io { .. })));
    // The same key elsewhere, too.
    let elsewhere = Home::open(&place.folder.join("other"), &place.key(), [8; 32]);
    assert!(matches!(elsewhere, Err(HomeError::Forgotten { .. })));
    drop(opened);
    let opened = place.open().unwrap();
    assert_eq!(opened.remembered, remembered(3));
    assert_eq!(opened.key.public(), public);
    for secret in [place.key(), place.state()] {
        let mode = fs::metadata(secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn an_end_between_the_two_files_is_no_damage() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    opened.home.keep(&remembered(1)).unwrap();
    let mark = fs::read(place.mark()).unwrap();
    opened.home.keep(&remembered(2)).unwrap();
    drop(opened);
    let complete = fs::read(place.mark()).unwrap();
    fs::write(place.mark(), mark).unwrap();
    let mut opened = place.open().unwrap();
    assert_eq!(opened.remembered, remembered(2));
    // Before it signs anything: it may end there again.
    assert_eq!(fs::read(place.mark()).unwrap(), complete);
    opened.home.keep(&remembered(3)).unwrap();
    drop(opened);
    assert_eq!(place.open().unwrap().remembered, remembered(3));
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let place = Place::new();
    drop(place.open().unwrap());
    fs::remove_file(place.key()).unwrap();
    drop(place.open().unwrap());
    for file in [place.key(), place.mark()] {
        fs::remove_file(file).unwrap();
    }
    drop(place.open().unwrap());
}

#[test]
fn what_is_older_than_its_key_is_refused() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    opened.home.keep(&remembered(1)).unwrap();
    let older = fs::read(place.state()).unwrap();
    opened.home.keep(&remembered(2)).unwrap();
    drop(opened);
    let good = fs::read(place.state()).unwrap();
    fs::write(place.state(), older).unwrap();
    let error = place.open().unwrap_err();
    assert!(matches!(
        error,
        HomeError::Older {
            sequence: 1,
            marked: 2,
            ..
        }
    ));
    assert!(error.to_string().contains("Begin anew: "), "{error}");
    // One that is newer than its mark by more than a crash leaves is not its key's either.
    fs::write(place.state(), encode(4, &remembered(2))).unwrap();
    assert!(matches!(place.open(), Err(HomeError::Older { .. })));
    fs::remove_file(place.state()).unwrap();
    assert!(matches!(place.open(), Err(HomeError::Forgotten { .. })));
    fs::write(place.state(), &good).unwrap();
    let key = fs::read(place.key()).unwrap();
    fs::remove_file(place.key()).unwrap();
    assert!(matches!(place.open(), Err(HomeError::KeyLost { .. })));
    fs::write(place.key(), key).unwrap();
    assert_eq!(place.open().unwrap().remembered, remembered(2));
}

#[test]
fn any_byte_changed_and_any_end_cut_off_is_damage() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    opened.home.keep(&remembered(1)).unwrap();
    drop(opened);
    for file in [place.state(), place.mark()] {
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            for bad in [&bad, &good[..at]] {
                fs::write(&file, bad).unwrap();
                let opened = place.open();
                // A mark is a number: another number says that the state is older, or was cut short.
                let refused = matches!(
                    opened,
                    Err(HomeError::Damaged { .. } | HomeError::Older { .. })
                );
                let next = bad == encode_mark(0).as_bytes();
                assert!(refused || next, "{} {at}: {opened:?}", file.display());
            }
        }
        fs::write(&file, &good).unwrap();
    }
    fs::write(place.key(), "nonsense").unwrap();
    assert!(matches!(place.open(), Err(HomeError::Damaged { .. })));
}

#[test]
fn files_of_the_first_version_are_read() {
    assert_eq!(decode(VERSION_1.as_bytes()), Ok((7, remembered(5))));
    assert_eq!(encode(7, &remembered(5)), VERSION_1.as_bytes());
    assert_eq!(decode_mark(b"portcullis-witness-mark 1\n7\n"), Some(7));
}

#[test]
fn after_a_write_that_failed_nothing_is_signed_any_more() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    // A folder where the new file is to be written.
    fs::create_dir(place.folder.join("state/state.new")).unwrap();
    assert!(matches!(
        opened.home.keep(&remembered(1)),
        Err(HomeError::Io { .. })
    ));
    fs::remove_dir(place.folder.join("state/state.new")).unwrap();
    assert!(matches!(
        opened.home.keep(&remembered(1)),
        Err(HomeError::Broken)
    ));
}

#[test]
fn evidence_is_kept_once_and_up_to_a_limit() {
    let place = Place::new();
    let mut opened = place.open().unwrap();
    let pair = |size, proves| Against {
        older: note(1),
        newer: note(size),
        proves,
    };
    let most = u64::try_from(WITNESS_EVIDENCE).unwrap();
    for size in 0..most {
        let kept = opened.home.keep_evidence(&pair(size, Proves::TwoHistories));
        let Kept::New(older, newer) = kept.unwrap() else {
            panic!("not new");
        };
        assert_eq!(fs::read_to_string(older).unwrap(), note(1).to_string());
        assert_eq!(fs::read_to_string(newer).unwrap(), note(size).to_string());
    }
    for (size, kept) in [(0, Kept::Before), (most, Kept::Full)] {
        let again = opened.home.keep_evidence(&pair(size, Proves::TwoHistories));
        assert_eq!(again.unwrap(), kept);
    }
    let mut last = None;
    for size in 0..2 * most {
        let kept = opened.home.keep_evidence(&pair(size, Proves::Nothing));
        let Kept::New(_, newer) = kept.unwrap() else {
            panic!("not new");
        };
        last = Some(newer);
    }
    assert!(last.unwrap().is_file());
    assert_eq!(opened.home.evidence(), (WITNESS_EVIDENCE, WITNESS_EVIDENCE));
    drop(opened);
    let opened = place.open().unwrap();
    assert_eq!(opened.home.evidence(), (WITNESS_EVIDENCE, WITNESS_EVIDENCE));
    let files = fs::read_dir(place.folder.join("state/evidence")).unwrap();
    assert_eq!(files.count(), 4 * WITNESS_EVIDENCE);
}

fn note(size: u64) -> Note {
    let checkpoint = Checkpoint {
        origin: "portcullis/f1".to_owned(),
        size,
        root: Hash::of_leaf(&size.to_be_bytes()),
    };
    let signature = NoteSignature {
        name: "portcullis/f1".to_owned(),
        key_id: [1, 2, 3, 4],
        bytes: vec![0; 64],
    };
    Note {
        text: checkpoint.text(),
        signatures: vec![signature],
    }
}

fn remembered(size: u64) -> Remembered {
    let one = Witnessed::of(note(size), 1_800_000_000 + size).unwrap();
    Remembered::from([("portcullis/f1".to_owned(), one)])
}

/// As it was written first; what was written must be read for ever.
const VERSION_1: &str = r#"portcullis-witness-state 1
y8m6no99qSXKOxVNV9t0Fkag/Ef818qctRFlfE0aVms=
7
[{"at":1800000005,"note":"portcullis/f1\n5\n2u7z+fKfUDBc6ypsrEFFKnbbBGOJ/58eJ4EDJY3pC7g=\n\n— portcullis/f1 AQIDBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"}]
"#;

struct Place {
    folder: PathBuf,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-witness-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        Self { folder }
    }

    fn open(&self) -> Result<Opened, HomeError> {
        Home::open(&self.folder.join("state"), &self.key(), [7; 32])
    }

    fn key(&self) -> PathBuf {
        self.folder.join("keys/witness.pem")
    }

    fn mark(&self) -> PathBuf {
        self.folder.join("keys/witness.pem.mark")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state/state")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

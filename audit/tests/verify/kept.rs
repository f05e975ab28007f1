//! Logs that let go of their older entries.

use portcullis_audit::tlog::verify_from;

use super::*;

#[test]
fn what_was_let_go_of_is_counted_and_all_that_is_there_is_checked() {
    let size = 70_000_u64;
    let kept_from = 66_048;
    let whole = Files::with(size);
    let bundle = |index| Tile::at(Level::Entries, index, size).unwrap();
    let mut log = whole.clone();
    for index in (0..kept_from / 256).filter(|index| *index != 5) {
        log.files.remove(&bundle(index)).unwrap();
    }
    let found = |log: &Files, kept_from| {
        let read = |tile| Ok::<_, Infallible>(log.files.get(&tile).cloned());
        let (mut shown, mut fits) = (Vec::new(), 0);
        let found = verify_from(&log.checkpoint, kept_from, read, |index, leaf| {
            shown.extend(leaf.entry.map(|_| index));
            fits += u64::from(leaf.hash == Hash::of_leaf(&entry(index)));
            assert!(
                leaf.entry
                    .is_none_or(|bytes| Hash::of_leaf(bytes) == leaf.hash)
            );
        });
        let found = found.unwrap();
        if found.is_clean() {
            assert_eq!(fits, size);
        }
        (found, shown)
    };
    let (clean, shown) = found(&log, kept_from);
    assert_eq!(
        (clean.all.as_slice(), clean.gone),
        (&[][..], kept_from - 256)
    );
    let kept = (5 * 256..6 * 256).chain(kept_from..size);
    assert!(shown.into_iter().eq(kept));
    // Nobody said that it may lack the last of them.
    let (lacking, _) = found(&log, kept_from - 256);
    let last = Finding::Missing {
        tile: bundle(kept_from / 256 - 1),
    };
    assert_eq!((lacking.all, lacking.gone), (vec![last], kept_from - 512));
    assert_eq!(found(&whole, kept_from).0.gone, 0);
    // A bundle that is there, and the hashes of those that are not.
    let mut changed = log.clone();
    *changed.file("tile/entries/005").last_mut().unwrap() ^= 1;
    let entry = Finding::Entry {
        index: 5 * 256 + 255,
    };
    assert_eq!(found(&changed, kept_from).0.all, [entry]);
    for path in ["tile/0/003", "tile/1/000"] {
        let mut changed = log.clone();
        changed.file(path)[32 * 7] ^= 1;
        let (found, _) = found(&changed, kept_from);
        assert_eq!(found.gone, kept_from - 256);
        assert!(!found.is_clean() && found.is_tampered(), "{path}");
    }
    let mut lost = log.clone();
    let hashes = Tile::parse("tile/0/003").unwrap();
    lost.files.remove(&hashes);
    assert_eq!(
        found(&lost, kept_from).0.all,
        [Finding::Missing { tile: hashes }]
    );
}

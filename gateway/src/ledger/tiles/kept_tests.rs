//! Logs that let go of their older entries.

use std::fs;

use portcullis_audit::tlog::{Hash, Tile, Tree, verify_from};
use portcullis_audit::{Event, kinds};

use super::home::{Home, append, leaf, publish};
use super::*;
use crate::ledger::inspect::{Directory, ProveError, Wanted, prove};

fn tree(size: u64) -> Tree {
    let mut tree = Tree::EMPTY;
    for number in 0..size {
        tree.push(Hash::of_leaf(&leaf(number)));
    }
    tree
}

/// An entry by which the log lets go of what came before it.
fn pruned(kept_from: u64) -> Vec<u8> {
    let event = Event::new(0, kinds::LOG_PRUNED, "n1").with("kept_from", kept_from);
    event.line().into_bytes()
}

/// Declares that the fleet's log may lack what is before, and publishes that.
fn declare(logs: &Logs, kept_from: u64) {
    let size = logs.tree(&LogId::Fleet).unwrap().size();
    logs.append(&LogId::Fleet, size, &[pruned(kept_from)])
        .unwrap();
    publish(logs);
}

#[test]
fn entries_go_once_the_log_says_so_and_their_hashes_stay() {
    let home = Home::new();
    let logs = home.open();
    let fleet = LogId::Fleet;
    append(&logs, 0, 1_000);
    publish(&logs);
    assert!(matches!(
        logs.let_go(&fleet, 0),
        Err(LogError::NotDeclared { index: 0, .. })
    ));
    // Not while nobody can see that it was said.
    logs.append(&fleet, 1_000, &[pruned(512)]).unwrap();
    assert_eq!(logs.kept_from(&fleet), None);
    assert!(logs.let_go(&fleet, 0).is_err());
    publish(&logs);
    let kept = KeptFrom {
        kept_from: 512,
        declared_by: 1_000,
    };
    assert_eq!(logs.kept_from(&fleet), Some(kept));
    let said = fs::read(home.directory.join("fleet/kept-from")).unwrap();
    assert_eq!(KeptFrom::parse(&said), Some(kept));
    logs.durable().unwrap();
    for bundle in [0, 1, 1] {
        logs.let_go(&fleet, bundle).unwrap();
    }
    assert!(matches!(
        logs.let_go(&fleet, 2),
        Err(LogError::NotDeclared { index: 512, .. })
    ));
    assert_eq!(logs.bundles(&fleet, 3).unwrap(), [2]);
    assert_eq!(logs.entries(&fleet, 511).unwrap(), [[0_u8; 0]; 0]);
    assert_eq!(logs.entries(&fleet, 512).unwrap()[0], leaf(512));
    let hashes = logs.hashes(&fleet, 1).unwrap().unwrap();
    assert_eq!(
        (hashes.len(), hashes[255]),
        (256, Hash::of_leaf(&leaf(511)))
    );
    // What is there already may come again, also what is not there any more.
    logs.append(&fleet, 300, &[leaf(300)]).unwrap();
    let other = logs.append(&fleet, 300, &[leaf(301)]);
    assert!(matches!(other, Err(LogError::Differs { index: 300, .. })));
    assert_eq!(
        logs.root_at(&fleet, 300).unwrap().unwrap(),
        tree(300).root()
    );
}

#[test]
fn an_owner_that_begins_where_entries_are_gone_goes_on_from_what_is_published() {
    for begins in [0_u64, 1, 300, 512, 513, 1_000] {
        let home = Home::new();
        let logs = home.open();
        append(&logs, 0, 1_000);
        declare(&logs, 768);
        append(&logs, 1_001, 99);
        logs.durable().unwrap();
        for bundle in 0..3 {
            logs.let_go(&LogId::Fleet, bundle).unwrap();
        }
        drop(logs);
        let logs = home.open();
        let fleet = LogId::Fleet;
        if begins > 0 {
            logs.begin(&fleet, tree(begins)).unwrap();
        }
        // The same leaves come again, and go on.
        let mut size = begins;
        while size < 1_200 {
            let one = if size == 1_000 {
                pruned(768)
            } else {
                leaf(size)
            };
            logs.append(&fleet, size, &[one]).unwrap();
            size += 1;
        }
        publish(&logs);
        let kept = logs.kept_from(&fleet).unwrap();
        assert_eq!((kept.kept_from, home.published()), (768, 1_200), "{begins}");
        assert_eq!(logs.entries(&fleet, 770).unwrap()[0], leaf(770));
        let read = |tile: Tile| {
            let path = home.directory.join("fleet").join(tile.path());
            Ok::<_, std::convert::Infallible>(fs::read(path).ok())
        };
        let found = verify_from(&home.checkpoint(), 768, read, |_, _| {}).unwrap();
        assert_eq!(
            (found.all.as_slice(), found.gone),
            (&[][..], 768),
            "{begins}"
        );
    }
    // Another history is none that it can begin with.
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 1_000);
    declare(&logs, 768);
    drop(logs);
    let mut other = Tree::EMPTY;
    other.push(Hash::of_leaf(b"other"));
    let begun = home.open().begin(&LogId::Fleet, other);
    assert!(matches!(begun, Err(LogError::Damaged { .. })), "{begun:?}");
}

#[test]
fn a_log_is_written_from_hashes_where_nobody_has_the_entries_any_more() {
    let (home, other) = (Home::new(), Home::new());
    let logs = home.open();
    let fleet = LogId::Fleet;
    append(&logs, 0, 1_000);
    declare(&logs, 768);
    logs.durable().unwrap();
    for bundle in [0, 2] {
        logs.let_go(&fleet, bundle).unwrap();
    }
    let copy = other.open();
    copy.begin_anew(&fleet).unwrap();
    for bundle in 0..3 {
        let entries = logs.entries(&fleet, bundle * 256).unwrap();
        if entries.is_empty() {
            let hashes = logs.hashes(&fleet, bundle).unwrap().unwrap();
            assert!(copy.append_gone(&fleet, bundle * 256 + 1, &hashes).is_err());
            assert!(
                copy.append_gone(&fleet, bundle * 256, &hashes[1..])
                    .is_err()
            );
            copy.append_gone(&fleet, bundle * 256, &hashes).unwrap();
        } else {
            copy.append(&fleet, bundle * 256, &entries).unwrap();
        }
    }
    copy.append(&fleet, 768, &logs.entries(&fleet, 768).unwrap())
        .unwrap();
    assert_eq!(copy.tree(&fleet), logs.tree(&fleet));
    publish(&copy);
    copy.durable().unwrap();
    let files = |home: &Home| {
        let mut files = home.files();
        files.retain(|path| !path.contains(".p/"));
        files
    };
    assert_eq!(files(&other), files(&home));
    assert_eq!(copy.kept_from(&fleet), logs.kept_from(&fleet));
    // And from the first entry on, whatever the files have.
    drop(copy);
    let copy = other.open();
    copy.begin_anew(&fleet).unwrap();
    assert_eq!(copy.tree(&fleet).unwrap().size(), 0);
    let first: Vec<Vec<u8>> = (0..1_000).map(leaf).collect();
    copy.append(&fleet, 0, &first).unwrap();
    copy.append(&fleet, 1_000, &[pruned(768)]).unwrap();
    publish(&copy);
    assert_eq!(copy.bundles(&fleet, 3).unwrap(), [0, 1, 2]);
}

#[test]
fn whoever_kept_an_entry_that_a_log_let_go_of_can_prove_it() {
    let home = Home::new();
    let logs = home.open();
    append(&logs, 0, 600);
    declare(&logs, 512);
    logs.durable().unwrap();
    for bundle in [0, 1] {
        logs.let_go(&LogId::Fleet, bundle).unwrap();
    }
    let proved = |wanted| prove(&mut Directory(home.directory.clone()), "fleet", &wanted);
    let gone = proved(Wanted::Index(300)).unwrap_err();
    assert_eq!(gone, ProveError::Gone { kept_from: 512 });
    assert_eq!(
        proved(Wanted::Kept(300, leaf(300))).unwrap().entry,
        leaf(300)
    );
    let other = proved(Wanted::Kept(300, leaf(301))).unwrap_err();
    assert!(matches!(other, ProveError::Damaged { .. }), "{other}");
    // What is there is not taken from somebody else.
    assert_eq!(
        proved(Wanted::Kept(550, leaf(301))).unwrap().entry,
        leaf(550)
    );
    let none = proved(Wanted::Reference("PC-0123-4567-89AB".to_owned())).unwrap_err();
    assert!(matches!(none, ProveError::NotFound(_)), "{none}");
}

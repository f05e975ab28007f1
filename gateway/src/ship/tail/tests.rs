use std::fs;

use portcullis_audit::tlog::{Tree, append_entry, encode_tile};

use super::*;

/// A log of so many entries in files, whose bundles are as `spoil` leaves them.
pub(in crate::ship) fn log(folder: &Path, size: u64, spoil: impl Fn(u64, &mut Vec<u8>)) {
    let mut tree = Tree::EMPTY;
    let (mut hashes, mut bundle) = (Vec::new(), Vec::new());
    for index in 0..size {
        let line = Event::new(1, kinds::NODE_STARTED, "n1")
            .with("n", index)
            .line();
        let hash = Hash::of_leaf(line.as_bytes());
        tree.push(hash);
        hashes.push(hash);
        append_entry(&mut bundle, line.as_bytes()).unwrap();
        let full = hashes.len() == 256;
        if full || index + 1 == size {
            let put = |level, bytes: &[u8]| {
                let tile = Tile::at(level, index / 256, size).unwrap();
                let path = folder.join("fleet").join(tile.path());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            };
            spoil(index / 256, &mut bundle);
            put(Level::Hashes(0), &encode_tile(&hashes));
            put(Level::Entries, &bundle);
            hashes.clear();
            bundle.clear();
        }
    }
    let checkpoint = Checkpoint {
        origin: "here".to_owned(),
        size,
        root: tree.root(),
    };
    let signature = format!("{}=", "A".repeat(91));
    let text = format!("{}\n\u{2014} here {signature}\n", checkpoint.text());
    fs::write(folder.join("fleet/checkpoint"), text).unwrap();
}

/// All that a tail sends, with the number of looks it took; what was sent is advanced over.
fn all(tail: &mut Tail) -> (Vec<Item>, u32) {
    let (mut items, mut looks) = (Vec::new(), 0);
    loop {
        let batch = tail.next();
        assert_eq!(batch.problem, None);
        if batch.lag == 0 {
            return (items, looks);
        }
        looks += 1;
        assert!(looks < 100, "{items:?}");
        tail.advance(&batch.items).unwrap();
        items.extend(batch.items);
    }
}

fn open(folder: &Path) -> Tail {
    Tail::open(folder.to_owned(), &folder.join("ship"), "sink", "n1")
}

/// A directory that is gone after the test.
pub(in crate::ship) struct Folder(PathBuf);

impl Folder {
    pub(in crate::ship) fn new(name: &str) -> Self {
        let name = format!("portcullis-ship-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in crate::ship) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn every_entry_comes_once_in_order_and_a_restart_goes_on() {
    let folder = Folder::new("whole");
    log(folder.path(), 300, |_, _| {});
    let mut tail = open(folder.path());
    let first = tail.next();
    assert_eq!((first.items.len(), first.lag), (SHIP_BATCH, 300));
    tail.advance(&first.items).unwrap();
    // The cursor is what a restart has.
    let (rest, _) = all(&mut open(folder.path()));
    let sent = first.items.iter().chain(&rest).map(|item| item.first);
    assert!(sent.eq(0..300));
}

#[test]
fn what_is_torn_or_changed_is_told_as_a_gap_after_some_looks_and_the_rest_is_sent() {
    let folder = Folder::new("torn");
    log(folder.path(), 300, |bundle, bytes| match bundle {
        // A changed byte in the first entry; the second bundle ends within its last.
        0 => bytes[40] ^= 1,
        _ => bytes.truncate(bytes.len() - 1),
    });
    let (items, looks) = all(&mut open(folder.path()));
    assert!(looks >= SHIP_GAP_LOOKS);
    let gaps = items.iter().filter(|item| item.is_gap());
    let gaps: Vec<_> = gaps.map(Item::uid).collect();
    assert_eq!(gaps, ["here:0-0", "here:299-299"]);
    let sent = items.iter().flat_map(|item| item.first..=item.last);
    assert!(sent.eq(0..300));
}

#[test]
fn no_entry_is_given_up_at_the_first_look_also_before_another() {
    let folder = Folder::new("two");
    let line = Event::new(1, kinds::NODE_STARTED, "n1")
        .with("n", 0_u64)
        .line();
    let length = line.len() + 2;
    log(folder.path(), 200, |_, bytes| {
        bytes[40] ^= 1;
        bytes[2 * length + 40] ^= 1;
    });
    let mut tail = open(folder.path());
    assert!(tail.next().items.is_empty());
    // Put right in time, nothing is a gap.
    log(folder.path(), 200, |_, _| {});
    let (items, _) = all(&mut tail);
    assert!(
        items
            .iter()
            .map(|item| (item.first, item.is_gap()))
            .eq((0..200).map(|at| (at, false)))
    );
}

#[test]
fn a_log_that_went_on_while_it_was_looked_at_is_read_from_its_wider_files() {
    let folder = Folder::new("wider");
    log(folder.path(), 100, |_, _| {});
    let mut tail = open(folder.path());
    tail.look();
    tail.looked = Some(clock::instant());
    for level in ["0", "entries"] {
        fs::remove_dir_all(folder.path().join("fleet/tile").join(level)).unwrap();
    }
    log(folder.path(), 120, |_, _| {});
    let batch = tail.next();
    assert!(batch.items.iter().map(|item| item.first).eq(0..100));
}

#[test]
fn bundles_that_are_kept_no_more_are_one_gap() {
    let folder = Folder::new("kept");
    log(folder.path(), 800, |_, _| {});
    for bundle in ["000", "001"] {
        fs::remove_file(folder.path().join("fleet/tile/entries").join(bundle)).unwrap();
    }
    let (items, looks) = all(&mut open(folder.path()));
    assert!(looks < 2 * SHIP_GAP_LOOKS);
    let gaps: Vec<_> = items.iter().filter(|item| item.is_gap()).collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].uid(), "here:0-511");
    assert_eq!(gaps[0].event.field("sink"), Some(&"sink".into()));
    let sent = items.iter().flat_map(|item| item.first..=item.last);
    assert!(sent.eq(0..800));
}

#[test]
fn what_may_be_on_its_way_is_sent_again_after_a_cut_and_after_a_restart() {
    let folder = Folder::new("again");
    log(folder.path(), 300, |_, _| {});
    let mut tail = open(folder.path()).unconfirmed(100);
    let first = |tail: &mut Tail| tail.next().items[0].first;
    let sent = tail.next().items;
    tail.advance(&sent).unwrap();
    assert_eq!(first(&mut tail), 256);
    assert_eq!(first(&mut open(folder.path())), 156);
    tail.again();
    assert_eq!(first(&mut tail), 156);
    let sent = tail.next().items;
    tail.advance(&sent).unwrap();
    tail.settled().unwrap();
    tail.again();
    assert!(tail.next().items.is_empty());
    assert!(open(folder.path()).next().items.is_empty());
}

//! What was accepted is there after a restart, what was refused never was, and a file that cannot be trusted is not used.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking"
)]

mod common;

use common::{Directory, apply, everything, id, open, tenant};
use portcullis_consensus::{Logs, OpenError, ProposeError, begin_alone};
use portcullis_policy::{Command, NodeId, Rejection, Revision, State, Tenant, View};
use redb::ReadableTable;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn a_new_file_holds_the_empty_state_and_belongs_to_its_owner_alone() {
    let directory = Directory::new("new");
    let consensus = open(&directory.0).unwrap();
    assert_eq!(*consensus.view(), View::empty());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them() {
    let directory = Directory::new("mode");
    drop(open(&directory.0).unwrap());
    fs::set_permissions(directory.file(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&directory.0).unwrap());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn reopening_gives_the_same_state_at_the_same_revision() {
    let directory = Directory::new("reopen");
    let mut expected = View::empty();
    for round in 0..4 {
        let consensus = open(&directory.0).unwrap();
        assert_eq!(*consensus.view(), expected, "before round {round}");
        let put = vec![everything(), tenant(&format!("t{round}"))];
        consensus.put(&apply(put, vec![])).unwrap();
        if round == 2 {
            let remove = vec![id("t0"), id("t1")];
            consensus.put(&apply(vec![], remove)).unwrap();
        }
        expected = View::clone(&consensus.view());
    }
    let consensus = open(&directory.0).unwrap();
    assert_eq!(*consensus.view(), expected);
    assert_eq!(consensus.view().revision(), Revision::new(5));
    let ids: Vec<String> = consensus
        .view()
        .tenants()
        .map(|tenant| tenant.id().to_string())
        .collect();
    assert_eq!(ids, ["acme", "t2", "t3"]);
}

#[test]
fn a_rejected_command_leaves_nothing() {
    let directory = Directory::new("rejected");
    let consensus = open(&directory.0).unwrap();
    consensus.put(&apply(vec![everything()], vec![])).unwrap();
    let before = consensus.view();

    // Whole or not at all: the first document is good, the second claims what is acme's.
    let mut thief = tenant("thief");
    thief.networks = everything().networks;
    let refused = consensus.put(&apply(vec![tenant("good"), thief], vec![]));
    assert!(matches!(
        refused,
        Err(ProposeError::Rejected(Rejection::NetworkClaimed { .. }))
    ));
    assert_eq!(*consensus.view(), *before);

    let stale = Command::Apply {
        base: Some(Revision::new(0)),
        put: vec![tenant("late")],
        remove: vec![],
        expected: std::collections::BTreeMap::new(),
    };
    assert!(matches!(
        consensus.put(&stale),
        Err(ProposeError::Rejected(Rejection::StaleBase { .. }))
    ));
    drop(consensus);
    assert_eq!(*open(&directory.0).unwrap().view(), *before);
}

#[test]
fn a_command_that_changes_nothing_keeps_the_revision() {
    let directory = Directory::new("nothing");
    let consensus = open(&directory.0).unwrap();
    let command = apply(vec![everything()], vec![]);
    consensus.put(&command).unwrap();
    let again = consensus.put(&command).unwrap();
    assert_eq!(again.revision, Revision::new(1));
    assert!(again.tenants.is_empty());
}

#[test]
fn a_reader_keeps_its_view_while_a_writer_goes_on() {
    let directory = Directory::new("reader");
    let consensus = open(&directory.0).unwrap();
    let held = consensus.view();
    consensus.put(&apply(vec![tenant("a")], vec![])).unwrap();
    assert_eq!(held.revision(), Revision::new(0));
    assert_eq!(consensus.view().revision(), Revision::new(1));
}

#[test]
fn proposals_from_many_threads_happen_one_after_the_other() {
    let directory = Directory::new("threads");
    let consensus = open(&directory.0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let consensus = &consensus;
            scope.spawn(move || {
                for number in 0..5 {
                    let put = vec![tenant(&format!("t{thread}-{number}"))];
                    consensus.put(&apply(put, vec![])).unwrap();
                }
            });
        }
    });
    assert_eq!(consensus.view().revision(), Revision::new(20));
    drop(consensus);
    let again = open(&directory.0).unwrap();
    assert_eq!(again.view().tenants().count(), 20);
}

#[test]
fn one_process_at_a_time() {
    let directory = Directory::new("locked");
    let _first = open(&directory.0).unwrap();
    let second = open(&directory.0);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
}

#[test]
fn a_half_made_file_is_made_anew() {
    let directory = Directory::new("half");
    fs::write(directory.0.join("state.redb.new"), b"half of a").unwrap();
    let consensus = open(&directory.0).unwrap();
    assert_eq!(consensus.view().revision(), Revision::new(0));
}

#[test]
fn a_file_that_is_empty_cut_or_something_else_refuses_to_open() {
    let directory = Directory::new("damaged");
    let whole = directory.with_everything();
    let mut cases = vec![
        Vec::new(),
        b"tenant: acme\n".to_vec(),
        vec![0; whole.len()],
        whole[..whole.len() / 2].to_vec(),
        whole[..100].to_vec(),
    ];
    cases.push([&whole[..4096], &vec![0; whole.len() - 4096]].concat());
    for bytes in cases {
        fs::write(directory.file(), &bytes).unwrap();
        let opened = open(&directory.0);
        assert!(
            matches!(
                &opened,
                Err(OpenError::Corrupt { .. } | OpenError::Io { .. })
            ),
            "{} bytes: {opened:?}",
            bytes.len()
        );
        assert_eq!(
            fs::metadata(directory.file()).unwrap().len(),
            bytes.len() as u64
        );
    }
}

/// A file that version 1 wrote, at revision 2: later versions must open it.
#[test]
fn a_file_of_format_1_opens() {
    let directory = Directory::new("corpus");
    fs::copy(corpus(), directory.file()).unwrap();
    let view = open(&directory.0).unwrap().view();
    assert_eq!(view.revision(), Revision::new(2));
    let documents: Vec<Tenant> = view.tenants().map(|tenant| tenant.document()).collect();
    assert_eq!(documents, [tenant("a"), everything()]);
}

/// A flipped byte is either in a place that means nothing, or found. It never gives another state.
#[test]
fn a_flipped_byte_never_gives_another_state() {
    let directory = Directory::new("flipped");
    let whole = directory.with_everything();
    let expected = View::clone(&open(&directory.0).unwrap().view());
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut found = 0;
    for at in used.iter().copied().step_by((used.len() / 200).max(1)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(directory.file(), &bytes).unwrap();
        match open(&directory.0) {
            Ok(consensus) => assert_eq!(*consensus.view(), expected, "byte {at}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 10, "only {found} found");
}

#[test]
fn a_file_of_a_later_version_says_so() {
    let directory = Directory::new("later");
    drop(open(&directory.0).unwrap());
    {
        let database = redb::Database::open(directory.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
            let mut table = transaction.open_table(meta).unwrap();
            table.insert("layout", 3).unwrap();
        }
        transaction.commit().unwrap();
    }
    let opened = open(&directory.0);
    assert!(
        matches!(opened, Err(OpenError::Newer { format: 3, .. })),
        "{opened:?}"
    );
}

#[test]
fn a_document_under_another_tenants_key_refuses_to_open() {
    let directory = Directory::new("swapped");
    fs::copy(corpus(), directory.file()).unwrap();
    edit(&directory, |transaction| {
        let name: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("tenants");
        let mut table = transaction.open_table(name).unwrap();
        let bytes = table.get("a").unwrap().unwrap().value().to_vec();
        table.insert("b", bytes.as_slice()).unwrap();
    });
    let opened = open(&directory.0);
    assert!(
        matches!(opened, Err(OpenError::Corrupt { .. })),
        "{opened:?}"
    );
}

#[test]
fn a_file_that_was_migrated_goes_on_from_there() {
    let directory = Directory::new("migrated");
    fs::copy(corpus(), directory.file()).unwrap();
    let opened = open(&directory.0).unwrap();
    opened.put(&apply(vec![tenant("b")], vec![])).unwrap();
    let expected = View::clone(&opened.view());
    assert_eq!(expected.revision(), Revision::new(3));
    drop(opened);
    assert_eq!(*open(&directory.0).unwrap().view(), expected);
}

#[test]
fn a_damaged_entry_vote_or_image_refuses_to_open() {
    for (table, key) in [("raft", "vote"), ("raft", "purged"), ("raft", "snapshot")] {
        let directory = Directory::new("parts");
        directory.with_everything();
        edit(&directory, |transaction| {
            let name: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
            let mut table = transaction.open_table(name).unwrap();
            assert!(table.insert(key, [0xff; 3].as_slice()).unwrap().is_some());
        });
        refused(&directory, key);
    }
    let log: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("log");
    let directory = Directory::new("entry");
    directory.with_everything();
    edit(&directory, |transaction| {
        let mut table = transaction.open_table(log).unwrap();
        let last = table.last().unwrap().unwrap().0.value();
        table.insert(last, [7; 3].as_slice()).unwrap();
    });
    refused(&directory, "an entry that is none");
    let directory = Directory::new("hole");
    directory.with_everything();
    edit(&directory, |transaction| {
        let mut table = transaction.open_table(log).unwrap();
        let first = table.first().unwrap().unwrap().0.value();
        table.remove(first).unwrap();
    });
    refused(&directory, "a hole in the log");
    let directory = Directory::new("end");
    directory.with_everything();
    edit(&directory, |transaction| {
        let mut table = transaction.open_table(log).unwrap();
        table.pop_last().unwrap();
        table.pop_last().unwrap();
    });
    refused(&directory, "the end of the log is gone");

    let directory = Directory::new("image");
    directory.with_everything();
    let image = directory.images().pop().unwrap();
    let whole = fs::read(&image).unwrap();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&image, bytes).unwrap();
        refused(&directory, "a byte of the image");
    }
    fs::write(&image, &whole[..whole.len() - 40]).unwrap();
    refused(&directory, "half an image");
    fs::remove_file(&image).unwrap();
    refused(&directory, "no image");
    fs::write(&image, whole).unwrap();
    drop(open(&directory.0).unwrap());
}

#[test]
fn a_file_that_has_gone_back_refuses_to_open() {
    let directory = Directory::new("back");
    let consensus = open(&directory.0).unwrap();
    consensus.put(&apply(vec![tenant("a")], vec![])).unwrap();
    drop(consensus);
    let before = fs::read(directory.file()).unwrap();
    let consensus = open(&directory.0).unwrap();
    consensus.put(&apply(vec![tenant("b")], vec![])).unwrap();
    let shown = View::clone(&consensus.view());
    drop(consensus);
    // Whole, as it was: without the entries and the vote that others count on.
    let after = fs::read(directory.file()).unwrap();
    fs::write(directory.file(), before).unwrap();
    let error = open(&directory.0).unwrap_err();
    assert!(error.to_string().contains("gone back"), "{error}");
    fs::write(directory.file(), after).unwrap();
    assert_eq!(*open(&directory.0).unwrap().view(), shown);
    // A mark that is missing or damaged vouches for nothing.
    let mark = directory.file().with_extension("mark");
    fs::write(&mark, [0; 24]).unwrap();
    assert!(open(&directory.0).is_err());
    fs::remove_file(&mark).unwrap();
    assert!(open(&directory.0).is_err());
}

fn refused(directory: &Directory, what: &str) {
    let opened = open(&directory.0);
    assert!(
        matches!(&opened, Err(OpenError::Corrupt { .. })),
        "{what}: {opened:?}"
    );
}

#[test]
fn a_state_of_another_node_is_not_used() {
    let directory = Directory::new("foreign");
    begin_alone(
        &directory.0,
        NodeId::new(7).unwrap(),
        &State::default(),
        &Logs::default(),
    )
    .unwrap();
    let opened = open(&directory.0);
    assert!(
        matches!(opened, Err(OpenError::Foreign { node: 7, .. })),
        "{opened:?}"
    );
}

#[test]
fn a_proposal_beyond_the_limit_is_refused_and_harms_nothing() {
    let directory = Directory::new("large");
    let opened = open(&directory.0).unwrap();
    let many = (0..5_000).map(|number| tenant(&format!("t{number}")));
    let refused = opened.put(&apply(many.collect(), vec![]));
    assert!(
        matches!(refused, Err(ProposeError::TooLarge { .. })),
        "{refused:?}"
    );
    opened.put(&apply(vec![tenant("a")], vec![])).unwrap();
    assert_eq!(opened.status().failed, None);
}

#[test]
fn what_was_shown_is_shown_again_though_nobody_closed_it() {
    let directory = Directory::new("dropped");
    let opened = open(&directory.0).unwrap();
    opened.put(&apply(vec![everything()], vec![])).unwrap();
    let expected = View::clone(&opened.view());
    opened.abandon();
    // Its thread may still have the file.
    let again = (0..200).find_map(|_| match open(&directory.0) {
        Err(OpenError::InUse { .. }) => {
            std::thread::sleep(std::time::Duration::from_millis(20));
            None
        }
        opened => Some(opened.unwrap()),
    });
    assert_eq!(*again.unwrap().view(), expected);
}

#[test]
fn a_beginning_in_the_place_of_a_state_is_whole_or_not_at_all() {
    let directory = Directory::new("again");
    let opened = open(&directory.0).unwrap();
    opened.put(&apply(vec![everything()], vec![])).unwrap();
    let state = State::clone(&opened.state());
    let expected = View::clone(&opened.view());
    let held = begin_alone(&directory.0, NodeId::FIRST, &state, &Logs::default());
    assert!(matches!(held, Err(OpenError::InUse { .. })), "{held:?}");
    drop(opened);

    // Cut off before the file is replaced: the image of the new one lies there, and the old one
    // holds.
    let before = fs::read(directory.file()).unwrap();
    begin_alone(
        &directory.0,
        NodeId::FIRST,
        &State::default(),
        &Logs::default(),
    )
    .unwrap();
    fs::write(directory.file(), before).unwrap();
    assert_eq!(*open(&directory.0).unwrap().view(), expected);

    begin_alone(&directory.0, NodeId::FIRST, &state, &Logs::default()).unwrap();
    begin_alone(&directory.0, NodeId::FIRST, &state, &Logs::default()).unwrap();
    let opened = open(&directory.0).unwrap();
    assert_eq!(*opened.view(), expected);
    opened.put(&apply(vec![tenant("z")], vec![])).unwrap();
    drop(opened);
    assert_eq!(directory.images().len(), 1, "{:?}", directory.images());
}

#[test]
fn images_that_were_cut_off_are_cleared_away() {
    let directory = Directory::new("sweep");
    directory.with_everything();
    for name in ["state-77.img", "state-78.img.new", "mine.img"] {
        fs::write(directory.0.join(name), b"half").unwrap();
    }
    drop(open(&directory.0).unwrap());
    let names: Vec<_> = directory.images();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(directory.0.join("mine.img").exists());
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/state.v1.redb")
}

fn edit(directory: &Directory, with: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(directory.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    with(&transaction);
    transaction.commit().unwrap();
}

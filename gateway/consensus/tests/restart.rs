//! What was accepted is there after a restart, what was refused never was, and a file that cannot be trusted is not used.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking"
)]

use portcullis_consensus::{Consensus, OpenError, ProposeError};
use portcullis_policy::{Command, Rejection, Revision, Tenant, TenantId, Timestamp, View};
use redb::ReadableTable;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn a_new_file_holds_the_empty_state_and_belongs_to_its_owner_alone() {
    let directory = Directory::new("new");
    let consensus = Consensus::open(&directory.file()).unwrap();
    assert_eq!(*consensus.view(), View::empty());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them() {
    let directory = Directory::new("mode");
    drop(Consensus::open(&directory.file()).unwrap());
    fs::set_permissions(directory.file(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(Consensus::open(&directory.file()).unwrap());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn reopening_gives_the_same_state_at_the_same_revision() {
    let directory = Directory::new("reopen");
    let mut expected = View::empty();
    for round in 0..4 {
        let consensus = Consensus::open(&directory.file()).unwrap();
        assert_eq!(*consensus.view(), expected, "before round {round}");
        let put = vec![everything(), tenant(&format!("t{round}"))];
        consensus.propose(&apply(put, vec![]), NOW).unwrap();
        if round == 2 {
            let remove = vec![id("t0"), id("t1")];
            consensus.propose(&apply(vec![], remove), NOW).unwrap();
        }
        expected = View::clone(&consensus.view());
    }
    let consensus = Consensus::open(&directory.file()).unwrap();
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
    let consensus = Consensus::open(&directory.file()).unwrap();
    consensus
        .propose(&apply(vec![everything()], vec![]), NOW)
        .unwrap();
    let before = consensus.view();

    // Whole or not at all: the first document is good, the second claims what is acme's.
    let mut thief = tenant("thief");
    thief.networks = everything().networks;
    let refused = consensus.propose(&apply(vec![tenant("good"), thief], vec![]), NOW);
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
        consensus.propose(&stale, NOW),
        Err(ProposeError::Rejected(Rejection::StaleBase { .. }))
    ));
    drop(consensus);
    assert_eq!(*Consensus::open(&directory.file()).unwrap().view(), *before);
}

#[test]
fn a_command_that_changes_nothing_keeps_the_revision() {
    let directory = Directory::new("nothing");
    let consensus = Consensus::open(&directory.file()).unwrap();
    let command = apply(vec![everything()], vec![]);
    consensus.propose(&command, NOW).unwrap();
    let again = consensus.propose(&command, NOW).unwrap();
    assert_eq!(again.revision, Revision::new(1));
    assert!(again.tenants.is_empty());
}

#[test]
fn a_reader_keeps_its_view_while_a_writer_goes_on() {
    let directory = Directory::new("reader");
    let consensus = Consensus::open(&directory.file()).unwrap();
    let held = consensus.view();
    consensus
        .propose(&apply(vec![tenant("a")], vec![]), NOW)
        .unwrap();
    assert_eq!(held.revision(), Revision::new(0));
    assert_eq!(consensus.view().revision(), Revision::new(1));
}

#[test]
fn proposals_from_many_threads_happen_one_after_the_other() {
    let directory = Directory::new("threads");
    let consensus = Consensus::open(&directory.file()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let consensus = &consensus;
            scope.spawn(move || {
                for number in 0..5 {
                    let put = vec![tenant(&format!("t{thread}-{number}"))];
                    consensus.propose(&apply(put, vec![]), NOW).unwrap();
                }
            });
        }
    });
    assert_eq!(consensus.view().revision(), Revision::new(20));
    drop(consensus);
    let again = Consensus::open(&directory.file()).unwrap();
    assert_eq!(again.view().tenants().count(), 20);
}

#[test]
fn one_process_at_a_time() {
    let directory = Directory::new("locked");
    let _first = Consensus::open(&directory.file()).unwrap();
    let second = Consensus::open(&directory.file());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
}

#[test]
fn a_half_made_file_is_made_anew() {
    let directory = Directory::new("half");
    fs::write(directory.0.join("state.redb.new"), b"half of a").unwrap();
    let consensus = Consensus::open(&directory.file()).unwrap();
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
        let opened = Consensus::open(&directory.file());
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
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/state.v1.redb");
    if std::env::var_os("BLESS").is_some() && !corpus.exists() {
        let consensus = Consensus::open(&corpus).unwrap();
        consensus
            .propose(&apply(vec![everything()], vec![]), NOW)
            .unwrap();
        consensus
            .propose(&apply(vec![tenant("a")], vec![]), NOW)
            .unwrap();
    }
    let directory = Directory::new("corpus");
    fs::copy(corpus, directory.file()).unwrap();
    let view = Consensus::open(&directory.file()).unwrap().view();
    assert_eq!(view.revision(), Revision::new(2));
    let documents: Vec<Tenant> = view.tenants().map(|tenant| tenant.document()).collect();
    assert_eq!(documents, [tenant("a"), everything()]);
}

/// A flipped byte is either in a place that means nothing, or found. It never gives another state.
#[test]
fn a_flipped_byte_never_gives_another_state() {
    let directory = Directory::new("flipped");
    let whole = directory.with_everything();
    let expected = View::clone(&Consensus::open(&directory.file()).unwrap().view());
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut found = 0;
    for at in used.iter().copied().step_by((used.len() / 200).max(1)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(directory.file(), &bytes).unwrap();
        match Consensus::open(&directory.file()) {
            Ok(consensus) => assert_eq!(*consensus.view(), expected, "byte {at}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 10, "only {found} found");
}

#[test]
fn a_file_of_a_later_version_says_so() {
    let directory = Directory::new("later");
    drop(Consensus::open(&directory.file()).unwrap());
    {
        let database = redb::Database::open(directory.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
            let mut table = transaction.open_table(meta).unwrap();
            table.insert("layout", 2).unwrap();
        }
        transaction.commit().unwrap();
    }
    let opened = Consensus::open(&directory.file());
    assert!(
        matches!(opened, Err(OpenError::Newer { format: 2, .. })),
        "{opened:?}"
    );
}

#[test]
fn a_document_under_another_tenants_key_refuses_to_open() {
    let directory = Directory::new("swapped");
    let consensus = Consensus::open(&directory.file()).unwrap();
    consensus
        .propose(&apply(vec![tenant("a")], vec![]), NOW)
        .unwrap();
    drop(consensus);
    {
        let database = redb::Database::open(directory.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let name: redb::TableDefinition<'_, &str, &[u8]> =
                redb::TableDefinition::new("tenants");
            let mut table = transaction.open_table(name).unwrap();
            let bytes = table.get("a").unwrap().unwrap().value().to_vec();
            table.insert("b", bytes.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let opened = Consensus::open(&directory.file());
    assert!(
        matches!(opened, Err(OpenError::Corrupt { .. })),
        "{opened:?}"
    );
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn apply(put: Vec<Tenant>, remove: Vec<TenantId>) -> Command {
    Command::Apply {
        base: None,
        put,
        remove,
        expected: std::collections::BTreeMap::new(),
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(id(name))
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// The document in which everything that can be said is said.
fn everything() -> Tenant {
    serde_json::from_str(include_str!("../testdata/everything.json")).unwrap()
}

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("restart-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// The bytes of a file that holds a state.
    fn with_everything(&self) -> Vec<u8> {
        let consensus = Consensus::open(&self.file()).unwrap();
        let put = vec![everything(), tenant("a"), tenant("b")];
        consensus.propose(&apply(put, vec![]), NOW).unwrap();
        drop(consensus);
        fs::read(self.file()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

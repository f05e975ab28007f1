//! The bytes of what consensus keeps and sends, as they were when each was first written: they must
//! decode for ever, to the same.

use crate::types::{Entry, LogId, Membership, Payload, SnapshotMeta, Types, Vote};
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderIdExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

#[test]
fn what_was_ever_written_is_read_as_it_was_meant() {
    let id = |term, index| {
        let leader = openraft::alias::LeaderIdOf::<Types>::new_committed(term, 3);
        LogId::new(leader, index)
    };
    let voters = vec![BTreeSet::from([1, 3]), BTreeSet::from([1, 2, 3])];
    let learners = [4, 700];
    let all = openraft::Membership::new_with_defaults(voters, learners);
    kept("log-id", &id(5, 300));
    kept("vote", &Vote::new_committed(5, 3));
    kept("entry-blank", &Entry::new_blank(id(1, 1)));
    kept(
        "entry-members",
        &Entry::new_membership(id(2, 2), all.clone()),
    );
    let payload = Payload(vec![1, 0, 200, 255]);
    kept("entry-command", &Entry::new_normal(id(2, 300), payload));
    let meta = SnapshotMeta {
        last_log_id: Some(id(5, 300)),
        last_membership: Membership::new(Some(id(2, 2)), all),
    };
    kept("snapshot-meta", &meta);
    kept("snapshot-meta-empty", &SnapshotMeta::default());
}

fn kept<T: Serialize + DeserializeOwned + Debug>(name: &str, meant: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/raft/{name}.v1.bin"));
    let bytes = postcard::to_stdvec(meant).unwrap();
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
    }
    let written = std::fs::read(&path).unwrap();
    let (read, rest) = postcard::take_from_bytes::<T>(&written).unwrap();
    assert!(rest.is_empty(), "{name}");
    assert_eq!(format!("{read:?}"), format!("{meant:?}"), "{name}");
    assert_eq!(written, bytes, "{name}");
    for end in 0..written.len() {
        assert!(
            postcard::from_bytes::<T>(&written[..end]).is_err(),
            "{name} cut at {end}"
        );
    }
}

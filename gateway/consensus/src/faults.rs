//! What a node does when its disk or its log fails it.

use crate::opening::{Opened, open};
use crate::settings::Settings;
use crate::tables::COMMITTED;
use crate::timing::Timing;
use crate::types::Payload;
use crate::writer::Write;
use crate::{Consensus, OpenError};
use portcullis_policy::{
    Command, Proposal, RequestId, Revision, Tenant, Timestamp, encode_proposal,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_write_that_failed_nothing_more_is_written_and_the_node_says_so() {
    let directory = Directory::new("failed");
    let opened = begin(&directory).await;
    write(&opened, "a").await.unwrap();
    opened.writer.send(Write::Fail).await.unwrap();
    let refused = write(&opened, "b").await.unwrap_err();
    assert!(refused.contains("made to fail"), "{refused}");
    let more = opened.writer.put(COMMITTED, vec![1]).await.unwrap_err();
    assert!(more.to_string().contains("made to fail"), "{more}");
    let fatal = opened.raft.metrics();
    let stopped = openraft::async_runtime::WatchReceiver::borrow_watched(&fatal)
        .running_state
        .clone();
    assert!(stopped.is_err());
    assert_eq!(opened.shown.view.load().revision(), Revision::new(1));
    end(opened).await;

    // What the disk has is known once what can be read is written anew.
    let file = directory.0.join("state.redb");
    let before = std::fs::metadata(&file).unwrap().ino();
    let again = open(directory.settings(), None).await.unwrap();
    let after = std::fs::metadata(&file).unwrap();
    assert_ne!(after.ino(), before);
    assert_eq!(after.permissions().mode() & 0o777, 0o600);
    assert_eq!(again.shown.view.load().revision(), Revision::new(1));
    end(again).await;
    // Once is enough.
    let again = open(directory.settings(), None).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), after.ino());
    end(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_not_understood_stops_the_node_and_is_never_skipped() {
    let directory = Directory::new("unknown");
    let opened = begin(&directory).await;
    write(&opened, "a").await.unwrap();
    // A command of a later version.
    let later = Payload(vec![0xfe, 1, 2, 3]);
    assert!(opened.raft.client_write(later).await.is_err());
    assert_eq!(opened.shown.view.load().revision(), Revision::new(1));
    assert!(write(&opened, "b").await.is_err());
    end(opened).await;
    let again = Consensus::open(directory.settings()).await;
    assert!(matches!(again, Err(OpenError::Engine(_))), "{again:?}");
}

async fn begin(directory: &Directory) -> Opened {
    let opened = open(directory.settings(), None).await.unwrap();
    opened
        .raft
        .wait(Some(Duration::from_secs(10)))
        .current_leader(1, "alone")
        .await
        .unwrap();
    opened
}

async fn write(opened: &Opened, tenant: &str) -> Result<(), String> {
    let command = Command::Apply {
        base: None,
        expected: std::collections::BTreeMap::new(),
        put: vec![Tenant::new(tenant.parse().unwrap())],
        remove: vec![],
    };
    let mut proposal = Proposal::local("test", Timestamp::from_millis(1_800_000_000_000), command);
    proposal.request = Some(RequestId::new([tenant.as_bytes()[0]; 16]));
    let payload = Payload(encode_proposal(&proposal).unwrap());
    for _ in 0..100 {
        match opened.raft.client_write(payload.clone()).await {
            Ok(_) => return Ok(()),
            // A leader that was just elected has no lease yet.
            Err(openraft::errors::RaftError::APIError(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(fatal) => return Err(fatal.to_string()),
        }
    }
    Err("nobody leads".to_owned())
}

async fn end(opened: Opened) {
    let Opened {
        raft,
        thread,
        writer,
        ..
    } = opened;
    drop(raft.shutdown().await);
    drop((raft, writer));
    tokio::task::spawn_blocking(move || thread.join())
        .await
        .unwrap();
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/tmp")
            .join(format!("faults-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings::alone(&self.0).with_timing(Timing {
            heartbeat: Duration::from_millis(50),
            election_least: Duration::from_millis(200),
            election_most: Duration::from_millis(400),
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

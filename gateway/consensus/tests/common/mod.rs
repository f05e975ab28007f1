//! A state in a directory of its own, for tests that wait.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking; each test file uses some"
)]

use portcullis_consensus::{Consensus, Draft, OpenError, ProposeError, Settings, Timing};
use portcullis_policy::{Applied, Author, Command, Tenant, TenantId, Timestamp};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The moment at which everything happens.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Times for tests.
pub const QUICK: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election_least: Duration::from_millis(200),
    election_most: Duration::from_millis(400),
};

/// An open state, closed when it is dropped.
#[derive(Debug)]
pub struct Open(Option<(Runtime, Consensus)>);

/// Opens the state in a directory.
pub fn open(directory: &Path) -> Result<Open, OpenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let settings = Settings::alone(directory).with_timing(QUICK);
    let opened = runtime.block_on(Consensus::open(settings))?;
    Ok(Open(Some((runtime, opened))))
}

impl Open {
    /// Proposes and waits.
    pub fn put(&self, command: &Command) -> Result<Arc<Applied>, ProposeError> {
        let draft = draft(command.clone());
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(self.propose(draft, || NOW))
    }

    /// Lets go of it without closing.
    pub fn abandon(mut self) {
        drop(self.0.take());
    }
}

impl Deref for Open {
    type Target = Consensus;

    fn deref(&self) -> &Consensus {
        &self.0.as_ref().unwrap().1
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((runtime, consensus)) = self.0.take() {
            runtime.block_on(consensus.shutdown());
        }
    }
}

/// A command by the test.
pub fn draft(command: Command) -> Draft {
    Draft {
        request: None,
        author: Author::local("test"),
        command,
    }
}

/// Documents to put and tenants to remove.
pub fn apply(put: Vec<Tenant>, remove: Vec<TenantId>) -> Command {
    Command::Apply {
        base: None,
        put,
        remove,
        expected: std::collections::BTreeMap::new(),
    }
}

/// A tenant without anything.
pub fn tenant(name: &str) -> Tenant {
    Tenant::new(id(name))
}

/// A tenant's id.
pub fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// The document in which everything that can be said is said.
pub fn everything() -> Tenant {
    serde_json::from_str(include_str!("../../testdata/everything.json")).unwrap()
}

/// The names of the images in a directory.
pub fn images(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".img")).collect()
}

/// A directory that goes away with the test.
pub struct Directory(pub PathBuf);

impl Directory {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The state's file.
    pub fn file(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// The images beside it.
    pub fn images(&self) -> Vec<PathBuf> {
        let names = images(&self.0).into_iter();
        names.map(|name| self.0.join(name)).collect()
    }

    /// The bytes of a file that holds a state.
    pub fn with_everything(&self) -> Vec<u8> {
        let opened = open(&self.0).unwrap();
        let put = vec![everything(), tenant("a"), tenant("b")];
        opened.put(&apply(put, vec![])).unwrap();
        drop(opened);
        fs::read(self.file()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

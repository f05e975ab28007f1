//! Logs with real keys, in real files: the fleet's and those of tenants, as nodes would write them.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod grown;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use portcullis::ledger::inspect::{Directory, Earlier, Report, inspect};
use portcullis::ledger::tiles::{LogId, Logs};
use portcullis_audit::Event;
use portcullis_audit::tlog::{Checkpoint, KeyKind, Note, NoteKey, Tree, TrustPolicy};
use portcullis_tests::gateway::binary;
use portcullis_tests::scratch::{Scratch, repository, tools};
use portcullis_tests::{Finished, process};

pub(crate) const FLEET: &str = "portcullis/7f3a";
/// Whose signatures are under every checkpoint; two of them are asked for.
pub(crate) const VOTERS: [u8; 3] = [2, 3, 4];
const LOG_KEY: u8 = 1;

/// A directory of logs that grows.
pub(crate) struct Site {
    pub(crate) scratch: Scratch,
    logs: Logs,
    /// Entries of each log.
    counts: BTreeMap<LogId, u64>,
    sealed: BTreeMap<LogId, u64>,
    now: u64,
    /// Who cosigns.
    pub(crate) voters: Vec<u8>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new("logs");
        let logs = Logs::open(&scratch.path().join("logs")).unwrap();
        let site = Self {
            scratch,
            logs,
            counts: BTreeMap::new(),
            sealed: BTreeMap::new(),
            now: 1_800_000_000,
            voters: VOTERS.to_vec(),
        };
        fs::write(site.trust(), trust().to_string()).unwrap();
        site
    }

    /// One with the fleet's log and those of two tenants, sealed many times: one long enough for full tiles, one short.
    pub(crate) fn grown(voters: &[u8]) -> Self {
        let mut site = Self::new();
        site.voters = voters.to_vec();
        for round in 0..12 {
            site.add(&LogId::Fleet, 3);
            site.add(&tenant("acme"), 45);
            if round % 3 == 0 {
                site.add(&tenant("globex"), 2);
            }
            site.seal();
        }
        site
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.scratch.path().join("logs")
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.scratch.path().join("trust.policy")
    }

    /// The trust policy of one log, for a stranger's tool that knows nothing of logs beneath others.
    pub(crate) fn trust_of(&self, log: &LogId) -> PathBuf {
        let file = self.scratch.path().join(log.to_string().replace('/', "-"));
        fs::write(&file, trust().for_log(&origin(log)).unwrap().to_string()).unwrap();
        file
    }

    /// Appends so many events to a log.
    pub(crate) fn add(&mut self, log: &LogId, count: u64) {
        self.add_as(log, count, "");
    }

    /// The same, of another history.
    pub(crate) fn add_as(&mut self, log: &LogId, count: u64, story: &str) {
        let first = self.counts.get(log).copied().unwrap_or_default();
        let leaves: Vec<String> = (first..first + count)
            .map(|index| event(log, index, story).line())
            .collect();
        self.append(log, first, &leaves);
    }

    fn append(&mut self, log: &LogId, first: u64, leaves: &[String]) {
        let size = self.logs.append(log, first, leaves).unwrap();
        self.counts.insert(log.clone(), size);
    }

    /// Puts the heads of the logs that grew into the fleet's, and publishes all.
    pub(crate) fn seal(&mut self) {
        let mut grown = Vec::new();
        for (log, size) in &self.counts {
            if self.sealed.get(log) != Some(size) {
                grown.push(log.clone());
            }
        }
        let mut heads = Vec::new();
        for log in &grown {
            if let LogId::Tenant(name) = log {
                let tree = self.logs.tree(log).unwrap();
                heads.push(head(name.as_str(), tree.size(), &tree.root().to_string()));
            }
        }
        let first = self.counts.get(&LogId::Fleet).copied().unwrap_or_default();
        self.append(&LogId::Fleet, first, &heads);
        grown.retain(|log| *log != LogId::Fleet);
        grown.push(LogId::Fleet);
        for log in &grown {
            self.publish(log);
        }
        self.sealed = self.counts.clone();
        self.logs.durable().unwrap();
    }

    /// Publishes one log.
    pub(crate) fn publish(&mut self, log: &LogId) {
        self.now += 1;
        let tree = self.logs.tree(log).unwrap();
        let note = sign(&origin(log), &tree, &self.voters, self.now);
        self.logs.publish(log, &note).unwrap();
    }

    /// Puts something else than a head into the fleet's log.
    pub(crate) fn claim(&mut self, line: String) {
        self.say(&LogId::Fleet, line);
    }

    /// Appends a line to a log.
    pub(crate) fn say(&mut self, log: &LogId, line: String) {
        let first = self.counts.get(log).copied().unwrap_or_default();
        self.append(log, first, &[line]);
    }

    pub(crate) fn tree(&self, log: &LogId) -> Tree {
        self.logs.tree(log).unwrap()
    }

    /// Appends to a tenant's log, on disk, that is never published.
    pub(crate) fn add_unpublished(&self, name: &str) {
        self.logs.append(&tenant(name), 0, &["{}"]).unwrap();
        self.logs.durable().unwrap();
    }

    /// Keeps a log's checkpoint as it is now.
    pub(crate) fn keep(&self, log: &LogId, name: &str) -> PathBuf {
        let file = self.scratch.path().join(name);
        let checkpoint = self.folder().join(log.to_string()).join("checkpoint");
        fs::copy(checkpoint, &file).unwrap();
        file
    }

    /// Every file, relative to the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = files(&self.folder());
        found.retain(|file| file != "lock");
        found
    }
}

pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn tenant(name: &str) -> LogId {
    LogId::Tenant(name.parse().unwrap())
}

pub(crate) fn origin(log: &LogId) -> String {
    match log {
        LogId::Fleet => FLEET.to_owned(),
        LogId::Tenant(_) => format!("{FLEET}/{log}"),
    }
}

/// The event of one entry; every tenth has a reference.
pub(crate) fn event(log: &LogId, index: u64, story: &str) -> Event {
    let at = 1_800_000_000_000 + i64::try_from(index).unwrap();
    let mut event = Event::new(at, "connection.denied", "fleet")
        .with("number", index)
        .with("note", format!("line\n\u{2028}{story}"));
    if let LogId::Tenant(tenant) = log {
        event.tenant = Some(tenant.to_string());
    }
    if index.is_multiple_of(10) {
        event.reference = Some(reference(index));
    }
    event
}

pub(crate) fn reference(index: u64) -> String {
    portcullis_policy::Reference::from_bits(index + 1).to_string()
}

pub(crate) fn head(tenant: &str, size: u64, root: &str) -> String {
    let mut event = Event::new(1_800_000_000_000, "log.head", "fleet")
        .with("size", size)
        .with("root", root);
    event.tenant = Some(tenant.to_owned());
    event.line()
}

pub(crate) fn sign(origin: &str, tree: &Tree, voters: &[u8], now: u64) -> Note {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: tree.size(),
        root: tree.root(),
    };
    let text = checkpoint.text();
    let log = key(origin, KeyKind::Log, LOG_KEY);
    let mut signatures = vec![log.sign(&text, signer(LOG_KEY))];
    for voter in voters {
        let key = key(&format!("n{voter}"), KeyKind::Cosigner, *voter);
        signatures.push(key.cosign(&text, now, signer(*voter)));
    }
    Note { text, signatures }
}

/// One log key for the fleet, and two of three voters.
pub(crate) fn trust() -> TrustPolicy {
    let voters = VOTERS.map(|voter| key(&format!("n{voter}"), KeyKind::Cosigner, voter));
    TrustPolicy::of(key(FLEET, KeyKind::Log, LOG_KEY), voters.to_vec(), 2).unwrap()
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

/// What `portcullis audit …` says.
pub(crate) fn audit(arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.arg("audit").args(arguments);
    process::run(&command, std::time::Duration::from_secs(120))
}

/// What the stranger's program says.
pub(crate) fn stranger(arguments: &[&str]) -> Output {
    let mut command = Command::new(tools().join("venv/bin/python"));
    command.arg(repository().join("tests/programs/tlog.py"));
    let ran = command.args(arguments).output();
    ran.expect("python runs: `make setup` installs it")
}

/// Looks at logs in this process, which is faster, and by the same code.
pub(crate) fn look(folder: &Path) -> Report {
    let earlier: [Earlier; 0] = [];
    inspect(&mut Directory(folder.to_owned()), &trust(), &earlier).unwrap()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from).iter().filter(|file| *file != "lock") {
        let target = to.join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(file), target).unwrap();
    }
}

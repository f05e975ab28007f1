//! Bundles that are made, checked by nothing of ours, and changed by somebody who has their sums made anew.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis::ledger::tiles::LogId;
use portcullis_audit::Event;
use portcullis_tests::{Finished, gateway, process};
use serde_json::Value;

use crate::logs::{self, Site};

const SOON: Duration = Duration::from_secs(60);

pub(crate) fn export(logs: &Path, trust: &Path, more: &[&str], out: &Path) -> Finished {
    let mut command = Command::new(gateway::binary());
    command
        .args(["audit", "export"])
        .arg(logs)
        .arg("--trust")
        .arg(trust);
    command.arg("--out").arg(out).args(more);
    process::run(&command, SOON)
}

/// With nothing but Python: no environment, no packages, nothing of this machine's.
pub(crate) fn check(bundle: &Path, more: &[&str]) -> Finished {
    let mut command = Command::new("/usr/bin/python3");
    command
        .env_clear()
        .current_dir("/")
        .args(["-I", "-S", "-B"]);
    command.arg(bundle.join("verify.py")).args(more);
    process::run(&command, SOON)
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

pub(crate) fn json(bundle: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(bundle.join(file)).unwrap()).unwrap()
}

pub(crate) fn contents(bundle: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path.strip_prefix(bundle).unwrap().to_owned(), bytes)
    };
    files(bundle).into_iter().map(own).collect()
}

pub(crate) const ALL: [&str; 4] = [
    "--from",
    "2020-01-01T00:00:00Z",
    "--to",
    "2100-01-01T00:00:00Z",
];

/// When the events of grown logs happened, and a moment by which all of them had.
pub(crate) const EARLY: [&str; 4] = [
    "--from",
    "2027-01-15T08:00:00Z",
    "--to",
    "2027-01-15T08:00:01Z",
];

/// A bundle of logs that have one event more.
pub(crate) fn bundle_with(event: Event, log: &LogId) -> (Site, PathBuf) {
    let mut site = Site::grown(&logs::VOTERS);
    site.say(log, event.line());
    site.seal();
    let bundle = site.scratch.path().join("bundle");
    let told = export(&site.folder(), &site.trust(), &EARLY, &bundle);
    assert!(told.status.success() && told.stderr.is_empty(), "{told}");
    let told = check(&bundle, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    (site, bundle)
}

/// Changes files of a bundle, makes the sums anew, and looks for what is said of it; then all is as it was.
pub(crate) fn forged(bundle: &Path, changes: &[(&str, &str, &str)], says: &str) {
    let before = contents(bundle);
    for (file, old, new) in changes {
        let path = bundle.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        fs::write(&path, text.replacen(old, new, 1)).unwrap();
    }
    sum_anew(bundle);
    let told = check(bundle, &[]);
    assert_eq!(told.status.code(), Some(1), "{changes:?}: {told}");
    assert!(told.stdout.contains(says), "{changes:?}: {told}");
    for (file, bytes) in before {
        fs::write(bundle.join(file), bytes).unwrap();
    }
}

/// Makes the sums fit whatever lies there.
pub(crate) fn sum_anew(bundle: &Path) {
    use std::fmt::Write as _;
    let mut sums = String::new();
    for (name, bytes) in contents(bundle) {
        if name != Path::new("SHA256SUMS") {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let hex: String = digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            writeln!(sums, "{hex}  {}", name.display()).unwrap();
        }
    }
    fs::write(bundle.join("SHA256SUMS"), sums).unwrap();
}

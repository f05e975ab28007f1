//! A program that puts one driver through a list of checks: what it is told, and what it tells.
//!
//! The programs stand in `tests/programs`, each in its driver's language. It is told by the
//! environment where to connect, and prints a line for each check: `ok NAME`, `ok NAME: WHAT WAS
//! SEEN`, `part NAME: WHAT THE DRIVER LACKS`, `no NAME: WHY THE DRIVER CANNOT`, `FAIL NAME: WHY`, and
//! `version TEXT` once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Finished};
use crate::scratch::Scratch;

/// What is checked of arriving, in the order of the manual's table.
pub const CONNECTING: [&str; 12] = [
    "require",
    "verify-ca",
    "verify-full",
    "wrong-name",
    "wrong-authority",
    "binding",
    "no-binding",
    "direct",
    "settings",
    "wrong-password",
    "denied",
    "connect-timeout",
];
/// What is checked of working, in the order of the manual's table.
pub const WORKING: [&str; 10] = [
    "prepared",
    "pipeline",
    "copy",
    "notify",
    "large-object",
    "cancel",
    "statement-timeout",
    "binary",
    "error",
    "large-value",
];
/// Of these, what is checked only where there are ports for it ([`Closed`]).
pub const REFUSED: [&str; 2] = ["denied", "connect-timeout"];

/// On a machine that is busy compiling, everything takes its time.
const LIMIT: Duration = Duration::from_secs(120);

/// Where a program is to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// A name that every machine can look up, and that the server's certificate is for.
    pub host: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Who signed the server's certificate, as PEM.
    pub authority: String,
    /// Who did not.
    pub other_authority: String,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The port that policy closes and the one that never answers, where there are such.
    pub closed: Option<Closed>,
}

/// Ports for what must fail.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// Everybody is denied there.
    pub denied: u16,
    /// Accepts and never says a word.
    pub silent: u16,
}

/// What a program told.
#[derive(Debug, Clone)]
pub struct Report {
    /// The driver's version.
    pub version: String,
    /// What came of each check.
    pub checks: BTreeMap<String, Outcome>,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It works; what was seen, where the program says.
    Works(String),
    /// It works as far as the driver goes, which is not the whole way.
    Partly(String),
    /// The driver has no such thing.
    Cannot(String),
    /// It does not work.
    Fails(String),
}

/// Runs a program to its end and reads what it told.
///
/// # Panics
/// When it ends with an error or tells what cannot be read.
#[must_use]
pub fn run(mut program: Command, place: &Place) -> Report {
    let scratch = Scratch::new("program");
    let authority = scratch.write("authority.pem", &place.authority);
    let other = scratch.write("other.pem", &place.other_authority);
    let hosts = scratch.write("hosts", format!("{} {}\n", place.address.ip(), place.host));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            program.env_remove(name);
        }
    }
    // No password file or root.crt of the person's own.
    program
        .env("HOME", scratch.path())
        .env("AT_SCRATCH", scratch.path());
    program
        .env("AT_HOST", &place.host)
        .env("AT_PORT", place.address.port().to_string());
    program
        .env("AT_CA", authority)
        .env("AT_OTHER_CA", other)
        .env("AT_HOSTS", hosts);
    program
        .env("AT_USER", &place.user)
        .env("AT_PASSWORD", &place.password)
        .env("AT_DATABASE", "postgres");
    if let Some(closed) = place.closed {
        program.env("AT_DENIED_PORT", closed.denied.to_string());
        program.env("AT_SILENT_PORT", closed.silent.to_string());
    }
    read(&process::run(&program, LIMIT))
}

fn read(finished: &Finished) -> Report {
    let mut report = Report {
        version: String::new(),
        checks: BTreeMap::new(),
    };
    for line in finished.ok().lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, told) = rest.split_once(": ").unwrap_or((rest, ""));
        let outcome: fn(String) -> Outcome = match word {
            "version" => {
                rest.clone_into(&mut report.version);
                continue;
            }
            "ok" => Outcome::Works,
            "part" => Outcome::Partly,
            "no" => Outcome::Cannot,
            "FAIL" => Outcome::Fails,
            _ => panic!("`{line}` among\n{finished}"),
        };
        let before = report
            .checks
            .insert(name.to_owned(), outcome(told.to_owned()));
        assert_eq!(before, None, "{name} twice in\n{finished}");
    }
    assert!(!report.version.is_empty(), "no version in\n{finished}");
    report
}

//! Documents and views for tests, in few words.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    reason = "each test file is a crate of its own and uses a part of this"
)]

pub mod fleet;
pub mod random;

use portcullis_policy::*;
use std::collections::{BTreeMap, BTreeSet};

/// `tenant("acme")`: owns network `acme-vpc`, private links `aws:vpce-acme` and `azure:7`, cluster `main`, no endpoint.
pub fn tenant(id: &str) -> Tenant {
    let mut tenant = Tenant::new(name(id));
    tenant.clusters.insert(name("main"), cluster("10.0.0.10"));
    tenant.networks.insert(name(&format!("{id}-vpc")));
    tenant.private_links.insert(name(&format!("aws:vpce-{id}")));
    if id == "acme" {
        tenant.private_links.insert(name("azure:7"));
    }
    tenant
}

/// A cluster with one backend and no protection.
pub fn cluster(host: &str) -> Cluster {
    Cluster {
        engine: Engine::Postgresql,
        backends: vec![Backend {
            host: host.to_owned(),
            port: 5432,
        }],
        tls: UpstreamTls::Unencrypted,
        via: None,
        service: None,
    }
}

/// An endpoint of cluster `main` named `NAME.db.example.net`.
pub fn endpoint(named: &str, doors: &[&str], allow: Vec<Entry>) -> Endpoint {
    Endpoint {
        cluster: name("main"),
        names: vec![server_name(named)],
        suspended: false,
        replication: Replication::Refused,
        authentication: Authentication::Scram,
        doors: doors
            .iter()
            .map(|door| name(door))
            .collect::<BTreeSet<Origin>>(),
        allow,
    }
}

/// `NAME.db.example.net`.
pub fn server_name(named: &str) -> ServerName {
    name(&format!("{named}.db.example.net"))
}

/// `PREFIX via ORIGIN`.
pub fn entry(prefix: &str, origin: &str) -> Entry {
    Entry::new(name(prefix), name(origin))
}

/// Small changes to an entry, in the order in which one says them.
pub trait EntryWords {
    fn except(self, prefixes: &[&str]) -> Self;
    fn until(self, millis: i64) -> Self;
}

impl EntryWords for Entry {
    fn except(mut self, prefixes: &[&str]) -> Self {
        self.except = prefixes.iter().map(|prefix| name(prefix)).collect();
        self
    }
    fn until(mut self, millis: i64) -> Self {
        self.expires = Some(at(millis));
        self
    }
}

/// The moment this many milliseconds into 1970.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Any id, name, prefix, origin or address from its text.
pub fn name<T>(text: &str) -> T
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Put these, remove those.
pub fn command(put: &[Tenant], remove: &[&str]) -> Command {
    Command::Apply {
        base: None,
        expected: BTreeMap::new(),
        put: put.to_vec(),
        remove: remove.iter().map(|id| name(id)).collect(),
    }
}

/// A command by somebody on the node itself.
pub trait Proposed {
    fn propose(&mut self, command: &Command, at: Timestamp) -> Result<Applied, Rejection>;
}

impl Proposed for State {
    fn propose(&mut self, command: &Command, at: Timestamp) -> Result<Applied, Rejection> {
        self.apply(&Proposal::local("a test", at, command.clone()))
    }
}

/// A state that has these tenants and nothing else.
pub fn state(tenants: &[Tenant]) -> State {
    let mut state = State::default();
    let applied = state.propose(&command(tenants, &[]), at(0));
    applied.unwrap_or_else(|rejection| {
        panic!("{rejection}: {:?}", std::error::Error::source(&rejection))
    });
    state
}

/// Applies a command that must be refused, and makes sure that nothing of it stuck.
pub fn check_refused(state: &State, command: &Command, code: &str, words: &str) {
    let mut after = state.clone();
    let rejection = after.propose(command, at(1)).unwrap_err();
    assert_eq!(rejection.code(), code);
    let source = std::error::Error::source(&rejection).map(ToString::to_string);
    let said = format!("{rejection}: {}", source.unwrap_or_default());
    assert!(said.contains(words), "{said}");
    assert_eq!(&after, state);
}

/// A plain attempt to connect.
pub fn attempt<'a>(
    origin: &'a Origin,
    address: &str,
    server_name: Option<&'a ServerName>,
) -> Attempt<'a> {
    Attempt {
        origin,
        address: name(address),
        server_name,
        user: "app",
        database: "orders",
        replication: false,
        certificate: None,
        purpose: Purpose::Connect,
        unconfirmed: 0,
    }
}

/// The decision in one word, silently: `permitted`, or the denial's code.
pub fn decided(view: &View, attempt: &Attempt<'_>, moment: Timestamp) -> &'static str {
    match decide(view, attempt, moment, &mut Silent) {
        Decision::Permitted(_) => "permitted",
        Decision::Denied(denial) => denial.code(),
    }
}

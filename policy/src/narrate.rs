//! Telling how a decision was reached, by the very run that reached it.

use crate::denial::DenialCode;
use crate::id::{EndpointId, TenantId};
use crate::network::Address;
use crate::origin::Origin;
use crate::revocations::Serial;
use crate::server_name::ServerName;
use crate::tenant::Entry;
use crate::time::Timestamp;
use serde::Serialize;
use std::fmt;

/// Someone who is told each check of a decision as it is made.
pub trait Narrator {
    /// A check and what came of it. The last one told is the one that decided.
    fn step(&mut self, check: Check, outcome: Outcome<'_>);
}

/// Hears nothing and costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Narrator for Silent {
    fn step(&mut self, _: Check, _: Outcome<'_>) {}
}

/// Remembers every step in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Story {
    /// The steps, in the order of the checks.
    pub lines: Vec<Line>,
}

/// One step of a story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// What was checked.
    pub check: Check,
    /// The denial that came of it; `None` when the check was passed.
    pub refused: Option<DenialCode>,
    /// What was found, in words.
    pub text: String,
}

impl Story {
    /// A story without steps, to be passed to `decide`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Narrator for Story {
    fn step(&mut self, check: Check, outcome: Outcome<'_>) {
        let (refused, fact) = match outcome {
            Outcome::Passed(fact) => (None, fact),
            Outcome::Refused(code, fact) => (Some(code), fact),
        };
        let text = fact.to_string();
        self.lines.push(Line {
            check,
            refused,
            text,
        });
    }
}

/// One line for each step: `ok   door         public is a door of the endpoint`.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let mark = if line.refused.is_none() { "ok" } else { "NO" };
            writeln!(f, "{mark:<4} {:<12} {}", line.check, line.text)?;
        }
        Ok(())
    }
}

/// The checks of a decision, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The name leads to an endpoint.
    Endpoint,
    /// The tenant is not suspended.
    Tenant,
    /// The endpoint is not suspended.
    Suspension,
    /// The door is in the endpoint's boundary.
    Door,
    /// Somebody at all may come through the door.
    List,
    /// An entry covers the address.
    Address,
    /// That entry still holds.
    Expiry,
    /// A replication connection is allowed to be one.
    Replication,
    /// The client's certificate is not revoked; told only where it has shown one.
    Certificate,
    /// The policy was confirmed lately enough; told only where the tenant minds.
    Confirmation,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Endpoint => "endpoint",
            Self::Tenant => "tenant",
            Self::Suspension => "suspension",
            Self::Door => "door",
            Self::List => "list",
            Self::Address => "address",
            Self::Expiry => "expiry",
            Self::Replication => "replication",
            Self::Certificate => "certificate",
            Self::Confirmation => "confirmation",
        })
    }
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was passed, because of this.
    Passed(Fact<'a>),
    /// It was not, because of this, and the attempt is denied.
    Refused(DenialCode, Fact<'a>),
}

/// What a check found. `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// The client did not say which endpoint it wants.
    NoServerName,
    /// No endpoint has this name.
    UnknownName(&'a ServerName),
    /// The name leads here.
    Named(&'a ServerName, &'a TenantId, &'a EndpointId),
    /// The tenant is not suspended.
    TenantActive(&'a TenantId),
    /// The tenant is suspended.
    TenantSuspended(&'a TenantId),
    /// The endpoint is not suspended.
    EndpointActive(&'a EndpointId),
    /// The endpoint is suspended.
    EndpointSuspended(&'a EndpointId),
    /// The endpoint has this door.
    HasDoor(&'a Origin),
    /// The endpoint does not have this door.
    NoSuchDoor(&'a Origin),
    /// How many entries there are for the door.
    Entries(&'a Origin, usize),
    /// The address is in none of them.
    NotListed(Address, &'a Origin),
    /// The address is in the entry at this position.
    Listed(Address, usize, &'a Entry),
    /// The entry holds until this moment, or for ever.
    Holds(Option<Timestamp>),
    /// The entry stopped to hold at this moment.
    Expired(Timestamp),
    /// It is no replication connection.
    NoReplication,
    /// It is one, and they are allowed here.
    ReplicationAllowed,
    /// It is one, and they are refused here.
    ReplicationRefused,
    /// The client's certificate is not revoked.
    NotRevoked(&'a Serial),
    /// It is.
    Revoked(&'a Serial),
    /// For how many seconds nobody has confirmed it, and after how many the tenant's new clients are refused.
    Fresh(u64, u32),
    /// The same, and they are refused.
    Stale(u64, u32),
}

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServerName => f.write_str("the client named no endpoint (no SNI)"),
            Self::UnknownName(name) => write!(f, "no endpoint is named {name}"),
            Self::Named(name, tenant, endpoint) => write!(f, "{name} is {tenant}/{endpoint}"),
            Self::TenantActive(id) => write!(f, "tenant {id} is not suspended"),
            Self::TenantSuspended(id) => write!(f, "tenant {id} is suspended"),
            Self::EndpointActive(id) => write!(f, "endpoint {id} is not suspended"),
            Self::EndpointSuspended(id) => write!(f, "endpoint {id} is suspended"),
            Self::HasDoor(origin) => write!(f, "{origin} is a door of the endpoint"),
            Self::NoSuchDoor(origin) => write!(f, "{origin} is not a door of the endpoint"),
            Self::Entries(origin, 0) => {
                write!(f, "nobody may come via {origin}: there is no entry")
            }
            Self::Entries(origin, 1) => write!(f, "there is 1 entry via {origin}"),
            Self::Entries(origin, count) => write!(f, "there are {count} entries via {origin}"),
            Self::NotListed(address, origin) => {
                write!(f, "{address} is in no entry via {origin}")
            }
            Self::Listed(address, index, entry) => {
                write!(f, "{address} is in allow[{index}]: {entry}")
            }
            Self::Holds(Some(moment)) => write!(f, "the entry holds until {moment}"),
            Self::Holds(None) => f.write_str("the entry does not expire"),
            Self::Expired(moment) => write!(f, "the entry expired at {moment}"),
            Self::NoReplication => f.write_str("this is no replication connection"),
            Self::ReplicationAllowed => f.write_str("replication connections are allowed"),
            Self::ReplicationRefused => f.write_str("replication connections are refused"),
            Self::NotRevoked(serial) => write!(f, "certificate {serial} is not revoked"),
            Self::Revoked(serial) => write!(f, "certificate {serial} is revoked"),
            Self::Fresh(seconds, limit) => write!(
                f,
                "the policy was confirmed {seconds} s ago; on-stale refuses after {limit} s"
            ),
            Self::Stale(seconds, limit) => write!(
                f,
                "nobody has confirmed the policy for {seconds} s; on-stale refuses after {limit} s"
            ),
        }
    }
}

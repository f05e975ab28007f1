//! What the log carries: a command, who proposes it, and when.

use super::command::Command;
use crate::fleet_id::{NodeId, RequestId};
use crate::id::OperatorId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A command on its way into the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Proposal {
    /// By which a repetition is known: executed once, whatever the number of times it arrives.
    pub request: Option<RequestId>,
    /// The moment, by the clock of whoever put it into the log.
    pub at: Timestamp,
    /// Who proposes it.
    pub author: Author,
    /// What is proposed.
    pub command: Command,
}

impl Proposal {
    /// A command by somebody on the machine of a node, that is not recognised when it is repeated.
    #[must_use]
    pub fn local(name: impl Into<String>, at: Timestamp, command: Command) -> Self {
        Self {
            request: None,
            at,
            author: Author::local(name),
            command,
        }
    }
}

/// Who proposes a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Author {
    /// As people know them, for the record: `uid 0 (root)`.
    pub name: String,
    /// As rules know them.
    pub principal: Principal,
}

impl Author {
    /// Somebody on the machine of a node.
    #[must_use]
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            principal: Principal::Local,
        }
    }
}

/// Somebody who can be named in a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Principal {
    /// Whoever may command a node on its own machine. On all nodes together this is one person: nobody can tell two apart.
    Local,
    /// A node of the fleet, about itself.
    Node(NodeId),
    /// An operator, known by a certificate.
    Operator(OperatorId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("a local user"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::Operator(id) => write!(f, "operator {id}"),
        }
    }
}

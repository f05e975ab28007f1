//! What the admin API says and is told about operators and about what needs two people.

use portcullis_policy::{GuardRails, People, Told};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::types::Difference;

/// Somebody who may command the fleet.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OperatorReply {
    /// The name, which their certificate bears.
    pub name: String,
    /// `fleet-operator`, `policy-author`, `tenant-operator`, `auditor`, `reader`.
    pub roles: Vec<String>,
    /// Whose allow lists a tenant operator may change.
    pub tenants: Vec<String>,
}

/// `GET /v1/operators`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OperatorsReply {
    /// All of them, by name.
    pub operators: Vec<OperatorReply>,
}

/// `POST /v1/operators`: make an operator, or change what one may do.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// The name, a label.
    pub name: String,
    /// As in `OperatorReply`.
    pub roles: Vec<String>,
    /// As in `OperatorReply`.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// A PKCS#10 request, PEM, for a certificate that names the operator; none for no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
}

/// `POST /v1/operators/remove`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct RemoveOperatorRequest {
    /// The name.
    pub name: String,
}

/// What became of a change of operators or of the guard rails.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ChangedReply {
    /// The revision at which it holds; with `pending`, the one at which it waits.
    pub revision: u64,
    /// What waits for a second person; nothing was changed yet then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingChange>,
    /// The operator's certificate and after it the fleet authority's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The fleet authority's certificate, PEM, by which the operator knows nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// When the certificate ends, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A change that waits for a second person.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// By which it is known.
    pub id: u64,
    /// What the second person must have looked at, 64 hex digits.
    pub digest: String,
    /// When it can no longer be approved, RFC 3339 in UTC.
    pub expires: String,
}

impl PendingChange {
    /// What the state told the author, if it is that.
    #[must_use]
    pub fn of(told: &Told) -> Option<Self> {
        match told {
            Told::Pending {
                pending,
                digest,
                expires,
            } => Some(Self {
                id: pending.get(),
                digest: digest.to_string(),
                expires: expires.to_string(),
            }),
            Told::Done | Told::Admitted(_) | Told::Staged { .. } | Told::Recorded(_) => None,
        }
    }
}

/// `GET /v1/pending`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PendingReply {
    /// What waits, oldest first.
    pub pending: Vec<Waiting>,
}

/// A change that waits, as the second person looks at it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The change.
    #[serde(flatten)]
    pub change: PendingChange,
    /// Who proposed it.
    pub author: String,
    /// What it is: `apply`, `put-operator`, `remove-operator`, `set-guard-rails`, `set-keeping`.
    pub kind: String,
    /// The command, as the state has it.
    pub command: Value,
    /// What it would change in who reaches what; none if that cannot be said.
    pub difference: Option<Difference>,
    /// Why it would be refused as things stand; none if it would not be.
    pub refused: Option<String>,
}

/// `POST /v1/approve`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// By which the change is known.
    pub id: u64,
    /// What was looked at: `digest` of the change.
    pub digest: String,
}

/// `POST /v1/reject`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct RejectRequest {
    /// By which the change is known.
    pub id: u64,
}

/// `GET` and `POST /v1/guard-rails`: what needs two people.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Rails {
    /// An entry for everyone that was not in force before.
    pub anywhere: bool,
    /// A change of operators.
    pub operators: bool,
    /// A change of these.
    pub guard_rails: bool,
}

impl From<GuardRails> for Rails {
    fn from(rails: GuardRails) -> Self {
        let two = |people| people == People::TwoPeople;
        Self {
            anywhere: two(rails.anywhere),
            operators: two(rails.operators),
            guard_rails: two(rails.guard_rails),
        }
    }
}

impl From<Rails> for GuardRails {
    fn from(rails: Rails) -> Self {
        let people = |two| {
            if two { People::TwoPeople } else { People::One }
        };
        Self {
            anywhere: people(rails.anywhere),
            operators: people(rails.operators),
            guard_rails: people(rails.guard_rails),
        }
    }
}

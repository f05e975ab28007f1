//! Somebody who asks: as evidence names them, and what they may.

use std::sync::Arc;

use portcullis_policy::{Action, Author, OperatorId, Principal, Role, TenantId, may};

use super::people::{Commanders, author};
use super::{Node, Refusal};
use crate::http::{Operator, Peer};
use crate::runtime::clock;

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Who {
    author: Author,
    /// None is everything: somebody on this machine, who could do it without us.
    roles: Option<Vec<Role>>,
}

impl Who {
    /// Somebody on this machine.
    #[must_use]
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            author: Author::local(name),
            roles: None,
        }
    }

    /// Who is at the other end, if it is somebody whom this node knows. Asked for every request: a
    /// role that was taken away is gone.
    pub(super) fn recognise(
        peer: &Peer,
        commanders: &Commanders,
        node: &Arc<Node>,
    ) -> Result<Self, Refusal> {
        match peer {
            Peer::Local(_) | Peer::Remote(_) => commanders
                .recognise(peer)
                .map(|caller| Self::local(author(caller)))
                .ok_or_else(|| {
                    Refusal::new(403, "not_permitted", "this user may not command this node")
                        .next("run this as root or as the node's own user; an administrator may also add your uid to [admin] allowed-uids in node.toml")
                }),
            Peer::Operator(operator) => Self::operator(operator, node).ok_or_else(|| {
                Refusal::new(403, "not_permitted", "this operator may not command this fleet")
                    .next("`portcullis operator list` shows who may; `portcullis operator add` makes an operator, or a new certificate for one")
            }),
        }
    }

    fn operator(operator: &Operator, node: &Arc<Node>) -> Option<Self> {
        if operator.until < clock::unix_seconds() {
            return None;
        }
        let id: OperatorId = operator.name.parse().ok()?;
        // A name says who it is only with the key that it was given with.
        if !node.fleet.knows_operator(&id, operator.key) {
            return None;
        }
        Some(Self {
            roles: Some(node.fleet.roles_of(&id)?),
            author: Author {
                name: format!("operator {id}"),
                principal: Principal::Operator(id),
            },
        })
    }

    /// As evidence names them, and as the state's rules know them.
    #[must_use]
    pub fn author(&self) -> Author {
        self.author.clone()
    }

    /// The name in evidence.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.author.name
    }

    /// Whether this is somebody on the node's own machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.roles.is_none()
    }

    /// Whether they may ask this about, or change, this tenant; `None` is all of them.
    #[must_use]
    pub fn may(&self, action: Action, tenant: Option<&TenantId>) -> bool {
        self.roles
            .as_ref()
            .is_none_or(|roles| may(roles, action, tenant))
    }

    /// Whether there is anything about which they may ask this.
    #[must_use]
    pub fn may_ever(&self, action: Action) -> bool {
        let Some(roles) = &self.roles else {
            return true;
        };
        let of_own = |role: &Role| match role {
            Role::TenantOperator(own) => own.iter().any(|id| may(roles, action, Some(id))),
            Role::FleetOperator | Role::PolicyAuthor | Role::Auditor | Role::Reader => false,
        };
        may(roles, action, None) || roles.iter().any(of_own)
    }
}

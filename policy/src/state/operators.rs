//! Who may command the fleet, and whether the author of a command may propose it.

use super::apply::State;
use super::authorities::AuthorityStep;
use super::command::Command;
use super::fleet::too_many;
use super::guard::People;
use super::proposal::{Author, Principal};
use super::rejection::Rejection;
use super::root::{HashedMap, hash_of};
use crate::access::{Action, Role, may, only_allow_lists_differ};
use crate::fleet_id::{Digest, KeyHash, NodeId};
use crate::id::{OperatorId, TenantId};
use crate::limits::{MAX_OPERATORS, MAX_ROLES, MAX_TENANTS_OF_ROLE};
use crate::tenant::Tenant;

/// The operators, their roles, and the key by which each is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operators {
    roles: HashedMap<OperatorId, Vec<Role>>,
    keys: HashedMap<OperatorId, KeyHash>,
}

impl Operators {
    pub(super) fn new() -> Self {
        Self {
            roles: HashedMap::new(),
            keys: HashedMap::new(),
        }
    }

    pub(super) fn roles(&self, id: &OperatorId) -> Option<&[Role]> {
        self.roles.get(id).map(Vec::as_slice)
    }

    pub(super) fn key(&self, id: &OperatorId) -> Option<KeyHash> {
        self.keys.get(id).copied()
    }

    /// Answers whether that is news.
    pub(super) fn bind(&mut self, id: &OperatorId, key: KeyHash) -> Result<bool, Rejection> {
        if self.roles(id).is_none() {
            return Err(Rejection::NoSuchOperator(id.clone()));
        }
        if self.key(id) == Some(key) {
            return Ok(false);
        }
        self.keys.insert(id.clone(), key);
        Ok(true)
    }

    /// Answers whether that is news.
    pub(super) fn put(&mut self, id: &OperatorId, roles: &[Role]) -> Result<bool, Rejection> {
        if self.roles(id) == Some(roles) {
            return Ok(false);
        }
        if roles.is_empty() || roles.len() > MAX_ROLES {
            return Err(Rejection::OperatorRoles(id.clone()));
        }
        let too_wide = |role: &Role| match role {
            Role::TenantOperator(tenants) => {
                tenants.is_empty() || tenants.len() > MAX_TENANTS_OF_ROLE
            }
            Role::FleetOperator | Role::PolicyAuthor | Role::Auditor | Role::Reader => false,
        };
        if roles.iter().any(too_wide) {
            return Err(Rejection::OperatorRoles(id.clone()));
        }
        if self.roles(id).is_none() && self.roles.len() >= MAX_OPERATORS {
            return Err(too_many("operators", MAX_OPERATORS));
        }
        self.roles.insert(id.clone(), roles.to_vec());
        Ok(true)
    }

    /// Answers whether there was one. Whoever is given the name later has another key.
    pub(super) fn remove(&mut self, id: &OperatorId) -> bool {
        let there = self.roles(id).is_some();
        self.roles.remove(id);
        self.keys.remove(id);
        there
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OperatorId, &Vec<Role>)> {
        self.roles.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&OperatorId, &KeyHash)> {
        self.keys.iter()
    }

    /// As it was before there were keys, where there are none.
    pub(super) fn root(&self) -> Digest {
        match self.keys.len() {
            0 => self.roles.root(),
            _ => hash_of(b"operators", &(self.roles.root(), self.keys.root())),
        }
    }
}

impl State {
    /// Whether this author may propose this command. Asked again when the command is executed, so that a role that was
    /// taken away in between no longer counts.
    pub(super) fn check_author(&self, author: &Author, command: &Command) -> Result<(), Rejection> {
        let permitted = match &author.principal {
            // The audit logs hold what nodes saw, not what is said on their machines.
            Principal::Local => !matches!(command, Command::Record { .. }),
            Principal::Node(id) => self.node_may(*id, command),
            Principal::Operator(id) => {
                let roles = self.operators.roles(id);
                roles.is_some_and(|roles| self.operator_may(author, roles, command))
            }
        };
        match permitted {
            true => Ok(()),
            false => Err(Rejection::NotPermitted(author.principal.clone())),
        }
    }

    /// Nodes speak of themselves and of what they have verified; policy is for people.
    fn node_may(&self, id: NodeId, command: &Command) -> bool {
        let Some(fleet) = self.view.fleet() else {
            // Before there is a fleet there is one node, and what it saw is recorded as later.
            return id == NodeId::FIRST && matches!(command, Command::Record { .. });
        };
        let Some(node) = fleet.nodes.get(&id) else {
            return false;
        };
        match command {
            Command::Report { node: about, .. } => *about == id,
            Command::Record { .. } => true,
            Command::Authority {
                step: AuthorityStep::Confirm { node: about, .. },
                ..
            } => *about == id,
            Command::Authority {
                step: AuthorityStep::Return { .. },
                ..
            } => false,
            Command::Authority { .. } => node.is_control(),
            Command::Admit { .. } | Command::Succession { .. } | Command::Seal => node.is_control(),
            Command::Apply { .. }
            | Command::Found { .. }
            | Command::Invite { .. }
            | Command::Withdraw { .. }
            | Command::Remove { .. }
            | Command::Stage { .. }
            | Command::Commit { .. }
            | Command::Discard { .. }
            | Command::Recover { .. }
            | Command::PutOperator { .. }
            | Command::RemoveOperator { .. }
            | Command::BindOperator { .. }
            | Command::Approve { .. }
            | Command::Reject { .. }
            | Command::SetGuardRails { .. }
            | Command::SetKeeping { .. }
            | Command::Revoke { .. }
            | Command::Unrevoke { .. } => false,
        }
    }

    fn operator_may(&self, author: &Author, roles: &[Role], command: &Command) -> bool {
        let fleet_wide = |action| may(roles, action, None);
        match command {
            Command::Apply { put, remove, .. } => {
                fleet_wide(Action::Apply) || self.lists_of_own(roles, put, remove)
            }
            // What the pieces make is looked at when they are whole.
            Command::Stage { .. } | Command::Commit { .. } | Command::Discard { .. } => {
                let of_own = |role: &Role| matches!(role, Role::TenantOperator(_));
                fleet_wide(Action::Apply) || roles.iter().any(of_own)
            }
            Command::Invite { .. } | Command::Withdraw { .. } => fleet_wide(Action::Invite),
            Command::Remove { .. } => fleet_wide(Action::Remove),
            Command::PutOperator { .. } | Command::RemoveOperator { .. } => {
                fleet_wide(Action::ChangeOperators)
            }
            // Whose key is an operator's, that is the operator.
            Command::BindOperator { .. } => {
                let two = self
                    .guard_rails
                    .is_some_and(|rails| rails.operators == People::TwoPeople);
                !two && fleet_wide(Action::ChangeOperators)
            }
            Command::Approve { .. } => fleet_wide(Action::Approve),
            Command::Reject { pending, .. } => {
                let of = self.pending.get(*pending).map(|one| &one.author.principal);
                fleet_wide(Action::Approve) || of == Some(&author.principal)
            }
            Command::SetGuardRails { .. } => fleet_wide(Action::SetGuardRails),
            Command::SetKeeping { .. } => fleet_wide(Action::SetKeeping),
            Command::Authority {
                step: AuthorityStep::Rotate(_) | AuthorityStep::Return { .. },
                ..
            } => fleet_wide(Action::RotateAuthority),
            Command::Authority { .. } => false,
            Command::Revoke { tenant, .. } | Command::Unrevoke { tenant, .. } => {
                may(roles, Action::Revoke, Some(tenant))
            }
            // These need the machine of a node, or are a node's own.
            Command::Found { .. }
            | Command::Admit { .. }
            | Command::Report { .. }
            | Command::Recover { .. }
            | Command::Succession { .. }
            | Command::Seal
            | Command::Record { .. } => false,
        }
    }

    /// Whether a command changes allow lists of tenants that these roles name, and nothing else.
    fn lists_of_own(&self, roles: &[Role], put: &[Tenant], remove: &[TenantId]) -> bool {
        let own = |document: &Tenant| {
            let before = self.view.tenant(&document.id);
            may(roles, Action::Apply, Some(&document.id))
                && before
                    .is_some_and(|before| only_allow_lists_differ(&before.document(), document))
        };
        remove.is_empty() && !put.is_empty() && put.iter().all(own)
    }
}

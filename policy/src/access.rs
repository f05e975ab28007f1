//! Who may ask what of the fleet's API: one table, without exceptions elsewhere.

use crate::id::TenantId;
use crate::tenant::{Endpoint, Tenant};
use crate::text::unique;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an operator is to the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the fleet: everything.
    FleetOperator,
    /// Writes policy, for any tenant.
    PolicyAuthor,
    /// Changes the allow lists of these tenants' endpoints, and nothing else of theirs.
    TenantOperator(#[serde(deserialize_with = "unique::set")] BTreeSet<TenantId>),
    /// Looks at everything and changes nothing.
    Auditor,
    /// Looks at policy and changes nothing.
    Reader,
}

/// What the API can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// What a policy would change.
    Plan,
    /// Change policy.
    Apply,
    /// Why an attempt would be permitted or denied.
    Explain,
    /// Who can reach an endpoint.
    Reach,
    /// The live connections.
    Connections,
    /// The story behind a reference.
    Why,
    /// Whether a cluster can be reached, verified and served.
    ClusterCheck,
    /// How a node fares.
    Status,
    /// The limits in force.
    Limits,
    /// A tenant's document.
    Policy,
    /// How the fleet fares.
    FleetStatus,
    /// Make or take back a join token.
    Invite,
    /// Remove a node.
    Remove,
    /// Let a node stop accepting.
    Drain,
    /// Take a back-up.
    Backup,
    /// Read the audit logs.
    AuditLog,
    /// See who the operators are.
    Operators,
    /// Make, change or remove operators.
    ChangeOperators,
    /// See what waits for a second person.
    Pending,
    /// Answer what waits for a second person.
    Approve,
    /// Change what needs a second person.
    SetGuardRails,
    /// Change for how long the audit logs are kept.
    SetKeeping,
    /// See the certificates, and how far authorities are exchanged.
    Certificates,
    /// Exchange an authority for another, or take that back.
    RotateAuthority,
    /// Revoke a certificate of a tenant's client, or take that back.
    Revoke,
}

impl Action {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 25] = [
        Self::Plan,
        Self::Apply,
        Self::Explain,
        Self::Reach,
        Self::Connections,
        Self::Why,
        Self::ClusterCheck,
        Self::Status,
        Self::Limits,
        Self::Policy,
        Self::FleetStatus,
        Self::Invite,
        Self::Remove,
        Self::Drain,
        Self::Backup,
        Self::AuditLog,
        Self::Operators,
        Self::ChangeOperators,
        Self::Pending,
        Self::Approve,
        Self::SetGuardRails,
        Self::SetKeeping,
        Self::Certificates,
        Self::RotateAuthority,
        Self::Revoke,
    ];
}

/// Whether somebody in these roles may ask this. `tenant` is the one that the answer is about or the change is to; `None`
/// is all of them, or none in particular.
#[must_use]
pub fn may(roles: &[Role], action: Action, tenant: Option<&TenantId>) -> bool {
    roles.iter().any(|role| role_may(role, action, tenant))
}

fn role_may(role: &Role, action: Action, tenant: Option<&TenantId>) -> bool {
    let row = row(action);
    match role {
        Role::FleetOperator => true,
        Role::PolicyAuthor => row.policy_author,
        Role::TenantOperator(own) => {
            row.tenant_operator && tenant.is_some_and(|tenant| own.contains(tenant))
        }
        Role::Auditor => row.auditor,
        Role::Reader => row.reader,
    }
}

struct Row {
    policy_author: bool,
    /// For a tenant of their own.
    tenant_operator: bool,
    auditor: bool,
    reader: bool,
}

/// The table: one line for an action. A fleet operator may everything.
#[rustfmt::skip]
const fn row(action: Action) -> Row {
    match action {
        //                                policy-author  tenant-operator  auditor  reader
        Action::Plan            => cells([true,          true,            false,   false]),
        Action::Apply           => cells([true,          true,            false,   false]),
        Action::Explain         => cells([true,          true,            true,    true]),
        Action::Reach           => cells([true,          true,            true,    true]),
        Action::Connections     => cells([true,          true,            true,    false]),
        Action::Why             => cells([true,          true,            true,    false]),
        Action::ClusterCheck    => cells([true,          false,           false,   false]),
        Action::Status          => cells([true,          false,           true,    true]),
        Action::Limits          => cells([true,          false,           true,    true]),
        Action::Policy          => cells([true,          true,            true,    true]),
        Action::FleetStatus     => cells([true,          false,           true,    true]),
        Action::Invite          => cells([false,         false,           false,   false]),
        Action::Remove          => cells([false,         false,           false,   false]),
        Action::Drain           => cells([false,         false,           false,   false]),
        Action::Backup          => cells([false,         false,           false,   false]),
        Action::AuditLog        => cells([false,         true,            true,    false]),
        Action::Operators       => cells([false,         false,           true,    false]),
        Action::ChangeOperators => cells([false,         false,           false,   false]),
        Action::Pending         => cells([true,          false,           true,    false]),
        Action::Approve         => cells([true,          false,           false,   false]),
        Action::SetGuardRails   => cells([false,         false,           false,   false]),
        Action::SetKeeping      => cells([false,         false,           false,   false]),
        Action::Certificates    => cells([true,          false,           true,    false]),
        Action::RotateAuthority => cells([false,         false,           false,   false]),
        Action::Revoke          => cells([true,          true,            false,   false]),
    }
}

const fn cells([policy_author, tenant_operator, auditor, reader]: [bool; 4]) -> Row {
    Row {
        policy_author,
        tenant_operator,
        auditor,
        reader,
    }
}

/// Whether two documents of a tenant differ in the allow lists of endpoints that both have, and in nothing else.
#[must_use]
pub fn only_allow_lists_differ(before: &Tenant, after: &Tenant) -> bool {
    let Tenant {
        id,
        suspended,
        clusters,
        networks,
        private_links,
        endpoints,
        limits,
    } = after;
    before.id == *id
        && before.suspended == *suspended
        && before.clusters == *clusters
        && before.networks == *networks
        && before.private_links == *private_links
        && before.limits == *limits
        && before.endpoints.len() == endpoints.len()
        && before
            .endpoints
            .iter()
            .zip(endpoints)
            .all(|((id, before), (other, after))| id == other && same_but_list(before, after))
}

fn same_but_list(before: &Endpoint, after: &Endpoint) -> bool {
    let Endpoint {
        cluster,
        names,
        suspended,
        replication,
        authentication,
        doors,
        allow: _,
    } = after;
    before.cluster == *cluster
        && before.names == *names
        && before.suspended == *suspended
        && before.replication == *replication
        && before.authentication == *authentication
        && before.doors == *doors
}

//! A state as plain data.

use super::apply::State;
use super::authorities::{Authorities, Said};
use super::documents::ViewUpdate;
use super::fleet::{Fleet, UsedIds, too_many};
use super::guard::GuardRails;
use super::invitations::{Invitation, Invitations};
use super::keeping::Keeping;
use super::pending::{Pending, Waiting};
use super::recorded::Recorded;
use super::rejection::Rejection;
use super::requests::{Remembered, Requests};
use super::staged::{Staged, StagedPieces};
use super::tenant_at::TenantAt;
use super::view::View;
use crate::access::Role;
use crate::fleet_id::{KeyHash, NodeId};
use crate::id::{OperatorId, Revision};
use crate::limits::{MAX_INVITATIONS, MAX_PENDING, MAX_SUCCESSIONS};
use crate::revocations::Revocations;
use crate::tenant::Tenant;
use crate::text::unique;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A state as plain data: to be written down, sent and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snapshot {
    /// The revision at which it holds.
    pub revision: Revision,
    /// Every tenant's document, by id.
    pub tenants: Vec<TenantAt>,
    /// The moment of the latest command.
    pub at: Timestamp,
    /// The revision at which a tenant last changed.
    pub policy: Revision,
    /// The fleet.
    pub fleet: Option<Fleet>,
    /// The ids of nodes that are used up.
    pub ids: UsedIds,
    /// The join tokens.
    pub invitations: Vec<(KeyHash, Invitation)>,
    /// The requests that are remembered, oldest first.
    pub requests: Vec<Remembered>,
    /// The commands that are being staged.
    pub staged: Vec<StagedPieces>,
    /// The operators.
    pub operators: Vec<(OperatorId, Vec<Role>)>,
    /// The changes that wait for a second person.
    pub pending: Vec<Pending>,
    /// What needs a second person.
    pub guard_rails: Option<GuardRails>,
    /// The statement that began this epoch.
    pub recovery: Option<Vec<u8>>,
    /// The successions of voters, each with the revision at which it was kept.
    pub successions: Vec<(u64, Vec<u8>)>,
    /// The keys by which operators are known. Since format 2, which is format 1 with this behind it.
    pub operator_keys: Vec<(OperatorId, KeyHash)>,
    /// The sequence of each node's last record. Since format 3, which is format 2 with this behind it.
    pub recorded: Vec<(NodeId, u64)>,
    /// For how long the audit logs are kept. Since format 4, which is format 3 with this behind it.
    pub keeping: Keeping,
    /// The authorities. Since format 5, which is format 4 with this and what follows behind it.
    #[serde(deserialize_with = "unique::map")]
    pub authorities: Authorities,
    /// What nodes said of the authorities' phases.
    pub confirmed: Vec<Said>,
}

impl Snapshot {
    /// A state of documents alone, as one node without a fleet wrote it down.
    #[must_use]
    pub fn of_documents(revision: Revision, documents: Vec<Tenant>) -> Self {
        let tenant_at = |document| TenantAt {
            revision,
            document,
            revoked: Revocations::default(),
        };
        Self {
            tenants: documents.into_iter().map(tenant_at).collect(),
            policy: revision,
            revision,
            ..State::default().snapshot()
        }
    }
}

impl State {
    /// The state as plain data.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let tenants = self.view.tenants();
        let owned = |(token, invitation): (&KeyHash, &Invitation)| (*token, invitation.clone());
        Snapshot {
            revision: self.view.revision,
            tenants: tenants
                .map(|tenant| tenant.as_put())
                .collect::<Vec<TenantAt>>(),
            at: self.at,
            policy: self.policy,
            fleet: self.view.fleet().map(|fleet| Fleet {
                authorities: Authorities::new(),
                ..fleet.clone()
            }),
            ids: self.ids.clone(),
            invitations: self.invitations.iter().map(owned).collect(),
            requests: self.requests.snapshot(),
            staged: self.staged.snapshot(),
            operators: self
                .operators()
                .map(|(id, roles)| (id.clone(), roles.clone()))
                .collect(),
            pending: self.pending.iter().cloned().collect(),
            guard_rails: self.guard_rails,
            recovery: self.recovery.clone(),
            successions: self
                .successions
                .iter()
                .map(|(at, bytes)| (*at, bytes.clone()))
                .collect(),
            operator_keys: self
                .operators
                .keys()
                .map(|(id, key)| (id.clone(), *key))
                .collect(),
            recorded: self.recorded.snapshot(),
            keeping: self.keeping.clone(),
            authorities: self
                .fleet()
                .map(|fleet| fleet.authorities.clone())
                .unwrap_or_default(),
            confirmed: self.said(),
        }
    }

    /// The state that a snapshot describes, checked as if its documents were applied anew: what was written down is not
    /// believed more than what is proposed.
    ///
    /// # Errors
    /// A [`Rejection`] when its parts do not fit together.
    pub fn restore(snapshot: Snapshot) -> Result<Self, Rejection> {
        let mut state = Self::default();
        let update = ViewUpdate {
            revision: snapshot.revision,
            put: snapshot.tenants,
            remove: Vec::new(),
            fleet: snapshot.fleet.map(|fleet| Fleet {
                authorities: snapshot.authorities,
                ..fleet
            }),
        };
        // No connection is alive yet that a change could affect, so the moment does not matter.
        let (view, _) = View::empty().updated(&update, Timestamp::LAST)?;
        state.check_fleet_limit(&view)?;
        snapshot.ids.check(view.fleet())?;
        if snapshot.policy > snapshot.revision {
            return Err(Rejection::Snapshot("its revisions are out of order"));
        }
        if snapshot.invitations.len() > MAX_INVITATIONS {
            return Err(too_many("join tokens", MAX_INVITATIONS));
        }
        if snapshot.pending.len() > MAX_PENDING {
            return Err(too_many("changes that wait", MAX_PENDING));
        }
        if snapshot.successions.len() > MAX_SUCCESSIONS {
            return Err(too_many("successions", MAX_SUCCESSIONS));
        }
        state.recorded = Recorded::restore(snapshot.recorded, view.fleet())?;
        state.set_keeping(&snapshot.keeping, None)?;
        state.view = view;
        state.at = snapshot.at;
        state.policy = snapshot.policy;
        state.ids = snapshot.ids;
        state.invitations = Invitations::restore(snapshot.invitations)?;
        state.requests = Requests::restore(snapshot.requests)?;
        state.staged = Staged::restore(snapshot.staged)?;
        for (operator, roles) in &snapshot.operators {
            state.operators.put(operator, roles)?;
        }
        for (operator, key) in &snapshot.operator_keys {
            state.operators.bind(operator, *key)?;
        }
        state.pending = Waiting::restore(snapshot.pending)?;
        state.guard_rails = snapshot.guard_rails;
        state.recovery = snapshot.recovery;
        for (at, statement) in snapshot.successions {
            state.successions.insert(at, statement);
        }
        state.restore_confirmed(snapshot.confirmed)?;
        Ok(state)
    }
}

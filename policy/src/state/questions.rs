//! What a state can be asked.

use super::apply::State;
use super::fleet::Fleet;
use super::guard::GuardRails;
use super::invitations::Invitation;
use super::pending::Pending;
use super::root::{Hasher, hash_of};
use super::view::View;
use crate::access::Role;
use crate::fleet_id::{Digest, KeyHash, PendingId};
use crate::id::{OperatorId, Revision};
use crate::time::Timestamp;

impl State {
    /// What gateways hold. A few counters.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The fleet, if there is one.
    #[must_use]
    pub fn fleet(&self) -> Option<&Fleet> {
        self.view.fleet()
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision
    }

    /// The moment of the latest command.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How much all allow lists together weigh against the limit of the fleet ([`crate::Tenant::weight`]).
    #[must_use]
    pub fn weight(&self) -> usize {
        self.view.weight
    }

    /// The join tokens that are out or remembered, by the hash of their secret.
    pub fn invitations(&self) -> impl Iterator<Item = (&KeyHash, &Invitation)> {
        self.invitations.iter()
    }

    /// The operators and their roles.
    pub fn operators(&self) -> impl Iterator<Item = (&OperatorId, &Vec<Role>)> {
        self.operators.iter()
    }

    /// An operator's roles.
    #[must_use]
    pub fn roles_of(&self, operator: &OperatorId) -> Option<&[Role]> {
        self.operators.roles(operator)
    }

    /// The key by which an operator is known; none of one who was never given a certificate.
    #[must_use]
    pub fn key_of(&self, operator: &OperatorId) -> Option<KeyHash> {
        self.operators.key(operator)
    }

    /// The changes that wait for a second person, some of them perhaps for too long.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.iter()
    }

    /// One of them.
    #[must_use]
    pub fn pending_change(&self, id: PendingId) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// What needs a second person; `None` before there is a fleet.
    #[must_use]
    pub fn guard_rails(&self) -> Option<GuardRails> {
        self.guard_rails
    }

    /// The signed statement that began this epoch; `None` in the first.
    #[must_use]
    pub fn recovery(&self) -> Option<&[u8]> {
        self.recovery.as_deref()
    }

    /// The signed successions of voters, oldest first.
    pub fn successions(&self) -> impl Iterator<Item = &[u8]> {
        self.successions.iter().map(|(_, bytes)| bytes.as_slice())
    }

    /// The hash of everything. States that executed the same log have the same root. A few hashes.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut hasher = Hasher::new(b"state");
        for part in [
            self.view.root(),
            self.invitations.root(),
            self.requests.root(),
            self.staged.root(),
            self.operators.root(),
            self.pending.root(),
            self.successions.root(),
            hash_of(
                b"rest",
                &(
                    self.at,
                    self.policy,
                    &self.ids,
                    self.guard_rails,
                    &self.recovery,
                ),
            ),
        ] {
            hasher.add(part.as_bytes());
        }
        if let Some(recorded) = self.recorded.root() {
            hasher.add(recorded.as_bytes());
        }
        if let Some(confirmed) = self.confirmed_root() {
            hasher.add(confirmed.as_bytes());
        }
        if let Some(keeping) = self.keeping_root() {
            hasher.add(keeping.as_bytes());
        }
        hasher.finish()
    }
}

//! The people who command the fleet over the network: how they are met, what they are, and how they
//! come by a certificate.
//!
//! Roles are in the state and never in a certificate: a role that was taken away is gone at the next
//! request. What stands here decides nothing; `portcullis-policy` does.

use portcullis_certs::fleet::{
    FleetId as NamedFleet, FleetName, JoinRequest, api_server_config, peer_of,
};
use portcullis_certs::schedule::Terms;
use portcullis_policy::{
    Author, Command, GuardRails, Keeping, KeyHash, OperatorId, Pending, PendingId, Proposal,
    Rehearsed, Role, Timestamp,
};

use super::writes::{self, WriteError, Written};
use super::{Fleet, clock};
use crate::http::{Handshake, Identified};
use crate::runtime::clock::Duration;

/// A certificate that was issued to an operator.
pub struct Issued {
    /// The chain, PEM: the operator's, then the authority's.
    pub chain: String,
    /// The fleet authority's certificate, PEM.
    pub authority: String,
    /// When the certificate ends.
    pub until: Timestamp,
}

impl Fleet {
    /// How operators are met at this node's API.
    ///
    /// # Errors
    /// In words.
    pub fn handshake(&self) -> Result<Handshake, String> {
        let identity = self.identity.as_ref().ok_or("this node is of no fleet")?;
        let tls = api_server_config(&identity.node, &identity.trust)
            .map_err(|error| format!("the API's TLS: {error}"))?;
        Ok(Handshake {
            tls,
            identify: |fleet, shown| {
                let peer = peer_of(shown, NamedFleet(fleet)).ok()?;
                match peer.name {
                    FleetName::Operator { name, .. } => Some(Identified {
                        name,
                        key: peer.key,
                        until: peer.validity.not_after,
                    }),
                    FleetName::Node { .. } => None,
                }
            },
            fleet: identity.node.fleet().0,
        })
    }

    /// What an operator is, as this node knows it; none for somebody whom the fleet does not know.
    #[must_use]
    pub fn roles_of(&self, operator: &OperatorId) -> Option<Vec<Role>> {
        let state = self.source.state()?;
        state.roles_of(operator).map(<[Role]>::to_vec)
    }

    /// Whether an operator is known by this key, as far as this node knows: one whose name was given
    /// to somebody else, or to nobody, is not.
    #[must_use]
    pub fn knows_operator(&self, operator: &OperatorId, key: [u8; 32]) -> bool {
        let state = self.source.state();
        let known = state.and_then(|state| state.key_of(operator));
        known == Some(KeyHash::new(key))
    }

    /// Every operator, as this node knows them.
    #[must_use]
    pub fn operators(&self) -> Vec<(OperatorId, Vec<Role>)> {
        let Some(state) = self.source.state() else {
            return Vec::new();
        };
        let all = state.operators();
        all.map(|(id, roles)| (id.clone(), roles.clone())).collect()
    }

    /// What waits for a second person and still can be approved.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let now = clock::now();
        let Some(state) = self.source.state() else {
            return Vec::new();
        };
        let all = state.pending().filter(|one| one.expires > now);
        all.cloned().collect()
    }

    /// One of them, expired or not.
    #[must_use]
    pub fn pending_change(&self, id: PendingId) -> Option<Pending> {
        self.source.state()?.pending_change(id).cloned()
    }

    /// What needs a second person; none where there is no fleet.
    #[must_use]
    pub fn guard_rails(&self) -> Option<GuardRails> {
        self.source.state()?.guard_rails()
    }

    /// For how long the audit logs are kept; none on a node that does not decide.
    #[must_use]
    pub fn keeping(&self) -> Option<Keeping> {
        Some(self.source.state()?.keeping().clone())
    }

    /// What `command` of this author would do as of the moment `at`, and whether a second person is
    /// needed. Nobody sees it and nothing is written.
    ///
    /// # Errors
    /// [`WriteError::Rejected`]
    pub fn rehearse_as(
        &self,
        author: Author,
        command: Command,
        at: Timestamp,
    ) -> Result<Rehearsed, WriteError> {
        let proposal = Proposal {
            request: None,
            at,
            author,
            command,
        };
        self.source
            .state()
            .ok_or(WriteError::NotControl)?
            .rehearse(&proposal)
            .map_err(|rejection| writes::refused(&rejection))
    }

    /// Knows an operator by this key from now on, and by no other; waits until this node does.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn bind_operator(
        &self,
        author: Author,
        operator: &OperatorId,
        key: KeyHash,
    ) -> Result<Written, WriteError> {
        let command = Command::BindOperator {
            operator: operator.clone(),
            key,
        };
        let written = self.write(None, author, command).await?;
        // Whoever is given the certificate may use it at once.
        let deadline = clock::instant() + BOUND_HERE;
        self.enforcer.reaches(written.revision, deadline).await;
        Ok(written)
    }

    /// A certificate by which an operator is known. Whether there is such an operator, and whether
    /// whoever asks may have it, has been asked before.
    ///
    /// # Errors
    /// [`WriteError`]: this node has no authority, or it could not sign.
    pub fn issue_operator(
        &self,
        operator: &OperatorId,
        request: &JoinRequest,
    ) -> Result<Issued, WriteError> {
        let admission = self.admission.as_ref().ok_or(WriteError::NotControl)?;
        self.may_date()?;
        let authority = admission.authority().map_err(WriteError::Storage)?;
        let now = clock::unix_seconds();
        let validity = Terms::OPERATOR.from(now);
        let chain = authority
            .issue_operator(operator.as_str(), request.key(), validity)
            .map_err(|error| WriteError::Storage(error.to_string()))?;
        Ok(Issued {
            chain,
            // While it is exchanged, both: it may be taken back.
            authority: admission.held().trust().to_pem(),
            until: Timestamp::from_millis(validity.not_after.saturating_mul(1000)),
        })
    }
}

/// How long this node may take to know what the fleet decided.
const BOUND_HERE: Duration = Duration::from_secs(2);

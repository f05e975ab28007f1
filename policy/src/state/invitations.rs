//! Join tokens: one-time, bound to a name and roles, expiring.

use super::fleet::{NodeRole, too_many};
use super::rejection::Rejection;
use super::root::HashedMap;
use crate::fleet_id::{Digest, KeyHash, NodeId};
use crate::id::NodeName;
use crate::limits::{MAX_INVITATION_LIFE_MS, MAX_INVITATIONS};
use crate::text::unique;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A token that is out, or was used and is remembered so that a repetition is known as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Invitation {
    /// The name that the node will have.
    pub name: NodeName,
    /// The roles that it will have.
    #[serde(deserialize_with = "unique::set")]
    pub roles: BTreeSet<NodeRole>,
    /// From this moment on the token no longer holds.
    pub expires: Timestamp,
    /// Who used it: the key, and the node that it became.
    pub used: Option<(KeyHash, NodeId)>,
}

/// All tokens by the hash of their secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invitations(HashedMap<KeyHash, Invitation>);

/// What a token says to somebody who shows it.
pub(super) enum Shown {
    /// It is theirs to use.
    Good,
    /// They have used it before, and are this node.
    Theirs(NodeId),
}

impl Invitations {
    pub(super) fn new() -> Self {
        Self(HashedMap::new())
    }

    /// Answers whether that is news.
    pub(super) fn invite(
        &mut self,
        token: KeyHash,
        invitation: Invitation,
        at: Timestamp,
    ) -> Result<bool, Rejection> {
        if invitation.roles.is_empty() {
            return Err(Rejection::NodeLacks("a role"));
        }
        if let Some(there) = self.0.get(&token) {
            return match *there == invitation {
                true => Ok(false),
                false => Err(Rejection::TokenTaken),
            };
        }
        let life = invitation.expires.millis_since(at);
        if life <= 0 || life > MAX_INVITATION_LIFE_MS {
            return Err(Rejection::TokenLife);
        }
        if self.0.len() >= MAX_INVITATIONS {
            self.drop_expired(at);
        }
        if self.0.len() >= MAX_INVITATIONS {
            return Err(too_many("join tokens", MAX_INVITATIONS));
        }
        self.0.insert(token, invitation);
        Ok(true)
    }

    /// Answers whether it was there.
    pub(super) fn withdraw(&mut self, token: KeyHash) -> Result<bool, Rejection> {
        match self.0.get(&token) {
            None => Ok(false),
            Some(Invitation { used: Some(_), .. }) => Err(Rejection::TokenUsed),
            Some(_) => {
                self.0.remove(&token);
                Ok(true)
            }
        }
    }

    pub(super) fn show(
        &self,
        token: KeyHash,
        name: &NodeName,
        roles: &BTreeSet<NodeRole>,
        key: KeyHash,
        at: Timestamp,
    ) -> Result<Shown, Rejection> {
        let invitation = self.0.get(&token).ok_or(Rejection::NoSuchToken)?;
        if invitation.name != *name || invitation.roles != *roles {
            return Err(Rejection::TokenOfAnother);
        }
        match invitation.used {
            Some((user, node)) if user == key => Ok(Shown::Theirs(node)),
            Some(_) => Err(Rejection::TokenUsed),
            None if invitation.expires <= at => Err(Rejection::TokenExpired),
            None => Ok(Shown::Good),
        }
    }

    pub(super) fn used(&mut self, token: KeyHash, key: KeyHash, node: NodeId) {
        if let Some(invitation) = self.0.get(&token).cloned() {
            let used = Some((key, node));
            self.0.insert(token, Invitation { used, ..invitation });
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeyHash, &Invitation)> {
        self.0.iter()
    }

    pub(super) fn root(&self) -> Digest {
        self.0.root()
    }

    pub(super) fn restore(all: Vec<(KeyHash, Invitation)>) -> Result<Self, Rejection> {
        if all.len() > MAX_INVITATIONS {
            return Err(too_many("join tokens", MAX_INVITATIONS));
        }
        let mut invitations = Self::new();
        for (token, invitation) in all {
            invitations.0.insert(token, invitation);
        }
        Ok(invitations)
    }

    fn drop_expired(&mut self, at: Timestamp) {
        let expired = self.0.iter().filter(|(_, one)| one.expires <= at);
        let expired: Vec<KeyHash> = expired.map(|(token, _)| *token).collect();
        for token in expired {
            self.0.remove(&token);
        }
    }
}

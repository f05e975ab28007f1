//! Certificates with their keys, known by whose they are.

use std::fmt;

use super::{FleetId, FleetName, FleetNameError, Peer, peer_of};
use crate::{Identity, IdentityError, Validity};

/// A node's certificate chain and key. `Debug` hides the key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    identity: Identity,
    fleet: FleetId,
    node: u64,
    key: [u8; 32],
}

impl NodeIdentity {
    /// Reads what [`super::FleetAuthority::issue_node`] gave, and the key that it is for.
    ///
    /// # Errors
    /// [`OtherIdentity`] if the two do not belong together, or to no node.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, OtherIdentity> {
        let (identity, peer) = read(chain_pem, key_pem)?;
        let node = peer.name.node_id().ok_or(OtherIdentity::NotANode)?;
        Ok(Self {
            identity,
            fleet: peer.name.fleet(),
            node,
            key: peer.key,
        })
    }

    /// The node's number.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Its fleet.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// SHA-256 of its public key, as in [`Peer::key`].
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// When its certificate is valid.
    pub fn validity(&self) -> Validity {
        self.identity.validity()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// An operator's certificate chain and key. `Debug` hides the key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OperatorIdentity {
    identity: Identity,
    fleet: FleetId,
    name: String,
}

impl OperatorIdentity {
    /// Reads what [`super::FleetAuthority::issue_operator`] gave, and the key that it is for.
    ///
    /// # Errors
    /// [`OtherIdentity`] if the two do not belong together, or to no operator.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, OtherIdentity> {
        let (identity, peer) = read(chain_pem, key_pem)?;
        match peer.name {
            FleetName::Operator { fleet, name } => Ok(Self {
                identity,
                fleet,
                name,
            }),
            FleetName::Node { .. } => Err(OtherIdentity::NotAnOperator),
        }
    }

    /// The operator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their fleet.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// When their certificate is valid.
    pub fn validity(&self) -> Validity {
        self.identity.validity()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn read(chain_pem: &str, key_pem: &str) -> Result<(Identity, Peer), OtherIdentity> {
    let identity = Identity::from_pem(chain_pem, key_pem).map_err(OtherIdentity::Unusable)?;
    let leaf = identity.chain().first();
    let fleet = match leaf {
        Some(leaf) => FleetName::of(leaf).map_err(OtherIdentity::Name)?.fleet(),
        None => return Err(OtherIdentity::Name(FleetNameError::NotACertificate)),
    };
    let peer = peer_of(identity.chain(), fleet).map_err(OtherIdentity::Name)?;
    Ok((identity, peer))
}

/// A chain and a key are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherIdentity {
    /// They are no certificate with its key.
    Unusable(IdentityError),
    /// The certificate names no member of a fleet.
    Name(FleetNameError),
    /// The certificate is an operator's where a node's belongs.
    NotANode,
    /// The certificate is a node's where an operator's belongs.
    NotAnOperator,
}

impl fmt::Display for OtherIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(problem) => problem.fmt(f),
            Self::Name(problem) => problem.fmt(f),
            Self::NotANode => f.write_str("the certificate is not a node's"),
            Self::NotAnOperator => f.write_str("the certificate is not an operator's"),
        }
    }
}

impl std::error::Error for OtherIdentity {}

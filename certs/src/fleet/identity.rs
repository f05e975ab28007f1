//! Certificates with their keys, known by whose they are.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{FleetId, FleetName, FleetNameError, FleetTrust, Peer, peer_of};
use crate::schedule::Terms;
use crate::{Identity, IdentityError, Validity};

/// A node's certificate chain and key. `Debug` hides the key. Cheap to clone; what is renewed is so in every clone, and shown in the next
/// handshake of each configuration that was made from one.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    identity: Arc<RwLock<Identity>>,
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
            identity: Arc::new(RwLock::new(identity)),
            fleet: peer.name.fleet(),
            node,
            key: peer.key,
        })
    }

    /// Reads a new chain for the same node and key, which this authority issued and which is valid at `now` (Unix seconds). Nothing is
    /// shown yet: see [`NodeIdentity::show`].
    ///
    /// # Errors
    /// [`NotRenewed`]: what is shown now stays.
    pub fn renewed(
        &self,
        chain_pem: &str,
        trust: &FleetTrust,
        now: i64,
    ) -> Result<Renewed, NotRenewed> {
        let identity = self.identity().with_chain(chain_pem);
        let identity =
            identity.map_err(|error| NotRenewed::Other(OtherIdentity::Unusable(error)))?;
        let other = |problem| NotRenewed::Other(OtherIdentity::Name(problem));
        let peer = peer_of(identity.chain(), self.fleet).map_err(other)?;
        if peer.name.node_id() != Some(self.node) {
            return Err(NotRenewed::OtherNode);
        }
        if !identity.validity().contains(now) {
            return Err(NotRenewed::NotNow(identity.validity()));
        }
        let issuer = trust.issued(&identity, now);
        let issuer = issuer.map_err(NotRenewed::NotIssued)?;
        let present = self.validity();
        let same = self.issuer(trust, now) == Some(issuer);
        let holds = same && present.contains(now) && !Terms::NODE.are_exceeded_by(present);
        if holds && identity.validity().not_after <= present.not_after {
            return Err(NotRenewed::NoLonger(identity.validity()));
        }
        Ok(Renewed { identity, issuer })
    }

    /// The fingerprint of who issued the certificate that is shown now, if it holds and that one is believed.
    pub fn issuer(&self, trust: &FleetTrust, now: i64) -> Option<[u8; 32]> {
        trust.issued(&self.identity(), now).ok()
    }

    /// From now on this is shown, in every clone.
    pub fn show(&self, renewed: Renewed) {
        let mut identity = self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *identity = renewed.identity;
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

    /// When the certificate is valid that is shown now.
    pub fn validity(&self) -> Validity {
        self.identity().validity()
    }

    /// SHA-256 of the certificate that is shown now (DER).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.identity().fingerprint()
    }

    pub(super) fn identity(&self) -> Identity {
        let identity = self.identity.read();
        identity.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shows what is shown now, handshake by handshake.
#[derive(Debug)]
pub(super) struct Shown(pub(super) NodeIdentity);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.identity().certified())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.identity().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A new chain for a node's key, looked at and not shown yet.
#[derive(Debug)]
pub struct Renewed {
    identity: Identity,
    issuer: [u8; 32],
}

impl Renewed {
    /// When it is valid.
    pub fn validity(&self) -> Validity {
        self.identity.validity()
    }

    /// The fingerprint of who issued it.
    pub fn issuer(&self) -> [u8; 32] {
        self.issuer
    }
}

/// A chain does not take the place of the one that a node shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRenewed {
    /// It cannot be used with this node's key.
    Other(OtherIdentity),
    /// It is another node's.
    OtherNode,
    /// It is not valid now: one of two clocks is wrong.
    NotNow(Validity),
    /// It ends no later than the one of the same authority that is shown, and that one holds.
    NoLonger(Validity),
    /// The fleet's authority did not issue it.
    NotIssued(String),
}

impl fmt::Display for NotRenewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(problem) => problem.fmt(f),
            Self::OtherNode => f.write_str("the certificate is another node's"),
            Self::NotNow(Validity {
                not_before,
                not_after,
            }) => write!(
                f,
                "the certificate is valid from {not_before} to {not_after} (Unix seconds), and not now by this node's clock"
            ),
            Self::NoLonger(validity) => write!(
                f,
                "the certificate ends at {} (Unix seconds), no later than the one that is shown",
                validity.not_after
            ),
            Self::NotIssued(problem) => write!(
                f,
                "the certificate is not one that the fleet's authority issued: {problem}"
            ),
        }
    }
}

impl std::error::Error for NotRenewed {}

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

//! The names of a fleet's members, parsed strictly both ways: one spelling for one member.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Validity;

/// Which fleet: 16 random bytes, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetId(pub [u8; 16]);

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FleetId({self})")
    }
}

impl FromStr for FleetId {
    type Err = FleetNameError;

    fn from_str(text: &str) -> Result<Self, FleetNameError> {
        let digits = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 32 || !text.as_bytes().iter().all(digits) {
            return Err(FleetNameError::Malformed);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| FleetNameError::Malformed)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// Who holds a certificate of a fleet. Its text is the URI in the certificate:
/// `spiffe://<fleet>/node/<id>` or `spiffe://<fleet>/operator/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FleetName {
    /// A node.
    Node {
        /// Its fleet.
        fleet: FleetId,
        /// Its number, never used again.
        node: NonZeroU64,
    },
    /// A person or a program that commands the fleet.
    Operator {
        /// Their fleet.
        fleet: FleetId,
        /// Their name: 1 to [`MAX_OPERATOR_NAME`] of `a-z`, `0-9` and `-`, with no `-` at either end.
        name: String,
    },
}

impl FleetName {
    /// A node's name.
    ///
    /// # Errors
    /// [`FleetNameError::Malformed`] for node 0, which is none.
    pub fn node(fleet: FleetId, node: u64) -> Result<Self, FleetNameError> {
        let node = NonZeroU64::new(node).ok_or(FleetNameError::Malformed)?;
        Ok(Self::Node { fleet, node })
    }

    /// An operator's name.
    ///
    /// # Errors
    /// [`FleetNameError::Malformed`] if `name` is none.
    pub fn operator(fleet: FleetId, name: &str) -> Result<Self, FleetNameError> {
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let fits = (1..=MAX_OPERATOR_NAME).contains(&bytes.len())
            && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
            && bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge);
        if !fits {
            return Err(FleetNameError::Malformed);
        }
        let name = name.to_owned();
        Ok(Self::Operator { fleet, name })
    }

    /// The fleet.
    pub fn fleet(&self) -> FleetId {
        match self {
            Self::Node { fleet, .. } | Self::Operator { fleet, .. } => *fleet,
        }
    }

    /// The node's number; `None` for an operator.
    pub fn node_id(&self) -> Option<u64> {
        match self {
            Self::Node { node, .. } => Some(node.get()),
            Self::Operator { .. } => None,
        }
    }

    /// The name in a certificate (DER). It must be the certificate's only alternative name, of whatever kind: with a second one, another
    /// program could take the holder for somebody else.
    ///
    /// # Errors
    /// [`FleetNameError`]
    pub fn of(leaf_der: &[u8]) -> Result<Self, FleetNameError> {
        Self::in_certificate(&certificate(leaf_der)?)
    }

    fn in_certificate(leaf: &X509Certificate<'_>) -> Result<Self, FleetNameError> {
        let alternatives = leaf
            .subject_alternative_name()
            .map_err(|_| FleetNameError::NotACertificate)?;
        let names = alternatives.map(|extension| extension.value.general_names.as_slice());
        match names {
            Some([GeneralName::URI(uri)]) => uri.parse(),
            Some(_) | None => Err(FleetNameError::NotOneName),
        }
    }
}

/// Bytes in an operator's name (a label, as the policy's are).
pub const MAX_OPERATOR_NAME: usize = 63;

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { fleet, node } => write!(f, "spiffe://{fleet}/node/{node}"),
            Self::Operator { fleet, name } => write!(f, "spiffe://{fleet}/operator/{name}"),
        }
    }
}

impl FromStr for FleetName {
    type Err = FleetNameError;

    fn from_str(text: &str) -> Result<Self, FleetNameError> {
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(FleetNameError::Malformed)?;
        let (fleet, path) = rest.split_once('/').ok_or(FleetNameError::Malformed)?;
        let fleet = fleet.parse()?;
        let (kind, member) = path.split_once('/').ok_or(FleetNameError::Malformed)?;
        let name = match kind {
            "node" => Self::node(
                fleet,
                member.parse().map_err(|_| FleetNameError::Malformed)?,
            )?,
            "operator" => Self::operator(fleet, member)?,
            _ => return Err(FleetNameError::Malformed),
        };
        // `+1` and `01` are numbers, too: only the canonical spelling is a name.
        if name.to_string() != text {
            return Err(FleetNameError::Malformed);
        }
        Ok(name)
    }
}

/// Somebody at the other end of a handshake that has verified their chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who they are.
    pub name: FleetName,
    /// SHA-256 of the public key in their certificate (SubjectPublicKeyInfo, DER): what the state knows of them must agree.
    pub key: [u8; 32],
    /// When their certificate is valid.
    pub validity: Validity,
}

/// Who showed these certificates (leaf first), given that rustls has verified them by a configuration of this module.
///
/// # Errors
/// [`FleetNameError`] if the leaf is missing, names nobody, or names a member of another fleet.
pub fn peer_of(
    certificates: &[CertificateDer<'_>],
    fleet: FleetId,
) -> Result<Peer, FleetNameError> {
    let leaf = certificates
        .first()
        .ok_or(FleetNameError::NotACertificate)?;
    let parsed = certificate(leaf)?;
    let name = FleetName::in_certificate(&parsed)?;
    if name.fleet() != fleet {
        return Err(FleetNameError::OtherFleet);
    }
    let validity = Validity::of(leaf).ok_or(FleetNameError::NotACertificate)?;
    Ok(Peer {
        name,
        key: Sha256::digest(parsed.public_key().raw).into(),
        validity,
    })
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, FleetNameError> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(FleetNameError::NotACertificate),
    }
}

/// A text or a certificate names no member of the fleet. It repeats nothing of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetNameError {
    /// The bytes are not one X.509 certificate, or there are none.
    NotACertificate,
    /// The certificate has no alternative name, several, or one that is no URI.
    NotOneName,
    /// The name is not spelt as a member's is.
    Malformed,
    /// The name is that of a member of another fleet.
    OtherFleet,
}

impl fmt::Display for FleetNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotACertificate => "there is no certificate that can be read",
            Self::NotOneName => "the certificate does not carry exactly one URI as its name",
            Self::Malformed => "the name is not that of a fleet's node or operator",
            Self::OtherFleet => "the name belongs to another fleet",
        })
    }
}

impl std::error::Error for FleetNameError {}

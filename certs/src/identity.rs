//! A certificate chain with its private key: what we show in a handshake.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::binding::tls_server_end_point;
use crate::names::{CertificateNames, NamesError};
use crate::pem::{self, PemError};
use crate::provider;

/// A certificate chain (leaf first) and the key that belongs to its leaf, checked against each other. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    names: Arc<CertificateNames>,
    end_point_hash: Option<Arc<[u8]>>,
    fingerprint: [u8; 32],
    validity: Validity,
}

impl Identity {
    /// Reads a chain (leaf first, at most [`MAX_CHAIN`] certificates) and its unencrypted private key from PEM.
    ///
    /// # Errors
    /// [`IdentityError`], which never repeats any part of the key.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let chain = pem::certificates(chain_pem, MAX_CHAIN).map_err(IdentityError::Chain)?;
        let key = pem::private_key(key_pem).map_err(IdentityError::Key)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| IdentityError::UnusableKey)?;
        Self::of(chain, key)
    }

    /// The same key with another chain (PEM) for it.
    ///
    /// # Errors
    /// [`IdentityError`]
    pub(crate) fn with_chain(&self, chain_pem: &str) -> Result<Self, IdentityError> {
        let chain = pem::certificates(chain_pem, MAX_CHAIN).map_err(IdentityError::Chain)?;
        Self::of(chain, Arc::clone(&self.certified.key))
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::UnusableLeaf)?;
        let names = CertificateNames::of(leaf).map_err(IdentityError::Names)?;
        let validity = Validity::of(leaf).ok_or(IdentityError::UnusableLeaf)?;
        let fingerprint = Sha256::digest(leaf).into();
        // An Ed25519 leaf has no binding hash (RFC 5929 is silent): such an identity serves, but cannot offer SCRAM-SHA-256-PLUS.
        let end_point_hash = tls_server_end_point(leaf).ok().map(Arc::from);
        let certified = CertifiedKey::new(chain, key);
        certified
            .keys_match()
            .map_err(|_| IdentityError::KeyMismatch)?;
        Ok(Self {
            certified: Arc::new(certified),
            names: Arc::new(names),
            end_point_hash,
            fingerprint,
            validity,
        })
    }

    /// Whether each certificate of the chain names the next one as its issuer: a chain that is out of order, or of which the middle is
    /// missing, is refused by some clients and not by others (RFC 5246 §7.4.2).
    pub fn is_in_order(&self) -> bool {
        let pairs = self.certified.cert.windows(2);
        pairs.into_iter().all(|pair| {
            let [issued, issuer] = pair else { return true };
            let parsed = (
                X509Certificate::from_der(issued),
                X509Certificate::from_der(issuer),
            );
            matches!(parsed, (Ok((_, issued)), Ok((_, issuer))) if issued.issuer() == issuer.subject())
        })
    }

    /// The `tls-server-end-point` hash of the leaf (RFC 5929 §4.1); `None` where it is undefined, and then PLUS must not be offered.
    pub fn end_point_hash(&self) -> Option<&[u8]> {
        self.end_point_hash.as_deref()
    }

    /// The names in the leaf.
    pub fn names(&self) -> &CertificateNames {
        &self.names
    }

    /// When the leaf is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// SHA-256 of the leaf's DER: tells identities apart, for caches and logs.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The chain as DER, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// Certificates in one chain; public chains have two to four.
pub const MAX_CHAIN: usize = 8;

/// The period in which a certificate is valid, both ends included, in Unix seconds (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Whether the moment (Unix seconds) lies in the period.
    pub fn contains(&self, moment: i64) -> bool {
        (self.not_before..=self.not_after).contains(&moment)
    }

    /// The period of a certificate; `None` if it is not one.
    pub fn of(leaf_der: &[u8]) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(leaf_der).ok()?;
        Some(Self {
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
        })
    }
}

impl fmt::Debug for Identity {
    /// Names, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.names)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// A chain and a key do not make an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// The text of the chain cannot be read.
    Chain(PemError),
    /// The text of the key cannot be read.
    Key(PemError),
    /// The first certificate is not a certificate.
    UnusableLeaf,
    /// The names in the first certificate cannot be read.
    Names(NamesError),
    /// The key is of a kind or size that is not supported.
    UnusableKey,
    /// The key does not belong to the first certificate of the chain.
    KeyMismatch,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(problem) => write!(f, "the certificate chain cannot be read: {problem}"),
            Self::Key(problem) => write!(f, "the private key cannot be read: {problem}"),
            Self::UnusableLeaf => {
                f.write_str("the first certificate of the chain is not a certificate")
            }
            Self::Names(problem) => write!(f, "the certificate's names are unusable: {problem}"),
            Self::UnusableKey => f.write_str(
                "the private key is of an unsupported kind (use ECDSA P-256, or RSA of 2048 bits or more)",
            ),
            Self::KeyMismatch => f.write_str(
                "the private key does not belong to the first certificate of the chain",
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

//! Whom a fleet's members believe: its authority's certificate, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::FleetId;
use crate::pem::{self, PemError};
use crate::{Identity, Validity, provider};

/// The certificate of a fleet's authority. Not secret. Cheap to clone.
#[derive(Clone)]
pub struct FleetTrust {
    fleet: FleetId,
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: [u8; 32],
    validity: Validity,
}

impl FleetTrust {
    /// Reads the authority's certificate: one, PEM.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn from_pem(text: &str) -> Result<Self, FleetTrustError> {
        let found = pem::certificates(text, 1).map_err(FleetTrustError::Pem)?;
        match found.as_slice() {
            [one] => Self::from_der(one),
            _ => Err(FleetTrustError::Pem(PemError::NothingFound)),
        }
    }

    /// Reads the authority's certificate, DER.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn from_der(der: &[u8]) -> Result<Self, FleetTrustError> {
        let Ok(([], parsed)) = X509Certificate::from_der(der) else {
            return Err(FleetTrustError::NotAnAuthority);
        };
        if !parsed.is_ca() {
            return Err(FleetTrustError::NotAnAuthority);
        }
        // The common name and nothing else: what is issued repeats the subject as its issuer, and must find it again.
        let subject = parsed.subject();
        let alone = subject.iter_attributes().count() == 1;
        let name = subject.iter_common_name().next().filter(|_| alone);
        let fleet = name
            .and_then(|name| name.as_str().ok())
            .and_then(|name| name.strip_prefix(SUBJECT))
            .and_then(|fleet| fleet.parse().ok());
        let fleet = fleet.ok_or(FleetTrustError::NoFleet)?;
        let certificate = CertificateDer::from(der.to_vec());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.clone())
            .map_err(|_| FleetTrustError::NotAnAuthority)?;
        Ok(Self {
            fleet,
            roots: Arc::new(roots),
            certificate,
            key: Sha256::digest(parsed.public_key().raw).into(),
            validity: Validity {
                not_before: parsed.validity().not_before.timestamp(),
                not_after: parsed.validity().not_after.timestamp(),
            },
        })
    }

    /// The authority with this fingerprint among the certificates that a server showed: how a node that joins by a token comes to trust.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn pinned(
        chain: &[CertificateDer<'_>],
        fleet: FleetId,
        fingerprint: [u8; 32],
    ) -> Result<Self, FleetTrustError> {
        let hash = |der: &CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(der));
        let authority = chain.iter().find(|der| hash(der) == fingerprint);
        let trust = Self::from_der(authority.ok_or(FleetTrustError::NotPinned)?)?;
        match trust.fleet == fleet {
            true => Ok(trust),
            false => Err(FleetTrustError::NoFleet),
        }
    }

    /// The fleet.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// SHA-256 of the certificate (DER): what a join token pins.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// When the authority is valid. rustls does not look; instead, no certificate is issued that outlives it.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the authority's public key.
    pub(super) fn key(&self) -> [u8; 32] {
        self.key
    }

    /// Whether this authority issued the identity's leaf, and whether that holds at `now` (Unix seconds); the problem in words if not.
    pub(super) fn issued(&self, identity: &Identity, now: i64) -> Result<(), String> {
        let leaf = identity.chain().first().ok_or("there is none")?;
        let leaf = ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
        let since = u64::try_from(now).unwrap_or_default();
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            self.roots(),
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(since)),
            provider().signature_verification_algorithms.all,
        )
        .map_err(|error| error.to_string())
    }

    pub(super) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// What the authority of a fleet calls itself.
    pub(super) fn subject(fleet: FleetId) -> String {
        format!("{SUBJECT}{fleet}")
    }
}

const SUBJECT: &str = "Portcullis fleet ";

impl fmt::Debug for FleetTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetTrust")
            .field("fleet", &self.fleet)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// A certificate is not that of the fleet's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetTrustError {
    /// The text is not one certificate.
    Pem(PemError),
    /// The certificate cannot be read, or is no authority's (`CA:TRUE` is missing).
    NotAnAuthority,
    /// The certificate's subject is no fleet, or another.
    NoFleet,
    /// None of the certificates has the fingerprint.
    NotPinned,
}

impl fmt::Display for FleetTrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(problem) => write!(f, "the fleet's authority cannot be read: {problem}"),
            Self::NotAnAuthority => f.write_str("the certificate is not an authority's"),
            Self::NoFleet => f.write_str("the authority is not that of this fleet"),
            Self::NotPinned => f.write_str(
                "the server does not show the authority that the join token names: it is another fleet, or somebody in between",
            ),
        }
    }
}

impl std::error::Error for FleetTrustError {}

//! Authorities that issue certificates: for the throw-away fleet, for tests, and for our certificates towards databases.
//!
//! Everything is ECDSA on P-256 with SHA-256, which every driver's channel binding understands. Keys and times are arguments.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::Validity;

/// An authority: its own self-signed certificate, and the key that signs what it issues.
///
/// Made again from the same name, key and validity it is the same authority: what it issued before verifies.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// An authority that may issue leaves and no further authority (`CA:TRUE`, path length 0).
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn new(name: &str, key: Key, validity: Validity) -> Result<Self, AuthorityError> {
        let mut parameters = parameters(name, validity)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.serial_number = Some(serial(&[
            name.as_bytes(),
            key.0.public_key_raw(),
            &validity.not_before.to_be_bytes(),
            &validity.not_after.to_be_bytes(),
        ]));
        let pem = parameters.self_signed(&key.0)?.pem();
        let issuer = Issuer::new(parameters, key.0);
        Ok(Self { issuer, pem })
    }

    /// The authority's certificate, PEM: what others trust.
    pub fn authority_pem(&self) -> &str {
        &self.pem
    }

    /// Issues a leaf (`CA:FALSE`) for `key`.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn issue(&self, leaf: &LeafRequest, key: &Key) -> Result<Issued, AuthorityError> {
        let usage = match leaf.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        };
        Ok(Issued {
            chain_pem: self.sign(leaf, vec![usage], &key.0)?,
            key_pem: key.to_pem(),
        })
    }

    /// Signs a leaf for a key of which only the public half is here; `usages` stand instead of the leaf's purpose.
    pub(crate) fn sign(
        &self,
        leaf: &LeafRequest,
        usages: Vec<ExtendedKeyUsagePurpose>,
        key: &impl PublicKeyData,
    ) -> Result<String, AuthorityError> {
        let mut parameters = parameters(&leaf.common_name, leaf.validity)?;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = usages;
        parameters.use_authority_key_identifier_extension = true;
        for dns in &leaf.dns {
            let name = SanType::DnsName(dns.as_str().try_into()?);
            parameters.subject_alt_names.push(name);
        }
        for uri in &leaf.uris {
            let name = SanType::URI(uri.as_str().try_into()?);
            parameters.subject_alt_names.push(name);
        }
        let addresses = leaf.ips.iter().copied().map(SanType::IpAddress);
        parameters.subject_alt_names.extend(addresses);
        let names = format!("{:?}", parameters.subject_alt_names);
        parameters.serial_number = Some(serial(&[
            leaf.common_name.as_bytes(),
            names.as_bytes(),
            key.der_bytes(),
            &leaf.validity.not_before.to_be_bytes(),
            &leaf.validity.not_after.to_be_bytes(),
        ]));
        Ok(parameters.signed_by(key, &self.issuer)?.pem())
    }

    /// A certificate for another authority of the same name and this key, DER: whoever trusts this one finds to that one by it (RFC 4210
    /// section 4.4.1, new with old).
    pub(crate) fn link(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        let mut parameters = parameters(name, validity)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.use_authority_key_identifier_extension = true;
        parameters.serial_number = Some(serial(&[
            b"link",
            name.as_bytes(),
            key.der_bytes(),
            &validity.not_before.to_be_bytes(),
            &validity.not_after.to_be_bytes(),
        ]));
        Ok(parameters.signed_by(key, &self.issuer)?.der().to_vec())
    }

    /// An authority whose certificate was made before: the certificate stays as it is, to the byte, since others know it by its hash.
    ///
    /// Whoever calls this has read `name` and `key` out of that certificate.
    pub(crate) fn existing(
        pem: &str,
        name: &str,
        key: Key,
        validity: Validity,
    ) -> Result<Self, AuthorityError> {
        let mut again = Self::new(name, key, validity)?;
        pem.clone_into(&mut again.pem);
        Ok(again)
    }
}

/// What a leaf should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// The subject's common name, at most 64 characters (PostgreSQL's `cert` authentication reads it).
    pub common_name: String,
    /// DNS alternative names; a first label `*` is a wildcard.
    pub dns: Vec<String>,
    /// URI alternative names.
    pub uris: Vec<String>,
    /// Address alternative names.
    pub ips: Vec<IpAddr>,
    /// What the leaf is for; it is good for nothing else.
    pub purpose: Purpose,
    /// When the leaf is valid.
    pub validity: Validity,
}

/// Which end of a handshake a leaf is for (extended key usage, RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A server's.
    Server,
    /// A client's.
    Client,
}

/// An issued leaf with its key, ready for files and for [`crate::Identity::from_pem`]. `Debug` hides the key.
#[derive(Clone)]
pub struct Issued {
    /// The leaf alone: the authority is what the other side already has.
    pub chain_pem: String,
    /// The leaf's key, PKCS#8, not encrypted.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

/// A new P-256 key: the one place in this crate that draws from the operating system.
///
/// # Errors
/// [`AuthorityError`] if the operating system gives no randomness.
pub fn generate_key() -> Result<Key, AuthorityError> {
    Ok(Key(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
}

/// A private key on P-256. `Debug` hides it.
pub struct Key(pub(crate) KeyPair);

impl Key {
    /// Reads a key from PEM as [`Key::to_pem`] writes it.
    ///
    /// # Errors
    /// [`AuthorityError`] if the text is not a P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let pair = KeyPair::from_pem(text)?;
        if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(AuthorityError {
                problem: "the key is not on P-256".into(),
            });
        }
        Ok(Self(pair))
    }

    /// The key as PEM: PKCS#8, not encrypted. For a file that only its owner can read.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Characters in a common name (`ub-common-name`, RFC 5280 appendix A.1).
pub const MAX_COMMON_NAME: usize = 64;

fn parameters(common_name: &str, validity: Validity) -> Result<CertificateParams, AuthorityError> {
    let refuse = |problem: String| Err(AuthorityError { problem });
    if common_name.is_empty() || common_name.chars().count() > MAX_COMMON_NAME {
        return refuse(format!(
            "a common name has 1 to {MAX_COMMON_NAME} characters, this one has {}",
            common_name.chars().count()
        ));
    }
    if validity.not_before > validity.not_after {
        return refuse("the validity ends before it begins".into());
    }
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.not_before = date(validity.not_before)?;
    parameters.not_after = date(validity.not_after)?;
    Ok(parameters)
}

fn date(unix_seconds: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(unix_seconds).map_err(|_| AuthorityError {
        problem: format!("{unix_seconds} is no date"),
    })
}

/// A positive serial number of 16 bytes made of all that tells one certificate from another (RFC 5280 §4.1.2.2 asks for uniqueness).
fn serial(parts: &[&[u8]]) -> SerialNumber {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut bytes: Vec<u8> = hash.finalize().iter().copied().take(16).collect();
    if let Some(first) = bytes.first_mut() {
        // Neither negative nor shortened.
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from(bytes)
}

/// An authority cannot be made, or cannot issue what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityError {
    /// What is wrong; never any part of a key.
    pub problem: String,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no certificate issued: {}", self.problem)
    }
}

impl std::error::Error for AuthorityError {}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self {
            problem: error.to_string(),
        }
    }
}

//! A public key whose holder asks for a certificate, and the proof that they hold it (PKCS#10, RFC 2986).

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::authority::{AuthorityError, Key};

/// What a node sends to be given a certificate: its public key, signed with the private one. It asks for no name: the fleet decides that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    der: Vec<u8>,
    key: PublicKey,
}

impl JoinRequest {
    /// Asks for a certificate for `key`.
    ///
    /// # Errors
    /// [`AuthorityError`] if the library cannot sign.
    pub fn new(key: &Key) -> Result<Self, AuthorityError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        let request = parameters.serialize_request(&key.0)?;
        Ok(Self {
            der: request.der().to_vec(),
            key: PublicKey::of(key)?,
        })
    }

    /// Reads a request and checks its signature. Names and extensions that it asks for are passed over; none of them is ever issued.
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(RequestError::Malformed);
        };
        let information = &request.certification_request_info;
        let key = PublicKey::from_spki(information.subject_pki.raw)?;
        let signature = &request.signature_value.data;
        if !names_its_algorithm(der, signature) {
            return Err(RequestError::NotItsKey);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point)
            .verify(information.raw, signature)
            .map_err(|_| RequestError::NotItsKey)?;
        let der = der.to_vec();
        Ok(Self { der, key })
    }

    /// The request in PEM, as `openssl req` writes one.
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn from_pem(pem: &str) -> Result<Self, RequestError> {
        if pem.len() > MAX_REQUEST_PEM_BYTES {
            return Err(RequestError::TooLarge);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RequestError::Malformed)?;
        Self::from_der(&der)
    }

    /// A request by the holder of this key, PEM.
    ///
    /// # Errors
    /// [`AuthorityError`] if the key cannot sign.
    pub fn pem_of(key: &Key) -> Result<String, AuthorityError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        Ok(parameters.serialize_request(&key.0)?.pem()?)
    }

    /// The request as it is sent.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key, which the sender has been shown to hold.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Bytes of a request; ours have about 200.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024;

/// The largest request that is looked at in PEM, in bytes.
const MAX_REQUEST_PEM_BYTES: usize = 8 * 1024;

/// Whether the request ends with ecdsa-with-SHA256 (RFC 5758 §3.2) and this signature in their one encoding, where the parser would take others.
fn names_its_algorithm(der: &[u8], signature: &[u8]) -> bool {
    const ALGORITHM: &[u8] = &[
        0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
    ];
    let Ok(length) = u8::try_from(signature.len().saturating_add(1)) else {
        return false;
    };
    let head = der.strip_suffix(signature);
    let head = head.and_then(|head| head.strip_suffix(&[0x03, length, 0x00]));
    head.is_some_and(|head| head.ends_with(ALGORITHM))
}

/// A public key on P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: [u8; POINT_BYTES],
}

impl PublicKey {
    /// The public half of a key.
    ///
    /// # Errors
    /// [`AuthorityError`] if the library spells the key in another way than this crate reads.
    pub fn of(key: &Key) -> Result<Self, AuthorityError> {
        match key.0.public_key_raw().try_into() {
            Ok(point) => Ok(Self { point }),
            Err(_) => Err(AuthorityError {
                problem: "the key is not on P-256".into(),
            }),
        }
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo, DER): how the state knows it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.subject_public_key_info()).into()
    }

    /// The key with this uncompressed point, which is not looked at further: whoever uses it does.
    pub(super) fn from_point(point: [u8; POINT_BYTES]) -> Option<Self> {
        (point.first() == Some(&UNCOMPRESSED)).then_some(Self { point })
    }

    /// Its uncompressed point.
    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Only the one encoding of a key on P-256 as an uncompressed point (RFC 5480 §2), so that one key has one hash.
    pub(super) fn from_spki(spki: &[u8]) -> Result<Self, RequestError> {
        let point = spki
            .strip_prefix(SPKI_PREFIX)
            .filter(|point| point.first() == Some(&UNCOMPRESSED))
            .and_then(|point| point.try_into().ok());
        point
            .map(|point| Self { point })
            .ok_or(RequestError::OtherKey)
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// id-ecPublicKey with prime256v1, and the head of a bit string of [`POINT_BYTES`].
const SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

pub(super) const POINT_BYTES: usize = 65;

const UNCOMPRESSED: u8 = 4;

/// A request for a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// More than [`MAX_REQUEST_BYTES`].
    TooLarge,
    /// Not one PKCS#10 request.
    Malformed,
    /// The key is not an uncompressed point on P-256.
    OtherKey,
    /// The signature is not by the key that is asked for: its sender may not hold it.
    NotItsKey,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request is larger than any request for a certificate",
            Self::Malformed => "the request for a certificate cannot be read",
            Self::OtherKey => "the request is not for a key on P-256",
            Self::NotItsKey => "the request is not signed with the key that it is for",
        })
    }
}

impl std::error::Error for RequestError {}

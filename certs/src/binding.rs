//! The `tls-server-end-point` channel binding (RFC 5929 §4.1), which ties a SCRAM exchange to the certificate of its connection.

use std::fmt;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::oid_registry as oid;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{AlgorithmIdentifier, FromDer, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;

/// The hash of a server's leaf certificate (DER) that both ends of a SCRAM-…-PLUS exchange compute.
///
/// The hash function is that of the certificate's own signature; for MD5 and SHA-1 it is SHA-256. 28 to 64 bytes.
///
/// # Errors
/// [`BindingError::Undefined`] where the signature has no single hash function (Ed25519, ML-DSA): PLUS must then not be offered, libpq
/// aborts otherwise.
pub fn tls_server_end_point(leaf_der: &[u8]) -> Result<Vec<u8>, BindingError> {
    let (rest, leaf) =
        X509Certificate::from_der(leaf_der).map_err(|_| BindingError::NotACertificate)?;
    if !rest.is_empty() {
        return Err(BindingError::NotACertificate);
    }
    Ok(match hash_function(&leaf.signature_algorithm)? {
        HashFunction::Sha224 => Sha224::digest(leaf_der).to_vec(),
        HashFunction::Sha256 => Sha256::digest(leaf_der).to_vec(),
        HashFunction::Sha384 => Sha384::digest(leaf_der).to_vec(),
        HashFunction::Sha512 => Sha512::digest(leaf_der).to_vec(),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashFunction {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

fn hash_function(signature: &AlgorithmIdentifier<'_>) -> Result<HashFunction, BindingError> {
    let undefined = || BindingError::Undefined {
        algorithm: signature.algorithm.to_id_string(),
    };
    if signature.algorithm == oid::OID_PKCS1_RSASSAPSS {
        // RFC 4055 §3.1: the hash function is a parameter; SHA-1 if it is left out.
        let parameters = signature.parameters.as_ref().ok_or_else(undefined)?;
        let parameters = RsaSsaPssParams::try_from(parameters).map_err(|_| undefined())?;
        return look_up(PSS_HASHES, parameters.hash_algorithm_oid()).ok_or_else(undefined);
    }
    look_up(SIGNATURES, &signature.algorithm).ok_or_else(undefined)
}

fn look_up(table: &[(Oid<'static>, HashFunction)], wanted: &Oid<'_>) -> Option<HashFunction> {
    let (_, hash) = table.iter().find(|(oid, _)| oid == wanted)?;
    Some(*hash)
}

/// Signature algorithms (RFC 3279 §2.2, RFC 5758 §3) with the hash that the binding uses for them.
const SIGNATURES: &[(Oid<'static>, HashFunction)] = &[
    (oid::OID_PKCS1_MD5WITHRSAENC, HashFunction::Sha256),
    (oid::OID_PKCS1_SHA1WITHRSA, HashFunction::Sha256),
    (oid::OID_PKCS1_SHA224WITHRSA, HashFunction::Sha224),
    (oid::OID_PKCS1_SHA256WITHRSA, HashFunction::Sha256),
    (oid::OID_PKCS1_SHA384WITHRSA, HashFunction::Sha384),
    (oid::OID_PKCS1_SHA512WITHRSA, HashFunction::Sha512),
    (ECDSA_WITH_SHA1, HashFunction::Sha256),
    (oid::OID_SIG_ECDSA_WITH_SHA224, HashFunction::Sha224),
    (oid::OID_SIG_ECDSA_WITH_SHA256, HashFunction::Sha256),
    (oid::OID_SIG_ECDSA_WITH_SHA384, HashFunction::Sha384),
    (oid::OID_SIG_ECDSA_WITH_SHA512, HashFunction::Sha512),
];

const PSS_HASHES: &[(Oid<'static>, HashFunction)] = &[
    (oid::OID_HASH_SHA1, HashFunction::Sha256),
    (SHA224, HashFunction::Sha224),
    (oid::OID_NIST_HASH_SHA256, HashFunction::Sha256),
    (oid::OID_NIST_HASH_SHA384, HashFunction::Sha384),
    (oid::OID_NIST_HASH_SHA512, HashFunction::Sha512),
];

const SHA224: Oid<'static> = x509_parser::der_parser::oid!(2.16.840.1.101.3.4.2.4);
const ECDSA_WITH_SHA1: Oid<'static> = x509_parser::der_parser::oid!(1.2.840.10045.4.1);

/// There is no binding for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingError {
    /// The bytes are not one X.509 certificate.
    NotACertificate,
    /// The certificate's signature has no single hash function.
    Undefined {
        /// The signature algorithm's object identifier, dotted.
        algorithm: String,
    },
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACertificate => f.write_str("not an X.509 certificate"),
            Self::Undefined { algorithm } => write!(
                f,
                "no tls-server-end-point binding for a certificate signed with {algorithm}"
            ),
        }
    }
}

impl std::error::Error for BindingError {}

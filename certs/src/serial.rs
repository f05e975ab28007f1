//! A certificate's serial number: by which one is revoked.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pem::{self, PemError};

/// The bytes of a certificate's serial number (DER), the highest first, as they are encoded; `None` if it is no certificate.
pub fn serial_number(leaf_der: &[u8]) -> Option<Vec<u8>> {
    let (rest, leaf) = X509Certificate::from_der(leaf_der).ok()?;
    rest.is_empty().then(|| leaf.raw_serial().to_vec())
}

/// The first certificate of a text (PEM), which is the leaf where there is a chain.
///
/// # Errors
/// [`PemError`]: there is none, or something else than certificates.
pub fn first_certificate(text: &str) -> Result<Vec<u8>, PemError> {
    let chain = pem::certificates(text, crate::MAX_CHAIN)?;
    let leaf = chain.into_iter().next().ok_or(PemError::NothingFound)?;
    Ok(leaf.to_vec())
}

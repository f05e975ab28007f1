//! The cryptography behind every handshake, and what can go wrong while a configuration is built.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};

use crate::pem::PemError;

/// The one provider: aws-lc-rs, with ephemeral key exchange and authenticated encryption only.
///
/// It is passed to every builder in this crate. The process default is neither set nor read, so that a dependency which installs another
/// one changes nothing here.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: CIPHER_SUITES.to_vec(),
            ..default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// Ephemeral key exchange and authenticated encryption only, for TLS 1.3 and 1.2; the order is our preference.
///
/// Written out, so that an update of the library cannot lengthen the list unseen.
pub(crate) const CIPHER_SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// A TLS configuration could not be built.
#[derive(Debug, Clone, PartialEq)]
pub enum TlsError {
    /// The text that should hold authorities' certificates does not.
    Authorities(PemError),
    /// A certificate in that text cannot be used to verify anything.
    UnusableAuthority {
        /// Which certificate of the text, counted from 1.
        position: usize,
    },
    /// A certificate that should vouch for clients is no authority (`CA:TRUE` is missing), so that its holder could issue to anyone.
    NotAnAuthority {
        /// Which certificate of the text, counted from 1.
        position: usize,
        /// Its subject, as text.
        subject: String,
    },
    /// rustls refused what it was given.
    Library(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities(problem) => write!(f, "the authorities cannot be read: {problem}"),
            Self::UnusableAuthority { position } => {
                write!(f, "certificate {position} of the authorities is unusable")
            }
            Self::NotAnAuthority { position, subject } => write!(
                f,
                "certificate {position} of the authorities ({subject}) is not an authority: CA:TRUE is missing"
            ),
            Self::Library(problem) => write!(f, "the TLS configuration is refused: {problem}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Library(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_ephemeral_and_authenticated() {
        for suite in &provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(
                name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"),
                "{name}"
            );
            assert!(
                name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_hybrid_key_exchange_is_preferred() {
        let groups: Vec<_> = provider().kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(
            groups.first(),
            Some(&rustls::NamedGroup::X25519MLKEM768),
            "{groups:?}"
        );
    }
}

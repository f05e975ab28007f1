//! PEM text (RFC 7468) into certificates and keys, with limits, and without skipping what is not understood.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::TlsError;

/// Every certificate of the text, in order; at least one.
///
/// Any other kind of section is refused: a private key among authorities is a mistake that someone must hear of.
pub(crate) fn certificates(
    text: &str,
    limit: usize,
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for section in sections(text)? {
        match section {
            (SectionKind::Certificate, der) => found.push(CertificateDer::from(der)),
            _ => return Err(PemError::Unexpected),
        }
        if found.len() > limit {
            return Err(PemError::TooMany { limit });
        }
    }
    if found.is_empty() {
        return Err(PemError::NothingFound);
    }
    Ok(found)
}

/// One certificate as PEM, in lines of 64 characters.
pub(crate) fn certificate(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The one private key of the text (PKCS#8, PKCS#1 or SEC1, not encrypted).
pub(crate) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, PemError> {
    let mut found = None;
    for (kind, der) in sections(text)? {
        let key = PrivateKeyDer::from_pem(kind, der).ok_or(PemError::Unexpected)?;
        if found.replace(key).is_some() {
            return Err(PemError::TooMany { limit: 1 });
        }
    }
    found.ok_or(PemError::NothingFound)
}

/// What a certificate in a list of authorities may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchors {
    /// Authorities only (`CA:TRUE`): they vouch for people, and a leaf that could issue would let its holder be anyone.
    AuthoritiesOnly,
    /// Also a server's own self-signed certificate, named on purpose.
    AuthoritiesOrPinned,
}

/// A tenant's authorities as rustls wants them. Nothing else is trusted: no system roots are added.
pub(crate) fn roots(text: &str, anchors: Anchors) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let found = certificates(text, MAX_AUTHORITIES).map_err(TlsError::Authorities)?;
    for (index, der) in found.into_iter().enumerate() {
        let position = index.saturating_add(1);
        let unusable = TlsError::UnusableAuthority { position };
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| unusable.clone())?;
        if !rest.is_empty() {
            return Err(unusable);
        }
        if anchors == Anchors::AuthoritiesOnly && !parsed.is_ca() {
            let subject = parsed.subject().to_string();
            return Err(TlsError::NotAnAuthority { position, subject });
        }
        store.add(der).map_err(|_| unusable)?;
    }
    Ok(store)
}

/// Authorities in one tenant's list.
pub(crate) const MAX_AUTHORITIES: usize = 64;

/// Certificates in a bundle of public authorities (Debian's has about 150).
pub(crate) const MAX_PUBLIC_AUTHORITIES: usize = 1_000;

/// Bytes of PEM text (a bundle of public authorities is about 220 KiB).
pub(crate) const MAX_PEM_BYTES: usize = 1024 * 1024;

fn sections(text: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, PemError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLarge {
            limit: MAX_PEM_BYTES,
        });
    }
    let found = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(PemError::from)?;
    // The library passes over sections whose label it does not know; curve parameters before a key are the one kind we pass over too.
    let announced = text
        .lines()
        .filter(|line| line.starts_with("-----BEGIN ") && !line.contains(" EC PARAMETERS"))
        .count();
    if announced != found.len() {
        return Err(PemError::Unexpected);
    }
    Ok(found)
}

/// A text is not the PEM that was asked for. It never repeats the text, which may be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemError {
    /// More text than is ever needed.
    TooLarge {
        /// Bytes that are accepted.
        limit: usize,
    },
    /// More sections than are ever needed.
    TooMany {
        /// Sections that are accepted.
        limit: usize,
    },
    /// There is no PEM section in the text.
    NothingFound,
    /// A section of another kind: a key where certificates belong or the reverse, an encrypted key, an unknown label.
    Unexpected,
    /// A section without its end, with a broken label, or not base64.
    Malformed,
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "PEM text of more than {limit} bytes"),
            Self::TooMany { limit } => write!(f, "more than {limit} PEM sections"),
            Self::NothingFound => f.write_str("no PEM section found"),
            Self::Unexpected => f.write_str("a PEM section of an unexpected kind"),
            Self::Malformed => f.write_str("malformed PEM"),
        }
    }
}

impl std::error::Error for PemError {}

impl From<pem::Error> for PemError {
    fn from(_: pem::Error) -> Self {
        // The library's error may carry a line of the text, and the text may be a key.
        Self::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn certificates_come_in_order_and_words_around_them_are_ignored() {
        let text = format!("subject=…\n{CERTIFICATE}\nissuer=…\n{CERTIFICATE}");
        assert_eq!(certificates(&text, 2).unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_a_list_of_certificates_is_refused() {
        for (text, problem) in [
            (String::new(), PemError::NothingFound),
            ("hello".into(), PemError::NothingFound),
            (format!("{CERTIFICATE}{KEY}"), PemError::Unexpected),
            (
                CERTIFICATE.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
                PemError::Unexpected,
            ),
            (CERTIFICATE.repeat(3), PemError::TooMany { limit: 2 }),
            (CERTIFICATE.replace("AAAA", "A!A="), PemError::Malformed),
            (
                CERTIFICATE.replace("-----END CERTIFICATE-----", ""),
                PemError::Malformed,
            ),
        ] {
            assert_eq!(certificates(&text, 2), Err(problem), "{text}");
        }
    }

    #[test]
    fn the_size_is_limited_at_the_edge() {
        let padding = MAX_PEM_BYTES - CERTIFICATE.len();
        let full = format!("{CERTIFICATE}{}", "\n".repeat(padding));
        assert!(certificates(&full, 1).is_ok());
        let limit = MAX_PEM_BYTES;
        let over = format!("{full}\n");
        assert_eq!(certificates(&over, 1), Err(PemError::TooLarge { limit }));
    }

    #[test]
    fn one_private_key_is_wanted() {
        let parameters = "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n";
        assert!(private_key(KEY).is_ok());
        assert!(private_key(&format!("{parameters}{KEY}")).is_ok());
        for (text, problem) in [
            (KEY.repeat(2), PemError::TooMany { limit: 1 }),
            (CERTIFICATE.to_owned(), PemError::Unexpected),
            (
                KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                PemError::Unexpected,
            ),
            (String::new(), PemError::NothingFound),
        ] {
            assert_eq!(private_key(&text).unwrap_err(), problem, "{text}");
        }
    }
}

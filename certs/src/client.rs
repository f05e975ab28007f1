//! TLS towards databases and towards the HTTPS servers of others.

use std::sync::Arc;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::pem::{self, Anchors, MAX_PUBLIC_AUTHORITIES, roots};
use crate::{Identity, TlsError, provider};

/// The configuration of handshakes with one cluster's databases, reached through SSLRequest.
///
/// Trust is the tenant's authorities and nothing else; the server's name is always checked (it is an argument of the handshake). With
/// an identity, its certificate is shown to a server that asks. No ALPN (there is none in an SSLRequest handshake), no early data, no
/// key log. Sessions are resumed from a memory that belongs to this value: give each cluster its own.
///
/// # Errors
/// [`TlsError`] if the authorities cannot be read.
pub fn client_config(
    authorities_pem: &str,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = roots(authorities_pem, Anchors::AuthoritiesOrPinned)?;
    let builder = builder()?.with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        None => builder.with_no_client_auth(),
    };
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The configuration of handshakes with HTTPS servers (a token issuer's keys), speaking HTTP/1.1.
///
/// The authorities are usually the system's bundle, which the caller reads. Such bundles are made by others, so that a certificate in it
/// that cannot be used is passed over: less is then trusted, never more.
///
/// # Errors
/// [`TlsError`] if no usable authority is left.
pub fn https_client_config(authorities_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = builder()?
        .with_root_certificates(usable_roots(authorities_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The configuration of the handshakes by which `portcullis selftest` tries a gateway: verified like any other, but offering these protocols,
/// with or without a server name, and early data wherever a ticket allows any. For nothing else: this client wants to be refused.
///
/// The authorities may be the system's bundle, and are read as [`https_client_config`] reads them.
///
/// # Errors
/// [`TlsError`] if no usable authority is left.
pub fn probe_client_config(
    authorities_pem: &str,
    alpn: &[&[u8]],
    indication: ServerNameIndication,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = builder()?
        .with_root_certificates(usable_roots(authorities_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_sni = indication == ServerNameIndication::Sent;
    config.enable_early_data = true;
    Ok(Arc::new(config))
}

/// Whether a ClientHello says whom it wants. The certificate is checked against the name all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerNameIndication {
    /// It does.
    Sent,
    /// It does not.
    Withheld,
}

/// What can be used of a bundle that others made.
fn usable_roots(authorities_pem: &str) -> Result<RootCertStore, TlsError> {
    let found = pem::certificates(authorities_pem, MAX_PUBLIC_AUTHORITIES)
        .map_err(TlsError::Authorities)?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found);
    match usable {
        0 => Err(TlsError::UnusableAuthority { position: 1 }),
        _ => Ok(roots),
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?)
}

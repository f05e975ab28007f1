//! TLS towards clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use crate::pem::{Anchors, roots};
use crate::{Identity, TlsError, provider};

/// The configuration of one handshake with a PostgreSQL client, showing exactly `identity`.
///
/// The identity is chosen before (by the ClientHello's server name, see [`ServerIdentities::choose`]), so that the channel binding's hash
/// is that of the certificate which this very handshake serves, also while certificates are being replaced.
///
/// TLS 1.2 or 1.3, ephemeral AEAD suites, no early data, no key log. ALPN offers [`ALPN_POSTGRESQL`] alone: a client that offers other
/// protocols only is told `no_application_protocol`; one that offers none gets through with none negotiated, and whoever accepts direct
/// TLS must look.
///
/// # Errors
/// [`TlsError`] if the authorities that should vouch for clients are not authorities.
pub fn server_config(
    identity: &Identity,
    clients: ClientCertificates<'_>,
    resumption: Resumption,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        ClientCertificates::NotAsked => builder.with_no_client_auth(),
        ClientCertificates::Asked { authorities_pem } => {
            let roots = Arc::new(roots(authorities_pem, Anchors::AuthoritiesOnly)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                // A client without a certificate is told so in words after its startup packet, where its driver shows them.
                .allow_unauthenticated()
                // The names of a tenant's authorities are nobody else's business, and the request is sent before we know who asks.
                .clear_root_hint_subjects()
                .build()
                .map_err(|error| TlsError::Library(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    config.max_early_data_size = 0;
    // OpenSSL's clients put AES-256 with SHA-384 first, for which processors have no instructions.
    config.ignore_client_order = true;
    match (resumption, clients) {
        (Resumption::On, ClientCertificates::NotAsked) => {
            config.session_storage = ServerSessionMemoryCache::new(MAX_STORED_SESSIONS);
            config.send_tls13_tickets = TICKETS_EACH;
        }
        // A resumed session would carry a client certificate past its expiry and past a change of the tenant's authorities.
        (Resumption::On, ClientCertificates::Asked { .. }) | (Resumption::Off, _) => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(Arc::new(config))
}

/// The application protocol of PostgreSQL (registered with IANA; PostgreSQL 17, "SSL Session Encryption").
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// Sessions that one configuration remembers; each takes about a kilobyte.
const MAX_STORED_SESSIONS: usize = 1_024;

/// Tickets sent after a TLS 1.3 handshake.
const TICKETS_EACH: usize = 1;

/// Whether a handshake asks the client for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates<'a> {
    /// It does not.
    NotAsked,
    /// It does. One that is shown must be issued by these authorities, for client authentication, and be valid now; showing none is
    /// possible, and whoever serves must look.
    Asked {
        /// The tenant's authorities, PEM.
        authorities_pem: &'a str,
    },
}

/// Whether a text can vouch for clients: what [`ClientCertificates::Asked`] will accept, said while the policy is read.
///
/// # Errors
/// [`TlsError`]
pub fn check_client_authorities(authorities_pem: &str) -> Result<(), TlsError> {
    roots(authorities_pem, Anchors::AuthoritiesOnly).map(|_| ())
}

/// Whether a client may resume an earlier session. Never possible where client certificates are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Every handshake is a full one.
    Off,
    /// Sessions are kept in memory, up to a limit, in this configuration alone.
    On,
}

/// The certificates that listeners can show, found by server name.
#[derive(Debug, Clone)]
pub struct ServerIdentities {
    default: Arc<Identity>,
    all: Vec<Arc<Identity>>,
    /// Lower-cased host → identity.
    exact: BTreeMap<String, Arc<Identity>>,
    /// `db.example.net` for `*.db.example.net` → identity.
    wildcard: BTreeMap<String, Arc<Identity>>,
}

impl ServerIdentities {
    /// `first` is shown to clients that name no host or one that no certificate carries.
    ///
    /// # Errors
    /// [`DuplicateName`] if two certificates carry the same DNS name: which one is shown must not be a matter of order.
    pub fn new(first: Identity, others: Vec<Identity>) -> Result<Self, DuplicateName> {
        let default = Arc::new(first);
        let mut all = vec![Arc::clone(&default)];
        all.extend(others.into_iter().map(Arc::new));
        let (mut exact, mut wildcard) = (BTreeMap::new(), BTreeMap::new());
        for identity in &all {
            for name in &identity.names().dns {
                let (table, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                if let Some(other) = table.insert(key.to_owned(), Arc::clone(identity))
                    && !Arc::ptr_eq(&other, identity)
                {
                    return Err(DuplicateName { name: name.clone() });
                }
            }
        }
        Ok(Self {
            default,
            all,
            exact,
            wildcard,
        })
    }

    /// The identity for a ClientHello's server name: the certificate that carries the name itself, else one whose wildcard stands for
    /// its first label (RFC 6125 §6.4.3), else the default.
    pub fn choose(&self, server_name: Option<&str>) -> &Arc<Identity> {
        server_name
            .and_then(|name| self.find(&name.to_ascii_lowercase()))
            .unwrap_or(&self.default)
    }

    /// Every identity, the default first.
    pub fn all(&self) -> &[Arc<Identity>] {
        &self.all
    }

    fn find(&self, name: &str) -> Option<&Arc<Identity>> {
        self.exact.get(name).or_else(|| {
            let (label, parent) = name.split_once('.')?;
            (!label.is_empty()).then(|| self.wildcard.get(parent))?
        })
    }
}

/// Two certificates carry the same DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateName {
    /// The name, as the certificates spell it.
    pub name: String,
}

impl fmt::Display for DuplicateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two server certificates carry the name {}", self.name)
    }
}

impl std::error::Error for DuplicateName {}

//! The configurations of handshakes inside a fleet: TLS 1.3, no resumption, no tickets, no early data, no server name.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};

use super::identity::Shown;
use super::verify::{Kind, MemberClient, NodeServer, Strangers, Trust, Whom};
use super::{
    FleetId, FleetName, FleetNameError, FleetTrust, JoinToken, NodeIdentity, OperatorIdentity,
    peer_of,
};
use crate::{TlsError, Validity, provider};

/// The application protocol between nodes.
pub const ALPN_MESH: &[u8] = b"portcullis-mesh/1";

/// The application protocol of a node that joins, which has no certificate yet.
pub const ALPN_JOIN: &[u8] = b"portcullis-join/1";

/// The application protocol of the API.
pub const ALPN_API: &[u8] = b"http/1.1";

/// The server name for handshakes inside the fleet, where libraries want one: neither sent nor compared with anything.
pub const SERVER_NAME: &str = "fleet.portcullis.invalid";

/// Whether a node hears strangers who want to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It does: [`ALPN_JOIN`] is offered, too, and no client needs a certificate. [`admit`] must be asked after every handshake.
    Offered,
    /// It does not: every client is a node of the fleet, or fails the handshake.
    NotOffered,
}

/// How a node is called by the others, and with [`Joining::Offered`] by those who join. A certificate that is shown must be a node's.
///
/// # Errors
/// [`TlsError`]
pub fn mesh_server_config(
    identity: &NodeIdentity,
    trust: &FleetTrust,
    joining: Joining,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (strangers, protocols): (_, &[&[u8]]) = match joining {
        Joining::Offered => (Strangers::Heard, &[ALPN_MESH, ALPN_JOIN]),
        Joining::NotOffered => (Strangers::Refused, &[ALPN_MESH]),
    };
    let clients = MemberClient::new(trust, Kind::Nodes, strangers);
    server(identity, clients, protocols)
}

/// How a node calls node `expected`: a server that is not that very node of this fleet is refused in the handshake.
///
/// # Errors
/// [`TlsError`]
pub fn mesh_client_config(
    identity: &NodeIdentity,
    trust: &FleetTrust,
    expected: u64,
) -> Result<Arc<ClientConfig>, TlsError> {
    let server = NodeServer {
        trust: Trust::Known(trust.clone()),
        whom: Whom::Node(expected),
    };
    let shown = Shown(identity.clone());
    client(Some(Arc::new(shown)), server, ALPN_MESH)
}

/// How a node that has nothing but a token calls the fleet: the server must be a node under the authority that the token pins. After the
/// handshake, [`FleetTrust::pinned`] finds that authority in what the server showed.
///
/// # Errors
/// [`TlsError`]
pub fn join_client_config(token: &JoinToken) -> Result<Arc<ClientConfig>, TlsError> {
    let server = NodeServer {
        trust: Trust::Pinned {
            fleet: token.fleet(),
            fingerprint: token.fingerprint(),
        },
        whom: Whom::AnyNode,
    };
    client(None, server, ALPN_JOIN)
}

/// How a node whose certificate is over calls the fleet to have another issued for its key: the server must be a node under the authority
/// that it knows, and hears it as a stranger.
///
/// # Errors
/// [`TlsError`]
pub fn recover_client_config(trust: &FleetTrust) -> Result<Arc<ClientConfig>, TlsError> {
    let server = NodeServer {
        trust: Trust::Known(trust.clone()),
        whom: Whom::AnyNode,
    };
    client(None, server, ALPN_JOIN)
}

/// How a node's API is called by operators: with a certificate that is an operator's, or not at all.
///
/// # Errors
/// [`TlsError`]
pub fn api_server_config(
    identity: &NodeIdentity,
    trust: &FleetTrust,
) -> Result<Arc<ServerConfig>, TlsError> {
    let clients = MemberClient::new(trust, Kind::Operators, Strangers::Refused);
    server(identity, clients, &[ALPN_API])
}

/// How an operator calls the API of any node of the fleet, also of one whose authority came in the place of the one that they know, as long
/// as its nodes show what leads from the one to the other.
///
/// # Errors
/// [`TlsError`]
pub fn api_client_config(
    identity: &OperatorIdentity,
    trust: &FleetTrust,
) -> Result<Arc<ClientConfig>, TlsError> {
    let server = NodeServer {
        trust: Trust::Followed(trust.clone()),
        whom: Whom::AnyNode,
    };
    let shown = SingleCertAndKey::from(identity.identity().certified());
    client(Some(Arc::new(shown)), server, ALPN_API)
}

fn server(
    identity: &NodeIdentity,
    clients: MemberClient,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(Shown(identity.clone())));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.max_early_data_size = 0;
    // A resumed session would carry a certificate past its expiry.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    identity: Option<Arc<dyn ResolvesClientCert>>,
    server: NodeServer,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Who is at the other end of a handshake by [`mesh_server_config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A node of the fleet, as far as certificates say: whether it still belongs there, and with this key, the state knows.
    Node {
        /// Its number.
        node: u64,
        /// SHA-256 of its public key, as in [`super::Peer::key`].
        key: [u8; 32],
        /// When its certificate is valid.
        validity: Validity,
    },
    /// Nobody yet: it may ask to join and nothing else.
    Stranger,
}

/// Who called, by the protocol that was negotiated and the certificates that were shown. The one place that tells a node from a stranger.
///
/// # Errors
/// [`NotAdmitted`]: the connection ends here.
pub fn admit(
    protocol: Option<&[u8]>,
    certificates: Option<&[CertificateDer<'_>]>,
    fleet: FleetId,
) -> Result<Caller, NotAdmitted> {
    let shown = certificates.unwrap_or_default();
    match protocol {
        Some(ALPN_MESH) if shown.is_empty() => Err(NotAdmitted::NoCertificate),
        Some(ALPN_MESH) => {
            let peer = peer_of(shown, fleet).map_err(NotAdmitted::Name)?;
            match peer.name {
                FleetName::Node { node, .. } => Ok(Caller::Node {
                    node: node.get(),
                    key: peer.key,
                    validity: peer.validity,
                }),
                FleetName::Operator { .. } => Err(NotAdmitted::NotANode),
            }
        }
        Some(ALPN_JOIN) if shown.is_empty() => Ok(Caller::Stranger),
        Some(ALPN_JOIN) => Err(NotAdmitted::JoinsTwice),
        Some(_) | None => Err(NotAdmitted::Protocol),
    }
}

/// A handshake succeeded, and yet nobody is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No protocol of the fleet was negotiated.
    Protocol,
    /// A node's protocol without a certificate.
    NoCertificate,
    /// The certificate names no member of this fleet.
    Name(FleetNameError),
    /// The certificate is an operator's.
    NotANode,
    /// A certificate was shown where nobody has one.
    JoinsTwice,
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol => f.write_str("no protocol of the fleet was negotiated"),
            Self::NoCertificate => {
                f.write_str("a node's protocol was spoken without a certificate")
            }
            Self::Name(problem) => problem.fmt(f),
            Self::NotANode => f.write_str("the certificate is not a node's"),
            Self::JoinsTwice => f.write_str("who joins has no certificate yet"),
        }
    }
}

impl std::error::Error for NotAdmitted {}

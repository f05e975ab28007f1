//! The two questions of a handshake inside the fleet, asked after rustls has verified the signatures and dates: is this server the node that
//! was called, and is this client of the kind that is served here?

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::{FleetId, FleetName, FleetNameError, FleetTrust, peer_of};
use crate::provider;

/// Verifies that a server is a node of the fleet. The host name that was dialled plays no part: addresses move, nodes do not.
#[derive(Debug)]
pub(super) struct NodeServer {
    pub(super) trust: Trust,
    pub(super) whom: Whom,
}

/// By what the chain is verified.
#[derive(Debug)]
pub(super) enum Trust {
    /// By the authority.
    Known(FleetTrust),
    /// By the authority, or one that this one says came in its place.
    Followed(FleetTrust),
    /// By the certificate with this hash, which the server sends.
    Pinned {
        fleet: FleetId,
        fingerprint: [u8; 32],
    },
}

/// Who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// This node alone.
    Node(u64),
    /// Any node of the fleet.
    AnyNode,
}

impl ServerCertVerifier for NodeServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned;
        let mut between: &[CertificateDer<'_>] = &[];
        let trust = match &self.trust {
            Trust::Known(trust) => trust,
            Trust::Followed(trust) => {
                between = intermediates;
                trust
            }
            Trust::Pinned { fleet, fingerprint } => {
                pinned =
                    FleetTrust::pinned(intermediates, *fleet, *fingerprint).map_err(refusal)?;
                &pinned
            }
        };
        // The authority signs leaves, and what leads to another one, which is looked at where it is wanted alone.
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &trust.roots(),
            between,
            now,
            provider().signature_verification_algorithms.all,
        )?;
        let found = name_of(end_entity, trust.fleet())?;
        match (self.whom, &found) {
            (Whom::AnyNode, FleetName::Node { .. }) => Ok(ServerCertVerified::assertion()),
            (Whom::Node(wanted), FleetName::Node { node, .. }) if node.get() == wanted => {
                Ok(ServerCertVerified::assertion())
            }
            (Whom::Node(_) | Whom::AnyNode, _) => Err(refusal(OtherPeer { found })),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Verifies that a client is a member of the fleet, of one kind, by what is believed at that moment.
#[derive(Debug)]
pub(super) struct MemberClient {
    trust: FleetTrust,
    kind: Kind,
    strangers: Strangers,
}

/// Which members are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nodes.
    Nodes,
    /// Operators.
    Operators,
}

/// Whether a client may come without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strangers {
    /// It may, and whoever serves looks.
    Heard,
    /// It may not.
    Refused,
}

impl MemberClient {
    pub(super) fn new(trust: &FleetTrust, kind: Kind, strangers: Strangers) -> Self {
        Self {
            trust: trust.clone(),
            kind,
            strangers,
        }
    }

    fn inner(&self) -> Arc<dyn ClientCertVerifier> {
        match self.kind {
            Kind::Nodes => self.trust.nodes(),
            Kind::Operators => self.trust.operators(),
        }
    }
}

impl ClientCertVerifier for MemberClient {
    fn client_auth_mandatory(&self) -> bool {
        self.strangers == Strangers::Refused
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner().verify_client_cert(end_entity, &[], now)?;
        let found = name_of(end_entity, self.trust.fleet())?;
        match (self.kind, &found) {
            (Kind::Nodes, FleetName::Node { .. })
            | (Kind::Operators, FleetName::Operator { .. }) => Ok(verified),
            (Kind::Nodes, FleetName::Operator { .. })
            | (Kind::Operators, FleetName::Node { .. }) => Err(refusal(OtherPeer { found })),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner()
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner()
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner().supported_verify_schemes()
    }
}

fn name_of(leaf: &CertificateDer<'_>, fleet: FleetId) -> Result<FleetName, Error> {
    peer_of(std::slice::from_ref(leaf), fleet)
        .map(|peer| peer.name)
        .map_err(|problem: FleetNameError| refusal(problem))
}

fn refusal(problem: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

/// The certificate is good, and another's.
#[derive(Debug)]
struct OtherPeer {
    found: FleetName,
}

impl fmt::Display for OtherPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the certificate is that of {}, who is not expected here",
            self.found
        )
    }
}

impl std::error::Error for OtherPeer {}

//! Who belongs to a fleet: its one authority, the names in the certificates of nodes and operators, the handshakes between them, the
//! tokens by which a node joins, and the signatures under what nodes are told and say.
//!
//! A private key never leaves the node that made it: a certificate is issued from a [`JoinRequest`], which proves that its sender has the
//! key. Everything is TLS 1.3 with both sides known, without resumption, tickets or early data, so that a peer is known by the certificate
//! of this very handshake.
//!
//! Deliberately absent: which roles a node or an operator has, and whether it still belongs to the fleet (the policy's state says; a
//! certificate would say it for too long); revocation lists (whoever is removed from the state is no longer talked to); when an
//! authority is exchanged for another (the state says); when a node's certificate is renewed ([`crate::schedule`]). A certificate's validity is checked in the handshake, by the clock that rustls reads; a connection that outlives it is the
//! caller's to end ([`Peer::validity`]).

mod authority;
mod identity;
mod join_token;
mod name;
mod request;
mod signing;
mod statement;
mod tls;
mod trust;
mod verify;

pub use authority::FleetAuthority;
pub use identity::{NodeIdentity, NotRenewed, OperatorIdentity, OtherIdentity, Renewed};
pub use join_token::{
    JoinToken, JoinTokenError, MAX_JOIN_ADDRESS, MAX_JOIN_ADDRESSES, MAX_JOIN_TOKEN_TEXT,
    hash_of_secret,
};
pub use name::{FleetId, FleetName, FleetNameError, MAX_OPERATOR_NAME, Peer, peer_of};
pub use request::{JoinRequest, MAX_REQUEST_BYTES, PublicKey, RequestError};
pub use signing::{
    LogKey, PublicSigningKey, RecoveryKey, Signature, SigningKeyError, ViewKey, WitnessKey,
    verified_signers, verify_recovery, verify_view,
};
pub use statement::{MAX_SIGNED_BYTES, Statement};
pub use tls::{
    ALPN_API, ALPN_JOIN, ALPN_MESH, Caller, Joining, NotAdmitted, SERVER_NAME, admit,
    api_client_config, api_server_config, join_client_config, mesh_client_config,
    mesh_server_config, recover_client_config,
};
pub use trust::{Believable, FleetTrust, FleetTrustError};

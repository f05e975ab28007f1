//! A fleet for the tests, with another beside it.

mod api;
mod exchange;
mod join;
mod join_token;
mod members;
mod mesh;
mod renewing;
mod signing;

use portcullis_certs::authority::Key;
use portcullis_certs::fleet::{
    FleetAuthority, FleetId, JoinRequest, NodeIdentity, OperatorIdentity, PublicKey, SERVER_NAME,
};
use portcullis_certs::schedule::Terms;
use portcullis_certs::{Validity, generate_key};
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, SanType};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Handshake, LONG, forge};

const FLEET: FleetId = FleetId([0xab; 16]);
const OTHER_FLEET: FleetId = FleetId([0xcd; 16]);

fn fleet(id: FleetId) -> FleetAuthority {
    FleetAuthority::new(id, generate_key().unwrap(), LONG).unwrap()
}

fn node(authority: &FleetAuthority, node: u64) -> NodeIdentity {
    node_for(authority, node, week())
}

fn node_and_key(
    authority: &FleetAuthority,
    node: u64,
    validity: Validity,
) -> (NodeIdentity, PublicKey) {
    let key = generate_key().unwrap();
    let public = PublicKey::of(&key).unwrap();
    let chain = authority.issue_node(node, &public, validity).unwrap();
    let identity = NodeIdentity::from_pem(&chain, &key.to_pem()).unwrap();
    (identity, public)
}

/// As long as a node's certificate may be valid, from now on.
fn week() -> Validity {
    Terms::NODE.from(now())
}

/// As long as an operator's may be, from now on.
fn quarter() -> Validity {
    Terms::OPERATOR.from(now())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn node_for(authority: &FleetAuthority, node: u64, validity: Validity) -> NodeIdentity {
    let (key, request) = asked();
    let chain = authority.issue_node(node, request.key(), validity).unwrap();
    NodeIdentity::from_pem(&chain, &key.to_pem()).unwrap()
}

fn operator(authority: &FleetAuthority, name: &str) -> OperatorIdentity {
    let (key, request) = asked();
    let chain = authority
        .issue_operator(name, request.key(), quarter())
        .unwrap();
    OperatorIdentity::from_pem(&chain, &key.to_pem()).unwrap()
}

/// A key, and the request for it as it arrives elsewhere.
fn asked() -> (Key, JoinRequest) {
    let key = generate_key().unwrap();
    let sent = JoinRequest::new(&key).unwrap();
    let arrived = JoinRequest::from_der(sent.der()).unwrap();
    (key, arrived)
}

/// Signed with the fleet's own key, and yet not as the authority would: alternative names and usages as given.
fn forged(
    authority: &FleetAuthority,
    names: Vec<SanType>,
    usages: &[ExtendedKeyUsagePurpose],
) -> portcullis_certs::authority::Issued {
    let subject = format!("Portcullis fleet {}", authority.trust().fleet());
    forge(
        &subject,
        authority.key_pem(),
        |leaf: &mut CertificateParams| {
            leaf.distinguished_name = DistinguishedName::new();
            leaf.subject_alt_names = names;
            leaf.extended_key_usages = usages.to_vec();
        },
    )
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Handshake {
    Handshake::run(Arc::clone(client), Arc::clone(server), SERVER_NAME)
}

/// The handshake failed, on one side at least, and in words that contain these.
#[track_caller]
fn refused(done: &Handshake, words: &str) {
    assert!(!done.succeeded(), "this should have been refused");
    let told = format!("{:?} {:?}", done.client_error, done.server_error);
    assert!(told.contains(words), "{told}");
}

//! Handshakes of nodes that have a token and nothing else.

use portcullis_certs::fleet::{
    ALPN_JOIN, Caller, FleetAuthority, FleetId, FleetTrust, FleetTrustError, JoinToken, Joining,
    NodeIdentity, admit, api_server_config, join_client_config, mesh_server_config,
};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;

use super::{FLEET, OTHER_FLEET, fleet, forged, node, operator, refused, shake, uri};
use crate::support::{LONG, authority, issue, server_leaf};

#[test]
fn a_token_leads_to_any_node_of_its_fleet_and_to_the_fleets_authority() {
    let ours = fleet(FLEET);
    let token = token(&ours, FLEET);
    let client = join_client_config(&token).unwrap();
    for id in [1, 7] {
        let done = shake(&client, &server(&ours, &node(&ours, id))).must_succeed();
        assert_eq!(done.client.alpn_protocol(), Some(ALPN_JOIN));
        let caller = admit(
            done.server.alpn_protocol(),
            done.server.peer_certificates(),
            FLEET,
        );
        assert_eq!(caller, Ok(Caller::Stranger));
        let shown = done.client.peer_certificates().unwrap();
        let trust = FleetTrust::pinned(shown, token.fleet(), token.fingerprint()).unwrap();
        assert_eq!(trust.der(), ours.trust().der());
    }
}

#[test]
fn a_server_that_does_not_prove_the_pinned_authority_is_refused() {
    let ours = fleet(FLEET);
    let client = join_client_config(&token(&ours, FLEET)).unwrap();
    // Another fleet, one that calls itself the same, and a wrong pin.
    for stranger in [fleet(OTHER_FLEET), fleet(FLEET)] {
        let done = shake(&client, &server(&stranger, &node(&stranger, 1)));
        refused(&done, "NotPinned");
    }
    let wrong_pin = JoinToken::new(FLEET, [0; 32], vec!["a:1".into()], [1; 32]).unwrap();
    let wrong_pin = join_client_config(&wrong_pin).unwrap();
    let honest = server(&ours, &node(&ours, 1));
    refused(&shake(&wrong_pin, &honest), "NotPinned");
    // The right authority under another fleet's name.
    let misnamed = join_client_config(&token(&ours, OTHER_FLEET)).unwrap();
    refused(&shake(&misnamed, &honest), "NoFleet");
}

#[test]
fn showing_the_authority_beside_a_leaf_that_it_did_not_sign_helps_nobody() {
    let ours = fleet(FLEET);
    let client = join_client_config(&token(&ours, FLEET)).unwrap();
    // The twin's leaf names the same fleet and node; beside it stands the authority that everybody can see.
    let twin = fleet(FLEET);
    let leaf = forged(
        &twin,
        vec![uri(&format!("spiffe://{FLEET}/node/1"))],
        &[ServerAuth],
    );
    let chain = format!("{}{}", leaf.chain_pem, ours.authority_pem());
    let liar = NodeIdentity::from_pem(&chain, &leaf.key_pem).unwrap();
    refused(&shake(&client, &server(&ours, &liar)), "BadSignature");
    // Without the authority beside it, even a true leaf is not known.
    let leaf = forged(
        &ours,
        vec![uri(&format!("spiffe://{FLEET}/node/1"))],
        &[ServerAuth],
    );
    let alone = NodeIdentity::from_pem(&leaf.chain_pem, &leaf.key_pem).unwrap();
    refused(&shake(&client, &server(&ours, &alone)), "NotPinned");
}

#[test]
fn a_node_that_joins_finds_no_door_where_joining_is_not_offered() {
    let ours = fleet(FLEET);
    let client = join_client_config(&token(&ours, FLEET)).unwrap();
    let node = node(&ours, 1);
    let closed = mesh_server_config(&node, ours.trust(), Joining::NotOffered).unwrap();
    refused(&shake(&client, &closed), "NoApplicationProtocol");
    let api = api_server_config(&node, ours.trust()).unwrap();
    refused(&shake(&client, &api), "NoApplicationProtocol");
}

#[test]
fn only_a_fleets_authority_is_one() {
    let ours = fleet(FLEET);
    let read = |pem: &str| FleetTrust::from_pem(pem).map(|trust| trust.fleet());
    assert_eq!(read(ours.authority_pem()), Ok(FLEET));
    let other = authority("Portcullis fleet of mine");
    assert_eq!(read(other.authority_pem()), Err(FleetTrustError::NoFleet));
    let leaf = issue(&other, &server_leaf(&["a.example"]));
    let leaf = FleetTrust::from_der(&leaf.chain()[0]).unwrap_err();
    assert_eq!(leaf, FleetTrustError::NotAnAuthority);
    assert!(matches!(read("").unwrap_err(), FleetTrustError::Pem(_)));
    let twice = ours.authority_pem().repeat(2);
    assert!(matches!(read(&twice).unwrap_err(), FleetTrustError::Pem(_)));
    assert_eq!(ours.trust().validity(), LONG);
    // Operators have the same authority and are no servers.
    operator(&ours, "ada");
}

fn token(ours: &FleetAuthority, fleet: FleetId) -> JoinToken {
    let fingerprint = ours.trust().fingerprint();
    JoinToken::new(fleet, fingerprint, vec!["n1.example:7400".into()], [7; 32]).unwrap()
}

fn server(ours: &FleetAuthority, identity: &NodeIdentity) -> std::sync::Arc<rustls::ServerConfig> {
    mesh_server_config(identity, ours.trust(), Joining::Offered).unwrap()
}

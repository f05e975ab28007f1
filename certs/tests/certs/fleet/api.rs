//! Handshakes between operators and the API.

use std::sync::Arc;

use portcullis_certs::fleet::{
    ALPN_API, FleetName, api_client_config, api_server_config, mesh_client_config, peer_of,
};

use super::{FLEET, OTHER_FLEET, fleet, node, operator, refused, shake};

#[test]
fn an_operator_is_known_by_name_and_finds_a_node() {
    let ours = fleet(FLEET);
    let server = api_server_config(&node(&ours, 3), ours.trust()).unwrap();
    let client = api_client_config(&operator(&ours, "ada"), ours.trust()).unwrap();
    let done = shake(&client, &server).must_succeed();
    assert_eq!(done.server.alpn_protocol(), Some(ALPN_API));
    let operator = peer_of(done.server.peer_certificates().unwrap(), FLEET).unwrap();
    assert_eq!(operator.name, FleetName::operator(FLEET, "ada").unwrap());
    let answers = peer_of(done.client.peer_certificates().unwrap(), FLEET).unwrap();
    assert_eq!(answers.name.node_id(), Some(3));
}

#[test]
fn whoever_is_no_operator_of_the_fleet_is_refused() {
    let ours = fleet(FLEET);
    let server = api_server_config(&node(&ours, 3), ours.trust()).unwrap();
    // A node's certificate at the API.
    let as_node = mesh_client_config(&node(&ours, 1), ours.trust(), 3).unwrap();
    let mut as_node = Arc::unwrap_or_clone(as_node);
    as_node.alpn_protocols = vec![ALPN_API.to_vec()];
    refused(&shake(&Arc::new(as_node.clone()), &server), "node: 1");
    // No certificate.
    let nobody = portcullis_certs::client_config(ours.authority_pem(), None).unwrap();
    as_node.client_auth_cert_resolver = Arc::clone(&nobody.client_auth_cert_resolver);
    refused(&shake(&Arc::new(as_node), &server), "CertificateRequired");
    for (stranger, problem) in [
        (fleet(OTHER_FLEET), "UnknownIssuer"),
        (fleet(FLEET), "BadSignature"),
    ] {
        let theirs = api_client_config(&operator(&stranger, "ada"), ours.trust()).unwrap();
        refused(&shake(&theirs, &server), problem);
    }
}

#[test]
fn a_server_that_is_no_node_of_the_fleet_is_refused() {
    let ours = fleet(FLEET);
    let client = api_client_config(&operator(&ours, "ada"), ours.trust()).unwrap();
    for (stranger, problem) in [
        (fleet(OTHER_FLEET), "UnknownIssuer"),
        (fleet(FLEET), "BadSignature"),
    ] {
        let server = api_server_config(&node(&stranger, 1), stranger.trust()).unwrap();
        refused(&shake(&client, &server), problem);
    }
}

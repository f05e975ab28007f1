//! A node's certificate that is replaced while handshakes go on.

use portcullis_certs::fleet::{
    FleetAuthority, Joining, NodeIdentity, NotRenewed, PublicKey, admit, mesh_client_config,
    mesh_server_config, recover_client_config,
};
use portcullis_certs::schedule::Terms;
use portcullis_certs::{Validity, generate_key};

use super::{FLEET, OTHER_FLEET, fleet, now, refused, shake, week};

/// A node, and its key, whose certificate ended yesterday.
fn late(ours: &FleetAuthority) -> (NodeIdentity, PublicKey) {
    super::node_and_key(ours, 2, Terms::NODE.from(now() - 8 * 86_400))
}

#[test]
fn what_is_renewed_is_shown_in_the_next_handshake_of_every_configuration() {
    let ours = fleet(FLEET);
    let (two, key) = late(&ours);
    let one = super::node(&ours, 1);
    let server = mesh_server_config(&two, ours.trust(), Joining::Offered).unwrap();
    let client = mesh_client_config(&two, ours.trust(), 1).unwrap();
    let calls_it = mesh_client_config(&one, ours.trust(), 2).unwrap();
    let other = mesh_server_config(&one, ours.trust(), Joining::NotOffered).unwrap();
    refused(&shake(&calls_it, &server), "Expired");
    refused(&shake(&client, &other), "Expired");
    let chain = ours.issue_node(2, &key, week()).unwrap();
    let renewed = two.renewed(&chain, ours.trust(), now()).unwrap();
    // Looked at is not shown.
    refused(&shake(&calls_it, &server), "Expired");
    let clone = two.clone();
    clone.show(renewed);
    shake(&calls_it, &server).must_succeed();
    shake(&client, &other).must_succeed();
    assert_eq!(two.validity(), clone.validity());
}

#[test]
fn a_node_whose_certificate_is_over_reaches_a_node_of_its_fleet_as_a_stranger() {
    let ours = fleet(FLEET);
    let client = recover_client_config(ours.trust()).unwrap();
    let one = super::node(&ours, 1);
    let server = mesh_server_config(&one, ours.trust(), Joining::Offered).unwrap();
    let done = shake(&client, &server).must_succeed();
    let protocol = done.server.alpn_protocol();
    let caller = admit(protocol, done.server.peer_certificates(), FLEET);
    assert_eq!(caller, Ok(portcullis_certs::fleet::Caller::Stranger));
    // Nobody else hears its request.
    for other in [fleet(OTHER_FLEET), fleet(FLEET)] {
        let one = super::node(&other, 1);
        let server = mesh_server_config(&one, other.trust(), Joining::Offered).unwrap();
        assert!(!shake(&client, &server).succeeded());
    }
}

#[test]
fn nothing_else_takes_the_place_of_a_nodes_certificate() {
    let (ours, twin) = (fleet(FLEET), fleet(FLEET));
    let (two, key) = late(&ours);
    let before = two.fingerprint();
    let not_renewed = |chain: &str| two.renewed(chain, ours.trust(), now()).unwrap_err();
    let another = PublicKey::of(&generate_key().unwrap()).unwrap();
    let chain = ours.issue_node(2, &another, week()).unwrap();
    assert!(matches!(not_renewed(&chain), NotRenewed::Other(_)));
    let chain = ours.issue_node(3, &key, week()).unwrap();
    assert_eq!(not_renewed(&chain), NotRenewed::OtherNode);
    let chain = ours.issue_operator("ada", &key, week()).unwrap();
    assert_eq!(not_renewed(&chain), NotRenewed::OtherNode);
    let chain = twin.issue_node(2, &key, week()).unwrap();
    assert!(matches!(not_renewed(&chain), NotRenewed::NotIssued(_)));
    let chain = fleet(OTHER_FLEET).issue_node(2, &key, week()).unwrap();
    assert!(matches!(not_renewed(&chain), NotRenewed::Other(_)));
    for wrong in [now() - 8 * 86_400, now() + 2 * 86_400] {
        let then = Terms::NODE.from(wrong);
        let chain = ours.issue_node(2, &key, then).unwrap();
        assert_eq!(not_renewed(&chain), NotRenewed::NotNow(then));
    }
    // While one holds, only one that ends later takes its place.
    let one = super::node_and_key(&ours, 4, week());
    let earlier = Terms::NODE.from(now() - 60);
    let chain = ours.issue_node(4, &one.1, earlier).unwrap();
    let shorter = one.0.renewed(&chain, ours.trust(), now()).unwrap_err();
    assert_eq!(shorter, NotRenewed::NoLonger(earlier));
    for nonsense in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(matches!(not_renewed(nonsense), NotRenewed::Other(_)));
    }
    assert_eq!(two.fingerprint(), before);
    let Validity { not_after, .. } = two.validity();
    assert!(not_after < now());
}

//! Handshakes between nodes, and with what is no node.

use std::sync::Arc;

use portcullis_certs::fleet::{
    ALPN_JOIN, ALPN_MESH, Caller, FleetAuthority, Joining, NodeIdentity, NotAdmitted, SERVER_NAME,
    admit, api_client_config, mesh_client_config, mesh_server_config,
};
use portcullis_certs::{Validity, client_config};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::quic::{ClientConnection, ServerConnection, Version};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};

use super::{FLEET, OTHER_FLEET, fleet, forged, node, node_for, operator, refused, shake, uri};
use crate::support::{Handshake, LONG};

/// Long past.
const PAST: Validity = Validity {
    not_before: LONG.not_before,
    not_after: LONG.not_before + 3_600,
};

#[test]
fn nodes_know_one_another_by_number_and_key() {
    let ours = fleet(FLEET);
    let (one, two) = (node(&ours, 1), node(&ours, 2));
    for joining in [Joining::Offered, Joining::NotOffered] {
        let server = mesh_server_config(&two, ours.trust(), joining).unwrap();
        let done = shake(&client(&ours, &one, 2), &server).must_succeed();
        assert_eq!(
            caller(&done),
            Ok(Caller::Node {
                node: 1,
                key: one.key(),
                validity: one.validity()
            })
        );
        assert_eq!(
            done.client.protocol_version(),
            Some(ProtocolVersion::TLSv1_3)
        );
        assert_eq!(done.client.alpn_protocol(), Some(ALPN_MESH));
        assert_eq!(done.server.server_name(), None);
    }
}

#[test]
fn a_server_that_is_not_the_very_node_that_was_called_is_refused() {
    let ours = fleet(FLEET);
    let one = node(&ours, 1);
    let calls_two = client(&ours, &one, 2);
    refused(&shake(&calls_two, &server(&ours, &node(&ours, 3))), "node");
    // The right number under another fleet's authority, and under one of the same name with another key.
    for stranger in [fleet(OTHER_FLEET), fleet(FLEET)] {
        let server = server(&ours, &node(&stranger, 2));
        let problem = match stranger.trust().fleet() == FLEET {
            true => "BadSignature",
            false => "UnknownIssuer",
        };
        refused(&shake(&calls_two, &server), problem);
    }
    let expired = server(&ours, &node_for(&ours, 2, PAST));
    refused(&shake(&calls_two, &expired), "Expired");
}

#[test]
fn a_client_that_is_no_node_of_the_fleet_is_refused() {
    let ours = fleet(FLEET);
    let theirs = fleet(OTHER_FLEET);
    let twin = fleet(FLEET);
    for joining in [Joining::Offered, Joining::NotOffered] {
        let server = mesh_server_config(&node(&ours, 2), ours.trust(), joining).unwrap();
        let shown = |identity: &NodeIdentity| shake(&client(&ours, identity, 2), &server);
        shown(&node(&ours, 1)).must_succeed();
        refused(&shown(&node(&theirs, 1)), "UnknownIssuer");
        refused(&shown(&node(&twin, 1)), "BadSignature");
        refused(&shown(&node_for(&ours, 1, PAST)), "Expired");
        // An operator who speaks the mesh's protocol.
        let mut operator =
            Arc::unwrap_or_clone(api_client_config(&operator(&ours, "ada"), ours.trust()).unwrap());
        operator.alpn_protocols = vec![ALPN_MESH.to_vec()];
        refused(&shake(&Arc::new(operator), &server), "ada");
    }
}

#[test]
fn a_certificate_by_the_fleet_that_names_a_node_in_any_other_way_is_refused() {
    let ours = fleet(FLEET);
    let two = format!("spiffe://{FLEET}/node/2");
    let elsewhere = format!("spiffe://{OTHER_FLEET}/node/2");
    let both = [ServerAuth, ClientAuth];
    let good = forged(&ours, vec![uri(&two)], &both);
    NodeIdentity::from_pem(&good.chain_pem, &good.key_pem).unwrap();
    let calls_two = client(&ours, &node(&ours, 1), 2);
    let as_server = |names, usages: &[_]| {
        let issued = forged(&ours, names, usages);
        let identity = NodeIdentity::from_pem(&issued.chain_pem, &issued.key_pem).unwrap();
        server(&ours, &identity)
    };
    shake(&calls_two, &as_server(vec![uri(&two)], &both)).must_succeed();
    refused(
        &shake(&calls_two, &as_server(vec![uri(&elsewhere)], &both)),
        "OtherFleet",
    );
    // A certificate for calling cannot serve, and the other way round.
    refused(
        &shake(&calls_two, &as_server(vec![uri(&two)], &[ClientAuth])),
        "Purpose",
    );
    let only_serves = forged(&ours, vec![uri(&two)], &[ServerAuth]);
    let only_serves = NodeIdentity::from_pem(&only_serves.chain_pem, &only_serves.key_pem).unwrap();
    let done = shake(
        &client(&ours, &only_serves, 3),
        &server(&ours, &node(&ours, 3)),
    );
    refused(&done, "Purpose");
}

#[test]
fn without_a_certificate_nobody_is_a_node() {
    let ours = fleet(FLEET);
    let mut nobody = Arc::unwrap_or_clone(client_config(ours.authority_pem(), None).unwrap());
    // Its own verification would look for a host name: only what the server does is of interest.
    nobody.alpn_protocols = vec![ALPN_MESH.to_vec()];
    let trusting = client(&ours, &node(&ours, 1), 2);
    let mut anonymous = Arc::unwrap_or_clone(trusting);
    anonymous.client_auth_cert_resolver = nobody.client_auth_cert_resolver;
    let anonymous = Arc::new(anonymous);

    let closed = server(&ours, &node(&ours, 2));
    refused(&shake(&anonymous, &closed), "CertificateRequired");
    let open = mesh_server_config(&node(&ours, 2), ours.trust(), Joining::Offered).unwrap();
    let done = shake(&anonymous, &open).must_succeed();
    assert_eq!(caller(&done), Err(NotAdmitted::NoCertificate));
}

#[test]
fn other_protocols_are_not_spoken() {
    let ours = fleet(FLEET);
    let closed = server(&ours, &node(&ours, 2));
    let mut config = Arc::unwrap_or_clone(client(&ours, &node(&ours, 1), 2));
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    refused(
        &shake(&Arc::new(config.clone()), &closed),
        "NoApplicationProtocol",
    );
    let open = mesh_server_config(&node(&ours, 2), ours.trust(), Joining::Offered).unwrap();
    let done = shake(&Arc::new(config.clone()), &open).must_succeed();
    assert_eq!(caller(&done), Err(NotAdmitted::JoinsTwice));
    // Over TCP, rustls lets a client through that offers none.
    config.alpn_protocols = vec![];
    let done = shake(&Arc::new(config), &open).must_succeed();
    assert_eq!(caller(&done), Err(NotAdmitted::Protocol));
}

#[test]
fn every_handshake_is_a_full_one() {
    let ours = fleet(FLEET);
    let client = client(&ours, &node(&ours, 1), 2);
    let server = server(&ours, &node(&ours, 2));
    for _ in 0..3 {
        let done = shake(&client, &server).must_succeed();
        assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(done.client.tls13_tickets_received(), 0);
    }
    assert_eq!(
        (server.send_tls13_tickets, server.max_early_data_size),
        (0, 0)
    );
    assert!(!client.enable_early_data);
}

#[test]
fn the_configurations_are_good_for_quic() {
    let ours = fleet(FLEET);
    let name = SERVER_NAME.try_into().unwrap();
    let client = client(&ours, &node(&ours, 1), 2);
    ClientConnection::new(client, Version::V1, name, vec![]).unwrap();
    let server = server(&ours, &node(&ours, 2));
    ServerConnection::new(server, Version::V1, vec![]).unwrap();
}

fn client(ours: &FleetAuthority, identity: &NodeIdentity, expected: u64) -> Arc<ClientConfig> {
    mesh_client_config(identity, ours.trust(), expected).unwrap()
}

fn server(ours: &FleetAuthority, identity: &NodeIdentity) -> Arc<ServerConfig> {
    mesh_server_config(identity, ours.trust(), Joining::NotOffered).unwrap()
}

pub(super) fn caller(done: &Handshake) -> Result<Caller, NotAdmitted> {
    admit(
        done.server.alpn_protocol(),
        done.server.peer_certificates(),
        FLEET,
    )
}

//! Names of members, requests for certificates, and what is issued.

use portcullis_certs::authority::Key;
use portcullis_certs::fleet::{
    FleetAuthority, FleetId, FleetName, FleetNameError, JoinRequest, MAX_REQUEST_BYTES,
    NodeIdentity, OperatorIdentity, OtherIdentity, RequestError, peer_of,
};
use portcullis_certs::{Validity, generate_key};
use proptest::prelude::*;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{FLEET, OTHER_FLEET, asked, dns, fleet, forged, node, operator, quarter, uri, week};
use crate::authority::openssl;
use crate::support::LONG;

#[test]
fn a_name_has_one_spelling() {
    let node = FleetName::node(FLEET, 12).unwrap();
    let text = "spiffe://abababababababababababababababab/node/12";
    assert_eq!(node.to_string(), text);
    assert_eq!(text.parse(), Ok(node));
    let ada = "spiffe://abababababababababababababababab/operator/ada-2";
    assert_eq!(ada.parse(), FleetName::operator(FLEET, "ada-2"));
    let longest = "a".repeat(63);
    FleetName::operator(FLEET, &longest).unwrap();
    let fleet = FLEET.to_string();
    let short = fleet.get(1..).unwrap();
    for wrong in [
        String::new(),
        "spiffe://".into(),
        format!("spiffe://{fleet}"),
        format!("spiffe://{fleet}/"),
        format!("spiffe://{fleet}/node"),
        format!("spiffe://{fleet}/node/"),
        format!("spiffe://{fleet}/node/0"),
        format!("spiffe://{fleet}/node/01"),
        format!("spiffe://{fleet}/node/+1"),
        format!("spiffe://{fleet}/node/-1"),
        format!("spiffe://{fleet}/node/1/"),
        format!("spiffe://{fleet}/node/1/2"),
        format!("spiffe://{fleet}/node/ 1"),
        format!("spiffe://{fleet}/node/1?a"),
        format!("spiffe://{fleet}/node/18446744073709551616"),
        format!("spiffe://{fleet}/node/٣"),
        format!("spiffe://{fleet}/Node/1"),
        format!("spiffe://{fleet}//node/1"),
        format!("spiffe://{fleet}/gateway/1"),
        format!("spiffe://{fleet}:443/node/1"),
        format!("SPIFFE://{fleet}/node/1"),
        format!("spiffe://{}/node/1", fleet.to_uppercase()),
        format!("spiffe://{}/node/1", short),
        format!("spiffe://{fleet}ab/node/1"),
        format!("spiffe://+{}/node/1", short),
        format!("spiffe://{fleet}/operator/"),
        format!("spiffe://{fleet}/operator/Ada"),
        format!("spiffe://{fleet}/operator/-ada"),
        format!("spiffe://{fleet}/operator/ada-"),
        format!("spiffe://{fleet}/operator/a.b"),
        format!("spiffe://{fleet}/operator/*"),
        format!("spiffe://{fleet}/operator/a%2fb"),
        format!("spiffe://{fleet}/operator/{longest}a"),
    ] {
        let parsed = wrong.parse::<FleetName>();
        assert_eq!(parsed, Err(FleetNameError::Malformed), "{wrong}");
    }
}

#[test]
fn a_certificate_names_one_member_and_nothing_else() {
    let ours = fleet(FLEET);
    let (one, two) = (
        format!("spiffe://{FLEET}/node/1"),
        format!("spiffe://{FLEET}/node/2"),
    );
    let named = |names: Vec<SanType>| {
        let issued = forged(&ours, names, &[ServerAuth, ClientAuth]);
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
        let identity = NodeIdentity::from_pem(&issued.chain_pem, &issued.key_pem);
        let name = FleetName::of(&leaf);
        assert_eq!(identity.is_ok(), name.is_ok());
        name
    };
    assert_eq!(named(vec![uri(&one)]), FleetName::node(FLEET, 1));
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    let mail = SanType::Rfc822Name("a@example.net".try_into().unwrap());
    for names in [
        vec![],
        vec![uri(&one), uri(&one)],
        vec![uri(&one), uri(&two)],
        vec![uri(&one), dns("node.example")],
        vec![dns("*.example"), uri(&one)],
        vec![uri(&one), address],
        vec![uri(&one), mail],
        vec![dns("node.example")],
    ] {
        let told = format!("{names:?}");
        assert_eq!(named(names), Err(FleetNameError::NotOneName), "{told}");
    }
    let workload = named(vec![uri("spiffe://acme/orders")]);
    assert_eq!(workload, Err(FleetNameError::Malformed));
}

#[test]
fn a_peer_is_of_this_fleet_or_nobody() {
    let ours = fleet(FLEET);
    let (key, request) = asked();
    let chain = ours.issue_node(5, request.key(), week()).unwrap();
    let identity = portcullis_certs::Identity::from_pem(&chain, &key.to_pem()).unwrap();
    let shown = identity.chain();
    assert_eq!(shown.len(), 2);
    let peer = peer_of(shown, FLEET).unwrap();
    assert_eq!(
        (peer.name.node_id(), peer.validity),
        (Some(5), identity.validity())
    );
    assert_eq!(peer.key, request.key().hash());
    assert_eq!(peer_of(shown, OTHER_FLEET), Err(FleetNameError::OtherFleet));
    assert_eq!(peer_of(&[], FLEET), Err(FleetNameError::NotACertificate));
    // The authority itself is nobody.
    assert_eq!(peer_of(&shown[1..], FLEET), Err(FleetNameError::NotOneName));
    let mut long = shown[0].to_vec();
    long.push(0);
    assert_eq!(
        peer_of(&[long.into()], FLEET),
        Err(FleetNameError::NotACertificate)
    );
}

#[test]
fn an_identity_is_of_its_kind() {
    let ours = fleet(FLEET);
    let (key, request) = asked();
    let as_node = ours.issue_node(1, request.key(), week()).unwrap();
    let as_operator = ours
        .issue_operator("ada", request.key(), quarter())
        .unwrap();
    let key = key.to_pem();
    assert_eq!(NodeIdentity::from_pem(&as_node, &key).unwrap().node(), 1);
    let ada = OperatorIdentity::from_pem(&as_operator, &key).unwrap();
    assert_eq!((ada.name(), ada.fleet()), ("ada", FLEET));
    let wrong = NodeIdentity::from_pem(&as_operator, &key).unwrap_err();
    assert_eq!(wrong, OtherIdentity::NotANode);
    let wrong = OperatorIdentity::from_pem(&as_node, &key).unwrap_err();
    assert_eq!(wrong, OtherIdentity::NotAnOperator);
    let other_key = generate_key().unwrap().to_pem();
    assert!(matches!(
        NodeIdentity::from_pem(&as_node, &other_key),
        Err(OtherIdentity::Unusable(_))
    ));
}

#[test]
fn openssl_sees_a_node_that_serves_and_calls_and_an_operator_who_calls() {
    let ours = fleet(FLEET);
    let (_, request) = asked();
    let node = ours.issue_node(12, request.key(), week()).unwrap();
    let text = openssl(&["x509", "-noout", "-text"], &node);
    for words in [
        "Issuer: CN = Portcullis fleet abababababababababababababababab",
        "Subject: CN = node 12",
        "URI:spiffe://abababababababababababababababab/node/12",
        "CA:FALSE",
        "TLS Web Server Authentication, TLS Web Client Authentication",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let ada = ours
        .issue_operator("ada", request.key(), quarter())
        .unwrap();
    let text = openssl(&["x509", "-noout", "-text"], &ada);
    assert!(text.contains("/operator/ada\n"), "{text}");
    assert!(text.contains("TLS Web Client Authentication"), "{text}");
    assert!(!text.contains("TLS Web Server"), "{text}");
}

#[test]
fn the_authority_issues_nothing_that_would_be_refused() {
    let ours = fleet(FLEET);
    let (_, request) = asked();
    let key = request.key();
    assert!(ours.issue_node(0, key, week()).is_err());
    assert!(ours.issue_operator("Ada", key, quarter()).is_err());
    assert!(ours.issue_operator("", key, quarter()).is_err());
    ours.issue_node(u64::MAX, key, week()).unwrap();
    ours.issue_operator(&"a".repeat(63), key, quarter())
        .unwrap();
    let longer = Validity {
        not_after: quarter().not_after + 86_400,
        ..quarter()
    };
    assert!(ours.issue_operator("ada", key, longer).is_err());
    let ends_with_it = Validity {
        not_before: LONG.not_after - 60,
        ..LONG
    };
    ours.issue_node(1, key, ends_with_it).unwrap();
    let outlives = Validity {
        not_after: LONG.not_after + 1,
        ..ends_with_it
    };
    assert!(ours.issue_node(1, key, outlives).is_err());
    let eight_days = Validity {
        not_after: week().not_after + 86_400,
        ..week()
    };
    assert!(ours.issue_node(1, key, eight_days).is_err());
}

#[test]
fn an_authority_read_again_is_the_same() {
    let ours = fleet(FLEET);
    let again = FleetAuthority::from_pem(ours.authority_pem(), ours.key_pem()).unwrap();
    assert_eq!(again.trust().fingerprint(), ours.trust().fingerprint());
    assert_eq!(again.authority_pem(), ours.authority_pem());
    // What it issues now is accepted by those who know it from before.
    let server = node(&again, 2);
    let client = node(&ours, 1);
    use portcullis_certs::fleet::{Joining, mesh_client_config, mesh_server_config};
    let server = mesh_server_config(&server, ours.trust(), Joining::NotOffered).unwrap();
    let client = mesh_client_config(&client, again.trust(), 2).unwrap();
    super::shake(&client, &server).must_succeed();

    let other = generate_key().unwrap().to_pem();
    assert!(FleetAuthority::from_pem(ours.authority_pem(), &other).is_err());
}

#[test]
fn a_request_is_believed_only_with_its_keys_signature() {
    let key = generate_key().unwrap();
    let good = JoinRequest::new(&key).unwrap();
    let read = JoinRequest::from_der(good.der()).unwrap();
    assert_eq!((read.key(), &read), (good.key(), &good));
    for at in 0..good.der().len() {
        let mut changed = good.der().to_vec();
        changed[at] ^= 1;
        JoinRequest::from_der(&changed).unwrap_err();
    }
    for end in 0..good.der().len() {
        JoinRequest::from_der(&good.der()[..end]).unwrap_err();
    }
    let mut long = good.der().to_vec();
    long.push(0);
    assert_eq!(JoinRequest::from_der(&long), Err(RequestError::Malformed));
    long.resize(MAX_REQUEST_BYTES + 1, 0);
    assert_eq!(JoinRequest::from_der(&long), Err(RequestError::TooLarge));
    // Another's key in our request: what a thief of a token could try.
    let other = JoinRequest::new(&generate_key().unwrap()).unwrap();
    let (ours, theirs) = (point(good.der()), point(other.der()));
    let mut stolen = good.der().to_vec();
    stolen[ours..ours + 65].copy_from_slice(&other.der()[theirs..theirs + 65]);
    assert_eq!(JoinRequest::from_der(&stolen), Err(RequestError::NotItsKey));
}

#[test]
fn a_request_for_another_kind_of_key_is_refused() {
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(kind).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let refusal = JoinRequest::from_der(request.der());
        assert_eq!(refusal, Err(RequestError::OtherKey));
    }
}

#[test]
fn names_that_a_request_asks_for_are_not_issued() {
    let ours = fleet(FLEET);
    let pair = KeyPair::generate().unwrap();
    let mut asks = CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
    asks.subject_alt_names
        .push(uri(&format!("spiffe://{FLEET}/node/1")));
    let request = asks.serialize_request(&pair).unwrap();
    let request = JoinRequest::from_der(request.der()).unwrap();
    let chain = ours.issue_node(9, request.key(), week()).unwrap();
    let identity = NodeIdentity::from_pem(&chain, &pair.serialize_pem()).unwrap();
    assert_eq!(identity.node(), 9);
}

#[test]
fn debug_shows_no_key() {
    let ours = fleet(FLEET);
    let told = format!("{ours:?} {:?} {:?}", node(&ours, 1), operator(&ours, "ada"));
    assert!(told.contains(&FLEET.to_string()));
    assert!(
        !told.contains("PRIVATE") && !told.contains("key_pem"),
        "{told}"
    );
    let key: Key = generate_key().unwrap();
    assert_eq!(format!("{key:?}"), "Key(..)");
}

/// Where the key's point begins: behind the head of a bit string of 66 bytes.
fn point(der: &[u8]) -> usize {
    let head = der.windows(4).position(|bytes| bytes == [3, 0x42, 0, 4]);
    head.unwrap() + 3
}

proptest! {
    #[test]
    fn names_come_back_as_they_were(fleet: [u8; 16], node in 1u64.., name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
        let fleet = FleetId(fleet);
        prop_assert_eq!(fleet.to_string().parse(), Ok(fleet));
        for name in [FleetName::node(fleet, node).unwrap(), FleetName::operator(fleet, &name).unwrap()] {
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn garbage_is_no_name_no_request_and_no_certificate(bytes: Vec<u8>, text: String) {
        prop_assert!(text.parse::<FleetName>().is_err());
        prop_assert!(JoinRequest::from_der(&bytes).is_err());
        prop_assert!(FleetName::of(&bytes).is_err());
    }
}

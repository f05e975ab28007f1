//! Handshakes between us and databases of all sorts.

use std::sync::Arc;

use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::{
    CertificateNames, ClientCertificates, Identity, Resumption, Validity, client_config,
    https_client_config, provider, server_config,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, Error, HandshakeKind, ServerConfig, version};

use crate::support::{Handshake, LONG, authority, client_leaf, identity, issue, server_leaf};

const NAME: &str = "db.acme.internal";

#[test]
fn a_database_is_verified_by_its_tenants_authority_and_its_name() {
    let ca = authority("acme databases");
    let named = issue(&ca, &server_leaf(&[NAME, "*.replica.acme.internal"]));
    for (name, accepted) in [
        (NAME, true),
        ("DB.acme.internal", true),
        ("r1.replica.acme.internal", true),
        ("acme.internal", false),
        ("x.db.acme.internal", false),
        ("a.b.replica.acme.internal", false),
        ("db.other.internal", false),
        // The common name counts for nothing.
        ("server", false),
        ("10.0.0.10", false),
    ] {
        let done = Handshake::run(trusting(&ca), serving(&named), name);
        assert_eq!(done.succeeded(), accepted, "{name}");
        if !accepted {
            let error = format!("{:?}", done.client_error);
            assert!(error.contains("NotValidForName"), "{name}: {error}");
        }
    }
    let numbered = LeafRequest {
        ips: vec![[10, 0, 0, 10].into()],
        ..server_leaf(&[])
    };
    let numbered = issue(&ca, &numbered);
    Handshake::run(trusting(&ca), serving(&numbered), "10.0.0.10").must_succeed();
    assert!(!Handshake::run(trusting(&ca), serving(&numbered), "10.0.0.11").succeeded());
}

#[test]
fn a_database_is_refused_unless_all_of_its_certificate_is_right() {
    let ca = authority("acme databases");
    let leaf = || server_leaf(&[NAME]);
    let expired = Validity {
        not_after: LONG.not_before + 1,
        ..LONG
    };
    let future = Validity {
        not_before: LONG.not_after - 1,
        ..LONG
    };
    for (what, shown, refused) in [
        (
            "expired",
            issue(
                &ca,
                &LeafRequest {
                    validity: expired,
                    ..leaf()
                },
            ),
            "Expired",
        ),
        (
            "not yet valid",
            issue(
                &ca,
                &LeafRequest {
                    validity: future,
                    ..leaf()
                },
            ),
            "NotValidYet",
        ),
        (
            "a client's",
            issue(
                &ca,
                &LeafRequest {
                    purpose: Purpose::Client,
                    ..leaf()
                },
            ),
            "InvalidPurpose",
        ),
        (
            "of another tenant's authority",
            issue(&authority("other databases"), &leaf()),
            "UnknownIssuer",
        ),
        (
            "of another with the same name",
            issue(&authority("acme databases"), &leaf()),
            "BadSignature",
        ),
        ("self-signed", self_signed(), "UnknownIssuer"),
    ] {
        let done = Handshake::run(trusting(&ca), serving(&shown), NAME);
        let error = format!("{:?}", done.client_error);
        assert!(
            error.contains("InvalidCertificate") && error.contains(refused),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_self_signed_database_can_be_pinned_and_then_only_it_is_accepted() {
    let (pinned, other) = (self_signed(), self_signed());
    let pem = pem_of(&pinned);
    let client = || client_config(&pem, None).unwrap();
    Handshake::run(client(), serving(&pinned), NAME).must_succeed();
    assert!(!Handshake::run(client(), serving(&other), NAME).succeeded());
}

#[test]
fn our_certificate_is_shown_to_a_database_that_asks() {
    let (databases, ours) = (authority("acme databases"), authority("ours"));
    let server = issue(&databases, &server_leaf(&[NAME]));
    let asking = server_config(
        &server,
        ClientCertificates::Asked {
            authorities_pem: ours.authority_pem(),
        },
        Resumption::Off,
    )
    .unwrap();
    let me = issue(&ours, &client_leaf("gateway"));
    let client = client_config(databases.authority_pem(), Some(&me)).unwrap();
    let done = Handshake::run(client, asking.clone(), NAME).must_succeed();
    let shown = &done.server.peer_certificates().unwrap()[0];
    assert!(CertificateNames::of(shown).unwrap().matches("cn:gateway"));

    let done = Handshake::run(trusting(&databases), asking, NAME).must_succeed();
    assert_eq!(done.server.peer_certificates(), None);
}

#[test]
fn no_application_protocol_and_no_early_data_is_offered_to_a_database() {
    let ca = authority("acme databases");
    let client = trusting(&ca);
    assert!(client.alpn_protocols.is_empty());
    assert!(!client.enable_early_data);
}

#[test]
fn sessions_resume_within_one_configuration_and_never_in_another() {
    let ca = authority("acme databases");
    let server = server_config(
        &issue(&ca, &server_leaf(&[NAME])),
        ClientCertificates::NotAsked,
        Resumption::On,
    )
    .unwrap();
    let client = trusting(&ca);
    for (client, kind) in [
        (client.clone(), HandshakeKind::Full),
        (client, HandshakeKind::Resumed),
        (trusting(&ca), HandshakeKind::Full),
    ] {
        let done = Handshake::run(client, server.clone(), NAME).must_succeed();
        assert_eq!(done.client.handshake_kind(), Some(kind));
        // The channel binding needs the certificate in a resumed session too.
        assert!(done.client.peer_certificates().is_some());
    }
}

#[test]
fn databases_with_tls_1_2_alone_are_served() {
    let ca = authority("acme databases");
    let leaf = ca
        .issue(
            &server_leaf(&[NAME]),
            &portcullis_certs::generate_key().unwrap(),
        )
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            identity(&leaf).chain().to_vec(),
            PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let done = Handshake::run(trusting(&ca), Arc::new(config), NAME).must_succeed();
    assert_eq!(
        done.client.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_2)
    );
}

#[test]
fn authorities_that_cannot_be_read_are_refused_whole() {
    let good = authority("a").authority_pem().to_owned();
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (pem, problem) in [
        (String::new(), "no PEM section"),
        ("not PEM".into(), "no PEM section"),
        (format!("{good}{broken}"), "certificate 2"),
        (good.repeat(65), "more than 64"),
    ] {
        let error = client_config(&pem, None).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert!(client_config(&good.repeat(64), None).is_ok());
}

#[test]
fn an_https_server_is_asked_for_http_1_1_and_verified_by_what_is_usable_of_the_bundle() {
    let ca = authority("public");
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let client = https_client_config(&format!("{broken}{}", ca.authority_pem())).unwrap();
    assert_eq!(client.alpn_protocols, [b"http/1.1".to_vec()]);

    let serving_https = |identity: &Identity| {
        let mut config = Arc::unwrap_or_clone(serving(identity));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    };
    let right = issue(&ca, &server_leaf(&["idp.example"]));
    let done = Handshake::run(client.clone(), serving_https(&right), "idp.example").must_succeed();
    assert_eq!(done.client.alpn_protocol(), Some(&b"http/1.1"[..]));

    let other = issue(&authority("other"), &server_leaf(&["idp.example"]));
    assert!(!Handshake::run(client.clone(), serving_https(&other), "idp.example").succeeded());

    // A PostgreSQL listener is not taken for an https server.
    let done = Handshake::run(client, serving(&right), "idp.example");
    assert_eq!(
        done.client_error,
        Some(Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
        ))
    );
    assert!(https_client_config(broken).is_err());
    assert!(https_client_config("").is_err());
}

fn trusting(ca: &Authority) -> Arc<rustls::ClientConfig> {
    client_config(ca.authority_pem(), None).unwrap()
}

fn serving(identity: &Identity) -> Arc<ServerConfig> {
    server_config(identity, ClientCertificates::NotAsked, Resumption::Off).unwrap()
}

fn self_signed() -> Identity {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![NAME.into()]).unwrap();
    let leaf = leaf.self_signed(&key).unwrap();
    Identity::from_pem(&leaf.pem(), &key.serialize_pem()).unwrap()
}

fn pem_of(identity: &Identity) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&identity.chain()[0]);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

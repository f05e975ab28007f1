//! Handshakes between clients of all sorts and what we serve.

use std::sync::Arc;

use crate::support::{
    Handshake, LONG, authority, client_leaf, forge, identity, issue, server_leaf,
};
use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::binding::tls_server_end_point;
use portcullis_certs::{
    ALPN_POSTGRESQL, CertificateNames, ClientCertificates, Identity, Resumption, ServerIdentities,
    TlsError, Validity, check_client_authorities, client_config, generate_key, provider,
    server_config,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, ServerConnection,
    SupportedProtocolVersion, version,
};

const NAME: &str = "orders.db.example";

#[test]
fn the_certificate_served_is_the_one_whose_hash_is_bound() {
    let world = World::new();
    for protocol in [&version::TLS12, &version::TLS13] {
        let done = Handshake::run(world.client_of(protocol), world.plain(), NAME).must_succeed();
        let served = &done.client.peer_certificates().unwrap()[0];
        assert_eq!(
            tls_server_end_point(served).ok().as_deref(),
            world.identity.end_point_hash()
        );
        assert_eq!(done.server.protocol_version(), Some(protocol.version));
        assert_eq!(done.server.server_name(), Some(NAME));
    }
}

#[test]
fn postgresql_is_the_only_application_protocol() {
    let world = World::new();
    type Outcome<'a> = Result<Option<&'a [u8]>, ()>;
    let cases: [(&[&[u8]], Outcome<'_>); 7] = [
        (&[], Ok(None)),
        (&[ALPN_POSTGRESQL], Ok(Some(ALPN_POSTGRESQL))),
        (&[b"h2", ALPN_POSTGRESQL], Ok(Some(ALPN_POSTGRESQL))),
        (&[b"h2"], Err(())),
        (&[b"http/1.1", b"h2"], Err(())),
        (&[b"PostgreSQL"], Err(())),
        (&[b"postgresql2"], Err(())),
    ];
    for (offered, outcome) in cases {
        for protocol in [&version::TLS12, &version::TLS13] {
            let mut client = Arc::unwrap_or_clone(world.client_of(protocol));
            client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            let done = Handshake::run(Arc::new(client), world.plain(), NAME);
            match outcome {
                Ok(chosen) => {
                    let done = done.must_succeed();
                    assert_eq!(done.server.alpn_protocol(), chosen, "{offered:?}");
                }
                Err(()) => {
                    assert_eq!(done.server_error, Some(Error::NoApplicationProtocol));
                    assert_eq!(
                        done.client_error,
                        Some(Error::AlertReceived(
                            AlertDescription::NoApplicationProtocol
                        ))
                    );
                }
            }
        }
    }
}

#[test]
fn old_protocols_and_suites_are_refused_with_an_alert() {
    let world = World::new();
    // (version, suites) → alert (RFC 5246 §7.2.2)
    for (hello, alert) in [
        (client_hello([3, 1], &[0xc0, 0x2f]), 70),
        (client_hello([3, 2], &[0xc0, 0x2f]), 70),
        // CBC, RSA key exchange, 3DES, no encryption
        (client_hello([3, 3], &[0xc0, 0x13, 0xc0, 0x09]), 40),
        (client_hello([3, 3], &[0x00, 0x9c, 0x00, 0x2f]), 40),
        (client_hello([3, 3], &[0x00, 0x0a]), 40),
        (client_hello([3, 3], &[0x00, 0x00]), 40),
    ] {
        let mut server = ServerConnection::new(world.plain()).unwrap();
        server.read_tls(&mut hello.as_slice()).unwrap();
        assert!(server.process_new_packets().is_err());
        let mut reply = vec![];
        server.write_tls(&mut reply).unwrap();
        assert_eq!(
            (reply[0], reply[5], reply[6]),
            (21, 2, alert),
            "{hello:02x?}"
        );
    }
    // The same hello with one suite of ours is answered, so that it was the suite.
    let mut server = ServerConnection::new(world.plain()).unwrap();
    let hello = client_hello([3, 3], &[0xc0, 0x13, 0xc0, 0x2b]);
    server.read_tls(&mut hello.as_slice()).unwrap();
    server.process_new_packets().unwrap();
}

#[test]
fn early_data_and_unasked_tickets_are_not_offered() {
    let world = World::new();
    assert_eq!(world.plain().max_early_data_size, 0);
    assert_eq!(world.resuming().max_early_data_size, 0);
    assert_eq!(world.plain().send_tls13_tickets, 0);
    assert_eq!(world.asking().send_tls13_tickets, 0);
}

#[test]
fn sessions_resume_only_where_that_is_on_and_no_client_certificate_is_asked_for() {
    let world = World::new();
    let pem = world.clients.authority_pem();
    let asked = ClientCertificates::Asked {
        authorities_pem: pem,
    };
    for (clients, resumption, second) in [
        (
            ClientCertificates::NotAsked,
            Resumption::Off,
            HandshakeKind::Full,
        ),
        (
            ClientCertificates::NotAsked,
            Resumption::On,
            HandshakeKind::Resumed,
        ),
        (asked, Resumption::Off, HandshakeKind::Full),
        (asked, Resumption::On, HandshakeKind::Full),
    ] {
        for protocol in [&version::TLS12, &version::TLS13] {
            let server = server_config(&world.identity, clients, resumption).unwrap();
            let client = world.client_of(protocol);
            let first = Handshake::run(client.clone(), server.clone(), NAME).must_succeed();
            assert_eq!(first.server.handshake_kind(), Some(HandshakeKind::Full));
            let again = Handshake::run(client, server, NAME).must_succeed();
            assert_eq!(
                again.server.handshake_kind(),
                Some(second),
                "{clients:?} {resumption:?}"
            );
        }
    }
}

#[test]
fn a_client_may_come_without_a_certificate_and_the_server_can_tell() {
    let world = World::new();
    let done = Handshake::run(world.client(), world.asking(), NAME).must_succeed();
    assert_eq!(done.server.peer_certificates(), None);
}

#[test]
fn a_client_with_a_certificate_is_known_by_its_names() {
    let world = World::new();
    let leaf = LeafRequest {
        uris: vec!["spiffe://acme/orders".into()],
        ..client_leaf("orders")
    };
    let done = world.present(&issue(&world.clients, &leaf)).must_succeed();
    let names = CertificateNames::of(&done.server.peer_certificates().unwrap()[0]).unwrap();
    assert!(names.matches("uri:spiffe://acme/orders"));
}

#[test]
fn a_client_certificate_is_refused_unless_all_of_it_is_right() {
    let world = World::new();
    let expired = Validity {
        not_after: LONG.not_before + 1,
        ..LONG
    };
    let future = Validity {
        not_before: LONG.not_after - 1,
        ..LONG
    };
    let mine = |leaf: LeafRequest| issue(&world.clients, &leaf);
    let same_subject_other_key = authority("clients");
    let good = mine(client_leaf("app"));
    for (what, shown, refused) in [
        (
            "expired",
            mine(LeafRequest {
                validity: expired,
                ..client_leaf("app")
            }),
            "Expired",
        ),
        (
            "not yet valid",
            mine(LeafRequest {
                validity: future,
                ..client_leaf("app")
            }),
            "NotValidYet",
        ),
        (
            "a server's",
            mine(LeafRequest {
                purpose: Purpose::Server,
                ..client_leaf("app")
            }),
            "InvalidPurpose",
        ),
        (
            "an authority",
            world.authority_as_leaf(),
            "CaUsedAsEndEntity",
        ),
        (
            "issued by a leaf",
            world.issued_by_a_leaf(),
            "EndEntityUsedAsCa",
        ),
        (
            "of another authority",
            issue(&authority("others"), &client_leaf("app")),
            "UnknownIssuer",
        ),
        (
            "of another with the same name",
            issue(&same_subject_other_key, &client_leaf("app")),
            "BadSignature",
        ),
        ("self-signed", self_signed(), "UnknownIssuer"),
    ] {
        let done = world.present(&shown);
        let error = format!("{:?}", done.server_error);
        assert!(
            error.contains("InvalidCertificate") && error.contains(refused),
            "{what}: {error}"
        );
        // It is told so by an alert, and not only cut off.
        assert!(
            matches!(done.client_error, Some(Error::AlertReceived(_))),
            "{what}"
        );
    }
    world.present(&good).must_succeed();
}

#[test]
fn authorities_for_clients_must_be_authorities() {
    let world = World::new();
    let leaf = world
        .clients
        .issue(&client_leaf("app"), &generate_key().unwrap())
        .unwrap();
    let both = format!("{}{}", world.clients.authority_pem(), leaf.chain_pem);
    let refused = Err(TlsError::NotAnAuthority {
        position: 2,
        subject: "CN=app".into(),
    });
    assert_eq!(check_client_authorities(&both), refused);
    let clients = ClientCertificates::Asked {
        authorities_pem: &both,
    };
    let config = server_config(&world.identity, clients, Resumption::Off);
    assert_eq!(config.map(|_| ()), refused);
    for (pem, problem) in [
        ("", "no PEM section"),
        (leaf.key_pem.as_str(), "unexpected kind"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1",
        ),
    ] {
        let clients = ClientCertificates::Asked {
            authorities_pem: pem,
        };
        let error = server_config(&world.identity, clients, Resumption::Off).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(check_client_authorities(pem), Err(error));
    }
}

#[test]
fn the_names_of_a_tenants_authorities_are_not_told() {
    #[derive(Debug)]
    struct Hints(std::sync::Mutex<Option<usize>>);
    impl rustls::client::ResolvesClientCert for Hints {
        fn resolve(
            &self,
            hints: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            *self.0.lock().unwrap() = Some(hints.len());
            None
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let world = World::new();
    for protocol in [&version::TLS12, &version::TLS13] {
        let hints = Arc::new(Hints(None.into()));
        let mut client = Arc::unwrap_or_clone(world.client_of(protocol));
        client.client_auth_cert_resolver = hints.clone();
        Handshake::run(Arc::new(client), world.asking(), NAME).must_succeed();
        assert_eq!(*hints.0.lock().unwrap(), Some(0));
    }
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let ca = authority("servers");
    let default = issue(&ca, &server_leaf(&["default.example"]));
    let exact = issue(&ca, &server_leaf(&["a.db.example", "Mixed.Example"]));
    let wild = issue(&ca, &server_leaf(&["*.db.example"]));
    let all = ServerIdentities::new(default.clone(), vec![exact.clone(), wild.clone()]).unwrap();
    for (name, expected) in [
        (None, &default),
        (Some("default.example"), &default),
        (Some("a.db.example"), &exact),
        (Some("A.DB.EXAMPLE"), &exact),
        (Some("mixed.example"), &exact),
        (Some("b.db.example"), &wild),
        (Some("B.db.example"), &wild),
        (Some("x.b.db.example"), &default),
        (Some("db.example"), &default),
        (Some(".db.example"), &default),
        (Some("*.db.example"), &wild),
        (Some("a.db.example."), &default),
        (Some("other.example"), &default),
        (Some(""), &default),
    ] {
        assert_eq!(
            all.choose(name).fingerprint(),
            expected.fingerprint(),
            "{name:?}"
        );
    }
    assert_eq!(all.all().len(), 3);
}

#[test]
fn a_name_in_two_certificates_is_refused() {
    let ca = authority("servers");
    for name in ["a.example", "*.example"] {
        let first = issue(&ca, &server_leaf(&[name, "x.test"]));
        let second = issue(&ca, &server_leaf(&["y.test", name]));
        let error = ServerIdentities::new(first, vec![second]).unwrap_err();
        assert_eq!(error.name, name);
    }
    // Twice in one certificate is odd and harmless; a wildcard beside a name it covers is usual.
    let odd = issue(&ca, &server_leaf(&["a.test", "a.test"]));
    let wild = issue(&ca, &server_leaf(&["*.test"]));
    assert!(ServerIdentities::new(odd, vec![wild]).is_ok());
}

struct World {
    servers: Authority,
    clients: Authority,
    clients_key: String,
    identity: Identity,
}

impl World {
    fn new() -> Self {
        let servers = authority("servers");
        let identity = issue(&servers, &server_leaf(&[NAME]));
        let key = generate_key().unwrap();
        let clients_key = key.to_pem();
        let clients = Authority::new("clients", key, LONG).unwrap();
        Self {
            servers,
            clients,
            clients_key,
            identity,
        }
    }

    fn plain(&self) -> Arc<rustls::ServerConfig> {
        server_config(
            &self.identity,
            ClientCertificates::NotAsked,
            Resumption::Off,
        )
        .unwrap()
    }

    fn resuming(&self) -> Arc<rustls::ServerConfig> {
        server_config(&self.identity, ClientCertificates::NotAsked, Resumption::On).unwrap()
    }

    fn asking(&self) -> Arc<rustls::ServerConfig> {
        let authorities_pem = self.clients.authority_pem();
        let clients = ClientCertificates::Asked { authorities_pem };
        server_config(&self.identity, clients, Resumption::Off).unwrap()
    }

    fn client(&self) -> Arc<ClientConfig> {
        client_config(self.servers.authority_pem(), None).unwrap()
    }

    fn client_of(&self, protocol: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.servers.authority_pem().as_bytes();
        roots
            .add(rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[protocol])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn present(&self, shown: &Identity) -> Handshake {
        let client = client_config(self.servers.authority_pem(), Some(shown)).unwrap();
        Handshake::run(client, self.asking(), NAME)
    }

    /// Signed by the clients' authority itself, and an authority.
    fn authority_as_leaf(&self) -> Identity {
        identity(&forge("clients", &self.clients_key, |leaf| {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }))
    }

    /// A leaf of the clients' authority signs another, and its holder shows both.
    fn issued_by_a_leaf(&self) -> Identity {
        let key = generate_key().unwrap();
        let leaf = self.clients.issue(&client_leaf("app"), &key).unwrap();
        let mut forged = forge("app", &leaf.key_pem, |_| {});
        forged.chain_pem.push_str(&leaf.chain_pem);
        identity(&forged)
    }
}

fn self_signed() -> Identity {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["app.example".into()]).unwrap();
    let leaf = leaf.self_signed(&key).unwrap();
    Identity::from_pem(&leaf.pem(), &key.serialize_pem()).unwrap()
}

/// A ClientHello as an old client would send it (RFC 5246 §7.4.1.2).
fn client_hello(version: [u8; 2], suites: &[u8]) -> Vec<u8> {
    let mut extensions = vec![];
    // supported_groups: secp256r1, x25519
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 23, 0, 29]);
    // ec_point_formats: uncompressed
    extensions.extend([0, 11, 0, 2, 1, 0]);
    // signature_algorithms: ecdsa_secp256r1_sha256, rsa_pkcs1_sha256
    extensions.extend([0, 13, 0, 6, 0, 4, 4, 3, 4, 1]);
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend((suites.len() as u16).to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

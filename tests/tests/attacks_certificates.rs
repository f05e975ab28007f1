//! Attacks with client certificates: each thing that can be wrong with one, made by an authority
//! that signs anything and by OpenSSL.

mod scene;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::{
    Credential, Dial, Ending, EndpointText, OpenSsl, Postgres, RawClient, Scratch, Version,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use scene::{
    NAME, acme, certificate_mode, event, event_of, gateway, here, orders, server, start_and_end,
};

#[test]
fn the_same_rules_hold_for_a_name_in_other_letters() {
    let people = Forger::new("Acme clients");
    let mode = certificate_mode(&people.pem, &[("cn:batch", "batch")]);
    let endpoint = EndpointText::new("orders", NAME).allow("127.0.0.0/8", "public");
    let gateway = gateway(&acme(server(Version::V15), endpoint.authentication(&mode)));
    for name in [NAME, "ACME-ORDERS.DB.TEST"] {
        // Asked for a certificate, and turned away without one.
        let told = OpenSsl::new(&gateway, &["-servername", name]).send(&start_and_end("batch"));
        assert_eq!(
            told.found(&gateway),
            [(
                "authentication.failed".to_owned(),
                "certificate_absent".to_owned()
            )],
            "{name}: {}",
            told.heard
        );
        let (scratch, batch) = (Scratch::new("openssl"), people.leaf(|_| ()));
        let (chain, key) = batch.write(&scratch, "batch");
        let (chain, key) = (chain.display().to_string(), key.display().to_string());
        let shown = ["-servername", name, "-cert", &chain, "-key", &key];
        let told = OpenSsl::new(&gateway, &shown).send(&start_and_end("batch"));
        assert!(
            told.heard.contains("server_version"),
            "{name}: {}",
            told.heard
        );
    }
}

#[test]
fn a_client_certificate_that_is_not_all_right_ends_the_handshake_or_maps_to_nobody() {
    let server = &scene::new_server(Version::V15);
    let people = Forger::new("Acme clients");
    let map = [("uri:spiffe://acme.test/batch", "batch")];
    let mode = certificate_mode(&people.pem, &map);
    let gateway = gateway(&acme(server, orders().authentication(&mode)));
    let before = sessions(server, "batch");
    let revoke = ["revoke", "5e:ed", "--tenant", "acme", "--why", "lost"];
    let _ = gateway.ask(&revoke);
    let uri = |uri: &str| SanType::URI(uri.to_owned().try_into().unwrap());
    let right = uri("spiffe://acme.test/batch");
    let with = |names: &[SanType]| {
        let names = names.to_vec();
        people.leaf(|leaf| leaf.subject_alt_names = names)
    };
    let right_and = |change: fn(&mut CertificateParams)| {
        people.leaf(|leaf| {
            leaf.subject_alt_names = vec![right.clone()];
            change(leaf);
        })
    };
    let (leaf_of_theirs, its_key) = people.sign(KeyPair::generate().unwrap(), |leaf| {
        leaf.subject_alt_names = vec![right.clone()];
    });
    let by_a_leaf = Forger::of(leaf_of_theirs, its_key).leaf_named(&right);
    let now = std::time::SystemTime::now();
    let hour = Duration::from_secs(3600);
    let mut host = 0;
    for (what, credential, code) in [
        (
            "it ended an hour ago",
            people.leaf(|leaf| {
                leaf.subject_alt_names = vec![right.clone()];
                leaf.not_after = (now - hour).into();
            }),
            "tls",
        ),
        (
            "it begins in an hour",
            people.leaf(|leaf| {
                leaf.subject_alt_names = vec![right.clone()];
                leaf.not_before = (now + hour).into();
            }),
            "tls",
        ),
        (
            "a server's",
            right_and(|leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "tls",
        ),
        (
            "for signing code",
            right_and(|leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
            "tls",
        ),
        (
            "an authority's own",
            right_and(|leaf| {
                leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            "tls",
        ),
        ("issued by a leaf", by_a_leaf, "tls"),
        (
            "by another authority",
            Forger::new("Globex clients").leaf_named(&right),
            "tls",
        ),
        (
            "by another of the same name",
            Forger::new("Acme clients").leaf_named(&right),
            "tls",
        ),
        (
            "the role's name as common name and no other",
            people.leaf(|_| ()),
            "certificate_not_mapped",
        ),
        (
            "another tenant's name",
            with(&[uri("spiffe://globex.test/batch")]),
            "certificate_not_mapped",
        ),
        (
            "another environment's name",
            with(&[uri("spiffe://acme.test/staging/batch")]),
            "certificate_not_mapped",
        ),
        (
            "the right name as a DNS name",
            with(&[SanType::DnsName("acme.test".try_into().unwrap())]),
            "certificate_not_mapped",
        ),
        (
            "two identities",
            with(&[uri("spiffe://globex.test/batch"), right.clone()]),
            "certificate_names",
        ),
        (
            "revoked",
            right_and(|leaf| leaf.serial_number = Some(vec![0x5e, 0xed].into())),
            "certificate_revoked",
        ),
    ] {
        for dial in [gateway.dial(NAME), gateway.dial(NAME).tls12_only()] {
            // Each from an address of its own: who fails again and again has to wait.
            host += 1;
            let from = SocketAddr::new(here(6, host), portcullis_tests::ports::free());
            let dial = dial.credential(&credential).from_port(from);
            match as_batch(&dial).map(|mut client| client.read_to_end()) {
                Ok((told, _)) if code != "tls" => {
                    assert_eq!(told.len(), 1, "{what}: {told:?}");
                    assert_eq!(told[0].sqlstate(), "28P01", "{what}");
                    let event = event_of(&gateway, "authentication.failed", &told[0]);
                    assert_eq!(event["code"], code, "{what}: {event}");
                }
                // With TLS 1.3 the client is through before the server has looked.
                Ok((told, ending)) => {
                    assert_eq!(told, [], "{what}");
                    assert_ne!(ending, Ending::Silent, "{what}");
                }
                Err(error) => assert_eq!(code, "tls", "{what}: {error}"),
            }
            if code == "tls" {
                event(&gateway, "protocol.violation", code, from);
            }
        }
    }
    // With the right one it is let in, so the table says something.
    let mut client = as_batch(
        &gateway
            .dial(NAME)
            .credential(&with(std::slice::from_ref(&right))),
    )
    .unwrap();
    client.read_until(b'Z').unwrap();
    assert_eq!(sessions(server, "batch"), before + 1);
}

#[test]
fn a_client_certificate_with_a_key_that_can_be_guessed_ends_the_handshake() {
    let scratch = Scratch::new("weak-key");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command
            .args(arguments.split(' '))
            .current_dir(scratch.path());
        let _ = portcullis_tests::process::run(&command, Duration::from_secs(60)).ok();
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=People -days 2",
    );
    scratch.write(
        "leaf.cnf",
        "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n",
    );
    let issue = |bits: u32| {
        openssl(&format!(
            "req -newkey rsa:{bits} -nodes -keyout {bits}.key -out {bits}.csr -subj /CN=batch"
        ));
        openssl(&format!(
            "x509 -req -in {bits}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {bits}.pem -extfile leaf.cnf"
        ));
    };
    let authority = std::fs::read_to_string(path("ca.pem")).unwrap();
    let mode = certificate_mode(&authority, &[("cn:batch", "batch")]);
    let gateway = gateway(&acme(server(Version::V15), orders().authentication(&mode)));
    for (bits, version, is_in) in [
        (2048, "-tls1_3", true),
        (1024, "-tls1_3", false),
        (1024, "-tls1_2", false),
    ] {
        issue(bits);
        let (chain, key) = (path(&format!("{bits}.pem")), path(&format!("{bits}.key")));
        let shown = ["-servername", NAME, "-cert", &chain, "-key", &key, version];
        let told = OpenSsl::new(&gateway, &shown).send(&start_and_end("batch"));
        assert_eq!(
            told.heard.contains("server_version"),
            is_in,
            "{bits}: {}",
            told.heard
        );
        if !is_in {
            assert_eq!(
                told.found(&gateway),
                [("protocol.violation".to_owned(), "tls".to_owned())],
                "{bits}"
            );
        }
    }
}

fn as_batch(dial: &Dial) -> std::io::Result<RawClient> {
    dial.start(&[("user", "batch"), ("database", "postgres")])
}

/// How many sessions of this role the server has begun.
fn sessions(server: &Postgres, role: &str) -> usize {
    server
        .log()
        .matches(&format!("connection authorized: user={role} "))
        .count()
}

/// An authority that signs anything.
struct Forger {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Forger {
    fn new(name: &str) -> Self {
        let mut own = CertificateParams::default();
        own.distinguished_name.push(DnType::CommonName, name);
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = own.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(own, key),
            pem,
        }
    }

    /// Who holds this certificate and signs with it, though it is none that may.
    fn of(own: (CertificateParams, String), key: KeyPair) -> Self {
        let (own, pem) = own;
        Self {
            issuer: Issuer::new(own, key),
            pem,
        }
    }

    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Credential {
        let ((_, pem), key) = self.sign(KeyPair::generate().unwrap(), change);
        let chain_pem = format!("{pem}{}", self.intermediate());
        Credential {
            chain_pem,
            key_pem: key.serialize_pem(),
        }
    }

    fn leaf_named(&self, name: &SanType) -> Credential {
        self.leaf(|leaf| leaf.subject_alt_names = vec![name.clone()])
    }

    /// Its own certificate, where the other side does not have it.
    fn intermediate(&self) -> &str {
        &self.pem
    }

    /// A client's certificate called `batch`, changed.
    fn sign(
        &self,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ((CertificateParams, String), KeyPair) {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, "batch");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut leaf);
        let pem = leaf.signed_by(&key, &self.issuer).unwrap().pem();
        ((leaf, pem), key)
    }
}

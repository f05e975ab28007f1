//! Attacks on TLS towards clients: names that are read in two ways, certificates that are not what
//! they seem, handshakes that hide something. What cannot be made with a TLS library of today is
//! made with OpenSSL's.

mod scene;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portcullis_certs::{ServerNameIndication, probe_client_config};
use portcullis_tests::client::{SSL_REQUEST, V3_0, startup, tagged};
use portcullis_tests::{
    Credential, Dial, Ending, EndpointText, Gateway, Postgres, RawClient, Scratch, Version, wait,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::ClientConnection;
use scene::{
    NAME, SOON, Trap, acme, certificate_mode, event, event_of, gateway, here, orders, server,
};

#[test]
fn a_server_name_is_one_name_in_all_its_spellings_or_none() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed_elsewhere()));
    // Denied by its own rules, and so found; or a name that nobody has.
    for (name, code) in [
        (NAME, "address_not_listed"),
        ("ACME-ORDERS.DB.TEST", "address_not_listed"),
        ("Acme-Orders.db.test", "address_not_listed"),
        // The root's own dot says nothing.
        ("acme-orders.db.test.", "address_not_listed"),
        (".acme-orders.db.test", "unknown_endpoint"),
        ("acme-orders..db.test", "unknown_endpoint"),
        ("*.db.test", "unknown_endpoint"),
        ("acme-orders.db.test:5433", "unknown_endpoint"),
        (" acme-orders.db.test", "unknown_endpoint"),
        ("acme-orders.db.test\t", "unknown_endpoint"),
        ("acme_orders.db.test", "unknown_endpoint"),
        ("\u{430}cme-orders.db.test", "unknown_endpoint"),
        ("xn--cme-orders-7fd.db.test", "unknown_endpoint"),
        ("127.0.0.1", "unknown_endpoint"),
        ("::1", "unknown_endpoint"),
        ("[::1]", "unknown_endpoint"),
        ("2130706433", "unknown_endpoint"),
        (&format!("{}.db.test", "a".repeat(64)), "unknown_endpoint"),
        (&format!("{}.db.test", "a.".repeat(120)), "unknown_endpoint"),
        ("acme-orders", "unknown_endpoint"),
        ("orders.acme-orders.db.test", "unknown_endpoint"),
    ] {
        let told = OpenSsl::new(&gateway, &["-servername", name]).send(&start_and_end());
        let found = told.found(&gateway);
        assert!(
            found == [("connection.denied".to_owned(), code.to_owned())]
                || (code == "unknown_endpoint" && found == [violation("tls")]),
            "{name:?}: {found:?}, {}",
            told.heard
        );
        assert!(!told.heard.contains("SCRAM"), "{name:?}");
    }
    trap.assert_untouched();
}

#[test]
fn a_server_name_that_is_malformed_in_the_hello_itself_ends_the_handshake() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let list = |names: &[(u8, &[u8])]| {
        let names: Vec<u8> = names
            .iter()
            .flat_map(|(kind, name)| [&[*kind], of_two_bytes(name).as_slice()].concat())
            .collect();
        of_two_bytes(&names)
    };
    let good = (0, NAME.as_bytes());
    let long = [b'a'; 256];
    for (what, extension) in [
        ("no name in the list", list(&[])),
        ("an empty name", list(&[(0, b"")])),
        (
            "a NUL within",
            list(&[(0, b"acme-orders.db.test\0.evil.test")]),
        ),
        ("two names", list(&[good, (0, b"globex.db.test")])),
        ("a name of 256 bytes without a dot", list(&[(0, &long)])),
        ("not UTF-8", list(&[(0, b"acme\xff.db.test")])),
        (
            "a list longer than the extension",
            vec![0xff, 0xff, 0, 0, 1, b'a'],
        ),
        ("nothing", vec![]),
    ] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&hello(&extension)).unwrap();
        let answer = answer(&mut client);
        // A hello that is taken for one without a name leads nowhere: that much is allowed.
        if answer.first() != Some(&0x16) {
            assert!(answer.is_empty() || answer[0] == 0x15, "{what}: {answer:?}");
            event(&gateway, "protocol.violation", "tls", from);
        }
    }
    trap.assert_untouched();
    assert!(!gateway.log_text().contains("panicked"));
}

#[test]
fn the_same_rules_hold_for_a_name_in_other_letters() {
    let people = Forger::new("Acme clients");
    let mode = certificate_mode(&people.pem, &[("cn:batch", "batch")]);
    let endpoint = EndpointText::new("orders", NAME).allow("127.0.0.0/8", "public");
    let gateway = gateway(&acme(server(Version::V15), endpoint.authentication(&mode)));
    for name in [NAME, "ACME-ORDERS.DB.TEST"] {
        // Asked for a certificate, and turned away without one.
        let told = OpenSsl::new(&gateway, &["-servername", name]).send(&start_and_end());
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
        let told = OpenSsl::new(&gateway, &shown).send(&start_and_end());
        assert!(
            told.heard.contains("server_version"),
            "{name}: {}",
            told.heard
        );
    }
}

#[test]
fn a_client_certificate_that_is_not_all_right_ends_the_handshake_or_maps_to_nobody() {
    let server = server(Version::V15);
    let people = Forger::new("Acme clients");
    let map = [("uri:spiffe://acme.test/batch", "batch")];
    let mode = certificate_mode(&people.pem, &map);
    let gateway = gateway(&acme(server, orders().authentication(&mode)));
    let before = sessions(server, "batch");
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
    ] {
        for dial in [gateway.dial(NAME), gateway.dial(NAME).tls12_only()] {
            let from = SocketAddr::new(here(6, 2), portcullis_tests::ports::free());
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
    let mut client = as_batch(&gateway.dial(NAME).credential(&with(&[right.clone()]))).unwrap();
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
        let told = OpenSsl::new(&gateway, &shown).send(&start_and_end());
        assert_eq!(
            told.heard.contains("server_version"),
            is_in,
            "{bits}: {}",
            told.heard
        );
        if !is_in {
            assert_eq!(told.found(&gateway), [violation("tls")], "{bits}");
        }
    }
}

#[test]
fn a_session_is_not_negotiated_anew_in_its_middle() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    // A line that begins with R makes OpenSSL ask for it.
    let arguments = ["-servername", NAME, "-tls1_2", "-legacy_renegotiation"];
    let told = OpenSsl::loud(&gateway, &arguments).send(b"R\n");
    // It asks, nobody agrees, and it has no place any longer than one that says nothing.
    assert!(told.heard.contains("RENEGOTIATING"), "{}", told.heard);
    assert_eq!(
        told.heard.matches("verify return").count(),
        3,
        "{}",
        told.heard
    );
    let kinds: Vec<String> = told.found(&gateway).into_iter().map(|it| it.0).collect();
    assert_eq!(kinds, ["protocol.violation"]);
    trap.assert_untouched();
}

#[test]
fn data_in_clear_behind_the_client_hello_is_never_read() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    let configuration =
        probe_client_config(&gateway.authorities_pem(), &[], ServerNameIndication::Sent).unwrap();
    let query = tagged(b'Q', b"select 1\0");
    let data = [&start_up()[..], &query].concat();
    // As application data, as a second handshake message, and as what could be early data.
    for (what, record) in [("data", 0x17), ("handshake", 0x16), ("heartbeat", 0x18)] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&SSL_REQUEST).unwrap();
        assert_eq!(client.read_exactly(1).unwrap(), b"S");
        let name = NAME.to_owned().try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&configuration), name).unwrap();
        let mut flight = Vec::new();
        tls.write_tls(&mut flight).unwrap();
        flight.extend([record, 3, 3]);
        flight.extend(of_two_bytes(&data));
        client.send(&flight).unwrap();
        // Its own part; then something that makes it look at what it has.
        assert_eq!(client.read_exactly(1).unwrap(), [0x16], "{what}");
        let _ = client.send(&[0x14, 3, 3, 0, 1, 1]);
        let answer = answer(&mut client);
        assert!(!answer.windows(5).any(|five| five == b"FATAL"), "{what}");
        let event = gateway.event(what, |event| event["port"] == from.port());
        assert_eq!(
            (&event["kind"], &event["code"]),
            (&"protocol.violation".into(), &"tls".into()),
            "{what}: {event}"
        );
    }
    trap.assert_untouched();
}

#[test]
fn a_client_hello_in_single_bytes_is_read_and_one_of_empty_records_is_not() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed_elsewhere()));
    let mut slow = Dial::plain(gateway.address()).connect().unwrap();
    for byte in hello(&of_two_bytes(
        &[&[0][..], &of_two_bytes(NAME.as_bytes())].concat(),
    )) {
        slow.send(&[byte]).unwrap();
    }
    assert_eq!(slow.read_exactly(1).unwrap(), [0x16], "its answer");
    let mut empty = Dial::plain(gateway.address()).connect().unwrap();
    let from = empty.local_address();
    // TLS allows no handshake record without content (RFC 8446 section 5.1).
    let _ = empty.send(
        &[
            &[0x16, 3, 1, 0, 0, 0x16, 3, 1][..],
            &[0, 0, 0x16, 3, 1].repeat(4_000),
        ]
        .concat(),
    );
    let answer = answer(&mut empty);
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    wait::wait_for("its event", SOON, || {
        gateway
            .events()
            .iter()
            .any(|event| event["port"] == from.port())
    });
    trap.assert_untouched();
}

fn listed_elsewhere() -> EndpointText {
    EndpointText::new("orders", NAME).allow("127.0.9.9", "public")
}

fn start_up() -> Vec<u8> {
    startup(V3_0, &[("user", "batch"), ("database", "postgres")])
}

/// Whoever is let in leaves again.
fn start_and_end() -> Vec<u8> {
    [start_up(), tagged(b'X', b"")].concat()
}

fn as_batch(dial: &Dial) -> std::io::Result<RawClient> {
    dial.start(&[("user", "batch"), ("database", "postgres")])
}

fn violation(code: &str) -> (String, String) {
    ("protocol.violation".to_owned(), code.to_owned())
}

/// How many sessions of this role the server has begun.
fn sessions(server: &Postgres, role: &str) -> usize {
    server
        .log()
        .matches(&format!("connection authorized: user={role} "))
        .count()
}

/// What is answered until the end, as bytes.
fn answer(client: &mut RawClient) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(byte) = client.read_exactly(1) {
        all.extend(byte);
    }
    all
}

/// A ClientHello of TLS 1.2 with this server_name extension; nothing else in it is wrong.
fn hello(server_name: &[u8]) -> Vec<u8> {
    let mut extensions = [&[0, 0][..], &of_two_bytes(server_name)].concat();
    extensions.extend(
        *b"\0\x0a\0\x06\0\x04\0\x17\0\x1d\0\x0b\0\x02\x01\0\0\x0d\0\x06\0\x04\x04\x03\x04\x01",
    );
    extensions.extend(*b"\0\x10\0\x0d\0\x0b\x0apostgresql\0\x17\0\0\xff\x01\0\x01\0");
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(*b"\0\0\x04\xc0\x2b\xc0\x2f\x01\0");
    body.extend(of_two_bytes(&extensions));
    let handshake = [&[1, 0][..], &of_two_bytes(&body)].concat();
    [&[0x16, 3, 1][..], &of_two_bytes(&handshake)].concat()
}

fn of_two_bytes(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
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

/// OpenSSL's client, which sends what it is told to.
struct OpenSsl {
    command: Command,
    from: SocketAddr,
}

/// What came of it.
struct Told {
    heard: String,
    from: SocketAddr,
}

impl OpenSsl {
    fn new(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut client = Self::loud(gateway, arguments);
        client.command.arg("-quiet");
        client
    }

    fn loud(gateway: &Gateway, arguments: &[&str]) -> Self {
        let from = SocketAddr::new(here(6, 1), portcullis_tests::ports::free());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres"]);
        command.args([
            "-bind",
            &from.to_string(),
            "-connect",
            &gateway.address().to_string(),
        ]);
        command
            .args(["-cipher", "DEFAULT@SECLEVEL=0"])
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, from }
    }

    fn send(mut self, bytes: &[u8]) -> Told {
        let mut child = self.command.spawn().expect("openssl is installed");
        // Kept open: at its end the client leaves.
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(bytes);
        let _ = input.flush();
        let ended = wait::until(SOON, || child.try_wait().unwrap());
        assert!(ended.is_some(), "nobody ended it: {:?}", child.kill());
        let output = child.wait_with_output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        Told {
            heard: String::from_utf8_lossy(&both).into_owned(),
            from: self.from,
        }
    }
}

impl Told {
    /// Kind and code of the events about this connection.
    fn found(&self, gateway: &Gateway) -> Vec<(String, String)> {
        let port = self.from.port();
        let of_it = |event: &&serde_json::Value| event["port"] == port;
        gateway.event("openssl's connection", |event| of_it(&event));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let events = gateway.events();
        events
            .iter()
            .filter(of_it)
            .map(|event| (text(&event["kind"]), text(&event["code"])))
            .collect()
    }
}

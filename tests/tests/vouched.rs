//! Clients for whom somebody vouches: a certificate or a token, mapped to a role. Upstream the
//! gateway signs in with its own certificate.

mod scene;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_certs::authority::Purpose;
use portcullis_tests::client::tagged;
use portcullis_tests::identities::{empty, validity};
use portcullis_tests::{
    Credential, Dial, Ending, Gateway, Message, Postgres, TestAuthority, Version,
};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use scene::{
    BOTH, NAME, acme, but_for_the_reference, certificate_mode, event_of, gateway, here, new_server,
    orders, server,
};
use serde_json::{Value, json};

#[test]
fn a_mapped_certificate_signs_in_as_its_role_and_as_no_other() {
    for version in BOTH {
        let tenant = TestAuthority::new("Acme clients");
        let gateway = by_certificate(server(version), &tenant);
        let reports = tenant.client("somebody", &["spiffe://acme.test/reports"]);
        let batch = tenant.client("batch", &[]);
        for (credential, user) in [(&reports, "reports"), (&batch, "batch")] {
            let psql = gateway
                .psql(NAME)
                .credential(credential)
                .user(user, "", "postgres");
            assert_eq!(psql.run("select current_user").ok(), user, "{version:?}");
            for start in [gateway.dial(NAME), gateway.dial(NAME).direct()] {
                let mut client = as_user(&start.credential(credential), user).unwrap();
                assert_eq!(
                    client.read_until(b'Z').unwrap()[0].authentication(),
                    Some(0)
                );
            }
        }
        let told = refusal(&gateway.dial(NAME).credential(&reports), "batch");
        assert_eq!(told.sqlstate(), "28P01");
        let event = event_of(&gateway, "authentication.failed", &told);
        assert_eq!(event["code"], "certificate_not_mapped");
    }
}

#[test]
fn an_unmapped_certificate_and_none_at_all_are_alike() {
    let tenant = TestAuthority::new("Acme clients");
    let gateway = by_certificate(server(Version::V15), &tenant);
    let none = refusal(&gateway.dial(NAME), "reports");
    assert_eq!(none.sqlstate(), "28P01");
    let event = event_of(&gateway, "authentication.failed", &none);
    assert_eq!(event["code"], "certificate_absent");
    for names in [
        vec!["spiffe://acme.test/report"],
        vec!["spiffe://acme.test/reports/"],
        vec!["spiffe://ACME.test/reports"],
        vec![],
    ] {
        let other = tenant.client("reports", &names);
        let told = refusal(&gateway.dial(NAME).credential(&other), "reports");
        assert_eq!(
            but_for_the_reference(&told),
            but_for_the_reference(&none),
            "{names:?}"
        );
        let event = event_of(&gateway, "authentication.failed", &told);
        assert_eq!(event["code"], "certificate_not_mapped");
    }
}

#[test]
fn a_certificate_that_the_tenants_authority_did_not_issue_for_now_and_for_clients_ends_the_handshake()
 {
    let tenant = TestAuthority::new("Acme clients");
    // Nobody else signs in there: its log is searched.
    let server = new_server(Version::V15);
    let gateway = by_certificate(&server, &tenant);
    let with = |validity, purpose| {
        let leaf = portcullis_certs::authority::LeafRequest {
            common_name: "batch".to_owned(),
            validity,
            ..empty(purpose)
        };
        tenant.issue(&leaf)
    };
    for (why, credential) in [
        (
            "another authority",
            TestAuthority::new("Globex clients").client("batch", &[]),
        ),
        (
            "another authority of the same name",
            TestAuthority::new("Acme clients").client("batch", &[]),
        ),
        ("expired", with(validity(-10, -1), Purpose::Client)),
        ("not valid yet", with(validity(1, 10), Purpose::Client)),
        ("a server's", with(validity(-1, 10), Purpose::Server)),
    ] {
        // With TLS 1.3 the client is through before the server has looked: the alert comes later.
        for dial in [gateway.dial(NAME), gateway.dial(NAME).tls12_only()] {
            let ending = match as_user(&dial.credential(&credential), "batch") {
                Ok(mut client) => client.read_message().unwrap_err(),
                Err(error) => Ending::from(error),
            };
            let told = format!("{ending:?}");
            assert!(
                told.contains("alert") || ending == Ending::Reset,
                "{why}: {told}"
            );
        }
        gateway.event(why, |event| {
            event["kind"] == "protocol.violation" && event["code"] == "tls"
        });
    }
    assert!(!server.log().contains("connection authorized: user=batch"));
}

#[test]
fn a_query_sent_right_behind_the_start_up_packet_is_answered() {
    let tenant = TestAuthority::new("Acme clients");
    let gateway = by_certificate(server(Version::V18), &tenant);
    let dial = gateway.dial(NAME).credential(&tenant.client("batch", &[]));
    let mut client = dial.connect().unwrap();
    let startup = portcullis_tests::client::startup(
        0x0003_0000,
        &[("user", "batch"), ("database", "postgres")],
    );
    client
        .send(&[startup, tagged(b'Q', b"select 'early'\0")].concat())
        .unwrap();
    client.read_until(b'Z').unwrap();
    let answer = client.read_until(b'Z').unwrap();
    let row = answer
        .iter()
        .find(|message| message.kind == b'D')
        .unwrap()
        .row();
    assert_eq!(row, [Some("early".to_owned())]);
}

#[test]
fn a_good_token_signs_in_as_the_role_that_it_maps_to() {
    for version in BOTH {
        let issuer = Issuer::new();
        let gateway = issuer.gateway(version);
        let good = issuer.sign(&header(), &claims());
        let psql = gateway.psql(NAME).user("reports", &good, "postgres");
        assert_eq!(
            psql.run("select current_user").ok(),
            "reports",
            "{version:?}"
        );
        let node = gateway.node_pg(NAME).user("reports", &good, "postgres");
        assert_eq!(node.query("select current_user").ok(), "reports");
        let event = gateway.event("a sign-in by token", |event| {
            event["kind"] == "connection.permitted"
        });
        assert_eq!(event["authenticated_by"], "token of user:7");
    }
}

#[test]
fn every_other_token_is_refused_alike_and_the_operator_is_told_why() {
    let issuer = Issuer::new();
    let gateway = issuer.gateway(Version::V15);
    let stranger = Issuer::new();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.sign(&header(), &claims)
    };
    let headed = |header: Value| issuer.sign(&header, &claims());
    let good = issuer.sign(&header(), &claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let none = format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims()));
    let now = validity(0, 0).not_before;
    let tokens = [
        (with("exp", json!(now - 60)), "token_expired"),
        (with("nbf", json!(now + 600)), "token_not_yet"),
        (with("aud", json!("another")), "token_aud"),
        (with("aud", json!(["portcullis", "another"])), "token_aud"),
        (with("iss", json!("https://id.acme.test/")), "token_iss"),
        (with("group", json!("cleaners")), "token_not_mapped"),
        (none, "token_alg"),
        (headed(json!({"alg": "HS256"})), "token_alg"),
        (
            headed(json!({"alg": "ES256", "crit": ["x"], "x": 1})),
            "token_crit",
        ),
        (stranger.sign(&header(), &claims()), "token_signature"),
        (format!("{signed}.AAAA"), "token_signature"),
        ("secret".to_owned(), "token_malformed"),
    ];
    for (host, (token, code)) in (1..).zip(tokens) {
        let told = refusal_of_token(&gateway.dial(NAME).from(here(1, host)), "reports", &token);
        let event = event_of(&gateway, "authentication.failed", &told);
        assert_eq!(event["code"], code, "{event}");
        assert_eq!(told.sqlstate(), "28P01");
        let expected = "authentication failed for user \"reports\" (reference PC-XXXX-XXXX-XXXX)";
        assert!(but_for_the_reference(&told).contains(expected), "{told:?}");
        assert!(
            !gateway.log_text().contains(&good),
            "a token is a credential"
        );
    }
    let told = refusal_of_token(&gateway.dial(NAME), "batch", &good);
    let event = event_of(&gateway, "authentication.failed", &told);
    assert_eq!(
        event["code"], "token_not_mapped",
        "another role than the token's"
    );
}

#[test]
fn a_token_that_is_empty_or_longer_than_its_named_maximum_is_refused_before_it_is_read() {
    let issuer = Issuer::new();
    let gateway = issuer.gateway(Version::V15);
    for (message, code) in [
        (vec![b'p', 0x7f, 0xff, 0xff, 0xff], "message_length"),
        (vec![b'p', 0, 0, 0x40, 5], "message_length"),
        (tagged(b'p', b"\0"), "message_malformed"),
        (tagged(b'p', b"no terminator"), "message_malformed"),
    ] {
        let mut client = as_user(&gateway.dial(NAME), "reports").unwrap();
        let from = client.local_address();
        client.read_until(b'R').unwrap();
        client.send(&message).unwrap();
        assert_eq!(client.refusal().sqlstate(), "08P01");
        scene::event(&gateway, "protocol.violation", code, from);
    }
}

#[test]
fn whoever_shows_no_certificate_or_a_bad_token_again_and_again_waits() {
    let tenant = TestAuthority::new("Acme clients");
    let gateway = by_certificate(server(Version::V15), &tenant);
    let delayed = |gateway: &Gateway, told: &Message| {
        let event = event_of(gateway, "authentication.failed", told);
        event["delayed_ms"].as_u64().unwrap()
    };
    for wait in [0, 0, 0, 0, 0, 1000] {
        let told = refusal(&gateway.dial(NAME), "reports");
        assert_eq!(delayed(&gateway, &told), wait);
    }
    let issuer = Issuer::new();
    let gateway = issuer.gateway(Version::V15);
    for wait in [0, 0, 0, 0, 0, 1000] {
        let told = refusal_of_token(&gateway.dial(NAME), "reports", "nonsense");
        assert_eq!(delayed(&gateway, &told), wait);
    }
}

fn by_certificate(server: &Postgres, authority: &TestAuthority) -> Gateway {
    let map = [
        ("uri:spiffe://acme.test/reports", "reports"),
        ("cn:batch", "batch"),
    ];
    let text = certificate_mode(&authority.pem(), &map);
    gateway(&acme(server, orders().authentication(&text)))
}

fn as_user(dial: &Dial, user: &str) -> std::io::Result<portcullis_tests::RawClient> {
    dial.start(&[("user", user), ("database", "postgres")])
}

fn refusal(dial: &Dial, user: &str) -> Message {
    as_user(dial, user).unwrap().refusal()
}

/// Each from a source of its own: whoever fails often is made to wait.
fn refusal_of_token(dial: &Dial, user: &str, token: &str) -> Message {
    let mut client = as_user(dial, user).unwrap();
    let asked = client.read_message().unwrap();
    assert_eq!(
        asked.authentication(),
        Some(3),
        "a password in clear, inside TLS"
    );
    client
        .send(&tagged(b'p', format!("{token}\0").as_bytes()))
        .unwrap();
    client.refusal()
}

/// Somebody who signs tokens (ES256), without the product's token code.
struct Issuer {
    key: std::sync::Arc<dyn SigningKey>,
}

impl Issuer {
    fn new() -> Self {
        let Credential { key_pem, .. } = TestAuthority::new("Issuer").client("issuer", &[]);
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&key).unwrap();
        Self { key }
    }

    /// A gateway whose endpoint believes this issuer.
    fn gateway(&self, version: Version) -> Gateway {
        let text = format!(
            "\n      token:\n        issuer: https://id.acme.test\n        audience: portcullis\n        keys: '{}'\n\
             \x20       claim: group\n        map: [{{value: analysts, role: reports}}]",
            self.keys()
        );
        gateway(&acme(server(version), orders().authentication(&text)))
    }

    /// The JWK Set: the point at the end of the key's SubjectPublicKeyInfo.
    fn keys(&self) -> Value {
        let spki = self.key.public_key().unwrap();
        let (_, point) = spki.split_at(spki.len() - 64);
        let (x, y) = point.split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}]})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signer = self
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .unwrap();
        let signature = fixed(&signer.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn header() -> Value {
    json!({"alg": "ES256", "typ": "JWT"})
}

fn claims() -> Value {
    let now = validity(0, 0).not_before;
    json!({
        "iss": "https://id.acme.test", "aud": "portcullis", "sub": "user:7",
        "group": ["everybody", "analysts"], "iat": now, "exp": now + 300,
    })
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// An ECDSA signature as JWS has it (RFC 7518 section 3.4): both numbers in 32 bytes each, from
/// the DER that TLS has (30 len 02 len r 02 len s).
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - number.len()));
        out.extend(number);
        rest = after;
    }
    out
}

//! Certificates that we issue, read by another program.

use std::process::{Command, Stdio};

use portcullis_certs::authority::{Authority, Key, LeafRequest, MAX_COMMON_NAME};
use portcullis_certs::{Validity, generate_key};

use crate::support::{LONG, authority, client_leaf, server_leaf};

#[test]
fn openssl_sees_an_authority_of_path_length_0_and_leaves_for_one_purpose() {
    let ca = authority("acme databases");
    let text = openssl(&["x509", "-noout", "-text"], ca.authority_pem());
    has(
        &text,
        &[
            "Signature Algorithm: ecdsa-with-SHA256",
            "Subject: CN = acme databases",
            "CA:TRUE, pathlen:0",
            "Certificate Sign, CRL Sign",
            "ASN1 OID: prime256v1",
        ],
    );

    let leaf = LeafRequest {
        uris: vec!["spiffe://acme/db".into()],
        ips: vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        ..server_leaf(&["db.example", "*.db.example"])
    };
    let issued = ca.issue(&leaf, &generate_key().unwrap()).unwrap();
    let text = openssl(&["x509", "-noout", "-text"], &issued.chain_pem);
    has(
        &text,
        &[
            "Issuer: CN = acme databases",
            "Subject: CN = server",
            "Not Before: Jan  1 00:00:00 2020 GMT",
            "Not After : Jan  1 00:00:00 2120 GMT",
            "CA:FALSE",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                TLS Web Server Authentication\n",
            "DNS:db.example, DNS:*.db.example, URI:spiffe://acme/db, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
            "X509v3 Authority Key Identifier",
        ],
    );
    let issued = ca
        .issue(&client_leaf("app"), &generate_key().unwrap())
        .unwrap();
    let text = openssl(&["x509", "-noout", "-text"], &issued.chain_pem);
    has(&text, &["TLS Web Client Authentication\n"]);
}

#[test]
fn an_authority_made_again_from_the_same_is_the_same() {
    let key = generate_key().unwrap();
    let pem = key.to_pem();
    let before = Authority::new("acme", key, LONG).unwrap();
    let after = Authority::new("acme", Key::from_pem(&pem).unwrap(), LONG).unwrap();
    let leaf = before
        .issue(&server_leaf(&["db.example"]), &generate_key().unwrap())
        .unwrap();
    let identity = crate::support::identity(&leaf);
    let client = portcullis_certs::client_config(after.authority_pem(), None).unwrap();
    let server = portcullis_certs::server_config(
        &identity,
        portcullis_certs::ClientCertificates::NotAsked,
        portcullis_certs::Resumption::Off,
    );
    crate::support::Handshake::run(client, server.unwrap(), "db.example").must_succeed();
    assert_eq!(
        serial(before.authority_pem()),
        serial(after.authority_pem())
    );
}

#[test]
fn serial_numbers_differ_when_anything_does() {
    let ca = authority("acme");
    let (key, other) = (generate_key().unwrap(), generate_key().unwrap());
    let later = Validity {
        not_before: LONG.not_before + 1,
        ..LONG
    };
    let base = server_leaf(&["a.example"]);
    let mut serials: Vec<_> = [
        (base.clone(), &key),
        (base.clone(), &other),
        (server_leaf(&["b.example"]), &key),
        (
            LeafRequest {
                validity: later,
                ..base.clone()
            },
            &key,
        ),
        (
            LeafRequest {
                common_name: "x".into(),
                ..base.clone()
            },
            &key,
        ),
        (
            LeafRequest {
                uris: vec!["a:b".into()],
                ..base.clone()
            },
            &key,
        ),
    ]
    .iter()
    .map(|(leaf, key)| serial(&ca.issue(leaf, key).unwrap().chain_pem))
    .collect();
    // Sixteen bytes, neither negative nor shortened.
    assert!(
        serials.iter().all(|serial| serial.len() == 32),
        "{serials:?}"
    );
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 6);
    assert_eq!(
        serial(&ca.issue(&base, &key).unwrap().chain_pem),
        serial(&ca.issue(&base, &key).unwrap().chain_pem)
    );
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let ca = authority("acme");
    let key = generate_key().unwrap();
    let longest = "n".repeat(MAX_COMMON_NAME);
    assert!(ca.issue(&client_leaf(&longest), &key).is_ok());
    let backwards = Validity {
        not_before: LONG.not_after,
        not_after: LONG.not_before,
    };
    let no_date = Validity {
        not_before: LONG.not_before,
        not_after: i64::MAX,
    };
    for leaf in [
        client_leaf(&format!("{longest}n")),
        client_leaf(""),
        server_leaf(&["ünïcode.example"]),
        LeafRequest {
            validity: backwards,
            ..client_leaf("a")
        },
        LeafRequest {
            validity: no_date,
            ..client_leaf("a")
        },
    ] {
        let error = ca.issue(&leaf, &key).unwrap_err();
        assert!(
            error.to_string().starts_with("no certificate issued: "),
            "{error}"
        );
    }
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for text in [p384.serialize_pem(), String::new(), "hello".into()] {
        assert!(Key::from_pem(&text).is_err());
    }
}

fn serial(pem: &str) -> String {
    let text = openssl(&["x509", "-noout", "-serial"], pem);
    text.trim().trim_start_matches("serial=").to_owned()
}

fn has(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

pub(crate) fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

//! Certificates of the doors: replaced as files under open connections, and never by what would not serve.

mod scene;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use portcullis_certs::authority::{LeafRequest, Purpose};
use portcullis_tests::identities::{Credential, empty, validity};
use portcullis_tests::{Gateway, Version, process, wait};
use scene::{NAME, orders};

/// The files are looked at each two seconds, twice.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_lies_in_the_files_place_is_shown_next_and_what_would_not_serve_is_not() {
    let server = scene::server(Version::V15);
    let gateway = scene::gateway(&scene::acme(server, orders()));
    let mut open = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let first = shown(gateway.address());

    let leaf = |names: &[&str], from: i64, until: i64| LeafRequest {
        common_name: "doors".to_owned(),
        dns: names.iter().map(|name| (*name).to_owned()).collect(),
        validity: validity(from, until),
        ..empty(Purpose::Server)
    };
    let issue = |leaf: &LeafRequest| gateway.authority().issue(leaf);
    let put = |credential: &Credential| put(&gateway, credential);
    let good = issue(&leaf(&["*.db.test"], -1, 300));
    put(&good);
    let renewed = gateway.event("the new one", |event| {
        event["kind"] == "certificate.renewed"
    });
    assert_eq!(
        (&renewed["purpose"], &renewed["name"]),
        (&"endpoint".into(), &"*.db.test".into())
    );
    let second = shown(gateway.address());
    assert_ne!(first, second);
    // Who is in noticed nothing; who comes in trusts what it trusted.
    assert_eq!(open.query("select 1").unwrap().len(), 1);
    let told = gateway
        .psql(NAME)
        .user("app", "secret", "postgres")
        .run("select 1");
    assert_eq!(told.ok(), "1");

    let other_key = issue(&leaf(&["*.db.test"], -1, 300));
    let swapped = Credential {
        chain_pem: other_key.chain_pem.clone(),
        ..good.clone()
    };
    let shuffled = Credential {
        chain_pem: format!("{}{}", good.chain_pem, other_key.chain_pem),
        ..good.clone()
    };
    let cut = Credential {
        chain_pem: good.chain_pem.get(..200).unwrap().to_owned(),
        ..good.clone()
    };
    for (credential, why) in [
        (swapped, "does not belong to"),
        (shuffled, "out of order"),
        (cut, "chain cannot be read"),
        (issue(&leaf(&["*.db.test"], -30, -1)), "not valid now"),
        (issue(&leaf(&["*.db.test"], 1, 30)), "not valid now"),
        (
            issue(&leaf(&["other.test"], -1, 300)),
            "no certificate carries *.db.test any more",
        ),
    ] {
        put(&credential);
        let refused = gateway.event(why, |event| {
            let story = event["story"].as_str().unwrap_or_default();
            event["kind"] == "certificate.refused" && story.contains(why)
        });
        let key = credential.key_pem.lines().nth(1).unwrap();
        assert!(!refused.to_string().contains(key) && !gateway.log_text().contains(key));
        assert_eq!(shown(gateway.address()), second, "{why}");
    }

    // One that ends soon is shown, and missed at once.
    put(&issue(&leaf(&["*.db.test"], -360, 5)));
    let overdue = gateway.event("one that ends", |event| {
        event["kind"] == "certificate.overdue"
    });
    assert_eq!(overdue["name"], "*.db.test");
    let left = "portcullis_certificate_days_left{purpose=\"endpoint\",name=\"*.db.test\"} 4.9";
    assert!(gateway.metrics("/metrics").contains(left));
    assert_eq!(open.query("select 1").unwrap().len(), 1);
}

/// Puts a certificate in the place of the gateway's.
fn put(gateway: &Gateway, credential: &Credential) {
    let folder = gateway.configuration().parent().unwrap().to_owned();
    for (name, text) in [
        ("server-0.pem", &credential.chain_pem),
        ("server-0.key", &credential.key_pem),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// What the door shows, as openssl sees it.
fn shown(door: SocketAddr) -> String {
    let ask = format!(
        "openssl s_client -starttls postgres -connect {door} -servername {NAME} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint"
    );
    let told = wait::until(SOON, || {
        let told = process::run(Command::new("sh").args(["-c", &ask]), SOON);
        told.status.success().then(|| told.ok().to_owned())
    });
    told.expect("a certificate")
}

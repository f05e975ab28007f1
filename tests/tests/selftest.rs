//! `portcullis selftest attack`, against a gateway that must stand and against things that do not.

mod scene;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::gateway::binary;
use portcullis_tests::{EndpointText, Finished, Postgres, Scratch, Version, process};
use scene::{NAME, Trap, asks_for_a_token, gateway};
use serde_json::Value;

#[test]
fn a_gateway_refuses_every_attack_and_each_leaves_its_mark() {
    let trap = Trap::new();
    let elsewhere = EndpointText::new("orders", NAME).allow("127.0.9.9", "public");
    let gateway = gateway(&trap.acme(elsewhere));
    let told = Attack::on(gateway.address())
        .trusting(&gateway.authorities_pem())
        .with(&["--server-name", NAME, "--json"])
        .run();
    let report: Value = serde_json::from_str(told.ok()).unwrap();
    for attack in report["attacks"].as_array().unwrap() {
        assert_eq!(attack["verdict"], "refused", "{attack}");
    }
    assert_eq!(
        report["refused"],
        names(&["--server-name", NAME]).len(),
        "{told}"
    );
    for (kind, codes) in MARKS {
        for code in *codes {
            gateway.event(code, |event| {
                event["kind"] == *kind && event["code"] == *code
            });
        }
    }
    trap.assert_untouched();
    assert!(!gateway.log_text().contains("panicked"));
}

/// The events that the attacks leave behind.
const MARKS: &[(&str, &[&str])] = &[
    ("cancel.denied", &["unknown_key"]),
    (
        "connection.denied",
        &["unknown_endpoint", "address_not_listed"],
    ),
    (
        "protocol.violation",
        &[
            "startup_length",
            "http_request",
            "unknown_request",
            "cancel_length",
            "plaintext",
            "pretls_data",
            "proxy_unexpected",
            "tls",
            "tls_record",
            "alpn",
            "first_bytes_timeout",
            "tls_timeout",
            "startup_timeout",
            "duplicate_parameter",
            "parameter_spelling",
            "startup_layout",
            "parameter_encoding",
            "missing_user",
            "name_form",
            "unsupported_version",
            "tls_in_tls",
        ],
    ),
];

#[test]
fn an_endpoint_that_lets_this_address_in_cannot_be_compared_and_is_said_to_be_so() {
    let gateway = gateway(&Trap::new().acme(asks_for_a_token()));
    let told = Attack::on(gateway.address())
        .trusting(&gateway.authorities_pem())
        .with(&[
            "--server-name",
            NAME,
            "--only",
            "http",
            "--only",
            "query-early-known",
        ])
        .run();
    assert!(told.ok().contains("2 attacks on"), "{told}");
    // One that asks this address for a token would be told from a name that nobody has.
    let told = Attack::on(gateway.address())
        .trusting(&gateway.authorities_pem())
        .with(&["--server-name", NAME, "--only", "known-name"])
        .run();
    assert!(told.ok().contains("1 not run"), "{told}");
    assert!(told.ok().contains("lets this address in"), "{told}");
    // Nothing to verify a certificate by, and no name for it.
    let told = Attack::on(gateway.address())
        .with(&["--only", "user-twice"])
        .run();
    assert!(
        told.ok().contains("1 not run") && told.ok().contains("--server-name"),
        "{told}"
    );
    // An authority that did not issue it.
    let told = Attack::on(gateway.address())
        .trusting(&portcullis_tests::TestAuthority::new("Other").pem())
        .with(&["--server-name", NAME, "--only", "user-twice"])
        .run();
    assert!(
        !told.status.success() && told.stdout.contains("1 FAILED"),
        "{told}"
    );
    assert!(told.stdout.contains("--ca"), "{told}");
}

#[test]
fn a_server_that_repeats_what_it_hears_refuses_nothing() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in echo.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = client.set_read_timeout(Some(Duration::from_secs(3)));
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    if client.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let only = [
        "http",
        "length-2g",
        "proxy-v2",
        "cancel-made-up",
        "plaintext",
        "tls-1.0",
    ];
    let told = Attack::on(address).with(&["--json"]).only(&only).run();
    assert_eq!(told.status.code(), Some(3), "{told}");
    let report: Value = serde_json::from_str(told.stdout.trim()).unwrap();
    assert_eq!(report["not_refused"], only.len(), "{told}");
}

#[test]
fn a_database_without_a_gateway_before_it_is_found_out() {
    let server = Postgres::builder(Version::V18)
        .server_name("*.db.test")
        .role("app", "secret")
        .start();
    let only = [
        "weak-ciphers",
        "bytes-before-gss",
        "user-spelling",
        "long-user",
        "unknown-name",
        "known-name",
    ];
    let told = Attack::on(server.address())
        .trusting(&server.authorities_pem())
        .with(&["--server-name", NAME])
        .only(&only)
        .run();
    assert_eq!(told.status.code(), Some(3), "{told}");
    let last = told.stdout.trim().lines().last().unwrap();
    assert!(
        last.ends_with(": 0 refused, 5 NOT REFUSED, 1 not run"),
        "{told}"
    );
    assert!(
        told.stdout.contains("must be one fatal error, 28000"),
        "{told}"
    );
}

#[test]
fn what_is_asked_for_wrongly_is_told_before_anything_is_attacked() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (attack, status, said) in [
        (Attack::on(nobody), 1, "cannot be reached"),
        (
            Attack::on(nobody).only(&["nothing"]),
            2,
            "no attack is called nothing",
        ),
        (
            Attack::on(nobody).with(&["--ca", "nowhere.pem"]),
            1,
            "nowhere.pem",
        ),
    ] {
        let told = attack.run();
        assert_eq!(told.status.code(), Some(status), "{told}");
        assert!(told.stderr.contains(said), "{told}");
    }
    assert!(names(&[]).len() > 40);
}

/// The names that `--list` gives.
fn names(more: &[&str]) -> Vec<String> {
    let mut command = Command::new(binary());
    command
        .args(["selftest", "attack", "--list", "--json"])
        .args(more);
    let told = process::run(&command, Duration::from_secs(20));
    let list: Value = serde_json::from_str(told.ok()).unwrap();
    let attacks = list["attacks"].as_array().unwrap().iter();
    attacks
        .map(|attack| attack["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A run of the command.
struct Attack {
    command: Command,
    scratch: Scratch,
}

impl Attack {
    fn on(address: SocketAddr) -> Self {
        let mut command = Command::new(binary());
        command.args(["selftest", "attack", "--against", &address.to_string()]);
        let scratch = Scratch::new("selftest");
        Self { command, scratch }
    }

    fn trusting(mut self, authorities_pem: &str) -> Self {
        let file: PathBuf = self.scratch.write("ca.pem", authorities_pem);
        self.command.arg("--ca").arg(file);
        self
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    fn only(mut self, names: &[&str]) -> Self {
        self.command
            .args(names.iter().flat_map(|name| ["--only", name]));
        self
    }

    fn run(self) -> Finished {
        process::run(&self.command, Duration::from_secs(90))
    }
}

//! Operators over the network and a fleet that changes under them: a node that hears no quorum, and a
//! name that is given again.

use std::time::{Duration, Instant};

use portcullis_tests::fleet::figure;
use portcullis_tests::process::Finished;
use portcullis_tests::{Fleet, ports, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_node_without_a_quorum_answers_no_operator() {
    let site = Site::new(2);
    site.add("olga");
    done(&site.by("olga", &["fleet", "status"]));
    site.fleet.nodes[1].freeze();
    let began = Instant::now();
    let told = wait::until(SOON, || {
        let told = site.by("olga", &["fleet", "status"]);
        (!told.status.success()).then_some(told)
    });
    let told = told.expect("it answers operators without a quorum");
    let took = began.elapsed();
    figure("without-quorum-operator-refused-ms", took.as_millis());
    // The lease, and how long one is waited for.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(told.stderr.contains("no quorum"), "{told}");
    for question in [
        &["policy", "show", "acme"][..],
        &["operator", "list"],
        &["pending"],
    ] {
        let told = site.by("olga", question);
        assert!(told.stderr.contains("no quorum"), "{told}");
    }
    let local = site.fleet.nodes[0].ask("GET", "/v1/operators", &Value::Null);
    assert_eq!(local.unwrap().status, 200, "the machine's own socket");
    let status = site.fleet.nodes[0].status().unwrap();
    assert_eq!(status["quorum"], false, "{status}");

    site.fleet.nodes[1].thaw();
    site.fleet.settled();
    done(&site.by("olga", &["fleet", "status"]));
}

#[test]
fn a_node_that_has_just_started_lets_operators_wait_for_its_lease() {
    let mut site = Site::new(1);
    site.add("olga");
    for _ in 0..3 {
        site.fleet.nodes[0].kill();
        site.fleet.nodes[0].start();
        let answered = wait::until(SOON, || {
            let told = site.by("olga", &["fleet", "status"]);
            assert!(!told.stderr.contains("no quorum"), "{told}");
            told.status.success().then_some(())
        });
        assert!(answered.is_some());
    }
}

#[test]
fn a_name_that_is_given_again_does_not_bring_the_old_certificate_back() {
    let site = Site::new(1);
    site.add("olga");
    done(&site.by("olga", &["operator", "list"]));
    // The same again, with the same key: a new certificate beside which the old one holds.
    let own = |name: &str| site.fleet.nodes[0].folder().join(name);
    std::fs::create_dir(own("copy")).unwrap();
    for file in ["operator.key", "operator.pem", "authority.pem"] {
        std::fs::copy(own("olga").join(file), own("copy").join(file)).unwrap();
    }
    site.add("olga");
    done(&site.by("copy", &["operator", "list"]));

    done(&site.local(&["operator", "remove", "olga"]));
    refused(&site.by("olga", &["operator", "list"]));
    std::fs::rename(own("olga"), own("former")).unwrap();
    site.add("olga");
    done(&site.by("olga", &["operator", "list"]));
    for old in ["former", "copy"] {
        refused(&site.by(old, &["operator", "list"]));
    }
    let node = &site.fleet.nodes[0];
    node.event("the refusal", |event| {
        event["kind"] == "admin.refused" && event["by"] == "operator olga"
    });
    node.event("the key", |event| {
        event["kind"] == "operator.bound" && event["name"] == "olga"
    });
}

fn refused(finished: &Finished) {
    assert_eq!(finished.status.code(), Some(3), "{finished}");
    let told = &finished.stderr;
    assert!(told.contains("may not command this fleet"), "{finished}");
}

/// A fleet whose first node listens for operators.
struct Site {
    fleet: Fleet,
    api: u16,
}

impl Site {
    fn new(nodes: u8) -> Self {
        let mut fleet = Fleet::of(nodes);
        let api = ports::free();
        fleet.nodes[0].stop();
        fleet.nodes[0].rewrite(
            "[fleet]\n",
            &format!("[api]\nlisten = \"127.0.0.1:{api}\"\n[fleet]\n"),
        );
        fleet.nodes[0].start();
        fleet.settled();
        Self { fleet, api }
    }

    /// Makes an operator, with a key and certificate in a directory of that name.
    fn add(&self, name: &str) {
        let node = &self.fleet.nodes[0];
        let out = node.folder().join(name).display().to_string();
        done(&self.local(&[
            "operator",
            "add",
            name,
            "--roles",
            "fleet-operator",
            "--out",
            &out,
        ]));
    }

    fn local(&self, arguments: &[&str]) -> Finished {
        let node = &self.fleet.nodes[0];
        let socket = node.socket().display().to_string();
        node.portcullis(&[arguments, &["--socket", &socket]].concat())
    }

    /// A command by whoever holds what is in this directory, over the network.
    fn by(&self, directory: &str, arguments: &[&str]) -> Finished {
        let node = &self.fleet.nodes[0];
        let identity = node.folder().join(directory).display().to_string();
        let at = format!("127.0.0.1:{}", self.api);
        node.portcullis(&[arguments, &["--node", &at, "--identity", &identity]].concat())
    }
}

fn done(finished: &Finished) {
    assert!(finished.status.success(), "{finished}");
}

//! Nodes' certificates: renewed before they are over, had again after that, and given to nobody else.

use std::path::Path;
use std::time::Duration;

use portcullis::fleet::home::{Home, Piece};
use portcullis::mesh::{JOIN, RENEW, ask_as_stranger};
use portcullis_certs::authority::{Key, generate_key};
use portcullis_certs::fleet::{FleetTrust, JoinRequest, NodeIdentity, recover_client_config};
use portcullis_tests::fleet::{Fleet, GATEWAY, Guests, Node, figure};
use portcullis_tests::wait;
use serde_json::Value;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(30);
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const DAY: i64 = 86_400;

/// Three days later all are due; a day after they are over nobody's holds.
#[test]
fn certificates_are_renewed_in_time_and_had_again_when_they_are_over() {
    if !Path::new(LIBRARY).exists() {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs libfaketime");
        return;
    }
    let mut fleet = Fleet::of(3);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]).ok();
    assert_eq!(reply["nodes_in_force"], 4, "{reply}");
    let mut ends: Vec<i64> = fleet.nodes.iter().map(end).collect();
    let now = portcullis::runtime::clock::unix_seconds();
    for end in &ends {
        assert!((6 * DAY..=7 * DAY).contains(&(end - now)), "{}", end - now);
    }
    for days in [3, 11, 19] {
        for node in &mut fleet.nodes {
            node.stop();
            node.environment(&[
                ("LD_PRELOAD", LIBRARY),
                ("FAKETIME", &format!("+{days}d")),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ]);
        }
        let began = std::time::Instant::now();
        for node in &mut fleet.nodes {
            node.start();
        }
        let apply = |guests| {
            let policy = fleet.policy(guests);
            wait::wait_for("all to follow", SOON, || {
                let reply = fleet.nodes[0].apply(std::slice::from_ref(&policy));
                reply.status == 200 && reply.body["nodes_in_force"] == 4
            });
        };
        apply(Guests::Welcome);
        // Who is in stays in while certificates are renewed.
        let mut guest = fleet.connect(gateway, fleet.guest());
        for (node, before) in fleet.nodes.iter().zip(&mut ends) {
            let what = format!("{} to be renewed after {days} days", node.name());
            wait::wait_for(&what, SOON, || end(node) > *before);
            *before = end(node);
            let renewed = node.event("that it was renewed", |event| {
                event["kind"] == "certificate.renewed" && event["name"] == node.name()
            });
            assert_eq!(renewed["purpose"], "node");
        }
        figure(
            &format!("certificates-after-{days}-days-ms"),
            began.elapsed().as_millis(),
        );
        assert_eq!(guest.query("select 1").unwrap().len(), 1);
        apply(Guests::Unwelcome);
        assert_eq!(guest.refusal().sqlstate(), "57P01");
        for node in &fleet.nodes {
            let name = "portcullis_certificate_days_left{purpose=\"node\"} ";
            let left = wait::until(SOON, || {
                let metrics = node.metrics();
                let mut left = metrics.lines().filter_map(|line| line.strip_prefix(name));
                left.next()?.parse().ok().filter(|left| *left > 6.5)
            });
            let left: f64 = left.expect("the metric");
            assert!((6.5..=7.0).contains(&left), "{left}");
        }
    }
    // Control nodes said for whom they issued.
    let issued = fleet.nodes[..3].iter().flat_map(Node::events);
    let to_gateway =
        |event: &Value| event["kind"] == "certificate.issued" && event["name"] == "edge";
    assert_eq!(issued.filter(to_gateway).count(), 3);
}

#[test]
fn nobody_has_a_certificate_for_a_key_that_is_no_members() {
    let mut fleet = Fleet::of(1);
    for name in ["edge", "gone"] {
        let gateway = fleet.unmade(name, GATEWAY);
        fleet.join(gateway, "gateway");
        fleet.nodes[gateway].start();
    }
    let asker = Asker::with(&fleet.nodes[0]);
    let key_of = |node: &Node| {
        let home = Home::of(&node.data());
        Key::from_pem(&home.read(Piece::Key).unwrap()).unwrap()
    };
    let request = |key: &Key| JoinRequest::new(key).unwrap().der().to_vec();
    // A member's own key, from wherever: what it is good for is a certificate for that member.
    let edge = key_of(&fleet.nodes[1]);
    let chain = String::from_utf8(asker.ask(RENEW, &request(&edge)).unwrap()).unwrap();
    let identity = NodeIdentity::from_pem(&chain, &edge.to_pem()).unwrap();
    let own = Home::of(&fleet.nodes[1].data())
        .membership()
        .unwrap()
        .unwrap();
    assert_eq!(identity.node(), own.node.get());
    // Whoever heard the request and asks the same again and again keeps nothing from the node.
    let again = asker.ask(RENEW, &request(&edge)).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), chain);

    let gone = key_of(&fleet.nodes[2]);
    fleet.nodes[2].stop();
    let removed = fleet.nodes[0].ask(
        "POST",
        "/v1/fleet/remove",
        &serde_json::json!({"name": "gone"}),
    );
    assert_eq!(removed.unwrap().status, 200);
    let mut flipped = request(&edge);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (whose, wrong) in [
        ("a removed node", request(&gone)),
        ("a stranger", request(&generate_key().unwrap())),
        ("a request that is not signed with its key", flipped),
        ("nonsense", b"let me in".to_vec()),
        ("nothing", Vec::new()),
    ] {
        asker.ask(RENEW, &wrong).expect_err(whose);
    }
    asker.ask(1, &request(&edge)).expect_err("another service");
    asker.ask(JOIN, &request(&edge)).expect_err("no token");
    let refused = fleet.nodes[0].event("a refusal", |event| event["kind"] == "certificate.refused");
    assert_eq!(refused["name"], "a stranger");
    // However often: it is told once a minute.
    for _ in 0..60 {
        let _ = asker.ask(RENEW, b"again");
    }
    let refusals = fleet.nodes[0].events();
    let refusals = refusals
        .iter()
        .filter(|event| event["kind"] == "certificate.refused");
    assert!(refusals.count() < 4);
    drop(fleet.connect(1, fleet.resident()));
}

/// When the certificate in its directory ends, Unix seconds.
fn end(node: &Node) -> i64 {
    let home = Home::of(&node.data());
    let read = |piece| home.read(piece).unwrap();
    let identity = NodeIdentity::from_pem(&read(Piece::Certificate), &read(Piece::Key)).unwrap();
    identity.validity().not_after
}

/// Somebody without a certificate.
struct Asker {
    runtime: Runtime,
    address: String,
    trust: FleetTrust,
}

impl Asker {
    fn with(node: &Node) -> Self {
        let home = Home::of(&node.data());
        let membership = home.membership().unwrap().unwrap();
        let address = membership.seeds[0].address.clone().unwrap();
        let trust = FleetTrust::from_pem(&home.read(Piece::Authority).unwrap()).unwrap();
        Self {
            runtime: Runtime::new().unwrap(),
            address,
            trust,
        }
    }

    fn ask(&self, service: u8, request: &[u8]) -> Result<Vec<u8>, String> {
        let tls = recover_client_config(&self.trust).unwrap();
        let asked = ask_as_stranger(&self.address, tls, service, request, SOON);
        let answered = self.runtime.block_on(asked);
        answered
            .map(|it| it.answer)
            .map_err(|error| error.to_string())
    }
}

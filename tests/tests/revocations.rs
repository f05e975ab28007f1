//! A client's certificate is revoked: no node takes it any more, and what it had opened closes.

use portcullis_tests::fleet::{Guests, NAME, Node};
use portcullis_tests::{
    Credential, Ending, EndpointText, Finished, Fleet, Message, RawClient, TenantText,
    TestAuthority,
};
use serde_json::Value;

/// A door of another tenant that trusts the same authority.
const ELSEWHERE: &str = "globex-orders.db.test";

#[test]
fn a_revoked_serial_is_out_on_every_node_with_a_receipt_and_nobody_else_is() {
    let scene = Scene::new();
    let nodes = &scene.fleet.nodes;
    let mut lost = scene.enter(1, NAME, &scene.one);
    let mut kept = scene.enter(1, NAME, &scene.two);
    let mut neighbour = scene.enter(2, ELSEWHERE, &scene.one);

    let said = scene.revoke(0, &["--why", "stolen laptop", "--json"]);
    let reply: Value = serde_json::from_str(said.ok()).unwrap();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    let closed = |name: &str| {
        let receipts = reply["receipts"].as_array().unwrap();
        let of = receipts.iter().find(|it| it["name"] == name);
        of.unwrap_or_else(|| panic!("{reply}"))["closed"].clone()
    };
    assert_eq!(closed(nodes[1].name()), 1, "{reply}");

    assert_eq!(lost.refusal().sqlstate(), "57P01");
    nodes[1].event("the lapse", |event| {
        event["kind"] == "connection.lapsed" && event["code"] == "certificate_revoked"
    });
    for client in [&mut kept, &mut neighbour] {
        client.query("select 1").unwrap();
    }
    for (node, each) in nodes.iter().enumerate() {
        let told = scene.refused(node);
        assert_eq!(told.sqlstate(), "28P01");
        drop(scene.enter(node, NAME, &scene.two));
        drop(scene.enter(node, ELSEWHERE, &scene.one));
        each.event("the refusal", |event| {
            event["kind"] == "authentication.failed" && event["code"] == "certificate_revoked"
        });
    }
    let listed = scene.said(2, &["revocations", "--tenant", "acme"]);
    assert!(listed.ok().contains("stolen laptop"), "{listed}");
}

#[test]
fn what_is_revoked_stays_so_across_a_restart_until_it_is_taken_back() {
    let mut scene = Scene::new();
    assert!(
        scene
            .revoke(0, &["--why", "left the company"])
            .status
            .success()
    );
    for node in 0..3 {
        scene.fleet.nodes[node].stop();
    }
    for node in 0..3 {
        scene.fleet.nodes[node].start();
    }
    scene.fleet.settled();
    for node in 0..3 {
        assert_eq!(scene.refused(node).sqlstate(), "28P01");
    }
    let back = scene.revoke(1, &["--take-back"]);
    assert!(back.ok().contains("3/3 nodes"), "{back}");
    for node in 0..3 {
        drop(scene.enter(node, NAME, &scene.one));
    }
    let again = scene.revoke(1, &["--take-back"]);
    assert!(again.refused().contains("no certificate"), "{again}");
}

#[test]
fn what_is_typed_wrong_is_said_to_be_wrong() {
    let scene = Scene::new();
    let why = ["--why", "a mistake"];
    for (arguments, words) in [
        (vec!["xyz", "--tenant", "acme"], "in hexadecimal"),
        (
            vec!["1f", "--tenant", "nobody"],
            "no tenant nobody is in force",
        ),
        (vec!["1f"], "--tenant"),
        (vec!["--tenant", "acme"], "SERIAL"),
        (
            vec!["1f", "--certificate", "x.pem", "--tenant", "acme"],
            "cannot be used with",
        ),
        (
            vec!["--certificate", "/nowhere.pem", "--tenant", "acme"],
            "/nowhere.pem",
        ),
    ] {
        let said = scene.said(0, &[&["revoke"], arguments.as_slice(), &why].concat());
        assert!(said.refused().contains(words), "{said}");
    }
    let without = scene.said(0, &["revoke", "1f", "--tenant", "acme"]);
    assert!(without.refused().contains("--why"), "{without}");
}

/// A fleet of three, and two clients with certificates of acme's own authority.
struct Scene {
    fleet: Fleet,
    one: Credential,
    two: Credential,
}

impl Scene {
    fn new() -> Self {
        let fleet = Fleet::of(3);
        let clients = TestAuthority::new("Clients");
        let asks = by_certificate(&clients);
        let acme = fleet.policy_with(Guests::Welcome, |endpoint| endpoint.authentication(&asks));
        let resident = fleet.resident().to_string();
        let elsewhere = EndpointText::new("orders", ELSEWHERE).allow(&resident, "public");
        let globex = TenantText::new("globex")
            .cluster("orders", &fleet.postgres)
            .endpoint(elsewhere.authentication(&asks));
        let reply = fleet.nodes[0].apply(&[acme, globex]).ok();
        assert_eq!(reply["nodes_in_force"], 3, "{reply}");
        Self {
            one: clients.client("one", &[]),
            two: clients.client("two", &[]),
            fleet,
        }
    }

    fn start(&self, node: usize, name: &str, credential: &Credential) -> RawClient {
        let dial = self.fleet.nodes[node]
            .dial(name)
            .from(self.fleet.resident());
        let start = [("user", "batch"), ("database", "postgres")];
        dial.credential(credential).start(&start).unwrap()
    }

    fn enter(&self, node: usize, name: &str, credential: &Credential) -> RawClient {
        let mut client = self.start(node, name, credential);
        let told: Result<Vec<Message>, Ending> = client.read_until(b'Z');
        assert_eq!(told.unwrap()[0].authentication(), Some(0));
        client
    }

    /// What the first client is told.
    fn refused(&self, node: usize) -> Message {
        self.start(node, NAME, &self.one).refusal()
    }

    /// `revoke` of the first client's certificate at acme's.
    fn revoke(&self, node: usize, more: &[&str]) -> Finished {
        let file = self.fleet.nodes[node].folder().join("one.pem");
        std::fs::write(&file, &self.one.chain_pem).unwrap();
        let file = file.display().to_string();
        let which = ["revoke", "--certificate", &file, "--tenant", "acme"];
        self.said(node, &[&which, more].concat())
    }

    fn said(&self, node: usize, arguments: &[&str]) -> Finished {
        let node: &Node = &self.fleet.nodes[node];
        let socket = node.socket().display().to_string();
        node.portcullis(&[arguments, &["--socket", &socket]].concat())
    }
}

/// Both clients come as the role `batch`.
fn by_certificate(clients: &TestAuthority) -> String {
    let pem: String = clients
        .pem()
        .lines()
        .map(|line| format!("\n            {line}"))
        .collect();
    format!(
        "\n      certificate:\n        authorities: |{pem}\n        map: [{{name: \"cn:one\", role: batch}}, {{name: \"cn:two\", role: batch}}]"
    )
}

//! The story of an attempt, asked of any node.

use portcullis_tests::client::{Binding, V3_0, startup};
use portcullis_tests::fleet::{GATEWAY, Guests};
use portcullis_tests::process::Finished;
use portcullis_tests::{Ending, Fleet};
use serde_json::Value;

/// The reference that a guest is refused with at a node.
fn refused_at(fleet: &Fleet, node: usize) -> String {
    let mut client = fleet.dial(node, fleet.guest()).connect().unwrap();
    let parameters = [("user", "app"), ("database", "postgres")];
    client.send(&startup(V3_0, &parameters)).unwrap();
    match client.authenticate("app", "secret", Binding::None) {
        Err(Ending::Refused(told)) => told.reference(),
        other => panic!("should have been refused: {other:?}"),
    }
}

fn why(fleet: &Fleet, asked: usize, reference: &str) -> Finished {
    let node = &fleet.nodes[asked];
    let socket = node.socket();
    let arguments = [
        "why",
        reference,
        "--json",
        "--socket",
        socket.to_str().unwrap(),
    ];
    node.portcullis(&arguments)
}

#[test]
fn a_reference_is_known_on_every_node_whichever_gave_it() {
    let mut fleet = Fleet::of(3);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 4, "{reply}");
    for given_by in [0, gateway] {
        let reference = refused_at(&fleet, given_by);
        let name = fleet.nodes[given_by].name().to_owned();
        for asked in 0..fleet.nodes.len() {
            let reply: Value = serde_json::from_str(why(&fleet, asked, &reference).ok()).unwrap();
            let events = reply["events"].as_array().unwrap();
            let denied: Vec<&Value> = events
                .iter()
                .filter(|event| event["kind"] == "connection.denied")
                .collect();
            assert_eq!(denied.len(), 1, "asked of {asked}: {reply}");
            assert_eq!(denied[0]["node"], name.as_str(), "{reply}");
            assert_eq!(reply["silent"], serde_json::json!([]), "{reply}");
        }
    }

    // Who has it is gone: whoever asks is told that something may be missing.
    let reference = refused_at(&fleet, 2);
    let name = fleet.nodes[2].name().to_owned();
    fleet.nodes[2].kill();
    for asked in [0, gateway] {
        let told = why(&fleet, asked, &reference).stdout;
        assert!(told.contains("not every node answered"), "{told}");
        assert!(told.contains(&name), "{told}");
    }
}

//! What the front doors of a fleet tell each other: cancel requests, counts, failed sign-ins.

mod scene;

use std::time::{Duration, Instant};

use portcullis_tests::client::{Binding, V3_0, V3_2, startup};
use portcullis_tests::fleet::Guests;
use portcullis_tests::{Ending, Fleet, Message, wait};
use scene::SOON;
use scene::session::Session;

/// A refused sign-in.
fn refused(fleet: &Fleet, node: usize, password: &str) -> Message {
    let mut client = fleet.dial(node, fleet.resident()).connect().unwrap();
    let parameters = [("user", "app"), ("database", "postgres")];
    client.send(&startup(V3_0, &parameters)).unwrap();
    match client.authenticate("app", password, Binding::None) {
        Err(Ending::Refused(told)) => told,
        other => panic!("should have been refused: {other:?}"),
    }
}

#[test]
fn a_cancel_request_reaches_its_query_from_any_node() {
    let fleet = Fleet::of(3);
    for protocol in [V3_0, V3_2] {
        for (home, asked) in [(0, 1), (2, 0)] {
            let mut session = Session::by(&fleet.dial(home, fleet.resident()), protocol);
            session.sleep(&fleet.postgres);
            let dial = fleet.dial(asked, fleet.resident());
            let (messages, _) = session.request(&dial);
            assert!(messages.is_empty(), "a cancel request has no answer");
            assert_eq!(session.outcome(), "57014");
            let passed = fleet.nodes[asked].event("a request that was passed on", |event| {
                event["kind"] == "cancel.forwarded"
                    && event["outcome"] == "passed_on"
                    && event["to"] == fleet.nodes[home].name()
            });
            fleet.nodes[home].event("the same request, carried out", |event| {
                event["kind"] == "cancel.forwarded"
                    && event["outcome"] == "delivered"
                    && event["reference"] == passed["reference"]
            });
        }
    }

    // The node that issued the key decides, for the address that the request came from.
    let mut session = Session::by(&fleet.dial(0, fleet.resident()), V3_0);
    session.sleep(&fleet.postgres);
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    session.request(&fleet.dial(1, fleet.guest()));
    let denied = fleet.nodes[0].event("a request from where nobody is let in", |event| {
        event["kind"] == "cancel.denied" && event["address"] == fleet.guest().to_string()
    });
    assert_eq!(denied["code"], "address_not_listed", "{denied}");
    assert!(session.is_running(&fleet.postgres));
    session.request(&fleet.dial(2, fleet.resident()));
    assert_eq!(session.outcome(), "57014");
}

#[test]
fn a_tenants_cap_holds_across_the_fleet() {
    let fleet = Fleet::of(3);
    let capped = fleet.policy(Guests::Welcome).limits("{connections: 4}");
    let reply = fleet.nodes[0].apply(&[capped]).ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    let connect = |node| fleet.connect(node, fleet.resident());
    let mut held = vec![connect(0), connect(0), connect(1), connect(1)];
    // Twice a second each says what it holds.
    wait::wait_for("node 2 to hear of the others' connections", SOON, || {
        let mut client = fleet.dial(2, fleet.resident()).connect().unwrap();
        let parameters = [("user", "app"), ("database", "postgres")];
        client.send(&startup(V3_0, &parameters)).unwrap();
        match client.authenticate("app", "secret", Binding::None) {
            Err(Ending::Refused(told)) => told.sqlstate() == "53300",
            Err(other) => panic!("{other:?}"),
            Ok(_) => false,
        }
    });
    assert_eq!(refused(&fleet, 2, "secret").sqlstate(), "53300");
    held.pop();
    let began = Instant::now();
    wait::wait_for("node 2 to let the next one in", SOON, || {
        let mut client = fleet.dial(2, fleet.resident()).connect().unwrap();
        let parameters = [("user", "app"), ("database", "postgres")];
        client.send(&startup(V3_0, &parameters)).unwrap();
        client.authenticate("app", "secret", Binding::None).is_ok()
    });
    assert!(began.elapsed() < Duration::from_secs(5));

    // A node that is gone holds nothing, soon.
    let mut fleet = fleet;
    fleet.nodes[0].kill();
    wait::wait_for("the dead node's connections to be forgotten", SOON, || {
        let mut client = fleet.dial(2, fleet.resident()).connect().unwrap();
        let parameters = [("user", "app"), ("database", "postgres")];
        client.send(&startup(V3_0, &parameters)).unwrap();
        client.authenticate("app", "secret", Binding::None).is_ok()
    });
}

#[test]
fn failed_sign_ins_slow_the_next_proof_on_every_node() {
    let fleet = Fleet::of(3);
    for _ in 0..6 {
        assert_eq!(refused(&fleet, 0, "wrong").sqlstate(), "28P01");
    }
    let slowed = wait::until(SOON, || {
        let told = refused(&fleet, 1, "wrong");
        let event = fleet.nodes[1].event("the failed sign-in", |event| {
            event["kind"] == "authentication.failed" && event["reference"] == *told.reference()
        });
        (event["delayed_ms"].as_u64() > Some(0)).then_some(event)
    });
    let slowed = slowed.expect("node 1 heard what failed on node 0");
    assert_eq!(slowed["delayed_by"], "source_and_role", "{slowed}");
}

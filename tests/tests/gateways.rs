//! Gateways that do not vote: they are told the view, keep it, and serve from it.

use std::time::{Duration, Instant};

use portcullis_tests::client::Binding;
use portcullis_tests::fleet::{BOTH, Fleet, GATEWAY, Guests, figure};
use portcullis_tests::policy::{EndpointText, TenantText};
use portcullis_tests::wait;
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);
/// The name of the other tenant's endpoint.
const GLOBEX: &str = "globex-orders.db.test";

#[test]
fn a_gateway_serves_what_it_was_told_with_or_without_control_nodes() {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]).ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    let mut guest = fleet.connect(gateway, fleet.guest());
    assert_eq!(guest.query("select 1").unwrap().len(), 1);

    // It answers questions and takes no command.
    let files =
        json!({"files": {"acme.yaml": fleet.policy(Guests::Unwelcome).yaml()}, "prune": false});
    let answer = fleet.nodes[gateway]
        .ask("POST", "/v1/apply", &files)
        .unwrap();
    assert_eq!((answer.status, answer.code()), (421, "not_a_control_node"));

    // Without any control node: whoever is in stays in, and others come in. When it was confirmed is written a moment later than it
    // is known, and nobody confirms it any more then.
    let confirmed = fleet.nodes[gateway].data().join("fleet/view.confirmed");
    wait::wait_for("what it keeps", SOON, || confirmed.exists());
    fleet.nodes[0].kill();
    assert_eq!(guest.query("select 1").unwrap().len(), 1);
    drop(fleet.connect(gateway, fleet.resident()));

    // The same after a restart of its own, from what it kept.
    fleet.nodes[gateway].kill();
    fleet.nodes[gateway].start();
    let mut guest = fleet.connect(gateway, fleet.guest());
    let revision = fleet.nodes[gateway].revision();

    // A withdrawal reaches it once somebody tells it.
    fleet.nodes[0].start();
    wait::wait_for("the gateway reports", SOON, || {
        let status = fleet.nodes[0].status();
        status
            .is_some_and(|it| it["nodes"].to_string().contains("\"edge\"") && it["quorum"] == true)
    });
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    assert_eq!(guest.refusal().sqlstate(), "57P01");
    assert!(fleet.nodes[gateway].revision() > revision);
}

#[test]
fn a_gateway_that_nobody_confirms_lets_nobody_in_after_its_limit() {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.nodes[gateway].rewrite("[fleet]\n", "[fleet]\nstale-limit = 6\n");
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    let mut resident = fleet.connect(gateway, fleet.resident());
    fleet.nodes[0].kill();
    assert_eq!(resident.query("select 1").unwrap().len(), 1);
    assert_eq!(resident.refusal().sqlstate(), "57P01");
    assert!(is_refused(&fleet, gateway));

    // A restart does not make it younger.
    fleet.nodes[gateway].kill();
    fleet.nodes[gateway].start();
    assert!(is_refused(&fleet, gateway));

    fleet.nodes[0].start();
    wait::wait_for("customers come in again", SOON, || {
        !is_refused(&fleet, gateway)
    });
    drop(fleet.connect(gateway, fleet.resident()));
}

#[test]
fn a_tenant_that_minds_is_refused_by_a_gateway_that_nobody_confirms_and_another_is_served() {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let minds = fleet
        .policy(Guests::Unwelcome)
        .limits("{on-stale: {refuse-after: 10}}");
    let globex = TenantText::new("globex")
        .cluster("orders", &fleet.postgres)
        .endpoint(
            EndpointText::new("orders", GLOBEX).allow(&fleet.resident().to_string(), "public"),
        );
    // The gateway has said by then that it understands the key.
    wait::wait_for("every node understands it", SOON, || {
        fleet.nodes[0]
            .apply(&[minds.clone(), globex.clone()])
            .status
            == 200
    });
    let globex_comes_in = |fleet: &Fleet| {
        let dial = fleet.nodes[gateway].dial(GLOBEX).from(fleet.resident());
        let started = dial.start(&[("user", "app"), ("database", "postgres")]);
        started.is_ok_and(|mut client| client.authenticate("app", "secret", Binding::None).is_ok())
    };
    wait::wait_for("the gateway has the policy", SOON, || {
        globex_comes_in(&fleet)
    });
    let mut resident = fleet.connect(gateway, fleet.resident());

    fleet.nodes[0].kill();
    let began = Instant::now();
    let refusal = |from| {
        let started = fleet
            .dial(gateway, from)
            .start(&[("user", "app"), ("database", "postgres")]);
        let said = started.ok()?.read_message().ok()?;
        (said.kind == b'E').then(|| said.sqlstate())
    };
    wait::wait_for("acme's new clients are refused", SOON, || {
        refusal(fleet.resident()).as_deref() == Some("57P03")
    });
    let refused = began.elapsed();
    figure("on-stale-10s-refuses-ms", refused.as_millis());
    assert!(refused >= Duration::from_secs(8), "{refused:?}");
    assert!(globex_comes_in(&fleet));
    // Who is in stays in, and who was never listed learns nothing.
    assert_eq!(resident.query("select 1").unwrap().len(), 1);
    assert_eq!(refusal(fleet.guest()).as_deref(), Some("28000"));
    let asked = json!({"tenant": "acme", "endpoint": "orders", "via": "public",
        "user": "app", "database": "postgres", "address": fleet.resident().to_string()});
    let told = fleet.nodes[gateway]
        .ask("POST", "/v1/explain", &asked)
        .unwrap();
    assert!(
        told.body.to_string().contains("policy_stale"),
        "{}",
        told.body
    );

    // A restart does not make the policy younger, and a confirmation does.
    fleet.nodes[gateway].kill();
    fleet.nodes[gateway].start();
    assert!(is_refused(&fleet, gateway));
    fleet.nodes[0].start();
    wait::wait_for("acme's clients come in again", SOON, || {
        !is_refused(&fleet, gateway)
    });
}

#[test]
fn a_node_that_votes_and_hears_no_quorum_lets_nobody_in_after_its_limit() {
    let mut fleet = Fleet::of(2);
    fleet.nodes[0].stop();
    fleet.nodes[0].rewrite("[fleet]\n", "[fleet]\nstale-limit = 6\n");
    fleet.nodes[0].start();
    fleet.settled();
    let mut resident = fleet.connect(0, fleet.resident());
    let revision = fleet.nodes[0].revision();
    fleet.nodes[1].kill();
    let began = Instant::now();
    assert_eq!(resident.query("select 1").unwrap().len(), 1);
    assert_eq!(resident.refusal().sqlstate(), "57P01");
    let closed = began.elapsed();
    figure("stale-limit-6s-voter-closes-ms", closed.as_millis());
    assert!(closed >= Duration::from_secs(4), "{closed:?}");
    assert!(is_refused(&fleet, 0));

    // A restart does not make it younger.
    fleet.nodes[0].kill();
    fleet.nodes[0].start();
    assert!(is_refused(&fleet, 0));

    fleet.nodes[1].start();
    wait::wait_for("customers come in again", SOON, || !is_refused(&fleet, 0));
    drop(fleet.connect(0, fleet.resident()));
    fleet.settled();
    assert_eq!(fleet.nodes[0].revision(), revision);
    // And changes are in force there as before.
    let reply = fleet.nodes[1]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
}

#[test]
fn a_gateway_that_was_away_while_every_voter_changed_believes_the_new_ones() {
    let mut fleet = Fleet::of(3);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 4, "{reply}");

    // Whoever tells it may be lost: another does.
    fleet.nodes[0].kill();
    let _ = fleet.leader_but(Some(0));
    let reply = fleet.nodes[1].apply(&[fleet.policy(Guests::Welcome)]).ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    fleet.nodes[gateway].kill();

    for gone in [0, 1] {
        let name = fleet.nodes[gone].name().to_owned();
        let by = &fleet.nodes[2];
        let socket = by.socket().display().to_string();
        let _ = by
            .portcullis(&["fleet", "remove", &name, "--socket", &socket])
            .ok();
        // Its vote is taken before it is: in the middle of that both count.
        if fleet.nodes[gone].runs() {
            let _ = fleet.leader_but(Some(gone));
            fleet.nodes[gone].kill();
        }
        let new = fleet.unmade(&format!("new{gone}"), BOTH);
        let token = fleet.nodes[2].invite(fleet.nodes[new].name(), "control,gateway");
        let _ = fleet.nodes[new].join(&token).ok();
        fleet.nodes[new].start();
        wait::wait_for("the new node votes", SOON, || {
            let status = fleet.nodes[2].status().unwrap();
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().any(|node| {
                node["name"] == fleet.nodes[new].name()
                    && (node["consensus"] == "voter" || node["consensus"] == "leader")
            })
        });
    }
    fleet.nodes[gateway].start();
    let reply = fleet.nodes[2]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(
        reply["nodes_in_force"],
        4,
        "{reply}\n{}",
        fleet.nodes[gateway].said()
    );
    drop(fleet.connect(gateway, fleet.resident()));
}

/// Whether the tenant's client, who is listed, is not let in.
fn is_refused(fleet: &Fleet, gateway: usize) -> bool {
    let dial = fleet.dial(gateway, fleet.resident());
    let started = dial.start(&[("user", "app"), ("database", "postgres")]);
    started.map_or(true, |mut client| {
        client.authenticate("app", "secret", Binding::None).is_err()
    })
}

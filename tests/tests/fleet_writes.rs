//! Changes whose answer gets lost are told as what they are.

use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Answer, BOTH, Guests, figure};
use portcullis_tests::{Fleet, requires_root, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_change_whose_answer_was_lost_is_made_once_and_told_as_made() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (asked, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = fleet.nodes[third].revision();
    // The leader hears the asked node and is not heard by it.
    let wires = fleet.wires.as_ref().unwrap();
    wires.cut(fleet.nodes[leader].host(), fleet.nodes[asked].host());
    let policy = fleet.policy(Guests::Unwelcome);
    let answer = std::thread::scope(|scope| {
        let answer = scope.spawn(|| fleet.nodes[asked].apply(std::slice::from_ref(&policy)));
        wait::wait_for("the change at the third", SOON, || {
            fleet.nodes[third].revision() > before
        });
        // The asked node gives the leader 5 s to answer.
        std::thread::sleep(Duration::from_secs(6));
        wires.heal();
        answer.join().unwrap()
    });
    let reply = answer.ok();
    assert_eq!(reply["changed"], true, "{reply}");
    assert_eq!(reply["revision"], before + 1, "{reply}");
    assert_eq!(reply["difference"]["altered"][0], "acme", "{reply}");
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    let events = about_policy(&fleet, asked);
    let made: Vec<&Value> = events
        .iter()
        .filter(|event| event["revision"] == before + 1)
        .collect();
    assert_eq!(made.len(), 1, "{events:?}");
    assert_eq!(made[0]["kind"], "policy.applied", "{events:?}");
    assert!(made[0]["repeated"].is_null(), "{events:?}");
    assert_eq!(fleet.nodes[third].revision(), before + 1);
}

#[test]
fn a_change_with_an_unknown_outcome_is_no_refused_one_and_can_be_asked_for_again() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (asked, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = fleet.nodes[third].revision();
    let wires = fleet.wires.as_ref().unwrap();
    wires.cut(fleet.nodes[leader].host(), fleet.nodes[asked].host());
    let policy = fleet.policy(Guests::Unwelcome);
    let request = Some("00112233445566778899aabbccddeeff");
    let began = Instant::now();
    let ask = || -> Answer { fleet.nodes[asked].apply_as(std::slice::from_ref(&policy), request) };
    let answer = ask();
    figure("unknown-outcome-told-ms", began.elapsed().as_millis());
    assert_eq!(
        (answer.status, answer.code()),
        (504, "unknown_outcome"),
        "{}",
        answer.body
    );
    assert_eq!(fleet.nodes[third].revision(), before + 1);
    let kinds: Vec<Value> = about_policy(&fleet, asked)
        .iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert!(kinds.contains(&"policy.unconfirmed".into()), "{kinds:?}");
    assert!(!kinds.contains(&"policy.rejected".into()), "{kinds:?}");
    wires.heal();
    fleet.settled();
    let reply = ask().ok();
    assert_eq!(
        (&reply["changed"], &reply["revision"]),
        (&true.into(), &(before + 1).into()),
        "{reply}"
    );
    assert!(reply["note"].is_string(), "{reply}");
    assert_eq!(fleet.nodes[third].revision(), before + 1);
    fleet.nodes[asked].event("the change", |event| {
        event["kind"] == "policy.applied" && event["repeated"] == true
    });
}

fn about_policy(fleet: &Fleet, node: usize) -> Vec<Value> {
    let events = fleet.nodes[node].events().into_iter();
    let of_policy = |event: &Value| {
        let kind = event["kind"].as_str().unwrap_or_default();
        kind.starts_with("policy.")
    };
    events.filter(of_policy).collect()
}

#[test]
fn a_control_node_that_was_not_given_the_state_yet_says_so_and_takes_the_command_once_it_was() {
    let mut fleet = Fleet::of(1);
    let late = fleet.unmade("late", BOTH);
    fleet.join(late, "control,gateway");
    fleet.nodes[0].kill();
    fleet.nodes[late].start();
    let (answer, _) = fleet.nodes[late].write("too-early");
    assert_eq!((answer.status, answer.code()), (503, "joining"));
    // It waits for the state.
    std::thread::scope(|scope| {
        let (first, others) = fleet.nodes.split_at_mut(1);
        let written = scope.spawn(|| {
            wait::until(Duration::from_secs(60), || {
                let (answer, _) = others[0].write("in-time");
                assert_ne!(answer.status, 421, "{}", answer.body);
                (answer.status == 200).then_some(())
            })
        });
        first[0].start();
        assert!(written.join().unwrap().is_some());
    });
}

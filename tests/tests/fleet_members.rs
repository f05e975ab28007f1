//! Who is taken out of a fleet while others are cut off: there is one quorum at most, and it is kept.

use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Answer, Guests, Load, figure};
use portcullis_tests::{Fleet, requires_root, wait};
use serde_json::{Value, json};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);
/// For how long two sides are asked to decide something.
const TWO_SIDES: Duration = Duration::from_secs(12);

#[test]
fn one_that_is_removed_under_a_partition_leaves_one_quorum_and_never_two() {
    requires_root!();
    let mut fleet = Fleet::on_wires(4);
    let away = (fleet.leader() + 1) % 4;
    let goes = (away + 1) % 4;
    let (stays, third) = ((away + 2) % 4, (away + 3) % 4);
    let load = Load::through(&fleet, &[away, stays]);
    part(&fleet, &[away], &[goes, stays, third]);
    wait::wait_for("it to know that it is cut off", SOON, || {
        fleet.nodes[away].status().unwrap()["quorum"] == false
    });
    let name = fleet.nodes[goes].name().to_owned();
    let began = Instant::now();
    let _ = remove(&fleet, stays, goes).ok();
    // It is of the fleet no longer at once, and votes until that is agreed on.
    wait::wait_for("the vote to be taken away", SOON, || {
        let dropped = "the set of voters changes\",\"step\":\"Drop(";
        let mut others = [stays, third].into_iter();
        place(&fleet, stays, &name).is_none()
            && others.any(|node| fleet.nodes[node].log_text().contains(dropped))
    });
    // Whoever is cut off counts four, and hears the one that was removed, which did, too.
    fleet.wires.as_ref().unwrap().heal();
    part(&fleet, &[away, goes], &[stays, third]);
    let (mut decided, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let minority = scope.spawn(|| {
            let mut refused = 0;
            while began.elapsed() < TWO_SIDES {
                let answer = fleet.nodes[away].apply(&[fleet.policy(Guests::Welcome)]);
                assert_ne!(answer.status, 200, "a second quorum: {}", answer.body);
                refused += 1;
            }
            refused
        });
        while began.elapsed() < TWO_SIDES {
            let guests = [Guests::Unwelcome, Guests::Welcome][decided % 2];
            let answer = fleet.nodes[stays].apply(&[fleet.policy(guests)]);
            assert_eq!(answer.status, 200, "{}", answer.body);
            decided += 1;
        }
        refused = minority.join().unwrap();
    });
    figure("removed-under-partition-decided", decided);
    figure("removed-under-partition-refused-to-the-others", refused);
    assert!(decided > 0 && refused > 0, "{decided} {refused}");
    // One of the three that vote is cut off: the two others are a quorum, and one alone is none.
    let revision = fleet.nodes[stays].revision();
    assert!(fleet.nodes[away].revision() <= revision);
    fleet.wires.as_ref().unwrap().heal();
    // It serves nobody any more, and ends.
    wait::wait_for("the one that was removed to end", 2 * SOON, || {
        fleet.nodes[goes].ended().is_some()
    });
    let settled = fleet.settled();
    figure("removed-under-partition-healed-ms", settled.as_millis());
    assert!(fleet.nodes[away].revision() >= revision);
    assert!(place(&fleet, away, &name).is_none());
    fleet.nodes[third].kill();
    let (answer, _) = fleet.nodes[away].write("two-of-three");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn one_whom_the_quorum_needs_is_not_removed_until_it_is_not_needed() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (needed, away) = ((leader + 1) % 3, (leader + 2) % 3);
    part(&fleet, &[away], &[leader, needed]);
    wait::wait_for("it to know that it is cut off", SOON, || {
        fleet.nodes[away].status().unwrap()["quorum"] == false
    });
    for through in [leader, needed] {
        let answer = remove(&fleet, through, needed);
        assert_eq!((answer.status, answer.code()), (409, "quorum_needs_it"));
    }
    // The fleet can still decide.
    let (answer, _) = fleet.nodes[leader].write("still");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Whoever is away may go, and may not come back.
    let _ = remove(&fleet, leader, away).ok();
    let name = fleet.nodes[away].name().to_owned();
    wait::wait_for("the vote to be taken away", SOON, || {
        place(&fleet, leader, &name).is_none()
    });
    // Of two, one may go.
    let answer = remove(&fleet, leader, needed);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (answer, _) = fleet.nodes[leader].write("alone");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Nothing gets from one of these to one of those.
fn part(fleet: &Fleet, these: &[usize], those: &[usize]) {
    let wires = fleet.wires.as_ref().unwrap();
    for (one, other) in these
        .iter()
        .flat_map(|one| those.iter().map(move |other| (one, other)))
    {
        wires.part(fleet.nodes[*one].host(), fleet.nodes[*other].host());
    }
}

fn remove(fleet: &Fleet, through: usize, node: usize) -> Answer {
    let asked = json!({"name": fleet.nodes[node].name()});
    let answer = fleet.nodes[through].ask("POST", "/v1/fleet/remove", &asked);
    answer.unwrap()
}

/// What a node is to the agreement, in the eyes of this one; none is no node of the fleet.
fn place(fleet: &Fleet, asked: usize, name: &str) -> Option<Value> {
    let status = fleet.nodes[asked].status()?;
    let nodes = status["nodes"].as_array()?;
    let node = nodes.iter().find(|node| node["name"] == name)?;
    Some(node["consensus"].clone())
}

//! A fleet loses nodes and loses nothing else.

use std::time::{Duration, Instant};

use portcullis_tests::Fleet;
use portcullis_tests::fleet::{Guests, Load, figure, median};
use portcullis_tests::wait;

#[test]
fn losing_the_leader_stops_writes_for_a_moment_and_no_customer() {
    let mut fleet = Fleet::of(3);
    let mut gaps = Vec::new();
    for round in 0..4 {
        let leader = fleet.leader();
        let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        let load = Load::through(&fleet, &[0, 1, 2]);
        std::thread::sleep(Duration::from_millis(300));
        fleet.nodes[leader].kill();
        let (answer, gap) = fleet.nodes[others[0]].write(&format!("probe-{round}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        gaps.push(gap);
        std::thread::sleep(Duration::from_millis(300));
        let failures = load.failures_at(&others);
        assert!(failures.is_empty(), "{failures:?}");
        let (queries, connections) = load.served();
        assert!(queries > 50 && connections > 3, "{queries} {connections}");
        drop(load);
        fleet.nodes[leader].start();
        fleet.settled();
    }
    figure(
        "kill-leader-write-gap-max-ms",
        gaps.iter().max().unwrap().as_millis(),
    );
    let p50 = median(gaps);
    figure("kill-leader-write-gap-p50-ms", p50.as_millis());
    assert!(p50 < Duration::from_secs(2), "{p50:?}");
}

#[test]
fn losing_a_follower_and_then_the_majority_stops_no_customer_of_those_who_stay() {
    let mut fleet = Fleet::of(3);
    let leader = fleet.leader();
    let follower = (leader + 1) % 3;
    let last = (leader + 2) % 3;
    let load = Load::through(&fleet, &[leader, last]);
    fleet.nodes[follower].kill();
    let (answer, gap) = fleet.nodes[last].write("without-a-follower");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("kill-follower-write-ms", gap.as_millis());
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    assert!(load.failures().is_empty(), "{:?}", load.failures());

    // Two of three: the one that stays serves whom it served, and nobody changes anything.
    fleet.nodes[leader].kill();
    let revision = fleet.nodes[last].revision();
    let lost = wait::wait_for("its lease to end", Duration::from_secs(12), || {
        fleet.nodes[last].status().unwrap()["quorum"] == false
    });
    figure("lease-ends-after-majority-loss-ms", lost.as_millis());
    let status = fleet.nodes[last].status().unwrap();
    assert_eq!(
        (&status["quorum"], &status["lease_ms"]),
        (&false.into(), &0.into()),
        "{status}"
    );
    let failures = load.failures_at(&[last]);
    assert!(failures.is_empty(), "{failures:?}");
    drop(load);

    // It comes back alone and still serves, from what it has on disk.
    fleet.nodes[last].kill();
    let began = Instant::now();
    fleet.nodes[last].start();
    drop(fleet.connect(last, fleet.guest()));
    let serving = began.elapsed();
    figure("restart-alone-serving-ms", serving.as_millis());
    assert!(serving < Duration::from_secs(4), "{serving:?}");
    assert_eq!(fleet.nodes[last].revision(), revision);
    let (refused, took) = fleet.nodes[last].write("without-a-quorum");
    assert_eq!(
        (refused.status, refused.code()),
        (503, "no_quorum"),
        "{}",
        refused.body
    );
    figure("no-quorum-told-ms", took.as_millis());
    assert!(took < Duration::from_secs(20), "{took:?}");

    // The others come back: nothing was decided meanwhile, and writes go on.
    for index in [leader, follower] {
        fleet.nodes[index].start();
    }
    let healed = fleet.settled();
    figure("majority-back-settled-ms", healed.as_millis());
    let views: Vec<u64> = fleet.nodes.iter().map(|node| node.revision()).collect();
    assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
    let reply = fleet.nodes[follower]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
}

#[test]
fn a_leader_that_sleeps_is_replaced_and_nothing_it_took_is_lost_or_doubled() {
    let fleet = Fleet::of(3);
    let leader = fleet.leader();
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let load = Load::through(&fleet, &others);
    // One that the old leader is asked for while it sleeps, by itself …
    fleet.nodes[leader].freeze();
    let (asleep, awake) = std::thread::scope(|scope| {
        let asleep = scope.spawn(|| fleet.nodes[leader].write("given-to-the-sleeper"));
        let (answer, gap) = fleet.nodes[others[0]].write("given-to-the-others");
        assert_eq!(answer.status, 200, "{}", answer.body);
        figure("frozen-leader-write-gap-ms", gap.as_millis());
        assert!(gap < Duration::from_secs(5), "{gap:?}");
        std::thread::sleep(Duration::from_secs(5));
        fleet.nodes[leader].thaw();
        (asleep.join().unwrap().0, answer)
    });
    // … is executed once, by whoever leads now, or refused; it is not forgotten.
    assert_eq!((asleep.status, awake.status), (200, 200), "{}", asleep.body);
    let settled = fleet.settled();
    figure("woken-leader-settled-ms", settled.as_millis());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    // The same name again is refused or replaces: either way each was counted once.
    let before = fleet.nodes[others[0]].revision();
    let (again, _) = fleet.nodes[others[0]].write("one-more");
    assert_eq!(again.status, 200, "{}", again.body);
    fleet.reached(before + 1);
    assert_eq!(fleet.nodes[others[0]].revision(), before + 1);
    wait::wait_for("the old leader follows", Duration::from_secs(10), || {
        fleet.nodes[leader].revision() == before + 1
    });
}

#[test]
fn a_voter_is_let_go_though_the_one_that_stays_dies_in_between() {
    let mut fleet = Fleet::of(2);
    let (stays, goes) = (fleet.leader(), 1 - fleet.leader());
    let asked = serde_json::json!({"name": fleet.nodes[goes].name()});
    let answer = fleet.nodes[stays].ask("POST", "/v1/fleet/remove", &asked);
    // It is of the fleet no longer, and its vote is still asked for to say so.
    fleet.nodes[goes].freeze();
    assert_eq!(answer.unwrap().status, 200);
    fleet.nodes[stays].kill();
    let since = Instant::now();
    fleet.nodes[stays].start();
    fleet.nodes[goes].thaw();
    wait::wait_for("one voter", Duration::from_secs(30), || {
        let status = fleet.nodes[stays].status();
        status.is_some_and(|status| {
            status["quorum"] == true && status["nodes"].as_array().is_some_and(|all| all.len() == 1)
        })
    });
    figure("let-go-after-a-crash-ms", since.elapsed().as_millis());
    let (answer, _) = fleet.nodes[stays].write("alone");
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait::wait_for("the one that went to end", Duration::from_secs(40), || {
        fleet.nodes[goes].ended().is_some()
    });
}

//! Nodes that fall over again and again, and more of them at once than may be lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::fleet::admin::ask;
use portcullis_tests::fleet::{Answer, Guests, Load, figure};
use portcullis_tests::{Fleet, wait};
use serde_json::json;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);
/// How long nodes fall over.
const STORM: Duration = Duration::from_secs(40);
/// How long a change may take while they do: two elections on a busy machine, and more.
const LONGEST_GAP: Duration = Duration::from_secs(25);
/// How long a node may take over one answer before the next is asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// An address that every change replaces by one of its own.
const CHANGED: &str = "127.9.9.9";

#[test]
fn whatever_is_answered_while_nodes_fall_over_is_kept_and_made_once() {
    let mut fleet = Fleet::of(3);
    let base = fleet.nodes[0].revision();
    let sockets: Vec<_> = fleet.nodes.iter().map(|node| node.socket()).collect();
    let policy = fleet.policy_with(Guests::Welcome, |endpoint| {
        endpoint.allow(CHANGED, "public")
    });
    let template = policy.yaml();
    let file = format!("{}.yaml", policy.id());
    let body = |number: u64| {
        let own = format!("127.9.{}.{}", number / 250, number % 250 + 1);
        let yaml = template.replace(CHANGED, &own);
        let request = format!("{number:032x}");
        json!({"files": {&file: yaml}, "prune": false, "request": request}).to_string()
    };
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (kills, gaps, repeats) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut gaps, mut repeats) = (Vec::new(), 0_u64);
            let mut turn = 0;
            while !over.load(Ordering::SeqCst) {
                let number = made.load(Ordering::SeqCst) + 1;
                let body = body(number);
                let began = Instant::now();
                let reply = loop {
                    turn += 1;
                    let socket = &sockets[turn % sockets.len()];
                    match ask(socket, "POST", "/v1/apply", &body, PATIENCE) {
                        Some(answer) if answer.status == 200 => break answer.body,
                        Some(Answer { status: 400, body }) => panic!("{body}"),
                        _ => repeats += 1,
                    }
                    assert!(began.elapsed() < LONGEST_GAP, "no answer to {number}");
                    std::thread::sleep(Duration::from_millis(20));
                };
                gaps.push(began.elapsed());
                // Nobody else writes: a change that was lost or made twice shows here.
                assert_eq!(reply["changed"], true, "{number} {reply}");
                assert_eq!(reply["revision"], base + number, "{number} {reply}");
                made.store(number, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
            (gaps, repeats)
        });
        let mut dice = Dice(0x5eed_0001);
        let (began, mut kills) = (Instant::now(), 0_u64);
        while began.elapsed() < STORM && !writer.is_finished() {
            std::thread::sleep(Duration::from_millis(1000 + dice.below(2000)));
            let mut order = [0, 1, 2];
            dice.shuffle(&mut order);
            // One, a majority, or all.
            let falling = 1 + usize::try_from(dice.below(3)).unwrap();
            for index in &order[..falling] {
                fleet.nodes[*index].kill();
                kills += 1;
            }
            dice.shuffle(&mut order[..falling]);
            for index in &order[..falling] {
                std::thread::sleep(Duration::from_millis(dice.below(400)));
                fleet.nodes[*index].start();
            }
        }
        over.store(true, Ordering::SeqCst);
        let (gaps, repeats) = writer.join().unwrap();
        (kills, gaps, repeats)
    });
    let made = made.load(Ordering::SeqCst);
    figure("storm-kills", kills);
    figure("storm-writes-made", made);
    figure("storm-writes-asked-again", repeats);
    let longest = gaps.iter().max().unwrap();
    figure("storm-longest-gap-ms", longest.as_millis());
    assert!(kills >= 10 && made >= 10, "{kills} {made}");
    let settled = fleet.settled();
    figure("storm-settled-ms", settled.as_millis());
    for node in &fleet.nodes {
        assert_eq!(node.revision(), base + made, "{}", node.name());
    }
    // The last is told as made, from every node, and makes nothing.
    for node in &fleet.nodes {
        let answer = ask(&node.socket(), "POST", "/v1/apply", &body(made), SOON);
        let reply = answer.unwrap().ok();
        assert_eq!(reply["revision"], base + made, "{reply}");
    }
    fleet.settled();
    assert_eq!(fleet.nodes[0].revision(), base + made);
}

#[test]
fn two_of_five_may_be_lost_and_with_a_third_only_changes_stop() {
    let mut fleet = Fleet::of(5);
    let leader = fleet.leader();
    let [second, third, fourth, fifth] = [1, 2, 3, 4].map(|step| (leader + step) % 5);
    let load = Load::through(&fleet, &[third, fourth, fifth]);
    fleet.nodes[leader].kill();
    fleet.nodes[second].kill();
    let (answer, gap) = fleet.nodes[third].write("two-of-five-gone");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("two-of-five-gone-write-gap-ms", gap.as_millis());
    let reply = fleet.nodes[fourth]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["changed"], true, "{reply}");
    let decided = reply["revision"].as_u64().unwrap();
    assert!(load.failures().is_empty(), "{:?}", load.failures());

    fleet.nodes[third].kill();
    let left = [fourth, fifth];
    wait::wait_for("both to know that there is no quorum", SOON, || {
        let quorum = |index: &usize| fleet.nodes[*index].status().unwrap()["quorum"].clone();
        left.iter().all(|index| quorum(index) == false)
    });
    for index in left {
        let answer = fleet.nodes[index].apply(&[fleet.policy(Guests::Welcome)]);
        assert_eq!(
            (answer.status, answer.code()),
            (503, "no_quorum"),
            "{}",
            answer.body
        );
    }
    let before = load.served();
    std::thread::sleep(Duration::from_secs(2));
    let after = load.served();
    assert!(after.0 > before.0 && after.1 > before.1, "{after:?}");
    figure("three-of-five-gone-served-in-2s", after.0 - before.0);
    for index in [third, leader, second] {
        fleet.nodes[index].start();
    }
    let settled = fleet.settled();
    figure("five-again-settled-ms", settled.as_millis());
    // What was refused did not happen.
    assert_eq!(fleet.nodes[second].revision(), decided);
    let reply = fleet.nodes[leader]
        .apply(&[fleet.policy(Guests::Welcome)])
        .ok();
    assert_eq!(reply["revision"], decided + 1, "{reply}");
    let failures = load.failures_at(&left);
    assert!(failures.is_empty(), "{failures:?}");
}

/// The same numbers in every run (`SplitMix64`).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn shuffle(&mut self, things: &mut [usize]) {
        for last in (1..things.len()).rev() {
            let other = self.below(last as u64 + 1);
            things.swap(last, usize::try_from(other).unwrap());
        }
    }
}

//! A process that was stopped, or slept with its machine: before it passes a byte it looks whether
//! what it knows still holds.

use std::time::{Duration, Instant, SystemTime};

use portcullis_tests::Fleet;
use portcullis_tests::fleet::{Answer, GATEWAY, Guests, Load, figure};

#[test]
fn a_frozen_node_is_named_and_closes_what_lapsed_before_it_passes_a_byte_when_it_wakes() {
    let fleet = Fleet::of(3);
    let leader = fleet.leader();
    wakes_with_nothing_passed(&fleet, leader, (leader + 1) % 3);
}

#[test]
fn so_does_one_that_leads_and_one_that_does_not_vote() {
    let mut fleet = Fleet::of(3);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let welcome = |fleet: &Fleet| {
        for guests in [Guests::Unwelcome, Guests::Welcome] {
            let reply = fleet.nodes[0].apply(&[fleet.policy(guests)]).ok();
            assert_eq!(reply["nodes_in_force"], 4, "{reply}");
        }
    };
    welcome(&fleet);
    wakes_with_nothing_passed(&fleet, fleet.leader(), gateway);
    welcome(&fleet);
    let old = fleet.leader();
    wakes_with_nothing_passed(&fleet, (old + 1) % 3, old);
}

#[test]
#[ignore = "a leader sleeps for a minute, twice: `make soak`"]
fn a_leader_that_sleeps_for_a_minute_issues_nothing_when_it_wakes() {
    const ASLEEP: Duration = Duration::from_secs(60);
    let fleet = Fleet::of(3);
    for (round, guests) in [Guests::Unwelcome, Guests::Welcome].into_iter().enumerate() {
        let old = fleet.leader();
        let others = [(old + 1) % 3, (old + 2) % 3];
        let load = Load::through(&fleet, &others);
        let guest = (guests == Guests::Unwelcome).then(|| fleet.connect(old, fleet.guest()));
        fleet.nodes[old].freeze();
        let began = Instant::now();
        let asleep = std::thread::scope(|scope| {
            let asleep = scope.spawn(|| {
                let policy = [fleet.policy(guests)];
                fleet.nodes[old].try_apply_as(&policy, Some(&format!("{round:032x}")))
            });
            let mut slowest = Duration::ZERO;
            let mut number = 0;
            while began.elapsed() < ASLEEP {
                let (answer, took) = fleet.nodes[others[0]].write(&format!("s{round}-{number}"));
                assert_eq!(answer.status, 200, "{}", answer.body);
                slowest = slowest.max(took);
                number += 1;
                std::thread::sleep(Duration::from_secs(1));
            }
            let reply = fleet.nodes[others[1]].apply(&[fleet.policy(guests)]).ok();
            assert_eq!(reply["nodes_in_force"], 2, "{reply}");
            figure("slept-a-minute-slowest-write-ms", slowest.as_millis());
            assert!(slowest < Duration::from_secs(5), "{slowest:?}");
            fleet.nodes[old].thaw();
            asleep.join().unwrap()
        });
        let woken = Instant::now();
        // What it was asked for in its sleep is what the others decided, or refused; whoever asked may
        // have given up.
        let known = |asleep: &Answer| [200, 409, 412].contains(&asleep.status);
        assert!(asleep.as_ref().is_none_or(known), "{asleep:?}");
        if let Some(mut guest) = guest {
            let (told, _) = guest.read_to_end();
            let last = told.last().map(|message| message.sqlstate());
            assert_eq!(last.as_deref(), Some("57P01"), "{told:?}");
        }
        let _ = fleet.settled();
        figure("slept-a-minute-settled-ms", woken.elapsed().as_millis());
        assert_ne!(fleet.leader(), old, "nobody else was to lead");
        assert!(load.failures().is_empty(), "{:?}", load.failures());
    }
}

#[test]
fn a_node_that_wakes_alone_goes_on_from_what_it_knows_but_for_what_expired() {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    let expires = SystemTime::now() + Duration::from_secs(8);
    let until = format!(", expires: {}", moment(expires));
    let policy = fleet.policy_with(Guests::Unwelcome, |endpoint| {
        endpoint.allow_with(&fleet.guest().to_string(), "public", &until)
    });
    let reply = fleet.nodes[0].apply(&[policy]).ok();
    assert_eq!(reply["nodes_in_force"], 2, "{reply}");
    for node in [gateway, 0] {
        let mut resident = fleet.connect(node, fleet.resident());
        let mut guest = (node == gateway).then(|| fleet.connect(node, fleet.guest()));
        if node == gateway {
            // Nobody can confirm anything: the only control node sleeps as well.
            fleet.nodes[0].freeze();
        }
        fleet.nodes[node].freeze();
        resident.send_query("select 'permitted'").unwrap();
        if let Some(guest) = &mut guest {
            guest.send_query("select 'no longer'").unwrap();
            let left = expires.duration_since(SystemTime::now());
            std::thread::sleep(left.unwrap_or_default() + Duration::from_millis(300));
        } else {
            std::thread::sleep(Duration::from_secs(2));
        }
        let woken = Instant::now();
        fleet.nodes[node].thaw();
        if let Some(guest) = &mut guest {
            let (told, _) = guest.read_to_end();
            assert!(told.iter().all(|message| message.kind != b'D'), "{told:?}");
            figure("woken-alone-closes-expired-ms", woken.elapsed().as_millis());
        }
        let answer = resident.read_until(b'Z').unwrap();
        assert!(
            answer.iter().any(|message| message.kind == b'D'),
            "{answer:?}"
        );
        let took = woken.elapsed();
        let named = if node == gateway {
            "unconfirmed"
        } else {
            "alone"
        };
        figure(&format!("woken-{named}-goes-on-ms"), took.as_millis());
        assert!(took < Duration::from_secs(10), "{took:?}");
        let woke = fleet.nodes[node].event("waking", |event| event["kind"] == "node.woke");
        assert_eq!(woke["confirmed"], node != gateway, "{woke}");
        assert!(woke["asleep_ms"].as_u64() >= Some(1_000), "{woke}");
        fleet.nodes[0].thaw();
    }
}

/// Freezes a node, withdraws the guests' entry at another, and wakes it: what a guest said meanwhile
/// is not answered, and what a client said who may stay is.
fn wakes_with_nothing_passed(fleet: &Fleet, awake: usize, frozen: usize) {
    let (all, what) = (fleet.nodes.len(), fleet.nodes[frozen].name());
    let mut guest = fleet.connect(frozen, fleet.guest());
    assert_eq!(guest.query("select 1").unwrap().len(), 1);
    let mut resident = fleet.connect(frozen, fleet.resident());
    // One that waits for the database's answer while the node sleeps.
    let mut waiting = fleet.connect(frozen, fleet.guest());
    waiting
        .send_query("select pg_sleep(1.5), 'asked before'")
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fleet.nodes[frozen].freeze();
    // What clients say while the node sleeps waits in its sockets.
    guest.send_query("select 'after the withdrawal'").unwrap();
    resident.send_query("select 'permitted'").unwrap();
    let reply = fleet.nodes[awake]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(
        (&reply["nodes_in_force"], &reply["nodes"]),
        (&(all - 1).into(), &all.into()),
        "{reply}"
    );
    let receipts = reply["receipts"].as_array().unwrap();
    let named: Vec<&str> = receipts
        .iter()
        .filter(|receipt| receipt["in_force"] == false)
        .map(|receipt| receipt["name"].as_str().unwrap())
        .collect();
    assert_eq!(named, [fleet.nodes[frozen].name()], "{reply}");
    let began = Instant::now();
    fleet.nodes[frozen].thaw();
    let told = guest.read_to_end();
    let closed = began.elapsed();
    figure(&format!("woken-{what}-closes-ms"), closed.as_millis());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let told_before = waiting.read_to_end();
    let both = told.0.iter().chain(&told_before.0);
    let answered = both.filter(|message| message.kind == b'D').count();
    figure("woken-node-answers-what-waited", answered > 0);
    assert_eq!(answered, 0, "{told:?} {told_before:?}");
    let answer = resident.read_until(b'Z').unwrap();
    let rows = answer.iter().filter(|message| message.kind == b'D').count();
    figure(
        &format!("woken-{what}-answers-the-permitted-ms"),
        began.elapsed().as_millis(),
    );
    assert_eq!(rows, 1, "{answer:?}");
    let woke = fleet.nodes[frozen].event("waking", |event| event["kind"] == "node.woke");
    figure(&format!("woken-{what}-paused-ms"), &woke["paused_ms"]);
    assert_eq!(woke["confirmed"], true, "{woke}");
    let last = told.0.last().map(|message| message.sqlstate());
    assert_eq!(last.as_deref(), Some("57P01"), "{told:?}");
    let refused = fleet
        .dial(frozen, fleet.guest())
        .start(&[("user", "app"), ("database", "postgres")]);
    assert!(
        refused
            .unwrap()
            .authenticate("app", "secret", portcullis_tests::client::Binding::None)
            .is_err()
    );
    fleet.reached(reply["revision"].as_u64().unwrap());
}

/// As policy writes it.
fn moment(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let milliseconds = i64::try_from(since.as_millis()).unwrap();
    portcullis_audit::moment::to_text(milliseconds)
}

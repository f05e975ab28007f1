//! Nodes that cannot hear each other: nobody decides twice, customers go on, and whoever was cut
//! off learns what it missed.

use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Guests, Load, figure};
use portcullis_tests::{Fleet, requires_root, wait};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_node_that_is_cut_off_is_named_and_catches_up() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (away, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = fleet.nodes[away].revision();
    let mut guest = fleet.connect(away, fleet.guest());
    let load = Load::through(&fleet, &[0, 1, 2]);
    isolate(&fleet, away);
    let reply = fleet.nodes[third]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(
        (&reply["nodes_in_force"], &reply["nodes"]),
        (&2.into(), &3.into()),
        "{reply}"
    );
    let receipts = reply["receipts"].as_array().unwrap();
    let silent: Vec<_> = receipts
        .iter()
        .filter(|receipt| receipt["in_force"] == false)
        .collect();
    assert_eq!(silent.len(), 1, "{reply}");
    assert_eq!(silent[0]["name"], fleet.nodes[away].name(), "{reply}");
    assert_eq!(silent[0]["revision"], before, "{reply}");
    assert!(silent[0]["stale_limit"].as_u64() > Some(0), "{reply}");
    // It serves from what it has, and knows that it has no quorum.
    assert_eq!(guest.query("select 1").unwrap().len(), 1);
    wait::wait_for("its lease to end", SOON, || {
        quorum(&fleet, away) == Some(false)
    });
    assert_eq!(quorum(&fleet, third), Some(true));

    let healed = Instant::now();
    fleet.wires.as_ref().unwrap().heal();
    let told = guest.read_to_end();
    figure("partition-healed-closes-ms", healed.elapsed().as_millis());
    assert!(healed.elapsed() < SOON, "{:?}", healed.elapsed());
    let last = told.0.last().map(|message| message.sqlstate());
    assert_eq!(last.as_deref(), Some("57P01"), "{told:?}");
    fleet.settled();
    figure("partition-healed-settled-ms", healed.elapsed().as_millis());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_leader_in_the_minority_decides_nothing() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let old = fleet.leader();
    let other = (old + 1) % 3;
    let load = Load::through(&fleet, &[0, 1, 2]);
    isolate(&fleet, old);
    let began = Instant::now();
    let (minority, lost) = std::thread::scope(|scope| {
        let minority = scope.spawn(|| fleet.nodes[old].write("in-the-minority").0);
        let (answer, gap) = fleet.nodes[other].write("in-the-majority");
        assert_eq!(answer.status, 200, "{}", answer.body);
        figure("partitioned-leader-write-gap-ms", gap.as_millis());
        assert!(gap < Duration::from_secs(5), "{gap:?}");
        wait::wait_for("the old leader's lease to end", SOON, || {
            quorum(&fleet, old) == Some(false)
        });
        let lost = began.elapsed();
        (minority.join().unwrap(), lost)
    });
    figure("partitioned-leader-lease-ends-ms", lost.as_millis());
    assert!(lost < Duration::from_secs(11), "{lost:?}");
    let codes = ["no_quorum", "unknown_outcome"];
    assert!(codes.contains(&minority.code()), "{}", minority.body);
    let new = fleet.leader_but(Some(old));
    assert_ne!(new, old);
    let decided = fleet.nodes[other].revision();
    assert!(fleet.nodes[old].revision() < decided);
    fleet.wires.as_ref().unwrap().heal();
    let settled = fleet.settled();
    figure("partitioned-leader-healed-ms", settled.as_millis());
    // What the minority was asked for and did not decide is not decided by the healing either.
    assert_eq!(fleet.nodes[old].revision(), decided);
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_leader_that_is_heard_but_hears_nothing_is_replaced_and_so_is_one_that_is_not_heard() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let load = Load::through(&fleet, &[0, 1, 2]);
    for way in [Way::Deaf, Way::Mute] {
        let old = fleet.leader();
        let other = (old + 1) % 3;
        one_way(&fleet, old, way);
        let cut = Instant::now();
        wait::wait_for("another leader", SOON, || {
            let status = fleet.nodes[other].status().unwrap();
            !status["leader"].is_null() && status["leader"] != fleet.nodes[old].name()
        });
        let elected = cut.elapsed();
        let (answer, _) = fleet.nodes[other].write(&format!("{way:?}").to_lowercase());
        assert_eq!(answer.status, 200, "{way:?} {}", answer.body);
        let gap = cut.elapsed();
        figure(&format!("one-way-{way:?}-elected-ms"), elected.as_millis());
        figure(&format!("one-way-{way:?}-write-gap-ms"), gap.as_millis());
        assert!(gap < Duration::from_secs(8), "{way:?} {gap:?}");
        fleet.wires.as_ref().unwrap().heal();
        fleet.settled();
    }
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn two_nodes_that_cannot_hear_each_other_but_both_a_third_do_not_quarrel_about_who_leads() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (deaf, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let load = Load::through(&fleet, &[0, 1, 2]);
    let wires = fleet.wires.as_ref().unwrap();
    wires.part(fleet.nodes[leader].host(), fleet.nodes[deaf].host());
    let began = Instant::now();
    let (mut changes, mut last, mut number) = (0, leader, 0);
    while began.elapsed() < Duration::from_secs(20) {
        let now = fleet.nodes[third].status().unwrap()["leader"].clone();
        let now = fleet.nodes.iter().position(|node| now == node.name());
        if let Some(now) = now.filter(|now| *now != last) {
            (changes, last) = (changes + 1, now);
        }
        let (answer, took) = fleet.nodes[third].write(&format!("partial-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(took < Duration::from_secs(5), "{took:?}");
        number += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    figure("partial-partition-leader-changes-20s", changes);
    assert!(changes <= 1, "{changes}");
    // A withdrawal, and how far it gets while the cut lasts.
    let reply = fleet.nodes[third]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    figure("partial-partition-nodes-in-force", &reply["nodes_in_force"]);
    assert!(reply["nodes_in_force"].as_u64() >= Some(2), "{reply}");
    wires.heal();
    let settled = fleet.settled();
    figure("partial-partition-healed-ms", settled.as_millis());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_withdrawal_reaches_a_node_that_is_cut_off_from_the_leader_alone() {
    requires_root!();
    let mut fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let (away, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut guest = fleet.connect(away, fleet.guest());
    let mut resident = fleet.connect(away, fleet.resident());
    let wires = fleet.wires.as_ref().unwrap();
    wires.part(fleet.nodes[leader].host(), fleet.nodes[away].host());
    let began = Instant::now();
    let (reply, told, closed) = std::thread::scope(|scope| {
        let apply = || {
            fleet.nodes[leader]
                .apply(&[fleet.policy(Guests::Unwelcome)])
                .ok()
        };
        let applied = scope.spawn(apply);
        let told = guest.read_to_end();
        let closed = began.elapsed();
        (applied.join().unwrap(), told, closed)
    });
    figure("cut-from-the-leader-closes-ms", closed.as_millis());
    assert!(closed < SOON, "{closed:?}");
    let last = told.0.last().map(|message| message.sqlstate());
    assert_eq!(last.as_deref(), Some("57P01"), "{told:?}");
    // The leader hears so through the third.
    figure(
        "cut-from-the-leader-nodes-in-force",
        &reply["nodes_in_force"],
    );
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    assert_eq!(resident.query("select 1").unwrap().len(), 1);
    // A restart does not go back behind it.
    let revision = fleet.nodes[away].revision();
    fleet.nodes[away].kill();
    fleet.nodes[away].start();
    assert!(fleet.nodes[away].revision() >= revision);
    drop(fleet.connect(away, fleet.resident()));

    fleet.wires.as_ref().unwrap().heal();
    let _ = fleet.settled();
    let reply = fleet.nodes[third]
        .apply(&[fleet.policy(Guests::Welcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    drop(fleet.connect(away, fleet.guest()));
}

#[test]
fn a_node_whose_plug_is_pulled_comes_back_with_it() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let leader = fleet.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let load = Load::through(&fleet, &others);
    let wires = fleet.wires.as_ref().unwrap();
    wires.unplug(fleet.nodes[leader].host());
    let (answer, gap) = fleet.nodes[others[0]].write("unplugged");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("unplugged-leader-write-gap-ms", gap.as_millis());
    wires.plug_in(fleet.nodes[leader].host());
    let settled = fleet.settled();
    figure("plugged-in-settled-ms", settled.as_millis());
    drop(fleet.connect(leader, fleet.resident()));
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

/// What a node cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
}

fn one_way(fleet: &Fleet, node: usize, way: Way) {
    let wires = fleet.wires.as_ref().unwrap();
    let own = fleet.nodes[node].host();
    for (_, other) in others(fleet, node) {
        match way {
            Way::Deaf => wires.cut(other.host(), own),
            Way::Mute => wires.cut(own, other.host()),
        }
    }
}

fn isolate(fleet: &Fleet, node: usize) {
    one_way(fleet, node, Way::Deaf);
    one_way(fleet, node, Way::Mute);
}

fn others(
    fleet: &Fleet,
    node: usize,
) -> impl Iterator<Item = (usize, &portcullis_tests::fleet::Node)> {
    fleet
        .nodes
        .iter()
        .enumerate()
        .filter(move |(index, _)| *index != node)
}

fn quorum(fleet: &Fleet, node: usize) -> Option<bool> {
    fleet.nodes[node].status()?["quorum"].as_bool()
}

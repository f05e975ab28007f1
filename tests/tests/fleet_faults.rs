//! Disks and people that fail a fleet: whoever is damaged says so and stays out, and the
//! others go on.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_tests::client::Binding;
use portcullis_tests::fleet::{BOTH, GATEWAY, Guests, Load, Node, figure};
use portcullis_tests::{Fleet, requires_root, wait};

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(20);
/// What the state's file is made of, in bytes.
const PAGE: usize = 4096;

#[test]
fn a_damaged_state_is_noticed_before_it_speaks_and_the_others_go_on() {
    let mut fleet = Fleet::of(3);
    let victim = (fleet.leader() + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
    let load = Load::through(&fleet, &others);
    fleet.nodes[victim].stop();
    let file = fleet.nodes[victim].state_file();
    let mut whole = std::fs::read(&file).unwrap();

    // A bit of every page, at its head and amid what it holds.
    for place in [Place::First, Place::Middle] {
        let mut damaged = whole.clone();
        for page in damaged.chunks_mut(PAGE) {
            place.flip(page);
        }
        std::fs::write(&file, &damaged).unwrap();
        let told = fleet.nodes[victim].try_start();
        let told = told.expect_err("it started with damaged pages");
        assert!(told.contains("state"), "{told}");
    }
    // One bit of one page: refused, or where nothing is read from; then it must agree with all.
    let in_use = |page: &usize| whole[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0);
    let pages: Vec<usize> = (0..whole.len() / PAGE).filter(in_use).collect();
    let (mut refused, mut unread) = (0, 0);
    for page in pages.iter().step_by(pages.len().div_ceil(12)) {
        let mut damaged = whole.clone();
        // A file that went on may be shorter.
        let Some(bytes) = damaged.get_mut(page * PAGE..(page + 1) * PAGE) else {
            continue;
        };
        Place::First.flip(bytes);
        std::fs::write(&file, &damaged).unwrap();
        match fleet.nodes[victim].try_start() {
            Err(told) => {
                assert!(told.contains("state"), "{told}");
                refused += 1;
            }
            Ok(()) => {
                unread += 1;
                fleet.settled();
                fleet.nodes[victim].stop();
                // It went on: the file from before would be one that has gone back.
                whole = std::fs::read(&file).unwrap();
            }
        }
    }
    figure("bit-flips-in-one-page-refused", refused);
    figure("bit-flips-in-one-page-unread", unread);
    let damages: [(&str, Vec<u8>); 4] = [
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("cut by one page", whole[..whole.len() - PAGE].to_vec()),
        ("empty", Vec::new()),
        ("zeros", vec![0; whole.len()]),
    ];
    for (what, damaged) in damages {
        std::fs::write(&file, damaged).unwrap();
        let told = fleet.nodes[victim].try_start();
        assert!(told.is_err(), "{what}: it started");
        figure(&format!("state-{}-refused", what.replace(' ', "-")), 1);
    }
    std::fs::remove_file(&file).unwrap();
    let told = fleet.nodes[victim].try_start().unwrap_err();
    assert!(told.contains("is gone") || told.contains("lost"), "{told}");

    // The state as it was is good again.
    std::fs::write(&file, &whole).unwrap();
    for image in images(&fleet.nodes[victim].data()) {
        let good = std::fs::read(&image).unwrap();
        let mut damaged = good.clone();
        damaged[good.len() / 2] ^= 1;
        std::fs::write(&image, damaged).unwrap();
        let told = fleet.nodes[victim].try_start();
        assert!(told.is_err(), "{}", image.display());
        std::fs::write(&image, good).unwrap();
    }
    let (answer, _) = fleet.nodes[others[0]].write("meanwhile");
    assert_eq!(answer.status, 200, "{}", answer.body);
    fleet.nodes[victim].start();
    fleet.settled();
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_full_disk_fails_one_node_that_says_so_and_takes_part_again_by_itself_when_there_is_room() {
    requires_root!();
    let mut fleet = Fleet::of(2);
    let full = fleet.unmade("n3", BOTH);
    let _ = fleet.nodes[full].small_disk(24);
    fleet.join(full, "control,gateway");
    fleet.nodes[full].start();
    fleet.settled();
    let load = Load::through(&fleet, &[0, 1, full]);
    let filled = fleet.nodes[full].disk().fill();
    assert!(filled > 1 << 20, "{filled}");
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let (answer, took) = fleet.nodes[0].write(&format!("with-a-full-disk-{number}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        slowest = slowest.max(took);
    }
    figure("full-disk-slowest-write-ms", slowest.as_millis());
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    // It cannot take what the others decide: it stays behind, and says so and what to do.
    let status = fleet.nodes[0].status().unwrap();
    let behind = status["nodes"][full]["revision"].as_u64() < status["revision"].as_u64();
    assert!(behind, "{status}");
    let said = fleet.nodes[full].said();
    assert!(said.contains("No space left on device"), "{said}");
    let told = wait::until(SOON, || {
        let status = fleet.nodes[full].status()?;
        let problem = status["problems"][0].as_str()?.to_owned();
        (status["nodes"][full]["consensus"] == "failed").then_some((problem, status))
    });
    let (problem, status) = told.expect("it says that it failed");
    assert!(problem.contains("make room on the disk"), "{problem}");
    assert_eq!(status["quorum"], false, "{status}");
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    // With room it takes part again by itself, and no customer has noticed.
    fleet.nodes[full].disk().make_room();
    let settled = fleet.settled();
    figure("full-disk-room-again-settled-ms", settled.as_millis());
    let status = fleet.nodes[full].status().unwrap();
    assert_eq!(
        status["problems"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    let reply = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    assert!(fleet.nodes[full].ended().is_none(), "it was not restarted");
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn edits_from_all_nodes_at_once_lose_nothing_and_a_repeated_one_is_made_once() {
    let fleet = Fleet::of(3);
    let policies = [
        fleet.policy(Guests::Welcome),
        fleet.policy(Guests::Unwelcome),
    ];
    let base = fleet.nodes[0].revision();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = fleet
            .nodes
            .iter()
            .map(|node| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    for round in 0..6 {
                        answers.push(node.apply(&[policies[round % 2].clone()]));
                    }
                    answers
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut revisions = BTreeSet::new();
    let (mut changed, mut conflicts) = (0, 0);
    for answer in &answers {
        match answer.status {
            200 if answer.body["changed"] == true => {
                changed += 1;
                assert!(
                    revisions.insert(answer.body["revision"].as_u64()),
                    "{answers:?}"
                );
            }
            200 => {}
            409 | 412 => conflicts += 1,
            _ => panic!("{answer:?}"),
        }
    }
    figure("concurrent-applies-made", changed);
    figure("concurrent-applies-refused", conflicts);
    fleet.settled();
    // Every yes is one revision, and every revision somebody's yes.
    assert_eq!(fleet.nodes[0].revision(), base + changed);

    let request = "0123456789abcdef0123456789abcdef";
    let wanted = fleet.policy_with(Guests::Welcome, |endpoint| {
        endpoint.allow("127.0.99.1", "public")
    });
    let first = fleet.nodes[1]
        .apply_as(std::slice::from_ref(&wanted), Some(request))
        .ok();
    assert_eq!(first["changed"], true, "{first}");
    // Somebody else changes it; then the first is repeated, by another way.
    let _ = fleet.nodes[2]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    let after = fleet.nodes[2].revision();
    let again = fleet.nodes[0].apply_as(&[wanted], Some(request));
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(again.body["revision"], first["revision"], "{}", again.body);
    fleet.settled();
    assert_eq!(fleet.nodes[0].revision(), after);
}

#[test]
fn nodes_come_and_go_and_who_went_stays_out() {
    let mut fleet = Fleet::of(3);
    let load = Load::through(&fleet, &[0]);
    let fourth = fleet.unmade("n4", BOTH);
    fleet.join(fourth, "control,gateway");
    fleet.nodes[fourth].start();
    figure("fourth-node-settled-ms", fleet.settled().as_millis());
    // Somebody else leads, and customers do not notice.
    let leader = fleet.leader();
    let answer = fleet.nodes[leader]
        .ask("POST", "/v1/fleet/step-down", &serde_json::Value::Null)
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (answer, gap) = fleet.nodes[leader].write("after-stepping-down");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("step-down-write-gap-ms", gap.as_millis());
    assert_ne!(fleet.leader_but(Some(leader)), leader);

    // A dead node is replaced.
    let dead = (1..4).find(|index| *index != fleet.leader()).unwrap();
    fleet.nodes[dead].kill();
    let gone = ids(&fleet.nodes[0])[dead];
    remove(&fleet.nodes[0], fleet.nodes[dead].name());
    let fifth = fleet.unmade("n5", BOTH);
    fleet.join(fifth, "control,gateway");
    fleet.nodes[fifth].start();
    figure("replaced-node-settled-ms", fleet.settled().as_millis());
    let ids = ids(&fleet.nodes[0]);
    assert_eq!(ids.len(), 4, "{ids:?}");

    // It comes back with its old disk, and nobody talks to it.
    let denied = |fleet: &Fleet| {
        let count = |node: &Node| {
            let events = node.events();
            events
                .iter()
                .filter(|event| event["kind"] == "fleet.denied")
                .count()
        };
        let running = fleet
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| *index != dead && node.runs());
        running.map(|(_, node)| count(node)).sum::<usize>()
    };
    let before = denied(&fleet);
    let since = Instant::now();
    match fleet.nodes[dead].try_start() {
        Err(told) => eprintln!("a removed node does not start: {told}"),
        Ok(()) => {
            wait::wait_for("a refusal of the removed node", SOON, || {
                denied(&fleet) > before
            });
            let status = fleet.nodes[dead].status().unwrap();
            assert_eq!(status["quorum"], false, "{status}");
            let told = fleet.nodes[dead].apply(&[fleet.policy(Guests::Unwelcome)]);
            assert_ne!(told.status, 200, "{}", told.body);
            // It learns from those who refuse it what its own state will never say.
            wait::wait_for("the removed node to end", SOON, || {
                fleet.nodes[dead].ended().is_some()
            });
            figure("removed-while-away-ends-ms", since.elapsed().as_millis());
            let said = fleet.nodes[dead].said();
            assert!(said.contains("removed from its fleet"), "{said}");
        }
    }
    // Its name may be had again, its id never.
    let again = fleet.unmade("again", GATEWAY);
    fleet.nodes[again].rewrite(
        "name = \"again\"",
        &format!("name = \"{}\"", fleet.nodes[dead].name()),
    );
    let token = fleet.nodes[0].invite(fleet.nodes[dead].name(), "gateway");
    let joined = fleet.nodes[again].join(&token);
    assert!(joined.ok().contains("this is node "), "{joined}");
    assert!(!self::ids(&fleet.nodes[0]).contains(&gone));

    // The leader itself may be removed.
    remove(&fleet.nodes[0], fleet.nodes[dead].name());
    let leader = fleet.leader();
    if leader != 0 {
        remove(&fleet.nodes[leader], fleet.nodes[leader].name());
        let began = std::time::Instant::now();
        let (answer, _) = fleet.nodes[0].write("after-the-leader-went");
        assert_eq!(answer.status, 200, "{}", answer.body);
        figure("removed-leader-write-gap-ms", began.elapsed().as_millis());
        fleet.nodes[leader].kill();
        fleet.settled();
    }
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_token_is_for_one_node_in_its_name_and_roles_and_a_join_can_be_repeated() {
    let mut fleet = Fleet::of(1);
    let first = fleet.unmade("n2", BOTH);
    let token = fleet.nodes[0].invite("n2", "control,gateway");
    // Another name and other roles than the token's.
    let other = fleet.unmade("n3", BOTH);
    let told = fleet.nodes[other].join(&token);
    assert!(
        told.refused().contains("name") || told.refused().contains("n2"),
        "{told}"
    );
    fleet.nodes[other].rewrite("name = \"n3\"", "name = \"n2\"");
    fleet.nodes[other].rewrite(BOTH, GATEWAY);
    let told = fleet.nodes[other].join(&token);
    assert!(told.refused().contains("role"), "{told}");

    // Killed in the middle at one moment after the other, and repeated.
    let configuration = fleet.nodes[first].configuration().display().to_string();
    let token_file = token.display().to_string();
    for milliseconds in [5, 15, 30, 45, 60, 80] {
        let mut joining = fleet.nodes[first].portcullis_alongside(&[
            "join",
            "--config",
            &configuration,
            "--token",
            &token_file,
        ]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        joining.kill();
    }
    let joined = fleet.nodes[first].join(&token);
    assert!(joined.ok().contains("(n2)"), "{joined}");
    let again = fleet.nodes[first].join(&token);
    assert_eq!(again.ok(), joined.ok());
    assert_eq!(ids(&fleet.nodes[0]).len(), 2);

    // Used up: nobody else gets in by it.
    fleet.nodes[other].rewrite(GATEWAY, BOTH);
    let told = fleet.nodes[other].join(&token);
    assert!(told.refused().contains("token"), "{told}");
    fleet.nodes[first].start();
    fleet.settled();

    // A node of one fleet is none of another, and needs no token to be told so.
    let elsewhere = Fleet::of(1);
    let foreign = elsewhere.nodes[0].invite("n2", "control,gateway");
    let told = fleet.nodes[first].join(&foreign);
    assert!(told.refused().contains("another"), "{told}");

    // A node whose state is gone does not begin anew in its old name.
    fleet.nodes[first].stop();
    std::fs::remove_file(fleet.nodes[first].state_file()).unwrap();
    let told = fleet.nodes[first].try_start().unwrap_err();
    assert!(told.contains("state.redb"), "{told}");
    // A guest of nobody is still let in by the one that is left.
    let refused = fleet
        .dial(0, "127.0.55.1".parse().unwrap())
        .start(&[("user", "app"), ("database", "postgres")])
        .unwrap()
        .authenticate("app", "secret", Binding::None);
    assert!(refused.is_err());
    drop(fleet.connect(0, fleet.resident()));
}

/// Where in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Middle,
}

impl Place {
    fn flip(self, page: &mut [u8]) {
        let set: Vec<usize> = (0..page.len()).filter(|at| page[*at] != 0).collect();
        let at = match self {
            Self::First => set.first(),
            Self::Middle => set.get(set.len() / 2),
        };
        if let Some(at) = at {
            page[*at] ^= 0x10;
        }
    }
}

/// Makes this node lead.
fn remove(through: &Node, name: &str) {
    let asked = serde_json::json!({"name": name});
    let answer = through.ask("POST", "/v1/fleet/remove", &asked).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn ids(node: &Node) -> Vec<u64> {
    let status = node.status().unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| node["id"].as_u64().unwrap())
        .collect()
}

fn images(data: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(data).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect()
}

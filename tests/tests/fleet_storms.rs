//! Nodes that die in numbers or again and again, wires that lose what is sent, and tokens that
//! are too old.

use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_tests::fleet::{BOTH, Load, figure};
use portcullis_tests::{Fleet, TenantText, requires_root, wait};
use serde_json::json;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);
/// Between two writes over a bad wire: each is a join token, and there may be only so many.
const BETWEEN: Duration = Duration::from_millis(250);

#[test]
fn a_storm_of_restarts_loses_and_doubles_nothing() {
    const STORM: Duration = Duration::from_secs(60);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut dice = Dice(seed.unwrap_or(1));
    let mut fleet = Fleet::of(3);
    let began = Instant::now();
    let (mut written, mut kills, mut number) = (Vec::new(), 0, 0_u32);
    while began.elapsed() < STORM {
        // One, two or all of them, in any order.
        for _ in 0..=dice.below(3) {
            let victim = dice.below(3);
            if fleet.nodes[victim].runs() {
                fleet.nodes[victim].kill();
                kills += 1;
            }
        }
        // Asked for while they are away, and again when they are back, until somebody says yes.
        let (tenant, request) = (storm(number), format!("{number:032x}"));
        number += 1;
        let asked = dice.below(3);
        let mut first = None;
        let quorum = fleet.nodes.iter().filter(|node| node.runs()).count() > 1;
        if quorum && fleet.nodes[asked].runs() {
            first = fleet.nodes[asked].try_apply_as(std::slice::from_ref(&tenant), Some(&request));
        }
        let first_away = dice.below(3);
        for index in (0..3).map(|index| (index + first_away) % 3) {
            if !fleet.nodes[index].runs() {
                fleet.nodes[index].start();
            }
        }
        let again = wait::until(SOON, || {
            let answer = fleet.nodes[dice.below(3)]
                .try_apply_as(std::slice::from_ref(&tenant), Some(&request));
            answer.filter(|answer| answer.status == 200)
        });
        let revision = again.unwrap_or_else(|| panic!("no progress after {kills} kills"));
        let revision = revision.ok()["revision"].as_u64().unwrap();
        if let Some(first) = first.filter(|first| first.status == 200) {
            assert_eq!(first.ok()["revision"], revision, "executed twice");
        }
        written.push(revision);
    }
    fleet.settled();
    figure("storm-kills", kills);
    figure("storm-writes", written.len());
    assert!(written.is_sorted_by(|one, next| one < next), "{written:?}");
    for (number, revision) in written.iter().enumerate() {
        let target = format!("/v1/policy/s{number}");
        let held = [0, 1, 2].map(|index| {
            let node = &fleet.nodes[index];
            node.ask("GET", &target, &json!(null)).unwrap().ok()
        });
        assert!(held.iter().all(|one| *one == held[0]), "{held:?}");
        assert_eq!(held[0]["document_revision"], *revision, "{}", held[0]);
    }
    // And whatever was answered is in the audit logs, once, on every node.
    let socket = fleet.nodes[0].socket().display().to_string();
    let trust = fleet.nodes[0].portcullis(&["audit", "trust", "--socket", &socket]);
    let policy = fleet.nodes[0].folder().join("trust.policy");
    std::fs::write(&policy, format!("{}\n", trust.ok())).unwrap();
    let policy = policy.display().to_string();
    for node in &fleet.nodes {
        let logs = node.data().join("audit/logs");
        let folder = logs.display().to_string();
        let logged = |number: usize, revision: u64| {
            let entries = logs.join(format!("tenants/s{number}/tile/entries"));
            let text = String::from_utf8_lossy(&whole(&entries)).into_owned();
            text.matches(&format!("\"revision\":{revision},")).count() == 1
        };
        wait::wait_for("all that was answered to be in the logs", SOON, || {
            let all = written.iter().enumerate();
            { all }.all(|(number, revision)| logged(number, *revision))
                && node
                    .portcullis(&["audit", "verify", &folder, "--trust", &policy])
                    .status
                    .success()
        });
    }
}

/// The bytes of the newest file below, which of a short log is all of it.
fn whole(folder: &Path) -> Vec<u8> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flat_map(|it| {
            let path = it.unwrap().path();
            let inside = std::fs::read_dir(&path).into_iter().flatten();
            inside.map(|it| it.unwrap().path()).collect::<Vec<_>>()
        })
        .collect();
    files.sort_by_key(|path| path.file_name().map(|name| name.len()));
    let newest = files.pop();
    newest
        .and_then(|path| std::fs::read(path).ok())
        .unwrap_or_default()
}

#[test]
fn five_voters_lose_two_and_decide_and_lose_a_third_and_serve() {
    let mut fleet = Fleet::of(5);
    let leader = fleet.leader();
    let gone: Vec<usize> = (0..3).map(|step| (leader + step) % 5).collect();
    let stay: Vec<usize> = (3..5).map(|step| (leader + step) % 5).collect();
    let load = Load::through(&fleet, &stay);
    for index in &gone[..2] {
        fleet.nodes[*index].kill();
    }
    let (answer, gap) = fleet.nodes[stay[0]].write("without-two");
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure("five-voters-two-killed-write-gap-ms", gap.as_millis());
    assert!(gap < Duration::from_secs(8), "{gap:?}");
    fleet.nodes[gone[2]].kill();
    wait::wait_for("the quorum to be missed", SOON, || {
        let told = stay.iter().map(|index| fleet.nodes[*index].status());
        told.flatten().all(|status| status["quorum"] == false)
    });
    let (answer, _) = fleet.nodes[stay[0]].write("without-three");
    assert_eq!(answer.status, 503, "{}", answer.body);
    for index in &stay {
        drop(fleet.connect(*index, fleet.guest()));
    }
    for index in gone {
        fleet.nodes[index].start();
    }
    let settled = fleet.settled();
    figure("five-voters-back-settled-ms", settled.as_millis());
    let (answer, _) = fleet.nodes[stay[0]].write("with-all-again");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn lost_datagrams_depose_nobody_and_stop_no_write() {
    requires_root!();
    let fleet = Fleet::on_wires(3);
    let load = Load::through(&fleet, &[0, 1, 2]);
    let wires = fleet.wires.as_ref().unwrap();
    for (percent, most_changes) in [(1, Some(0)), (5, Some(0)), (20, None)] {
        let mut last = fleet.leader();
        let asked = (last + 1) % 3;
        wires.lose(percent);
        let began = Instant::now();
        let (mut changes, mut took) = (0, Vec::new());
        while began.elapsed() < Duration::from_secs(15) {
            let name = format!("lossy-{percent}-{}", took.len());
            let (answer, one) = fleet.nodes[asked].write(&name);
            assert_eq!(answer.status, 200, "{percent} % {}", answer.body);
            took.push(one);
            let status = fleet.nodes[asked].status().unwrap();
            let now = |node: &portcullis_tests::fleet::Node| status["leader"] == node.name();
            if let Some(now) = fleet.nodes.iter().position(now).filter(|now| *now != last) {
                (changes, last) = (changes + 1, now);
            }
            std::thread::sleep(BETWEEN);
        }
        took.sort_unstable();
        let p99 = took[(took.len() - 1) * 99 / 100];
        figure(&format!("loss-{percent}-writes"), took.len());
        figure(
            &format!("loss-{percent}-write-p50-ms"),
            took[took.len() / 2].as_millis(),
        );
        figure(&format!("loss-{percent}-write-p99-ms"), p99.as_millis());
        figure(&format!("loss-{percent}-leader-changes"), changes);
        if let Some(most) = most_changes {
            assert!(changes <= most, "{changes} at {percent} %");
        }
        assert!(took.len() >= 3, "{} at {percent} %", took.len());
        let lost = wires.lost();
        figure(&format!("loss-{percent}-datagrams-lost"), lost);
        assert!(lost > 0, "nothing was lost at {percent} %");
        wires.heal();
        fleet.settled();
    }
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_token_that_expired_is_refused_at_once_and_said_to_have_expired() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !Path::new(library).exists() {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs libfaketime");
        return;
    }
    let mut fleet = Fleet::of(1);
    let late = fleet.unmade("n2", BOTH);
    let asked = json!({"name": "n2", "roles": ["control", "gateway"], "minutes": 1});
    let answer = fleet.nodes[0].ask("POST", "/v1/fleet/invite", &asked);
    let reply = answer.unwrap().ok();
    let token = fleet.nodes[late].folder().join("token");
    std::fs::write(&token, reply["token"].as_str().unwrap()).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, private).unwrap();
    // A minute and a half later, by the clock of the node that is asked.
    fleet.nodes[0].stop();
    fleet.nodes[0].environment(&[
        ("LD_PRELOAD", library),
        ("FAKETIME", "+90"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    fleet.nodes[0].start();
    fleet.settled();
    let began = Instant::now();
    let told = fleet.nodes[late].join(&token);
    figure("expired-token-refused-ms", began.elapsed().as_millis());
    assert!(told.refused().contains("token_expired"), "{told}");
    assert!(told.refused().contains("make a new one"), "{told}");
    // It did not ask again and again, which it would for 30 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{told}");
    // With a new one it is let in.
    fleet.join(late, "control,gateway");
    fleet.nodes[late].start();
    fleet.settled();
}

fn storm(number: u32) -> TenantText {
    TenantText::new(&format!("s{number}"))
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end).expect("small")
    }
}

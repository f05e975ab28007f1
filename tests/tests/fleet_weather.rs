//! Nodes far from each other, on a line that loses datagrams.

use std::time::{Duration, Instant};

use portcullis_tests::fleet::{Load, Node, Weather, figure};
use portcullis_tests::{Fleet, wait};

/// From one node to another, and how much more or less: a round trip is twice that.
const FAR: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(25));
/// The same for nodes that are half as far.
const MIDDLING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(12));
/// The same for nodes that are less far.
const NEAR: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(6));

#[test]
fn delay_and_loss_between_nodes_slow_changes_and_nothing_else() {
    let weather = Weather::default();
    let fleet = Fleet::in_weather(3, &weather);
    let load = Load::through(&fleet, &[0, 1, 2]);
    let spells = [
        ("50ms-5", NEAR, 50, 20, Some(0)),
        ("50ms-20", NEAR, 200, 12, None),
        ("100ms-1", MIDDLING, 10, 8, None),
    ];
    for (name, (delay, spread), lost_of_1000, seconds, bound) in spells {
        let before = weather.carried_and_lost();
        weather.becomes(delay, spread, lost_of_1000);
        let spell = writes_and_leaders(&fleet, name, Duration::from_secs(seconds));
        let after = weather.carried_and_lost();
        let (carried, lost) = (after.0 - before.0, after.1 - before.1);
        weather.clears();
        let settled = fleet.settled();
        figure(&format!("weather-{name}-datagrams"), carried);
        figure(&format!("weather-{name}-lost"), lost);
        figure(&format!("weather-{name}-settled-ms"), settled.as_millis());
        spell.figures(name, delay * 2);
        // The weather was as it should be: some were lost, and changes took a round trip.
        assert!(lost > 0 && carried > 100, "{name} {carried} {lost}");
        let shortest = spell.times.first();
        assert!(shortest.is_none_or(|took| *took >= delay), "{shortest:?}");
        assert!(shortest.is_some() || delay > NEAR.0, "{name}: no change");
        if let Some(bound) = bound {
            assert!(spell.changes <= bound, "{name} {}", spell.changes);
        }
    }
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn a_leader_stays_though_the_nodes_are_far_from_each_other() {
    let weather = Weather::default();
    let mut fleet = Fleet::in_weather(3, &weather);
    let load = Load::through(&fleet, &[0, 1, 2]);
    let (delay, spread) = FAR;
    weather.becomes(delay, spread, 10);
    let began = Instant::now();
    wait::wait_for("other times on every node", FITTED, || {
        let said: Vec<String> = fleet.nodes.iter().map(Node::said).collect();
        said.iter().all(|said| said.contains("goes by other times"))
    });
    let _ = fleet.leader();
    let (answer, _) = fleet.nodes[0].write("first");
    figure("weather-200ms-fitted-ms", began.elapsed().as_millis());
    assert_eq!(answer.status, 200, "{answer:?}");

    let spell = writes_and_leaders(&fleet, "200ms-1", Duration::from_secs(20));
    spell.figures("200ms-1", delay * 2);
    assert_eq!((spell.changes, spell.not_made), (0, 0));
    assert!(spell.times.len() >= 10, "{}", spell.times.len());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    drop(load);

    // One that is lost is replaced, if not as soon as one that was near.
    let leader = fleet.leader();
    let lost = Instant::now();
    fleet.nodes[leader].kill();
    let other = &fleet.nodes[(leader + 1) % 3];
    let made = wait::until(FITTED, || {
        let (answer, _) = other.write("after");
        (answer.status == 200).then(|| lost.elapsed())
    });
    let made = made.expect("another leads");
    figure("weather-200ms-leader-lost-ms", made.as_millis());
}

/// How long it may take until the nodes go by times that fit the weather, or another leads.
const FITTED: Duration = Duration::from_secs(60);

/// What was seen in one spell of weather.
struct Spell {
    /// What each change took that was made, the shortest first.
    times: Vec<Duration>,
    not_made: u32,
    changes: u32,
}

impl Spell {
    fn figures(&self, name: &str, round_trip: Duration) {
        figure(&format!("weather-{name}-writes"), self.times.len());
        figure(&format!("weather-{name}-not-made"), self.not_made);
        figure(&format!("weather-{name}-leader-changes"), self.changes);
        for (label, part) in [("p50", 50), ("p99", 99)] {
            if let Some(took) = self.times.get(self.times.len() * part / 100) {
                let name = format!("weather-{name}-write-{label}");
                figure(&format!("{name}-ms"), took.as_millis());
                let trips = took.as_secs_f64() / round_trip.as_secs_f64();
                figure(&format!("{name}-round-trips"), format!("{trips:.1}"));
            }
        }
    }
}

fn writes_and_leaders(fleet: &Fleet, name: &str, lasting: Duration) -> Spell {
    let mut last = fleet.leader();
    let through = (last + 1) % 3;
    let began = Instant::now();
    let (mut times, mut not_made, mut changes) = (Vec::new(), 0, 0);
    let mut number = 0;
    while began.elapsed() < lasting {
        let told = fleet.nodes[through].status().unwrap()["leader"].clone();
        let now = fleet.nodes.iter().position(|node| told == node.name());
        if let Some(now) = now.filter(|now| *now != last) {
            (changes, last) = (changes + 1, now);
        }
        let label = name.replace("ms-", "-");
        let (answer, took) = fleet.nodes[through].write(&format!("w{label}-{number}"));
        if answer.status == 200 {
            times.push(took);
        } else {
            not_made += 1;
        }
        number += 1;
    }
    times.sort_unstable();
    Spell {
        times,
        not_made,
        changes,
    }
}

//! Nodes far from each other, on a line that loses datagrams.

use std::time::{Duration, Instant};

use portcullis_tests::Fleet;
use portcullis_tests::fleet::{Load, Weather, figure};

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
        // Too far for the time in which a leader must be heard: customers go on all the same.
        ("200ms-1", FAR, 10, 8, None),
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
        figure(&format!("weather-{name}-writes"), spell.times.len());
        figure(&format!("weather-{name}-not-made"), spell.not_made);
        figure(&format!("weather-{name}-leader-changes"), spell.changes);
        figure(&format!("weather-{name}-settled-ms"), settled.as_millis());
        for (label, part) in [("p50", 50), ("p99", 99)] {
            if let Some(took) = spell.times.get(spell.times.len() * part / 100) {
                figure(
                    &format!("weather-{name}-write-{label}-ms"),
                    took.as_millis(),
                );
            }
        }
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

/// What was seen in one spell of weather.
struct Spell {
    /// What each change took that was made, the shortest first.
    times: Vec<Duration>,
    not_made: u32,
    changes: u32,
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

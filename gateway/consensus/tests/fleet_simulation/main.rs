//! A whole fleet in one thread, by seeds: control nodes that execute one log with the real state
//! machine and sign what follows, authors who repeat themselves, gateways that follow; between
//! them a network that loses, delays, repeats and reorders; all of them crash and come back. The
//! order of the log is the simulation's: that nodes agree on one is openraft's part.
//!
//! Checked at every step of every story:
//! - a gateway's revision never goes back, nor below what it keeps, whatever it is told and
//!   wherever it dies;
//! - every entry of the log leads to what an independent model says, on every node alike: each
//!   request is executed once, and every copy of it is told the same;
//! - nodes have the same root at the same position, and the same view at the same revision, also
//!   those that were restored from a snapshot;
//! - a gateway lets in exactly whom the policy of its revision lets in, by a reading of that policy
//!   that shares no code with the gateway's.
//!
//! `SEED=n` plays one story, `SEEDS=n` as many as that, the kept ones among them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test, a panic is how a step fails"
)]

mod client;
mod control;
mod dice;
mod gateway;
mod model;
mod plan;
mod story;

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use story::{Met, Story};

/// Seeds that are always played: those that ever failed, and some.
const KEPT_SEEDS: [u64; 8] = [0, 1, 2, 3, 7, 42, 1_000_003, u64::MAX];
/// How many are played at all, unless it is said.
const SEEDS: u64 = 64;
/// Stories that are played at once.
const AT_ONCE: u64 = 2;

fn said(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays these, some at once; what they met.
fn play(seeds: &[u64]) -> Met {
    let halves = std::thread::scope(|scope| {
        let play = |half: u64| {
            let own = seeds
                .iter()
                .zip(0_u64..)
                .filter(move |(_, at)| at % AT_ONCE == half);
            scope.spawn(move || {
                let mut met = Met::default();
                for (seed, _) in own {
                    match catch_unwind(|| Story::new(*seed).play()) {
                        Ok(one) => met.add(&one),
                        Err(_) => return Err(*seed),
                    }
                }
                Ok(met)
            })
        };
        let players: Vec<_> = (0..AT_ONCE).map(play).collect();
        let ends = players.into_iter().map(|player| player.join().unwrap());
        ends.collect::<Vec<_>>()
    });
    let mut all = Met::default();
    for half in halves {
        match half {
            Ok(met) => all.add(&met),
            Err(seed) => panic!("SEED={seed} fails"),
        }
    }
    all
}

#[test]
fn a_fleet_keeps_its_word_whatever_befalls_it() {
    if let Some(seed) = said("SEED") {
        println!("{:?}", play(&[seed]));
        return;
    }
    let count = said("SEEDS").unwrap_or(SEEDS);
    let kept = KEPT_SEEDS.into_iter();
    let more = count.saturating_sub(KEPT_SEEDS.len() as u64);
    let seeds: Vec<u64> = kept.chain(100..100 + more).collect();
    let met = play(&seeds);
    println!("{met:?}");
    if count >= SEEDS {
        met.everything();
    }
}

/// As many stories as `SOAK_SECONDS` allow, by other seeds each time.
#[test]
#[ignore = "it takes SOAK_SECONDS"]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is told by a clock"
)]
fn soak_of_many_stories() {
    let length = Duration::from_secs(said("SOAK_SECONDS").unwrap_or(600));
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let (begun, mut seed) = (Instant::now(), since.as_secs() << 20);
    let (mut met, mut stories) = (Met::default(), 0);
    while begun.elapsed() < length {
        let seeds: Vec<u64> = (seed..seed + 32).collect();
        met.add(&play(&seeds));
        seed += 32;
        stories += 32;
    }
    println!("{stories} stories: {met:?}");
    met.everything();
}

//! What one decision costs, and that it asks for no memory.
//!
//! Beside each decision, in the same rounds and for the same draws, a plain search: one look-up of
//! the name in a `BTreeMap` and one binary search in a flat array. Both include drawing the address.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use portcullis_policy::{
    Attempt, Decision, Family, Origin, Proposal, Purpose, ServerName, Silent, State, Timestamp,
    View, decide,
};
use serde_json::json;

use crate::allocations;
use crate::fleet::{Fleet, bits, put};
use crate::machine::{Watch, load};
use crate::report::Table;
use crate::sample::Sample;

/// Decisions timed at once: a millisecond at most, so that few batches are interrupted on a machine
/// that does other things too. As many go before them untimed, to find the way again.
const BATCH: u32 = 4_000;
/// Rounds for each round that was asked for: medians like many.
const ROUNDS_EACH: usize = 20;

/// Measures; `Err` tells which decisions asked for memory.
pub(crate) fn measure(rounds: usize) -> (Table, Result<(), String>) {
    let mut cases = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (tenants, entries_each) in [(1, 1), (1, 1_000), (1, 1_000_000), (1_000, 1_000)] {
            let fleet = Fleet {
                family,
                tenants,
                entries_each,
            };
            let place = Place::new(fleet);
            let measured = [Asked::Listed, Asked::Unlisted].map(|asked| (asked, Measured::none()));
            cases.push((place, measured));
        }
    }
    let (loaded, watch) = (load(), Watch::begin(&[]));
    // The first round only warms up.
    for round in 0..=rounds * ROUNDS_EACH {
        for (place, measured) in &mut cases {
            for (asked, measured) in measured {
                let figures = place.round(*asked, round);
                if round > 0 {
                    measured.note(figures);
                }
            }
        }
    }
    let others = watch.end();
    let mut table = Table::new(
        "decide: one decision, against a name look-up and a binary search",
        &[
            "entries",
            "asked",
            "decide ns",
            "search ns",
            "decide/search",
            "to 1 entry",
            "allocations",
        ],
    );
    let mut asked_for_memory = Vec::new();
    let mut one_entry = BTreeMap::new();
    for (place, measured) in &cases {
        for (asked, measured) in measured {
            let (family, fleet) = (place.fleet.family, place.fleet);
            let reference = one_entry
                .entry((family, *asked))
                .or_insert_with(|| measured.decide.clone());
            let to_one = measured.decide.over(reference);
            let each = measured.asked_for_memory as f64 / f64::from(measured.decisions);
            let label = label(&fleet);
            if measured.asked_for_memory > 0 {
                asked_for_memory.push(format!("{label} {} ({each:.3} each)", asked.word()));
            }
            table.row(
                vec![
                    label,
                    asked.word().to_owned(),
                    format!("{:.0}", measured.decide),
                    format!("{:.0}", measured.search),
                    format!("{:.2}", measured.decide.over(&measured.search)),
                    format!("{:.2}", to_one.median()),
                    format!("{each:.3}"),
                ],
                json!({
                    "family": family.to_string(),
                    "tenants": fleet.tenants,
                    "entries": fleet.entries(),
                    "asked": asked.word(),
                    "decide ns": measured.decide.json(),
                    "search ns": measured.search.json(),
                    "ratio to search": measured.decide.over(&measured.search).json(),
                    "ratio to one entry": to_one.json(),
                    "allocations each": each,
                    "load before": loaded,
                    "percent of the machine used by others": others,
                }),
            );
        }
    }
    table.note(format!(
        "a random entry each time, caches cold from the other rows; medians (low–high) of {} rounds of {BATCH}; others used {others:.0} % of the machine",
        rounds * ROUNDS_EACH
    ));
    let verdict = match asked_for_memory.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "decisions asked for memory: {}",
            asked_for_memory.join(", ")
        )),
    };
    (table, verdict)
}

fn label(fleet: &Fleet) -> String {
    match fleet.tenants {
        1 => format!("{} {}", fleet.entries(), fleet.family),
        tenants => format!("{} {} of {tenants} tenants", fleet.entries(), fleet.family),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Listed,
    Unlisted,
}

impl Asked {
    fn word(self) -> &'static str {
        match self {
            Self::Listed => "hit",
            Self::Unlisted => "miss",
        }
    }
}

/// What was measured of one place and one kind of question.
struct Measured {
    decide: Sample,
    search: Sample,
    decisions: u32,
    asked_for_memory: u64,
}

/// Nanoseconds each, and how often all decisions of the round asked for memory.
struct Round {
    decide: f64,
    search: f64,
    asked_for_memory: u64,
}

impl Measured {
    fn none() -> Self {
        Self {
            decide: Sample::default(),
            search: Sample::default(),
            decisions: 0,
            asked_for_memory: 0,
        }
    }

    fn note(&mut self, round: Round) {
        self.decide.push(round.decide);
        self.search.push(round.search);
        self.decisions += BATCH;
        self.asked_for_memory += round.asked_for_memory;
    }
}

/// A policy to decide by, and the same for the plain search.
struct Place {
    fleet: Fleet,
    view: View,
    names: Vec<ServerName>,
    flat: BTreeMap<ServerName, Flat>,
}

/// Disjoint ranges in ascending order, as narrow as their family allows.
enum Flat {
    V4(Box<[(u32, u32)]>),
    V6(Box<[(u128, u128)]>),
}

impl Place {
    fn new(fleet: Fleet) -> Self {
        let tenants: Vec<_> = (0..fleet.tenants)
            .map(|number| fleet.tenant(number))
            .collect();
        let limit = usize::try_from(fleet.entries()).expect("32 bits fit");
        let mut state = State::with_limits(limit, limit);
        state
            .apply(&Proposal::local("bench", NOW, put(tenants)))
            .expect("a policy in order, within its limits");
        let names: Vec<_> = (0..fleet.tenants)
            .map(|number| fleet.server_name(number))
            .collect();
        let flat = names
            .iter()
            .map(|name| (name.clone(), Flat::of(&fleet)))
            .collect();
        Self {
            fleet,
            view: state.view(),
            names,
            flat,
        }
    }

    /// Decides and searches, turn and turn about in who is first, each for the same draws.
    fn round(&self, asked: Asked, round: usize) -> Round {
        let mut figures = Round {
            decide: 0.0,
            search: 0.0,
            asked_for_memory: 0,
        };
        let decide_first = round.is_multiple_of(2);
        for decides in [decide_first, !decide_first] {
            let mut draws = Draws::new(self.fleet, asked, round);
            if decides {
                self.decide(&mut draws, asked);
                let before = allocations::asked();
                figures.decide = self.decide(&mut draws, asked);
                figures.asked_for_memory = allocations::asked() - before;
            } else {
                self.search(&mut draws, asked);
                figures.search = self.search(&mut draws, asked);
            }
        }
        figures
    }

    fn decide(&self, draws: &mut Draws, asked: Asked) -> f64 {
        let begin = Instant::now();
        let mut permitted = 0;
        for _ in 0..BATCH {
            let (tenant, address) = draws.next();
            let attempt = Attempt {
                origin: &Origin::Public,
                address,
                server_name: Some(&self.names[tenant]),
                user: "app",
                database: "orders",
                replication: false,
                certificate: None,
                purpose: Purpose::Connect,
                unconfirmed: 0,
            };
            match decide(&self.view, black_box(&attempt), NOW, &mut Silent) {
                Decision::Permitted(_) => permitted += 1,
                Decision::Denied(_) => {}
            }
        }
        each(begin, asked, permitted)
    }

    fn search(&self, draws: &mut Draws, asked: Asked) -> f64 {
        let begin = Instant::now();
        let mut permitted = 0;
        for _ in 0..BATCH {
            let (tenant, address) = draws.next();
            let name = black_box(&self.names[tenant]);
            if self
                .flat
                .get(name)
                .is_some_and(|flat| flat.contains(address))
            {
                permitted += 1;
            }
        }
        each(begin, asked, permitted)
    }
}

/// Nanoseconds each of a batch that began then, once it is sure that everybody was answered right.
fn each(begin: Instant, asked: Asked, permitted: u32) -> f64 {
    let nanoseconds = begin.elapsed().as_secs_f64() * 1e9;
    let expected = match asked {
        Asked::Listed => BATCH,
        Asked::Unlisted => 0,
    };
    assert_eq!(permitted, expected, "{asked:?}");
    nanoseconds / f64::from(BATCH)
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

impl Flat {
    fn of(fleet: &Fleet) -> Self {
        let ranges = fleet.ranges();
        let narrow = |bits: u128| u32::try_from(bits).expect("an IPv4 address");
        match fleet.family {
            Family::V4 => Self::V4(
                ranges
                    .iter()
                    .map(|(first, last)| (narrow(*first), narrow(*last)))
                    .collect(),
            ),
            Family::V6 => Self::V6(ranges.into()),
        }
    }

    fn contains(&self, address: portcullis_policy::Address) -> bool {
        match self {
            Self::V4(ranges) => u32::try_from(bits(address)).is_ok_and(|bits| within(ranges, bits)),
            Self::V6(ranges) => within(ranges, bits(address)),
        }
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let position = ranges.partition_point(|(_, last)| *last < address);
    ranges
        .get(position)
        .is_some_and(|(first, _)| *first <= address)
}

/// Tenants and addresses at random, the same for the same round: SplitMix64, a nanosecond each.
struct Draws {
    fleet: Fleet,
    asked: Asked,
    state: u64,
}

impl Draws {
    fn new(fleet: Fleet, asked: Asked, round: usize) -> Self {
        let state = u64::try_from(round).expect("64 bits") << 32;
        Self {
            fleet,
            asked,
            state,
        }
    }

    fn next(&mut self) -> (usize, portcullis_policy::Address) {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        let [host, _, _, _, high @ ..] = bits.to_le_bytes();
        let low = bits & u64::from(u32::MAX);
        let tenant = (u64::from(u32::from_le_bytes(high)) * u64::from(self.fleet.tenants)) >> 32;
        let entry = (low * u64::from(self.fleet.entries_each)) >> 32;
        let entry = u32::try_from(entry).expect("below a 32-bit bound");
        let address = match self.asked {
            Asked::Listed => self.fleet.admitted(entry, host),
            Asked::Unlisted => self.fleet.not_admitted(entry, host),
        };
        (usize::try_from(tenant).expect("64 bits"), address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_searches_answer_every_question_right_and_neither_asks_for_memory() {
        for family in [Family::V4, Family::V6] {
            let place = Place::new(Fleet {
                family,
                tenants: 3,
                entries_each: 50,
            });
            for asked in [Asked::Listed, Asked::Unlisted] {
                // `each` has counted the answers.
                assert_eq!(place.round(asked, 1).asked_for_memory, 0);
            }
        }
    }
}

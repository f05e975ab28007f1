//! Voters, followers and a network between them that loses, delays, repeats and reorders; followers
//! that crash. By seeds: the same seed is the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_consensus::view::{
    Asked, Feed, Follower, Frame, Kept, Output, Succession, Vouched, decode, encode,
};
use portcullis_policy::Digest;

use crate::world::{FLEET, History, NOW, follower, key, node, recovery_key};

/// Seeds that are always played: those that ever failed, and some.
const KEPT_SEEDS: [u64; 8] = [0, 1, 2, 3, 7, 42, 1_000_003, u64::MAX];
/// How many more are played.
const SEEDS: u64 = 24;
const FOLLOWERS: usize = 4;
const TICKS: u64 = 400;
/// Ticks after which all must hold the latest view, once nothing is lost any more.
const HEALED_WITHIN: u64 = 200;

#[test]
fn followers_hold_what_voters_agreed_on_and_never_go_back() {
    let more = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = match more {
        Some(seed) => vec![seed],
        None => KEPT_SEEDS.into_iter().chain(100..100 + SEEDS).collect(),
    };
    for seed in seeds {
        let story = std::panic::catch_unwind(|| Story::new(seed).play());
        assert!(story.is_ok(), "SEED={seed} fails");
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

#[derive(Clone)]
enum Message {
    /// From a voter to a voter.
    Vouched(u64, u64, Vouched),
    /// From a follower to a voter.
    Asked(usize, u64, Vec<u8>),
    /// To a follower.
    Told(usize, Vec<u8>),
}

struct Voter {
    feed: Feed,
    /// How much of the history it has applied.
    applied: usize,
}

struct Gateway {
    follower: Follower,
    disk: Option<Vec<u8>>,
    /// The latest epoch and revision that customers saw.
    served: (u64, u64),
}

struct Story {
    dice: Dice,
    history: History,
    roots: BTreeMap<u64, Digest>,
    voters: BTreeMap<u64, Voter>,
    gateways: Vec<Gateway>,
    network: Vec<(u64, Message)>,
    successions: BTreeMap<u64, Succession>,
    next_voter: u64,
    healed: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let gateway = || Gateway {
            follower: follower([1, 2, 3]),
            disk: None,
            served: (0, 0),
        };
        let history = History::new([1, 2, 3]);
        let mut story = Self {
            dice: Dice(seed),
            roots: history.roots(),
            history,
            voters: BTreeMap::new(),
            gateways: (0..FOLLOWERS).map(|_| gateway()).collect(),
            network: Vec::new(),
            successions: BTreeMap::new(),
            next_voter: 4,
            healed: false,
        };
        for id in [1, 2, 3] {
            story.seat(id);
        }
        story
    }

    fn seat(&mut self, id: u64) {
        let feed = Feed::new(node(id), key(id));
        self.voters.insert(id, Voter { feed, applied: 0 });
    }

    fn play(mut self) {
        for now in 0..TICKS {
            if self.dice.percent(15) {
                self.change();
            }
            self.tick(now);
            if self.dice.percent(3) {
                self.crash();
            }
        }
        self.healed = true;
        for now in TICKS..TICKS + HEALED_WITHIN {
            self.tick(now);
        }
        let latest = self.history.last().root();
        for (index, gateway) in self.gateways.iter().enumerate() {
            let view = gateway.follower.view();
            assert_eq!(
                view.root(),
                latest,
                "gateway {index} is at {}",
                view.revision()
            );
        }
    }

    /// The voters agree on something.
    fn change(&mut self) {
        let names = ["acme", "globex", "initech", "umbrella"];
        let name = self.dice.one(&names);
        let there = self.history.last().tenant(&name.parse().unwrap()).is_some();
        match self.dice.below(10) {
            0 if self.history.voters.len() >= 3 => {
                let voters: Vec<u64> = self.history.voters.iter().copied().collect();
                let gone = self.dice.one(&voters);
                self.history.voters.remove(&gone);
                self.history.add(&[], &[], true);
            }
            1 if self.history.voters.len() <= 4 => {
                let new = self.next_voter;
                self.next_voter += 1;
                self.history.voters.insert(new);
                self.history.add(&[], &[], true);
                self.seat(new);
            }
            2 | 3 if there => self.history.add(&[], &[name], false),
            other => self.history.add(&[(name, other % 2 == 0)], &[], false),
        }
        self.roots = self.history.roots();
    }

    fn tick(&mut self, now: u64) {
        let ids: Vec<u64> = self.voters.keys().copied().collect();
        for id in &ids {
            self.apply(*id);
            self.vouch(now, *id, &ids);
        }
        for index in 0..self.gateways.len() {
            if self.dice.percent(30) {
                let follower = &self.gateways[index].follower;
                let (epoch, revision) = (follower.epoch(), follower.view().revision().get());
                let asked = Asked::From { epoch, revision };
                let to = self.dice.one(&ids);
                self.send(now, Message::Asked(index, to, encode(&asked).unwrap()));
            }
        }
        for message in self.arriving(now) {
            self.deliver(now, message);
        }
    }

    /// A voter applies what was agreed on, sometimes in one leap.
    fn apply(&mut self, id: u64) {
        let voter = self.voters.get_mut(&id).unwrap();
        let behind = self.history.views.len() - voter.applied;
        if behind == 0 || !(self.healed || self.dice.percent(60)) {
            return;
        }
        let leap = behind > 3 && self.dice.percent(20);
        voter.applied += if leap { behind } else { 1 };
        let (view, touched) = &self.history.views[voter.applied - 1];
        let touched = (!leap).then(|| touched.clone());
        voter.feed.show(Arc::clone(view), touched);
    }

    fn vouch(&mut self, now: u64, id: u64, ids: &[u64]) {
        let feed = &self.voters[&id].feed;
        for succession in feed.successions() {
            let at = succession.signed.statement.revision;
            self.successions.insert(at, succession);
        }
        let Some((word, missing)) = feed.latest() else {
            return;
        };
        let missing: BTreeSet<u64> = missing.iter().map(|it| it.get()).collect();
        for to in ids.iter().filter(|to| missing.contains(to)) {
            self.send(now, Message::Vouched(id, *to, word.clone()));
        }
    }

    fn send(&mut self, now: u64, message: Message) {
        if self.healed {
            self.network.push((now + 1, message));
            return;
        }
        if self.dice.percent(20) {
            return;
        }
        let copies = if self.dice.percent(10) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.dice.percent(10) { 60 } else { 6 };
            let at = now + 1 + self.dice.below(delay);
            self.network.push((at, message.clone()));
        }
    }

    /// What arrives now, in any order.
    fn arriving(&mut self, now: u64) -> Vec<Message> {
        let network = std::mem::take(&mut self.network);
        let (due, later): (Vec<_>, Vec<_>) = network.into_iter().partition(|(at, _)| *at <= now);
        self.network = later;
        let mut due: Vec<Message> = due.into_iter().map(|(_, message)| message).collect();
        for last in (1..due.len()).rev() {
            let other = usize::try_from(self.dice.below(last as u64 + 1)).unwrap();
            due.swap(last, other);
        }
        due
    }

    fn deliver(&mut self, now: u64, message: Message) {
        match message {
            Message::Vouched(from, to, word) => {
                let revision = word.statement.revision;
                let feed = &mut self.voters.get_mut(&to).unwrap().feed;
                feed.vouched(node(from), word);
                // As an answer, what this one signed there.
                if let Some(own) = feed.own(revision) {
                    let back = &mut self.voters.get_mut(&from).unwrap().feed;
                    back.vouched(node(to), own);
                }
            }
            Message::Asked(index, voter, asked) => {
                let Ok(Asked::From { epoch, revision }) = decode(&asked) else {
                    panic!("a question");
                };
                let Some(step) = self.voters[&voter].feed.since(epoch, revision) else {
                    return;
                };
                let missed = self.successions.range(revision + 1..);
                let missed = missed.map(|(_, succession)| Frame::Succeeded(succession.clone()));
                let mut frames: Vec<Frame> = missed.collect();
                frames.push(step.frame());
                for frame in frames {
                    self.send(now, Message::Told(index, encode(&frame).unwrap()));
                }
            }
            Message::Told(index, told) => self.told(now, index, &told),
        }
    }

    fn told(&mut self, now: u64, index: usize, told: &[u8]) {
        let frame: Frame = decode(told).unwrap();
        let gateway = &mut self.gateways[index];
        match gateway.follower.take(frame, NOW) {
            Output::Publish(publish) => {
                let statement = &publish.signed.statement;
                let at = (statement.epoch, statement.revision);
                assert!(at > gateway.served, "{at:?} after {:?}", gateway.served);
                assert_eq!(
                    Some(&publish.view.root()),
                    self.roots.get(&at.1),
                    "not the history's view"
                );
                let bytes = Kept::of(&publish).to_bytes().unwrap();
                gateway.disk = Some(bytes);
                // The process may end between the disk and the customers.
                if !self.healed && self.dice.percent(5) {
                    self.restart(index);
                } else {
                    gateway.served = at;
                }
            }
            Output::Resync => {
                let asked = Asked::From {
                    epoch: 0,
                    revision: 0,
                };
                let ids: Vec<u64> = self.voters.keys().copied().collect();
                let to = self.dice.one(&ids);
                self.send(now, Message::Asked(index, to, encode(&asked).unwrap()));
            }
            Output::Refused(_) | Output::Taken | Output::Alive { .. } => {}
        }
    }

    fn crash(&mut self) {
        let index = usize::try_from(self.dice.below(FOLLOWERS as u64)).unwrap();
        self.restart(index);
    }

    fn restart(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        gateway.follower = match &gateway.disk {
            Some(bytes) => Kept::from_bytes(bytes)
                .and_then(|kept| kept.follow(FLEET, recovery_key().public(), NOW))
                .unwrap(),
            None => follower([1, 2, 3]),
        };
        let at = (
            gateway.follower.epoch(),
            gateway.follower.view().revision().get(),
        );
        assert!(
            gateway.served == (0, 0) || at >= gateway.served,
            "older than was served"
        );
        if at.1 > 0 {
            gateway.served = at;
        }
    }
}

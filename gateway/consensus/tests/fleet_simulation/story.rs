//! One story: who does what, and what the network makes of it.

use std::collections::BTreeMap;

use portcullis_consensus::view::{Asked, Frame, Trusted, Voters, Vouched, decode, encode};

use crate::client::Request;
use crate::control::{BEGIN, Control, FLEET, Logged, Roots, founded, node};
use crate::dice::Dice;
use crate::gateway::{Gateway, Next, recovery_key};
use crate::model::{Meaning, Model, Outcome};

const GATEWAYS: usize = 4;
const TICKS: u64 = 120;
/// Ticks within which all must agree, once nothing is lost any more.
const HEALED_WITHIN: u64 = 120;
/// Milliseconds that a tick lasts.
const TICK_MS: u64 = 1_000;
/// Milliseconds that clocks may be off.
const SKEW: i64 = 5_000;

/// How often what happened, so that no story passes by missing it all.
#[derive(Default, Debug)]
pub(crate) struct Met(BTreeMap<&'static str, u64>);

impl Met {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// Everything that should happen did.
    pub(crate) fn everything(&self) {
        for what in [
            "permitted",
            "denied",
            "done",
            "repeated",
            "conflict",
            "stale_base",
            "no_such_tenant",
            "no_such_stage",
            "pieces_missing",
            "request_reused",
            "committed in pieces",
            "node crashed",
            "node died between two entries",
            "snapshot installed",
            "gateway restarted",
            "gateway died before it served",
            "told everything",
            "told changes",
        ] {
            assert!(self.0.contains_key(what), "never {what}: {self:?}");
        }
    }
}

#[derive(Clone)]
enum Message {
    /// A step of a request, to a control node.
    Propose(usize, usize, u64, Option<u64>, Meaning, Vec<u8>),
    /// What a step led to.
    Told(usize, usize, Outcome),
    /// From a voter to a voter.
    Vouched(u64, u64, Vouched),
    /// From a gateway to a voter.
    Asked(usize, u64, Vec<u8>),
    /// To a gateway.
    View(usize, Vec<u8>),
}

pub(crate) struct Story {
    dice: Dice,
    tick: u64,
    healed: bool,
    model: Model,
    log: Vec<Logged>,
    roots: Roots,
    nodes: BTreeMap<u64, Control>,
    gateways: Vec<Gateway>,
    requests: Vec<Request>,
    stages: u64,
    network: Vec<(u64, Message)>,
    met: Met,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let count = dice.one(&[3, 5]);
        let begin = founded(count, recovery_key().public());
        let view = begin.view();
        let trusted = Trusted {
            fleet: FLEET,
            epoch: 1,
            voters: Voters::of(view.fleet().unwrap()),
            recovery_key: recovery_key().public(),
        };
        let mut roots = Roots::default();
        let fleet = view.fleet().unwrap().nodes.keys();
        let nodes = fleet.zip(1..).map(|(id, number)| {
            let id = id.get();
            (id, Control::new(id, number, &begin, &mut roots))
        });
        let nodes = nodes.collect();
        let gateways = (0..GATEWAYS).map(|_| Gateway::new(trusted.clone()));
        Self {
            dice,
            tick: 0,
            healed: false,
            model: Model::new(begin.revision().get()),
            log: Vec::new(),
            roots,
            nodes,
            gateways: gateways.collect(),
            requests: Vec::new(),
            stages: 0,
            network: Vec::new(),
            met: Met::default(),
        }
    }

    pub(crate) fn play(mut self) -> Met {
        while self.tick < TICKS {
            if self.dice.percent(30) {
                self.want();
            }
            self.step();
            self.befall();
        }
        self.healed = true;
        while self.tick < TICKS + HEALED_WITHIN {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            ids.iter().for_each(|id| self.rise(*id));
            self.step();
        }
        self.agreed();
        self.met
    }

    fn now(&mut self) -> i64 {
        let passed = i64::try_from(self.tick * TICK_MS).unwrap();
        BEGIN + passed + self.dice.skew(SKEW)
    }

    fn some_node(&mut self) -> u64 {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        self.dice.one(&ids)
    }

    /// Somebody wants something, having looked at what some node shows.
    fn want(&mut self) {
        let id = self.some_node();
        let now = self.now();
        let Some(state) = &self.nodes[&id].state else {
            return;
        };
        let mut number = self.requests.len() as u64;
        if number > 0 && self.dice.percent(4) {
            // By mistake under a number that another one has.
            number = self.requests[self.dice.index(self.requests.len())].number;
        }
        let request = Request::any(&mut self.dice, number, state, now, &mut self.stages);
        self.requests.push(request);
    }

    fn step(&mut self) {
        for index in 0..self.requests.len() {
            let tick = self.tick;
            let Some(step) = self.requests[index].due(tick) else {
                continue;
            };
            let to = self.some_node();
            if self.dice.percent(30)
                && let Some(state) = &self.nodes[&to].state
            {
                self.requests[index].look_again(state);
            }
            self.propose(index, step, to);
            let last = self.requests[index].last();
            if step < last && self.dice.percent(25) {
                // Without waiting for the other pieces to be there.
                let to = self.some_node();
                self.propose(index, last, to);
            }
        }
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.advance(id);
            self.vouch(id);
        }
        for index in 0..GATEWAYS {
            if self.healed || self.dice.percent(30) {
                let follower = &self.gateways[index].follower;
                let at = (follower.epoch(), follower.view().revision().get());
                self.ask(index, at);
            }
            let now = self.now();
            for _ in 0..2 {
                let permitted = self.gateways[index].decide(&mut self.dice, &self.model, now);
                self.met
                    .count(if permitted { "permitted" } else { "denied" });
            }
        }
        for message in self.arriving() {
            self.deliver(message);
        }
        self.tick += 1;
    }

    fn propose(&mut self, index: usize, step: usize, to: u64) {
        let at = self.now();
        let (number, meaning, bytes) = self.requests[index].proposal(step, at);
        let message = Message::Propose(index, step, to, number, meaning, bytes);
        self.send(message);
    }

    fn ask(&mut self, index: usize, (epoch, revision): (u64, u64)) {
        let asked = encode(&Asked::From { epoch, revision }).unwrap();
        let to = self.some_node();
        self.send(Message::Asked(index, to, asked));
    }

    /// A node hears how much of the log is committed: nothing now, some of it, or all.
    fn advance(&mut self, id: u64) {
        if self.nodes[&id].state.is_none() || !(self.healed || self.dice.percent(50)) {
            return;
        }
        let behind = self.log.len() - self.nodes[&id].applied;
        let deaf = !self.healed && self.tick < self.nodes[&id].deaf_until;
        if behind == 0 || deaf {
            return;
        }
        let take = if self.healed {
            behind
        } else {
            1 + self.dice.index(behind)
        };
        let dies = (!self.healed && self.dice.percent(2)).then(|| self.dice.index(take));
        let node = self.nodes.get_mut(&id).unwrap();
        let (end, dies_at) = (node.applied + take, dies.map(|after| node.applied + after));
        let answers = node.advance(&self.log, end, dies_at, &mut self.roots);
        if dies_at.is_some() {
            self.met.count("node died between two entries");
        }
        for (request, step, outcome) in answers {
            self.send(Message::Told(request, step, outcome));
        }
    }

    fn vouch(&mut self, id: u64) {
        if self.nodes[&id].state.is_none() || !(self.healed || self.dice.percent(50)) {
            return;
        }
        if let Some((word, missing)) = self.nodes[&id].feed.latest() {
            for to in missing {
                self.send(Message::Vouched(id, to.get(), word.clone()));
            }
        }
    }

    fn send(&mut self, message: Message) {
        let next = self.tick + 1;
        if self.healed {
            self.network.push((next, message));
            return;
        }
        if self.dice.percent(20) {
            return;
        }
        let copies = if self.dice.percent(15) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.dice.percent(10) { 60 } else { 6 };
            let at = next + self.dice.below(delay);
            self.network.push((at, message.clone()));
        }
    }

    /// What arrives now, in any order.
    fn arriving(&mut self) -> Vec<Message> {
        let network = std::mem::take(&mut self.network);
        let due = |(at, _): &(u64, Message)| *at <= self.tick;
        let (due, later): (Vec<_>, Vec<_>) = network.into_iter().partition(due);
        self.network = later;
        let mut due: Vec<Message> = due.into_iter().map(|(_, message)| message).collect();
        for last in (1..due.len()).rev() {
            let other = self.dice.index(last + 1);
            due.swap(last, other);
        }
        due
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Propose(request, step, to, number, meaning, bytes) => {
                let node = self.nodes.get_mut(&to).unwrap();
                if node.state.is_none() {
                    return;
                }
                let outcome = self.model.execute(number, &meaning);
                self.met.count(match &outcome {
                    Ok(done) if done.repeated => "repeated",
                    Ok(_) if matches!(meaning, Meaning::Commit { .. }) => "committed in pieces",
                    Ok(_) => "done",
                    Err(code) => code,
                });
                node.waiting.insert(self.log.len(), (request, step));
                self.log.push(Logged { bytes, outcome });
            }
            Message::Told(request, step, outcome) => {
                let persists = self.dice.percent(50);
                self.requests[request].hear(step, &outcome, persists);
            }
            Message::Vouched(from, to, word) => self.vouched(from, to, word),
            Message::Asked(index, to, asked) => self.asked(index, to, &asked),
            Message::View(index, told) => {
                let frame: Frame = decode(&told).unwrap();
                self.met.count(match frame {
                    Frame::Whole { .. } => "told everything",
                    _ => "told changes",
                });
                let dies = !self.healed && self.dice.percent(5);
                let now = self.now();
                if dies {
                    self.met.count("gateway died before it served");
                }
                let gateway = &mut self.gateways[index];
                if let Next::AskForEverything = gateway.take(frame, now, dies, &self.roots) {
                    self.ask(index, (0, 0));
                }
            }
        }
    }

    fn vouched(&mut self, from: u64, to: u64, word: Vouched) {
        let there = self.nodes.get_mut(&to).unwrap();
        if there.state.is_none() {
            return;
        }
        let revision = word.statement.revision;
        there.feed.vouched(node(from), word);
        // As an answer, what this one signed there.
        if let Some(own) = there.feed.own(revision) {
            let back = self.nodes.get_mut(&from).unwrap();
            if back.state.is_some() {
                back.feed.vouched(node(to), own);
            }
        }
    }

    fn asked(&mut self, index: usize, to: u64, asked: &[u8]) {
        let Ok(Asked::From { epoch, revision }) = decode(asked) else {
            panic!("a question");
        };
        let there = &self.nodes[&to];
        if there.state.is_none() {
            return;
        }
        if let Some(step) = there.feed.since(epoch, revision) {
            self.send(Message::View(index, encode(&step.frame()).unwrap()));
        }
    }

    /// What befalls nodes and gateways.
    fn befall(&mut self) {
        let id = self.some_node();
        if self.dice.percent(3) {
            self.met.count("node crashed");
            self.nodes.get_mut(&id).unwrap().crash();
        }
        let id = self.some_node();
        if self.dice.percent(15) {
            self.rise(id);
        }
        let id = self.some_node();
        if self.dice.percent(5) {
            let there = self.nodes.get_mut(&id).unwrap();
            there.deaf_until = self.tick + self.dice.below(40);
        }
        let id = self.some_node();
        if self.dice.percent(10) {
            self.nodes.get_mut(&id).unwrap().take_snapshot();
        }
        let (from, to) = (self.some_node(), self.some_node());
        if self.dice.percent(10) {
            let snapshot = self.nodes[&from].snapshot();
            let there = self.nodes.get_mut(&to).unwrap();
            if there.install(snapshot, &mut self.roots) {
                self.met.count("snapshot installed");
            }
        }
        if self.dice.percent(4) {
            self.met.count("gateway restarted");
            let (index, now) = (self.dice.index(GATEWAYS), self.now());
            self.gateways[index].restart(now);
        }
    }

    fn rise(&mut self, id: u64) {
        let there = self.nodes.get_mut(&id).unwrap();
        if there.state.is_none() {
            there.start(&self.log, &mut self.roots);
        }
    }

    /// All agree, and everybody was told.
    fn agreed(&mut self) {
        for there in self.nodes.values() {
            let revision = there.state.as_ref().unwrap().revision().get();
            assert_eq!(there.applied, self.log.len(), "node {}", there.id);
            assert_eq!(revision, self.model.revision(), "node {}", there.id);
        }
        for gateway in &self.gateways {
            let view = gateway.follower.view();
            assert_eq!(view.revision().get(), self.model.revision());
            assert_eq!(view.root(), self.roots.views[&self.model.revision()]);
        }
        let mut authors: BTreeMap<u64, u64> = BTreeMap::new();
        for request in &self.requests {
            *authors.entry(request.number).or_default() += 1;
        }
        for request in &self.requests {
            let told = request.told.as_ref();
            let told = told.unwrap_or_else(|| panic!("request {} waits", request.number));
            let executed = self.model.executed(request.number);
            match told {
                Ok(done) => assert_eq!(Some(done.revision), executed),
                Err("request_reused") => assert!(executed.is_some()),
                // Only what was executed is remembered: a copy that was on its way may be executed
                // after its author heard of another copy's refusal and left.
                Err(_) if executed.is_some() && authors[&request.number] == 1 => {
                    self.met.count("refused, then executed");
                }
                Err(_) => {}
            }
        }
    }
}

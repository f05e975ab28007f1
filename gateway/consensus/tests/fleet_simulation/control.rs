//! A control node: the real state, fed by the committed log; what is on its disk; its signatures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_certs::fleet::ViewKey;
use portcullis_consensus::view::Feed;
use portcullis_policy::{
    Command, Digest, FleetId, GuardRails, KeyHash, NodeId, NodeRole, People, Proposal, State,
    Timestamp, Told, decode_proposal, decode_snapshot, encode_snapshot,
};

use crate::model::{Done, Outcome};

pub(crate) const FLEET: FleetId = FleetId::new([7; 16]);
/// The moment at which a story begins, in milliseconds.
pub(crate) const BEGIN: i64 = 1_800_000_000_000;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn key(id: u64) -> ViewKey {
    ViewKey::from_seed([u8::try_from(id).unwrap(); 32]).unwrap()
}

/// An entry of the log.
pub(crate) struct Logged {
    /// As it stands there.
    pub(crate) bytes: Vec<u8>,
    /// To what it leads by the model.
    pub(crate) outcome: Outcome,
}

/// What every node has had, wherever it was first: roots by position, and by revision.
#[derive(Default)]
pub(crate) struct Roots {
    positions: BTreeMap<usize, Digest>,
    pub(crate) views: BTreeMap<u64, Digest>,
}

impl Roots {
    fn note(&mut self, position: usize, state: &State) {
        let root = state.root();
        let first = *self.positions.entry(position).or_insert(root);
        assert_eq!(first, root, "two states at position {position}");
        let view = state.view();
        let root = view.root();
        let revision = view.revision().get();
        let first = *self.views.entry(revision).or_insert(root);
        assert_eq!(first, root, "two views at revision {revision}");
    }
}

pub(crate) struct Control {
    pub(crate) id: u64,
    /// Which key is its.
    number: u64,
    /// None while it is down.
    pub(crate) state: Option<State>,
    /// Entries that it has executed.
    pub(crate) applied: usize,
    /// Entries of which its disk knows that they are committed.
    durable: usize,
    snapshot: (usize, Vec<u8>),
    pub(crate) feed: Feed,
    /// Until when it hears nothing of the log.
    pub(crate) deaf_until: u64,
    /// Who waits for which entry: a request, and which of its steps.
    pub(crate) waiting: BTreeMap<usize, (usize, usize)>,
}

/// The state of a fleet that nobody has commanded yet, of so many control nodes.
pub(crate) fn founded(nodes: u64, recovery_key: [u8; 32]) -> State {
    let one = People::One;
    let rails = GuardRails {
        anywhere: one,
        operators: one,
        guard_rails: one,
    };
    let roles: BTreeSet<NodeRole> = [NodeRole::Control].into();
    let hash = |id: u64| KeyHash::new([u8::try_from(id).unwrap(); 32]);
    let mut commands = vec![Command::Found {
        fleet: FLEET,
        name: "n1".parse().unwrap(),
        roles: roles.clone(),
        key: hash(1),
        view_key: key(1).public(),
        address: "n1.example.net:7443".to_owned(),
        recovery_key,
        guard_rails: rails,
    }];
    for id in 2..=nodes {
        let name = format!("n{id}");
        commands.push(Command::Invite {
            token: hash(id),
            name: name.parse().unwrap(),
            roles: roles.clone(),
            expires: Timestamp::from_millis(BEGIN + 1),
        });
        commands.push(Command::Admit {
            token: hash(id),
            name: name.parse().unwrap(),
            roles: roles.clone(),
            key: hash(id),
            view_key: Some(key(id).public()),
            address: Some(format!("{name}.example.net:7443")),
        });
    }
    let mut state = State::default();
    for command in commands {
        let at = Timestamp::from_millis(BEGIN - 1);
        state.apply(&Proposal::local("root", at, command)).unwrap();
    }
    state
}

impl Control {
    /// That with the `number`th key, which was admitted as `id`.
    pub(crate) fn new(id: u64, number: u64, begin: &State, roots: &mut Roots) -> Self {
        let mut node = Self {
            id,
            number,
            state: None,
            applied: 0,
            durable: 0,
            snapshot: (0, encode_snapshot(&begin.snapshot()).unwrap()),
            feed: Feed::new(node(id), key(number)),
            deaf_until: 0,
            waiting: BTreeMap::new(),
        };
        node.start(&[], roots);
        node
    }

    /// Comes up with what is on its disk.
    pub(crate) fn start(&mut self, log: &[Logged], roots: &mut Roots) {
        self.feed = Feed::new(node(self.id), key(self.number));
        let (position, bytes) = self.snapshot.clone();
        self.restore(position, &bytes, roots);
        self.durable = self.durable.max(position);
        // What was shown before may have been signed and told: it is shown again.
        while self.applied < self.durable {
            drop(self.execute(log, roots));
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8], roots: &mut Roots) {
        let state = State::restore(decode_snapshot(bytes).unwrap()).unwrap();
        roots.note(position, &state);
        self.feed.show(Arc::new(state.view()), None);
        self.state = Some(state);
        self.applied = position;
    }

    pub(crate) fn crash(&mut self) {
        self.state = None;
        self.waiting.clear();
    }

    /// Hears that the log is committed up to `end`, and executes as much as it comes to before it
    /// dies, if it does. What it executed, and for whom.
    pub(crate) fn advance(
        &mut self,
        log: &[Logged],
        end: usize,
        dies_at: Option<usize>,
        roots: &mut Roots,
    ) -> Vec<(usize, usize, Outcome)> {
        self.durable = self.durable.max(end);
        let mut answers = Vec::new();
        while self.applied < end {
            if dies_at == Some(self.applied) {
                self.crash();
                return answers;
            }
            let outcome = self.execute(log, roots);
            if let Some((request, step)) = self.waiting.remove(&(self.applied - 1)) {
                answers.push((request, step, outcome));
            }
        }
        answers
    }

    /// Executes the next entry.
    fn execute(&mut self, log: &[Logged], roots: &mut Roots) -> Outcome {
        let entry = &log[self.applied];
        let state = self.state.as_mut().unwrap();
        let before = state.clone();
        let proposal = decode_proposal(&entry.bytes).unwrap();
        let outcome = match state.apply(&proposal) {
            Ok(applied) => {
                if state.revision() > before.revision() {
                    let touched = applied.tenants.iter().cloned().collect();
                    self.feed.show(Arc::new(state.view()), Some(touched));
                }
                Ok(Done {
                    revision: applied.revision.get(),
                    repeated: applied.repeated,
                    present: match applied.told {
                        Told::Staged { present, .. } => Some(present),
                        _ => None,
                    },
                })
            }
            Err(rejection) => {
                assert_eq!(*state, before, "a refused command left something");
                Err(rejection.code())
            }
        };
        assert_eq!(
            outcome, entry.outcome,
            "node {} at entry {}",
            self.id, self.applied
        );
        self.applied += 1;
        roots.note(self.applied, state);
        outcome
    }

    pub(crate) fn take_snapshot(&mut self) {
        if let Some(state) = &self.state {
            self.snapshot = (self.applied, encode_snapshot(&state.snapshot()).unwrap());
        }
    }

    pub(crate) fn snapshot(&self) -> (usize, Vec<u8>) {
        self.snapshot.clone()
    }

    /// Takes over another node's snapshot if that is ahead; whether it was.
    pub(crate) fn install(&mut self, snapshot: (usize, Vec<u8>), roots: &mut Roots) -> bool {
        let (position, bytes) = &snapshot;
        if *position <= self.applied || self.state.is_none() {
            return false;
        }
        self.restore(*position, bytes, roots);
        self.durable = self.durable.max(*position);
        self.snapshot = snapshot;
        // Whoever waited for what was leapt over is told nothing.
        self.waiting = self.waiting.split_off(&self.applied);
        true
    }
}

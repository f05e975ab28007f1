//! Whoever commands the fleet: what is asked, again and again until it is told.

use std::collections::BTreeMap;

use portcullis_policy::{
    Author, Command, Digest, Proposal, RequestId, Revision, State, Timestamp, encode_command,
    encode_proposal,
};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::model::{Done, Edit, Meaning, Outcome};
use crate::plan::{NAMES, Plan};

/// Commands in pieces that a story may have: the state holds as many at once.
const STAGES: u64 = 8;
/// Ticks before somebody asks again.
const PATIENCE: u64 = 25;

/// Something that somebody wants done once.
pub(crate) struct Request {
    /// By which repetitions are known.
    pub(crate) number: u64,
    edit: Edit,
    /// The number of its stage, and how many pieces it has.
    pieces: Option<(u64, u32)>,
    /// Which step is asked for; the last is the command itself.
    step: usize,
    asked: Option<u64>,
    /// What the author takes for the end of it.
    pub(crate) told: Option<Outcome>,
    /// The revision that was told when it was done.
    pub(crate) done: Option<u64>,
}

/// What an author saw before writing.
fn looked(state: &State, edit: &mut Edit) {
    let names = edit.put.iter().map(|plan| plan.name);
    let names = names.chain(edit.remove.iter().copied());
    let view = state.view();
    let seen = names.map(|name| {
        let tenant = view.tenant(&name.parse().unwrap());
        (name, tenant.map(|tenant| tenant.revision().get()))
    });
    edit.expected = seen.collect();
}

impl Request {
    /// Anything, by somebody who looks at this state.
    pub(crate) fn any(
        dice: &mut Dice,
        number: u64,
        state: &State,
        now: i64,
        stages: &mut u64,
    ) -> Self {
        let long = dice.percent(12) && *stages < STAGES;
        let mut edit = Edit {
            base: None,
            expected: BTreeMap::new(),
            put: Vec::new(),
            remove: Vec::new(),
        };
        for name in NAMES {
            match dice.below(20) {
                0..4 => edit.put.push(Plan::any(dice, name, now, long)),
                4 => edit.remove.push(name),
                _ => {}
            }
        }
        match dice.below(10) {
            0..6 => looked(state, &mut edit),
            6..8 => edit.base = Some(state.revision().get()),
            _ => {}
        }
        let pieces = long.then(|| {
            *stages += 1;
            (*stages, 2 + u32::try_from(dice.below(3)).unwrap())
        });
        Self {
            number,
            edit,
            pieces,
            step: 0,
            asked: None,
            told: None,
            done: None,
        }
    }

    pub(crate) fn last(&self) -> usize {
        self.pieces.map_or(0, |(_, of)| of as usize)
    }

    /// The step to ask for now, if it is time to.
    pub(crate) fn due(&mut self, tick: u64) -> Option<usize> {
        let waits = self.asked.is_some_and(|asked| tick < asked + PATIENCE);
        if self.told.is_some() || waits {
            return None;
        }
        self.asked = Some(tick);
        Some(self.step)
    }

    /// Looks again before asking again, as whoever was refused may do.
    pub(crate) fn look_again(&mut self, state: &State) {
        // The pieces are as they were sent.
        if self.pieces.is_none() && !self.edit.expected.is_empty() {
            looked(state, &mut self.edit);
        }
    }

    /// What a step means, and how it is written.
    pub(crate) fn proposal(&self, step: usize, at: i64) -> (Option<u64>, Meaning, Vec<u8>) {
        let at = Timestamp::from_millis(at);
        let whole = self.command();
        let Some((stage, of)) = self.pieces else {
            let meaning = Meaning::Apply(self.edit.clone());
            return (
                Some(self.number),
                meaning,
                written(Some(self.number), at, whole),
            );
        };
        let id = RequestId::new([u8::try_from(stage).unwrap(); 16]);
        let bytes = encode_command(&whole).unwrap();
        if step == self.last() {
            let meaning = Meaning::Commit {
                stage,
                edit: self.edit.clone(),
            };
            let digest = Digest::new(Sha256::digest(&bytes).into());
            let command = Command::Commit { stage: id, digest };
            return (
                Some(self.number),
                meaning,
                written(Some(self.number), at, command),
            );
        }
        let index = u32::try_from(step).unwrap();
        let cut = |piece: usize| bytes.len() * piece / of as usize;
        let piece = bytes[cut(step)..cut(step + 1)].to_vec();
        let command = Command::Stage {
            stage: id,
            index,
            of,
            bytes: piece,
        };
        let meaning = Meaning::Piece { stage, index, of };
        (None, meaning, written(None, at, command))
    }

    fn command(&self) -> Command {
        let expected = self.edit.expected.iter();
        let expected = expected.map(|(name, at)| (name.parse().unwrap(), at.map(Revision::new)));
        Command::Apply {
            base: self.edit.base.map(Revision::new),
            expected: expected.collect(),
            put: self.edit.put.iter().map(Plan::document).collect(),
            remove: self
                .edit
                .remove
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
        }
    }

    /// Is told what a step led to.
    pub(crate) fn hear(&mut self, step: usize, outcome: &Outcome, persists: bool) {
        if step == self.last()
            && let Ok(Done { revision, .. }) = outcome
        {
            let first = *self.done.get_or_insert(*revision);
            assert_eq!(
                first, *revision,
                "request {} was told two things",
                self.number
            );
        }
        if self.told.is_some() || step != self.step {
            return;
        }
        self.asked = None;
        match outcome {
            Ok(_) if step == self.last() => self.told = Some(outcome.clone()),
            Ok(_) => self.step += 1,
            Err("no_such_stage" | "pieces_missing") => self.step = 0,
            Err("conflict") if persists => {}
            Err(_) => self.told = Some(outcome.clone()),
        }
    }
}

fn written(number: Option<u64>, at: Timestamp, command: Command) -> Vec<u8> {
    let request = number.map(|number| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        RequestId::new(id)
    });
    let proposal = Proposal {
        request,
        at,
        author: Author::local("root"),
        command,
    };
    encode_proposal(&proposal).unwrap()
}

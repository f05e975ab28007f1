//! The heads of the audit logs, and which control nodes say the same of them.
//!
//! A seal fixes the size and the root of every log that grew, at one position of the consensus log,
//! so that all control nodes have the same heads to sign. Each cosigns what it applied itself; a
//! head is a checkpoint that may be shown once a majority has. Signatures are lines of signed notes
//! (C2SP signed-note, tlog-cosignature).

use std::collections::{BTreeMap, VecDeque};

use portcullis_audit::tlog::{Checkpoint, KeyKind, Note, NoteKey, NoteSignature, Said};
use portcullis_certs::fleet::{LogKey, ViewKey};
use portcullis_policy::{FleetId, NodeId};
use serde::{Deserialize, Serialize};

/// Heads of one log that are remembered: what others say of older ones is not needed any more.
const HEADS_KEPT: usize = 4;

/// One control node's word for one head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cosigned {
    /// The text of the checkpoint.
    pub checkpoint: String,
    /// The line under it.
    pub line: String,
}

/// What became of another's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It counts.
    Counts,
    /// It was known, or is of a head that this node has not come to or has left behind.
    Nothing,
    /// It is no signature of that node.
    Forged,
    /// That node signed another root at the same size.
    Differs,
}

/// The latest heads of all logs.
pub(super) struct Heads {
    fleet: FleetId,
    me: NodeId,
    log_key: LogKey,
    view_key: ViewKey,
    logs: BTreeMap<String, VecDeque<Head>>,
}

struct Head {
    checkpoint: Checkpoint,
    text: String,
    signed: NoteSignature,
    cosigned: BTreeMap<NodeId, NoteSignature>,
    /// How many cosignatures it was last shown with.
    shown: usize,
}

impl Heads {
    pub(super) fn new(fleet: FleetId, me: NodeId, log_key: LogKey, view_key: ViewKey) -> Self {
        Self {
            fleet,
            me,
            log_key,
            view_key,
            logs: BTreeMap::new(),
        }
    }

    /// Signs a head that was sealed here, at `now`, Unix seconds. One that is not later than the
    /// last of its log is passed over: it was signed before.
    pub(super) fn seal(&mut self, checkpoint: Checkpoint, now: u64) {
        let heads = self.logs.entry(checkpoint.origin.clone()).or_default();
        if let Some(last) = heads.back()
            && checkpoint.size <= last.checkpoint.size
        {
            return;
        }
        let text = checkpoint.text();
        let (Some(log), Some(own)) = (
            log_key(&checkpoint.origin, self.log_key.public()),
            cosigner(self.fleet, self.me, self.view_key.public()),
        ) else {
            return;
        };
        let signed = log.sign(&text, |text| self.log_key.sign(text));
        let mut cosigned = BTreeMap::new();
        let line = own.cosign(&text, now, |message| {
            // The message is a cosignature's, whose prefix the key asks for; zeros verify nowhere.
            self.view_key.cosign(message).unwrap_or([0; 64])
        });
        cosigned.insert(self.me, line);
        heads.push_back(Head {
            checkpoint,
            text,
            signed,
            cosigned,
            shown: 0,
        });
        if heads.len() > HEADS_KEPT {
            heads.pop_front();
        }
    }

    /// Lets go of every head: they were not what the fleet decided.
    pub(super) fn forget(&mut self) {
        self.logs.clear();
    }

    /// Nothing of this log was shown yet, whatever [`Heads::ready`] gave.
    pub(super) fn show_again(&mut self, origin: &str) {
        for head in self.logs.get_mut(origin).into_iter().flatten() {
            head.shown = 0;
        }
    }

    /// What this node says of the latest head of each log of which that node has said nothing yet:
    /// at most `most`.
    pub(super) fn untold(&self, node: NodeId, most: usize) -> Vec<Cosigned> {
        let latest = self.logs.values().filter_map(VecDeque::back);
        latest
            .filter(|head| !head.cosigned.contains_key(&node))
            .filter_map(|head| head.word_of(self.me))
            .take(most)
            .collect()
    }

    /// Takes another's word, whose key for views is `key`; with it comes what this node says of the
    /// same head.
    pub(super) fn hear(
        &mut self,
        from: NodeId,
        key: [u8; 32],
        word: &Cosigned,
    ) -> (Heard, Option<Cosigned>) {
        let (Ok(said), Some(signer)) = (
            Checkpoint::parse(&word.checkpoint),
            cosigner(self.fleet, from, key),
        ) else {
            return (Heard::Forged, None);
        };
        let Some(line) = NoteSignature::parse(&word.line) else {
            return (Heard::Forged, None);
        };
        let heads = self.logs.get_mut(&said.origin).into_iter().flatten();
        let Some(head) = { heads }.find(|head| head.checkpoint.size == said.size) else {
            return (Heard::Nothing, None);
        };
        let own = head.word_of(self.me);
        if head.cosigned.contains_key(&from) {
            return (Heard::Nothing, own);
        }
        let note = Note {
            text: word.checkpoint.clone(),
            signatures: vec![line.clone()],
        };
        if !matches!(signer.check(&note), Said::Yes { .. }) {
            return (Heard::Forged, own);
        }
        if head.text != word.checkpoint {
            return (Heard::Differs, own);
        }
        head.cosigned.insert(from, line);
        (Heard::Counts, own)
    }

    /// The checkpoints that may be shown now and were not yet with as many cosignatures, the latest
    /// of each log: those that `majority` says enough control nodes have cosigned.
    pub(super) fn ready(
        &mut self,
        majority: impl Fn(&mut dyn Iterator<Item = NodeId>) -> bool,
    ) -> Vec<(String, Note)> {
        let mut ready = Vec::new();
        for (origin, heads) in &mut self.logs {
            let enough = heads
                .iter_mut()
                .rev()
                .find(|head| majority(&mut head.cosigned.keys().copied()));
            if let Some(head) = enough
                && head.shown < head.cosigned.len()
            {
                head.shown = head.cosigned.len();
                ready.push((origin.clone(), head.note()));
            }
        }
        ready
    }
}

impl Head {
    fn word_of(&self, node: NodeId) -> Option<Cosigned> {
        let line = self.cosigned.get(&node)?.to_string();
        Some(Cosigned {
            checkpoint: self.text.clone(),
            line: line.trim_end_matches('\n').to_owned(),
        })
    }

    fn note(&self) -> Note {
        let signed = std::iter::once(&self.signed);
        Note {
            text: self.text.clone(),
            signatures: signed.chain(self.cosigned.values()).cloned().collect(),
        }
    }
}

/// The public key under which checkpoints of that log are signed: its name is the log's.
pub(super) fn log_key(origin: &str, key: [u8; 32]) -> Option<NoteKey> {
    NoteKey::new(origin, KeyKind::Log, key).ok()
}

/// The public key under which a control node cosigns.
pub(super) fn cosigner(fleet: FleetId, node: NodeId, key: [u8; 32]) -> Option<NoteKey> {
    NoteKey::new(
        &format!("portcullis/{fleet}/nodes/{node}"),
        KeyKind::Cosigner,
        key,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::tlog::{Hash, TrustPolicy};

    const ORIGIN: &str = "portcullis/test";

    fn id(node: u64) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn view_key(node: u64) -> ViewKey {
        ViewKey::from_seed([u8::try_from(node).unwrap(); 32]).unwrap()
    }

    fn heads(node: u64) -> Heads {
        let log_key = LogKey::from_seed([9; 32]).unwrap();
        Heads::new(fleet(), id(node), log_key, view_key(node))
    }

    fn fleet() -> FleetId {
        FleetId::new([7; 16])
    }

    fn head(size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: Hash::of_leaf(&size.to_be_bytes()),
        }
    }

    fn hear(to: &mut Heads, from: u64, word: &Cosigned) -> Heard {
        to.hear(id(from), view_key(from).public(), word).0
    }

    fn two_of_three(signers: &mut dyn Iterator<Item = NodeId>) -> bool {
        signers.count() >= 2
    }

    #[test]
    fn a_head_is_shown_once_a_majority_said_the_same_and_a_stranger_believes_it() {
        let [mut one, mut two, mut three] = [heads(1), heads(2), heads(3)];
        for heads in [&mut one, &mut two, &mut three] {
            heads.seal(head(5), 1_000);
        }
        assert_eq!(one.ready(two_of_three), []);
        let word = two.untold(id(1), 10).remove(0);
        assert_eq!(hear(&mut one, 2, &word), Heard::Counts);
        assert_eq!(hear(&mut one, 2, &word), Heard::Nothing);
        let [(origin, note)] = &one.ready(two_of_three)[..] else {
            panic!("one");
        };
        assert_eq!(origin, ORIGIN);
        let note = Note::parse(note.to_string().as_bytes()).unwrap();
        let log = log_key(ORIGIN, LogKey::from_seed([9; 32]).unwrap().public()).unwrap();
        let voters = (1..=3).map(|node| cosigner(fleet(), id(node), view_key(node).public()));
        let policy = TrustPolicy::of(log, voters.map(Option::unwrap).collect(), 2).unwrap();
        assert_eq!(policy.check(&note).unwrap().checkpoint, head(5));
        // Nothing new, nothing to show; with the third's word there is.
        assert_eq!(one.ready(two_of_three), []);
        let word = three.untold(id(1), 10).remove(0);
        assert_eq!(hear(&mut one, 3, &word), Heard::Counts);
        assert_eq!(one.ready(two_of_three).len(), 1);
        assert_eq!(one.untold(id(3), 10), []);
    }

    #[test]
    fn another_root_is_told_apart_from_a_forged_signature_and_neither_counts() {
        let [mut one, mut two] = [heads(1), heads(2)];
        one.seal(head(5), 1_000);
        let mut other = head(5);
        other.root = Hash::of_nothing();
        two.seal(other, 1_000);
        let word = two.untold(id(1), 10).remove(0);
        assert_eq!(hear(&mut one, 2, &word), Heard::Differs);
        // Who signs for somebody else.
        assert_eq!(hear(&mut one, 3, &word), Heard::Forged);
        let mut forged = word.clone();
        forged.checkpoint = head(5).text();
        assert_eq!(hear(&mut one, 2, &forged), Heard::Forged);
        for nonsense in ["", "\n\n", "x\n5\n"] {
            forged.checkpoint = nonsense.to_owned();
            assert_eq!(hear(&mut one, 2, &forged), Heard::Forged);
        }
        forged = word;
        forged.line = "nothing".to_owned();
        assert_eq!(hear(&mut one, 2, &forged), Heard::Forged);
        assert_eq!(one.ready(two_of_three), []);
    }

    #[test]
    fn a_word_for_a_head_that_is_not_there_is_asked_for_again_by_being_answered_later() {
        let [mut one, mut two] = [heads(1), heads(2)];
        two.seal(head(5), 1_000);
        let early = two.untold(id(1), 10).remove(0);
        assert_eq!(hear(&mut one, 2, &early), Heard::Nothing);
        one.seal(head(5), 1_001);
        let word = one.untold(id(2), 10).remove(0);
        let (heard, answer) = two.hear(id(1), view_key(1).public(), &word);
        assert_eq!(heard, Heard::Counts);
        assert_eq!(hear(&mut one, 2, &answer.unwrap()), Heard::Counts);
    }

    #[test]
    fn heads_only_grow_and_few_are_remembered() {
        let mut one = heads(1);
        for size in 1..=20 {
            one.seal(head(size), size);
            one.seal(head(size), size + 1);
            one.seal(head(1), size);
        }
        assert_eq!(one.logs[ORIGIN].len(), HEADS_KEPT);
        let words = one.untold(id(2), 10);
        assert_eq!(words.len(), 1);
        assert_eq!(words[0].checkpoint, head(20).text());
        assert_eq!(one.untold(id(2), 0), []);
        one.forget();
        assert_eq!(one.untold(id(2), 10), []);
    }

    #[test]
    fn under_growth_the_latest_that_a_majority_signed_is_shown() {
        let [mut one, mut two] = [heads(1), heads(2)];
        for size in 1..=3 {
            one.seal(head(size), size);
            if size < 3 {
                two.seal(head(size), size);
                let word = two.untold(id(1), 10).remove(0);
                assert_eq!(hear(&mut one, 2, &word), Heard::Counts);
            }
        }
        let ready = one.ready(two_of_three);
        assert_eq!(ready[0].1.text, head(2).text());
    }
}

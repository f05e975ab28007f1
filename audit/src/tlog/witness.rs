//! A witness (C2SP tlog-witness, `add-checkpoint`): what it is asked, and whether it cosigns. It remembers the latest checkpoint of each
//! log, and cosigns only one that begins with it: whoever rolls a log back, or shows two histories of it, finds no cosignature.

use std::collections::BTreeMap;
use std::fmt;

use super::checkpoint::{Checkpoint, NotACheckpoint};
use super::hash::Hash;
use super::note::{MAX_NOTE_BYTES, NotANote, Note, NoteKey, NoteSignature};
use super::policy::{NotBelieved, TrustPolicy};
use super::proof::{MAX_PROOF_HASHES, MAX_SIZE, WrongProof, check_consistency};

/// Bytes of a request: the size, the proof, an empty line, and the note.
pub const MAX_ADD_CHECKPOINT_BYTES: usize = 64 + 64 * MAX_PROOF_HASHES + MAX_NOTE_BYTES;

/// Bytes of a checkpoint's text that a witness remembers; its signatures come on top.
pub const MAX_WITNESSED_TEXT: usize = 4 * 1024;

/// Logs that a witness remembers.
pub const MAX_WITNESSED_LOGS: usize = 256;

/// A request to cosign a checkpoint, as it was read: nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    old: u64,
    proof: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// A request: `proof` shows that the checkpoint begins with the tree of size `old`, the last that the witness cosigned.
    ///
    /// # Errors
    /// [`NotAddCheckpoint`]
    pub fn new(old: u64, proof: Vec<Hash>, note: Note) -> Result<Self, NotAddCheckpoint> {
        if proof.len() > MAX_PROOF_HASHES {
            return Err(NotAddCheckpoint::ProofTooLong);
        }
        if note.text.len() > MAX_WITNESSED_TEXT {
            return Err(NotAddCheckpoint::TextTooLong);
        }
        let checkpoint = Checkpoint::parse(&note.text).map_err(NotAddCheckpoint::Checkpoint)?;
        if old > checkpoint.size {
            return Err(NotAddCheckpoint::Shrinks);
        }
        Ok(Self {
            old,
            proof,
            note,
            checkpoint,
        })
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// [`NotAddCheckpoint`]
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAddCheckpoint> {
        if bytes.len() > MAX_ADD_CHECKPOINT_BYTES {
            return Err(NotAddCheckpoint::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NotAddCheckpoint::Form)?;
        let (head, note) = text.split_once("\n\n").ok_or(NotAddCheckpoint::Form)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(size).ok_or(NotAddCheckpoint::OldSize)?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() >= MAX_PROOF_HASHES {
                return Err(NotAddCheckpoint::ProofTooLong);
            }
            proof.push(Hash::parse(line).ok_or(NotAddCheckpoint::Proof)?);
        }
        let note = Note::parse(note.as_bytes()).map_err(NotAddCheckpoint::Note)?;
        Self::new(old, proof, note)
    }

    /// What is to be cosigned.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// A size in its one spelling: `+1` and `01` are numbers elsewhere.
fn size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size <= MAX_SIZE && size.to_string() == text).then_some(size)
}

/// The latest checkpoint of a log that a witness cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    note: Note,
    checkpoint: Checkpoint,
    at: u64,
}

impl Witnessed {
    /// What was remembered before: a note with the log's signature, cosigned at this time, Unix seconds.
    ///
    /// # Errors
    /// [`NotACheckpoint`]
    pub fn of(note: Note, at: u64) -> Result<Self, NotACheckpoint> {
        let checkpoint = Checkpoint::parse(&note.text)?;
        Ok(Self {
            note,
            checkpoint,
            at,
        })
    }

    /// The note, with the log's signatures alone.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// What it says.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// When it was cosigned, Unix seconds.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    fn against(&self, newer: Note, proves: Proves) -> Box<Against> {
        Box::new(Against {
            older: self.note.clone(),
            newer,
            proves,
        })
    }
}

/// The latest checkpoint of each log, by its origin.
pub type Remembered = BTreeMap<String, Witnessed>;

/// What a witness knows.
#[derive(Debug)]
pub struct Witness {
    trust: TrustPolicy,
    remembered: Remembered,
}

impl Witness {
    /// A witness of the logs that the policy names, and those beneath their names. How many cosignatures the policy asks for is not
    /// looked at: what a log signed binds it.
    #[must_use]
    pub const fn new(trust: TrustPolicy, remembered: Remembered) -> Self {
        Self { trust, remembered }
    }

    /// What it remembers.
    #[must_use]
    pub const fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Whether this is to be cosigned at `now`, Unix seconds. Nobody else is answered until it is: `Step` borrows the witness, so that two
    /// requests at once are one after the other.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn consider(&mut self, request: &AddCheckpoint, now: u64) -> Result<Step<'_>, Refused> {
        let AddCheckpoint {
            old,
            proof,
            note,
            checkpoint,
        } = request;
        let origin = &checkpoint.origin;
        let trust = self.trust.for_log(origin);
        let trust = trust.ok_or_else(|| Refusal::UnknownLog(origin.clone()))?;
        match trust.check(note) {
            Ok(_) | Err(NotBelieved::NoQuorum { .. }) => {}
            Err(error) => return Err(Refusal::NotSigned(error).into()),
        }
        let by_log = note.signatures.iter().filter(|line| {
            let mut logs = trust.logs().iter();
            logs.any(|log| line.name == log.name() && line.key_id == log.id())
        });
        let new = Note {
            text: note.text.clone(),
            signatures: by_log.cloned().collect(),
        };
        let last = self.remembered.get(origin);
        if last.is_none() && self.remembered.len() >= MAX_WITNESSED_LOGS {
            return Err(Refusal::TooManyLogs.into());
        }
        let (last_size, last_root) = match last {
            Some(last) => (last.checkpoint.size, last.checkpoint.root),
            None => (0, Hash::of_nothing()),
        };
        // Whatever the request says of an older size: two roots of one size cannot both be the log.
        if checkpoint.size == last_size && checkpoint.root != last_root {
            return Err(Refused {
                why: Refusal::OtherRoot { size: last_size },
                against: last.map(|last| last.against(new, Proves::TwoHistories)),
            });
        }
        if *old != last_size {
            return Err(Refusal::OtherSize { size: last_size }.into());
        }
        let from = (last_size, last_root);
        if let Err(error) = check_consistency(from, (checkpoint.size, checkpoint.root), proof) {
            return Err(Refused {
                why: Refusal::WrongProof(error),
                against: last.map(|last| last.against(new, Proves::Nothing)),
            });
        }
        // A cosignature says that nothing larger was seen up to its time: a clock that was set back must not make it say otherwise. Zero
        // means that there is none.
        let at = now.max(last.map_or(1, Witnessed::at)).max(1);
        let step = Witnessed {
            note: new,
            checkpoint: checkpoint.clone(),
            at,
        };
        Ok(Step {
            remembered: &mut self.remembered,
            step,
        })
    }
}

/// A checkpoint that may be cosigned, once it is remembered.
#[derive(Debug)]
pub struct Step<'a> {
    remembered: &'a mut Remembered,
    step: Witnessed,
}

impl Step<'_> {
    /// Remembers the checkpoint, and then cosigns it. `keep` makes durable what is remembered; it must not return before it is.
    ///
    /// # Errors
    /// That of `keep`: then nothing is signed, and what was remembered before is.
    pub fn cosign<E>(
        self,
        keep: impl FnOnce(&Remembered) -> Result<(), E>,
        key: &NoteKey,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<NoteSignature, E> {
        let Self { remembered, step } = self;
        let (origin, text, at) = (
            step.checkpoint.origin.clone(),
            step.note.text.clone(),
            step.at,
        );
        let before = remembered.insert(origin.clone(), step);
        if let Err(error) = keep(remembered) {
            match before {
                Some(before) => remembered.insert(origin, before),
                None => remembered.remove(&origin),
            };
            return Err(error);
        }
        Ok(key.cosign(&text, at, sign))
    }
}

/// Why a checkpoint is not cosigned, and what to keep of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// Two checkpoints, both signed by the log, that do not fit each other as far as the request shows.
    pub against: Option<Box<Against>>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, against: None }
    }
}

/// Two checkpoints that were signed by a log, with its signatures alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Against {
    /// The one that is remembered.
    pub older: Note,
    /// The one that was refused.
    pub newer: Note,
    /// What the two prove by themselves.
    pub proves: Proves,
}

/// What two checkpoints prove by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    /// That whoever holds the log's key signed two histories.
    TwoHistories,
    /// Nothing: the log was rewritten, or somebody sent a wrong proof with a checkpoint that anybody can read. Whoever has the log's files
    /// can tell.
    Nothing,
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No key is known for this log; its origin.
    UnknownLog(String),
    /// The log did not sign it.
    NotSigned(NotBelieved),
    /// There is no room for one more log.
    TooManyLogs,
    /// The request is about another size than the one that was cosigned last.
    OtherSize {
        /// That one.
        size: u64,
    },
    /// It has the size that was cosigned last, and another root.
    OtherRoot {
        /// That size.
        size: u64,
    },
    /// It is not shown that the log only grew.
    WrongProof(WrongProof),
}

impl Refusal {
    /// The HTTP status that the specification gives it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::UnknownLog(_) => 404,
            Self::NotSigned(_) => 403,
            Self::OtherSize { .. } | Self::OtherRoot { .. } => 409,
            Self::WrongProof(_) => 422,
            Self::TooManyLogs => 503,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLog(origin) => write!(f, "this witness knows no log {origin}"),
            Self::NotSigned(error) => write!(f, "{error}"),
            Self::TooManyLogs => {
                write!(
                    f,
                    "this witness remembers {MAX_WITNESSED_LOGS} logs already"
                )
            }
            Self::OtherSize { size } => write!(f, "the last checkpoint had the size {size}"),
            Self::OtherRoot { size } => {
                write!(f, "another root was signed before for the size {size}")
            }
            Self::WrongProof(error) => {
                write!(f, "the proof does not show that the log only grew: {error}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Bytes are no request to a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAddCheckpoint {
    /// Longer than [`MAX_ADD_CHECKPOINT_BYTES`].
    TooLong,
    /// Not UTF-8, or no empty line parts the proof from the checkpoint.
    Form,
    /// The first line is not `old SIZE`.
    OldSize,
    /// A line of the proof is no hash.
    Proof,
    /// More than [`MAX_PROOF_HASHES`].
    ProofTooLong,
    /// No signed note follows.
    Note(NotANote),
    /// The note is no checkpoint.
    Checkpoint(NotACheckpoint),
    /// Its text is longer than [`MAX_WITNESSED_TEXT`].
    TextTooLong,
    /// The older size is larger than the checkpoint's.
    Shrinks,
}

impl fmt::Display for NotAddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_ADD_CHECKPOINT_BYTES} bytes"),
            Self::Form => {
                f.write_str("it is `old SIZE`, a proof, an empty line and a checkpoint, in UTF-8")
            }
            Self::OldSize => f.write_str("its first line is not `old SIZE`"),
            Self::Proof => f.write_str("a line of its proof is no hash"),
            Self::ProofTooLong => write!(f, "its proof has more than {MAX_PROOF_HASHES} hashes"),
            Self::Note(error) => write!(f, "no signed note follows its proof: {error}"),
            Self::Checkpoint(error) => write!(f, "its note is no checkpoint: {error}"),
            Self::TextTooLong => {
                write!(
                    f,
                    "its checkpoint's text is longer than {MAX_WITNESSED_TEXT} bytes"
                )
            }
            Self::Shrinks => f.write_str("its old size is larger than the checkpoint's"),
        }
    }
}

impl std::error::Error for NotAddCheckpoint {}

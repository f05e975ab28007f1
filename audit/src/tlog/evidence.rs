//! A proof in one file (C2SP tlog-proof): an entry's place, its inclusion proof, and the checkpoint with its signatures.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Checkpoint, NotACheckpoint};
use super::hash::Hash;
use super::note::{MAX_NOTE_BYTES, NotANote, Note};
use super::proof::{MAX_PROOF_HASHES, WrongProof, check_inclusion};

/// Everything that shows, with the entry itself and the keys that are believed, that a log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What comes with it and is not proved by it.
    pub extra: Option<Vec<u8>>,
    /// The entry's place, from 0.
    pub index: u64,
    /// From the sibling of the entry's leaf up.
    pub proof: Vec<Hash>,
    /// The checkpoint as it was signed.
    pub checkpoint: Note,
}

/// Bytes of extra data.
pub const MAX_EXTRA_BYTES: usize = 64 * 1024;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

impl Evidence {
    /// Reads it.
    ///
    /// # Errors
    /// [`NotEvidence`]
    pub fn parse(bytes: &[u8]) -> Result<Self, NotEvidence> {
        let most = FIRST_LINE.len() + 2 * MAX_EXTRA_BYTES + MAX_PROOF_HASHES * 64 + MAX_NOTE_BYTES;
        if bytes.len() > most {
            return Err(NotEvidence::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NotEvidence::Form)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(NotEvidence::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(NotEvidence::Form);
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| {
            let encoded = line.trim_start_matches("extra ");
            STANDARD.decode(encoded).map_err(|_| NotEvidence::Form)
        });
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index_text = index.ok_or(NotEvidence::Form)?;
        let index: u64 = index_text.parse().map_err(|_| NotEvidence::Form)?;
        if index.to_string() != index_text {
            return Err(NotEvidence::Form);
        }
        let proof: Option<Vec<Hash>> = lines.map(Hash::parse).collect();
        let proof = proof.filter(|proof| proof.len() <= MAX_PROOF_HASHES);
        Ok(Self {
            extra: extra.transpose()?,
            index,
            proof: proof.ok_or(NotEvidence::Form)?,
            checkpoint: Note::parse(checkpoint.as_bytes()).map_err(NotEvidence::Note)?,
        })
    }

    /// Whether the checkpoint's tree has this entry at this place. Who signed the checkpoint is another question, asked of
    /// [`Evidence::checkpoint`].
    ///
    /// # Errors
    /// [`NotEvidence`]
    pub fn check(&self, entry: &[u8]) -> Result<Checkpoint, NotEvidence> {
        let checkpoint =
            Checkpoint::parse(&self.checkpoint.text).map_err(NotEvidence::Checkpoint)?;
        let leaf = Hash::of_leaf(entry);
        check_inclusion(
            leaf,
            self.index,
            &self.proof,
            checkpoint.size,
            checkpoint.root,
        )
        .map_err(NotEvidence::Proof)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Bytes are no proof, or it does not show what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEvidence {
    /// Longer than any proof.
    TooLong,
    /// Not in the form of a proof.
    Form,
    /// The checkpoint is no signed note.
    Note(NotANote),
    /// The note is no checkpoint.
    Checkpoint(NotACheckpoint),
    /// The entry is not where it should be.
    Proof(WrongProof),
}

impl fmt::Display for NotEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than any proof",
            Self::Form => "it is not in the form of c2sp.org/tlog-proof@v1",
            Self::Note(_) => "its checkpoint is no signed note",
            Self::Checkpoint(_) => "its checkpoint cannot be read",
            Self::Proof(_) => "its inclusion proof does not hold",
        })
    }
}

impl std::error::Error for NotEvidence {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLong | Self::Form => None,
            Self::Note(error) => Some(error),
            Self::Checkpoint(error) => Some(error),
            Self::Proof(error) => Some(error),
        }
    }
}

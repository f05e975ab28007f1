//! Commands that arrive in pieces, because one message would be too big, and are executed as one.

use super::codec::decode_command;
use super::command::Command;
use super::fleet::too_many;
use super::rejection::Rejection;
use super::root::{HashedMap, sha256};
use crate::fleet_id::{Digest, RequestId};
use crate::limits::{MAX_PIECE, MAX_PIECES, MAX_STAGED_BYTES, MAX_STAGES, STAGE_IDLE_MS};
use crate::time::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// All pieces of all commands that are being staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pieces: HashedMap<(RequestId, u32), Vec<u8>>,
    stages: OrdMap<RequestId, Stage>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    of: u32,
    present: u32,
    bytes: usize,
    touched: Timestamp,
}

/// One command that is being staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StagedPieces {
    stage: RequestId,
    of: u32,
    touched: Timestamp,
    pieces: Vec<(u32, Vec<u8>)>,
}

impl Staged {
    pub(super) fn new() -> Self {
        Self {
            pieces: HashedMap::new(),
            stages: OrdMap::new(),
            bytes: 0,
        }
    }

    /// Keeps a piece. Answers how many of the command's pieces are there.
    pub(super) fn stage(
        &mut self,
        id: RequestId,
        index: u32,
        of: u32,
        bytes: &[u8],
        at: Timestamp,
    ) -> Result<u32, Rejection> {
        let sized = !bytes.is_empty() && bytes.len() <= MAX_PIECE;
        if !sized || of > MAX_PIECES || index >= of {
            return Err(Rejection::Piece);
        }
        let known = self.stages.get(&id).copied();
        if known.is_some_and(|stage| stage.of != of) {
            return Err(Rejection::OtherPiece(id));
        }
        if let Some(there) = self.pieces.get(&(id, index)) {
            return match there == bytes {
                true => Ok(known.map_or(0, |stage| stage.present)),
                false => Err(Rejection::OtherPiece(id)),
            };
        }
        let too_full = self.bytes + bytes.len() > MAX_STAGED_BYTES;
        if too_full || (known.is_none() && self.stages.len() >= MAX_STAGES) {
            self.drop_idle(id, at);
        }
        if known.is_none() && self.stages.len() >= MAX_STAGES {
            return Err(too_many("staged commands", MAX_STAGES));
        }
        if self.bytes + bytes.len() > MAX_STAGED_BYTES {
            return Err(too_many("bytes of staged commands", MAX_STAGED_BYTES));
        }
        let before = known.unwrap_or(Stage {
            of,
            present: 0,
            bytes: 0,
            touched: at,
        });
        let stage = Stage {
            of,
            present: before.present + 1,
            bytes: before.bytes + bytes.len(),
            touched: at,
        };
        self.bytes += bytes.len();
        self.stages.insert(id, stage);
        self.pieces.insert((id, index), bytes.to_vec());
        Ok(stage.present)
    }

    /// Takes the pieces out and puts the command together.
    pub(super) fn commit(&mut self, id: RequestId, digest: Digest) -> Result<Command, Rejection> {
        let stage = *self.stages.get(&id).ok_or(Rejection::NoSuchStage(id))?;
        if stage.present != stage.of {
            let (present, of) = (stage.present, stage.of);
            return Err(Rejection::PiecesMissing { present, of });
        }
        let mut whole = Vec::with_capacity(stage.bytes);
        for index in 0..stage.of {
            whole.extend_from_slice(self.pieces.get(&(id, index)).map_or(&[], Vec::as_slice));
        }
        if sha256(&whole) != digest {
            return Err(Rejection::DigestDiffers);
        }
        let command =
            decode_command(&whole).map_err(|error| Rejection::StagedCommand(error.to_string()))?;
        self.discard(id);
        Ok(command)
    }

    /// Drops the pieces. That there are none is as well.
    pub(super) fn discard(&mut self, id: RequestId) {
        let Some(stage) = self.stages.remove(&id) else {
            return;
        };
        self.bytes -= stage.bytes;
        for index in 0..stage.of {
            self.pieces.remove(&(id, index));
        }
    }

    pub(super) fn root(&self) -> Digest {
        self.pieces.root()
    }

    pub(super) fn snapshot(&self) -> Vec<StagedPieces> {
        let of_stage = |(id, stage): (&RequestId, &Stage)| {
            let piece = |index| Some((index, self.pieces.get(&(*id, index))?.clone()));
            StagedPieces {
                stage: *id,
                of: stage.of,
                touched: stage.touched,
                pieces: (0..stage.of).filter_map(piece).collect(),
            }
        };
        self.stages.iter().map(of_stage).collect()
    }

    pub(super) fn restore(all: Vec<StagedPieces>) -> Result<Self, Rejection> {
        let mut staged = Self::new();
        for one in all {
            for (index, bytes) in &one.pieces {
                staged.stage(one.stage, *index, one.of, bytes, one.touched)?;
            }
        }
        Ok(staged)
    }

    /// Makes room: whoever staged these is gone.
    fn drop_idle(&mut self, but: RequestId, at: Timestamp) {
        let idle = |(id, stage): &(&RequestId, &Stage)| {
            **id != but && at.millis_since(stage.touched) > STAGE_IDLE_MS
        };
        let idle: Vec<RequestId> = self.stages.iter().filter(idle).map(|(id, _)| *id).collect();
        for id in idle {
            self.discard(id);
        }
    }
}

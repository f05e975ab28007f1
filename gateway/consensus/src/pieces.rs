//! Commands that are too big for one proposal, in pieces.

use portcullis_policy::{Command, Digest, RequestId, encode_command};
use sha2::{Digest as _, Sha256};

/// The largest command in one proposal, in bytes: a bigger one is staged. A proposal has some
/// bytes of its own, and ones beyond 64 KiB hold up heartbeats.
const MAX_COMMAND: usize = 48 * 1024;

/// The commands that do what `command` does, each small enough for a proposal: itself, or its
/// pieces in order and at the end the one that executes them together. The pieces of equal
/// commands are equal, so that a repetition finds them there.
#[must_use]
pub fn in_pieces(command: Command) -> Vec<Command> {
    let Ok(bytes) = encode_command(&command) else {
        // It is told when it is proposed.
        return vec![command];
    };
    if bytes.len() <= MAX_COMMAND {
        return vec![command];
    }
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let mut stage = [0; 16];
    stage.copy_from_slice(digest.split_at(16).0);
    let stage = RequestId::new(stage);
    let of = u32::try_from(bytes.len().div_ceil(MAX_COMMAND)).unwrap_or(u32::MAX);
    let pieces = (0..of).zip(bytes.chunks(MAX_COMMAND));
    let stages = pieces.map(|(index, piece)| Command::Stage {
        stage,
        index,
        of,
        bytes: piece.to_vec(),
    });
    let digest = Digest::new(digest);
    stages.chain([Command::Commit { stage, digest }]).collect()
}

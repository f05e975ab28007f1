//! A log that cannot be rewritten unseen: a Merkle tree over its entries, in files that anyone can serve and check.
//!
//! The formats are those of C2SP (tlog-tiles, signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof), so that a stranger's tools
//! read what is written here. Deliberately absent: what an entry means, where files lie, and private keys: whoever signs is handed the
//! text and gives the signature.

mod checkpoint;
mod evidence;
mod findings;
mod hash;
mod note;
mod policy;
mod proof;
mod tile;
mod tree;
mod verify;
mod witness;

pub use checkpoint::{Checkpoint, NotACheckpoint};
pub use evidence::{Evidence, MAX_EXTRA_BYTES, NotEvidence};
pub use findings::{Finding, Findings, MAX_FINDINGS};
pub use hash::{HASH_BYTES, Hash};
pub use note::{
    KeyKind, MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES, NotAKey, NotANote, Note, NoteKey, NoteSignature,
    Said,
};
pub use policy::{
    Believed, MAX_POLICY_BYTES, MAX_POLICY_LINES, NotAPolicy, NotBelieved, TrustPolicy, Wrong,
};
pub use proof::{
    MAX_PROOF_HASHES, MAX_SIZE, NoProof, Subtrees, WrongProof, check_consistency, check_inclusion,
    prove_consistency, prove_inclusion, root_at,
};
pub use tile::{
    Level, MAX_BUNDLE_BYTES, MAX_ENTRY_BYTES, MAX_TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile,
    TileError, Tiles, WrongBundle, append_entry, decode_tile, encode_tile, entries,
};
pub use tree::{Subtree, Tree};
pub use verify::{Leaf, verify, verify_from};
pub use witness::{
    AddCheckpoint, Against, MAX_ADD_CHECKPOINT_BYTES, MAX_WITNESSED_LOGS, MAX_WITNESSED_TEXT,
    NotAddCheckpoint, Proves, Refusal, Refused, Remembered, Step, Witness, Witnessed,
};

//! A published checkpoint that is not of the history which this node's state has: what it is, and what
//! to do. Nothing is changed: the files are evidence.

use std::path::Path;

use portcullis_audit::tlog::{KeyKind, MAX_NOTE_BYTES, Note, NoteKey, Said};
use portcullis_certs::fleet::LogKey;

use super::home::{Home, Piece};
use super::keeping::logs_folder;
use crate::ledger::tiles::{CHECKPOINT, LogId, read};

/// Why the node whose `data` this is does not start, in words.
pub(super) fn explain(data: &Path, home: &Home, log: &LogId, size: u64) -> String {
    let folder = logs_folder(data).join(log.to_string());
    let path = folder.join(CHECKPOINT);
    let (path_told, folder_told) = (path.display(), folder.display());
    let found = format!(
        "the audit log {log}: {path_told} says other entries than this node's state has among the first {size}"
    );
    match is_signed(&path, home) {
        Some(true) => format!(
            "{found}, and this fleet's log key signed it: data of this node was put back from elsewhere, or two histories were signed. Nothing was changed; keep a copy of {folder_told} as evidence (`portcullis audit verify` of another control node's logs with `--since` this checkpoint proves it). Then move {folder_told} away, and nothing else, and start the node: it has the entries from the other control nodes"
        ),
        Some(false) => format!(
            "{found}, and it does not bear the signature of this fleet's log key: the file was changed or is damaged. Keep it if you want to know how; move {path_told} away, and nothing else, and start the node: it shows the next checkpoint by itself"
        ),
        None => format!(
            "{found}, and whether this fleet's log key signed it cannot be told. Nothing was changed; keep a copy of {folder_told}, then move it away, and nothing else, and start the node: it has the entries from the other control nodes"
        ),
    }
}

fn is_signed(path: &Path, home: &Home) -> Option<bool> {
    let note = Note::parse(&read(path, MAX_NOTE_BYTES).ok()??).ok()?;
    let key = LogKey::from_pem(&home.find(Piece::LogKey).ok()??).ok()?;
    // A log's origin, the first line, is the name of its key.
    let origin = note.text.lines().next()?;
    let key = NoteKey::new(origin, KeyKind::Log, key.public()).ok()?;
    Some(matches!(key.check(&note), Said::Yes { .. }))
}

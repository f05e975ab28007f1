//! From where on a log has all its entries: what came before may have been let go of, once an entry of the log itself said so.
//!
//! What an entry declares stays: its file beside the checkpoint only says where to look, so that who reads knows before the end what may be
//! missing. The hashes of all entries stay.

use memchr::memmem;
use portcullis_audit::tlog::TILE_WIDTH;
use portcullis_audit::{Event, kinds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a log declared: tlog-tiles' minimum index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFrom {
    /// From this entry on everything is there; a multiple of 256.
    pub kept_from: u64,
    /// The entry that says so, by its index.
    pub declared_by: u64,
}

/// Bytes of its file at most.
pub(crate) const MAX_KEPT_BYTES: usize = 256;

impl KeptFrom {
    /// What an entry of a log declares, if it does. What it lets go of came before it.
    #[must_use]
    pub fn declared(index: u64, entry: &[u8]) -> Option<Self> {
        // Looked for first because it is cheap.
        memmem::find(entry, kinds::LOG_PRUNED.as_bytes())?;
        let event = Event::parse(std::str::from_utf8(entry).ok()?).ok()?;
        if event.kind != kinds::LOG_PRUNED {
            return None;
        }
        let kept_from = event.field("kept_from").and_then(Value::as_u64)?;
        let fits = kept_from <= index && kept_from.is_multiple_of(u64::from(TILE_WIDTH));
        fits.then_some(Self {
            kept_from,
            declared_by: index,
        })
    }

    /// Whether this is the entry that says so.
    #[must_use]
    pub fn is_declared(&self, index: u64, entry: &[u8]) -> bool {
        index == self.declared_by && Self::declared(index, entry) == Some(*self)
    }

    /// As its file has it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The bytes of its file.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            kept_from,
            declared_by,
        } = self;
        format!("{{\"declared_by\":{declared_by},\"kept_from\":{kept_from}}}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, kept_from: u64) -> String {
        let event = Event::new(0, kinds::ALL.iter().find(|it| **it == kind).unwrap(), "n1");
        event.with("kept_from", kept_from).line()
    }

    #[test]
    fn an_entry_declares_what_came_before_it_in_whole_bundles() {
        let declared = |index, line: &str| KeptFrom::declared(index, line.as_bytes());
        let pruned = kinds::LOG_PRUNED;
        let good = declared(512, &entry(pruned, 512)).unwrap();
        assert_eq!((good.kept_from, good.declared_by), (512, 512));
        assert_eq!(KeptFrom::parse(good.line().as_bytes()), Some(good));
        assert_eq!(declared(511, &entry(pruned, 512)), None);
        assert_eq!(declared(600, &entry(pruned, 300)), None);
        assert_eq!(declared(600, &entry(kinds::LOG_GAP, 512)), None);
        assert_eq!(declared(600, "log.pruned"), None);
        for bytes in ["", "{}", "{\"kept_from\":-1,\"declared_by\":1}", "512"] {
            assert_eq!(KeptFrom::parse(bytes.as_bytes()), None);
        }
    }
}

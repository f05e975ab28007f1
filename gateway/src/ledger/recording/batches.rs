//! Batches: the events that are too many to be recorded one by one, in files whose roots are.
//!
//! A file is one line that says what is in it, then the lines of each batch, tenant by tenant. The
//! root of a batch is that of the RFC 6962 tree whose leaves are its lines, newlines not counted. A
//! file is never written again, and the oldest are let go of.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{Hash, Subtree, Subtrees, Tree, prove_inclusion};
use portcullis_audit::{Event, kinds};
use serde_json::{Value, json};

use super::outbox::replace;
use crate::ledger::limits::RecordLimits;

/// One batch: a tenant's lines, or those of nobody.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Each with its newline.
    pub(super) lines: Vec<u8>,
    pub(super) tree: Growing,
    pub(super) kinds: BTreeMap<String, u64>,
    /// The moments of its first and last event, as events have them.
    pub(super) first: String,
    pub(super) last: String,
}

/// A tree that starts empty.
#[derive(Debug)]
pub(super) struct Growing(pub(super) Tree);

impl Default for Growing {
    fn default() -> Self {
        Self(Tree::EMPTY)
    }
}

impl Batch {
    /// `line` without its newline.
    pub(super) fn push(&mut self, line: &str, kind: &str, at: &str) {
        self.tree.0.push(Hash::of_leaf(line.as_bytes()));
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
        let count = self.kinds.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
        if self.first.is_empty() || at < self.first.as_str() {
            at.clone_into(&mut self.first);
        }
        if at > self.last.as_str() {
            at.clone_into(&mut self.last);
        }
    }
}

/// The files of a node.
#[derive(Debug)]
pub(super) struct Batches {
    directory: PathBuf,
    limits: RecordLimits,
    /// The size of each file that is kept.
    kept: BTreeMap<u64, u64>,
    bytes: u64,
    last: u64,
}

impl Batches {
    /// Opens (or makes) the directory. No number up to `last` is given to a file any more.
    pub(super) fn open(directory: &Path, limits: RecordLimits, last: u64) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                kept.insert(number, entry.metadata()?.len());
            }
        }
        let newest = kept.last_key_value().map_or(0, |(number, _)| *number);
        Ok(Self {
            directory: directory.to_owned(),
            limits,
            bytes: kept
                .values()
                .fold(0, |sum: u64, size| sum.saturating_add(*size)),
            kept,
            last: last.max(newest),
        })
    }

    /// The number of the last file that was written.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Writes a file of these batches, durable when this returns, and makes of each the event that
    /// anchors it.
    pub(super) fn write(
        &mut self,
        node: &str,
        at_ms: i64,
        batches: &BTreeMap<Option<String>, Batch>,
    ) -> io::Result<Vec<Event>> {
        let number = self.last.saturating_add(1);
        let name = format!("{number:012}.jsonl");
        let (mut body, mut index, mut anchors) = (Vec::new(), Vec::new(), Vec::new());
        for (tenant, batch) in batches {
            let root = batch.tree.0.root().to_string();
            let place = [
                ("offset", json!(body.len())),
                ("bytes", json!(batch.lines.len())),
                ("events", json!(batch.tree.0.size())),
                ("root", json!(root)),
            ];
            let mut anchor = Event::new(at_ms, kinds::CONNECTIONS_BATCH, node)
                .with("file", name.as_str())
                .with("kinds", json!(batch.kinds))
                .with("first", batch.first.as_str())
                .with("last", batch.last.as_str());
            anchor.tenant.clone_from(tenant);
            let mut told = json!({ "tenant": tenant });
            for (name, value) in place {
                anchor = anchor.with(name, value.clone());
                if let Value::Object(told) = &mut told {
                    told.insert(name.to_owned(), value);
                }
            }
            body.extend_from_slice(&batch.lines);
            index.push(told);
            anchors.push(anchor);
        }
        let mut bytes = json!({ "version": 1, "number": number, "batches": index })
            .to_string()
            .into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        replace(&self.directory.join(name), &bytes)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.last = number;
        self.kept.insert(number, size);
        self.bytes = self.bytes.saturating_add(size);
        self.let_go();
        Ok(anchors)
    }

    fn let_go(&mut self) {
        while (self.bytes > self.limits.batch_bytes || self.kept.len() > self.limits.batch_files)
            && self.kept.len() > 1
            && let Some((number, size)) = self.kept.pop_first()
        {
            self.bytes = self.bytes.saturating_sub(size);
            let path = self.directory.join(format!("{number:012}.jsonl"));
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(%error, file = %path.display(), "a file of anchored events could not be removed");
            }
        }
    }
}

/// The lines of a batch, as its anchor, the event `connections.batch` of an audit log, vouches for
/// them: without their newlines. `file` is the whole file that the anchor names.
///
/// # Errors
/// [`NotTheBatch`]
pub fn check_batch<'a>(file: &'a [u8], anchor: &Event) -> Result<Vec<&'a [u8]>, NotTheBatch> {
    let number = |name| {
        let value = anchor.field(name).and_then(Value::as_u64);
        value.and_then(|value| usize::try_from(value).ok())
    };
    let root = anchor.field("root").and_then(Value::as_str);
    let (Some(offset), Some(bytes), Some(events), Some(root)) = (
        number("offset"),
        number("bytes"),
        number("events"),
        root.and_then(Hash::parse),
    ) else {
        return Err(NotTheBatch::NoAnchor);
    };
    let body = file.iter().position(|byte| *byte == b'\n');
    let begin = body.and_then(|first| first.checked_add(1)?.checked_add(offset));
    let lines = begin.and_then(|begin| file.get(begin..begin.checked_add(bytes)?));
    let lines = lines.and_then(|lines| lines.strip_suffix(b"\n"));
    let lines: Vec<&[u8]> = lines
        .ok_or(NotTheBatch::Short)?
        .split(|byte| *byte == b'\n')
        .collect();
    let mut tree = Tree::EMPTY;
    for line in &lines {
        tree.push(Hash::of_leaf(line));
    }
    match lines.len() == events && tree.root() == root {
        true => Ok(lines),
        false => Err(NotTheBatch::Changed),
    }
}

/// The hashes that show that line `index` of a batch is in its tree (RFC 6962, section 2.1.1; checked
/// by `portcullis_audit::tlog::check_inclusion`); none beyond its end.
#[must_use]
pub fn prove_in_batch(lines: &[&[u8]], index: u64) -> Option<Vec<Hash>> {
    let size = u64::try_from(lines.len()).ok()?;
    prove_inclusion(index, size, &mut Leaves(lines)).ok()
}

struct Leaves<'a>(&'a [&'a [u8]]);

impl Subtrees for Leaves<'_> {
    type Error = NotTheBatch;

    fn subtree(&mut self, at: Subtree) -> Result<Hash, NotTheBatch> {
        let width = 1_usize.checked_shl(at.level.into());
        let index = usize::try_from(at.index).ok();
        let begin = width
            .zip(index)
            .and_then(|(width, index)| width.checked_mul(index));
        let end = begin
            .zip(width)
            .and_then(|(begin, width)| begin.checked_add(width));
        let lines = begin
            .zip(end)
            .and_then(|(begin, end)| self.0.get(begin..end));
        let mut tree = Tree::EMPTY;
        for line in lines.ok_or(NotTheBatch::Short)? {
            tree.push(Hash::of_leaf(line));
        }
        Ok(tree.root())
    }
}

/// Why a file does not hold what an anchor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTheBatch {
    /// The event anchors no batch.
    NoAnchor,
    /// The file ends before the batch does.
    Short,
    /// Lines were changed, added or taken out.
    Changed,
}

impl fmt::Display for NotTheBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnchor => "the event anchors no batch",
            Self::Short => "the file is shorter than the batch",
            Self::Changed => "the file does not hold what was anchored",
        })
    }
}

impl std::error::Error for NotTheBatch {}

//! Every limit of the ledger, in one place.

use crate::runtime::clock::Duration;

/// The limits that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Ordinary events that may wait to be written; the next is counted instead.
    pub queue_events: usize,
    /// Bytes after which `events.jsonl` is rotated.
    pub file_bytes: u64,
    /// Rotated files that are kept; of older ones only the policy changes are.
    pub kept_files: usize,
    /// Bytes of carried-over policy changes after which their file is set aside as the older one,
    /// and the older one before it is let go: at least this much is kept.
    pub changes_bytes: u64,
}

impl Limits {
    /// About a second of a heavy flood in memory (some 10 MiB), and 2 GiB of history on disk.
    pub const ORDINARY: Self = Self {
        queue_events: 16_384,
        file_bytes: 64 * 1024 * 1024,
        kept_files: 32,
        changes_bytes: 512 * 1024 * 1024,
    };
}

/// Durable events that may wait to be written: more than admin connections can ask for.
pub const QUEUE_DURABLE: usize = 1024;

/// Ordinary events are written at the latest so long after the first of them came,
pub const GATHER: Duration = Duration::from_millis(10);

/// or when so many have gathered.
pub const GATHERED_EVENTS: usize = 256;

/// Ordinary events are synced to disk at least this often.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Kinds that shed events are counted under; further ones are counted together as `other`.
pub const MAX_SHED_KINDS: usize = 64;

/// Events that one search returns.
pub const MAX_FOUND: usize = 1000;

/// Bytes of one line on disk. An event's line is shorter (`portcullis_audit::MAX_EVENT_BYTES`);
/// what is longer was not written by us, and is passed over.
pub const MAX_LINE: usize = 128 * 1024;

/// Searches that wait for the writer at once; further ones read what is there.
pub const MAX_READERS: usize = 64;

/// How long a search waits for the writer.
pub const CATCH_UP: Duration = Duration::from_secs(1);

/// Bytes of leaves that wait to be written into tiles; when there are more, the longest-waiting logs are written.
pub const LOG_PENDING_BYTES: usize = 32 * 1024 * 1024;

/// Logs that are open for appending: the fleet's and one for each tenant.
pub const LOGS: usize = 100_000;

/// Files and folders of logs that are not synced, each known by name; beyond it, everything is synced.
pub const LOG_UNSYNCED: usize = 65_536;

/// Files and folders that are synced one by one; when there are more, the file system is.
pub const LOG_UNSYNCED_ONE_BY_ONE: usize = 256;

/// Openings of commitments that wait to be written.
pub const OPENINGS_WAITING: usize = 16_384;

/// Bytes of the openings of one bundle of entries, as a file.
pub const OPENINGS_BYTES: usize = 64 * 1024 * 1024;

/// Entries from the first to the last of a period, in all logs, that one evidence bundle takes.
pub const EXPORT_ENTRIES: usize = 5_000_000;

/// Entries of one that come with a proof of their own.
pub const EXPORT_PROOFS: usize = 1_000;

/// Heads of tenants' logs in the fleet's that an inspection compares.
pub const LOG_HEADS: usize = 10_000_000;

/// Files of one log that may be missing before an inspection stops looking for more.
pub const LOG_MISSING: usize = 10_000;

/// Times that an inspection begins again with a log that changes while it is read.
pub const LOG_CHANGES: usize = 5;

/// The limits of recording that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub struct RecordLimits {
    /// Bytes of a node's own events that may wait to be recorded; older ones are counted instead.
    pub behind_bytes: u64,
    /// Events that one record anchors.
    pub batch_events: usize,
    /// Bytes of anchored events that are kept; of older ones their anchors are.
    pub batch_bytes: u64,
    /// Files of anchored events that are kept.
    pub batch_files: usize,
}

impl RecordLimits {
    /// A quarter of the ledger may wait; as much of anchored events is kept as of the ledger.
    pub const ORDINARY: Self = Self {
        behind_bytes: 512 * 1024 * 1024,
        batch_events: 4_096,
        batch_bytes: 2 * 1024 * 1024 * 1024,
        batch_files: 100_000,
    };
}

/// Events of one kind that one record holds one by one; further ones are anchored.
pub const RECORDED_OF_A_KIND: usize = 32;

/// Bytes that are read of the ledger at once to be recorded.
pub const RECORD_WINDOW: usize = 4 * 1024 * 1024;

/// Bytes of an anchor without its tenant and kinds, at most,
pub const ANCHOR_BYTES: usize = 512;

/// and for each of its kinds, its name not counted.
pub const ANCHOR_KIND_BYTES: usize = 16;

/// Causes of gaps that one record tells,
pub const GAP_CAUSES: usize = 6;

/// kinds that each of them tells apart,
pub const GAP_KINDS: usize = 12;

/// and bytes of one of them, at most.
pub const GAP_BYTES: usize = 1024;
/// Bytes of what a witness remembers, as a file.
pub const WITNESS_STATE_BYTES: usize = 64 * 1024 * 1024;

/// Pairs of checkpoints that a witness keeps: of those that prove two histories the first so many, of those that prove nothing by
/// themselves the last so many.
pub const WITNESS_EVIDENCE: usize = 64;

/// Requests in a second that a witness takes from one peer in the long run,
pub const WITNESS_PACE: u32 = 20;

/// and at once.
pub const WITNESS_BURST: u32 = 100;

/// Peers whose pace a witness remembers; while there are so many within their pace, a new one is asked to come back.
pub const WITNESS_PEERS: usize = 4096;

/// Bytes of a file of connections' lines that is read to prove one: of 4,096 of the longest.
pub const BATCH_FILE_BYTES: usize = 64 * 1024 * 1024;

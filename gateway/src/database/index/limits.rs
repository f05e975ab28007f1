//! What the index of the audit logs may cost.

use std::time::Duration;

/// Its database is reached within this time, and signed in to within as much again.
pub const INDEX_CONNECT_TIME: Duration = Duration::from_secs(10);
/// The database stops working on one statement of ours after this long,
pub const INDEX_STATEMENT_TIME: Duration = Duration::from_secs(60);
/// and waits for another's locks no longer than this.
pub const INDEX_LOCK_TIME: Duration = Duration::from_secs(10);
/// We hear of it within this time, or give the connection up.
pub const INDEX_ANSWER_TIME: Duration = Duration::from_secs(75);
/// What the database may say to anything but a search, in bytes.
pub const INDEX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Entries that one search answers.
pub const INDEX_SEARCH_ENTRIES: u32 = 1000;
/// What an answered entry may have, in bytes: JSON is spaced out by the database.
pub const INDEX_ENTRY_BYTES: usize = 256 * 1024;
/// What a search may compare with, in bytes.
pub const INDEX_CONTAINS_BYTES: usize = 16 * 1024;
/// Characters of whom a row names.
pub const INDEX_ACTOR_CHARACTERS: usize = 300;
/// Differing entries that are named.
pub const INDEX_NAMED: usize = 16;

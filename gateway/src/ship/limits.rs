//! What shipping may cost, and how long it waits.

use std::time::Duration;

/// Entries that are sent together.
pub const SHIP_BATCH: usize = 256;
/// Bytes of entries that are sent together; a batch ends after the one that passes it.
pub const SHIP_BATCH_BYTES: usize = 1024 * 1024;
/// Between two looks whether logs have grown.
pub const SHIP_LOOK: Duration = Duration::from_secs(1);
/// Looks that must find the same entries unreadable before they are told as a gap.
pub const SHIP_GAP_LOOKS: u32 = 10;
/// Bundles of 256 entries that are found missing at one look, and told as one gap.
pub const SHIP_GAP_BUNDLES: u32 = 4096;
/// Looks at tenants' logs after the fleet's log grew, which says when one of them did;
pub const SHIP_LOOKS_AFTER: u32 = 10;
/// then every so many looks.
pub const SHIP_LOOKS_AT_ALL: u32 = 60;
/// The pause after a first failure; each further one doubles it,
pub const SHIP_FIRST_PAUSE: Duration = Duration::from_millis(500);
/// up to this.
pub const SHIP_LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Failures in a row after which a sink is said to be stalled.
pub const SHIP_STALLED_AFTER: u32 = 3;
/// A file of cursors, in bytes.
pub const SHIP_CURSOR_BYTES: usize = 4 * 1024 * 1024;
/// A file of OCSF events is rotated once it has so many bytes.
pub const SHIP_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Rotated files of OCSF events that are kept.
pub const SHIP_FILES: u32 = 4;
/// Entries that are sent again to a syslog receiver after a cut or a start, because it does not say what it has.
pub const SHIP_SYSLOG_AGAIN: usize = 4096;
/// Looks in a row that find a syslog receiver there, with nothing to send, until what it was sent is taken to have arrived: its system has
/// acknowledged all of it by then.
pub const SHIP_SETTLED_AFTER: u32 = 60;
/// A batch is given to a syslog receiver, or connecting to it, within this.
pub const SHIP_SYSLOG_TIME: Duration = Duration::from_secs(30);
/// Bytes that the system may hold for a syslog receiver, so that what is cut off is less than what is sent again.
pub const SHIP_SYSLOG_BUFFER: usize = 256 * 1024;
/// A batch is answered by an OTLP receiver within this.
pub const SHIP_OTLP_TIME: Duration = Duration::from_secs(30);
/// Bytes of such an answer.
pub const SHIP_OTLP_ANSWER: usize = 64 * 1024;
/// The longest that a receiver may ask for to be left alone (Retry-After).
pub const SHIP_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Between two events that tell of entries which a receiver rejects; more are counted together.
pub const SHIP_REJECTED_EVERY: Duration = Duration::from_secs(60);
/// Between two looks whether the index has what it said it has.
pub const INDEX_LOOK: Duration = Duration::from_secs(10);
/// Between two counts of all its rows.
pub const INDEX_COUNT: Duration = Duration::from_secs(600);

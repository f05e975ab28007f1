//! Consensus remembers: which commands were accepted, in which order, and the state that follows.
//!
//! Voters agree on one log (openraft); each applies it to its own copy of the state
//! (`portcullis-policy`) and shows the view that follows, once everything that led to it is durable
//! there. [`Consensus::propose`] executes a command; [`Consensus::view`] is what gateways read,
//! without waiting; [`Consensus::subscribe`] tells every view in its order. After a restart,
//! whatever killed the process, the last view that was shown is shown again, with or without a
//! quorum. A node that is a fleet by itself is the same with one voter.
//!
//! ```text
//!   propose ─► openraft ─► log ─► writer thread ─► state.redb     one sync for all that gathered
//!                 │                    ▲
//!                 └► machine ─ committed ┘ then view, subscribers, proposer
//!                        └► snapshot: state-N.img, beside it
//! ```
//!
//! Deliberately absent: what a command means (`portcullis-policy`), the clock (an argument), the
//! network (a [`Transport`]), and any repair of a file that cannot be trusted: it refuses to open,
//! since a state with a hole in it would shut out customers or let in strangers without a word.
//!
//! This package is the only door for openraft and redb.

mod acknowledged;
mod anew;
mod arriving;
mod backup;
mod compact;
mod consensus;
#[cfg(test)]
mod corpus;
mod engine;
mod error;
#[cfg(test)]
mod faults;
mod format;
mod image;
mod leaves;
mod log;
mod logs;
mod machine;
mod mark;
mod network;
mod opening;
mod pace;
mod payload;
mod pieces;
mod recorded;
mod reinstall;
mod roots;
mod salvage;
mod settings;
mod status;
#[cfg(test)]
mod suite;
mod tables;
mod timing;
mod types;
pub mod view;
mod whole;
mod writer;

pub use arriving::{TRANSFER_IDLE, TRANSFERS};
pub use backup::{BackupError, MAX_BACKUP, from_backup, to_backup};
pub use consensus::{Consensus, Draft, Heard, MAX_PROPOSAL, Subscription};
pub use error::{OpenError, ProposeError};
pub use logs::{AuditLog, Head, Leaf, Leaves, Logs, NoLeaves};
pub use machine::Published;
pub use network::{BoxFuture, MAX_MESSAGE, Transport, TransportError};
pub use pieces::in_pieces;
pub use recorded::is_fleets_own;
pub use reinstall::PROBE_BYTES;
pub use roots::{ROOTS_TOLD, Rooted};
pub use salvage::{Salvaged, salvage};
pub use settings::{Settings, await_leader, begin_alone};
pub use status::Status;
pub use timing::{TIMINGS, Timing};

//! Consensus remembers: which commands were accepted, in which order, and the state that follows.
//!
//! One voter. [`Consensus::propose`] executes a command on the state, makes the result durable,
//! and only then lets anybody see it; [`Consensus::view`] is what gateways read, without waiting
//! for a writer. After a restart, whatever killed the process, [`Consensus::open`] finds the last
//! state that was seen, or one that was durable but not yet seen.
//!
//! The calls wait for the disk: asynchronous callers use `spawn_blocking`.
//!
//! Deliberately absent: what a command means (`portcullis-policy`), the clock (the moment of a
//! command is an argument), any repair of a file that cannot be trusted: it refuses to open, since
//! a state with a hole in it would shut out customers or let in strangers without a word.
//!
//! This package is the only door for redb.

mod consensus;
mod error;
mod format;
mod store;

pub use consensus::Consensus;
pub use error::{OpenError, ProposeError, StorageError};

//! Evidence: what happened, in a form that can be kept, compared and found again.
//!
//! Bytes in, bytes out. An [`Event`] has exactly one spelling, a line of JSON; whoever keeps the lines (files, sync, rotation) is the
//! gateway's ledger. Deliberately absent: what an event means. This crate knows neither policy nor protocol, only their words ([`kinds`]).

pub mod canonical;
mod event;
mod find;
pub mod kinds;
pub mod moment;
pub mod personal;
pub mod tlog;

pub use event::{Event, MAX_EVENT_BYTES, MAX_FIELD_BYTES, MAX_HEAD_BYTES, NotAnEvent, sha256_hex};
pub use find::{Found, find};

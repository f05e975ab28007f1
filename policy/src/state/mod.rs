//! The state that every node agrees on, and the only way to change it.
//!
//! A [`Command`] is a proposed write; [`State::apply`] executes it whole or refuses it whole with a [`Rejection`]. The same
//! commands in the same order give the same state on every node: maps are ordered and time comes with the command. A
//! [`View`] is what gateways hold: a cheap, immutable picture of the state at one revision.
//!
//! Absent: storage and transport. A [`Snapshot`] is plain data for whoever writes it down.

mod apply;
mod change;
mod command;
mod view;

pub use apply::{Applied, State};
pub use change::{Affected, Change, ChangeKind};
pub use command::{Command, Rejection, Snapshot};
pub use view::{EndpointView, TenantView, View};

pub(crate) use change::{difference, open_doors};

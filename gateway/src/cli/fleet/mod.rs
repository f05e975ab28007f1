//! The commands about the fleet: `init` and `join`, which make a node of a process that is not
//! running, and those that ask a running one.

mod offline;
mod running;

pub(super) use offline::{failed, init, join, read, recover, restore};
pub(super) use running::{backup, invite, remove, status, step_down};

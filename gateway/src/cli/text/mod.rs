//! The node's answers as text for people. Strings in, strings out.

pub(super) mod change;
pub(super) mod fleet;
pub(super) mod limits;
pub(super) mod people;
mod receipt;
pub(super) mod story;
pub(super) mod table;

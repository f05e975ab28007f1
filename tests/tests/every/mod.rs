//! Every driver's program, run through the gateway to either server and, for reference, at a
//! server directly; what it told stands in the manual.

pub(crate) mod ear;
pub(crate) mod place;
pub(crate) mod programs;
pub(crate) mod table;
mod tokio_postgres;

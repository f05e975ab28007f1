//! The bytes of the front door: what a PostgreSQL client, a PostgreSQL server and a load balancer say to each other.
//!
//! Every codec here is sans-IO: it is fed a slice and answers [`Step::Need`] (so many bytes more), [`Step::Done`] (here
//! is the fact, so many bytes belong to it) or a typed [`Complaint`]. Every length is checked against a named maximum
//! in [`limits`] before it is believed, and nothing is allocated from a length alone.
//!
//! Deliberately absent: sockets, clocks, randomness (nonces are arguments) and policy. Nothing in this crate decides
//! who may connect; it only says what was asked, exactly.

mod bytes;
mod complaint;
mod step;

pub mod boundary;
pub mod cancel;
pub mod error;
pub mod first;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod message;
pub mod negotiate;
pub mod proxy_protocol;
pub mod scram;
pub mod startup;

pub use complaint::{Complaint, StartupLayout};
pub use step::Step;

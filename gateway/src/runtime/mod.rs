//! What every room stands on: clocks, randomness, limits, private files, what the machine has, sockets, whether the process slept, what keeps
//! its memory to itself, and the dialer that opens sockets inside a tenant's network.
//!
//! Deliberately absent: anything that knows what a tenant or a database is allowed to do.

pub mod clock;
pub mod dialer;
pub mod files;
pub mod limits;
pub mod machine;
pub mod random;
pub mod secrecy;
pub mod send_queue;
pub mod sockets;
pub mod vigil;

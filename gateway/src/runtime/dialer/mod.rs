//! The dialer: opens sockets inside a tenant's network, for a gateway that may not go there.
//!
//! A socket belongs for life to the network namespace (or device) it was made in, whoever holds
//! it. So a small privileged process makes sockets and passes them over a Unix socket
//! (`SCM_RIGHTS`); the gateway connects, listens and carries traffic without any privilege.
//! `client` asks, `server` answers, `making` does it, `protocol` is what they say to each other.
//!
//! Deliberately absent: connecting, reading and writing (the dialer never sees a byte of traffic),
//! name resolution, and any knowledge of tenants: which place belongs to whom is policy's.

mod client;
mod making;
pub mod protocol;
pub mod server;

pub use client::{DIALER_DEADLINE, Dialer, DialerError, MAX_UNDER_WAY};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

//! HTTP/1.1, server and client: the one door to hyper.
//!
//! The admin API stands on the server over a Unix socket (where the kernel says who calls) and over
//! TLS with client certificates (which say who calls), the metrics page on the server over TCP, the command line on the client over that same socket, and
//! the fetching of a token issuer's keys on the client over TLS.
//!
//! Deliberately absent: HTTP/2, redirects, cookies, compression, upgrades, proxies, and any hyper
//! type in a public signature: replacing the engine is a change to this folder.

pub mod client;
pub mod limits;
mod message;
pub mod objects;
mod router;
pub mod server;
mod tls;
mod unix;
mod url;

pub use message::{BodyError, Caller, Method, Operator, Peer, Request, Response};
pub use router::{Found, Miss, Route, Router};
pub use server::Service;
pub use tls::{Handshake, Identified, Identify, serve_tls};
pub use unix::bind_unix;

#[cfg(test)]
mod tests;

/// Debian's bundle of public authorities: whom the web, and we of it, trust.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

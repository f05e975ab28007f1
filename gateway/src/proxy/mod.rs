//! The front door: customers' traffic, from accept to splice.
//!
//! `connection.rs` reads top to bottom as the path of a connection; every step that grew has its
//! own file and leaves its verb there. `live/` knows every connection that is let in and stops
//! those whose permit lapses; `throttle/` says who may take a place on the way in, `limits` how
//! many there are, `failures/` how long a sign-in waits after failed ones.
//!
//! Deliberately absent: any rule about who may connect (policy's `decide`), any TLS
//! configuration (certs), anything about staff access.

mod admit;
mod authenticate;
mod cancel;
mod certificates;
mod connection;
mod dial;
mod failures;
mod front;
mod greet;
mod io;
mod leg;
mod limits;
mod listener;
mod live;
mod others;
mod refuse;
mod source;
mod splice;
mod throttle;

pub use front::{Front, FrontParts, Usage};
pub use limits::{Bound, Deadlines, FrontLimits, SetBy};
pub use listener::{Door, serve};
pub use live::{ClosedConnection, Enforcement, LiveConnection};
pub use others::{FailedSignIn, OpenAt, Others, PassedCancel, Soft};
pub use throttle::{Limit, Opening};

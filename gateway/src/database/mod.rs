//! The databases behind the gateway: reaching them, and the little that the gateway asks of them
//! on its own account. The only door for `tokio-postgres`.
//!
//! `upstream` connects (addresses checked when they are used, TLS verified); `service` keeps a
//! signed-in connection to each cluster as the service role; on it stand `verifiers` (what SCRAM
//! needs to know of a role), `backend` (cancelling, ending and seeing the end of a query, many of
//! them together by `departures`) and `check` (`cluster check`). What must be set up in a database is in `gateway/deploy/postgres/`.
//!
//! Apart from all that, and in a database of ours, is `index`: the index of the audit logs.
//!
//! Deliberately absent: who may connect (policy's), the bytes of customers' traffic (proxy's),
//! and any statement to a tenant's database with rights beyond the functions of `setup.sql`.

mod addresses;
mod allowance;
pub mod backend;
pub mod check;
mod check_questions;
mod check_report;
pub mod departures;
pub mod index;
mod promise;
mod role_secret;
pub mod service;
mod service_error;
pub mod upstream;
mod upstream_error;
pub mod verifiers;

pub use check_report::{Outcome, Report, Step};
pub use upstream::{Upstream, UpstreamStream, Upstreams};
pub use upstream_error::{Problem, Try, UpstreamError};

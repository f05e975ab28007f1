//! The harness: real parts for tests, started by the tests themselves.
//!
//! A test asks for what it needs ([`Postgres`], [`Gateway`], [`Namespace`], a driver) and gets the
//! real thing in a directory of its own on a port of its own; dropping it stops it, and when the
//! test process dies for whatever reason, so does everything it started.
//!
//! Deliberately absent: stand-ins for the product. What is tested is the binary that is shipped.

pub mod balancer;
pub mod client;
pub mod drivers;
pub mod evil;
pub mod fleet;
pub mod gateway;
pub mod identities;
pub mod namespace;
pub mod openssl;
pub mod pipe;
pub mod planted;
pub mod policy;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod scratch;
pub mod skip;
pub mod store;
pub mod tidy;
pub mod vault;
pub mod wait;

pub use balancer::LoadBalancer;
pub use client::{Dial, Ending, Message, RawClient};
pub use drivers::{NodePg, Psql, Psycopg};
pub use evil::EvilDatabase;
pub use fleet::Fleet;
pub use gateway::{Gateway, Listener};
pub use identities::{Credential, TestAuthority};
pub use namespace::Namespace;
pub use openssl::OpenSsl;
pub use planted::Planted;
pub use policy::{EndpointText, TenantText};
pub use postgres::{Postgres, Version};
pub use process::Finished;
pub use scratch::Scratch;

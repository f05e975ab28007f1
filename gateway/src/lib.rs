//! The gateway: everything in Portcullis that waits.
//!
//! Rooms import only downwards: `cli` (the composition root) → `api` → `fleet` and `bots` → `proxy`
//! and `ship` → `database`, `ledger`, `http`, `mesh`, `vault` → `config`, `runtime`. Decisions are made in `portcullis-policy`,
//! identity material is built in `portcullis-certs`, bytes are understood in `portcullis-wire`;
//! this crate performs what they say.
//!
//! Deliberately absent: any rule about who may connect (policy/), any TLS configuration
//! (certs/), any parsing of a stranger's bytes (wire/).

pub mod api;
pub mod bots;
pub mod cli;
pub mod config;
pub mod database;
pub mod fleet;
pub mod http;
pub mod ledger;
pub mod mesh;
pub mod proxy;
pub mod runtime;
pub mod ship;
pub mod vault;

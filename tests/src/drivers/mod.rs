//! Drivers as applications use them: psql, psycopg, node-postgres and tokio-postgres. They know
//! the gateway's address and the endpoint's name, trust an authority, and check the name against it.

mod command_line;
pub mod program;
mod rust;

pub use command_line::{NodePg, Psql, Psycopg};
pub use rust::{Connected, Rustls, Start, connect};

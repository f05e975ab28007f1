//! The `database` room against real PostgreSQL, set up exactly as `deploy/postgres/README.md` and
//! `setup.sql` say, and against servers that lie.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail as loudly as it likes, helpers included"
)]

#[path = "database/checking.rs"]
mod checking;
#[path = "database/ending.rs"]
mod ending;
#[path = "database/liars.rs"]
mod liars;
#[path = "database/postgres.rs"]
mod postgres;
#[path = "database/reaching.rs"]
mod reaching;
#[path = "database/roles.rs"]
mod roles;
#[path = "database/setting_up.rs"]
mod setting_up;

//! What those who do not vote believe, keep and put in force.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "the helpers of a test fail by panicking"
)]

mod corpus;
mod following;
mod simulation;
mod world;

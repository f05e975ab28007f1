//! What people write to tell a node what to be and whom to let in, parsed once, at the border.
//!
//! Two kinds of file: `node.toml`, which makes one process ([`node`]), and the policy directory,
//! one tenant to a YAML file ([`policy_files`]). What was typed becomes ids, addresses and
//! prefixes here and never turns back into a string by accident. Every error says the file, the
//! line, the column, the offending text and what to do; a file with one mistake is refused whole.
//!
//! Deliberately absent: any default that could permit a connection, any environment variable, and
//! any rule of policy itself (`portcullis-policy` says what a document may mean; this room only
//! says where in which file it was written).

mod file_error;
mod files;
pub mod index;
pub mod node;
pub mod policy_files;

pub use file_error::FileError;

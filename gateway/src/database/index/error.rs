//! Why the index could not be asked.

use std::error::Error as _;
use std::fmt;
use std::io;

use tokio_postgres::error::SqlState;

/// Why the index could not be asked, or written.
#[derive(Debug)]
pub enum IndexError {
    /// A file that its place names cannot be used; a sentence.
    Files(String),
    /// Its database cannot be reached.
    Unreachable(io::Error),
    /// It did not answer in time.
    Late,
    /// It refused, or the connection broke.
    Database(tokio_postgres::Error),
    /// Its tables were made by a later version.
    Later {
        /// Theirs,
        theirs: i32,
        /// and the last that this one knows.
        ours: i32,
    },
    /// It said what it cannot have been told.
    Nonsense(&'static str),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(problem) => f.write_str(problem),
            Self::Unreachable(error) => write!(f, "its database cannot be reached: {error}"),
            Self::Late => f.write_str("its database did not answer in time"),
            Self::Database(error) => match error.as_db_error() {
                Some(said) => {
                    let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
                    write!(
                        f,
                        "its database refused: {} ({})",
                        said.message(),
                        said.code().code()
                    )?;
                    if missing.contains(said.code()) {
                        f.write_str("; a control node with [audit.index] makes the tables")?;
                    }
                    Ok(())
                }
                None => match error.source() {
                    Some(source) => write!(f, "its database: {error}: {source}"),
                    None => write!(f, "its database: {error}"),
                },
            },
            Self::Later { theirs, ours } => write!(
                f,
                "its tables are of version {theirs}, and this program knows them up to {ours}: use a later one"
            ),
            Self::Nonsense(what) => write!(f, "its database said nonsense: {what}"),
        }
    }
}

impl std::error::Error for IndexError {}

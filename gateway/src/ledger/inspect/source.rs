//! Where logs are read that somebody handed over: a directory, or whatever else serves its files.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::ledger::tiles::{TENANTS, read};

/// Files of logs, by their paths.
pub trait Source {
    /// A file of at most so many bytes; nothing if there is none.
    ///
    /// # Errors
    /// A sentence: it may be there, and could not be read.
    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, String>;

    /// The tenants whose logs are there, as far as it can tell; in any order, and any text.
    ///
    /// # Errors
    /// A sentence.
    fn tenants(&mut self) -> Result<Vec<String>, String>;
}

/// A directory of files.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Source for Directory {
    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, String> {
        match read(&self.0.join(path), limit) {
            // It is there and none of ours, which is a finding: bytes that are too many.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData
                ) =>
            {
                Ok(Some(vec![0; limit.saturating_add(1)]))
            }
            read => read.map_err(|error| error.to_string()),
        }
    }

    fn tenants(&mut self) -> Result<Vec<String>, String> {
        let folder = self.0.join(TENANTS);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| format!("{}: {error}", folder.display()))?,
        };
        listed
            .map(|entry| {
                let entry = entry.map_err(|error| format!("{}: {error}", folder.display()))?;
                Ok(entry.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }
}

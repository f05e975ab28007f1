//! Reading the certificates and keys that `node.toml` names.

use super::NodeConfig;
use crate::config::file_error::{FileError, holds_private_key};
use crate::config::files;
use portcullis_policy::TenantId;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a certificate chain and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain in PEM, leaf first.
    pub chain: PathBuf,
    /// The key in PEM, readable by its owner alone.
    pub key: PathBuf,
}

/// A certificate chain and its key as PEM text, not yet understood: `portcullis_certs` does that.
pub struct PemPair {
    /// The chain, leaf first.
    pub chain: String,
    /// The private key; wiped when dropped, and never shown.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").finish_non_exhaustive()
    }
}

/// Everything that a node's configuration names, read.
#[derive(Debug)]
pub struct NodeIdentities {
    /// In the order of `node.toml`; the first is the default.
    pub certificates: Vec<PemPair>,
    /// Our certificate towards each tenant's databases.
    pub database_clients: BTreeMap<TenantId, PemPair>,
}

/// The largest PEM file, in bytes.
const MAX_PEM_FILE_BYTES: u64 = 256 * 1024;

impl NodeConfig {
    /// Reads the certificates and keys that this configuration names.
    ///
    /// Errors: every file that cannot be read, is not a regular file, or is a key that someone
    /// else can read or owns. No part of any file's content is in an error.
    pub fn load_identities(&self) -> Result<NodeIdentities, Vec<FileError>> {
        let mut errors = Vec::new();
        let mut read = |files: &IdentityFiles| match files.read() {
            Ok(pair) => Some(pair),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let certificates = self.certificates.iter().filter_map(&mut read).collect();
        let database_clients = self
            .database_clients
            .iter()
            .filter_map(|(tenant, files)| Some((tenant.clone(), read(files)?)))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(NodeIdentities {
            certificates,
            database_clients,
        })
    }
}

impl IdentityFiles {
    /// Reads both files; see [`NodeConfig::load_identities`].
    pub fn read(&self) -> Result<PemPair, FileError> {
        let chain = files::read_text(&self.chain, MAX_PEM_FILE_BYTES)
            .and_then(|text| {
                if holds_private_key(&text) {
                    return Err("holds a private key; a chain is certificates only".to_owned());
                }
                Ok(text)
            })
            .map_err(|problem| FileError::whole(self.chain.display(), problem))?;
        let key = read_secret(&self.key, "a private key")?;
        Ok(PemPair { chain, key })
    }
}

/// Reads a file that only its owner may read; `what` is what it is called in errors.
///
/// # Errors
/// As for keys; no part of its content is in one.
pub fn read_secret(path: &Path, what: &str) -> Result<Zeroizing<String>, FileError> {
    let secret = secret(path, what);
    secret.map_err(|problem| FileError::whole(path.display(), problem))
}

fn secret(path: &Path, what: &str) -> Result<Zeroizing<String>, String> {
    let (file, metadata) = files::open(path)?;
    owned_alone(what, metadata.mode(), metadata.uid())?;
    files::read(file, MAX_PEM_FILE_BYTES).map(Zeroizing::new)
}

/// Refuses a secret, named by `what`, that somebody else can read or owns.
pub(super) fn owned_alone(what: &str, mode: u32, owner: u32) -> Result<(), String> {
    if mode & OTHERS != 0 {
        return Err(format!(
            "is {what} that others than its owner can use (mode {:04o}); chmod 600 it",
            mode & 0o7777
        ));
    }
    let ours = rustix::process::geteuid().as_raw();
    if owner != ours && owner != ROOT {
        return Err(format!(
            "is {what} that belongs to user {owner}; it must belong to root or to user {ours}, as whom this node runs"
        ));
    }
    Ok(())
}

/// Every permission of group and others.
const OTHERS: u32 = 0o077;
const ROOT: u32 = 0;

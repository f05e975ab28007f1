//! Keys on this node's disk, sealed.
//!
//! Each key lies in a file of its own, sealed under the vault's key; that lies in `vault.json`, sealed under a root key which is elsewhere:
//! in a file, behind a passphrase, or in a module that speaks PKCS #11 and is asked once, when the vault is opened. To change the root
//! key, one small file is sealed again.
//!
//! A vault whose root key cannot be had is sealed: nothing is issued, everything else goes on, and it is tried again.
//!
//! Deliberately absent: what the keys are for, and how other nodes come by them (`fleet`).

mod files;
mod lock;
mod module;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use portcullis_certs::vault::SealingKey;
use zeroize::Zeroizing;

use crate::config::node::RootKey;
use crate::runtime::random;

pub use files::MAX_KEYS;

/// This node's keys at rest. Every call waits for the disk.
pub struct Vault {
    directory: PathBuf,
    root: RootKey,
    state: RwLock<State>,
}

enum State {
    Open(Arc<SealingKey>),
    Sealed(String),
}

impl Vault {
    /// The vault under a node's data directory, sealed still: a module that hangs is to hold up nobody who does not ask for a key.
    #[must_use]
    pub fn at(data: &Path, root: &RootKey) -> Arc<Self> {
        Arc::new(Self {
            directory: data.join("vault"),
            root: root.clone(),
            state: RwLock::new(State::Sealed("it was not opened yet".to_owned())),
        })
    }

    /// Opens it, if it is sealed; why not, if it stays so. The first time, it is made, and a root key that is a file with it.
    pub fn unseal(&self) -> Option<String> {
        if self.sealed().is_some() {
            *self.state.write() = match lock::open(&self.directory, &self.root) {
                Ok(key) => State::Open(Arc::new(key)),
                Err(problem) => State::Sealed(problem),
            };
        }
        self.sealed()
    }

    /// Whether there is one, open or not.
    #[must_use]
    pub fn is_made(&self) -> bool {
        lock::is_there(&self.directory)
    }

    /// Why it is sealed; none while it is open.
    #[must_use]
    pub fn sealed(&self) -> Option<String> {
        match &*self.state.read() {
            State::Open(_) => None,
            State::Sealed(problem) => Some(problem.clone()),
        }
    }

    /// Keeps a key under this name, in the place of one that is there. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`VaultError`]; what was there before is there still.
    pub fn put(&self, name: &KeyName, secret: &str) -> Result<(), VaultError> {
        let key = self.key()?;
        let sealed = key
            .seal(name.as_str(), secret.as_bytes(), random::bytes())
            .map_err(|error| VaultError::Disk(error.to_string()))?;
        files::write(&self.directory, name, &sealed).map_err(VaultError::Disk)
    }

    /// The key under this name; none if there is none.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn get(&self, name: &KeyName) -> Result<Option<Zeroizing<String>>, VaultError> {
        let key = self.key()?;
        let Some(sealed) = files::read(&self.directory, name).map_err(VaultError::Disk)? else {
            return Ok(None);
        };
        let told = |problem: &dyn fmt::Display| VaultError::Damaged {
            name: name.clone(),
            problem: problem.to_string(),
        };
        let secret = key
            .open(name.as_str(), &sealed)
            .map_err(|error| told(&error))?;
        match std::str::from_utf8(&secret) {
            Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            Err(error) => Err(told(&error)),
        }
    }

    /// Whether there is a key under this name, also while the vault is sealed.
    #[must_use]
    pub fn has(&self, name: &KeyName) -> bool {
        files::is_there(&self.directory, name)
    }

    /// The names of all keys, also while the vault is sealed.
    #[must_use]
    pub fn names(&self) -> Vec<KeyName> {
        files::names(&self.directory)
    }

    /// Removes a key if it is there.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn remove(&self, name: &KeyName) -> Result<(), VaultError> {
        files::remove(&self.directory, name).map_err(VaultError::Disk)
    }

    fn key(&self) -> Result<Arc<SealingKey>, VaultError> {
        match &*self.state.read() {
            State::Open(key) => Ok(Arc::clone(key)),
            State::Sealed(problem) => Err(VaultError::Sealed(problem.clone())),
        }
    }
}

/// Seals the vault's key under another root key. The node may run meanwhile; it has opened its vault.
///
/// # Errors
/// In words; the vault is as it was.
pub fn reseal(data: &Path, before: &RootKey, after: &RootKey) -> Result<(), String> {
    lock::exchange(&data.join("vault"), before, after)
}

/// The name of a key, and of its file: 1 to 100 of `a-z`, `0-9`, `.`, `-` and `_`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`VaultError::Name`]
    pub fn new(name: &str) -> Result<Self, VaultError> {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        let fits = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.');
        match fits && name.bytes().all(known) {
            true => Ok(Self(name.to_owned())),
            false => Err(VaultError::Name),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const MAX_NAME: usize = 100;

/// Why a key cannot be had or kept. No part of any key is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultError {
    /// The root key cannot be had.
    Sealed(String),
    /// A file cannot be read or written.
    Disk(String),
    /// A key's file does not open.
    Damaged {
        /// Which.
        name: KeyName,
        /// Why.
        problem: String,
    },
    /// That is no name of a key.
    Name,
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed(problem) => write!(f, "this node's vault is sealed: {problem}"),
            Self::Disk(problem) => write!(f, "this node's vault: {problem}"),
            Self::Damaged { name, problem } => {
                write!(
                    f,
                    "this node's vault: the key {name} does not open: {problem}"
                )
            }
            Self::Name => f.write_str("that is no name of a key"),
        }
    }
}

impl std::error::Error for VaultError {}

#[cfg(test)]
mod tests;

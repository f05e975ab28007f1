//! The files that make a process a node of its fleet, under `data/fleet`.
//!
//! `membership.json` is written last and moved into place: where it is, the rest is whole. It
//! names the fleet and the node and says nothing secret; keys lie beside it, each in a file that
//! its owner alone can read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use portcullis_policy::{FleetId, KeyHash, NodeId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::runtime::files;

/// The directory of a node's fleet files.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// What this node is, once it founded a fleet or joined one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Membership {
    /// The fleet.
    pub fleet: FleetId,
    /// This node.
    pub node: NodeId,
    /// The name under which it was admitted; `name` in node.toml must say the same.
    pub name: String,
    /// The fleet's epoch as this node last knew it: whoever is at an older one is refused.
    pub epoch: u64,
    /// The nodes that are known before the state is.
    pub seeds: Vec<Seed>,
}

/// A node as it was known when this one became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Seed {
    /// The node.
    pub node: NodeId,
    /// Its key: a certificate of another one is not its.
    pub key: KeyHash,
    /// `host:port`, UDP; none for one that dials out only.
    pub address: Option<String>,
    /// Of one that votes: the key with which it signs views.
    #[serde(default)]
    pub view_key: Option<[u8; 32]>,
}

/// A file of a node's fleet directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The fleet authority's certificate: what every node trusts.
    Authority,
    /// The fleet authority's key. On control nodes.
    AuthorityKey,
    /// This node's certificate.
    Certificate,
    /// Its key, drawn here and never sent.
    Key,
    /// The key with which a control node signs views.
    ViewKey,
    /// The key of the fleet's audit logs. On control nodes.
    LogKey,
    /// The id of a fleet to be: drawn by a node that is one by itself, whose audit logs bear it.
    FleetId,
    /// Whose holder may begin a new epoch, public half.
    RecoveryPublic,
    /// What a join was asked with, until it is done: the same key is shown when it is repeated.
    JoiningKey,
    /// Of `JoiningKey`, the key for views.
    JoiningViewKey,
    /// The other nodes as they were last known.
    Peers,
    /// How often this node was started.
    Starts,
    /// Of which back-up a restore is under way: the hash of its state.
    Restoring,
}

impl Piece {
    const fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority.pem",
            Self::AuthorityKey => "authority.key",
            Self::Certificate => "node.pem",
            Self::Key => "node.key",
            Self::ViewKey => "view.key",
            Self::LogKey => "log.key",
            Self::FleetId => "fleet.id",
            Self::RecoveryPublic => "recovery.pub",
            Self::JoiningKey => "joining.key",
            Self::JoiningViewKey => "joining-view.key",
            Self::Peers => "peers.json",
            Self::Starts => "starts",
            Self::Restoring => "restoring",
        }
    }
}

/// Why a fleet file could not be used.
#[derive(Debug)]
pub struct HomeError {
    path: PathBuf,
    problem: String,
}

impl std::fmt::Display for HomeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for HomeError {}

/// The largest file of the directory, in bytes.
const MAX_FILE: u64 = 1 << 20;
const MEMBERSHIP: &str = "membership.json";

impl Home {
    /// The fleet files of the node whose `data` this is.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self(data.join("fleet"))
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// What this node is; `None` if it has joined nothing.
    ///
    /// # Errors
    /// [`HomeError`] if the file is there and cannot be understood.
    pub fn membership(&self) -> Result<Option<Membership>, HomeError> {
        let path = self.0.join(MEMBERSHIP);
        match read(&path)? {
            None => Ok(None),
            Some(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| fail(&path, error)),
        }
    }

    /// Writes what this node is, so that it survives the loss of power. The last step of founding
    /// and joining.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn write_membership(&self, membership: &Membership) -> Result<(), HomeError> {
        let path = self.0.join(MEMBERSHIP);
        let text = serde_json::to_vec_pretty(membership).map_err(|error| fail(&path, error))?;
        self.write_named(MEMBERSHIP, &text)
    }

    /// The content of a file that must be there.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn read(&self, piece: Piece) -> Result<Zeroizing<String>, HomeError> {
        let path = self.0.join(piece.name());
        self.find(piece)?
            .ok_or_else(|| fail(&path, "is not there; restore the node's data, or join anew"))
    }

    /// The content of a file, if it is there.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn find(&self, piece: Piece) -> Result<Option<Zeroizing<String>>, HomeError> {
        let path = self.0.join(piece.name());
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        String::from_utf8(bytes)
            .map(|text| Some(Zeroizing::new(text)))
            .map_err(|_| fail(&path, "is not text"))
    }

    /// That a file's content is not what it should be.
    pub(super) fn unclear(&self, piece: Piece, problem: &str) -> HomeError {
        fail(&self.0.join(piece.name()), problem)
    }

    /// Writes a file, whole or not at all, readable by its owner alone.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn write(&self, piece: Piece, text: &str) -> Result<(), HomeError> {
        self.write_named(piece.name(), text.as_bytes())
    }

    /// Removes a file if it is there.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn remove(&self, piece: Piece) -> Result<(), HomeError> {
        let path = self.0.join(piece.name());
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(fail(&path, error)),
        }
    }

    fn write_named(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| fail(&self.0, error))?;
        write_private(&self.0.join(name), bytes)
    }
}

/// Writes a file whole or not at all, readable by its owner alone, there after a loss of power.
///
/// # Errors
/// [`HomeError`]
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    files::write_private(path, bytes).map_err(|error| fail(path, error))
}

/// What is in a file of this directory, if it is there.
///
/// # Errors
/// [`HomeError`]
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(path, error))?;
    Ok(Some(bytes))
}

fn fail(path: &Path, problem: impl std::fmt::Display) -> HomeError {
    HomeError {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

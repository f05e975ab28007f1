//! Changes that wait for a second person.

use super::command::Command;
use super::fleet::too_many;
use super::proposal::Author;
use super::rejection::Rejection;
use super::root::HashedMap;
use crate::fleet_id::{Digest, PendingId};
use crate::id::Revision;
use crate::limits::{MAX_PENDING, MAX_PENDING_BYTES, PENDING_LIFE_MS};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A change that waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pending {
    /// By which it is known.
    pub id: PendingId,
    /// Who proposed it.
    pub author: Author,
    /// What is proposed.
    pub command: Command,
    /// What the second person must have looked at: the SHA-256 of the command as it is encoded.
    pub digest: Digest,
    /// How many bytes that is.
    pub bytes: usize,
    /// From this moment on it can no longer be approved.
    pub expires: Timestamp,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    by_id: HashedMap<PendingId, Pending>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            by_id: HashedMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn get(&self, id: PendingId) -> Option<&Pending> {
        self.by_id.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.by_id.iter().map(|(_, one)| one)
    }

    /// The same change by the same person, that waits already.
    pub(super) fn same(&self, author: &Author, digest: Digest, at: Timestamp) -> Option<&Pending> {
        self.iter().find(|one| {
            one.digest == digest && one.author.principal == author.principal && one.expires > at
        })
    }

    pub(super) fn add(
        &mut self,
        revision: Revision,
        author: &Author,
        command: &Command,
        (digest, bytes): (Digest, usize),
        at: Timestamp,
    ) -> Result<&Pending, Rejection> {
        self.drop_expired(at);
        if self.by_id.len() >= MAX_PENDING {
            return Err(too_many("changes that wait", MAX_PENDING));
        }
        let total = self.bytes.saturating_add(bytes);
        if total > MAX_PENDING_BYTES {
            return Err(too_many("bytes of changes that wait", MAX_PENDING_BYTES));
        }
        let id = PendingId::new(revision.get());
        self.put(Pending {
            id,
            author: author.clone(),
            command: command.clone(),
            digest,
            bytes,
            expires: at.plus_millis(PENDING_LIFE_MS),
        });
        self.by_id.get(&id).ok_or(Rejection::NoSuchPending(id))
    }

    pub(super) fn remove(&mut self, id: PendingId) -> Option<Pending> {
        let one = self.by_id.get(&id)?.clone();
        self.by_id.remove(&id);
        self.bytes -= one.bytes;
        Some(one)
    }

    pub(super) fn root(&self) -> Digest {
        self.by_id.root()
    }

    pub(super) fn restore(all: Vec<Pending>) -> Result<Self, Rejection> {
        let bytes = all
            .iter()
            .try_fold(0_usize, |sum, one| sum.checked_add(one.bytes));
        if all.len() > MAX_PENDING || bytes.is_none_or(|bytes| bytes > MAX_PENDING_BYTES) {
            return Err(too_many("changes that wait", MAX_PENDING));
        }
        let mut waiting = Self::new();
        for one in all {
            if waiting.by_id.get(&one.id).is_some() {
                return Err(Rejection::Snapshot("a change waits twice"));
            }
            waiting.put(one);
        }
        Ok(waiting)
    }

    fn put(&mut self, one: Pending) {
        self.bytes += one.bytes;
        self.by_id.insert(one.id, one);
    }

    fn drop_expired(&mut self, at: Timestamp) {
        let expired = self.iter().filter(|one| one.expires <= at);
        let expired: Vec<PendingId> = expired.map(|one| one.id).collect();
        for id in expired {
            self.remove(id);
        }
    }
}

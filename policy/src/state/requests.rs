//! The memory of requests: what was executed is not executed again.

use super::applied::{Applied, Told};
use super::command::Command;
use super::proposal::{Principal, Proposal};
use super::rejection::Rejection;
use super::root::{HashedMap, hash_of};
use crate::fleet_id::{Digest, RequestId};
use crate::id::Revision;
use crate::limits::MAX_REQUESTS;
use crate::time::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// The last [`MAX_REQUESTS`] requests that were executed, each with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requests {
    by_id: HashedMap<RequestId, Remembered>,
    by_age: OrdMap<u64, RequestId>,
    next: u64,
}

/// A request that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Remembered {
    request: RequestId,
    age: u64,
    content: Digest,
    revision: Revision,
    at: Timestamp,
    told: Told,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            by_id: HashedMap::new(),
            by_age: OrdMap::new(),
            next: 0,
        }
    }

    /// What this request was told, when it was executed before.
    pub(super) fn repeated(&self, proposal: &Proposal) -> Result<Option<Applied>, Rejection> {
        let Some(request) = proposal.request else {
            return Ok(None);
        };
        let Some(remembered) = self.by_id.get(&request) else {
            return Ok(None);
        };
        if remembered.content != content(proposal) {
            return Err(Rejection::RequestReused(request));
        }
        Ok(Some(Applied {
            revision: remembered.revision,
            at: remembered.at,
            tenants: Vec::new(),
            changes: Vec::new(),
            repeated: true,
            fleet_changed: false,
            told: remembered.told.clone(),
        }))
    }

    pub(super) fn remember(&mut self, proposal: &Proposal, applied: &Applied) {
        let Some(request) = proposal.request else {
            return;
        };
        self.put(Remembered {
            request,
            age: self.next,
            content: content(proposal),
            revision: applied.revision,
            at: applied.at,
            told: applied.told.clone(),
        });
    }

    pub(super) fn root(&self) -> Digest {
        self.by_id.root()
    }

    pub(super) fn snapshot(&self) -> Vec<Remembered> {
        let remembered = self.by_age.values().filter_map(|id| self.by_id.get(id));
        remembered.cloned().collect()
    }

    pub(super) fn restore(remembered: Vec<Remembered>) -> Result<Self, Rejection> {
        let mut requests = Self::new();
        for one in remembered {
            if one.age < requests.next || requests.by_id.get(&one.request).is_some() {
                return Err(Rejection::Snapshot("its requests are out of order"));
            }
            requests.put(one);
        }
        Ok(requests)
    }

    fn put(&mut self, one: Remembered) {
        self.next = one.age.saturating_add(1);
        self.by_age.insert(one.age, one.request);
        self.by_id.insert(one.request, one);
        while self.by_age.len() > MAX_REQUESTS
            && let Some((oldest, request)) = self.by_age.get_min().copied()
        {
            self.by_age.remove(&oldest);
            self.by_id.remove(&request);
        }
    }
}

/// What is the same in a repetition: who, and what. The moment is not, nor the policy that an author
/// looked at: whoever repeats an apply looks again, and may see that it was executed.
fn content(proposal: &Proposal) -> Digest {
    let who: &Principal = &proposal.author.principal;
    if let Command::Apply { put, remove, .. } = &proposal.command {
        return hash_of(b"request apply", &(who, put, remove));
    }
    hash_of(b"request", &(who, &proposal.command))
}

//! What was said of a log before: by an earlier checkpoint, and by the fleet's log, which is the log of logs.

use std::collections::BTreeMap;

use memchr::memmem;
use portcullis_audit::Event;
use portcullis_audit::tlog::{Hash, Tree};
use portcullis_policy::TenantId;
use serde_json::Value;

use super::InspectError;
use crate::ledger::limits::LOG_HEADS;

/// The kind of an entry in which the fleet's log says how far a tenant's log is: with `tenant`, `size`, and `root` in base64.
pub const HEAD: &str = "log.head";

/// The heads in the fleet's log, by tenant.
#[derive(Debug, Default)]
pub(super) struct Heads {
    by_tenant: BTreeMap<String, Vec<Head>>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    size: u64,
    root: Hash,
    index: u64,
}

impl Heads {
    /// Looks whether an entry of the fleet's log is a head.
    pub(super) fn see(&mut self, index: u64, entry: &[u8]) -> Result<(), InspectError> {
        let Some((tenant, size, root)) = head(entry) else {
            return Ok(());
        };
        if self.count >= LOG_HEADS {
            return Err(InspectError::TooManyHeads(LOG_HEADS));
        }
        self.count += 1;
        let heads = self.by_tenant.entry(tenant).or_default();
        heads.push(Head { size, root, index });
        Ok(())
    }

    /// What stands in entries that were changed says nothing.
    pub(super) fn forget(&mut self, damaged: &[(u64, u64)]) {
        for heads in self.by_tenant.values_mut() {
            heads.retain(|head| {
                let within = |(first, last): &(u64, u64)| (*first..=*last).contains(&head.index);
                !damaged.iter().any(within)
            });
        }
        self.by_tenant.retain(|_, heads| !heads.is_empty());
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = String> {
        self.by_tenant.keys().cloned()
    }

    /// Takes what is said of one tenant's log, under this checkpoint of the fleet's.
    pub(super) fn of(&mut self, tenant: &str, checkpoint: &str) -> Claims {
        let heads = self.by_tenant.remove(tenant).unwrap_or_default();
        let heads = heads.into_iter().map(|head| Claim {
            size: head.size,
            root: head.root,
            by: By::Fleet(head.index),
        });
        let mut claims = Claims {
            fleet: checkpoint.to_owned(),
            ..Claims::default()
        };
        claims.add(heads);
        claims
    }
}

/// What was said of one log.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// The checkpoint under which the fleet's log says it.
    pub(super) fleet: String,
    /// By size.
    all: Vec<Claim>,
    /// Those that were compared with the entries,
    next: usize,
    /// with this tree,
    tree: Tree,
    /// and did not fit.
    wrong: Vec<Claim>,
}

/// A size and a root that were signed.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) by: By,
}

/// Who said so.
#[derive(Clone, Debug)]
pub(super) enum By {
    /// The fleet's log, in this entry.
    Fleet(u64),
    /// The log itself, in this checkpoint.
    Itself(String),
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            fleet: String::new(),
            all: Vec::new(),
            next: 0,
            tree: Tree::EMPTY,
            wrong: Vec::new(),
        }
    }
}

impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn add(&mut self, claims: impl IntoIterator<Item = Claim>) {
        self.all.extend(claims);
        self.all.sort_by_key(|claim| claim.size);
    }

    /// Begins again with the first entry.
    pub(super) fn begin(&mut self) {
        (self.next, self.tree) = (0, Tree::EMPTY);
        self.wrong.clear();
        self.compare();
    }

    /// Shows the next entry's hash. After one that is missing nothing fits any more.
    pub(super) fn see(&mut self, index: u64, hash: Hash) {
        if self.next < self.all.len() && index == self.tree.size() {
            self.tree.push(hash);
            self.compare();
        }
    }

    fn compare(&mut self) {
        while let Some(claim) = self.all.get(self.next)
            && claim.size == self.tree.size()
        {
            if claim.root != self.tree.root() {
                self.wrong.push(claim.clone());
            }
            self.next += 1;
        }
    }

    /// Those that the entries contradict, and those that no entries were seen for.
    pub(super) fn judged(&self) -> (&[Claim], &[Claim]) {
        (&self.wrong, self.all.get(self.next..).unwrap_or_default())
    }

    /// How many of the fleet's were compared.
    pub(super) fn compared(&self) -> u64 {
        let compared = self.all.iter().take(self.next);
        let by_fleet = compared.filter(|claim| matches!(claim.by, By::Fleet(_)));
        u64::try_from(by_fleet.count()).unwrap_or(u64::MAX)
    }
}

fn head(entry: &[u8]) -> Option<(String, u64, Hash)> {
    // Looked for first because it is cheap.
    memmem::find(entry, HEAD.as_bytes())?;
    let event = Event::parse(std::str::from_utf8(entry).ok()?).ok()?;
    if event.kind != HEAD {
        return None;
    }
    let size = event.field("size").and_then(Value::as_u64)?;
    let root = event.field("root").and_then(Value::as_str)?;
    let tenant = TenantId::parse(event.tenant.as_deref()?).ok()?;
    Some((tenant.to_string(), size, Hash::parse(root)?))
}

//! The audit logs as every node of the fleet has them: how large they are, and what their next
//! leaves need.
//!
//! One log is the fleet's, and one is each tenant's that has a leaf. They grow while the log of
//! consensus is applied, so that all nodes append the same leaves at the same places. A seal fixes
//! their heads at one position: the head of every tenant's log that grew becomes a leaf of the
//! fleet's log, and then all of them may be signed. The leaves themselves are handed on
//! ([`Leaves`]) and not kept here.

use crate::BoxFuture;
use portcullis_audit::personal::{Opening, Salt};
use portcullis_audit::tlog::{Hash, Tree};
use portcullis_audit::{Event, kinds};
use portcullis_policy::TenantId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

/// One of the logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AuditLog {
    /// What belongs to no tenant, and the heads of all others.
    Fleet,
    /// What belongs to one tenant.
    Tenant(TenantId),
}

impl fmt::Display for AuditLog {
    /// As its folder is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Tenant(tenant) => write!(f, "tenants/{tenant}"),
        }
    }
}

/// A leaf at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// In which log.
    pub log: AuditLog,
    /// Its index there, from 0.
    pub index: u64,
    /// The event's line (`portcullis_audit::Event::line`).
    pub bytes: Vec<u8>,
    /// What opens the commitments in it. In no tree: these can be let go of.
    pub openings: Vec<Opening>,
}

/// What is to be a leaf.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// To whose log it belongs; none: to the fleet's.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) event: Event,
    /// The fields that are about a person.
    pub(crate) personal: &'static [&'static str],
}

impl Said {
    /// What names nobody.
    pub(crate) fn plain(tenant: Option<TenantId>, event: Event) -> Self {
        Self {
            tenant,
            event,
            personal: &[],
        }
    }
}

/// The head of a log that a seal fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub log: AuditLog,
    /// How many leaves it had.
    pub size: u64,
    /// The root of its tree then.
    pub root: Hash,
}

/// Who keeps the leaves. Called in the order of the log of consensus, by whoever applies it: what
/// takes long holds that up. After a restart the same leaves come again, from where the snapshot
/// was taken.
pub trait Leaves: Send + Sync {
    /// These are all logs now, and their trees: at the start, and where they jumped because a
    /// snapshot was installed. With the heads that the last seal fixed.
    ///
    /// # Errors
    /// Whatever keeps them from being kept; this node then takes part no more.
    fn begin(&self, logs: Vec<(AuditLog, Tree)>, sealed: Vec<Head>) -> io::Result<()>;

    /// The next leaves.
    ///
    /// # Errors
    /// As [`Leaves::begin`].
    fn append(&self, leaves: Vec<Leaf>) -> io::Result<()>;

    /// A seal fixed these heads.
    fn sealed(&self, heads: Vec<Head>);

    /// Everything that was appended is durable. Only then is a snapshot kept, and the log of
    /// consensus, from which the leaves could be had again, let go of.
    ///
    /// # Errors
    /// As [`Leaves::begin`].
    fn durable(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// Keeps nothing: for a node whose logs nobody reads.
#[derive(Clone, Copy, Debug)]
pub struct NoLeaves;

impl Leaves for NoLeaves {
    fn begin(&self, _logs: Vec<(AuditLog, Tree)>, _sealed: Vec<Head>) -> io::Result<()> {
        Ok(())
    }

    fn append(&self, _leaves: Vec<Leaf>) -> io::Result<()> {
        Ok(())
    }

    fn sealed(&self, _heads: Vec<Head>) {}

    fn durable(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// All logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    fleet: Log,
    tenants: BTreeMap<TenantId, Log>,
    /// Those that grew since they were sealed.
    grown: BTreeSet<TenantId>,
    /// A hash over every leaf of every log in the order in which they came, and every seal: nodes
    /// that have the same have the same logs. Zeros while there was none.
    chain: [u8; 32],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Log {
    size: u64,
    /// See `Tree::peaks`.
    peaks: Vec<[u8; 32]>,
    /// At the last seal: the size, and the root.
    sealed: Option<(u64, [u8; 32])>,
}

impl Log {
    fn tree(&self) -> Option<Tree> {
        let peaks = self.peaks.iter().copied().map(Hash).collect();
        Tree::restore(self.size, peaks)
    }

    fn append(&mut self, hash: Hash) {
        // It was checked when it was read, and a tree that grows stays one.
        let mut tree = self.tree().unwrap_or(Tree::EMPTY);
        tree.push(hash);
        self.size = tree.size();
        self.peaks = tree.peaks().iter().map(|peak| peak.0).collect();
    }

    fn seal(&mut self, log: AuditLog) -> Head {
        let root = self.tree().unwrap_or(Tree::EMPTY).root();
        self.sealed = Some((self.size, root.0));
        Head {
            log,
            size: self.size,
            root,
        }
    }

    fn head(&self, log: AuditLog) -> Option<Head> {
        self.sealed.map(|(size, root)| Head {
            log,
            size,
            root: Hash(root),
        })
    }
}

impl Logs {
    /// Whether there was ever a leaf.
    pub(crate) fn has_begun(&self) -> bool {
        self.chain != [0; 32]
    }

    /// Whether this tenant has a log.
    pub(crate) fn has(&self, tenant: &TenantId) -> bool {
        self.tenants.contains_key(tenant)
    }

    /// Leaves that are in no sealed head.
    pub(crate) fn unsealed(&self) -> bool {
        let (sealed, _) = self.fleet.sealed.unwrap_or_default();
        self.fleet.size > sealed || !self.grown.is_empty()
    }

    /// What nodes compare, together with the root of the state.
    pub(crate) fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// Appends an event to the log of its tenant, or to the fleet's. With a salt, commitments stand
    /// in the place of what it says about persons.
    pub(crate) fn append(&mut self, said: Said, salt: Option<&Salt>) -> Leaf {
        let Said {
            tenant,
            mut event,
            personal,
        } = said;
        let log = match tenant {
            None => AuditLog::Fleet,
            Some(tenant) => AuditLog::Tenant(tenant),
        };
        let own = match &log {
            AuditLog::Fleet => &mut self.fleet,
            AuditLog::Tenant(tenant) => {
                self.grown.insert(tenant.clone());
                self.tenants.entry(tenant.clone()).or_default()
            }
        };
        let (index, name) = (own.size, log.to_string());
        let openings = salt.map(|salt| event.conceal(personal, salt, &name, index));
        let bytes = event.line().into_bytes();
        let hash = Hash::of_leaf(&bytes);
        own.append(hash);
        let name = match &log {
            AuditLog::Fleet => "",
            AuditLog::Tenant(tenant) => tenant.as_str(),
        };
        self.link(&[name.as_bytes(), &[0], &hash.0]);
        Leaf {
            log,
            index,
            bytes,
            openings: openings.unwrap_or_default(),
        }
    }

    /// Fixes the heads of all logs that grew since the last time, at `at_ms`: what that appends to
    /// the fleet's log, and the heads, the fleet's last. Nothing where none grew.
    pub(crate) fn seal(&mut self, at_ms: i64) -> (Vec<Leaf>, Vec<Head>) {
        if !self.unsealed() {
            return (Vec::new(), Vec::new());
        }
        let (mut leaves, mut heads) = (Vec::new(), Vec::new());
        for tenant in std::mem::take(&mut self.grown) {
            let Some(log) = self.tenants.get_mut(&tenant) else {
                continue;
            };
            let head = log.seal(AuditLog::Tenant(tenant.clone()));
            let mut event = Event::new(at_ms, kinds::LOG_HEAD, FLEET)
                .with("size", head.size)
                .with("root", head.root.to_string());
            event.tenant = Some(tenant.to_string());
            leaves.push(self.append(Said::plain(None, event), None));
            heads.push(head);
        }
        heads.push(self.fleet.seal(AuditLog::Fleet));
        self.link(&[b"seal"]);
        (leaves, heads)
    }

    fn link(&mut self, parts: &[&[u8]]) {
        let mut hash = Sha256::new();
        hash.update(CHAIN);
        hash.update(self.chain);
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        self.chain = hash.finalize().into();
    }

    fn all(&self) -> impl Iterator<Item = (AuditLog, &Log)> {
        let tenants = self.tenants.iter();
        let tenants = tenants.map(|(tenant, log)| (AuditLog::Tenant(tenant.clone()), log));
        std::iter::once((AuditLog::Fleet, &self.fleet)).chain(tenants)
    }

    /// Every log that has a leaf, and its tree.
    pub(crate) fn trees(&self) -> Vec<(AuditLog, Tree)> {
        let trees = self.all().filter(|(_, log)| log.size > 0);
        trees
            .filter_map(|(name, log)| Some((name, log.tree()?)))
            .collect()
    }

    /// The head of every log at its last seal, the fleet's last.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let tenants = self.all().skip(1).filter_map(|(name, log)| log.head(name));
        tenants.chain(self.fleet.head(AuditLog::Fleet)).collect()
    }

    /// Whether its parts fit together.
    pub(crate) fn is_whole(&self) -> bool {
        self.all().all(|(_, log)| {
            let (sealed, _) = log.sealed.unwrap_or_default();
            log.tree().is_some() && sealed <= log.size
        }) && self.grown.iter().all(|it| self.tenants.contains_key(it))
    }
}

/// The node that leaves name which all nodes make.
pub(crate) const FLEET: &str = "fleet";

const CHAIN: &[u8] = b"portcullis logs v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn append(logs: &mut Logs, tenant: Option<&TenantId>, number: i64) -> Leaf {
        let event = Event::new(number, kinds::POLICY_APPLIED, FLEET);
        logs.append(Said::plain(tenant.cloned(), event), None)
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn events_go_to_their_own_log_and_seals_bind_the_heads_into_the_fleets() {
        let (acme, bolt) = (tenant("acme"), tenant("bolt"));
        let mut logs = Logs::default();
        assert!(!logs.has_begun() && !logs.unsealed());
        assert_eq!(logs.seal(0), (vec![], vec![]));
        assert!(!logs.has_begun());
        for number in 0..5 {
            assert_eq!(append(&mut logs, Some(&acme), number).index, number as u64);
        }
        assert_eq!(append(&mut logs, None, 5).index, 0);
        assert_eq!(append(&mut logs, Some(&bolt), 6).index, 0);
        let (leaves, heads) = logs.seal(7);
        let sizes: Vec<(AuditLog, u64)> =
            heads.iter().map(|it| (it.log.clone(), it.size)).collect();
        let of = |tenant: &TenantId| AuditLog::Tenant(tenant.clone());
        assert_eq!(
            sizes,
            [(of(&acme), 5), (of(&bolt), 1), (AuditLog::Fleet, 3)]
        );
        let line = String::from_utf8(leaves[0].bytes.clone()).unwrap();
        let told = Event::parse(&line).unwrap();
        assert_eq!(told.field("root"), Some(&heads[0].root.to_string().into()));
        assert_eq!((leaves[0].index, leaves[1].index), (1, 2));
        assert_eq!(logs.heads(), heads);
        // Nothing grew: nothing to seal.
        assert_eq!(logs.seal(8), (vec![], vec![]));
        append(&mut logs, Some(&bolt), 9);
        let (leaves, heads) = logs.seal(10);
        assert_eq!((leaves.len(), heads.len()), (1, 2));
        assert_eq!(logs.heads().len(), 3);
        assert!(logs.is_whole());
    }

    #[test]
    fn the_order_the_log_and_the_bytes_of_every_leaf_are_in_the_chain() {
        let mut chains = BTreeSet::new();
        let (acme, bolt) = (tenant("acme"), tenant("bolt"));
        for steps in [
            vec![(None, 1), (Some(&acme), 2)],
            vec![(Some(&acme), 2), (None, 1)],
            vec![(None, 1), (Some(&bolt), 2)],
            vec![(None, 1), (Some(&acme), 3)],
            vec![(None, 1)],
        ] {
            let mut logs = Logs::default();
            for (tenant, number) in steps {
                append(&mut logs, tenant, number);
            }
            assert!(chains.insert(logs.chain()));
            logs.seal(9);
            assert!(chains.insert(logs.chain()));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_not_whole() {
        let mut logs = Logs::default();
        append(&mut logs, Some(&tenant("acme")), 1);
        assert!(logs.is_whole());
        let mut other = logs.clone();
        other.fleet.size = 3;
        assert!(!other.is_whole());
        let mut other = logs.clone();
        other.fleet.sealed = Some((1, [0; 32]));
        assert!(!other.is_whole());
        let mut other = logs;
        other.grown.insert(tenant("bolt"));
        assert!(!other.is_whole());
    }
}

//! A control node's side: the latest views, who signed them, and what leads to the newest.
//!
//! Voters sign what they have applied and tell each other; a view is told to followers once a
//! majority has signed it, of those who vote at it and of those who voted before it. Views share
//! what did not change, so that a history of them costs what changed.

use super::frames::Frame;
use super::statement::{Signature, Signed, Statement, Succession, Voters};
use portcullis_certs::fleet::{ViewKey, verify_view};
use portcullis_policy::{NodeId, TenantId, View, ViewUpdate};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Views that a follower may be behind and still be told changes alone.
pub const HISTORY: usize = 256;
/// Revisions whose signatures are kept though this node has not reached them.
const EARLY: usize = 64;

/// One voter's word for one view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// What it says.
    pub statement: Statement,
    /// Its signature.
    pub signature: Signature,
}

/// A control node's side.
#[derive(Debug)]
pub struct Feed {
    me: NodeId,
    key: ViewKey,
    views: VecDeque<Entry>,
    /// What others said of views that this node has not reached, by revision.
    early: BTreeMap<u64, BTreeMap<NodeId, Vouched>>,
}

#[derive(Debug)]
struct Entry {
    view: Arc<View>,
    /// Whom the step to it touched; none if that is not known.
    touched: Option<BTreeSet<TenantId>>,
    voters: Voters,
    /// Who voted at the view before, if that is known.
    before: Option<Voters>,
    signed: Signed,
    /// Whether a majority has signed of those who voted before it, as far as that is known,
    by_those_before: bool,
    /// and of those who vote from it on as well.
    complete: bool,
}

impl Entry {
    fn revision(&self) -> u64 {
        self.view.revision().get()
    }

    fn count(&mut self) {
        let before = self.before.as_ref();
        self.by_those_before = before.is_none_or(|before| before.confirm(&self.signed));
        self.complete = self.by_those_before && self.voters.confirm(&self.signed);
    }
}

/// What brings a follower to a view; cheap until it is made a [`Frame`] of.
#[derive(Debug)]
pub struct Step {
    known: Option<Arc<View>>,
    newest: Arc<View>,
    touched: Option<BTreeSet<TenantId>>,
    signed: Signed,
}

impl Step {
    /// The epoch and revision at which the follower arrives.
    #[must_use]
    pub fn to(&self) -> (u64, u64) {
        (self.signed.statement.epoch, self.signed.statement.revision)
    }

    /// What is told. Costs what is in it.
    #[must_use]
    pub fn frame(self) -> Frame {
        match self.known {
            Some(known) => Frame::Changes {
                from: known.revision().get(),
                update: between(&known, &self.newest, self.touched.as_ref()),
                signed: self.signed,
            },
            None => Frame::Whole {
                update: self.newest.as_update(),
                signed: self.signed,
            },
        }
    }
}

impl Feed {
    /// That of the voter `me`, which has shown nothing yet.
    #[must_use]
    pub fn new(me: NodeId, key: ViewKey) -> Self {
        Self {
            me,
            key,
            views: VecDeque::new(),
            early: BTreeMap::new(),
        }
    }

    /// Lets go of every view and every word: they were not what the fleet decided.
    pub fn forget(&mut self) {
        self.views.clear();
        self.early.clear();
    }

    /// Signs a view that this node has applied. `touched` are the tenants that differ from the one
    /// shown before; none where steps were missed.
    pub fn show(&mut self, view: Arc<View>, touched: Option<BTreeSet<TenantId>>) {
        let Some((statement, fleet)) = Statement::of(&view).zip(view.fleet()) else {
            return;
        };
        let last = self.views.back();
        if last.is_some_and(|last| last.revision() >= statement.revision) {
            return;
        }
        let mut signatures = BTreeMap::from([(self.me, statement.sign(&self.key))]);
        let voters = Voters::of(fleet);
        let before = last.map(|last| last.voters.clone());
        self.early = self.early.split_off(&statement.revision);
        for (node, vouched) in self.early.remove(&statement.revision).unwrap_or_default() {
            if holds(&voters, before.as_ref(), node, &statement, &vouched) {
                signatures.insert(node, vouched.signature);
            }
        }
        let mut entry = Entry {
            view,
            touched,
            voters,
            before,
            signed: Signed {
                statement,
                signatures,
            },
            by_those_before: false,
            complete: false,
        };
        entry.count();
        self.views.push_back(entry);
        while self.views.len() > HISTORY {
            self.views.pop_front();
        }
    }

    /// Takes another voter's word; whether it was new.
    pub fn vouched(&mut self, node: NodeId, vouched: Vouched) -> bool {
        let revision = vouched.statement.revision;
        let at = self.views.binary_search_by_key(&revision, Entry::revision);
        if let Some(entry) = at.ok().and_then(|at| self.views.get_mut(at)) {
            let known = entry.signed.signatures.contains_key(&node);
            let statement = &entry.signed.statement;
            if known
                || !holds(
                    &entry.voters,
                    entry.before.as_ref(),
                    node,
                    statement,
                    &vouched,
                )
            {
                return false;
            }
            entry.signed.signatures.insert(node, vouched.signature);
            entry.count();
            return true;
        }
        if self
            .views
            .back()
            .is_some_and(|last| last.revision() > revision)
        {
            return false;
        }
        self.early
            .entry(revision)
            .or_default()
            .insert(node, vouched);
        while self.early.len() > EARLY {
            self.early.pop_first();
        }
        false
    }

    /// This node's own word for the view at a revision, if it remembers.
    #[must_use]
    pub fn own(&self, revision: u64) -> Option<Vouched> {
        let at = self.views.binary_search_by_key(&revision, Entry::revision);
        self.views.get(at.ok()?).and_then(|entry| self.word(entry))
    }

    /// This node's own word for its latest view, and which other voters have not given theirs.
    #[must_use]
    pub fn latest(&self) -> Option<(Vouched, BTreeSet<NodeId>)> {
        let entry = self.views.back()?;
        let others = entry
            .voters
            .0
            .keys()
            .chain(entry.before.iter().flat_map(|before| before.0.keys()));
        let missing = others.filter(|node| !entry.signed.signatures.contains_key(node));
        Some((self.word(entry)?, missing.copied().collect()))
    }

    /// This node's own words that a voter has not answered by its own: for the latest view, and for
    /// each change of voters that those before it have not confirmed.
    #[must_use]
    pub fn unanswered(&self, node: NodeId) -> Vec<Vouched> {
        let last = self.views.back().map(Entry::revision);
        let wanted = self.views.iter().filter(|entry| {
            let open = Some(entry.revision()) == last || !entry.by_those_before;
            let changed = entry.before.as_ref().is_some_and(|it| *it != entry.voters);
            let lacks = !entry.signed.signatures.contains_key(&node);
            lacks && open && (changed || Some(entry.revision()) == last)
        });
        wanted.filter_map(|entry| self.word(entry)).collect()
    }

    fn word(&self, entry: &Entry) -> Option<Vouched> {
        Some(Vouched {
            statement: entry.signed.statement.clone(),
            signature: *entry.signed.signatures.get(&self.me)?,
        })
    }

    /// The epoch and revision of the newest view that a majority signed.
    #[must_use]
    pub fn ready(&self) -> Option<(u64, u64)> {
        let statement = &self.newest()?.signed.statement;
        Some((statement.epoch, statement.revision))
    }

    fn newest(&self) -> Option<&Entry> {
        self.views.iter().rev().find(|entry| entry.complete)
    }

    /// What brings a follower from where it is to the newest view that a majority signed; nothing
    /// if it is there.
    #[must_use]
    pub fn since(&self, epoch: u64, revision: u64) -> Option<Step> {
        let newest = self.newest()?;
        let signed = newest.signed.clone();
        let statement = &signed.statement;
        if epoch == statement.epoch && revision >= statement.revision {
            return None;
        }
        let at = self.views.binary_search_by_key(&revision, Entry::revision);
        let known = at.ok().and_then(|at| self.views.get(at));
        let known = known.filter(|known| known.signed.statement.epoch == epoch);
        Some(Step {
            touched: known.and_then(|_| self.touched(revision, statement.revision)),
            known: known.map(|known| Arc::clone(&known.view)),
            newest: Arc::clone(&newest.view),
            signed,
        })
    }

    /// The changes of voters that a majority of those before each signed, oldest first. A new voter
    /// need not have: it may have begun after the change.
    #[must_use]
    pub fn successions(&self) -> Vec<Succession> {
        let changed = |entry: &&Entry| {
            let before = entry.before.as_ref();
            entry.by_those_before && before.is_some_and(|before| *before != entry.voters)
        };
        let changes = self.views.iter().filter(changed).map(|entry| Succession {
            signed: entry.signed.clone(),
            voters: entry.voters.clone(),
        });
        changes.collect()
    }

    /// Whom the steps after `from` up to `to` touched, if every one of them is known.
    fn touched(&self, from: u64, to: u64) -> Option<BTreeSet<TenantId>> {
        let steps = self.views.iter();
        let steps = steps.filter(|entry| entry.revision() > from && entry.revision() <= to);
        let mut all = BTreeSet::new();
        for entry in steps {
            all.extend(entry.touched.as_ref()?.iter().cloned());
        }
        Some(all)
    }
}

/// Whether a voter's word is for this very statement, by its own key.
fn holds(
    voters: &Voters,
    before: Option<&Voters>,
    node: NodeId,
    statement: &Statement,
    vouched: &Vouched,
) -> bool {
    let key = voters.0.get(&node);
    let key = key.or_else(|| before.and_then(|before| before.0.get(&node)));
    let message = statement.bytes();
    vouched.statement == *statement
        && key.is_some_and(|key| verify_view(key, &message, &vouched.signature.bytes()))
}

/// What leads from `old` to `new`; `touched`, if known, are the only tenants that may differ.
pub(super) fn between(old: &View, new: &View, touched: Option<&BTreeSet<TenantId>>) -> ViewUpdate {
    let all: BTreeSet<&TenantId> = match touched {
        Some(touched) => touched.iter().collect(),
        None => old
            .tenants()
            .chain(new.tenants())
            .map(|it| it.id())
            .collect(),
    };
    let (mut put, mut remove) = (Vec::new(), Vec::new());
    for id in all {
        match (old.tenant(id), new.tenant(id)) {
            (Some(_), None) => remove.push(id.clone()),
            (Some(old), Some(new)) if old == new => {}
            (_, Some(new)) => put.push(new.as_put()),
            (None, None) => {}
        }
    }
    ViewUpdate {
        revision: new.revision(),
        put,
        remove,
        fleet: new
            .fleet()
            .filter(|fleet| old.fleet() != Some(fleet))
            .cloned(),
    }
}

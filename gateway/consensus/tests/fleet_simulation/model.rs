//! What the log means: a second execution of the committed commands, in the simulation's own words.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Name, Plan};

/// A change of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The revision that the author looked at.
    pub(crate) base: Option<u64>,
    /// When each tenant last changed as far as the author knew.
    pub(crate) expected: BTreeMap<Name, Option<u64>>,
    pub(crate) put: Vec<Plan>,
    pub(crate) remove: Vec<Name>,
}

/// What an entry of the log asks for.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Apply(Edit),
    /// A piece of this stage.
    Piece {
        stage: u64,
        index: u32,
        of: u32,
    },
    /// The pieces of this stage are this change.
    Commit {
        stage: u64,
        edit: Edit,
    },
}

/// What was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) revision: u64,
    pub(crate) repeated: bool,
    /// How many pieces are there.
    pub(crate) present: Option<u32>,
}

/// What an entry leads to, or the code of its refusal.
pub(crate) type Outcome = Result<Done, &'static str>;

/// What is the same in every copy of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Edit(Vec<Plan>, Vec<Name>),
    Commit(u64),
}

pub(crate) struct Model {
    revision: u64,
    /// The revision at which a tenant last changed.
    changed: u64,
    tenants: BTreeMap<Name, (u64, Plan)>,
    executed: BTreeMap<u64, (Content, u64)>,
    stages: BTreeMap<u64, (u32, BTreeSet<u32>)>,
    /// The policy at each revision.
    pub(crate) policies: BTreeMap<u64, BTreeMap<Name, Plan>>,
}

impl Model {
    /// One without tenants, at this revision.
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            revision,
            changed: 0,
            tenants: BTreeMap::new(),
            executed: BTreeMap::new(),
            stages: BTreeMap::new(),
            policies: [(0, BTreeMap::new()), (revision, BTreeMap::new())].into(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision of a request that was executed.
    pub(crate) fn executed(&self, request: u64) -> Option<u64> {
        self.executed.get(&request).map(|(_, revision)| *revision)
    }

    pub(crate) fn execute(&mut self, request: Option<u64>, meaning: &Meaning) -> Outcome {
        let content = match meaning {
            Meaning::Apply(edit) => Some(Content::Edit(edit.put.clone(), edit.remove.clone())),
            Meaning::Commit { stage, .. } => Some(Content::Commit(*stage)),
            Meaning::Piece { .. } => None,
        };
        let request = request.zip(content);
        if let Some((number, content)) = &request
            && let Some((before, revision)) = self.executed.get(number)
        {
            let (revision, same) = (*revision, before == content);
            let done = Done {
                revision,
                repeated: true,
                present: None,
            };
            return if same {
                Ok(done)
            } else {
                Err("request_reused")
            };
        }
        let mut present = None;
        match meaning {
            Meaning::Apply(edit) => self.edit(edit)?,
            Meaning::Piece { stage, index, of } => {
                let (_, there) = self.stages.entry(*stage).or_insert((*of, BTreeSet::new()));
                there.insert(*index);
                present = Some(u32::try_from(there.len()).unwrap());
            }
            Meaning::Commit { stage, edit } => {
                let (of, there) = self.stages.get(stage).ok_or("no_such_stage")?;
                if there.len() < *of as usize {
                    return Err("pieces_missing");
                }
                self.edit(edit)?;
                self.stages.remove(stage);
            }
        }
        if let Some((number, content)) = request {
            self.executed.insert(number, (content, self.revision));
        }
        Ok(Done {
            revision: self.revision,
            repeated: false,
            present,
        })
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), &'static str> {
        if let Some(base) = edit.base
            && (base < self.changed || base > self.revision)
        {
            return Err("stale_base");
        }
        for (name, expected) in &edit.expected {
            if self.tenants.get(name).map(|(at, _)| *at) != *expected {
                return Err("conflict");
            }
        }
        if edit.remove.iter().any(|it| !self.tenants.contains_key(it)) {
            return Err("no_such_tenant");
        }
        let mut next = self.tenants.clone();
        for name in &edit.remove {
            next.remove(name);
        }
        for plan in &edit.put {
            let same = next.get(plan.name).is_some_and(|(_, there)| there == plan);
            if !same {
                next.insert(plan.name, (self.revision + 1, plan.clone()));
            }
        }
        if next != self.tenants {
            self.tenants = next;
            self.revision += 1;
            self.changed = self.revision;
            let policy = self.tenants.iter();
            let policy = policy.map(|(name, (_, plan))| (*name, plan.clone()));
            self.policies.insert(self.revision, policy.collect());
        }
        Ok(())
    }
}

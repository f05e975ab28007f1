//! From what somebody wants to the command that says so.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{Action, Command, Digest, PendingId, Revision, Tenant, TenantId, View};

use super::policy::mistaken;
use super::{Node, Refusal, Who};
use crate::config::policy_files::{self, PolicyFiles};

/// What somebody wants in force.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A policy directory.
    Directory {
        /// Its files.
        files: PolicyFiles,
        /// What becomes of tenants without a file.
        missing: Missing,
    },
    /// One tenant's file, if the tenant still is as it was looked at.
    Tenant {
        /// The tenant.
        id: TenantId,
        /// The file.
        file: String,
        /// When the tenant last changed as far as the author knows; none is: it is not there.
        expected: Option<Revision>,
    },
    /// A certificate revoked, or that taken back.
    Revocation(Command),
    /// What somebody else proposed.
    Approval {
        /// By which it is known.
        pending: PendingId,
        /// What was looked at.
        digest: Digest,
    },
}

/// What becomes of tenants in force whose file is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They stay as they are.
    LeftAlone,
    /// They are removed (`--prune`).
    Removed,
}

/// What is wanted, against the policy in force.
pub(super) struct Changeset {
    /// The documents, as they are to be.
    pub(super) put: Vec<Tenant>,
    /// In force, without a file, and left alone; those that the author may change.
    pub(super) kept: Vec<TenantId>,
    /// The command that makes it so.
    pub(super) command: Command,
}

impl Changeset {
    pub(super) fn read(node: &Node, who: &Who, wanted: &Wanted) -> Result<Self, Refusal> {
        let before = node.fleet.view();
        match wanted {
            Wanted::Directory { files, missing } => directory(&before, who, files, *missing),
            Wanted::Tenant { id, file, expected } => tenant(who, id, file, *expected),
            Wanted::Revocation(command) => Ok(Self {
                put: Vec::new(),
                kept: Vec::new(),
                command: command.clone(),
            }),
            Wanted::Approval { pending, digest } => Ok(Self {
                put: match node.fleet.pending_change(*pending).map(|one| one.command) {
                    Some(Command::Apply { put, .. }) => put,
                    Some(_) | None => Vec::new(),
                },
                kept: Vec::new(),
                command: Command::Approve {
                    pending: *pending,
                    digest: *digest,
                },
            }),
        }
    }
}

fn directory(
    before: &View,
    who: &Who,
    files: &PolicyFiles,
    missing: Missing,
) -> Result<Changeset, Refusal> {
    let put = policy_files::parse(files).map_err(mistaken)?;
    permitted(who, &put)?;
    let named: BTreeSet<&TenantId> = put.iter().map(|document| &document.id).collect();
    let without_file = before
        .tenants()
        .map(|tenant| tenant.id())
        .filter(|id| !named.contains(id));
    let (remove, kept) = match missing {
        Missing::LeftAlone => {
            // Others exist for nobody who may not look at them.
            let kept = without_file.filter(|id| who.may(Action::Apply, Some(id)));
            (Vec::new(), kept.cloned().collect())
        }
        Missing::Removed if !who.may(Action::Apply, None) => {
            return Err(not_permitted(who, "remove tenants"));
        }
        Missing::Removed => (without_file.cloned().collect(), Vec::new()),
    };
    if put.is_empty() && !remove.is_empty() {
        return Err(Refusal::new(
            422,
            "would_remove_everything",
            "the directory has no tenant's file, and pruning would remove every tenant in force",
        )
        .next("is it the right directory? At least one tenant's file must remain; `suspended: true` in it shuts a tenant out"));
    }
    let command = Command::Apply {
        base: Some(before.revision()),
        expected: BTreeMap::new(),
        put: put.clone(),
        remove,
    };
    Ok(Changeset { put, kept, command })
}

fn tenant(
    who: &Who,
    id: &TenantId,
    file: &str,
    expected: Option<Revision>,
) -> Result<Changeset, Refusal> {
    if !who.may(Action::Apply, Some(id)) {
        return Err(not_permitted(who, &format!("change tenant {id}")));
    }
    let files = PolicyFiles {
        files: BTreeMap::from([(format!("{id}.yaml"), file.to_owned())]),
    };
    let put = policy_files::parse(&files).map_err(mistaken)?;
    let command = Command::Apply {
        base: None,
        expected: BTreeMap::from([(id.clone(), expected)]),
        put: put.clone(),
        remove: Vec::new(),
    };
    Ok(Changeset {
        put,
        kept: Vec::new(),
        command,
    })
}

/// Whether they may change all of these tenants. That it is only their allow lists where no more is
/// permitted, is the state's to look at.
fn permitted(who: &Who, put: &[Tenant]) -> Result<(), Refusal> {
    let foreign = put
        .iter()
        .find(|document| !who.may(Action::Apply, Some(&document.id)));
    match foreign {
        None => Ok(()),
        Some(document) => Err(not_permitted(
            who,
            &format!("change tenant {}", document.id),
        )),
    }
}

fn not_permitted(who: &Who, what: &str) -> Refusal {
    Refusal::new(
        403,
        "not_permitted",
        format!("{} may not {what}", who.name()),
    )
}

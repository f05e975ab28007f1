//! Executing a command.

use super::applied::{Applied, Told};
use super::authorities::Confirmed;
use super::change::Change;
use super::command::Command;
use super::fleet::UsedIds;
use super::guard::GuardRails;
use super::invitations::{Invitation, Invitations};
use super::keeping::Keeping;
use super::operators::Operators;
use super::pending::Waiting;
use super::proposal::{Author, Proposal};
use super::recorded::Recorded;
use super::rejection::Rejection;
use super::requests::Requests;
use super::root::HashedMap;
use super::staged::Staged;
use super::view::View;
use crate::document::{DocumentPath, line};
use crate::id::{Revision, TenantId};
use crate::limits::{MAX_ENTRIES_IN_FLEET, MAX_ENTRIES_PER_TENANT};
use crate::revocations::Revocation;
use crate::tenant::Tenant;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// The replicated state. A new one is empty, and nobody is admitted anywhere. Cloning one is a few counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) view: View,
    /// The moment of the latest command: time never goes back.
    pub(super) at: Timestamp,
    /// The revision at which a tenant last changed.
    pub(super) policy: Revision,
    pub(super) ids: UsedIds,
    pub(super) invitations: Invitations,
    pub(super) requests: Requests,
    pub(super) staged: Staged,
    pub(super) operators: Operators,
    pub(super) pending: Waiting,
    pub(super) guard_rails: Option<GuardRails>,
    pub(super) recovery: Option<Vec<u8>>,
    pub(super) successions: HashedMap<u64, Vec<u8>>,
    pub(super) recorded: Recorded,
    pub(super) keeping: Keeping,
    pub(super) confirmed: Confirmed,
    pub(super) max_per_tenant: usize,
    pub(super) max_in_fleet: usize,
}

/// What a command would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// The view that it would leave.
    pub view: View,
    /// What it would change.
    pub applied: Applied,
    /// Whether it would wait for a second person first.
    pub second_person: bool,
}

/// What a command has done to a state whose revision is still the old one.
pub(super) struct Done {
    /// Whether anything differs that counts as a new revision.
    pub(super) changed: bool,
    pub(super) fleet_changed: bool,
    pub(super) tenants: Vec<TenantId>,
    pub(super) changes: Vec<Change>,
    pub(super) told: Told,
}

impl Done {
    /// Nothing about tenants or nodes: `changed` is whether anything differs.
    pub(super) fn quietly(changed: bool) -> Self {
        Self {
            changed,
            fleet_changed: false,
            tenants: Vec::new(),
            changes: Vec::new(),
            told: Told::Done,
        }
    }
}

impl State {
    /// An empty state with other limits than the usual ones, in entries ([`Tenant::weight`]). All nodes must use the same.
    #[must_use]
    pub fn with_limits(max_entries_per_tenant: usize, max_entries_in_fleet: usize) -> Self {
        Self {
            view: View::empty(),
            at: Timestamp::from_millis(i64::MIN),
            policy: Revision::default(),
            ids: UsedIds::none(),
            invitations: Invitations::new(),
            requests: Requests::new(),
            staged: Staged::new(),
            operators: Operators::new(),
            pending: Waiting::new(),
            guard_rails: None,
            recovery: None,
            successions: HashedMap::new(),
            recorded: Recorded::new(),
            keeping: Keeping::default(),
            confirmed: Confirmed::new(),
            max_per_tenant: max_entries_per_tenant,
            max_in_fleet: max_entries_in_fleet,
        }
    }

    /// Executes a command, whole or not at all. Costs what changes, not what exists.
    ///
    /// The revision grows by one when anything differs afterwards, but for the pieces of a staged command and the memory of
    /// requests and records, which nobody reads: nodes compare [`State::root`] at equal positions of the log, and [`View::root`] at
    /// equal revisions.
    ///
    /// # Errors
    /// A [`Rejection`]; the state is then as it was.
    pub fn apply(&mut self, proposal: &Proposal) -> Result<Applied, Rejection> {
        let Proposal {
            author, command, ..
        } = proposal;
        if let Some(earlier) = self.requests.repeated(proposal)? {
            return Ok(earlier);
        }
        // All that follows happens to a copy that shares everything with this state, and is dropped when it is refused.
        let mut next = self.clone();
        next.begin(proposal)?;
        if let Some(earlier) = next.recorded_before(proposal) {
            return Ok(Applied {
                at: self.at,
                ..earlier
            });
        }
        let done = next.execute(author, command)?;
        let applied = next.finish(done);
        next.requests.remember(proposal, &applied);
        *self = next;
        Ok(applied)
    }

    /// What a command would do, if it needs a second person then with that person's approval. Nothing is done.
    ///
    /// # Errors
    /// The [`Rejection`] that the command itself would meet.
    pub fn rehearse(&self, proposal: &Proposal) -> Result<Rehearsed, Rejection> {
        let mut next = self.clone();
        next.begin(proposal)?;
        let second_person = next.is_guarded(&proposal.command);
        let done = next.perform(&proposal.author, &proposal.command)?;
        Ok(Rehearsed {
            second_person: second_person && done.changed,
            applied: next.finish(done),
            view: next.view,
        })
    }

    /// What is asked of every command before it is looked at.
    fn begin(&mut self, proposal: &Proposal) -> Result<(), Rejection> {
        let Proposal {
            at,
            author,
            command,
            ..
        } = proposal;
        line(DocumentPath::root(), "the author", &author.name).map_err(|_| Rejection::Author)?;
        self.at = self.at.max(*at);
        self.check_author(author, command)?;
        self.check_level(command)
    }

    /// Counts what was done as a revision, if anything differs.
    fn finish(&mut self, done: Done) -> Applied {
        if done.changed {
            self.view.revision = self.turn();
        }
        if !done.tenants.is_empty() {
            self.policy = self.view.revision;
        }
        Applied {
            revision: self.view.revision,
            at: self.at,
            tenants: done.tenants,
            changes: done.changes,
            repeated: false,
            fleet_changed: done.fleet_changed,
            told: done.told,
        }
    }

    /// The revision that will hold when the command at hand changes anything.
    pub(super) fn turn(&self) -> Revision {
        self.view.revision.next()
    }

    fn execute(&mut self, author: &Author, command: &Command) -> Result<Done, Rejection> {
        if !self.is_guarded(command) {
            return self.perform(author, command);
        }
        // What would be refused anyhow is refused now, and what changes nothing needs nobody.
        let done = self.clone().perform(author, command)?;
        match done.changed {
            true => self.wait_for_second(author, command),
            false => Ok(done),
        }
    }

    fn check_level(&self, command: &Command) -> Result<(), Rejection> {
        let level = command.required_level();
        let nodes = self.view.fleet().map(|fleet| fleet.lacking(level));
        match nodes {
            Some(nodes) if !nodes.is_empty() => Err(Rejection::NodesLack { level, nodes }),
            _ => Ok(()),
        }
    }

    pub(super) fn perform(
        &mut self,
        author: &Author,
        command: &Command,
    ) -> Result<Done, Rejection> {
        match command {
            Command::Apply {
                base,
                expected,
                put,
                remove,
            } => {
                self.check_base(*base)?;
                self.check_expected(expected)?;
                self.put_and_remove(put, remove)
            }
            Command::Found { .. } => self.found(command),
            Command::Invite {
                token,
                name,
                roles,
                expires,
            } => self.invite(
                *token,
                Invitation {
                    name: name.clone(),
                    roles: roles.clone(),
                    expires: *expires,
                    used: None,
                },
            ),
            Command::Withdraw { token } => self.invitations.withdraw(*token).map(Done::quietly),
            Command::Admit { .. } => self.admit(command),
            Command::Remove { node } => self.remove_node(*node),
            Command::Report {
                node,
                level,
                address,
            } => self.report(*node, *level, address.as_ref()),
            Command::Stage {
                stage,
                index,
                of,
                bytes,
            } => {
                let present = self.staged.stage(*stage, *index, *of, bytes, self.at)?;
                let told = Told::Staged { present, of: *of };
                Ok(Done {
                    told,
                    ..Done::quietly(false)
                })
            }
            Command::Commit { stage, digest } => {
                let whole = self.staged.commit(*stage, *digest)?;
                if !matches!(whole, Command::Apply { .. }) {
                    let why = String::from("only a policy change may be staged");
                    return Err(Rejection::StagedCommand(why));
                }
                self.check_level(&whole)?;
                self.check_author(author, &whole)?;
                self.execute(author, &whole)
            }
            Command::Discard { stage } => {
                self.staged.discard(*stage);
                Ok(Done::quietly(false))
            }
            Command::Recover {
                epoch,
                survivor,
                statement,
            } => self.recover(*epoch, *survivor, statement),
            Command::Succession { statement } => self.succeed(statement),
            Command::PutOperator { operator, roles } => {
                self.operators.put(operator, roles).map(Done::quietly)
            }
            Command::RemoveOperator { operator } => {
                Ok(Done::quietly(self.operators.remove(operator)))
            }
            Command::BindOperator { operator, key } => {
                self.operators.bind(operator, *key).map(Done::quietly)
            }
            Command::Approve { pending, digest } => self.approve(author, *pending, *digest),
            Command::Reject { pending } => match self.pending.remove(*pending) {
                Some(_) => Ok(Done::quietly(true)),
                None => Err(Rejection::NoSuchPending(*pending)),
            },
            Command::Seal => Ok(Done::quietly(false)),
            Command::Record { sequence, events } => {
                self.record(&author.principal, *sequence, events)
            }
            Command::Authority { purpose, step } => self.authority_step(*purpose, step),
            Command::SetKeeping { keeping, replaces } => self.set_keeping(keeping, *replaces),
            Command::Revoke {
                tenant,
                serial,
                reason,
                until,
            } => self.revoke(
                tenant,
                serial,
                Revocation {
                    reason: reason.clone(),
                    author: author.name.clone(),
                    at: self.at,
                    until: *until,
                },
            ),
            Command::Unrevoke { tenant, serial } => self.unrevoke(tenant, serial),
            Command::SetGuardRails { guard_rails } => match self.guard_rails {
                None => Err(Rejection::NoFleet),
                Some(before) => {
                    self.guard_rails = Some(*guard_rails);
                    Ok(Done::quietly(before != *guard_rails))
                }
            },
        }
    }

    fn put_and_remove(&mut self, put: &[Tenant], remove: &[TenantId]) -> Result<Done, Rejection> {
        self.view.check_named_once(put.iter(), remove)?;
        let put: Vec<&Tenant> = put
            .iter()
            .filter(|document| self.differs(document))
            .collect();
        for document in &put {
            self.check_document(document)?;
        }
        let revision = self.turn();
        let documents = put.iter().map(|document| (*document, revision, None));
        let (next, touched) = self.view.exchanged(documents, remove)?;
        self.check_fleet_limit(&next)?;
        let changes = self.view.changes_to(&next, &touched, self.at);
        self.view = next;
        Ok(Done {
            changed: !touched.is_empty(),
            tenants: touched.into_iter().cloned().collect(),
            changes,
            ..Done::quietly(false)
        })
    }

    pub(super) fn check_fleet_limit(&self, next: &View) -> Result<(), Rejection> {
        match next.weight > self.max_in_fleet {
            false => Ok(()),
            true => Err(Rejection::FleetLimit {
                entries: next.weight,
                maximum: self.max_in_fleet,
            }),
        }
    }

    fn differs(&self, document: &Tenant) -> bool {
        self.view
            .tenant(&document.id)
            .is_none_or(|tenant| !tenant.is(document))
    }

    /// What changed since that is no tenant's (a node that reports, a token) is nobody's surprise.
    fn check_base(&self, base: Option<Revision>) -> Result<(), Rejection> {
        let current = self.view.revision;
        match base {
            Some(base) if base < self.policy || base > current => {
                Err(Rejection::StaleBase { base, current })
            }
            _ => Ok(()),
        }
    }

    fn check_expected(
        &self,
        expected: &BTreeMap<TenantId, Option<Revision>>,
    ) -> Result<(), Rejection> {
        for (tenant, expected) in expected {
            let current = self.view.tenant(tenant).map(|view| view.revision());
            if current != *expected {
                return Err(Rejection::Conflict {
                    tenant: tenant.clone(),
                    expected: *expected,
                    current,
                });
            }
        }
        Ok(())
    }

    pub(super) fn check_document(&self, document: &Tenant) -> Result<(), Rejection> {
        document
            .validate_within(self.max_per_tenant)
            .map_err(|error| Rejection::Document {
                tenant: document.id.clone(),
                error,
            })
    }
}

impl Default for State {
    fn default() -> Self {
        Self::with_limits(MAX_ENTRIES_PER_TENANT, MAX_ENTRIES_IN_FLEET)
    }
}

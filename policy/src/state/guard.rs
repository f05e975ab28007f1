//! What one person may not do alone.

use super::apply::State;
use super::command::Command;
use crate::access::{Action, may};
use crate::origin::Origin;
use crate::tenant::{Addresses, Endpoint, Entry, Tenant};
use serde::{Deserialize, Serialize};

/// How many people it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum People {
    /// Whoever may do it at all.
    One,
    /// A second person must approve.
    TwoPeople,
}

/// What needs a second person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuardRails {
    /// An entry `anywhere` that was not in force before.
    pub anywhere: People,
    /// A change of operators or of their roles: whoever can make a second person needs none. Where no operator may approve
    /// anything, it takes one.
    pub operators: People,
    /// A change of these.
    pub guard_rails: People,
}

impl GuardRails {
    /// Whoever may do something at all may do it alone.
    pub const NONE: Self = Self {
        anywhere: People::One,
        operators: People::One,
        guard_rails: People::One,
    };
}

impl State {
    /// Whether this command needs a second person.
    pub(super) fn is_guarded(&self, command: &Command) -> bool {
        let Some(guard_rails) = self.guard_rails else {
            return false;
        };
        match command {
            Command::Apply { put, .. } => {
                guard_rails.anywhere == People::TwoPeople
                    && put.iter().any(|document| self.opens_to_everyone(document))
            }
            // Until there is somebody who could be the second person, the first one makes them.
            Command::PutOperator { .. } | Command::RemoveOperator { .. } => {
                guard_rails.operators == People::TwoPeople && self.has_second_person()
            }
            // To keep evidence for less time is to destroy some.
            Command::SetGuardRails { .. } | Command::SetKeeping { .. } => {
                guard_rails.guard_rails == People::TwoPeople
            }
            Command::Found { .. }
            | Command::Invite { .. }
            | Command::Withdraw { .. }
            | Command::Admit { .. }
            | Command::Remove { .. }
            | Command::Report { .. }
            | Command::Stage { .. }
            | Command::Commit { .. }
            | Command::Discard { .. }
            | Command::Recover { .. }
            | Command::Succession { .. }
            // Where operators take two people this is for the machines of nodes alone.
            | Command::BindOperator { .. }
            // Whoever exchanges one gains nothing by it: keys stay where they are, and it can be taken back.
            | Command::Authority { .. }
            | Command::Approve { .. }
            | Command::Reject { .. }
            | Command::Seal
            | Command::Record { .. }
            | Command::Revoke { .. }
            | Command::Unrevoke { .. } => false,
        }
    }

    /// Whether anybody but the machines of nodes may approve anything.
    fn has_second_person(&self) -> bool {
        let mut operators = self.operators.iter();
        operators.any(|(_, roles)| may(roles, Action::Approve, None))
    }

    fn opens_to_everyone(&self, document: &Tenant) -> bool {
        document.endpoints.iter().any(|(id, endpoint)| {
            let before = self.view.endpoint(&document.id, id);
            let there = |entry: &Entry| {
                before
                    .is_some_and(|view| anywhere(view.endpoint()).any(|old| same_reach(old, entry)))
            };
            anywhere(endpoint).any(|entry| !there(entry))
        })
    }
}

/// The entries for everyone at doors that the endpoint has.
fn anywhere(endpoint: &Endpoint) -> impl Iterator<Item = &Entry> {
    let open = |door: &Origin| endpoint.doors.contains(door);
    let all = endpoint.allow.iter();
    all.filter(move |entry| entry.addresses == Addresses::Anywhere && open(&entry.origin))
}

/// Whether two entries say the same in other words.
fn same_reach(old: &Entry, new: &Entry) -> bool {
    old.origin == new.origin && old.except == new.except && old.expires == new.expires
}

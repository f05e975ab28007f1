//! The commands about nodes and about second persons.

use super::applied::Told;
use super::apply::{Done, State};
use super::codec::encode_command;
use super::command::Command;
use super::fleet::{FIRST_LEVEL, Fleet, Node};
use super::invitations::{Invitation, Shown};
use super::proposal::Author;
use super::rejection::Rejection;
use super::root::sha256;
use crate::fleet_id::{Digest, KeyHash, NodeId, PendingId};
use crate::limits::{MAX_STATEMENT, MAX_SUCCESSIONS};

impl State {
    fn founded(&self) -> Result<&Fleet, Rejection> {
        self.view.fleet().ok_or(Rejection::NoFleet)
    }

    /// Changes the fleet, and hashes it again when it differs.
    pub(super) fn change_fleet<T>(
        &mut self,
        change: impl FnOnce(&mut Fleet) -> Result<T, Rejection>,
    ) -> Result<(Done, T), Rejection> {
        let before = self.founded()?;
        let mut after = before.clone();
        let answer = change(&mut after)?;
        let changed = after != *before;
        if changed {
            self.view.set_fleet(after);
        }
        let done = Done {
            fleet_changed: changed,
            ..Done::quietly(changed)
        };
        Ok((done, answer))
    }

    pub(super) fn found(&mut self, command: &Command) -> Result<Done, Rejection> {
        let Command::Found {
            fleet: id,
            name,
            roles,
            key,
            view_key,
            address,
            recovery_key,
            guard_rails,
        } = command
        else {
            return Err(Rejection::NoFleet);
        };
        let told = Told::Admitted(NodeId::FIRST);
        if let Some(there) = self.view.fleet() {
            let first = there.nodes.get(&NodeId::FIRST);
            let same = there.id == *id && first.is_some_and(|first| first.key == *key);
            return match same {
                true => Ok(Done {
                    told,
                    ..Done::quietly(false)
                }),
                false => Err(Rejection::AlreadyFounded(there.id)),
            };
        }
        let first = Node {
            id: self.ids.first(),
            name: name.clone(),
            roles: roles.clone(),
            key: *key,
            view_key: Some(*view_key),
            address: Some(address.clone()),
            level: FIRST_LEVEL,
            admitted: self.turn(),
        };
        self.view
            .set_fleet(Fleet::found(*id, *recovery_key, first)?);
        self.guard_rails = Some(*guard_rails);
        Ok(Done {
            fleet_changed: true,
            told,
            ..Done::quietly(true)
        })
    }

    pub(super) fn invite(
        &mut self,
        token: KeyHash,
        invitation: Invitation,
    ) -> Result<Done, Rejection> {
        self.founded()?.check_name(&invitation.name)?;
        let news = self.invitations.invite(token, invitation, self.at)?;
        Ok(Done::quietly(news))
    }

    pub(super) fn admit(&mut self, command: &Command) -> Result<Done, Rejection> {
        let Command::Admit {
            token,
            name,
            roles,
            key,
            view_key,
            address,
        } = command
        else {
            return Err(Rejection::NoSuchToken);
        };
        match self.invitations.show(*token, name, roles, *key, self.at)? {
            Shown::Theirs(node) if self.founded()?.nodes.contains_key(&node) => {
                return Ok(Done {
                    told: Told::Admitted(node),
                    ..Done::quietly(false)
                });
            }
            // It was removed since: a new node needs a new token.
            Shown::Theirs(_) => return Err(Rejection::TokenUsed),
            Shown::Good => {}
        }
        let id = self.ids.take(self.turn());
        let node = Node {
            id,
            name: name.clone(),
            roles: roles.clone(),
            key: *key,
            view_key: *view_key,
            address: address.clone(),
            level: FIRST_LEVEL,
            admitted: self.turn(),
        };
        let (done, ()) = self.change_fleet(|fleet| fleet.admit(node))?;
        self.invitations.used(*token, *key, id);
        Ok(Done {
            told: Told::Admitted(id),
            ..done
        })
    }

    pub(super) fn remove_node(&mut self, node: NodeId) -> Result<Done, Rejection> {
        if self.ids.was_removed(node) {
            return Ok(Done::quietly(false));
        }
        let (done, ()) = self.change_fleet(|fleet| fleet.remove(node))?;
        self.ids.remove(node);
        self.recorded.forget(node);
        self.forget_confirmed(|_, by| by == node);
        Ok(done)
    }

    pub(super) fn report(
        &mut self,
        node: NodeId,
        level: u32,
        address: Option<&String>,
    ) -> Result<Done, Rejection> {
        let (done, ()) = self.change_fleet(|fleet| fleet.report(node, level, address))?;
        Ok(done)
    }

    pub(super) fn recover(
        &mut self,
        epoch: u64,
        survivor: NodeId,
        statement: &[u8],
    ) -> Result<Done, Rejection> {
        check_statement(statement)?;
        let again = self.recovery.as_deref() == Some(statement);
        if again && self.founded()?.epoch == epoch {
            return Ok(Done::quietly(false));
        }
        let (done, lost) = self.change_fleet(|fleet| fleet.recover(epoch, survivor))?;
        for node in lost {
            self.ids.remove(node);
            self.recorded.forget(node);
            self.forget_confirmed(|_, by| by == node);
        }
        self.recovery = Some(statement.to_vec());
        Ok(done)
    }

    pub(super) fn succeed(&mut self, statement: &[u8]) -> Result<Done, Rejection> {
        self.founded()?;
        check_statement(statement)?;
        let last = self.successions.iter().next_back();
        if last.is_some_and(|(_, last)| last == statement) {
            return Ok(Done::quietly(false));
        }
        self.successions
            .insert(self.turn().get(), statement.to_vec());
        let over = self.successions.len().saturating_sub(MAX_SUCCESSIONS);
        let oldest: Vec<u64> = self
            .successions
            .iter()
            .take(over)
            .map(|(at, _)| *at)
            .collect();
        for at in oldest {
            self.successions.remove(&at);
        }
        Ok(Done::quietly(true))
    }

    /// Puts a change aside until a second person approves it.
    pub(super) fn wait_for_second(
        &mut self,
        author: &Author,
        command: &Command,
    ) -> Result<Done, Rejection> {
        let bytes =
            encode_command(command).map_err(|_| Rejection::Snapshot("it cannot be written"))?;
        let digest = sha256(&bytes);
        let told = |pending: &super::pending::Pending| Told::Pending {
            pending: pending.id,
            digest: pending.digest,
            expires: pending.expires,
        };
        if let Some(there) = self.pending.same(author, digest, self.at) {
            return Ok(Done {
                told: told(there),
                ..Done::quietly(false)
            });
        }
        let (revision, at) = (self.turn(), self.at);
        let size = (digest, bytes.len());
        let added = self.pending.add(revision, author, command, size, at)?;
        Ok(Done {
            told: told(added),
            ..Done::quietly(true)
        })
    }

    /// Executes what waited, against the state as it is now, in the name of whoever proposed it.
    pub(super) fn approve(
        &mut self,
        author: &Author,
        id: PendingId,
        digest: Digest,
    ) -> Result<Done, Rejection> {
        let waiting = self.pending.get(id).ok_or(Rejection::NoSuchPending(id))?;
        if waiting.digest != digest {
            return Err(Rejection::DigestDiffers);
        }
        if waiting.expires <= self.at {
            return Err(Rejection::PendingExpired(id));
        }
        if waiting.author.principal == author.principal {
            return Err(Rejection::SamePerson(id));
        }
        let pending = self
            .pending
            .remove(id)
            .ok_or(Rejection::NoSuchPending(id))?;
        // The second person could have proposed it, and the first still could.
        self.check_author(author, &pending.command)?;
        self.check_author(&pending.author, &pending.command)?;
        let done = self.perform(&pending.author, &pending.command)?;
        Ok(Done {
            changed: true,
            ..done
        })
    }
}

fn check_statement(statement: &[u8]) -> Result<(), Rejection> {
    match statement.is_empty() || statement.len() > MAX_STATEMENT {
        true => Err(Rejection::Statement),
        false => Ok(()),
    }
}

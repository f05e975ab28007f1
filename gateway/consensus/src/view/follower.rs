//! A gateway's side: which view to put in force next, out of whatever it is told.
//!
//! ```text
//!                      not newer ──► Refused(Older)
//!                      other start ─► Resync
//!   Whole / Changes ─► other root, fleet, epoch, voters; too few signatures ─► Refused
//!                      otherwise ──► Publish
//! ```
//!
//! A message is taken whole or refused whole; what was refused leaves no trace, and the last good
//! view stays. The set of voters that counts is the one that this follower knows: it changes by a
//! view or a [`Succession`] that a majority of them signed, or by a [`Recovery`] that the recovery
//! key signed.

use super::feed::between;
use super::frames::Frame;
use super::statement::{Recovery, Signed, Statement, Succession, Voters};
use portcullis_certs::fleet::PublicSigningKey;
use portcullis_policy::{
    Applied, Change, FleetId, Rejection, TenantId, Timestamp, Told, View, ViewUpdate,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What to do next.
#[derive(Debug)]
pub enum Output {
    /// Keep this view, then put it in force.
    Publish(Box<Publish>),
    /// Ask for everything: what was told does not follow on what is here.
    Resync,
    /// What was told is not believed.
    Refused(Refused),
    /// Nothing changes; others may vote now.
    Taken,
    /// The sender is there.
    Alive {
        /// Whether it confirms that what is in force here is the latest.
        confirmed: bool,
    },
}

/// The next view.
#[derive(Debug)]
pub struct Publish {
    /// The view.
    pub view: Arc<View>,
    /// What changed.
    pub applied: Arc<Applied>,
    /// Who says so.
    pub signed: Signed,
    /// Who voted before it, by whom the signatures are counted.
    pub voters: Voters,
}

/// Why something was not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not newer than what is in force.
    Older,
    /// It is another fleet's.
    Fleet,
    /// It is of an epoch that nobody declared here.
    Epoch,
    /// A majority of the voters did not sign it.
    Signatures,
    /// The view that follows is not the one that was signed.
    Root,
    /// The voters are not those that were signed.
    Voters,
    /// Its parts do not fit together.
    Malformed(String),
}

impl Refused {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Fleet => "another_fleet",
            Self::Epoch => "another_epoch",
            Self::Signatures => "too_few_signatures",
            Self::Root => "another_root",
            Self::Voters => "other_voters",
            Self::Malformed(_) => "malformed",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older => f.write_str("it is not newer than the view in force"),
            Self::Fleet => f.write_str("it is another fleet's"),
            Self::Epoch => f.write_str("it is of an epoch that the recovery key did not begin"),
            Self::Signatures => f.write_str("a majority of the voters did not sign it"),
            Self::Root => f.write_str("it is not the view that was signed"),
            Self::Voters => f.write_str("the voters are not those that were signed"),
            Self::Malformed(problem) => f.write_str(problem),
        }
    }
}

/// What a follower believes before it is told anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The fleet.
    pub fleet: FleetId,
    /// Its epoch.
    pub epoch: u64,
    /// Who votes.
    pub voters: Voters,
    /// The key that can declare a new epoch.
    pub recovery_key: PublicSigningKey,
}

/// A gateway's side.
#[derive(Debug)]
pub struct Follower {
    trusted: Trusted,
    view: Arc<View>,
    /// The epoch of the view; that of `trusted` may be newer, after a recovery.
    epoch: u64,
    /// The revision of the latest succession, below which nothing is believed.
    floor: u64,
}

impl Follower {
    /// One that holds nothing yet.
    #[must_use]
    pub fn new(trusted: Trusted) -> Self {
        Self {
            view: Arc::new(View::empty()),
            epoch: trusted.epoch,
            trusted,
            floor: 0,
        }
    }

    /// One that goes on from a view that this node knows to be decided.
    #[must_use]
    pub fn going_on(trusted: Trusted, view: Arc<View>) -> Self {
        Self {
            epoch: trusted.epoch,
            trusted,
            view,
            floor: 0,
        }
    }

    /// The view that is in force.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The epoch of the view that is in force.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What this follower believes now.
    #[must_use]
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Takes what it is told at a moment. After [`Output::Publish`] the view is the follower's.
    pub fn take(&mut self, frame: Frame, at: Timestamp) -> Output {
        let outcome = match frame {
            Frame::Whole { update, signed } => self.whole(&update, signed, at),
            Frame::Changes {
                from,
                update,
                signed,
            } => self.changes(from, &update, signed, at),
            Frame::Succeeded(succession) => self.succeeded(succession),
            Frame::Recovered(recovery) => self.recovered(recovery),
            Frame::Alive {
                revision,
                confirmed,
            } => Ok(Output::Alive {
                confirmed: confirmed && revision == self.view.revision().get(),
            }),
        };
        outcome.unwrap_or_else(Output::Refused)
    }

    fn whole(
        &mut self,
        update: &ViewUpdate,
        signed: Signed,
        at: Timestamp,
    ) -> Result<Output, Refused> {
        self.check(&signed)?;
        // Built from nothing, so that nothing of what is here can hide what it omits.
        let (next, _) = View::empty().updated(update, at).map_err(malformed)?;
        let begun_anew = next.revision() < self.view.revision();
        if begun_anew {
            let applied = next.applied_since(&self.view, at);
            return self.publish(next, applied, signed);
        }
        // Taken over by what differs, so that what stays keeps its identity.
        let update = between(&self.view, &next, None);
        let (next, changes) = self.view.updated(&update, at).map_err(malformed)?;
        self.publish(next, applied(&update, changes, at), signed)
    }

    fn changes(
        &mut self,
        from: u64,
        update: &ViewUpdate,
        signed: Signed,
        at: Timestamp,
    ) -> Result<Output, Refused> {
        self.check(&signed)?;
        if from != self.view.revision().get() || signed.statement.epoch != self.epoch {
            return Ok(Output::Resync);
        }
        let (next, changes) = self.view.updated(update, at).map_err(malformed)?;
        self.publish(next, applied(update, changes, at), signed)
    }

    /// All that can be said before the view is there.
    fn check(&self, signed: &Signed) -> Result<(), Refused> {
        let Statement {
            fleet,
            epoch,
            revision,
            ..
        } = signed.statement;
        if fleet != self.trusted.fleet {
            return Err(Refused::Fleet);
        }
        if epoch < self.epoch {
            return Err(Refused::Older);
        }
        if epoch != self.trusted.epoch {
            return Err(Refused::Epoch);
        }
        let known = self.view.revision().get();
        if revision < self.floor || (epoch == self.epoch && revision <= known) {
            return Err(Refused::Older);
        }
        match self.trusted.voters.confirm(signed) {
            true => Ok(()),
            false => Err(Refused::Signatures),
        }
    }

    fn publish(&mut self, next: View, applied: Applied, signed: Signed) -> Result<Output, Refused> {
        let statement = Statement::of(&next).ok_or(Refused::Fleet)?;
        if statement != signed.statement {
            return Err(match statement.voters == signed.statement.voters {
                true => Refused::Root,
                false => Refused::Voters,
            });
        }
        let fleet = next.fleet().ok_or(Refused::Fleet)?;
        let voters = std::mem::replace(&mut self.trusted.voters, Voters::of(fleet));
        self.epoch = statement.epoch;
        self.view = Arc::new(next);
        Ok(Output::Publish(Box::new(Publish {
            view: Arc::clone(&self.view),
            applied: Arc::new(applied),
            signed,
            voters,
        })))
    }

    fn succeeded(&mut self, succession: Succession) -> Result<Output, Refused> {
        let Succession { signed, voters } = succession;
        self.check(&signed)?;
        if voters.hash() != signed.statement.voters {
            return Err(Refused::Voters);
        }
        self.floor = signed.statement.revision;
        self.trusted.voters = voters;
        Ok(Output::Taken)
    }

    fn recovered(&mut self, recovery: Recovery) -> Result<Output, Refused> {
        if recovery.fleet != self.trusted.fleet {
            return Err(Refused::Fleet);
        }
        if recovery.epoch <= self.trusted.epoch {
            return Err(Refused::Older);
        }
        if !recovery.is_by(&self.trusted.recovery_key) {
            return Err(Refused::Signatures);
        }
        self.trusted.epoch = recovery.epoch;
        self.trusted.voters = recovery.voters;
        self.floor = 0;
        Ok(Output::Taken)
    }
}

fn applied(update: &ViewUpdate, changes: Vec<Change>, at: Timestamp) -> Applied {
    let put = update.put.iter().map(|one| &one.document.id);
    let tenants: BTreeMap<&TenantId, ()> = put.chain(&update.remove).map(|id| (id, ())).collect();
    Applied {
        revision: update.revision,
        at,
        tenants: tenants.into_keys().cloned().collect(),
        changes,
        repeated: false,
        fleet_changed: update.fleet.is_some(),
        told: Told::Done,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what map_err hands over"
)]
fn malformed(rejection: Rejection) -> Refused {
    Refused::Malformed(rejection.to_string())
}

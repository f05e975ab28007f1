//! Failed sign-ins are slowed, never locked: what a stranger can do to a user is to make other
//! strangers wait.
//!
//! A proof that was read is looked at when its turn has come; right and wrong ones wait alike, and
//! so do those for roles that do not exist. How long stands in `tally.rs`.
//!
//! Failures on other nodes of the fleet count like those here ([`super::others`]).
//!
//! Deliberately absent: any way to shut somebody out.

mod tally;
mod window;

use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::kinds;
use portcullis_policy::{Address, Origin, Permit};

use self::tally::{Answer, Outcome, Slowed, Tally};
use super::live::Facts;
use super::others::Untold;
use super::refuse::Refusal;
use super::source::Source;
use crate::runtime::clock::{self, Instant};
use crate::runtime::limits::{FAILED_SIGN_INS_LINE, PROOFS_PAUSE};

pub(super) use self::tally::{Role, Who};

/// The failed sign-ins that this node saw.
pub(super) struct FailedSignIns {
    tally: Mutex<Tally>,
    untold: Untold,
}

impl FailedSignIns {
    pub(super) fn new() -> Self {
        Self {
            tally: Mutex::new(Tally::new()),
            untold: Untold::default(),
        }
    }

    /// What the other nodes were not told yet.
    pub(super) fn untold(&self) -> &Untold {
        &self.untold
    }

    /// Takes note of a proof that another node found wrong.
    pub(super) fn failed_elsewhere(&self, who: &Who) {
        self.tally.lock().failed(who, clock::instant());
    }

    /// Waits until the proof that this client has sent may be looked at. Refuses where it would
    /// have to wait beyond `until`, or behind too many others of its kind.
    pub(super) async fn turn(
        self: &Arc<Self>,
        facts: &Facts,
        permit: &Permit,
        until: Instant,
    ) -> Result<Turn, Refusal> {
        let who = Who {
            source: Source::customer(&facts.arrival.origin, facts.arrival.address),
            role: Arc::new(Role {
                tenant: permit.tenant().clone(),
                cluster: permit.cluster_id().clone(),
                user: facts.user.clone(),
            }),
        };
        let patience = until.min(clock::instant() + FAILED_SIGN_INS_LINE);
        loop {
            let now = clock::instant();
            let longest = patience.saturating_duration_since(now);
            let answer = self.tally.lock().turn(&who, longest, now);
            match answer {
                Answer::At(slowed) => {
                    let turn = Turn {
                        failures: Arc::clone(self),
                        who,
                        from: (facts.arrival.origin.clone(), facts.arrival.address),
                        slowed,
                        outcome: Outcome::Unknown,
                    };
                    if let Some(by) = slowed.by {
                        metrics::counter!("portcullis_sign_ins_slowed_total", "by" => by)
                            .increment(1);
                        tokio::time::sleep(slowed.wait).await;
                    }
                    return Ok(turn);
                }
                Answer::Busy if longest > PROOFS_PAUSE => tokio::time::sleep(PROOFS_PAUSE).await,
                Answer::Busy | Answer::Full => {
                    return Err(Refusal::failed_sign_ins(
                        permit.tenant(),
                        &facts.arrival.reference,
                    ));
                }
            }
        }
    }
}

/// The right to have one proof looked at. Dropped, it was never judged.
pub(super) struct Turn {
    failures: Arc<FailedSignIns>,
    who: Who,
    from: (Origin, Address),
    slowed: Slowed,
    outcome: Outcome,
}

impl Turn {
    /// Takes note of how the proof was judged.
    pub(super) fn settle<T>(mut self, judged: Result<T, Refusal>) -> Result<T, Refusal> {
        let refusal = match judged {
            Ok(right) => {
                self.outcome = Outcome::Right;
                return Ok(right);
            }
            Err(refusal) => refusal,
        };
        // Anything else says nothing about the proof: a database that is down, a client that left.
        if refusal.kind == kinds::AUTHENTICATION_FAILED {
            self.outcome = Outcome::Wrong;
        }
        let waited = u64::try_from(self.slowed.wait.as_millis()).unwrap_or(u64::MAX);
        let refusal = refusal.with("delayed_ms", waited);
        Err(match self.slowed.by {
            Some(by) => refusal.with("delayed_by", by),
            None => refusal,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.outcome == Outcome::Wrong {
            let (origin, address) = &self.from;
            self.failures.untold.add(origin, *address, &self.who.role);
        }
        let mut tally = self.failures.tally.lock();
        tally.settle(&self.who, self.slowed, self.outcome, clock::instant());
    }
}

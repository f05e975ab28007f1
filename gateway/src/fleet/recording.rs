//! A node's own events on their way into the fleet's audit logs.
//!
//! Every node gives its records to whoever leads, one at a time; the state takes each once. Where
//! nobody takes them they wait on the disk, and nothing else waits for them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_consensus::{Draft, is_fleets_own};
use portcullis_policy::{AUDIT_LEVEL, Author, Command, Principal, Told};
use tokio::time::{MissedTickBehavior, interval};

use super::Fleet;
use super::writes::{Made, WriteError};
use crate::ledger::Ledger;
use crate::ledger::recording::{Record, Recording};
use crate::runtime::clock;
use crate::runtime::limits::{RECORD_EVERY, RECORD_LIMIT};

/// Opens what this node has not recorded yet.
pub(super) fn open(ledger: &Arc<Ledger>, data: &Path) -> Result<Recording, String> {
    Recording::open(Arc::clone(ledger), &data.join("audit"), is_fleets_own)
        .map_err(|error| format!("the audit log in {}: {error}", data.display()))
}

/// Records what happens here, until the fleet ends.
pub(super) async fn record(fleet: Arc<Fleet>, mut recording: Recording) {
    let mut ticks = interval(RECORD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = false;
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let round = fleet.record_all(recording);
        let Some((back, outcome)) = fleet.stop.run_until_cancelled(round).await else {
            return;
        };
        let Some(back) = back else {
            return;
        };
        recording = back;
        if let Err(problem) = &outcome
            && !said
        {
            tracing::warn!(
                problem,
                "this node's events are not recorded in the audit logs for now; they wait"
            );
        }
        said = outcome.is_err();
    }
}

/// What the state says to a record.
enum Answer {
    /// It has the node's records up to this one.
    Through(u64, Made),
    /// It is not the one after the node's last.
    Gap,
    /// It holds what no node may say; in words.
    Refused(String),
}

impl Fleet {
    /// Records what there is; in words why something is left.
    async fn record_all(&self, recording: Recording) -> (Option<Recording>, Result<(), String>) {
        let mut recording = recording;
        while self.takes_records() {
            let now = clock::now().as_millis();
            let (back, next) = blocking(recording, move |it| it.next(now)).await;
            let Some(back) = back else {
                return (None, Ok(()));
            };
            recording = back;
            let record = match next {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return (Some(recording), Err(error.to_string())),
            };
            let sequence = record.sequence;
            let answer = match self.give_record(record.clone()).await {
                Ok(answer) => answer,
                Err(error) => return (Some(recording), Err(error.to_string())),
            };
            let (back, settled) = match answer {
                Answer::Through(through, Made::Before) if through > sequence => {
                    tracing::error!(
                        sequence,
                        through,
                        "the fleet has more records of this node than its files know of: they are older than they should be; it records what happens from now on"
                    );
                    blocking(recording, move |it| it.overtaken(through)).await
                }
                Answer::Through(..) => {
                    recording.done();
                    (Some(recording), Ok(()))
                }
                Answer::Gap => {
                    // What was executed is answered with how far the node is.
                    let asked = Record {
                        sequence: 0,
                        ..record
                    };
                    let through = match self.give_record(asked).await {
                        Ok(Answer::Through(through, _)) => through,
                        Ok(Answer::Gap | Answer::Refused(_)) => {
                            return (Some(recording), Err("nobody says how far it is".to_owned()));
                        }
                        Err(error) => return (Some(recording), Err(error.to_string())),
                    };
                    tracing::warn!(
                        sequence,
                        through,
                        "the fleet does not have the latest records of this node"
                    );
                    blocking(recording, move |it| it.renumber(through)).await
                }
                Answer::Refused(why) => {
                    tracing::error!(
                        why,
                        "the fleet refuses events of this node; they are counted"
                    );
                    blocking(recording, move |it| it.refused(now)).await
                }
            };
            let Some(back) = back else {
                return (None, Ok(()));
            };
            recording = back;
            if let Err(error) = settled {
                return (Some(recording), Err(error.to_string()));
            }
        }
        (Some(recording), Ok(()))
    }

    /// Whether every node of the fleet, this one among them, knows what a record is. One that is a fleet by itself does.
    fn takes_records(&self) -> bool {
        let view = self.source.view();
        if view.fleet().is_none() {
            return self.membership.is_none();
        }
        let known = self.known_fleet(&view);
        known.is_some_and(|fleet| {
            fleet.nodes.contains_key(&self.me) && fleet.lacking(AUDIT_LEVEL).is_empty()
        }) && !self.is_out()
    }

    async fn give_record(&self, record: Record) -> Result<Answer, WriteError> {
        let draft = Draft {
            // Known by its sequence, however often it comes.
            request: None,
            author: Author {
                name: self.name.to_string(),
                principal: Principal::Node(self.me),
            },
            command: Command::Record {
                sequence: record.sequence,
                events: record.events,
            },
        };
        match self.give(draft, clock::instant() + RECORD_LIMIT).await {
            Ok(written) => match written.told {
                Told::Recorded(through) => Ok(Answer::Through(through, written.made)),
                Told::Done | Told::Admitted(_) | Told::Staged { .. } | Told::Pending { .. } => {
                    Err(WriteError::Unknown)
                }
            },
            Err(WriteError::Rejected { code, message, .. }) => match code.as_str() {
                "record_gap" => Ok(Answer::Gap),
                "record_event" | "record_size" => Ok(Answer::Refused(message)),
                _ => Err(WriteError::Rejected {
                    code,
                    message,
                    status: 0,
                }),
            },
            Err(error) => Err(error),
        }
    }
}

/// Does what reads and writes files where waiting is allowed. Without what was lent, it panicked.
async fn blocking<T: Send + 'static>(
    mut recording: Recording,
    work: impl FnOnce(&mut Recording) -> io::Result<T> + Send + 'static,
) -> (Option<Recording>, io::Result<T>) {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut recording);
        (recording, done)
    });
    match done.await {
        Ok((recording, done)) => (Some(recording), done),
        Err(error) => (None, Err(io::Error::other(error))),
    }
}

//! Writes from anywhere, executed once.
//!
//! A command goes to whoever leads: to this node's own consensus, or over the mesh. Leaders change
//! and answers get lost, so it is given again until somebody says what became of it; the request id
//! that it bears is known by the state, which executes it once.

use std::fmt;
use std::sync::Arc;

use portcullis_consensus::{Draft, ProposeError, in_pieces};
use portcullis_policy::{
    Author, AuthorityStep, Command, NodeId, Rejection, RequestId, Revision, State, Timestamp, Told,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{Fleet, words};
use crate::mesh::MeshError;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::random;

/// How long a command is given again and again until somebody executes it.
pub const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// How long one node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The pause before a command is given again: long enough not to press, short beside an election.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a command waits on a node that was not given the state yet.
pub const JOINING: Duration = Duration::from_secs(5);
/// A command that was executed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The revision at which it holds.
    pub revision: Revision,
    /// The moment at which it was executed.
    pub at: Timestamp,
    /// What its author needs to know besides.
    pub told: Told,
    /// Whether anything differs from before; unknown of one that was executed earlier.
    pub changed: bool,
    /// When it was executed.
    pub made: Made,
}

/// When a command was executed.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// When it was given, which was the only time or the last.
    Now,
    /// When the same call had given it before: that answer was lost.
    Unheard,
    /// When an earlier call had given it with the same request.
    Before,
}

/// Why a command was not executed, or is not known to be.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The state refuses it.
    Rejected {
        /// Stable.
        code: String,
        /// In words.
        message: String,
        /// As HTTP has it: 409, 412, 422 …
        status: u16,
    },
    /// No quorum answered in time, and it was given to nobody.
    NoQuorum,
    /// It was given to somebody, and nobody said what became of it.
    Unknown,
    /// This node votes for nothing and knows nobody who does.
    NotControl,
    /// It could not be made durable.
    Storage(String),
    /// This node has no part in deciding any more; in words, why.
    Fenced(String),
    /// This node has joined and was not given the state yet.
    Joining,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { message, .. } => f.write_str(message),
            Self::NoQuorum => f.write_str("no quorum of control nodes answers"),
            Self::Unknown => f.write_str("nobody confirmed the command in time"),
            Self::NotControl => f.write_str("this node is not a control node"),
            Self::Storage(problem) | Self::Fenced(problem) => f.write_str(problem),
            Self::Joining => f.write_str("this node was not given the fleet's state yet"),
        }
    }
}

impl std::error::Error for WriteError {}

/// What a node says to a command that it was given.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) enum ProposeReply {
    Written(Written),
    Failed(WriteError),
    NotLeading(Option<NodeId>),
}

impl Fleet {
    /// Executes a command, whoever leads, once: whoever repeats it with the same request is told
    /// the same.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn write(
        &self,
        request: Option<RequestId>,
        author: Author,
        command: Command,
    ) -> Result<Written, WriteError> {
        // What a node says of itself is all that one without a vote may have written.
        let of_itself = matches!(
            command,
            Command::Report { .. }
                | Command::Authority {
                    step: AuthorityStep::Confirm { .. },
                    ..
                }
        );
        if self.source.consensus().is_none() && !of_itself {
            return Err(WriteError::NotControl);
        }
        let deadline = clock::instant() + WRITE_LIMIT;
        let request = request.unwrap_or_else(|| RequestId::new(random::bytes()));
        let mut commands = in_pieces(command);
        let last = commands.pop().ok_or(WriteError::Unknown)?;
        for piece in commands {
            // One that is there already is there.
            let request = RequestId::new(random::bytes());
            self.give(draft(request, author.clone(), piece), deadline)
                .await?;
        }
        self.give(draft(request, author, last), deadline).await
    }

    pub(super) async fn give(
        &self,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Written, WriteError> {
        let mut given = false;
        let mut leader = None;
        loop {
            if let Some(why) = self.why_fenced().filter(|_| !given) {
                return Err(WriteError::Fenced(why));
            }
            let reply = match leader.take().filter(|leader| *leader != self.me) {
                None => self.propose_here(draft.clone()).await,
                Some(leader) => self.propose_at(leader, &draft).await,
            };
            match reply {
                ProposeReply::Written(written) => {
                    return Ok(match written.made {
                        Made::Before if given => Written {
                            made: Made::Unheard,
                            ..written
                        },
                        Made::Now | Made::Unheard | Made::Before => written,
                    });
                }
                ProposeReply::Failed(WriteError::NoQuorum) => {}
                ProposeReply::Failed(WriteError::Unknown) => given = true,
                // It was given to the log before: it may have been made all the same.
                ProposeReply::Failed(WriteError::Storage(_)) if given => {
                    return Err(WriteError::Unknown);
                }
                ProposeReply::Failed(error) => return Err(error),
                ProposeReply::NotLeading(known) => leader = known,
            }
            if clock::instant() >= deadline {
                return Err(if given {
                    WriteError::Unknown
                } else {
                    WriteError::NoQuorum
                });
            }
            if leader.is_none() {
                sleep(AGAIN).await;
            }
        }
    }

    /// The fleet as the state has it. A control node that has just joined is given the state in a
    /// moment, for which it waits.
    pub(super) async fn known_state(&self) -> Result<Arc<State>, WriteError> {
        let deadline = clock::instant() + JOINING;
        loop {
            let state = self.source.state().ok_or(WriteError::NotControl)?;
            if state.fleet().is_some() {
                return Ok(state);
            }
            if self.mesh().is_none() {
                return Err(WriteError::NotControl);
            }
            if clock::instant() >= deadline {
                return Err(WriteError::Joining);
            }
            sleep(AGAIN).await;
        }
    }

    /// Why this node has no part in deciding any more, if it has none.
    #[must_use]
    pub fn why_fenced(&self) -> Option<String> {
        if let Some(later) = self.overtaken() {
            return Some(format!(
                "this node decides nothing any more: another process with its data (its {later}) was started later"
            ));
        }
        let epoch = self.fenced()?;
        Some(format!(
            "this node decides nothing any more: epoch {epoch} began without it"
        ))
    }

    /// Gives a command to this node's own consensus.
    pub(super) async fn propose_here(&self, draft: Draft) -> ProposeReply {
        let Some(consensus) = self.source.consensus() else {
            // Any control node knows who leads, and this one is asked another time if not.
            return ProposeReply::NotLeading(self.a_control_node());
        };
        if self.leads() && !self.clocks.may_stamp(self.me) {
            return ProposeReply::Failed(WriteError::NoQuorum);
        }
        // What nodes saw, each event with its own moment: the fleet's time does not pass because of it.
        let moment = if matches!(draft.command, Command::Record { .. }) {
            || Timestamp::from_millis(i64::MIN)
        } else {
            clock::now
        };
        match consensus.propose(draft, moment).await {
            Ok(applied) => ProposeReply::Written(Written {
                revision: applied.revision,
                at: applied.at,
                made: if applied.repeated {
                    Made::Before
                } else {
                    Made::Now
                },
                told: applied.told.clone(),
                changed: !applied.tenants.is_empty() || applied.fleet_changed,
            }),
            Err(ProposeError::Rejected(rejection)) => ProposeReply::Failed(refused(&rejection)),
            Err(ProposeError::NotLeader(leader)) => ProposeReply::NotLeading(leader),
            Err(ProposeError::NoQuorum) => ProposeReply::Failed(WriteError::NoQuorum),
            Err(ProposeError::Unknown) => ProposeReply::Failed(WriteError::Unknown),
            Err(error @ (ProposeError::Storage(_) | ProposeError::TooLarge { .. })) => {
                ProposeReply::Failed(WriteError::Storage(error.to_string()))
            }
        }
    }

    /// Gives a command to the node that leads, for as long as it is the one that leads.
    async fn propose_at(&self, leader: NodeId, draft: &Draft) -> ProposeReply {
        let Some(mesh) = self.mesh() else {
            return ProposeReply::NotLeading(None);
        };
        let request = match words::encode(draft) {
            Ok(request) => request,
            Err(problem) => return ProposeReply::Failed(WriteError::Storage(problem)),
        };
        let asked = mesh.call(leader.get(), words::PROPOSE, request, ANSWER_LIMIT);
        let answer = tokio::select! {
            answer = asked => answer,
            () = self.leads_no_longer(leader) => Err(MeshError::TimedOut),
        };
        match answer {
            // An answer that cannot be read says nothing about the command.
            Ok(answer) => {
                words::decode(&answer).unwrap_or(ProposeReply::Failed(WriteError::Unknown))
            }
            // It was never sent.
            Err(
                MeshError::NotAMember(_)
                | MeshError::NoAddress(_)
                | MeshError::Unreachable(_)
                | MeshError::Denied(_)
                | MeshError::NoService(_),
            ) => ProposeReply::NotLeading(None),
            // An answer that did not come says nothing either.
            Err(
                MeshError::TimedOut
                | MeshError::Broken(_)
                | MeshError::Refused(_)
                | MeshError::Frame(_)
                | MeshError::ShutDown,
            ) => ProposeReply::Failed(WriteError::Unknown),
        }
    }

    /// Ends when this node knows another leader, or none.
    async fn leads_no_longer(&self, leader: NodeId) {
        let Some(consensus) = self.source.consensus() else {
            // Whoever does not vote hears of no leader.
            return std::future::pending().await;
        };
        while consensus.status().leader == Some(leader) {
            sleep(AGAIN).await;
        }
    }
}

impl Fleet {
    /// The control nodes but this one.
    pub(super) fn other_control_nodes(&self) -> Vec<NodeId> {
        let view = self.source.view();
        let control = view.fleet().into_iter().flat_map(|fleet| fleet.control());
        let ids = control.map(|node| node.id);
        ids.filter(|node| *node != self.me).collect()
    }

    /// One of the control nodes, another each time.
    pub(super) fn a_control_node(&self) -> Option<NodeId> {
        let view = self.source.view();
        let control: Vec<NodeId> = view.fleet()?.control().map(|node| node.id).collect();
        let count = u32::try_from(control.len())
            .ok()
            .filter(|count| *count > 0)?;
        let chosen = u32::from_be_bytes(random::bytes()) % count;
        control.get(usize::try_from(chosen).ok()?).copied()
    }
}

fn draft(request: RequestId, author: Author, command: Command) -> Draft {
    Draft {
        request: Some(request),
        author,
        command,
    }
}

pub(super) fn refused(rejection: &Rejection) -> WriteError {
    let cause = std::error::Error::source(rejection)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    WriteError::Rejected {
        code: rejection.code().to_owned(),
        message: format!("{rejection}{cause}"),
        status: status(rejection),
    }
}

/// As HTTP says it: somebody else was faster (412 for a named tenant, 409 for the whole), or the
/// command cannot be.
fn status(rejection: &Rejection) -> u16 {
    match rejection.code() {
        "conflict" => 412,
        "stale_base" | "keeping_changed" => 409,
        "not_permitted" | "same_person" => 403,
        "no_such_pending" | "no_such_operator" => 404,
        _ => 422,
    }
}

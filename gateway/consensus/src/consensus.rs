//! The facade.

use crate::arriving::Arriving;
use crate::machine::{Published, Shown, Told};
use crate::network::{TransportError, answer};
use crate::opening::open;
use crate::settings::Settings;
use crate::tables;
use crate::types::{Payload, Raft};
use crate::writer::Thread;
use crate::{OpenError, ProposeError};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, ReadPolicy};
use portcullis_policy::{
    Applied, Author, Command, NodeId, Proposal, RequestId, State, Timestamp, View, encode_proposal,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

/// A command on its way to the leader, which says when it is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// By which a repetition is known.
    pub request: Option<RequestId>,
    /// Who proposes it.
    pub author: Author,
    /// What is proposed.
    pub command: Command,
}

/// Where consensus stands, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The last entry of this node's log.
    pub log: u64,
    /// The last entry that this node applied.
    pub applied: u64,
    /// On the leader: up to which entry each other node has the log.
    pub reached: BTreeMap<NodeId, u64>,
    /// Set once this node can take part no longer, until it is started again.
    pub failed: Option<String>,
}

/// Entries by which a node may be behind and still count as having caught up.
const NEARLY: u64 = 100;

impl Status {
    /// On the leader: whether a node has the log but for its last entries.
    #[must_use]
    pub fn caught_up(&self, node: NodeId) -> bool {
        self.reached
            .get(&node)
            .is_some_and(|reached| reached.saturating_add(NEARLY) >= self.log)
    }
}

/// The state of a fleet, and this node's part in agreeing on it.
pub struct Consensus {
    node: NodeId,
    raft: Raft,
    shown: Arc<Shown>,
    arriving: Arc<Arriving>,
    own: Mutex<Option<(Runtime, Thread)>>,
}

/// Threads of consensus' own runtime: customers' traffic does not hold up a heartbeat, and an
/// apply does not hold up the next.
const THREADS: usize = 2;
/// The largest proposal, in bytes. Larger ones hold up heartbeats.
pub const MAX_PROPOSAL: usize = 64 << 10;
/// How long a proposal may take to be executed.
const PROPOSAL: Duration = Duration::from_secs(5);
/// For how long a leader that is not known yet is waited for.
const LEADER: Duration = Duration::from_secs(2);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a change of the voters may take.
const MEMBERSHIP: Duration = Duration::from_secs(10);
/// How long another node may take to lead.
const HANDOVER: Duration = Duration::from_secs(5);
/// How long stopping may take.
const STOP: Duration = Duration::from_secs(5);

impl Consensus {
    /// Opens a state and takes part in agreeing on it.
    ///
    /// Reads all of the file, which is readable by its owner alone and open in one process at a
    /// time. What was shown before it was closed is shown again at once, with or without a quorum.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("consensus")
            .enable_all()
            .build()
            .map_err(|error| tables::io(&settings.path, error))?;
        let opening = runtime.spawn(open(settings));
        let opened = opening.await;
        match opened {
            Ok(Ok(opened)) => Ok(Self {
                node: opened.node,
                raft: opened.raft,
                shown: opened.shown,
                arriving: opened.arriving,
                own: Mutex::new(Some((runtime, opened.thread))),
            }),
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(OpenError::Engine(error.to_string()))
            }
        }
    }

    /// The latest view that this node knows to be decided, durable here. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shown.view.load_full()
    }

    /// The latest state that this node knows to be decided. Never waits.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.shown.state.load_full()
    }

    /// From now on, every view in its order.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.shown.told.subscribe())
    }

    /// Executes a command, whole or not at all. When it returns, a quorum has made it durable and
    /// this node shows it. `clock` is read when it is given to the log.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn propose(
        &self,
        draft: Draft,
        clock: impl FnOnce() -> Timestamp,
    ) -> Result<Arc<Applied>, ProposeError> {
        self.await_known_leader().await?;
        let Draft {
            request,
            author,
            command,
        } = draft;
        let proposal = Proposal {
            request,
            at: clock(),
            author,
            command,
        };
        let bytes =
            encode_proposal(&proposal).map_err(|error| ProposeError::Storage(error.to_string()))?;
        if bytes.len() > MAX_PROPOSAL {
            return Err(ProposeError::TooLarge {
                bytes: bytes.len(),
                maximum: MAX_PROPOSAL,
            });
        }
        let written = timeout(PROPOSAL, self.raft.client_write(Payload(bytes))).await;
        match written {
            Err(_) => Err(ProposeError::Unknown),
            Ok(Ok(response)) => match response.data.0 {
                Some(outcome) => outcome.map_err(ProposeError::Rejected),
                None => Err(ProposeError::Unknown),
            },
            Ok(Err(error)) => Err(not_written(error)),
        }
    }

    /// A leader is not known right after it was elected, nor in the middle of an election: that is
    /// waited for a little, so that whoever asks finds out whom to ask.
    async fn await_known_leader(&self) -> Result<(), ProposeError> {
        let waiting = async {
            loop {
                let status = self.status();
                if let Some(problem) = status.failed {
                    return Err(ProposeError::Storage(problem));
                }
                match status.leader {
                    Some(leader) if leader == self.node => return Ok(()),
                    Some(other) => return Err(ProposeError::NotLeader(Some(other))),
                    None => sleep(LOOK).await,
                }
            }
        };
        timeout(LEADER, waiting)
            .await
            .unwrap_or(Err(ProposeError::NoQuorum))
    }

    /// Asks a quorum, now, whether it follows this node. Only a leader gets a yes.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::NoQuorum`]
    pub async fn confirm(&self, within: Duration) -> Result<(), ProposeError> {
        let asked = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(within, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => match self.status().leader {
                Some(leader) if leader != self.node => Err(ProposeError::NotLeader(Some(leader))),
                Some(_) | None => {
                    tracing::debug!(%error, "a quorum did not confirm");
                    Err(ProposeError::NoQuorum)
                }
            },
            Err(_) => Err(ProposeError::NoQuorum),
        }
    }

    /// Answers what another node's [`crate::Transport`] carried here.
    ///
    /// # Errors
    /// In words: it is not a message of consensus, or a node spoke in the name of another.
    pub async fn answer(&self, from: NodeId, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        answer(&self.raft, &self.arriving, from, &request).await
    }

    /// Where consensus stands. Never waits.
    #[must_use]
    pub fn status(&self) -> Status {
        // Cloned at once: holding the borrow would hold up the engine.
        let metrics = self.raft.metrics().borrow_watched().clone();
        let ids = |ids: Vec<u64>| ids.into_iter().filter_map(NodeId::new).collect();
        let membership = metrics.membership_config.membership();
        let reached = metrics.replication.iter().flatten();
        let reached = reached
            .filter_map(|(node, log)| Some((NodeId::new(*node)?, log.map_or(0, |log| log.index))));
        Status {
            leader: metrics.current_leader.and_then(NodeId::new),
            term: metrics.current_term,
            voters: ids(membership.voter_ids().collect()),
            learners: ids(membership.learner_ids().collect()),
            log: metrics.last_log_index.unwrap_or_default(),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            reached: reached.collect(),
            failed: metrics.running_state.err().map(|error| error.to_string()),
        }
    }

    /// Waits until this node can take part no longer, and says why. What it did
    /// not make durable is known only by reading the file back.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Some(problem) = self.status().failed {
                if self.own().is_none() {
                    // It was told to stop.
                    return std::future::pending().await;
                }
                return problem;
            }
            if metrics.changed().await.is_err() {
                return "consensus has ended".to_owned();
            }
        }
    }

    /// Lets a node follow the log, without a vote. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ProposeError> {
        let added = self
            .raft
            .add_learner(node.get(), openraft::impls::EmptyNode {}, false);
        changed(timeout(MEMBERSHIP, added).await)
    }

    /// Gives a learner that has caught up a vote. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn promote(&self, node: NodeId) -> Result<(), ProposeError> {
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([node.get()]));
        changed(timeout(MEMBERSHIP, self.raft.change_membership(change, true)).await)
    }

    /// Takes a voter or learner out. For a leader, and not about itself.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn drop_member(&self, node: NodeId) -> Result<(), ProposeError> {
        let id = BTreeSet::from([node.get()]);
        let change = if self.status().voters.contains(&node) {
            ChangeMembers::RemoveVoters(id)
        } else {
            ChangeMembers::RemoveNodes(id)
        };
        changed(timeout(MEMBERSHIP, self.raft.change_membership(change, false)).await)
    }

    /// Lets another voter lead, and waits until this node does no longer. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn step_down(&self, to: NodeId) -> Result<(), ProposeError> {
        self.raft
            .trigger()
            .transfer_leader(to.get())
            .await
            .map_err(|error| ProposeError::Storage(error.to_string()))?;
        let waiting = async {
            while self
                .status()
                .leader
                .is_none_or(|leader| leader == self.node)
            {
                sleep(LOOK).await;
            }
        };
        timeout(HANDOVER, waiting)
            .await
            .map_err(|_| ProposeError::Unknown)
    }

    fn own(&self) -> MutexGuard<'_, Option<(Runtime, Thread)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops taking part; what was shown is durable.
    pub async fn shutdown(&self) {
        let own = self.own().take();
        let Some((runtime, thread)) = own else {
            return;
        };
        // It fails only where it has stopped already.
        drop(self.raft.shutdown().await);
        let stopped = tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(STOP);
            thread.join();
        });
        drop(timeout(STOP, stopped).await);
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        let own = self
            .own
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((runtime, _thread)) = own {
            // A runtime may not wait for its end inside another.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("node", &self.node)
            .field("revision", &self.view().revision())
            .finish_non_exhaustive()
    }
}

/// What is told of the state, in order.
pub struct Subscription(broadcast::Receiver<Told>);

/// What a subscriber hears next.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The next view.
    Next(Arc<Published>),
    /// Steps were missed: the latest view is the one to go on from.
    CatchUp,
    /// There will be no more.
    Closed,
}

impl Subscription {
    /// Waits for what is next. Giving up loses nothing.
    pub async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Ok(Told::Next(published)) => Heard::Next(published),
            Ok(Told::Replaced) | Err(broadcast::error::RecvError::Lagged(_)) => Heard::CatchUp,
            Err(broadcast::error::RecvError::Closed) => Heard::Closed,
        }
    }
}

fn not_written(
    error: RaftError<crate::types::Types, ClientWriteError<crate::types::Types>>,
) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            ProposeError::NotLeader(to.leader_id.and_then(NodeId::new))
        }
        RaftError::APIError(_) => ProposeError::Unknown,
        // It was given to the log, which may have reached others.
        RaftError::Fatal(_) => ProposeError::Unknown,
    }
}

fn changed<T>(
    outcome: Result<
        Result<T, RaftError<crate::types::Types, ClientWriteError<crate::types::Types>>>,
        tokio::time::error::Elapsed,
    >,
) -> Result<(), ProposeError> {
    match outcome {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(not_written(error)),
        Err(_) => Err(ProposeError::Unknown),
    }
}

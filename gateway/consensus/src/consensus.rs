//! The facade.

use crate::engine::Engine;
use crate::machine::{Published, Shown, Told};
use crate::network::{TransportError, answer};
use crate::payload;
use crate::reinstall;
use crate::roots::Rooted;
use crate::settings::Settings;
use crate::status::Status;
use crate::timing::Timing;
use crate::types::{Payload, Raft};
use crate::{OpenError, ProposeError};
use arc_swap::ArcSwap;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant, ReadPolicy};
use portcullis_policy::{
    Applied, Author, Command, NodeId, Proposal, RequestId, State, Timestamp, View, encode_proposal,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
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

/// The state of a fleet, and this node's part in agreeing on it.
pub struct Consensus {
    node: NodeId,
    settings: Settings,
    /// What it goes by now, whatever the settings said.
    pub(crate) timing: Mutex<Timing>,
    shown: Arc<Shown>,
    pub(crate) engine: ArcSwap<Engine>,
    /// Where consensus stood when this node was told to keep out of it.
    paused: Mutex<Option<Status>>,
    /// One at a time stops the engine or starts another.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

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
impl Consensus {
    /// Opens a state and takes part in agreeing on it.
    ///
    /// Reads all of the file, which is readable by its owner alone and open in one process at a
    /// time. What was shown before it was closed is shown again at once, with or without a quorum.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let (engine, shown) = Engine::start(settings.clone(), None).await?;
        Ok(Self {
            node: settings.node,
            timing: Mutex::new(settings.timing),
            settings,
            shown,
            engine: ArcSwap::from_pointee(engine),
            paused: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Opens the state again after this node failed: what it has is known by reading it back. What
    /// it showed stays shown.
    ///
    /// # Errors
    /// [`OpenError`]; the node keeps out as before. [`OpenError::may_pass`] says whether that may
    /// pass by itself.
    pub async fn reopen(&self) -> Result<(), OpenError> {
        let _turn = self.turn.lock().await;
        if self.paused().is_some() {
            return Err(OpenError::Engine("it was told to keep out".to_owned()));
        }
        self.engine.load().stop().await;
        let path = self.settings.path.clone();
        tokio::task::spawn_blocking(move || reinstall::probe(&path))
            .await
            .map_err(|error| OpenError::Engine(error.to_string()))??;
        self.start_again().await
    }

    /// Keeps out of consensus from now on: no vote, no entry, no lead. What was shown stays shown.
    pub async fn pause(&self) {
        let _turn = self.turn.lock().await;
        let before = self.keeping_out();
        self.paused().get_or_insert(before);
        self.engine.load().stop().await;
    }

    /// Lets go of a paused node's state, and waits for a leader's: like a new node, but for its
    /// vote. The node votes again once its state has come up to the entry `fence`; until then it
    /// shows what it showed.
    ///
    /// Only for a node that the leader has taken out of the voters and learners, durably: the
    /// majorities that it was counted in must be ones without it.
    ///
    /// # Errors
    /// [`OpenError`]; it may be tried again.
    pub async fn reinstall(&self, fence: u64) -> Result<(), OpenError> {
        let _turn = self.turn.lock().await;
        self.engine.load().stop().await;
        let (path, node, state) = (self.settings.path.clone(), self.node, self.state());
        tokio::task::spawn_blocking(move || reinstall::empty(&path, node, fence.max(1), &state))
            .await
            .map_err(|error| OpenError::Engine(error.to_string()))??;
        self.start_again().await
    }

    pub(crate) async fn start_again(&self) -> Result<(), OpenError> {
        let settings = self.settings.clone().again().with_timing(self.timing());
        let (engine, _) = Engine::start(settings, Some(Arc::clone(&self.shown))).await?;
        self.engine.store(Arc::new(engine));
        *self.paused() = None;
        Ok(())
    }

    /// Up to which entry this node's state must come before it votes again; none where it was not
    /// reinstalled.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.shown.fence()
    }

    /// What other nodes are told of this one's state: at most [`crate::ROOTS_TOLD`].
    #[must_use]
    pub fn roots_told(&self) -> Vec<Rooted> {
        self.shown.roots().told()
    }

    /// All that is remembered of it.
    #[must_use]
    pub fn roots_known(&self) -> Vec<Rooted> {
        self.shown.roots().known()
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
        let salt = self.settings.salts.filter(|_| self.shown.keeps_logs());
        let bytes = payload::encode(salt.map(|draw| draw()).as_ref(), bytes);
        let raft = self.raft();
        let written = timeout(PROPOSAL, raft.client_write(Payload(bytes))).await;
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
        let engine = self.engine.load_full();
        let asked = engine.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(within, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(error))) => {
                // One that panicked says so to whoever asks, and nowhere else.
                engine.broken.get_or_init(|| error.to_string());
                Err(ProposeError::NoQuorum)
            }
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
        let engine = self.engine.load_full();
        let fenced = self.shown.fence().is_some();
        answer(&engine.raft, &engine.arriving, from, fenced, &request).await
    }

    /// Where consensus stands. Never waits.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(paused) = self.paused().clone() {
            return paused;
        }
        // Cloned at once: holding the borrow would hold up the engine.
        let engine = self.engine.load_full();
        let metrics = engine.raft.metrics().borrow_watched().clone();
        let ids = |ids: Vec<u64>| ids.into_iter().filter_map(NodeId::new).collect();
        let membership = metrics.membership_config.membership();
        let reached = metrics.replication.iter().flatten();
        let reached =
            reached.filter_map(|(node, log)| Some((NodeId::new(*node)?, log.as_ref()?.index)));
        let silent = metrics.heartbeat.iter().flatten();
        let silent = silent.filter_map(|(node, acknowledged)| {
            Some((NodeId::new(*node)?, acknowledged.as_ref()?.elapsed()))
        });
        Status {
            leader: metrics.current_leader.and_then(NodeId::new),
            term: metrics.current_term,
            voters: ids(membership.voter_ids().collect()),
            learners: ids(membership.learner_ids().collect()),
            log: metrics.last_log_index.unwrap_or_default(),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            reached: reached.collect(),
            silent: silent.collect(),
            patience: self.timing().patience(),
            gone_back: engine.acknowledged.gone_back(),
            settled: membership.get_joint_config().len() == 1
                && *metrics.membership_config.log_id() <= metrics.last_applied,
            failed: metrics
                .running_state
                .err()
                .map(|error| error.to_string())
                .or_else(|| engine.broken.get().cloned()),
        }
    }

    /// How long the disk takes to make a write durable, the middle of the latest; none where there were
    /// few, or no clock.
    #[must_use]
    pub fn write_pace(&self) -> Option<Duration> {
        self.engine.load().pace.median()
    }

    /// Waits until this node can take part no longer, and says why. What it did
    /// not make durable is known only by reading the file back.
    pub async fn failed(&self) -> String {
        loop {
            let engine = self.engine.load_full();
            let mut metrics = engine.raft.metrics();
            // One that was told to stop has not failed, unless it was to go on.
            while engine.own().is_some() || engine.broken.get().is_some() {
                if let Some(problem) = self.status().failed {
                    return problem;
                }
                if metrics.changed().await.is_err() {
                    break;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Lets a node follow the log, without a vote. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ProposeError> {
        // It may come with nothing, also one that had all before.
        self.engine.load().acknowledged.forget(node);
        let raft = self.raft();
        let added = raft.add_learner(node.get(), openraft::impls::EmptyNode {}, false);
        changed(timeout(MEMBERSHIP, added).await)
    }

    /// Gives a learner that has caught up a vote. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn promote(&self, node: NodeId) -> Result<(), ProposeError> {
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([node.get()]));
        let raft = self.raft();
        changed(timeout(MEMBERSHIP, raft.change_membership(change, true)).await)
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
        let raft = self.raft();
        let dropped = timeout(MEMBERSHIP, raft.change_membership(change, false)).await;
        self.engine.load().acknowledged.forget(node);
        changed(dropped)
    }

    /// Lets another voter lead, and waits until this node does no longer. For a leader.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub async fn step_down(&self, to: NodeId) -> Result<(), ProposeError> {
        self.raft()
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

    /// Stops taking part; what was shown is durable.
    pub async fn shutdown(&self) {
        let _turn = self.turn.lock().await;
        self.engine.load().stop().await;
    }

    pub(crate) fn raft(&self) -> Raft {
        self.engine.load().raft.clone()
    }

    pub(crate) fn paused(&self) -> MutexGuard<'_, Option<Status>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The state was reinstalled: the latest view replaces what was shown before, whatever that said.
    Reinstalled,
    /// There will be no more.
    Closed,
}

impl Subscription {
    /// Waits for what is next. Giving up loses nothing.
    pub async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Ok(Told::Next(published)) => Heard::Next(published),
            Ok(Told::Reinstalled) => Heard::Reinstalled,
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

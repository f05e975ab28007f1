//! What control nodes say to each other, and how it travels: postcard over a [`Transport`].

use crate::acknowledged::Acknowledged;
use crate::arriving::Arriving;
use crate::image::Image;
use crate::types::{Raft, Snapshot, SnapshotMeta, Types, Vote};
use openraft::alias::VoteOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::EmptyNode;
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use portcullis_policy::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries the messages of consensus to other nodes, and their answers back. What arrives there
/// is given to [`crate::Consensus::answer`].
pub trait Transport: Send + Sync + 'static {
    /// Sends a request of at most [`MAX_MESSAGE`] bytes, and waits so long for its answer.
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>>;
}

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    problem: String,
    forged: bool,
}

impl TransportError {
    /// In words.
    #[must_use]
    pub fn new(problem: &str) -> Self {
        Self {
            problem: problem.to_owned(),
            forged: false,
        }
    }

    fn forged(from: NodeId, spoken_for: u64) -> Self {
        Self {
            problem: format!("node {from} spoke in the name of node {spoken_for}"),
            forged: true,
        }
    }

    /// Whether a node spoke in the name of another.
    #[must_use]
    pub fn is_forged(&self) -> bool {
        self.forged
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for TransportError {}

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = (1 << 20) + (256 << 10);
/// Bytes of a snapshot in one message.
const PIECE: usize = 1 << 20;

/// A request.
#[derive(Serialize, Deserialize)]
enum Asked {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    /// A piece of a snapshot, from this byte on.
    Piece {
        vote: Vote,
        transfer: u64,
        from: u64,
        bytes: Vec<u8>,
    },
    /// All pieces were sent.
    Install {
        transfer: u64,
        vote: Vote,
        meta: SnapshotMeta,
        digest: [u8; 32],
    },
}

/// A client of one peer.
pub(crate) struct Peer {
    to: NodeId,
    transport: Arc<dyn Transport>,
    acknowledged: Arc<Acknowledged>,
}

/// Makes clients.
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) acknowledged: Arc<Acknowledged>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer {
            // Ids come from the state, which has no node 0.
            to: NodeId::new(target).unwrap_or(NodeId::FIRST),
            transport: Arc::clone(&self.transport),
            acknowledged: Arc::clone(&self.acknowledged),
        }
    }
}

impl Peer {
    async fn ask<T: DeserializeOwned>(
        &self,
        asked: &Asked,
        within: Duration,
    ) -> Result<T, RPCError<Types>> {
        let request = postcard::to_stdvec(asked).map_err(network)?;
        let answer = self
            .transport
            .call(self.to, request, within)
            .await
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        let answer: Result<T, String> = postcard::from_bytes(&answer).map_err(network)?;
        answer.map_err(|problem| network(TransportError::new(&problem)))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        within: Duration,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let transfer = snapshot.meta.last_log_id.map_or(0, |last| last.index);
        let mut from = 0_u64;
        for piece in snapshot.snapshot.0.chunks(PIECE) {
            let asked = Asked::Piece {
                vote,
                transfer,
                from,
                bytes: piece.to_vec(),
            };
            let () = self.ask(&asked, within).await?;
            from = from.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        let digest = snapshot.snapshot.digest();
        let asked = Asked::Install {
            transfer,
            vote,
            meta: snapshot.meta,
            digest,
        };
        self.ask(&asked, INSTALL).await
    }
}

/// How long a peer may take to install a snapshot that it has.
const INSTALL: Duration = Duration::from_secs(30);
/// How many heartbeats long a peer may take to take entries. Where a datagram is lost, sending its
/// content again takes the transport less than giving up and beginning anew takes us. A heartbeat itself is
/// given up by whoever asked for it.
const APPEND: u32 = 4;
/// How long a peer may take to take a piece.
const PIECE_TAKEN: Duration = Duration::from_secs(5);

fn network(error: impl std::error::Error + 'static) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::error(error)))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (vote, before) = (rpc.vote, rpc.prev_log_id);
        let last = rpc.entries.last().map(|entry| entry.log_id).or(before);
        let within = option.hard_ttl().saturating_mul(APPEND);
        let answer = self.ask(&Asked::Append(rpc), within).await?;
        let up_to = match &answer {
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(up_to) => *up_to,
            AppendEntriesResponse::Conflict => {
                let index = before.map_or(0, |before| before.index);
                if self.acknowledged.lacks(self.to, vote, index) {
                    let gone = TransportError::new("its log lacks what it has acknowledged");
                    return Err(RPCError::Unreachable(Unreachable::new(&gone)));
                }
                None
            }
            AppendEntriesResponse::HigherVote(_) => None,
        };
        if let Some(up_to) = up_to {
            self.acknowledged.has(self.to, vote, up_to.index);
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(&Asked::Vote(rpc), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(&Asked::PreVote(rpc), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let last = snapshot.meta.last_log_id;
        let sent = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot, PIECE_TAKEN) => sent?,
        };
        if let Some(last) = last {
            self.acknowledged.has(self.to, vote, last.index);
        }
        Ok(sent)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask(&Asked::Transfer(request), option.hard_ttl()).await
    }
}

/// Answers a peer's request.
///
/// Whom the transport has found the sender to be must be the one in whose name it speaks: no member
/// can vote, lead or send a snapshot for another. A node that is `fenced` forgot what others may
/// count on it for: it votes for nobody.
pub(crate) async fn answer(
    raft: &Raft,
    arriving: &Arriving,
    from: NodeId,
    fenced: bool,
    request: &[u8],
) -> Result<Vec<u8>, TransportError> {
    let asked: Asked = postcard::from_bytes(request).map_err(|error| unclear(&error))?;
    let spoken_for = asked.speaks_for();
    if spoken_for != from.get() {
        return Err(TransportError::forged(from, spoken_for));
    }
    match asked {
        Asked::Vote(_) | Asked::PreVote(_) | Asked::Transfer(_) if fenced => Err(
            TransportError::new("this node reinstalls its state and votes when that is done"),
        ),
        Asked::Append(rpc) => reply(raft.append_entries(rpc).await),
        Asked::Vote(rpc) => reply(raft.vote(rpc).await),
        Asked::PreVote(rpc) => reply(raft.pre_vote(rpc).await),
        Asked::Transfer(rpc) => reply(raft.handle_transfer_leader(rpc).await),
        Asked::Piece {
            vote,
            transfer,
            from: at,
            bytes,
        } => {
            let own = raft.metrics().borrow_watched().current_term;
            if vote.leader_id().term < own {
                return reply::<(), _>(Err("it is of a term that is over"));
            }
            reply(arriving.take(from, transfer, at, &bytes))
        }
        Asked::Install {
            transfer,
            vote,
            meta,
            digest,
        } => match arriving.whole(from, transfer, digest) {
            Ok(snapshot) => {
                let snapshot = Snapshot { meta, snapshot };
                reply(raft.install_full_snapshot(vote, snapshot).await)
            }
            Err(problem) => reply::<SnapshotResponse<Types>, _>(Err(problem)),
        },
    }
}

impl Asked {
    /// In whose name it speaks: the candidate, or the leader.
    fn speaks_for(&self) -> u64 {
        let vote = match self {
            Self::Append(rpc) => &rpc.vote,
            Self::Vote(rpc) | Self::PreVote(rpc) => &rpc.vote,
            Self::Transfer(rpc) => rpc.from_leader(),
            Self::Piece { vote, .. } | Self::Install { vote, .. } => vote,
        };
        vote.leader_id().voted_for
    }
}

fn unclear(error: &postcard::Error) -> TransportError {
    TransportError::new(&error.to_string())
}

fn reply<T: Serialize, E: fmt::Display>(outcome: Result<T, E>) -> Result<Vec<u8>, TransportError> {
    let outcome = outcome.map_err(|error| error.to_string());
    postcard::to_stdvec(&outcome).map_err(|error| unclear(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opening::{Opened, open};
    use crate::settings::Settings;
    use openraft::raft::TransferLeaderRequest;
    use std::path::Path;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_speaks_in_the_name_of_another() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/tmp")
            .join(format!("forged-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir_all(&directory).unwrap();
        let Opened { raft, .. } = open(Settings::alone(&directory), None).await.unwrap();
        let term = raft.metrics().borrow_watched().current_term;
        let (candidate, leader) = (Vote::new(term + 9, 2), Vote::new_committed(term + 9, 2));
        let install = || Asked::Install {
            transfer: 1,
            vote: leader,
            meta: SnapshotMeta::default(),
            digest: [0; 32],
        };
        let piece = |vote| Asked::Piece {
            vote,
            transfer: 1,
            from: 0,
            bytes: vec![1],
        };
        let append = AppendEntriesRequest {
            vote: leader,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let spoken = [
            Asked::Append(append),
            Asked::Vote(VoteRequest::new(candidate, None)),
            Asked::PreVote(VoteRequest::new(candidate, None)),
            Asked::Transfer(TransferLeaderRequest::new(leader, 3, None)),
            piece(leader),
            install(),
        ];
        let arriving = Arriving::default();
        let other = NodeId::new(3).unwrap();
        for asked in spoken {
            let request = postcard::to_stdvec(&asked).unwrap();
            let told = answer(&raft, &arriving, other, false, &request).await;
            assert!(told.unwrap_err().is_forged());
        }
        // Nothing of it reached the engine.
        let now = raft.metrics().borrow_watched().clone();
        assert!(now.current_term < term + 9, "{now}");
        // In its own name, by a node that reinstalls its state.
        let own = NodeId::new(2).unwrap();
        for asked in [
            Asked::Vote(VoteRequest::new(candidate, None)),
            Asked::PreVote(VoteRequest::new(candidate, None)),
            Asked::Transfer(TransferLeaderRequest::new(leader, 1, None)),
        ] {
            let request = postcard::to_stdvec(&asked).unwrap();
            let told = answer(&raft, &arriving, own, true, &request).await;
            assert!(told.is_err(), "it voted");
        }
        let now = raft.metrics().borrow_watched().clone();
        assert!(now.current_term < term + 9, "{now}");
        // Of a term that is over.
        let told = |vote| {
            let request = postcard::to_stdvec(&piece(vote)).unwrap();
            let (raft, arriving) = (&raft, &arriving);
            async move {
                let told = answer(raft, arriving, own, false, &request).await.unwrap();
                postcard::from_bytes::<Result<(), String>>(&told).unwrap()
            }
        };
        assert_eq!(told(leader).await, Ok(()));
        raft.wait(None).current_leader(1, "alone").await.unwrap();
        assert!(told(Vote::new_committed(0, 2)).await.is_err());
        drop(raft.shutdown().await);
        drop(std::fs::remove_dir_all(&directory));
    }
}

//! What control nodes say to each other, and how it travels: postcard over a [`Transport`].

use crate::image::{Image, MAX_IMAGE};
use crate::types::{Raft, Snapshot, SnapshotMeta, Types, Vote};
use openraft::alias::VoteOf;
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
use std::sync::{Arc, Mutex, PoisonError};
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
pub struct TransportError(String);

impl TransportError {
    /// In words.
    #[must_use]
    pub fn new(problem: &str) -> Self {
        Self(problem.to_owned())
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
}

/// Makes clients.
pub(crate) struct Network(pub(crate) Arc<dyn Transport>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer {
            // Ids come from the state, which has no node 0.
            to: NodeId::new(target).unwrap_or(NodeId::FIRST),
            transport: Arc::clone(&self.0),
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
        answer.map_err(|problem| network(TransportError(problem)))
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
        self.ask(&Asked::Append(rpc), option.hard_ttl()).await
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
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot, PIECE_TAKEN) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask(&Asked::Transfer(request), option.hard_ttl()).await
    }
}

/// A snapshot that arrives in pieces; one at a time.
#[derive(Default)]
pub(crate) struct Arriving(Mutex<Option<Pieces>>);

struct Pieces {
    from: NodeId,
    transfer: u64,
    bytes: Vec<u8>,
}

impl Arriving {
    /// Takes a piece; one from the beginning starts anew.
    fn take(&self, from: NodeId, transfer: u64, at: u64, bytes: &[u8]) -> Result<(), String> {
        let mut arriving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if at == 0 {
            *arriving = Some(Pieces {
                from,
                transfer,
                bytes: Vec::new(),
            });
        }
        let pieces = arriving
            .as_mut()
            .filter(|pieces| pieces.from == from && pieces.transfer == transfer)
            .ok_or("there is no such snapshot on its way")?;
        if u64::try_from(pieces.bytes.len()) != Ok(at) {
            return Err("a piece of the snapshot is missing".to_owned());
        }
        if pieces.bytes.len().saturating_add(bytes.len()) > MAX_IMAGE {
            *arriving = None;
            return Err("the snapshot is larger than one may be".to_owned());
        }
        pieces.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn whole(&self, from: NodeId, transfer: u64, digest: [u8; 32]) -> Result<Image, String> {
        let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = pieces
            .filter(|pieces| pieces.from == from && pieces.transfer == transfer)
            .ok_or("there is no such snapshot on its way")?;
        let image = Image(Arc::new(pieces.bytes));
        if image.digest() == digest {
            Ok(image)
        } else {
            Err("the snapshot did not arrive as it was sent".to_owned())
        }
    }
}

/// Answers a peer's request.
pub(crate) async fn answer(
    raft: &Raft,
    arriving: &Arriving,
    from: NodeId,
    request: &[u8],
) -> Result<Vec<u8>, String> {
    let asked: Asked = postcard::from_bytes(request).map_err(|error| error.to_string())?;
    match asked {
        Asked::Append(rpc) => reply(raft.append_entries(rpc).await),
        Asked::Vote(rpc) => reply(raft.vote(rpc).await),
        Asked::PreVote(rpc) => reply(raft.pre_vote(rpc).await),
        Asked::Transfer(rpc) => reply(raft.handle_transfer_leader(rpc).await),
        Asked::Piece {
            transfer,
            from: at,
            bytes,
        } => reply(arriving.take(from, transfer, at, &bytes)),
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

fn reply<T: Serialize, E: fmt::Display>(outcome: Result<T, E>) -> Result<Vec<u8>, String> {
    let outcome = outcome.map_err(|error| error.to_string());
    postcard::to_stdvec(&outcome).map_err(|error| error.to_string())
}

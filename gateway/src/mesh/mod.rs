//! How the nodes of a fleet call each other: one QUIC connection per pair, mutually authenticated, calls and streams in both directions
//! over it, whoever opened it. The only room that knows `quinn`.
//!
//! A peer is who its certificate says, is a member with that very key as far as the caller of [`Mesh::set_members`] knows, lives in
//! the same epoch, and is the latest start of that node that was heard of. Whoever has no certificate may ask to join ([`JOIN`]) or, for a member's key, to have one
//! again ([`RENEW`]), and nothing else.
//!
//! Deliberately absent: what is said (the handler's business), TLS configuration (certs/), and any retry of a call: a call that failed
//! amid may have been performed.

mod accept;
mod call;
mod closing;
mod dial;
mod duplex;
mod error;
pub mod frame;
pub mod hello;
mod io;
pub mod limits;
mod links;
mod serve;
mod start;
mod stranger;
mod transport;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_world;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::fleet::FleetId;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use closing::Closing;
pub use duplex::{Duplex, DuplexReceiver, DuplexSender};
pub use error::{MeshError, Refused, StartError};
pub use links::{LinkStatus, Member};
pub use start::Start;
pub use stranger::{Answered, ask_as_stranger};

use crate::runtime::clock::{self, Duration};
use hello::Appended;
use links::Links;
use start::Said;

/// What a stranger calls who wants to be a node.
pub const JOIN: u8 = 0;

/// What a node calls to have another certificate issued for its key; as a stranger, where its own is over.
pub const RENEW: u8 = 0x7E;

/// Services have smaller numbers than this.
pub const SERVICES_END: u8 = 0x7F;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a mesh is made of.
pub struct MeshParts {
    /// Where others call; without it this node only calls, and answers over the connections that it opened.
    pub listen: Option<SocketAddr>,
    /// This node.
    pub node: u64,
    /// Its fleet.
    pub fleet: FleetId,
    /// The epoch that it lives in.
    pub epoch: u64,
    /// Which start of its process it is, as [`Start::signed`]; empty is not said.
    pub start: Vec<u8>,
    /// How it is called (`portcullis_certs::fleet::mesh_server_config`). Needed by those who listen.
    pub server: Option<Arc<ServerConfig>>,
    /// How it calls a node (`portcullis_certs::fleet::mesh_client_config`).
    pub client: Arc<dyn Fn(u64) -> Option<Arc<ClientConfig>> + Send + Sync>,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
    /// Who hears of refused connections.
    pub denied: Arc<dyn Fn(Denied) + Send + Sync>,
    /// 64 random bits, for back-off.
    pub random: fn() -> u64,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A member.
    Node(u64),
    /// Somebody without a certificate, who may only join.
    Stranger(SocketAddr),
}

/// Who answers.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call. A stranger calls nothing but [`JOIN`] and [`RENEW`].
    fn call(
        &self,
        from: Caller,
        service: u8,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Refused>>;

    /// Serves a stream until it ends. No stranger gets here.
    fn stream(&self, from: u64, service: u8, stream: Duplex) -> BoxFuture<'static, ()>;

    /// Hears what somebody with a certificate of the fleet says to prove that an epoch newer than this node's began. Whoever says so may
    /// lie, and need not be a member any more. Called on the path of a greeting: it must not wait.
    fn newer_epoch(&self, proof: &[u8]);

    /// Hears of a later start of this very node, as [`Start::signed`], for which a peer turned it away. Whoever shows it may lie; it must
    /// not wait.
    fn started_again(&self, later: &[u8]);
}

/// A refused connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: Closing,
    /// Whose address it was.
    pub address: SocketAddr,
    /// Who it claimed to be, by certificate if it had one, or else by greeting.
    pub claimed: Option<u64>,
    /// What else is known, for operators.
    pub detail: String,
}

/// This node's end of all connections. Cheap to clone; ends by [`Mesh::shutdown`].
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    node: u64,
    fleet: FleetId,
    endpoint: quinn::Endpoint,
    client: Arc<dyn Fn(u64) -> Option<Arc<ClientConfig>> + Send + Sync>,
    handler: Arc<dyn Handler>,
    denied: Arc<dyn Fn(Denied) + Send + Sync>,
    random: fn() -> u64,
    links: Links,
    /// What proves this node's epoch to whoever lives in an older one.
    proof: Mutex<Vec<u8>>,
    start: Vec<u8>,
    requests: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    calls: TaskTracker,
    stopping: CancellationToken,
}

impl Mesh {
    /// Opens the socket and, where it listens, begins to answer. Must be called inside a Tokio runtime. Nobody is a member yet.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(parts: MeshParts) -> Result<Self, StartError> {
        let endpoint = transport::endpoint(parts.listen, parts.server)?;
        let inner = Arc::new(Inner {
            node: parts.node,
            fleet: parts.fleet,
            endpoint,
            client: parts.client,
            handler: parts.handler,
            denied: parts.denied,
            random: parts.random,
            links: Links::new(parts.epoch),
            proof: Mutex::default(),
            start: parts.start,
            requests: Arc::new(Semaphore::new(limits::REQUEST_BYTES_TOTAL)),
            strangers: Arc::new(Semaphore::new(limits::STRANGERS)),
            calls: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        if parts.listen.is_some() {
            tokio::spawn(accept::run(Arc::clone(&inner)));
        }
        Ok(Self { inner })
    }

    /// Who belongs to the fleet now, and in which epoch. Connections of anybody else, of older epochs, and those to addresses that are
    /// no longer right are closed before this returns. An epoch never goes back.
    pub fn set_members(&self, epoch: u64, members: BTreeMap<u64, Member>) {
        self.inner.links.set_members(epoch, members);
    }

    /// What this node says from now on to prove its epoch, at most [`limits::PROOF_BYTES`]; more is not said.
    pub fn set_proof(&self, proof: Vec<u8>) {
        *self.inner.proof.lock() = proof;
    }

    /// Calls a member: one request, one answer, within that time altogether.
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn call(
        &self,
        to: u64,
        service: u8,
        request: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, MeshError> {
        let until = clock::instant() + within;
        let outcome = call::call(&self.inner, to, service, request, until).await;
        let name = outcome
            .as_ref()
            .map_or_else(MeshError::name, |_| "answered");
        metrics::counter!("portcullis_mesh_calls_total", "outcome" => name).increment(1);
        outcome
    }

    /// Opens a long-lived stream to a member.
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn open(&self, to: u64, service: u8) -> Result<Duplex, MeshError> {
        let opened = tokio::time::timeout(limits::HANDSHAKE, call::open(&self.inner, to, service));
        opened.await.unwrap_or(Err(MeshError::TimedOut))
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// Goes on with another socket; connections that this node opened survive it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn rebind(&self, listen: SocketAddr) -> std::io::Result<()> {
        self.inner.endpoint.rebind(transport::socket(Some(listen))?)
    }

    /// The live connections.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.inner.links.status()
    }

    /// Takes no further call, lets those being answered finish within that time, and tells every peer.
    pub async fn shutdown(&self, within: Duration) {
        self.inner.stopping.cancel();
        self.inner.calls.close();
        let _late = tokio::time::timeout(within, self.inner.calls.wait()).await;
        let code = Closing::ShutDown.code().into();
        self.inner
            .endpoint
            .close(code, Closing::ShutDown.name().as_bytes());
        let _late = tokio::time::timeout(FAREWELL, self.inner.endpoint.wait_idle()).await;
    }
}

impl Inner {
    fn hello(&self) -> hello::Hello {
        hello::Hello {
            version: hello::VERSION,
            fleet: self.fleet.0,
            epoch: self.links.epoch(),
            node: self.node,
        }
    }

    /// The greeting, ready to be sent; `later` is for one that is turned away for it.
    fn greeting(&self, ours: &hello::Hello, later: &[u8]) -> Result<Vec<u8>, MeshError> {
        let body = ours.encode_with(&Appended {
            proof: &self.proof.lock(),
            start: &self.start,
            later,
        });
        Ok(frame::encode(io::HELLO, &body, limits::HELLO_BYTES)?)
    }

    /// Passes on what proves a newer epoch.
    fn hear_of_newer(&self, greeting: &[u8]) {
        let proof = Appended::of(greeting).proof;
        if !proof.is_empty() {
            self.handler.newer_epoch(proof);
        }
    }

    /// Which start of its process a peer says that it is. What its key did not sign counts as not said.
    fn start_of(&self, greeting: &[u8], node: u64, key: &[u8; 32]) -> Option<Said> {
        let bytes = Appended::of(greeting).start;
        let start = Start::verified(bytes, self.fleet, node, key)?;
        let bytes = bytes.to_vec();
        Some(Said { start, bytes })
    }

    fn deny(&self, denied: Denied) {
        metrics::counter!("portcullis_mesh_denied_total", "code" => denied.reason.name())
            .increment(1);
        (self.denied)(denied);
    }
}

/// How long the farewell to the peers may take.
const FAREWELL: Duration = Duration::from_millis(500);

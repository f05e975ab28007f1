//! From a cluster of the policy to a verified connection with one of its databases.
//!
//! The order is fixed: resolve, check the address, make the socket where the cluster says,
//! connect, SSLRequest, TLS verified against the tenant's own authorities. Until the last step
//! has succeeded nothing but SSLRequest is sent, so a server that is not who it should be sees no
//! name and no credential.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use portcullis_certs::binding::tls_server_end_point;
use portcullis_certs::{Identity, client_config};
use portcullis_policy::{Backend, Cluster, ClusterId, TenantId, UpstreamTls};
use portcullis_wire::first::SSL_REQUEST;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::warn;

use super::addresses::{Resolver, Spelling, forbidden, literal};
use super::upstream_error::{Problem, Try, UpstreamError};
use crate::runtime::clock::{self, Instant};
use crate::runtime::dialer::Dialer;
use crate::runtime::sockets::Family;

/// A socket is made and connected within this time.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// SSLRequest is answered and TLS established within this time.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Servers that are tried for one connection.
pub const MAX_TRIES: usize = 2;
/// A backend that failed is tried after the others for this long. Short, so that the order which
/// the policy writes (a primary first) is soon followed again.
pub const BACKEND_REST: Duration = Duration::from_secs(10);
/// TLS configurations kept ready; one a cluster.
pub const MAX_PREPARED: usize = 4096;
/// Failed backends that are remembered.
const MAX_RESTING: usize = 4096;

/// The way to every cluster. One value serves the whole process.
#[derive(Debug)]
pub struct Upstreams {
    dialer: Dialer,
    resolver: Resolver,
    identities: BTreeMap<TenantId, Identity>,
    prepared: Mutex<BTreeMap<ClusterKey, Prepared>>,
    resting: Mutex<BTreeMap<(ClusterKey, usize), Instant>>,
}

/// A cluster is named by its tenant and its own id.
pub(super) type ClusterKey = (TenantId, ClusterId);

/// A connection to a database that may now be spoken to.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: UpstreamStream,
    /// The server's address: where a cancel request for this connection has to go.
    pub backend: SocketAddr,
    /// The `tls-server-end-point` hash of the server's certificate (RFC 5929 §4.1), for
    /// SCRAM-SHA-256-PLUS. `None` without TLS, or where it is undefined (Ed25519).
    pub end_point_hash: Option<Vec<u8>>,
}

impl Upstreams {
    /// `identities` are our database-client certificates, one a tenant, shown to the servers of
    /// that tenant which ask.
    #[must_use]
    pub fn new(dialer: Dialer, identities: BTreeMap<TenantId, Identity>) -> Self {
        Self {
            dialer,
            resolver: Resolver::new(),
            identities,
            prepared: Mutex::default(),
            resting: Mutex::default(),
        }
    }

    /// Our certificate towards `tenant`'s databases.
    #[must_use]
    pub fn identity(&self, tenant: &TenantId) -> Option<Identity> {
        self.identities.get(tenant).cloned()
    }

    /// The dialer that makes the sockets.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Connects to the first backend of `cluster` that can be reached and verified, in the
    /// policy's order except that one which failed a moment ago comes last; at most
    /// [`MAX_TRIES`] servers are tried.
    ///
    /// # Errors
    /// [`UpstreamError`] with every try in it.
    pub async fn connect(
        &self,
        tenant: &TenantId,
        id: &ClusterId,
        cluster: &Cluster,
    ) -> Result<Upstream, UpstreamError> {
        let key = (tenant.clone(), id.clone());
        let mut tries = Vec::new();
        let each = if cluster.backends.len() > 1 {
            1
        } else {
            MAX_TRIES
        };
        for (index, backend) in self.in_order(&key, &cluster.backends) {
            if tries
                .iter()
                .filter(|one: &&Try| !one.problem.is_local())
                .count()
                >= MAX_TRIES
            {
                break;
            }
            match self.connect_backend(&key, cluster, backend, each).await {
                Ok(upstream) => {
                    self.resting.lock().remove(&(key.clone(), index));
                    for failed in &tries {
                        warn!(%tenant, cluster = %id, reason = failed.problem.reason(), %failed, "backend passed over");
                    }
                    return Ok(upstream);
                }
                Err(failed) => {
                    self.rest(&key, index);
                    tries.extend(failed);
                }
            }
        }
        Err(UpstreamError {
            tenant: key.0,
            cluster: key.1,
            tries,
        })
    }

    /// Connects to one backend of `cluster`, at up to [`MAX_TRIES`] of its addresses. What `check`
    /// asks of each backend in turn.
    ///
    /// # Errors
    /// [`UpstreamError`] with every try in it.
    pub async fn connect_one(
        &self,
        tenant: &TenantId,
        id: &ClusterId,
        cluster: &Cluster,
        backend: &Backend,
    ) -> Result<Upstream, UpstreamError> {
        let key = (tenant.clone(), id.clone());
        self.connect_backend(&key, cluster, backend, MAX_TRIES)
            .await
            .map_err(|tries| UpstreamError {
                tenant: key.0,
                cluster: key.1,
                tries,
            })
    }

    /// Connects to the very server that `address` (from [`Upstream::backend`]) names, with the
    /// same checks: for a cancel request, which no other server would understand.
    ///
    /// # Errors
    /// [`UpstreamError`] with the one try in it.
    pub async fn connect_to(
        &self,
        tenant: &TenantId,
        id: &ClusterId,
        cluster: &Cluster,
        address: SocketAddr,
    ) -> Result<Upstream, UpstreamError> {
        let key = (tenant.clone(), id.clone());
        let written = cluster
            .backends
            .iter()
            .any(|b| literal(&b.host) == Some(address.ip()));
        let spelling = if written {
            Spelling::Literal
        } else {
            Spelling::Resolved
        };
        let connected = match forbidden(address.ip(), spelling) {
            None => self.connect_address(&key, cluster, address).await,
            Some(why) => Err(Problem::Forbidden { address, why }),
        };
        connected.map_err(|problem| UpstreamError {
            tenant: key.0,
            cluster: key.1,
            tries: vec![Try {
                backend: address.to_string(),
                address: Some(address),
                problem,
            }],
        })
    }

    /// Up to `most` addresses of one backend; those that cannot even be tried from here (no route,
    /// no IPv6) do not count.
    async fn connect_backend(
        &self,
        key: &ClusterKey,
        cluster: &Cluster,
        backend: &Backend,
        most: usize,
    ) -> Result<Upstream, Vec<Try>> {
        let written = backend.to_string();
        let failed = |address, problem| Try {
            backend: written.clone(),
            address,
            problem,
        };
        let addresses = match self.resolver.addresses(backend).await {
            Ok(addresses) => addresses,
            Err(problem) => return Err(vec![failed(None, problem)]),
        };
        let mut tries = Vec::new();
        let mut counted = 0;
        for address in addresses {
            if counted >= most {
                break;
            }
            match self.connect_address(key, cluster, address).await {
                Ok(upstream) => return Ok(upstream),
                Err(problem) => {
                    counted += usize::from(!problem.is_local());
                    tries.push(failed(Some(address), problem));
                }
            }
        }
        Err(tries)
    }

    async fn connect_address(
        &self,
        key: &ClusterKey,
        cluster: &Cluster,
        address: SocketAddr,
    ) -> Result<Upstream, Problem> {
        let tls = self.prepare(key, cluster)?;
        let tcp = timeout(CONNECT_LIMIT, self.open(cluster, address))
            .await
            .map_err(|_| Problem::ConnectTimeout)??;
        let Some((config, name)) = tls else {
            let stream = UpstreamStream::Plain(tcp);
            return Ok(Upstream {
                stream,
                backend: address,
                end_point_hash: None,
            });
        };
        let stream = timeout(HANDSHAKE_LIMIT, secure(tcp, config, name))
            .await
            .map_err(|_| Problem::HandshakeTimeout)??;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let end_point_hash = leaf.and_then(|leaf| tls_server_end_point(leaf).ok());
        let stream = UpstreamStream::Tls(Box::new(stream));
        Ok(Upstream {
            stream,
            backend: address,
            end_point_hash,
        })
    }

    async fn open(&self, cluster: &Cluster, address: SocketAddr) -> Result<TcpStream, Problem> {
        let socket = self
            .dialer
            .tcp_socket(cluster.via.as_ref(), Family::of(address))
            .await
            .map_err(Problem::Dialer)?;
        // tokio takes any TCP socket by this name, connected or not.
        let socket = TcpSocket::from_std_stream(socket.into());
        socket.connect(address).await.map_err(Problem::Connect)
    }

    /// The TLS configuration of a cluster, built when it is first needed or has changed. `None`
    /// where the policy says in words that there is no TLS.
    fn prepare(&self, key: &ClusterKey, cluster: &Cluster) -> Result<Option<Ready>, Problem> {
        let (server_name, authorities) = match &cluster.tls {
            UpstreamTls::Unencrypted => return Ok(None),
            UpstreamTls::Verified {
                server_name,
                authorities,
            } => (server_name, authorities),
        };
        let identity = self.identity(&key.0);
        let fingerprint = identity.as_ref().map(Identity::fingerprint);
        if let Some(kept) = self.prepared.lock().get(key)
            && kept.tls == cluster.tls
            && kept.fingerprint == fingerprint
        {
            return Ok(Some(kept.ready.clone()));
        }
        let name = ServerName::try_from(server_name.clone())
            .map_err(|_| Problem::ServerName(server_name.clone()))?;
        let config =
            client_config(authorities, identity.as_ref()).map_err(Problem::Configuration)?;
        let ready = (config, name);
        let mut prepared = self.prepared.lock();
        if prepared.len() >= MAX_PREPARED && !prepared.contains_key(key) {
            prepared.pop_first();
        }
        let kept = Prepared {
            tls: cluster.tls.clone(),
            fingerprint,
            ready: ready.clone(),
        };
        prepared.insert(key.clone(), kept);
        Ok(Some(ready))
    }

    /// The policy's order, those that rest at the end.
    fn in_order<'a>(&self, key: &ClusterKey, backends: &'a [Backend]) -> Vec<(usize, &'a Backend)> {
        let now = clock::instant();
        let resting = self.resting.lock();
        let is_resting = |index| {
            resting
                .get(&(key.clone(), index))
                .is_some_and(|until| *until > now)
        };
        let (tired, mut order): (Vec<_>, Vec<_>) = backends
            .iter()
            .enumerate()
            .partition(|(index, _)| is_resting(*index));
        order.extend(tired);
        order
    }

    fn rest(&self, key: &ClusterKey, index: usize) {
        let now = clock::instant();
        let mut resting = self.resting.lock();
        if resting.len() >= MAX_RESTING {
            resting.retain(|_, until| *until > now);
        }
        if resting.len() < MAX_RESTING {
            resting.insert((key.clone(), index), now + BACKEND_REST);
        }
    }
}

#[derive(Debug)]
struct Prepared {
    tls: UpstreamTls,
    fingerprint: Option<[u8; 32]>,
    ready: Ready,
}

type Ready = (Arc<ClientConfig>, ServerName<'static>);

/// SSLRequest, its one-byte answer, the handshake.
async fn secure(
    mut tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, Problem> {
    tcp.write_all(&SSL_REQUEST).await.map_err(Problem::Answer)?;
    // Exactly one byte: whatever follows stays in the kernel, where it can only be taken for TLS.
    match tcp.read_u8().await.map_err(Problem::Answer)? {
        b'S' => {}
        b'N' => return Err(Problem::TlsNotOffered),
        b'E' => return Err(Problem::ErrorBeforeTls),
        other => return Err(Problem::NotPostgres(other)),
    }
    // A server says nothing between `S` and our ClientHello (CVE-2021-23222). Looking costs one
    // system call and gives the attack its name; unseen bytes would fail as a TLS record.
    match SockRef::from(&tcp).peek(&mut [std::mem::MaybeUninit::uninit()]) {
        Ok(0) => return Err(Problem::Answer(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => return Err(Problem::BytesBeforeTls),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(Problem::Answer(e)),
    }
    TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(Problem::of_handshake)
}

/// A connection to a database: under TLS, or in the clear where the policy says so in words.
#[derive(Debug)]
pub enum UpstreamStream {
    /// Under verified TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// In the clear.
    Plain(TcpStream),
}

impl UpstreamStream {
    /// The TCP connection underneath, for its addresses and options.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tls(stream) => stream.get_ref().0,
            Self::Plain(stream) => stream,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

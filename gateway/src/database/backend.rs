//! The end of a query at the database: asked for, and then looked for. A closed socket is not the
//! end of the work (a backend notices only when it next writes; YugabyteDB may not even heed a
//! cancel request), so whoever stops a connection sees to it here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_wire::Complaint;
use portcullis_wire::cancel::CancelRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::departures;
use super::service::{At, ServiceError, Services, Target};
use super::upstream::Upstreams;
use super::upstream_error::UpstreamError;
use crate::runtime::clock;

/// A backend has this long to end after a cancel request.
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// Then it is terminated, and has this long.
pub const TERMINATE_PATIENCE: Duration = Duration::from_secs(4);
/// The server has taken a cancel request, and closed, within this time.
pub const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// One backend process, as BackendKeyData and [`Upstream`](super::Upstream) named it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The cluster it belongs to, as it was when it was connected to.
    pub target: Target,
    /// The server it runs on.
    pub server: SocketAddr,
    /// Its process id and cancel secret.
    pub key: CancelRequest,
}

impl Backend {
    /// A backend of `target`, running on `server`.
    ///
    /// # Errors
    /// [`Complaint::CancelLength`] unless the secret has 4 to 256 bytes.
    pub fn new(
        target: Target,
        server: SocketAddr,
        pid: u32,
        secret: &[u8],
    ) -> Result<Self, Complaint> {
        Ok(Self {
            target,
            server,
            key: CancelRequest::new(pid, secret)?,
        })
    }

    /// Its process id. Ids above the signed range do not exist; such a number finds nothing.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.key.pid()).unwrap_or(i32::MAX)
    }
}

/// Sees to the end of a backend whose connection was closed: its query is cancelled; if it is
/// still there after [`CANCEL_PATIENCE`] it is terminated; after [`TERMINATE_PATIENCE`] more it is
/// reported as still there. Never fails: what could not be seen is said in the answer.
pub async fn see_gone(services: &Arc<Services>, backend: &Backend) -> Seen {
    let began = clock::instant();
    let ending = ending(services, backend).await;
    Seen {
        ending,
        took: clock::instant().duration_since(began),
    }
}

async fn ending(services: &Arc<Services>, backend: &Backend) -> Ending {
    let mut departure = departures::watch(services, backend);
    let turns = Arc::clone(&departure.turns);
    // The cancel request goes out whether or not the service role can look; at once, unless many
    // are on their way to the same server: by its turn an idle backend has left by itself.
    let cancelling = async {
        let _turn = turns.acquire().await;
        cancel(services.upstreams(), backend).await
    };
    tokio::pin!(cancelling);
    let unseen = |cancelled: Result<(), CancelError>, why: &ServiceError| Ending::Unseen {
        cancel: match cancelled {
            Ok(()) => CancelOutcome::Delivered,
            Err(error) => CancelOutcome::Undelivered(error.to_string()),
        },
        why: why.to_string(),
    };
    let cancelled = tokio::select! {
        biased;
        gone = departure.gone() => match gone {
            Ok(()) => return Ending::Gone,
            Err(why) => return unseen(cancelling.await, &why),
        },
        cancelled = &mut cancelling => cancelled,
    };
    match timeout(CANCEL_PATIENCE, departure.gone()).await {
        Ok(Ok(())) => return Ending::Gone,
        Ok(Err(why)) => return unseen(cancelled, &why),
        Err(_) => {}
    }
    let terminated = match departure.started().await {
        Ok(Some(started)) => terminate(services, backend, started).await,
        Ok(None) => return Ending::Gone,
        Err(why) => Err(why),
    };
    if let Err(why) = terminated {
        return unseen(cancelled, &why);
    }
    match timeout(TERMINATE_PATIENCE, departure.gone()).await {
        Ok(Ok(())) => Ending::Terminated,
        Ok(Err(why)) => unseen(cancelled, &why),
        Err(_) => Ending::StillThere,
    }
}

/// How the end of a backend was seen, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How.
    pub ending: Ending,
    /// From the beginning of [`see_gone`].
    pub took: Duration,
}

/// How a backend ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is gone: of itself, or after the cancel request.
    Gone,
    /// It is gone, but had to be terminated.
    Terminated,
    /// It heeded neither.
    StillThere,
    /// Nobody could look (no service role, or the service connection failed).
    Unseen {
        /// What became of the cancel request.
        cancel: CancelOutcome,
        /// Why nobody could look.
        why: String,
    },
}

/// What became of a cancel request, as far as can be known: it is never answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The server took it.
    Delivered,
    /// It did not arrive, because of this.
    Undelivered(String),
}

impl Ending {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Terminated => "terminated",
            Self::StillThere => "still_there",
            Self::Unseen { .. } => "unseen",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the backend is gone"),
            Self::Terminated => f.write_str("the backend is gone after it was terminated"),
            Self::StillThere => f.write_str("the backend is still there, though terminated"),
            Self::Unseen {
                cancel: CancelOutcome::Delivered,
                why,
            } => {
                write!(
                    f,
                    "the query was cancelled, but its end could not be seen: {why}"
                )
            }
            Self::Unseen {
                cancel: CancelOutcome::Undelivered(error),
                why,
            } => write!(
                f,
                "the query could not be cancelled ({error}) and its end could not be seen: {why}"
            ),
        }
    }
}

/// Sends a cancel request to the backend's server, under TLS where the cluster is, and waits until
/// the server has taken it (it closes).
///
/// # Errors
/// [`CancelError`].
pub async fn cancel(upstreams: &Upstreams, backend: &Backend) -> Result<(), CancelError> {
    let Target {
        tenant,
        id,
        cluster,
    } = &backend.target;
    let mut upstream = upstreams
        .connect_to(tenant, id, cluster, backend.server)
        .await
        .map_err(CancelError::Upstream)?;
    let exchange = async {
        upstream.stream.write_all(&backend.key.encode()).await?;
        upstream.stream.flush().await?;
        // The end of the stream says that the signal was sent; how it ends says nothing, and a
        // server that answers a cancel request is not listened to.
        let _ = upstream.stream.read(&mut [0u8; 1]).await;
        Ok(())
    };
    match timeout(CANCEL_LIMIT, exchange).await {
        Ok(result) => result.map_err(CancelError::Sending),
        Err(_) => Err(CancelError::Late),
    }
}

/// Terminates the process that was started at `began`. `false` if the database would not: it is
/// gone, a superuser's, or not connected from where our service connection comes from.
///
/// # Errors
/// [`ServiceError`].
pub async fn terminate(
    services: &Services,
    backend: &Backend,
    began: i64,
) -> Result<bool, ServiceError> {
    const QUESTION: &str = "SELECT portcullis.stop_backend($1, $2)";
    let pid = backend.pid();
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&pid, Type::INT4), (&began, Type::INT8)];
    let rows = services
        .ask(
            &backend.target,
            At::Server(backend.server),
            QUESTION,
            &parameters,
        )
        .await?;
    match rows.first() {
        Some(row) => row.try_get(0).map_err(|e| ServiceError::Answer(e.into())),
        None => Ok(false),
    }
}

/// A cancel request did not arrive.
#[derive(Debug)]
pub enum CancelError {
    /// The server could not be reached and verified.
    Upstream(UpstreamError),
    /// The connection broke while it was being sent.
    Sending(io::Error),
    /// The server did not take it within [`CANCEL_LIMIT`].
    Late,
}

impl CancelError {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.reason(),
            Self::Sending(_) => "cancel_sending",
            Self::Late => "cancel_late",
        }
    }
}

impl fmt::Display for CancelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => error.fmt(f),
            Self::Sending(error) => write!(f, "the connection broke: {error}"),
            Self::Late => f.write_str("the server did not take the cancel request in time"),
        }
    }
}

impl std::error::Error for CancelError {}

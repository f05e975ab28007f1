//! The end of a query at the database: asked for, and then looked for. A closed socket is not the
//! end of the work (a backend notices only when it next writes; YugabyteDB may not even heed a
//! cancel request), so whoever stops a connection sees to it here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_wire::Complaint;
use portcullis_wire::cancel::CancelRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;

use super::service::{At, ServiceError, Services, Target};
use super::upstream::Upstreams;
use super::upstream_error::UpstreamError;
use crate::runtime::clock;

/// A backend has this long to end after a cancel request.
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// Then it is terminated, and has this long.
pub const TERMINATE_PATIENCE: Duration = Duration::from_secs(4);
/// How often it is looked for meanwhile.
pub const LOOK_EVERY: Duration = Duration::from_millis(25);
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
    fn pid(&self) -> i32 {
        i32::try_from(self.key.pid()).unwrap_or(i32::MAX)
    }
}

/// Sees to the end of a backend whose connection was closed: its query is cancelled; if it is
/// still there after [`CANCEL_PATIENCE`] it is terminated; after [`TERMINATE_PATIENCE`] more it is
/// reported as still there. Never fails: what could not be seen is said in the answer.
pub async fn see_gone(services: &Services, backend: &Backend) -> Seen {
    let began = clock::instant();
    let seen = |ending| Seen {
        ending,
        took: clock::instant().duration_since(began),
    };

    // The cancel request goes out at once, whether or not the service role can look.
    let (cancelled, started) = tokio::join!(
        cancel(services.upstreams(), backend),
        started(services, backend)
    );
    let unseen = |why: String| {
        let cancel = match &cancelled {
            Ok(()) => CancelOutcome::Delivered,
            Err(error) => CancelOutcome::Undelivered(error.to_string()),
        };
        Ending::Unseen { cancel, why }
    };
    let started = match started {
        Ok(Some(started)) => started,
        Ok(None) => return seen(Ending::Gone),
        Err(error) => return seen(unseen(error.to_string())),
    };
    match wait(services, backend, started, CANCEL_PATIENCE).await {
        Ok(true) => return seen(Ending::Gone),
        Ok(false) => {}
        Err(error) => return seen(unseen(error.to_string())),
    }
    if let Err(error) = terminate(services, backend, started).await {
        return seen(unseen(error.to_string()));
    }
    match wait(services, backend, started, TERMINATE_PATIENCE).await {
        Ok(true) => seen(Ending::Terminated),
        Ok(false) => seen(Ending::StillThere),
        Err(error) => seen(unseen(error.to_string())),
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

/// When the backend was started, in microseconds since 1970; `None` if there is no process of its
/// id. Together with the id it names a process for good: ids come round again.
///
/// # Errors
/// [`ServiceError`].
pub async fn started(services: &Services, backend: &Backend) -> Result<Option<i64>, ServiceError> {
    const QUESTION: &str = "SELECT portcullis.backend_started($1)";
    let pid = backend.pid();
    let rows = services
        .ask(
            &backend.target,
            At::Server(backend.server),
            QUESTION,
            &[(&pid, Type::INT4)],
        )
        .await?;
    match rows.first() {
        Some(row) => row.try_get(0).map_err(|e| ServiceError::Answer(e.into())),
        None => Ok(None),
    }
}

/// Whether the process that was started at `started` is gone.
///
/// # Errors
/// [`ServiceError`].
pub async fn is_gone(
    services: &Services,
    backend: &Backend,
    began: i64,
) -> Result<bool, ServiceError> {
    Ok(started(services, backend).await? != Some(began))
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

/// Looks until the backend is gone or patience ends.
async fn wait(
    services: &Services,
    backend: &Backend,
    started: i64,
    patience: Duration,
) -> Result<bool, ServiceError> {
    let until = clock::instant() + patience;
    loop {
        if is_gone(services, backend, started).await? {
            return Ok(true);
        }
        if clock::instant() >= until {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
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

//! Our own conversations with the databases: one signed-in connection to each cluster (and to one
//! server of it, where a process id must be looked up there), as the service role, by our
//! database-client certificate.
//!
//! A connection is made when the first question needs it, shared by all, closed when nobody has
//! asked for a while, and after a failure not tried again before a growing pause, during which
//! questions are answered with that failure at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portcullis_policy::{Cluster, ClusterId, TenantId};
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Connection, NoTls, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::allowance::{Allowance, Metered};
use super::departures::Departures;
use super::promise::{Promise, promise};
pub use super::service_error::ServiceError;
use super::upstream::{Upstream, UpstreamStream, Upstreams};
use crate::runtime::clock::{self, Instant};

/// Signing in takes no longer than this, once connected.
pub const SIGN_IN_LIMIT: Duration = Duration::from_secs(5);
/// A question is answered within this time, or the connection is given up.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The database itself stops working on a question after this long.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// A connection that nobody used for this long is closed.
pub const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// The pause after a first failure; each further one doubles it,
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// up to this.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Service connections (and remembered failures) of the whole process.
pub const MAX_CONNECTIONS: usize = 4096;
/// What a server may send while we sign in, in bytes.
const MAX_START_BYTES: usize = 64 * 1024;
/// What it may send after a question, in bytes; questions asked at the same time share it.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The service connections of this process.
#[derive(Debug)]
pub struct Services {
    upstreams: Arc<Upstreams>,
    slots: Arc<Mutex<BTreeMap<SlotKey, Slot>>>,
    pub(super) departures: Departures,
    pub(super) tasks: TaskTracker,
    stop: CancellationToken,
}

/// Which of a cluster's servers shall answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// Any: roles are the same on all of them.
    Any,
    /// This one: process ids are its own.
    Server(SocketAddr),
}

/// A cluster as the policy has it, named.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name there.
    pub id: ClusterId,
    /// What it is.
    pub cluster: Arc<Cluster>,
}

impl Services {
    /// No connection is made before the first question.
    #[must_use]
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        Self {
            upstreams,
            slots: Arc::default(),
            departures: Departures::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The way to the clusters that the connections are made by.
    #[must_use]
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// Closes every connection and waits for their tasks. Questions asked afterwards fail.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Asks one question with typed parameters. It must be one that may be asked twice: a
    /// connection that turns out to be dead is replaced once.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(super) async fn ask(
        &self,
        target: &Target,
        at: At,
        question: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, ServiceError> {
        let first = self.ask_once(target, at, question, parameters).await;
        match first {
            Err(ServiceError::Lost(_)) => self.ask_once(target, at, question, parameters).await,
            other => other,
        }
    }

    async fn ask_once(
        &self,
        target: &Target,
        at: At,
        question: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, ServiceError> {
        let live = self.live(target, at).await?;
        live.ask(question, parameters).await.inspect_err(|error| {
            // A connection that does not answer is not asked again.
            if !matches!(error, ServiceError::Answer(_)) {
                live.end.cancel();
            }
        })
    }

    /// The connection, made if there is none.
    async fn live(&self, target: &Target, at: At) -> Result<Live, ServiceError> {
        let pending = match self.find_or_start(target, at)? {
            Found::Live(live) => return Ok(live),
            Found::Pending(pending) => pending,
        };
        pending.wait().await.unwrap_or(Err(ServiceError::Stopped))
    }

    fn find_or_start(&self, target: &Target, at: At) -> Result<Found, ServiceError> {
        if target.cluster.service.is_none() {
            return Err(ServiceError::NotConfigured);
        }
        if self.stop.is_cancelled() {
            return Err(ServiceError::Stopped);
        }
        let key = (target.tenant.clone(), target.id.clone(), at);
        let mut slots = self.slots.lock();
        let kept = slots
            .get(&key)
            .filter(|slot| is_same(&slot.cluster, &target.cluster));
        let failures = match kept.map(|slot| &slot.state) {
            Some(State::Live(live)) if live.is_usable() => return Ok(Found::Live(live.clone())),
            Some(State::Connecting(pending)) if !pending.is_broken() => {
                return Ok(Found::Pending(pending.clone()));
            }
            Some(State::Resting { until, error, .. }) if *until > clock::instant() => {
                return Err(error.clone());
            }
            Some(State::Resting { failures, .. }) => *failures,
            Some(State::Live(_) | State::Connecting(_)) | None => 0,
        };
        if slots.len() >= MAX_CONNECTIONS && !slots.contains_key(&key) {
            slots.retain(|_, slot| slot.is_in_use());
            if slots.len() >= MAX_CONNECTIONS {
                return Err(ServiceError::TooMany);
            }
        }
        let (fulfil, pending) = promise();
        let state = State::Connecting(pending.clone());
        slots.insert(
            key.clone(),
            Slot {
                cluster: Arc::clone(&target.cluster),
                state,
            },
        );
        drop(slots);

        let connecting = Connecting {
            upstreams: Arc::clone(&self.upstreams),
            target: target.clone(),
            at,
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        let slots = Arc::clone(&self.slots);
        self.tasks.spawn(async move {
            let stop = connecting.stop.clone();
            let cluster = Arc::clone(&connecting.target.cluster);
            let result = tokio::select! {
                () = stop.cancelled() => Err(ServiceError::Stopped),
                result = connecting.connect() => result,
            };
            let state = match &result {
                Ok(live) => State::Live(live.clone()),
                Err(error) => State::Resting {
                    until: clock::instant() + pause(failures),
                    failures: failures.saturating_add(1),
                    error: error.clone(),
                },
            };
            // Somebody may have begun again meanwhile, for a cluster that changed: theirs stays.
            if let Some(slot) = slots.lock().get_mut(&key)
                && Arc::ptr_eq(&slot.cluster, &cluster)
            {
                slot.state = state;
            }
            fulfil.with(result);
        });
        Ok(Found::Pending(pending))
    }
}

enum Found {
    Live(Live),
    Pending(Promise<Result<Live, ServiceError>>),
}

type SlotKey = (TenantId, ClusterId, At);

#[derive(Debug)]
struct Slot {
    cluster: Arc<Cluster>,
    state: State,
}

#[derive(Debug)]
enum State {
    Connecting(Promise<Result<Live, ServiceError>>),
    Live(Live),
    Resting {
        until: Instant,
        failures: u32,
        error: ServiceError,
    },
}

impl Slot {
    fn is_in_use(&self) -> bool {
        match &self.state {
            State::Connecting(pending) => !pending.is_broken(),
            State::Live(live) => live.is_usable(),
            State::Resting { until, .. } => *until > clock::instant(),
        }
    }
}

/// The pause after so many failures before this one.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(LONGEST_PAUSE)
}

/// Whether what a connection was made for is still what the policy says.
pub(super) fn is_same(kept: &Arc<Cluster>, wanted: &Arc<Cluster>) -> bool {
    Arc::ptr_eq(kept, wanted) || kept == wanted
}

/// A signed-in connection. Cheap to clone; all clones are the same connection.
#[derive(Clone, Debug)]
pub(super) struct Live {
    client: Arc<Client>,
    allowance: Allowance,
    used: Arc<Mutex<Instant>>,
    end: CancellationToken,
}

impl Live {
    fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.end.is_cancelled()
    }

    pub(super) async fn ask(
        &self,
        question: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, ServiceError> {
        *self.used.lock() = clock::instant();
        self.allowance.renew(MAX_ANSWER_BYTES);
        match timeout(ANSWER_LIMIT, self.client.query_typed(question, parameters)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) if is_over(&error) => Err(ServiceError::Lost(Arc::new(error))),
            Ok(Err(error)) => Err(ServiceError::Answer(Arc::new(error))),
            Err(_) => Err(ServiceError::Late),
        }
    }

    /// Ends the connection.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

/// Whether the connection is gone, or the server is about to end it (shutting down, crashing).
fn is_over(error: &tokio_postgres::Error) -> bool {
    let leaving = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    error.is_closed() || error.code().is_some_and(|code| leaving.contains(code))
}

/// What making one connection takes.
struct Connecting {
    upstreams: Arc<Upstreams>,
    target: Target,
    at: At,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connecting {
    async fn connect(self) -> Result<Live, ServiceError> {
        let Target {
            tenant,
            id,
            cluster,
        } = &self.target;
        let service = cluster
            .service
            .as_ref()
            .ok_or(ServiceError::NotConfigured)?;
        let connected = match self.at {
            At::Any => self.upstreams.connect(tenant, id, cluster).await,
            At::Server(address) => {
                self.upstreams
                    .connect_to(tenant, id, cluster, address)
                    .await
            }
        };
        let upstream = connected.map_err(|e| ServiceError::Upstream(Arc::new(e)))?;
        let (live, connection) = sign_in(upstream, &service.role, &service.database).await?;
        live.drive(connection, &self.tasks, self.stop);
        Ok(live)
    }
}

type Driven = Connection<Metered<UpstreamStream>, tokio_postgres::tls::NoTlsStream>;

/// Signs in on a connection that is verified already: what tokio-postgres is given is a plain
/// stream to it. No password is configured, so a server that asks for one gets none.
async fn sign_in(
    upstream: Upstream,
    role: &str,
    database: &str,
) -> Result<(Live, Driven), ServiceError> {
    let allowance = Allowance::of(MAX_START_BYTES);
    let stream = Metered::new(upstream.stream, allowance.clone());
    let mut config = tokio_postgres::Config::new();
    config
        .user(role)
        .dbname(database)
        .application_name("portcullis")
        .options(session_options())
        .ssl_mode(SslMode::Disable)
        .channel_binding(ChannelBinding::Disable);
    let (client, connection) = timeout(SIGN_IN_LIMIT, config.connect_raw(stream, NoTls))
        .await
        .map_err(|_| ServiceError::Late)?
        .map_err(|e| ServiceError::SignIn {
            role: role.to_owned(),
            source: Arc::new(e),
        })?;
    let live = Live {
        client: Arc::new(client),
        allowance,
        used: Arc::new(Mutex::new(clock::instant())),
        end: CancellationToken::new(),
    };
    Ok((live, connection))
}

/// What a session of ours may do, whatever the role's own settings are. The path keeps a function
/// or operator that somebody planted in another schema out of our statements.
fn session_options() -> String {
    format!(
        "-c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout={}",
        STATEMENT_LIMIT.as_millis()
    )
}

impl Live {
    /// Carries the connection's bytes until it is idle, ended, or broken.
    fn drive(&self, connection: Driven, tasks: &TaskTracker, stop: CancellationToken) {
        let (used, end) = (Arc::clone(&self.used), self.end.clone());
        tasks.spawn(async move {
            tokio::select! {
                result = connection => {
                    if let Err(error) = result {
                        debug!(%error, "a service connection ended");
                    }
                }
                () = unused(used) => {}
                () = end.cancelled() => {}
                () = stop.cancelled() => {}
            }
            end.cancel();
        });
    }
}

/// Returns when nobody has asked anything for [`IDLE_LIMIT`].
async fn unused(used: Arc<Mutex<Instant>>) {
    loop {
        let idle = clock::instant().saturating_duration_since(*used.lock());
        match IDLE_LIMIT.checked_sub(idle) {
            Some(left) if !left.is_zero() => sleep(left).await,
            Some(_) | None => return,
        }
    }
}

/// A connection of its own for `check`, to one given upstream, not kept.
pub(super) async fn sign_in_once(
    upstream: Upstream,
    role: &str,
    database: &str,
    tasks: &TaskTracker,
) -> Result<Live, ServiceError> {
    let (live, connection) = sign_in(upstream, role, database).await?;
    live.drive(connection, tasks, CancellationToken::new());
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_stays_there() {
        let pauses: Vec<u128> = (0..8).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}

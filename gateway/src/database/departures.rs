//! Backends on their way out, looked for together: a change that closes a thousand connections
//! asks the database a few questions about all of them, not thousands about each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portcullis_policy::{ClusterId, TenantId};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::backend::Backend;
use super::service::{At, ServiceError, Services, Target};

/// How often backends are looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Backends in one question.
pub const BACKENDS_IN_A_QUESTION: usize = 256;
/// Cancel requests on their way to one server at once; each is a process of its own there.
pub const CANCELS_TO_A_SERVER: usize = 32;

/// The backends that this process waits for, by the server they run on.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<BTreeMap<Key, Server>>);

type Key = (TenantId, ClusterId, SocketAddr);

#[derive(Debug)]
struct Server {
    next: u64,
    watched: BTreeMap<u64, Watched>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Watched {
    pid: i32,
    sight: watch::Sender<Sight>,
}

/// What is known of a backend.
#[derive(Clone, Debug)]
enum Sight {
    NotYet,
    There { started: i64 },
    Gone,
    Unseen(ServiceError),
}

/// A backend that is being looked for, until this is dropped.
#[derive(Debug)]
pub(super) struct Departure {
    sight: watch::Receiver<Sight>,
    /// One turn for each cancel request on its way to the same server.
    pub(super) turns: Arc<Semaphore>,
}

/// Begins to look for `backend`.
pub(super) fn watch(services: &Arc<Services>, backend: &Backend) -> Departure {
    let target = &backend.target;
    let key = (target.tenant.clone(), target.id.clone(), backend.server);
    let (sender, sight) = watch::channel(Sight::NotYet);
    let mut servers = services.departures.0.lock();
    let server = servers.entry(key.clone()).or_insert_with(|| Server {
        next: 0,
        watched: BTreeMap::new(),
        turns: Arc::new(Semaphore::new(CANCELS_TO_A_SERVER)),
    });
    // Whoever looks removes the entry with the last backend in it, so an empty one is new.
    let nobody_looks = server.watched.is_empty();
    let watched = Watched {
        pid: backend.pid(),
        sight: sender,
    };
    server.watched.insert(server.next, watched);
    server.next += 1;
    let turns = Arc::clone(&server.turns);
    drop(servers);
    if nobody_looks {
        let looking = look(Arc::clone(services), key, target.clone());
        services.tasks.spawn(looking);
    }
    Departure { sight, turns }
}

impl Departure {
    /// Waits until the backend is seen to be gone.
    ///
    /// # Errors
    /// [`ServiceError`] if it cannot be looked for.
    pub(super) async fn gone(&mut self) -> Result<(), ServiceError> {
        let over = |sight: &Sight| matches!(sight, Sight::Gone | Sight::Unseen(_));
        match self.sight.wait_for(over).await.as_deref() {
            Ok(Sight::Unseen(error)) => Err(error.clone()),
            Ok(Sight::Gone | Sight::There { .. } | Sight::NotYet) => Ok(()),
            Err(_) => Err(ServiceError::Stopped),
        }
    }

    /// When it was started, in microseconds since 1970; `None` if it is gone. Together with its id
    /// this names a process for good: ids come round again.
    ///
    /// # Errors
    /// [`ServiceError`] if it cannot be looked for.
    pub(super) async fn started(&mut self) -> Result<Option<i64>, ServiceError> {
        let known = |sight: &Sight| !matches!(sight, Sight::NotYet);
        match self.sight.wait_for(known).await.as_deref() {
            Ok(Sight::There { started }) => Ok(Some(*started)),
            Ok(Sight::Gone | Sight::NotYet) => Ok(None),
            Ok(Sight::Unseen(error)) => Err(error.clone()),
            Err(_) => Err(ServiceError::Stopped),
        }
    }
}

/// Looks for all backends on one server until nobody waits for one.
async fn look(services: Arc<Services>, key: Key, target: Target) {
    loop {
        let wanted = {
            let mut servers = services.departures.0.lock();
            let Some(server) = servers.get_mut(&key) else {
                return;
            };
            server.watched.retain(|_, one| !one.sight.is_closed());
            if server.watched.is_empty() {
                servers.remove(&key);
                return;
            }
            let one = |(id, watched): (&u64, &Watched)| (*id, watched.pid);
            server.watched.iter().map(one).collect::<Vec<_>>()
        };
        for some in wanted.chunks(BACKENDS_IN_A_QUESTION) {
            let pids: Vec<i32> = some.iter().map(|(_, pid)| *pid).collect();
            let found = started(&services, &target, key.2, &pids).await;
            let mut servers = services.departures.0.lock();
            let Some(server) = servers.get_mut(&key) else {
                return;
            };
            for (id, pid) in some {
                server.see(*id, *pid, &found);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Server {
    fn see(&mut self, id: u64, pid: i32, found: &Result<Started, ServiceError>) {
        let Some(watched) = self.watched.get(&id) else {
            return;
        };
        let before = watched.sight.borrow().clone();
        let now = match (before, found) {
            (_, Err(error)) => Sight::Unseen(error.clone()),
            (Sight::There { started }, Ok(found)) if found.get(&pid) == Some(&started) => return,
            (Sight::NotYet, Ok(found)) => match found.get(&pid) {
                Some(&started) => Sight::There { started },
                None => Sight::Gone,
            },
            // Another process may have its id by now.
            (Sight::There { .. } | Sight::Gone | Sight::Unseen(_), Ok(_)) => Sight::Gone,
        };
        watched.sight.send_replace(now);
    }
}

/// When processes were started, in microseconds since 1970, by their ids.
pub type Started = BTreeMap<i32, i64>;

/// When each of these processes of `server` was started; those that do not exist are left out.
///
/// # Errors
/// [`ServiceError`].
pub async fn started(
    services: &Services,
    target: &Target,
    server: SocketAddr,
    pids: &[i32],
) -> Result<Started, ServiceError> {
    const QUESTION: &str =
        "SELECT pid, portcullis.backend_started(pid) FROM unnest($1::pg_catalog.int4[]) AS pid";
    let rows = services
        .ask(
            target,
            At::Server(server),
            QUESTION,
            &[(&pids, Type::INT4_ARRAY)],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let found: Result<Vec<(i32, Option<i64>)>, _> = rows.iter().map(read).collect();
    let found = found.map_err(|error: tokio_postgres::Error| ServiceError::Answer(error.into()))?;
    let there = found.into_iter();
    Ok(there
        .filter_map(|(pid, started)| Some((pid, started?)))
        .collect())
}

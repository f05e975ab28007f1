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
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::backend::Backend;
use super::service::{At, ServiceError, Services, Target};
use crate::runtime::clock::{self, Instant};

/// How often backends are looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Backends in one question.
pub const BACKENDS_IN_A_QUESTION: usize = 256;
/// Questions in a row that may fail before a backend counts as unseen.
pub const LOOKS_THAT_MAY_FAIL: u32 = 3;
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
    since: Instant,
    failed: u32,
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
        since: clock::instant(),
        failed: 0,
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
            let asked = clock::instant();
            let found = started(&services, &target, key.2, &pids).await;
            let mut servers = services.departures.0.lock();
            let Some(server) = servers.get_mut(&key) else {
                return;
            };
            for (id, _) in some {
                if let Some(watched) = server.watched.get_mut(id) {
                    watched.see(&found, asked);
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Watched {
    /// Takes note of a look that began at `asked`. What was seen last stays: whoever waits was told.
    fn see(&mut self, found: &Result<Started, ServiceError>, asked: Instant) {
        let before = self.sight.borrow().clone();
        let process = match found {
            Ok(found) => found.get(&self.pid),
            Err(error) => return self.fail(error),
        };
        self.failed = 0;
        let seen = match (before, process) {
            (Sight::Gone | Sight::Unseen(_), _) => return,
            (_, None) => Sight::Gone,
            (Sight::There { started }, Some(process)) if process.started == started => return,
            (Sight::There { .. }, Some(_)) => Sight::Gone,
            // Younger than the end of the connection: its id has come round already.
            (Sight::NotYet, Some(process))
                if process.age < asked.saturating_duration_since(self.since) =>
            {
                Sight::Gone
            }
            (Sight::NotYet, Some(process)) => Sight::There {
                started: process.started,
            },
        };
        self.sight.send_replace(seen);
    }

    /// One question that failed says nothing of all the backends that it was about.
    fn fail(&mut self, error: &ServiceError) {
        self.failed += 1;
        let hopeless = self.failed >= LOOKS_THAT_MAY_FAIL || error.is_lasting();
        if hopeless && !matches!(*self.sight.borrow(), Sight::Gone | Sight::Unseen(_)) {
            self.sight.send_replace(Sight::Unseen(error.clone()));
        }
    }
}

/// The processes that were looked for and exist, by their ids.
pub type Started = BTreeMap<i32, Process>;

/// A process of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// When it was started, in microseconds since 1970.
    pub started: i64,
    /// How long ago that was, by the database's own clock.
    pub age: Duration,
}

/// Looks for these processes of `server`; those that do not exist are left out.
///
/// # Errors
/// [`ServiceError`].
pub async fn started(
    services: &Services,
    target: &Target,
    server: SocketAddr,
    pids: &[i32],
) -> Result<Started, ServiceError> {
    const QUESTION: &str = "SELECT pid, portcullis.backend_started(pid), \
         (extract(epoch FROM clock_timestamp()) * 1000000)::pg_catalog.int8 \
         FROM unnest($1::pg_catalog.int4[]) AS pid";
    let rows = services
        .ask(
            target,
            At::Server(server),
            QUESTION,
            &[(&pids, Type::INT4_ARRAY)],
        )
        .await?;
    let read = |row: &Row| -> Result<Option<(i32, Process)>, tokio_postgres::Error> {
        let (pid, started, now): (i32, Option<i64>, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let process = |started: i64| Process {
            started,
            age: Duration::from_micros(now.saturating_sub(started).max(0).unsigned_abs()),
        };
        Ok(started.map(|started| (pid, process(started))))
    };
    let found: Result<Vec<_>, _> = rows.iter().map(read).collect();
    let found = found.map_err(|error| ServiceError::Answer(error.into()))?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: i32 = 7;

    fn watched(since: Instant) -> (Watched, watch::Receiver<Sight>) {
        let (sight, seen) = watch::channel(Sight::NotYet);
        let watched = Watched {
            pid: PID,
            since,
            failed: 0,
            sight,
        };
        (watched, seen)
    }

    fn there(started: i64, age: u64) -> Result<Started, ServiceError> {
        let age = Duration::from_secs(age);
        Ok(BTreeMap::from([(PID, Process { started, age })]))
    }

    #[test]
    fn what_was_seen_last_stays_and_another_life_of_the_id_is_another_process() {
        let began = clock::instant();
        let later = began + Duration::from_secs(2);
        let (mut old, seen) = watched(began);
        old.see(&there(1, 60), later);
        assert!(matches!(*seen.borrow(), Sight::There { started: 1 }));
        old.see(&there(2, 0), later);
        assert!(matches!(*seen.borrow(), Sight::Gone));
        old.see(&Err(ServiceError::Late), later);
        assert!(matches!(*seen.borrow(), Sight::Gone));

        let (mut young, seen) = watched(began);
        young.see(&there(1, 1), later);
        assert!(
            matches!(*seen.borrow(), Sight::Gone),
            "younger than the end"
        );
    }

    #[test]
    fn one_failed_question_gives_nobody_up_and_the_last_one_does_for_good() {
        let now = clock::instant();
        let (mut one, seen) = watched(now);
        for _ in 1..LOOKS_THAT_MAY_FAIL {
            one.see(&Err(ServiceError::Late), now);
            assert!(matches!(*seen.borrow(), Sight::NotYet));
        }
        one.see(&Err(ServiceError::Late), now);
        assert!(matches!(*seen.borrow(), Sight::Unseen(_)));
        one.see(&there(1, 60), now);
        assert!(matches!(*seen.borrow(), Sight::Unseen(_)));
        let (mut other, seen) = watched(now);
        other.see(&Err(ServiceError::NotConfigured), now);
        assert!(
            matches!(*seen.borrow(), Sight::Unseen(_)),
            "that will not change"
        );
    }
}

//! What SCRAM needs to know of a role, read from the database itself and kept for a short while.
//!
//! A storm of sign-ins makes one question: whoever asks first starts it, the others wait for it.
//! After a failed proof the caller says [`Verifiers::forget`], so that a password that was just
//! changed works at the next attempt; an answer that was already on its way is then not kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portcullis_policy::{Cluster, ClusterId, TenantId};
use tokio_postgres::types::Type;
use tokio_util::task::TaskTracker;

use super::promise::{Promise, promise};
pub use super::role_secret::{RoleSecret, Unusable, Withheld};
use super::service::{At, ServiceError, Services, Target, is_same};
use super::upstream::ClusterKey;
use crate::runtime::clock::{self, Instant};

/// A role's secret is believed for this long: the longest that a changed password, a changed
/// `VALID UNTIL` or a dropped role goes unnoticed here. (The database itself, which is signed in
/// to afterwards with the very same secret, notices at once.)
pub const VERIFIER_MAX_AGE: Duration = Duration::from_secs(30);
/// How long an absent role is remembered. As long as one that exists: different ages would tell
/// them apart by the time of an answer. A failed proof forgets either.
pub const NEGATIVE_MAX_AGE: Duration = VERIFIER_MAX_AGE;
/// Roles of one cluster that are remembered, unknown ones included.
pub const MAX_CACHED: usize = 4096;
/// Roles of one cluster that are asked for at the same time.
pub const MAX_ASKED_AT_ONCE: usize = 64;
/// Clusters whose roles are remembered.
pub const MAX_CLUSTERS: usize = 4096;
/// The longest name of a role, in bytes (`NAMEDATALEN` less its NUL).
const MAX_ROLE_NAME: usize = 63;

/// The roles of every cluster, as far as somebody asked lately.
#[derive(Debug)]
pub struct Verifiers {
    services: Arc<Services>,
    rooms: Arc<Mutex<BTreeMap<ClusterKey, Room>>>,
    tasks: TaskTracker,
}

impl Verifiers {
    /// Nothing is asked before the first [`Verifiers::lookup`].
    #[must_use]
    pub fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            rooms: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// What the database says of `role`, at most [`VERIFIER_MAX_AGE`] old; `None` if there is no
    /// such role. Whether that is good enough to sign in with is [`RoleSecret::usable`].
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn lookup(
        &self,
        tenant: &TenantId,
        id: &ClusterId,
        cluster: &Arc<Cluster>,
        role: &str,
    ) -> Result<Option<Arc<RoleSecret>>, LookupError> {
        if role.is_empty() || role.len() > MAX_ROLE_NAME || role.contains('\0') {
            return Ok(None);
        }
        let target = Target {
            tenant: tenant.clone(),
            id: id.clone(),
            cluster: Arc::clone(cluster),
        };
        let pending = match self.find_or_start(&target, role)? {
            Found::Known(known) => return Ok(known),
            Found::Pending(pending) => pending,
        };
        pending
            .wait()
            .await
            .unwrap_or(Err(LookupError::Service(ServiceError::Stopped)))
    }

    /// Makes the next [`Verifiers::lookup`] of `role` ask the database.
    pub fn forget(&self, tenant: &TenantId, id: &ClusterId, role: &str) {
        let key = (tenant.clone(), id.clone());
        if let Some(room) = self.rooms.lock().get_mut(&key) {
            room.entries.remove(role);
        }
    }

    /// Waits for the questions that are under way; they end at the latest with [`Services::close`].
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn find_or_start(&self, target: &Target, role: &str) -> Result<Found, LookupError> {
        let key = (target.tenant.clone(), target.id.clone());
        let now = clock::instant();
        let mut rooms = self.rooms.lock();
        make_way(&mut rooms, &key, now);
        let room = rooms
            .entry(key.clone())
            .or_insert_with(|| Room::new(&target.cluster));
        if !is_same(&room.cluster, &target.cluster) {
            // Another database by the same name: its roles are other roles.
            *room = Room::new(&target.cluster);
        }
        match room.entries.get(role) {
            Some(Entry::Known { secret, until }) if *until > now => {
                return Ok(Found::Known(secret.clone()));
            }
            Some(Entry::Pending { pending, .. }) if !pending.is_broken() => {
                return Ok(Found::Pending(pending.clone()));
            }
            Some(Entry::Known { .. } | Entry::Pending { .. }) | None => {}
        }
        room.make_way(now)?;
        let (fulfil, pending) = promise();
        let ticket = Arc::new(());
        let entry = Entry::Pending {
            pending: pending.clone(),
            ticket: Arc::clone(&ticket),
        };
        room.entries.insert(role.to_owned(), entry);
        drop(rooms);

        let (rooms, services) = (Arc::clone(&self.rooms), Arc::clone(&self.services));
        let (target, role) = (target.clone(), role.to_owned());
        self.tasks.spawn(async move {
            let result = ask(&services, &target, &role).await;
            if let Some(room) = rooms.lock().get_mut(&key) {
                room.settle(&role, &ticket, &result);
            }
            fulfil.with(result);
        });
        Ok(Found::Pending(pending))
    }
}

enum Found {
    Known(Option<Arc<RoleSecret>>),
    Pending(Promise<Answer>),
}

type Answer = Result<Option<Arc<RoleSecret>>, LookupError>;

/// One cluster's roles.
#[derive(Debug)]
struct Room {
    cluster: Arc<Cluster>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Known {
        secret: Option<Arc<RoleSecret>>,
        until: Instant,
    },
    /// The ticket tells this question from a later one for the same role.
    Pending {
        pending: Promise<Answer>,
        ticket: Arc<()>,
    },
}

impl Room {
    fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            entries: BTreeMap::new(),
        }
    }

    /// Keeps an answer, unless the role was forgotten while it was on its way.
    fn settle(&mut self, role: &str, ticket: &Arc<()>, answer: &Answer) {
        match self.entries.get(role) {
            Some(Entry::Pending { ticket: waited, .. }) if Arc::ptr_eq(waited, ticket) => {}
            Some(_) | None => return,
        }
        match answer {
            Ok(secret) => {
                let age = if secret.is_some() {
                    VERIFIER_MAX_AGE
                } else {
                    NEGATIVE_MAX_AGE
                };
                let until = clock::instant() + age;
                self.entries.insert(
                    role.to_owned(),
                    Entry::Known {
                        secret: secret.clone(),
                        until,
                    },
                );
            }
            Err(_) => {
                self.entries.remove(role);
            }
        }
    }

    /// Room for one more question. What goes first is what is old, then the unknown roles (a
    /// stranger can make up any number of them), then everything: asking again is cheap.
    fn make_way(&mut self, now: Instant) -> Result<(), LookupError> {
        let is_pending = |entry: &Entry| match entry {
            Entry::Pending { pending, .. } => !pending.is_broken(),
            Entry::Known { .. } => false,
        };
        let is_fresh = |entry: &Entry| matches!(entry, Entry::Known { until, .. } if *until > now);
        let is_role = |entry: &Entry| {
            matches!(
                entry,
                Entry::Known {
                    secret: Some(_),
                    ..
                }
            )
        };
        if self.entries.len() >= MAX_CACHED {
            self.entries
                .retain(|_, entry| is_pending(entry) || is_fresh(entry));
        }
        if self.entries.len() >= MAX_CACHED {
            self.entries
                .retain(|_, entry| is_pending(entry) || is_role(entry));
        }
        if self.entries.len() >= MAX_CACHED {
            self.entries.retain(|_, entry| is_pending(entry));
        }
        if self
            .entries
            .values()
            .filter(|entry| is_pending(entry))
            .count()
            >= MAX_ASKED_AT_ONCE
        {
            return Err(LookupError::Busy);
        }
        Ok(())
    }
}

/// Room for one more cluster: those that nobody asked about lately go, else any one.
fn make_way(rooms: &mut BTreeMap<ClusterKey, Room>, wanted: &ClusterKey, now: Instant) {
    if rooms.len() < MAX_CLUSTERS || rooms.contains_key(wanted) {
        return;
    }
    rooms.retain(|_, room| {
        room.entries.values().any(|entry| match entry {
            Entry::Known { until, .. } => *until > now,
            Entry::Pending { pending, .. } => !pending.is_broken(),
        })
    });
    if rooms.len() >= MAX_CLUSTERS {
        rooms.pop_first();
    }
}

async fn ask(services: &Services, target: &Target, role: &str) -> Answer {
    const QUESTION: &str = "SELECT verifier, valid_until_ms, can_login, withheld \
                            FROM portcullis.role_secret($1)";
    let rows = services
        .ask(target, At::Any, QUESTION, &[(&role, Type::TEXT)])
        .await
        .map_err(LookupError::Service)?;
    match rows.first() {
        None => Ok(None),
        Some(row) => RoleSecret::read(row)
            .map(|secret| Some(Arc::new(secret)))
            .map_err(|e| LookupError::Unreadable(e.to_string())),
    }
}

/// Nothing could be learnt about a role.
#[derive(Clone, Debug)]
pub enum LookupError {
    /// The question could not be asked or was answered with an error.
    Service(ServiceError),
    /// As many roles of the cluster as may be are being asked for.
    Busy,
    /// The answer has another shape than `setup.sql` of this version gives it.
    Unreadable(String),
}

impl LookupError {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Service(error) => error.reason(),
            Self::Busy => "lookup_busy",
            Self::Unreadable(_) => "lookup_unreadable",
        }
    }

    /// What a client is told: the same whatever happened.
    #[must_use]
    pub fn for_client(&self) -> &'static str {
        "the database cannot be reached right now"
    }

    /// What an operator is told.
    #[must_use]
    pub fn for_operator(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => {
                write!(
                    f,
                    "the role's verifier could not be read: {error}; see `portcullis cluster check`"
                )
            }
            Self::Busy => write!(
                f,
                "{MAX_ASKED_AT_ONCE} roles of this cluster are being asked for already"
            ),
            Self::Unreadable(what) => write!(
                f,
                "portcullis.role_secret() answered in a shape that this version does not know \
                 ({what}); run setup.sql of this version"
            ),
        }
    }
}

impl std::error::Error for LookupError {}

#[cfg(test)]
mod tests {
    use portcullis_policy::{Engine, UpstreamTls};

    use super::*;

    fn room() -> Room {
        Room::new(&Arc::new(Cluster {
            engine: Engine::Postgresql,
            backends: vec![],
            tls: UpstreamTls::Unencrypted,
            via: None,
            service: None,
        }))
    }

    fn secret(text: &str) -> Option<Arc<RoleSecret>> {
        Some(Arc::new(RoleSecret::scram(text, None)))
    }

    fn pend(room: &mut Room, role: &str) -> Arc<()> {
        let (fulfil, pending) = promise();
        std::mem::forget(fulfil);
        let ticket = Arc::new(());
        room.entries.insert(
            role.into(),
            Entry::Pending {
                pending,
                ticket: Arc::clone(&ticket),
            },
        );
        ticket
    }

    #[test]
    fn an_answer_that_was_on_its_way_when_the_role_was_forgotten_is_not_kept() {
        let mut room = room();
        let ticket = pend(&mut room, "app");
        room.entries.remove("app");
        room.settle("app", &ticket, &Ok(secret("old")));
        assert!(room.entries.is_empty());

        let later = pend(&mut room, "app");
        room.settle("app", &ticket, &Ok(secret("old")));
        assert!(matches!(room.entries["app"], Entry::Pending { .. }));
        room.settle("app", &later, &Ok(secret("new")));
        assert!(
            matches!(&room.entries["app"], Entry::Known { secret: Some(s), .. }
            if s.verifier() == Some("new"))
        );
    }

    #[test]
    fn made_up_roles_do_not_push_out_real_ones() {
        let mut room = room();
        let now = clock::instant();
        let until = now + VERIFIER_MAX_AGE;
        room.entries.insert(
            "app".into(),
            Entry::Known {
                secret: secret("s"),
                until,
            },
        );
        for i in 1..MAX_CACHED {
            room.entries.insert(
                format!("made-up-{i}"),
                Entry::Known {
                    secret: None,
                    until,
                },
            );
        }
        room.make_way(now).unwrap();
        assert_eq!(room.entries.keys().collect::<Vec<_>>(), ["app"]);
    }

    #[test]
    fn one_question_more_than_may_be_asked_at_once_is_refused() {
        let mut room = room();
        let now = clock::instant();
        for i in 0..MAX_ASKED_AT_ONCE {
            room.make_way(now).unwrap();
            pend(&mut room, &format!("role-{i}"));
        }
        assert!(matches!(room.make_way(now), Err(LookupError::Busy)));
    }
}

//! Lets go of what the audit logs were kept for long enough: their entries, and what opens the commitments in them.
//!
//! For how long, and what is held in spite of that, is the fleet's policy; each control node sweeps its own files. Openings just go. Entries
//! go in two steps: the control node that leads has each log say of itself that it may lack what came before some entry (`log.pruned`); once a
//! node has published that, it removes what it finds for itself to be old enough and not held. What a tenant's policy was where its log
//! begins stays, so that what is kept can be understood. The hashes of all entries stay.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_audit::personal::Opening;
use portcullis_audit::tlog::TILE_WIDTH;
use portcullis_audit::{Event, kinds, moment};
use portcullis_consensus::Consensus;
use portcullis_policy::Keeping as Policy;
use tokio::time::sleep;

use super::Fleet;
use super::keeping::{Keeping, id_of};
use crate::ledger::openings::Openings;
use crate::ledger::tiles::{LogError, LogId, Logs};
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::{COMPACT_EVERY, SWEEP_AGAIN, SWEEP_LOOK, SWEEP_PAUSE};

const WIDTH: u64 = TILE_WIDTH as u64;

/// Sweeps, for as long as the node runs.
pub(super) async fn sweep(fleet: Arc<Fleet>, keeping: Arc<Keeping>, consensus: Arc<Consensus>) {
    let mut swept: Option<(Policy, Instant)> = None;
    let mut said = BTreeMap::new();
    let mut compacted: Option<Instant> = None;
    while fleet
        .stop
        .run_until_cancelled(sleep(SWEEP_LOOK))
        .await
        .is_some()
    {
        let policy = consensus.state().keeping().clone();
        if policy.entries.is_none() && policy.personal.is_none() {
            continue;
        }
        let due = swept.as_ref().is_none_or(|(before, at)| {
            *before != policy || clock::instant().saturating_duration_since(*at) >= pause(&policy)
        });
        // A hold may have been set that this node has not heard of; and by a clock that is wrong everything is old.
        if !due || !fleet.has_lease() || fleet.may_date().is_err() {
            continue;
        }
        let files = Files::of(&keeping);
        let (now, set) = (clock::now().as_millis(), policy.clone());
        let work = tokio::task::spawn_blocking(move || files.sweep(&set, now));
        let Some(work) = fleet.stop.run_until_cancelled(work).await else {
            return;
        };
        swept = Some((policy, clock::instant()));
        let Ok(done) = work else { continue };
        for (log, problem) in &done.problems {
            tracing::warn!(%log, problem, "what was kept for long enough could not be let go of; it is tried again");
        }
        let erased = done.openings > 0;
        done.tell(&fleet, &mut said);
        let now = clock::instant();
        let soon = |at: Instant| now.saturating_duration_since(at) < COMPACT_EVERY;
        if erased && !compacted.is_some_and(soon) {
            compacted = Some(now);
            // The log of consensus says in clear what the openings said.
            consensus.compact().await;
        }
    }
}

/// So often that openings are kept for no more than a tenth longer, and entries, which take two sweeps, for two; and at least each hour.
fn pause(policy: &Policy) -> Duration {
    let shortest = policy.entries.into_iter().chain(policy.personal).min();
    let tenth = Duration::from_secs(shortest.unwrap_or(u64::MAX) / 10);
    tenth.clamp(SWEEP_LOOK, SWEEP_PAUSE)
}

/// What is swept.
struct Files {
    logs: Arc<Logs>,
    openings: Arc<Openings>,
    /// Not these: they are being filled.
    partial: BTreeSet<LogId>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Done {
    /// Openings that were erased,
    openings: usize,
    /// of so many logs,
    of_logs: usize,
    /// because they were made before this moment.
    openings_before: i64,
    /// What logs may lack, and have not said yet: the first entry that they keep.
    to_say: Vec<(LogId, u64)>,
    /// Entries are let go of that were made before this moment.
    entries_before: i64,
    problems: Vec<(LogId, String)>,
}

impl Files {
    fn of(keeping: &Keeping) -> Self {
        Self {
            logs: Arc::clone(keeping.logs()),
            openings: Arc::clone(keeping.openings()),
            partial: keeping.partial().iter().map(id_of).collect(),
        }
    }

    /// Sweeps all logs. Waits for the disk.
    fn sweep(&self, policy: &Policy, now: i64) -> Done {
        let before = |seconds: u64| {
            let milliseconds = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
            now.saturating_sub(milliseconds)
        };
        let mut done = Done::default();
        for log in self.logs.logs() {
            let tenant = match &log {
                LogId::Fleet => None,
                LogId::Tenant(tenant) => Some(tenant),
            };
            if policy.is_held(tenant) || self.partial.contains(&log) {
                continue;
            }
            if let Some(seconds) = policy.personal {
                done.openings_before = before(seconds);
                let (erased, problem) = self.erase(&log, done.openings_before);
                done.openings = done.openings.saturating_add(erased);
                done.of_logs = done.of_logs.saturating_add(usize::from(erased > 0));
                let problem = problem.map(|error| (log.clone(), error.to_string()));
                done.problems.extend(problem);
            }
            if let Some(seconds) = policy.entries {
                done.entries_before = before(seconds);
                match self.let_go(&log, done.entries_before) {
                    Ok(None) => {}
                    Ok(Some(kept_from)) => done.to_say.push((log, kept_from)),
                    Err(error) => done.problems.push((log, error.to_string())),
                }
            }
        }
        done
    }

    /// Erases openings that were made before this moment; how many, and the last problem, which keeps no other bundle. All are looked at:
    /// what a node recorded late lies behind what is younger.
    fn erase(&self, log: &LogId, before: i64) -> (usize, Option<io::Error>) {
        let bundles = match self.openings.bundles(log) {
            Ok(bundles) => bundles,
            Err(error) => return (0, Some(error)),
        };
        let (mut erased, mut problem) = (0_usize, None);
        for bundle in bundles {
            let young = |opening: &Opening| opening.at_ms >= before;
            match self.openings.erase(log, bundle, young) {
                Ok(some) => erased = erased.saturating_add(some),
                Err(error) => problem = Some(error),
            }
        }
        (erased, problem)
    }

    /// Removes what a log said that it may lack; if it may lack more by now, from where on it would keep everything.
    fn let_go(&self, log: &LogId, before: i64) -> Result<Option<u64>, LogError> {
        let said = self.logs.kept_from(log).map_or(0, |kept| kept.kept_from);
        let mut gone = Vec::new();
        let mut stays = Stays::of(log);
        for bundle in self
            .logs
            .bundles(log, said / WIDTH)
            .map_err(io_of(log))?
            .into_iter()
            .rev()
        {
            let entries = self.logs.entries(log, bundle.saturating_mul(WIDTH))?;
            if !stays.has(bundle, &entries) && is_older(&entries, before) {
                gone.push(bundle);
            }
        }
        if !gone.is_empty() {
            // Whoever finds entries missing must find what says so.
            self.logs.durable()?;
        }
        for bundle in gone.into_iter().rev() {
            self.logs.let_go(log, bundle)?;
            let erased = self.openings.erase(log, bundle, |_| false);
            erased.map_err(io_of(log))?;
        }
        let size = self.logs.tree(log).map_or(0, |tree| tree.size());
        let mut kept_from = said;
        while size.saturating_sub(kept_from) >= WIDTH {
            if !is_older(&self.logs.entries(log, kept_from)?, before) {
                break;
            }
            kept_from = kept_from.saturating_add(WIDTH);
        }
        Ok(Some(kept_from).filter(|kept_from| *kept_from > said))
    }
}

fn io_of(log: &LogId) -> impl FnOnce(io::Error) -> LogError {
    let path = log.to_string();
    move |error| LogError::io(Path::new(&path))(error)
}

/// Whether these are a whole bundle's, and all of them were made before this moment.
fn is_older(entries: &[Vec<u8>], before: i64) -> bool {
    let older = |entry: &Vec<u8>| event(entry).is_some_and(|event| event.at_ms < before);
    entries.len() == usize::from(TILE_WIDTH) && entries.iter().all(older)
}

fn event(entry: &[u8]) -> Option<Event> {
    Event::parse(std::str::from_utf8(entry).ok()?).ok()
}

/// What stays of a tenant's log before the place from which it keeps everything: the policy that was in force there. Asked from the last
/// bundle backwards.
enum Stays {
    /// Nothing.
    Nothing,
    /// The last change, which was not seen yet.
    Change,
    /// The parts of its document, from this entry on.
    From(u64),
}

impl Stays {
    fn of(log: &LogId) -> Self {
        match log {
            LogId::Fleet => Self::Nothing,
            LogId::Tenant(_) => Self::Change,
        }
    }

    fn has(&mut self, bundle: u64, entries: &[Vec<u8>]) -> bool {
        if matches!(self, Self::Change) {
            let first = bundle.saturating_mul(WIDTH);
            let events = (first..).zip(entries).filter_map(|(index, entry)| {
                let event = event(entry)?;
                (event.kind == kinds::POLICY_APPLIED).then_some((index, event))
            });
            let applied = events.last();
            let Some((index, event)) = applied else {
                return false;
            };
            let document = event.field("document");
            let parts = document.and_then(|it| it.get("parts")?.as_u64());
            *self = Self::From(index.saturating_sub(parts.unwrap_or(0)));
        }
        match self {
            Self::From(index) if *index / WIDTH <= bundle => true,
            Self::From(_) | Self::Nothing | Self::Change => {
                // All before it may go.
                *self = Self::Nothing;
                false
            }
        }
    }
}

impl Done {
    /// Has it recorded: what this node erased; and, where it leads, what logs may lack.
    fn tell(self, fleet: &Fleet, said: &mut BTreeMap<LogId, (u64, Instant)>) {
        if self.openings > 0 {
            fleet.record(kinds::OPENINGS_ERASED, |event| {
                let event = event.with("openings", self.openings);
                let event = event.with("logs", self.of_logs);
                event.with("older_than", moment::to_text(self.openings_before))
            });
        }
        if !fleet.leads() {
            said.clear();
            return;
        }
        let now = clock::instant();
        said.retain(|_, (_, at)| now.saturating_duration_since(*at) < SWEEP_AGAIN);
        for (log, kept_from) in self.to_say {
            // On its way already.
            if said
                .get(&log)
                .is_some_and(|(before, _)| *before >= kept_from)
            {
                continue;
            }
            fleet.record(kinds::LOG_PRUNED, |mut event| {
                if let LogId::Tenant(tenant) = &log {
                    event.tenant = Some(tenant.to_string());
                }
                let event = event.with("log", log.to_string());
                let event = event.with("kept_from", kept_from);
                event.with("older_than", moment::to_text(self.entries_before))
            });
            said.insert(log, (kept_from, now));
        }
    }
}

#[cfg(test)]
mod tests;

//! Entries of the audit logs, brought to the index.
//!
//! How far the index has each log, the index says: what was restored to an earlier state, or emptied, is filled from the logs again. Entries
//! that differ from the log's are never overwritten: nothing more of that log is written until somebody has seen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::tlog::Hash;
use portcullis_audit::{Event, kinds};
use tokio_util::sync::CancellationToken;

use super::failures::Failures;
use super::limits::{INDEX_COUNT, INDEX_LOOK, SHIP_LOOK};
use super::tail::{Batch, Tail};
use super::{Failed, Item, Taken};
use crate::config::index::IndexPlace;
use crate::database::index::{Index, Move, Purpose, Row, Standing, Written};
use crate::ledger::Ledger;
use crate::ledger::inspect::{Directory, root};
use crate::runtime::clock::{self, Instant};

/// Fills the index until `stop`, whenever `ships` says that this node is the one that does. `data` is the node's directory.
pub async fn index(
    data: &Path,
    place: IndexPlace,
    ledger: Arc<Ledger>,
    ships: impl Fn() -> bool + Send,
    stop: CancellationToken,
) {
    let logs = data.join("audit").join("logs");
    contradicted_logs(0);
    let mut filling = Filling {
        tail: Some(Tail::of_sink(logs.clone(), NAME, ledger.node())),
        logs,
        place,
        failures: Failures::new(NAME, Arc::clone(&ledger)),
        ledger,
        index: None,
        contradicted: BTreeSet::new(),
        compared: BTreeMap::new(),
        looked: None,
        counted: None,
    };
    let work = async {
        loop {
            let pause = match ships() {
                true => filling.round().await,
                false => filling.rest(),
            };
            match pause {
                Ok(pause) => tokio::time::sleep(pause).await,
                Err(Ended) => {
                    tracing::error!("entries of the audit logs are brought to the index no more");
                    return;
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

const NAME: &str = "index";

struct Filling {
    logs: PathBuf,
    place: IndexPlace,
    /// Away while it waits for the disk.
    tail: Option<Tail>,
    failures: Failures,
    ledger: Arc<Ledger>,
    index: Option<Index>,
    /// Logs of which the index has other entries, as was told.
    contradicted: BTreeSet<String>,
    /// Where logs stood when their histories were last found to be ours.
    compared: BTreeMap<String, (u64, Option<Hash>)>,
    /// When it was last asked where it stands; never on this connection, or it is to be asked now.
    looked: Option<Instant>,
    counted: Option<Instant>,
}

/// A look at the disk panicked, and has taken the tail with it.
struct Ended;

/// What is to be written.
struct Prepared {
    rows: Vec<Row>,
    moves: Vec<Move>,
}

impl Filling {
    /// Brings a batch; how long to wait until the next.
    async fn round(&mut self) -> Result<Duration, Ended> {
        let (outcome, idle) = match self.stand().await? {
            Err(why) => (Err(why), true),
            Ok(()) => {
                let batch = self.on_disk(Tail::next).await?;
                self.failures.lag(batch.lag);
                self.failures.unreadable(batch.problem.as_deref());
                let idle = batch.items.is_empty();
                (self.bring(batch).await?, idle)
            }
        };
        Ok(match outcome {
            Ok(()) => {
                self.failures.over();
                if idle { SHIP_LOOK } else { Duration::ZERO }
            }
            Err(why) => {
                // What was under way on it is not known.
                self.compared.clear();
                self.index = None;
                self.looked = None;
                self.failures.one(&why)
            }
        })
    }

    /// Another node does it; how long to wait.
    fn rest(&mut self) -> Result<Duration, Ended> {
        self.failures.lag(0);
        self.compared.clear();
        self.index = None;
        self.looked = None;
        // Whoever leads now tells for itself.
        self.contradicted.clear();
        contradicted_logs(0);
        self.tail.as_mut().ok_or(Ended)?.forget();
        Ok(SHIP_LOOK)
    }

    async fn bring(&mut self, batch: Batch) -> Result<Result<(), Failed>, Ended> {
        if batch.items.is_empty() {
            return Ok(Ok(()));
        }
        let items: Arc<[Item]> = batch.items.into();
        let prepared = self.prepare(&items).await?;
        let Some(index) = &self.index else {
            return Ok(Err(Failed::new("the connection is gone")));
        };
        match index.write(&prepared.rows, &prepared.moves).await {
            Ok(Written::All) => {
                self.failures.told(&items, Taken::default());
                self.tail.as_mut().ok_or(Ended)?.passed(&items);
                for step in &prepared.moves {
                    self.contradicted.remove(&step.log);
                }
                contradicted_logs(self.contradicted.len());
            }
            Ok(Written::Elsewhere) => self.looked = None,
            Ok(Written::Contradicted(which)) => {
                for (log, at) in which {
                    let why = format!("its entry {at} is another in the index");
                    self.contradict(&log, &why)?;
                }
            }
            Err(error) => return Ok(Err(Failed::new(error))),
        }
        Ok(Ok(()))
    }

    /// Connects, and hears from the index how far it has each log, where that may have changed.
    async fn stand(&mut self) -> Result<Result<(), Failed>, Ended> {
        let now = clock::instant();
        let soon = |at: Option<Instant>, every| at.is_some_and(|at| now.duration_since(at) < every);
        if self.index.is_some() && soon(self.looked, INDEX_LOOK) {
            return Ok(Ok(()));
        }
        let index = match self.index.take() {
            Some(index) => index,
            None => {
                self.counted = None;
                match Index::open(&self.place, Purpose::Write).await {
                    Ok(index) => index,
                    Err(error) => return Ok(Err(Failed::new(error))),
                }
            }
        };
        let counts = !soon(self.counted, INDEX_COUNT);
        let standing = match self.whole(&index, counts).await {
            Ok(standing) => standing,
            Err(why) => return Ok(Err(why)),
        };
        self.index = Some(index);
        self.looked = Some(now);
        if counts {
            self.counted = Some(now);
        }
        let next = standing.iter().map(|(log, it)| (log.clone(), it.next));
        self.tail.as_mut().ok_or(Ended)?.stand(next.collect());
        for (log, why) in self.others(standing).await? {
            self.compared.remove(&log);
            if let Some(why) = why {
                self.contradict(&log, &why)?;
            }
        }
        Ok(Ok(()))
    }

    /// Where each log stands, after those that lack rows were begun again.
    async fn whole(
        &self,
        index: &Index,
        counts: bool,
    ) -> Result<BTreeMap<String, Standing>, Failed> {
        let mut standing = index.standing().await.map_err(Failed::new)?;
        for (log, stands) in &mut standing {
            let last = stands.last.and_then(|last| u64::try_from(last).ok());
            let mut have = last
                .map_or(0, |last| last.saturating_add(1))
                .min(stands.next);
            // After the last row may come a gap.
            if counts || have < stands.next {
                have = index.count(log, stands.next).await.map_err(Failed::new)?;
            }
            if have < stands.next {
                tracing::warn!(
                    log,
                    have,
                    of = stands.next,
                    "the index lacks entries that it had: they are written again"
                );
                let event = self.event(kinds::INDEX_REBUILT).with("log", log.as_str());
                let event = event.with("entries", stands.next).with("found", have);
                self.ledger.record(event);
                index.begin_again(log).await.map_err(Failed::new)?;
                (stands.next, stands.root) = (0, None);
            }
        }
        Ok(standing)
    }

    /// Logs of which the index has another history, and why that is known; without a reason, those that this node does not have so far. What
    /// has not moved is not looked at again.
    async fn others(
        &mut self,
        mut standing: BTreeMap<String, Standing>,
    ) -> Result<Vec<(String, Option<String>)>, Ended> {
        let place = |it: &Standing| (it.next, it.root);
        standing.retain(|log, it| self.compared.get(log) != Some(&place(it)));
        let moved = standing.iter().map(|(log, it)| (log.clone(), place(it)));
        self.compared.extend(moved);
        let logs = self.logs.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let mut source = Directory(logs);
            let mut others = Vec::new();
            for (log, stands) in standing {
                let why = match root(&mut source, &log, 0) {
                    Ok((origin, _)) if origin == stands.origin => {
                        match (root(&mut source, &log, stands.next), stands.root) {
                            (Ok((_, ours)), Some(theirs)) if ours == theirs => continue,
                            (Ok(_), Some(_)) => Some(format!(
                                "its first {} entries have another root there",
                                stands.next
                            )),
                            (Ok(_), None) => continue,
                            (Err(_), _) => None,
                        }
                    }
                    Ok(_) => Some(format!("it is that of {} there", stands.origin)),
                    Err(_) => None,
                };
                others.push((log, why));
            }
            others
        });
        looked.await.map_err(|_| Ended)
    }

    /// Tells of it once, and reads nothing more of that log until the index is asked again.
    fn contradict(&mut self, log: &str, why: &str) -> Result<(), Ended> {
        if self.contradicted.insert(log.to_owned()) {
            tracing::error!(
                log,
                why,
                "the index contradicts an audit log; nothing more of it is written there"
            );
            let event = self.event(kinds::INDEX_CONTRADICTED);
            self.ledger.record(event.with("log", log).with("why", why));
        }
        contradicted_logs(self.contradicted.len());
        self.tail.as_mut().ok_or(Ended)?.skip(log);
        Ok(())
    }

    async fn prepare(&self, items: &Arc<[Item]>) -> Result<Prepared, Ended> {
        let (logs, items) = (self.logs.clone(), Arc::clone(items));
        let prepared = tokio::task::spawn_blocking(move || prepare(&logs, &items));
        prepared.await.map_err(|_| Ended)
    }

    async fn on_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tail) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let mut tail = self.tail.take().ok_or(Ended)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut tail);
            (tail, done)
        });
        let (tail, done) = done.await.map_err(|_| Ended)?;
        self.tail = Some(tail);
        Ok(done)
    }

    fn event(&self, kind: &'static str) -> Event {
        let now = clock::now().as_millis();
        Event::new(now, kind, self.ledger.node())
    }
}

/// Rows, and how far they bring each log. Waits for the disk.
fn prepare(logs: &Path, items: &[Item]) -> Prepared {
    let mut source = Directory(logs.to_owned());
    let mut rows = Vec::new();
    let mut moves: BTreeMap<&str, Move> = BTreeMap::new();
    for item in items {
        let step = moves.entry(&item.log).or_insert_with(|| Move {
            log: item.log.clone(),
            origin: item.origin.clone(),
            from: item.first,
            to: item.first,
            root: None,
            gaps: Vec::new(),
        });
        step.to = item.last.saturating_add(1);
        let row = match item.is_gap() {
            true => None,
            false => Row::of(&item.log, item.first, item.line.as_bytes()),
        };
        match row {
            Some(row) => rows.push(row),
            None => step.gaps.push((item.first, item.last)),
        }
    }
    let mut moves: Vec<Move> = moves.into_values().collect();
    for step in &mut moves {
        // Without its hashes, a log is compared by its entries alone.
        step.root = root(&mut source, &step.log, step.to)
            .ok()
            .map(|(_, root)| root);
    }
    Prepared { rows, moves }
}

fn contradicted_logs(count: usize) {
    #[allow(clippy::cast_precision_loss)]
    metrics::gauge!("portcullis_audit_index_contradicted_logs").set(count as f64);
}

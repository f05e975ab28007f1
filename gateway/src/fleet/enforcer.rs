//! Putting each new view in force on this node, in order, and remembering what it took.
//!
//! Views are published in the order of their revisions; closing what lapsed by one of them goes on
//! while the next is published already, so a database that will not let go of a backend holds up
//! nobody's withdrawal but its own. A revision counts as enforced when it and all before it are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::{Applied, Revision, View};
use tokio::sync::watch;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::reports::{RECENT, Summary};
use crate::proxy::{Enforcement, Front};
use crate::runtime::clock::{self, Instant};

/// One change, before and after, and what enforcing it took.
#[derive(Debug)]
pub struct Step {
    /// The view that was in force.
    pub before: Arc<View>,
    /// The view that is.
    pub after: Arc<View>,
    /// What changed.
    pub applied: Arc<Applied>,
    enforced: watch::Sender<Option<Arc<Enforcement>>>,
}

/// Puts views in force, one after the other.
#[derive(Debug)]
pub(super) struct Enforcer {
    front: Arc<Front>,
    turn: Mutex<()>,
    steps: Mutex<VecDeque<Arc<Step>>>,
    /// Published and not enforced to the end.
    going_on: Mutex<BTreeSet<Revision>>,
    published: watch::Sender<Revision>,
    summaries: Mutex<VecDeque<Summary>>,
    /// Turns whenever there is something to report.
    finished: watch::Sender<u64>,
    tasks: TaskTracker,
}

/// Changes that are remembered, for whoever asks what a command of theirs did.
const REMEMBERED: usize = 256;

impl Enforcer {
    /// One for this front door, whose view is the one in force.
    #[must_use]
    pub(super) fn new(front: Arc<Front>, tasks: TaskTracker) -> Arc<Self> {
        let revision = front.view().revision();
        Arc::new(Self {
            front,
            turn: Mutex::default(),
            steps: Mutex::default(),
            going_on: Mutex::default(),
            published: watch::Sender::new(revision),
            summaries: Mutex::default(),
            finished: watch::Sender::new(0),
            tasks,
        })
    }

    /// Puts `after` in force, which `applied` led to. An older view than the one in force is left
    /// alone.
    pub(super) fn take(self: &Arc<Self>, after: Arc<View>, applied: Arc<Applied>) {
        let _turn = self.turn.lock();
        self.put(after, applied);
    }

    /// The same of a view that need not be the next one.
    pub(super) fn take_over(self: &Arc<Self>, after: Arc<View>) {
        let _turn = self.turn.lock();
        let applied = after.applied_since(&self.front.view(), clock::now());
        self.put(after, Arc::new(applied));
    }

    fn put(self: &Arc<Self>, after: Arc<View>, applied: Arc<Applied>) {
        let before = self.front.view();
        let revision = after.revision();
        if (epoch(&after), revision) <= (epoch(&before), before.revision()) {
            return;
        }
        self.going_on.lock().insert(revision);
        let ending = self.front.enforce(Arc::clone(&after), &applied.changes);
        let step = Arc::new(Step {
            before,
            after,
            applied,
            enforced: watch::Sender::new(None),
        });
        {
            let mut steps = self.steps.lock();
            steps.push_back(Arc::clone(&step));
            while steps.len() > REMEMBERED {
                steps.pop_front();
            }
        }
        self.published.send_replace(revision);
        self.tasks.spawn(Arc::clone(self).finish(step, ending));
    }

    /// Lets nobody in, and closes what is live: the view that was in force may be so no longer.
    pub(super) fn withdraw(self: &Arc<Self>) {
        let nobody = Arc::new(View::empty());
        let applied = nobody.applied_since(&self.front.view(), clock::now());
        let ending = self.front.enforce(nobody, &applied.changes);
        self.tasks.spawn(async move {
            ending.await;
        });
    }

    async fn finish(self: Arc<Self>, step: Arc<Step>, ending: impl Future<Output = Enforcement>) {
        let enforcement = ending.await;
        let revision = step.after.revision();
        {
            let mut summaries = self.summaries.lock();
            summaries.push_back(summary(revision, &enforcement));
            while summaries.len() > RECENT {
                summaries.pop_front();
            }
        }
        self.going_on.lock().remove(&revision);
        step.enforced.send_replace(Some(Arc::new(enforcement)));
        self.finished
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The step that led to `revision`, once this node has published it, or nothing if that is
    /// not before the deadline, or too long ago.
    pub(super) async fn step(&self, revision: Revision, deadline: Instant) -> Option<Arc<Step>> {
        if !self.reaches(revision, deadline).await {
            return None;
        }
        let steps = self.steps.lock();
        steps
            .iter()
            .find(|step| step.after.revision() == revision)
            .cloned()
    }

    /// Waits until this node has published `revision`; whether it has before the deadline.
    pub(super) async fn reaches(&self, revision: Revision, deadline: Instant) -> bool {
        let mut published = self.published.subscribe();
        let reached = published.wait_for(|published| *published >= revision);
        timeout_at(deadline.into(), reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Every change up to this revision is enforced here.
    #[must_use]
    pub(super) fn through(&self) -> Revision {
        // Read before what goes on: a view that is published in between counts as not enforced.
        let published = *self.published.borrow();
        let first = self.going_on.lock().first().copied();
        match first {
            Some(first) => published.min(Revision::new(first.get().saturating_sub(1))),
            None => published,
        }
    }

    /// What the latest changes took, oldest first.
    #[must_use]
    pub(super) fn recent(&self) -> Vec<Summary> {
        self.summaries.lock().iter().cloned().collect()
    }

    /// Turns whenever a change is enforced to its end.
    #[must_use]
    pub(super) fn finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }
}

impl Step {
    /// What enforcing it took here, once that is known. It always is in the end: enforcement has
    /// limits of its own.
    pub async fn enforcement(&self) -> Option<Arc<Enforcement>> {
        let mut enforced = self.enforced.subscribe();
        let known = enforced.wait_for(Option::is_some).await.ok()?;
        known.clone()
    }
}

/// After a recovery, revisions may begin again below those of the epoch before.
pub(super) fn epoch(view: &View) -> u64 {
    view.fleet().map_or(0, |fleet| fleet.epoch)
}

fn summary(revision: Revision, enforcement: &Enforcement) -> Summary {
    let closed = &enforcement.closed;
    let left = closed
        .iter()
        .filter(|one| !matches!(one.backend.as_str(), "gone" | "terminated" | "none"));
    Summary {
        revision,
        decided_again: count(enforcement.decided_again),
        closed: count(closed.len()),
        unfinished: count(enforcement.unfinished),
        backends_left: count(left.count()),
        slowest_ms: closed.iter().map(|one| one.after_ms).reduce(f64::max),
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

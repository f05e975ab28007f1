//! Putting each new view in force on this node, in order, and remembering what it took.
//!
//! Views are published in the order of their revisions; closing what lapsed by one of them goes on
//! while the next is published already, so a database that will not let go of a backend holds up
//! nobody's withdrawal but its own. A revision counts as enforced when it and all before it are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::{Applied, Revision, Timestamp, View};
use tokio::sync::watch;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::report::{RECENT, Summary};
use super::source::{at, epoch};
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
    led: Led,
    enforced: watch::Sender<Option<Arc<Enforcement>>>,
}

/// What led to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Led {
    /// A command that was executed here; the step bears its moment.
    ByCommand,
    /// A view that this node was told or took as a whole: when it was decided is not known.
    ByView,
}

/// What this node knows of the step that a command made.
#[derive(Clone, Debug)]
pub enum Stepped {
    /// This one.
    Own(Arc<Step>),
    /// Another command led to this revision: this one found nothing to change.
    Another,
    /// It is in force, and what it changed is not known by itself: this node took several steps as
    /// one, or it is too long ago.
    Passed,
    /// It was not in force here before the deadline.
    Late,
}

/// Puts views in force, one after the other.
#[derive(Debug)]
pub(super) struct Enforcer {
    front: Arc<Front>,
    /// One puts a view in force at a time.
    turn: Mutex<()>,
    /// Held from the moment a view is published until everybody was told to close whom it does not
    /// permit.
    publishing: Mutex<()>,
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
            publishing: Mutex::default(),
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
        self.put(after, applied, Led::ByCommand);
    }

    /// The same of a view that need not be the next one.
    pub(super) fn take_over(self: &Arc<Self>, after: Arc<View>) {
        let _turn = self.turn.lock();
        let applied = after.applied_since(&self.front.view(), clock::now());
        self.put(after, Arc::new(applied), Led::ByView);
    }

    fn put(self: &Arc<Self>, after: Arc<View>, applied: Arc<Applied>, led: Led) {
        let before = self.front.view();
        if at(&after) > at(&before) {
            self.publish(after, applied, led);
        }
    }

    /// The same, whatever the revision: the view in force was not what the fleet decided.
    pub(super) fn replace(self: &Arc<Self>, after: Arc<View>, applied: Arc<Applied>) {
        let _turn = self.turn.lock();
        self.publish(after, applied, Led::ByView);
    }

    fn publish(self: &Arc<Self>, after: Arc<View>, applied: Arc<Applied>, led: Led) {
        let before = self.front.view();
        let revision = after.revision();
        self.going_on.lock().insert(revision);
        let publishing = self.publishing.lock();
        let ending = self.front.enforce(Arc::clone(&after), &applied.changes);
        drop(publishing);
        let step = Arc::new(Step {
            led,
            ..Step::new(before, after, applied)
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

    /// The step to `revision` of a command that was executed at a moment, once this node has
    /// published it.
    pub(super) async fn step(
        &self,
        revision: Revision,
        at: Timestamp,
        changed: bool,
        deadline: Instant,
    ) -> Stepped {
        if !self.reaches(revision, deadline).await {
            return Stepped::Late;
        }
        let steps = self.steps.lock();
        stepped(steps.iter(), revision, at, changed)
    }

    /// Waits until this node has published `revision`; whether it has before the deadline.
    pub(super) async fn reaches(&self, revision: Revision, deadline: Instant) -> bool {
        let mut published = self.published.subscribe();
        let reached = published.wait_for(|published| *published >= revision);
        timeout_at(deadline.into(), reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Waits until a view that fits is in force: published, and everybody told to close whom it does
    /// not permit.
    pub(super) async fn enforces(&self, fits: impl Fn(&View) -> bool) {
        let mut published = self.published.subscribe();
        while !fits(&self.in_force()) {
            if published.changed().await.is_err() {
                return;
            }
        }
    }

    fn in_force(&self) -> Arc<View> {
        let _publishing = self.publishing.lock();
        self.front.view()
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

/// What is known of the step to `revision` of a command that was executed at a moment.
fn stepped<'a>(
    mut steps: impl Iterator<Item = &'a Arc<Step>>,
    revision: Revision,
    at: Timestamp,
    changed: bool,
) -> Stepped {
    match steps.find(|step| step.after.revision() == revision) {
        // The state's moments: of steps that were taken as one it is this node's own.
        Some(step) if step.is_single() && step.applied.at == at => Stepped::Own(Arc::clone(step)),
        // One revision is one command's that changed something.
        Some(step) if step.is_single() && step.led == Led::ByView && changed => {
            Stepped::Own(Arc::clone(step))
        }
        Some(step) if step.is_single() => Stepped::Another,
        Some(_) | None => Stepped::Passed,
    }
}

impl Step {
    fn new(before: Arc<View>, after: Arc<View>, applied: Arc<Applied>) -> Self {
        Self {
            before,
            after,
            applied,
            led: Led::ByCommand,
            enforced: watch::Sender::new(None),
        }
    }

    /// Whether one command led from one view to the other.
    fn is_single(&self) -> bool {
        epoch(&self.before) == epoch(&self.after)
            && self.before.revision().next() == self.after.revision()
    }

    /// What enforcing it took here, once that is known. It always is in the end: enforcement has
    /// limits of its own.
    pub async fn enforcement(&self) -> Option<Arc<Enforcement>> {
        let mut enforced = self.enforced.subscribe();
        let known = enforced.wait_for(Option::is_some).await.ok()?;
        known.clone()
    }
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

#[cfg(test)]
mod tests {
    use portcullis_policy::{Command, Proposal, State, Tenant};

    use super::*;

    fn step(state: &mut State, id: &str, at: i64) -> Arc<Step> {
        let document = format!(
            r#"{{"id": "{id}", "suspended": false, "networks": [], "private-links": [], "limits": {{}},
                "clusters": {{}}, "endpoints": {{}}}}"#
        );
        let tenant: Tenant = serde_json::from_str(&document).unwrap();
        let command = Command::Apply {
            base: None,
            put: vec![tenant],
            remove: vec![],
            expected: std::collections::BTreeMap::new(),
        };
        let before = Arc::new(state.view().clone());
        let proposal = Proposal::local("test", Timestamp::from_millis(at), command);
        let applied = state.apply(&proposal).unwrap();
        let after = Arc::new(state.view().clone());
        Arc::new(Step::new(before, after, Arc::new(applied)))
    }

    #[test]
    fn a_step_is_told_from_anothers_and_from_several_taken_as_one() {
        let mut state = State::default();
        let steps = [step(&mut state, "a", 10), step(&mut state, "b", 20)];
        let (moment, revision) = (Timestamp::from_millis, Revision::new);
        let find = |steps: &[Arc<Step>], at, number| stepped(steps.iter(), number, at, true);
        assert!(matches!(
            find(&steps, moment(20), revision(2)),
            Stepped::Own(step) if step.applied.tenants.len() == 1
        ));
        assert!(matches!(
            find(&steps, moment(25), revision(2)),
            Stepped::Another
        ));
        // Forgotten.
        assert!(matches!(
            find(&steps[1..], moment(10), revision(1)),
            Stepped::Passed
        ));
        // Both in one step: whose revision it is, is not whose change it is.
        let (before, after) = (Arc::clone(&steps[0].before), Arc::clone(&steps[1].after));
        let applied = after.applied_since(&before, moment(20));
        let both = [Arc::new(Step::new(before, after, Arc::new(applied)))];
        for number in [1, 2] {
            assert!(matches!(
                find(&both, moment(20), revision(number)),
                Stepped::Passed
            ));
        }
    }
}

//! For how long a node that votes and carries traffic goes on with a policy that no quorum confirms:
//! as long as one that is told it, also across restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::Fleet;
use super::lease::LEASE;
use super::staleness::{Staleness, View};
use crate::runtime::clock::Duration;

/// How often a node looks whether its policy is too old.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long ago a quorum may have been asked whose word this node borrows, to count as asked now.
const FRESH: Duration = Duration::from_secs(3);

/// How old the policy is.
pub(super) struct Aging {
    staleness: Staleness,
    limit: Duration,
    /// Whether nobody is let in because it is too old.
    lapsed: AtomicBool,
    turn: Mutex<()>,
}

impl Aging {
    /// Goes on from what was written down in this directory.
    pub(super) fn open(directory: &Path, limit: Duration, view: View) -> Self {
        let staleness = Staleness::read(directory, view);
        Self {
            lapsed: AtomicBool::new(staleness.stale() >= limit),
            staleness,
            limit,
            turn: Mutex::default(),
        }
    }

    pub(super) fn has_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::SeqCst)
    }

    pub(super) fn stale(&self) -> Duration {
        self.staleness.stale()
    }

    /// Does it unless the policy is too old.
    fn unless_lapsed(&self, act: impl FnOnce()) {
        let _turn = self.turn.lock();
        if !self.has_lapsed() {
            act();
        }
    }

    /// Does it if the policy has become too old just now; whether it has.
    fn lapses(&self, act: impl FnOnce()) -> bool {
        let _turn = self.turn.lock();
        let lapses =
            self.staleness.stale() >= self.limit && !self.lapsed.swap(true, Ordering::SeqCst);
        if lapses {
            act();
        }
        lapses
    }

    /// Takes a confirmation that is good for so long; whether the policy had been too old.
    fn confirmed(&self, lasting: Duration) -> bool {
        if lasting.saturating_add(FRESH) < LEASE {
            return false;
        }
        let _turn = self.turn.lock();
        self.staleness.confirmed();
        self.lapsed.swap(false, Ordering::SeqCst)
    }
}

/// Lets nobody in once the policy is too old, and shows how old it is.
pub(super) async fn watch(fleet: Arc<Fleet>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        metrics::gauge!("portcullis_view_stale_seconds").set(fleet.stale().as_secs_f64());
        fleet.age();
    }
}

impl Fleet {
    /// Lets nobody in if the policy of a node that votes is too old.
    pub(super) fn age(&self) {
        let Some(aging) = &self.aging else { return };
        if aging.lapses(|| self.enforcer.withdraw()) {
            tracing::error!(
                stale = aging.stale().as_secs(),
                "no quorum has confirmed the policy within fleet.stale-limit; nobody is let in until one does"
            );
        }
    }

    /// Puts something in force, unless what is known here is too old: then it comes back as a whole
    /// once it is confirmed.
    pub(super) fn put_in_force(&self, act: impl FnOnce()) {
        match &self.aging {
            Some(aging) => aging.unless_lapsed(act),
            None => act(),
        }
    }

    /// Whether nobody has confirmed the policy for so long, by this node's own lease.
    pub(super) fn is_unconfirmed(&self, lasting: Duration) -> bool {
        self.lease.stale().is_some_and(|since| since > lasting)
    }

    /// Puts in force what this node was told, where that is newer.
    pub(super) fn go_by_relay(&self) {
        if let Some(relay) = &self.relay {
            self.put_in_force(|| self.enforcer.take_over(relay.view()));
        }
    }

    /// A quorum, or somebody who asked one, has confirmed the policy.
    pub(super) fn policy_confirmed(&self, lasting: Duration) {
        if let Some(aging) = &self.aging
            && aging.confirmed(lasting)
        {
            tracing::info!("a quorum has confirmed the policy: it is in force again");
            // What it was told first, where that is newer: nobody is let in by what is over.
            self.go_by_relay();
            self.catch_up();
        }
    }
}

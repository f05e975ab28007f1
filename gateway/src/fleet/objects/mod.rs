//! The audit logs' files in an S3-compatible object store: the same names, the same bytes.
//!
//! Only the control node that leads copies: one writer is enough, and the store is asked for what it has once. A leader that does not know
//! yet that it leads no more does no harm: nothing is overwritten blindly. What the store has, the store says: the size in its own
//! `checkpoint`, which is written last, when all the files that it promises are there. So there is no state here that could be lost, and
//! whoever leads next goes on. That checkpoint is believed only under the fleet's own trust, and only if it is one of this node's own tree.
//! Nothing waits for the store.
//!
//! Deliberately absent: removing anything, and overwriting anything but `checkpoint`; how long the store keeps what is not locked.

mod copying;
mod lacking;
mod own;
mod rereading;
mod store;

use std::sync::Arc;

use portcullis_audit::kinds;
use tokio::time::sleep;

use self::copying::{Copying, Round};
use self::store::{Failed, Store};
use super::Fleet;
use super::sealing::Sealing;
use crate::config::node::Objects;
use crate::runtime::limits::{OBJECTS_EVERY, OBJECTS_PAUSE};

/// A store for the audit logs.
pub(super) struct Mirror {
    store: Store,
}

impl Mirror {
    /// A mirror in this place. Nothing is asked yet.
    ///
    /// # Errors
    /// In words: a file cannot be read, or holds something else.
    pub(super) fn open(place: &Objects) -> Result<Arc<Self>, String> {
        let store = Store::open(place)?;
        Ok(Arc::new(Self { store }))
    }
}

/// Keeps the store up to date, for as long as the node runs.
pub(super) async fn mirror(fleet: Arc<Fleet>, sealing: Arc<Sealing>, mirror: Arc<Mirror>) {
    let mut copying = None;
    let mut health = Health::default();
    let mut pause = OBJECTS_EVERY;
    while fleet.stop.run_until_cancelled(sleep(pause)).await.is_some() {
        if !fleet.leads() {
            // Another one writes there now: what was known is not what is.
            copying = None;
            health = Health::default();
            pause = OBJECTS_EVERY;
            health.show(None);
            continue;
        }
        let copying =
            copying.get_or_insert_with(|| Copying::new(&fleet, &mirror.store, sealing.keeping()));
        let Some(round) = fleet.stop.run_until_cancelled(copying.round()).await else {
            return;
        };
        pause = match round.failed {
            Some(_) => pause.saturating_mul(2).min(OBJECTS_PAUSE),
            None => OBJECTS_EVERY,
        };
        health.show(Some(&round));
        health.tell(&fleet, &round);
    }
}

/// Whether the store takes the logs; it is told when that changes.
#[derive(Default)]
struct Health {
    stalled: bool,
}

impl Health {
    fn show(&self, round: Option<&Round>) {
        let of = |pick: fn(&Round) -> f64| round.map_or(0.0, pick);
        metrics::gauge!("portcullis_audit_objects_behind_entries").set(of(|it| it.lag as f64));
        metrics::gauge!("portcullis_audit_objects_behind_seconds")
            .set(of(|it| it.age.as_secs_f64()));
        metrics::gauge!("portcullis_audit_objects_contradicted_logs")
            .set(of(|it| it.contradicted as f64));
        if let Some(Failed { kind, .. }) = round.and_then(|round| round.failed.as_ref()) {
            metrics::counter!("portcullis_audit_objects_errors_total", "kind" => *kind)
                .increment(1);
        }
    }

    fn tell(&mut self, fleet: &Fleet, round: &Round) {
        let before = std::mem::replace(&mut self.stalled, round.failed.is_some());
        match &round.failed {
            Some(Failed { kind, says }) if !before => {
                tracing::warn!(
                    kind,
                    says,
                    behind = round.lag,
                    "the object store does not take the audit logs; it is tried again"
                );
                fleet.record(kinds::OBJECTS_STALLED, |event| {
                    let event = event.with("behind", round.lag);
                    event.with("kind", *kind).with("says", says.clone())
                });
            }
            None if before => {
                tracing::info!("the object store takes the audit logs again");
                fleet.record(kinds::OBJECTS_RESUMED, |event| {
                    event.with("behind", round.lag)
                });
            }
            Some(_) | None => {}
        }
    }
}

//! After this process slept, nothing passes until it is known whether what is in force here still
//! is.
//!
//! A quorum is asked, after the sleep, which view is the latest: by this node where it leads, else
//! through another control node. What is in a socket since before the sleep confirms nothing. Once
//! that view is in force here, or nobody could say within [`WAKING`], traffic goes on.

use std::sync::Arc;

use portcullis_audit::kinds;
use tokio::time::{sleep, timeout};

use super::source::at;
use super::{Fleet, words};
use crate::mesh::Refused;
use crate::runtime::clock::{self, Duration};
use crate::runtime::limits::WAKING;
use crate::runtime::vigil::Sleep;

/// How long one control node may take to answer which view is the latest.
const ANSWER_LIMIT: Duration = Duration::from_millis(700);
/// How long a quorum may take to confirm that it follows.
const CONFIRM_LIMIT: Duration = Duration::from_millis(500);
/// The pause before the next is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Sees to every sleep.
pub(super) async fn watch(fleet: Arc<Fleet>) {
    let mut sleeps = fleet.front.vigil().sleeps();
    // It may have slept before this was listened to.
    sleeps.mark_changed();
    while let Some(Ok(())) = fleet.stop.run_until_cancelled(sleeps.changed()).await {
        let slept = *sleeps.borrow_and_update();
        if slept.number == 0 {
            continue;
        }
        // What expired may not wait for the answer: whoever holds it is closed at once.
        fleet.front.expire();
        let confirming = timeout(WAKING, fleet.confirms_what_is_in_force());
        let Some(confirmed) = fleet.stop.run_until_cancelled(confirming).await else {
            return;
        };
        fleet.grow_old();
        fleet.front.woke(slept);
        tell(&fleet, slept, confirmed.is_ok());
    }
}

fn tell(fleet: &Fleet, slept: Sleep, confirmed: bool) {
    let revision = fleet.front.view().revision().get();
    let now = clock::boottime().as_millis();
    let paused = now.saturating_sub(slept.noticed.as_millis());
    let asleep = u64::try_from(slept.lasted.as_millis()).unwrap_or(u64::MAX);
    let outcome = if confirmed {
        "confirmed"
    } else {
        "unconfirmed"
    };
    metrics::counter!("portcullis_wakes_total", "outcome" => outcome).increment(1);
    metrics::histogram!("portcullis_wake_pause_seconds")
        .record(Duration::from_millis(paused).as_secs_f64());
    if confirmed {
        tracing::warn!(
            asleep,
            paused,
            revision,
            "this process slept; its policy is confirmed and traffic goes on"
        );
    } else {
        tracing::error!(
            asleep,
            paused,
            revision,
            "this process slept and nobody could confirm its policy; customers are served from the last good one"
        );
    }
    fleet.record(kinds::NODE_WOKE, |mut event| {
        event.revision = Some(revision);
        event
            .with("asleep_ms", asleep)
            .with("paused_ms", paused)
            .with("confirmed", confirmed)
    });
}

impl Fleet {
    /// Waits until a quorum has said which view is the latest and that one is in force here.
    async fn confirms_what_is_in_force(&self) {
        if self.mesh.is_none() {
            // By itself: nobody else decides anything.
            return self.enforces(at(&self.source.view())).await;
        }
        let mut turn = 0;
        loop {
            let latest = match self.latest().await {
                Some(latest) => Some(latest),
                None => self.ask_latest(turn).await,
            };
            if let Some(latest) = latest {
                return self.enforces(latest).await;
            }
            turn = turn.wrapping_add(1);
            sleep(ASK_AGAIN).await;
        }
    }

    /// The epoch and revision of the latest view, where this node leads and a quorum follows now.
    async fn latest(&self) -> Option<(u64, u64)> {
        let consensus = self.source.consensus()?;
        consensus.confirm(CONFIRM_LIMIT).await.ok()?;
        // What a quorum had decided when it was asked is applied here.
        Some(at(&consensus.view()))
    }

    /// The same from the leader, as far as it is known, or from one control node after the other.
    async fn ask_latest(&self, turn: usize) -> Option<(u64, u64)> {
        let leader = self.source.status().and_then(|status| status.leader);
        let leader = leader.filter(|leader| *leader != self.me);
        // Who is taken for the leader since before the sleep may be so no longer: others are asked too.
        let turn_of_others = if leader.is_some() { turn / 2 } else { turn };
        let asked = match leader {
            Some(leader) if turn.is_multiple_of(2) => leader,
            Some(_) | None => {
                let others = self.other_control_nodes();
                *others.get(turn_of_others.checked_rem(others.len())?)?
            }
        };
        let request = words::encode(&true).ok()?;
        let answer = self
            .mesh()?
            .call(asked.get(), words::LATEST, request, ANSWER_LIMIT)
            .await
            .ok()?;
        words::decode(&answer).ok()?
    }

    /// Says which view is the latest, asking the leader where it is another and that is allowed.
    pub(super) async fn tell_latest(&self, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let may_ask: bool = words::decode(request).map_err(Refused)?;
        let mut latest = self.latest().await;
        if latest.is_none() && may_ask {
            latest = self.latest_of_leader().await;
        }
        words::encode(&latest).map_err(Refused)
    }

    async fn latest_of_leader(&self) -> Option<(u64, u64)> {
        let leader = self.source.status()?.leader.filter(|it| *it != self.me)?;
        let request = words::encode(&false).ok()?;
        let answer = self
            .mesh()?
            .call(leader.get(), words::LATEST, request, CONFIRM_LIMIT)
            .await
            .ok()?;
        words::decode(&answer).ok()?
    }

    /// Waits until this view or a later one is in force.
    async fn enforces(&self, latest: (u64, u64)) {
        self.enforcer.enforces(|view| at(view) >= latest).await;
    }

    /// Lets nobody in where the view has become too old meanwhile.
    fn grow_old(&self) {
        self.age();
        if let Some(following) = self.source.following() {
            following.in_turn(|| {
                if following.lapses() {
                    self.enforcer.withdraw();
                }
            });
        }
    }
}

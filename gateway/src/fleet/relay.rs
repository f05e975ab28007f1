//! A control node that the log does not reach follows the signed view through another control node,
//! as those do who do not vote: cut off from the leader alone, it is not cut off from withdrawals.
//!
//! Whatever is newer is in force, its own state or what it was told. What it was told is kept on the
//! disk, so that no restart goes back behind it, and is no part of its state: it votes, signs and
//! answers questions by its own.

use std::sync::Arc;

use portcullis_certs::fleet::FleetId;
use portcullis_policy::{NodeId, Revision};
use tokio::time::{MissedTickBehavior, interval};

use super::following::Following;
use super::rounds::REPORT_LIMIT;
use super::vouching::Of;
use super::{Fleet, words};
use crate::mesh::Refused;
use crate::runtime::clock::{self, Duration};

/// How often a control node looks whether it is behind.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For how long it waits for its own state first.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long nobody may have confirmed its own policy until it asks another.
const UNCONFIRMED: Duration = Duration::from_secs(15);
/// Older reports say nothing of now.
const RECENTLY: Duration = Duration::from_secs(5);
/// Control nodes that are asked to pass a report on.
const PASSED_BY: usize = 2;

/// Follows the view through others whenever this node's own state is behind.
pub(super) async fn watch(fleet: Arc<Fleet>, relay: Arc<Following>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut since, mut turn) = (None, 0_usize);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if !fleet.is_behind() {
            since = None;
            continue;
        }
        let now = clock::instant();
        if now.saturating_duration_since(*since.get_or_insert(now)) < PATIENCE {
            continue;
        }
        let others = fleet.other_control_nodes();
        let Some(teller) = others.get(turn % others.len().max(1)).copied() else {
            continue;
        };
        turn = turn.wrapping_add(1);
        relay.go_on_from(&fleet.source.view());
        let followed = async {
            tokio::select! {
                problem = fleet.follow_one(&relay, teller) => Some(problem),
                () = fleet.caught_up() => None,
            }
        };
        match fleet.stop.run_until_cancelled(followed).await {
            None => return,
            Some(None) => tracing::info!("this node's own state has caught up"),
            Some(Some(problem)) => {
                tracing::debug!(control = %teller, problem, "the policy can no longer be followed through that control node; another is asked");
            }
        }
    }
}

impl Fleet {
    /// Whether another control node enforces what this one's own state does not have, or nobody
    /// confirms that it is the latest. One that lies gains nothing: only what a majority signed is put
    /// in force.
    fn is_behind(&self) -> bool {
        if self.is_out() {
            return false;
        }
        if self.is_unconfirmed(UNCONFIRMED) {
            return true;
        }
        let own = self.source.view().revision();
        let known = |node: &NodeId| -> Option<Revision> {
            let heard = self.reports.of(*node)?;
            (heard.ago < RECENTLY).then_some(heard.report.through)
        };
        let others = self.other_control_nodes();
        others.iter().filter_map(known).any(|through| through > own)
    }

    async fn caught_up(&self) {
        let mut ticks = interval(LOOK_EVERY);
        while self.is_behind() {
            ticks.tick().await;
        }
    }

    /// Lets others pass this node's report on to a control node that did not take it.
    pub(super) async fn pass_report(&self, to: NodeId, report: Vec<u8>) {
        let signed = self.signed_report(report);
        let bytes = signed.and_then(|signed| words::encode(&(to, signed)));
        let (Some(mesh), Ok(bytes)) = (self.mesh(), bytes) else {
            return;
        };
        let others = self.other_control_nodes();
        for by in others.into_iter().filter(|by| *by != to).take(PASSED_BY) {
            let asked = mesh.call(by.get(), words::PASS_ON, bytes.clone(), REPORT_LIMIT);
            if asked.await.is_ok() {
                return;
            }
        }
    }

    /// Passes a node's report on, once; a report that is lost is made good by the next.
    pub(super) async fn pass_on_report(
        &self,
        from: NodeId,
        request: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let (to, report): (NodeId, Vec<u8>) = words::decode(request).map_err(Refused)?;
        if !self.other_control_nodes().contains(&to) {
            return Err(Refused("reports are passed on to control nodes".to_owned()));
        }
        let mesh = self.mesh().ok_or_else(|| Refused("no mesh".to_owned()))?;
        let bytes = words::encode(&(from, report)).map_err(Refused)?;
        mesh.call(to.get(), words::PASSED, bytes, PASS_LIMIT)
            .await
            .map_err(|error| Refused(error.to_string()))
    }

    /// Takes a report that a control node passed on.
    pub(super) fn take_passed(&self, by: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let (node, report): (NodeId, Vec<u8>) = words::decode(request).map_err(Refused)?;
        let known = self.nodes().into_iter().find(|it| it.id == node);
        let known = known.filter(|it| it.id != self.me);
        let (Some(known), true) = (known, self.other_control_nodes().contains(&by)) else {
            return Err(Refused("this report is not taken from there".to_owned()));
        };
        let of = self.report_of(node).ok_or_else(|| Refused(String::new()))?;
        let vouched = of.read(&known.key, &report).map_err(|problem| {
            metrics::counter!("portcullis_reports_forged_total").increment(1);
            tracing::error!(%by, %node, problem, "a report that was passed on is not believed");
            Refused(problem)
        })?;
        self.reports.take_passed(node, vouched);
        Ok(Vec::new())
    }

    /// What a report of that node is signed for.
    fn report_of(&self, node: NodeId) -> Option<Of> {
        let fleet = FleetId(*self.membership.as_ref()?.fleet.as_bytes());
        let epoch = self.epoch();
        Some(Of { fleet, node, epoch })
    }

    fn signed_report(&self, report: Vec<u8>) -> Result<Vec<u8>, String> {
        let (of, starts) = (self.report_of(self.me), self.starts.as_ref());
        let (of, starts) = of.zip(starts).ok_or("this node is of no fleet")?;
        of.sign(starts.identity(), starts.number(), report)
    }
}

/// How long passing on may take: less than whoever asked waits.
const PASS_LIMIT: Duration = Duration::from_millis(1_500);

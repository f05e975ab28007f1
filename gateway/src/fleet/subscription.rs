//! The view, told by control nodes to those who do not vote.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_consensus::view::{
    Asked, Assembler, Frame, Output, Publish, Recovery, Refused, Succession, decode, encode, pieces,
};
use portcullis_policy::NodeId;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::following::Following;
use super::lease::LEASE;
use super::signing::Signing;
use super::source::at;
use super::{Fleet, words};
use crate::mesh::{Duplex, DuplexSender};
use crate::runtime::clock::{self, Duration};

/// How often a subscriber is told that the control node is there.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// After how much silence, or time without a quorum, a subscriber asks another control node.
const SILENT: Duration = Duration::from_secs(4);
/// How long one may take to let this node subscribe.
const OPEN_LIMIT: Duration = Duration::from_millis(1_500);
/// The pause before another is asked.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long a subscriber may take to read one piece.
const PIECE_LIMIT: Duration = Duration::from_secs(30);
/// How often a node looks whether its view is too old.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Tells a subscriber the view for as long as it listens. What it did not read yet is told in one
/// step once it does: nothing waits for it here.
pub(super) async fn serve(fleet: Arc<Fleet>, stream: Duplex) {
    let Some(signing) = fleet.signing.clone() else {
        return;
    };
    let (mut sender, mut receiver) = stream.split();
    let mut changed = signing.changed();
    let mut ticks = interval(ALIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at = None;
    let mut due = Due::at(fleet.decided());
    loop {
        changed.borrow_and_update();
        if let Some((epoch, revision)) = at
            && let Some(step) = signing.since(epoch, revision)
        {
            let to = step.to();
            let told = send_all(&mut sender, fleet.before(epoch, revision)).await;
            let frame = tokio::task::spawn_blocking(move || step.frame());
            let Ok(frame) = frame.await else { return };
            if told.is_err() || send(&mut sender, &frame).await.is_err() {
                return;
            }
            at = Some(to);
        }
        let alive = tokio::select! {
            asked = receiver.recv() => match asked.ok().flatten().map(|asked| decode(&asked)) {
                Some(Ok(Asked::From { epoch, revision })) => {
                    at = Some((epoch, revision));
                    false
                }
                Some(Ok(Asked::Ack { .. })) => false,
                Some(Err(_)) | None => return,
            },
            still = changed.changed() => match still {
                Ok(()) => false,
                Err(_) => return,
            },
            _ = ticks.tick() => true,
            () = fleet.stop.cancelled() => return,
        };
        if alive {
            let frame = fleet.alive(&signing, due.tick(fleet.decided()));
            if send(&mut sender, &frame).await.is_err() {
                return;
            }
        }
    }
}

/// What was decided a moment ago: a majority has signed it by now, if one can.
struct Due([(u64, u64); 2]);

impl Due {
    fn at(decided: (u64, u64)) -> Self {
        Self([decided; 2])
    }

    /// Takes the epoch and revision of what is decided now; those of two ticks ago.
    fn tick(&mut self, decided: (u64, u64)) -> (u64, u64) {
        let Self([before, last]) = *self;
        *self = Self([last, decided]);
        before
    }
}

async fn send_all(sender: &mut DuplexSender, frames: Vec<Frame>) -> Result<(), String> {
    for frame in frames {
        send(sender, &frame).await?;
    }
    Ok(())
}

async fn send(sender: &mut DuplexSender, frame: &Frame) -> Result<(), String> {
    let message = encode(frame)?;
    for piece in pieces(&message) {
        timeout(PIECE_LIMIT, sender.send(&piece))
            .await
            .map_err(|_| "the subscriber does not read".to_owned())?
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Follows the view through one control node after the other.
pub(super) async fn follow(fleet: Arc<Fleet>, following: Arc<Following>) {
    let mut turn = 0;
    while !fleet.stop.is_cancelled() {
        let told_by = fleet.tellers(&following);
        let count = told_by.len().max(1);
        if let Some(teller) = told_by.get(turn % count) {
            let followed = fleet
                .stop
                .run_until_cancelled(fleet.follow_one(&following, *teller));
            match followed.await {
                None => return,
                Some(problem) => {
                    tracing::warn!(control = %teller, problem, "a control node no longer tells this one the view; another is asked");
                }
            }
        }
        turn = turn.wrapping_add(1);
        let pause = fleet.stop.run_until_cancelled(sleep(ASK_AGAIN));
        if pause.await.is_none() {
            return;
        }
    }
}

/// Lets nobody in once the view is too old, and shows how old it is.
pub(super) async fn watch_age(fleet: Arc<Fleet>, following: Arc<Following>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let stale = following.staleness.stale();
        metrics::gauge!("portcullis_view_stale_seconds").set(stale.as_secs_f64());
        let lapses = following.in_turn(|| {
            let lapses = following.lapses();
            if lapses {
                fleet.enforcer.withdraw();
            }
            lapses
        });
        if lapses {
            tracing::error!(
                stale = stale.as_secs(),
                "no control node has confirmed the policy within fleet.stale-limit; nobody is let in until one does"
            );
        }
    }
}

impl Fleet {
    /// Those who can tell this node the view.
    fn tellers(&self, following: &Following) -> Vec<NodeId> {
        let view = following.view();
        match (view.fleet(), &self.membership) {
            (Some(fleet), _) => fleet.control().map(|node| node.id).collect(),
            (None, Some(membership)) => {
                let seeds = membership.seeds.iter();
                let voters = seeds.filter(|seed| seed.view_key.is_some());
                voters.map(|seed| seed.node).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Follows the view through this control node until that goes on no longer; why.
    pub(super) async fn follow_one(&self, following: &Arc<Following>, teller: NodeId) -> String {
        let followed = async {
            let mesh = self.mesh().ok_or("there is no mesh")?;
            let stream = timeout(OPEN_LIMIT, mesh.open(teller.get(), words::VIEW));
            let stream = stream.await.map_err(|_| "no answer in time")?;
            let (mut sender, mut receiver) = stream.map_err(|error| error.to_string())?.split();
            let (epoch, revision) = following.at();
            ask(&mut sender, &Asked::From { epoch, revision }).await?;
            let mut assembler = Assembler::default();
            let mut confirmed = clock::instant();
            loop {
                let piece = timeout(SILENT, receiver.recv()).await;
                let piece = piece
                    .map_err(|_| "it is silent")?
                    .map_err(|error| error.to_string())?
                    .ok_or("it ended the stream")?;
                let Some(message) = assembler.take(&piece)? else {
                    continue;
                };
                let taking = Arc::clone(following);
                let taken = tokio::task::spawn_blocking(move || {
                    decode::<Frame>(&message).map(|frame| {
                        let succession = matches!(frame, Frame::Succeeded(_));
                        (succession, taking.take(frame))
                    })
                });
                let (succession, taken) = taken.await.map_err(|error| error.to_string())??;
                match taken {
                    Output::Publish(publish) => {
                        self.take_told(following, &publish).await;
                        let revision = publish.view.revision().get();
                        ask(&mut sender, &Asked::Ack { revision }).await?;
                    }
                    Output::Resync => {
                        let everything = Asked::From {
                            epoch: 0,
                            revision: 0,
                        };
                        ask(&mut sender, &everything).await?;
                    }
                    Output::Refused(Refused::Older) | Output::Taken => {}
                    // All that are known are told; those before this node's own voters are not for it.
                    Output::Refused(_) if succession => {}
                    Output::Refused(refused) => {
                        metrics::counter!("portcullis_view_refused_total", "code" => refused.code())
                            .increment(1);
                        return Err::<(), String>(format!("what it told was refused: {refused}"));
                    }
                    // Cut off from the others it would keep this node from what they know.
                    Output::Alive { confirmed: false } => {
                        if clock::instant().saturating_duration_since(confirmed) >= SILENT {
                            return Err("it has no quorum, or tells less than it knows".to_owned());
                        }
                    }
                    Output::Alive { confirmed: true } => {
                        confirmed = clock::instant();
                        self.confirmed_by(following);
                    }
                }
            }
        };
        followed.await.err().unwrap_or_default()
    }

    /// Keeps a view that was told, then puts it in force.
    async fn take_told(&self, following: &Following, publish: &Publish) {
        following.keep(publish).await;
        // Nothing is in force while the view is too old: it comes back once it is confirmed.
        following.in_turn(|| {
            if self.relay.is_some() {
                self.put_in_force(|| self.enforcer.take_over(Arc::clone(&publish.view)));
            } else if !following.has_lapsed() {
                let (view, applied) = (Arc::clone(&publish.view), Arc::clone(&publish.applied));
                self.enforcer.take(view, applied);
            }
        });
        if publish.applied.fleet_changed {
            self.set_members();
        }
    }

    fn confirmed_by(&self, following: &Following) {
        if self.relay.is_some() {
            // What a control node with a quorum confirms of the view is as good as the quorum's own word.
            self.go_by_relay();
            return self.policy_confirmed(LEASE);
        }
        following.in_turn(|| {
            if following.confirmed() {
                tracing::info!("a control node has confirmed the policy: it is in force again");
                let view = following.view();
                let applied = view.applied_since(&self.front.view(), clock::now());
                self.enforcer.take(view, Arc::new(applied));
            }
        });
    }

    /// The epoch and revision of the latest view that this node knows to be decided.
    fn decided(&self) -> (u64, u64) {
        let told = self.relay.as_ref().map(|relay| relay.at());
        at(&self.source.view()).max(told.unwrap_or_default())
    }

    /// That this node is there. It confirms nothing while what it tells is behind what was `due`:
    /// others may have signed and know more.
    fn alive(&self, signing: &Signing, due: (u64, u64)) -> Frame {
        let ready = signing.ready().unwrap_or_default();
        Frame::Alive {
            revision: ready.1,
            confirmed: self.lease.remaining().is_some() && ready >= due,
        }
    }

    /// What a follower that was away since then needs before it believes the view.
    fn before(&self, epoch: u64, revision: u64) -> Vec<Frame> {
        let Some(state) = self.source.state() else {
            return Vec::new();
        };
        let recovery: Option<Recovery> = state.recovery().and_then(|it| decode(it).ok());
        let recovery = recovery.filter(|recovery| recovery.epoch > epoch);
        let mut frames: Vec<Frame> = recovery.map(Frame::Recovered).into_iter().collect();
        let successions = state.successions();
        let successions: BTreeMap<u64, Succession> = successions
            .filter_map(|it| decode::<Succession>(it).ok())
            .map(|it| (it.signed.statement.revision, it))
            .filter(|(at, _)| *at > revision || !frames.is_empty())
            .collect();
        frames.extend(successions.into_values().map(Frame::Succeeded));
        frames
    }
}

async fn ask(sender: &mut DuplexSender, asked: &Asked) -> Result<(), String> {
    let message = encode(asked)?;
    sender
        .send(&message)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_two_ticks_ago_is_due_and_what_came_since_is_not() {
        let mut due = Due::at((1, 7));
        assert_eq!(due.tick((1, 9)), (1, 7));
        assert_eq!(due.tick((1, 9)), (1, 7));
        assert_eq!(due.tick((1, 12)), (1, 9));
        assert_eq!(due.tick((2, 3)), (1, 9));
        assert_eq!(due.tick((2, 3)), (1, 12));
        // A newer epoch counts for more than a revision.
        assert!(due.tick((2, 3)) > (1, 12));
    }
}

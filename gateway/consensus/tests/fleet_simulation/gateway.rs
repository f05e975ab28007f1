//! A gateway: the real follower, what it keeps, what it serves, and whom it lets in.

use portcullis_certs::fleet::RecoveryKey;
use portcullis_consensus::view::{Follower, Frame, Kept, Output, Trusted};
use portcullis_policy::{Attempt, Decision, Purpose, Silent, Timestamp, decide};

use crate::control::{FLEET, Roots};
use crate::dice::Dice;
use crate::model::Model;
use crate::plan::{Try, admits};

pub(crate) fn recovery_key() -> RecoveryKey {
    RecoveryKey::from_seed([255; 32]).unwrap()
}

pub(crate) struct Gateway {
    pub(crate) follower: Follower,
    trusted: Trusted,
    disk: Option<Vec<u8>>,
    /// The latest revision that clients were decided by.
    served: u64,
}

/// What a gateway does after it was told something.
pub(crate) enum Next {
    Nothing,
    AskForEverything,
}

impl Gateway {
    pub(crate) fn new(trusted: Trusted) -> Self {
        Self {
            follower: Follower::new(trusted.clone()),
            trusted,
            disk: None,
            served: 0,
        }
    }

    /// Takes what it is told; `dies` is whether the process ends between the disk and the clients.
    pub(crate) fn take(&mut self, frame: Frame, now: i64, dies: bool, roots: &Roots) -> Next {
        match self.follower.take(frame, Timestamp::from_millis(now)) {
            Output::Publish(publish) => {
                let revision = publish.view.revision().get();
                assert!(revision > self.served, "{revision} after {}", self.served);
                let root = publish.view.root();
                assert_eq!(
                    Some(&root),
                    roots.views.get(&revision),
                    "a view that no node had"
                );
                self.disk = Some(Kept::of(&publish).to_bytes().unwrap());
                if dies {
                    self.restart(now);
                } else {
                    self.served = revision;
                }
                Next::Nothing
            }
            Output::Resync => Next::AskForEverything,
            Output::Refused(_) | Output::Taken | Output::Alive { .. } => Next::Nothing,
        }
    }

    pub(crate) fn restart(&mut self, now: i64) {
        let at = Timestamp::from_millis(now);
        let trusted = &self.trusted;
        self.follower = match &self.disk {
            Some(bytes) => Kept::from_bytes(bytes)
                .and_then(|kept| kept.follow(FLEET, trusted.recovery_key, at))
                .unwrap(),
            None => Follower::new(trusted.clone()),
        };
        let revision = self.follower.view().revision().get();
        assert!(revision >= self.served, "older than what was served");
        self.served = revision;
    }

    /// Decides somebody's attempt, and compares with what the policy of that revision says.
    pub(crate) fn decide(&self, dice: &mut Dice, model: &Model, now: i64) -> bool {
        let view = self.follower.view();
        assert_eq!(view.revision().get(), self.served);
        let policy = &model.policies[&self.served];
        let ask = Try::any(dice, policy, now);
        let (origin, server_name) = (ask.origin(), ask.server_name());
        let attempt = Attempt {
            origin: &origin,
            address: ask.address().into(),
            server_name: Some(&server_name),
            user: "app",
            database: "orders",
            replication: false,
            certificate: None,
            purpose: Purpose::Connect,
            unconfirmed: 0,
        };
        let at = Timestamp::from_millis(ask.at);
        let decision = decide(view, &attempt, at, &mut Silent);
        let permitted = matches!(decision, Decision::Permitted(_));
        assert_eq!(
            permitted,
            admits(policy, &ask),
            "revision {}: {ask:?}: {decision:?}",
            self.served
        );
        permitted
    }
}

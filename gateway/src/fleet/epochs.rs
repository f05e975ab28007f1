//! What becomes of a node when it hears that an epoch newer than its own began.
//!
//! Whoever lives in the newer epoch says so in its greeting, with what the recovery key signed;
//! nothing else counts, so nobody can make an epoch up. A node that is told the view goes on in the
//! newer epoch. A control node of the older one is of the fleet no longer: it takes part in deciding
//! no more and leases nothing, also after a restart, and says so. Its customers are served as before
//! from the policy that it has.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::PublicSigningKey;
use portcullis_consensus::view::{Frame, Output, Recovery, decode};
use portcullis_policy::FleetId;

use super::Fleet;
use super::following::recovery_key;
use super::home::{Home, Membership, read, write_private};
use super::peers::Wire;
use super::source::epoch;
use crate::ledger::Ledger;
use crate::runtime::clock;

/// What this node knows of newer epochs.
pub(super) struct Epochs {
    fleet: FleetId,
    key: PublicSigningKey,
    path: PathBuf,
    /// Over which this node takes part in deciding.
    wire: Arc<Wire>,
    ledger: Arc<Ledger>,
    /// The epoch in which this control node has no part; once known, for good.
    fenced: OnceLock<u64>,
}

const FILE: &str = "newer-epoch";

impl Epochs {
    /// Goes on from what was written down. `epoch` is the one in which this node lives.
    pub(super) fn load(
        home: &Home,
        membership: &Membership,
        epoch: u64,
        wire: Arc<Wire>,
        ledger: Arc<Ledger>,
    ) -> Result<Self, String> {
        let key = recovery_key(home)?;
        let epochs = Self {
            fleet: membership.fleet,
            key,
            path: home.directory().join(FILE),
            wire,
            ledger,
            fenced: OnceLock::new(),
        };
        let heard = heard_of(home, membership.fleet, &key)?;
        if let Some(newer) = heard.filter(|newer| newer.epoch > epoch) {
            epochs.fence(newer.epoch);
        }
        Ok(epochs)
    }

    /// The newer epoch in which this control node has no part.
    pub(super) fn fenced(&self) -> Option<u64> {
        self.fenced.get().copied()
    }

    /// What these bytes prove.
    fn proven(&self, proof: &[u8]) -> Option<Recovery> {
        believed(proof, self.fleet, &self.key)
    }

    /// Takes this node out of deciding; whether it took part until now.
    fn fence(&self, epoch: u64) -> bool {
        let first = self.fenced.set(epoch).is_ok();
        self.wire.cut();
        if first {
            tracing::error!(
                epoch,
                "the recovery key began a newer epoch without this node: it takes part in deciding no longer and leases nothing; stop it, empty its data directory and join it anew"
            );
            self.record(epoch, "fenced");
        }
        first
    }

    fn record(&self, epoch: u64, outcome: &str) {
        let event = Event::new(
            clock::now().as_millis(),
            kinds::FLEET_EPOCH,
            self.ledger.node(),
        );
        self.ledger
            .record(event.with("epoch", epoch).with("outcome", outcome));
    }
}

/// The newer epoch of which a node of this fleet was told, if any.
///
/// # Errors
/// In words: the file cannot be read.
pub(super) fn heard_of(
    home: &Home,
    fleet: FleetId,
    key: &PublicSigningKey,
) -> Result<Option<Recovery>, String> {
    let path = home.directory().join(FILE);
    let proof = read(&path).map_err(|error| error.to_string())?;
    Ok(proof.and_then(|proof| believed(&proof, fleet, key)))
}

fn believed(proof: &[u8], fleet: FleetId, key: &PublicSigningKey) -> Option<Recovery> {
    let recovery: Recovery = decode(proof).ok()?;
    (recovery.fleet == fleet && recovery.is_by(key)).then_some(recovery)
}

impl Fleet {
    /// The newer epoch in which this control node has no part.
    pub(super) fn fenced(&self) -> Option<u64> {
        self.epochs.as_ref()?.fenced()
    }

    /// The epoch in which this node lives.
    pub(super) fn epoch(&self) -> u64 {
        let own = epoch(&self.source.view());
        let joined = self.membership.as_ref().map_or(0, |it| it.epoch);
        let told = self.source.following().map_or(0, |it| it.trusted_epoch());
        own.max(joined).max(told)
    }

    /// Takes what proves that a newer epoch began, if it does.
    pub(super) fn newer_epoch(&self, proof: &[u8]) {
        let Some(epochs) = &self.epochs else { return };
        let Some(recovery) = epochs.proven(proof) else {
            tracing::warn!("a newer epoch that the recovery key did not begin was not believed");
            return;
        };
        let epoch = recovery.epoch;
        if epoch <= self.epoch() || recovery.voters.0.contains_key(&self.me) {
            return;
        }
        let Some(following) = self.source.following() else {
            if epochs.fence(epoch) {
                self.lease.give_up(clock::boottime());
                self.write_down(&epochs.path, proof.to_vec());
            }
            return;
        };
        if let Output::Taken = following.take(Frame::Recovered(recovery)) {
            tracing::warn!(
                epoch,
                "the recovery key began a newer epoch; this node follows it"
            );
            epochs.record(epoch, "followed");
            if let Some(mesh) = self.mesh() {
                mesh.set_proof(proof.to_vec());
            }
            self.set_members();
        }
    }

    fn write_down(&self, path: &Path, proof: Vec<u8>) {
        let path = path.to_owned();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = write_private(&path, &proof) {
                tracing::error!(%error, "that a newer epoch began could not be written down; a restart must hear it again");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portcullis_certs::fleet::RecoveryKey;
    use portcullis_consensus::view::{Signature, Voters, encode};
    use portcullis_policy::NodeId;

    use super::*;

    #[test]
    fn only_what_the_recovery_key_signed_for_this_fleet_is_believed() {
        let key = RecoveryKey::from_seed([1; 32]).unwrap();
        let other = RecoveryKey::from_seed([2; 32]).unwrap();
        let (ours, theirs) = (FleetId::new([1; 16]), FleetId::new([2; 16]));
        let voters = Voters(BTreeMap::from([(NodeId::FIRST, [3; 32])]));
        let signed = |by: &RecoveryKey, fleet: FleetId, said: u64, signed: u64| {
            let message = Recovery::message(fleet, signed, &voters);
            let recovery = Recovery {
                fleet,
                epoch: said,
                voters: voters.clone(),
                signature: Signature::new(by.sign(&message)),
            };
            encode(&recovery).unwrap()
        };
        let good = signed(&key, ours, 2, 2);
        assert!(good.len() <= crate::mesh::limits::PROOF_BYTES);
        let believes = |proof: &[u8]| believed(proof, ours, &key.public()).map(|it| it.epoch);
        assert_eq!(believes(&good), Some(2));
        for bad in [
            signed(&other, ours, 2, 2),
            signed(&key, theirs, 2, 2),
            // An epoch beyond the one that was signed.
            signed(&key, ours, 99, 2),
            good[..good.len() - 1].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(believes(&bad), None);
        }
    }
}

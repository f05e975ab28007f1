//! What voters sign: a view by its root, and who votes.

use portcullis_certs::fleet::{self, PublicSigningKey, ViewKey, verified_signers, verify_recovery};
use portcullis_policy::{Digest, Fleet, FleetId, NodeId, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Who votes, and by which key each of them signs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters(pub BTreeMap<NodeId, PublicSigningKey>);

impl Voters {
    /// Those of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let signing = |node: &portcullis_policy::Node| Some((node.id, node.view_key?));
        Self(fleet.control().filter_map(signing).collect())
    }

    /// A hash over the ids and the keys.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(b"portcullis voters v1\0");
        for (id, key) in &self.0 {
            hasher.update(id.get().to_be_bytes());
            hasher.update(key);
        }
        Digest::new(hasher.finalize().into())
    }

    /// Whether a majority of them has signed. Nobody is no majority of nobody.
    #[must_use]
    pub fn confirm(&self, signed: &Signed) -> bool {
        let signatures = signed.signatures.iter();
        let signatures = signatures.map(|(id, signature)| (*id, signature.bytes()));
        let message = signed.statement.bytes();
        let signers = verified_signers(&message, &signatures.collect(), &self.0);
        signers.len() > self.0.len() / 2
    }
}

/// That the view at a revision is this one, and who votes from there on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The fleet.
    pub fleet: FleetId,
    /// Its epoch.
    pub epoch: u64,
    /// The revision.
    pub revision: u64,
    /// The view's root.
    pub root: Digest,
    /// The hash of those who vote at that revision ([`Voters::hash`]).
    pub voters: Digest,
}

impl Statement {
    /// What a voter says of a view; nothing of one without a fleet.
    #[must_use]
    pub fn of(view: &View) -> Option<Self> {
        let fleet = view.fleet()?;
        Some(Self {
            fleet: fleet.id,
            epoch: fleet.epoch,
            revision: view.revision().get(),
            root: view.root(),
            voters: Voters::of(fleet).hash(),
        })
    }

    /// The bytes that are signed: each field in its own length, whatever they are sent in.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [
            VIEW.as_slice(),
            self.fleet.as_bytes(),
            &self.epoch.to_be_bytes(),
            &self.revision.to_be_bytes(),
            self.root.as_bytes(),
            self.voters.as_bytes(),
        ]
        .concat()
    }

    /// A voter's signature.
    #[must_use]
    pub fn sign(&self, key: &ViewKey) -> Signature {
        Signature::new(key.sign(&self.bytes()))
    }
}

const VIEW: &[u8; 16] = b"statement\0\0\0\0\0\0\x01";

/// A signature, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl Signature {
    /// These 64 bytes.
    #[must_use]
    pub fn new(bytes: fleet::Signature) -> Self {
        let (mut high, mut low) = ([0; 32], [0; 32]);
        let halves = high.iter_mut().chain(&mut low);
        halves.zip(bytes).for_each(|(to, from)| *to = from);
        Self(high, low)
    }

    /// The 64 bytes.
    #[must_use]
    pub fn bytes(&self) -> fleet::Signature {
        let mut bytes = [0; 64];
        let halves = self.0.iter().chain(&self.1);
        bytes
            .iter_mut()
            .zip(halves)
            .for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// A statement, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// What is said.
    pub statement: Statement,
    /// By whom. Not believed before it is counted against those who vote.
    pub signatures: BTreeMap<NodeId, Signature>,
}

/// A statement after which others vote, with their keys: for those who missed the view itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The statement at the revision that changed the voters, signed by those before them.
    pub signed: Signed,
    /// Those who vote from then on; the statement has their hash.
    pub voters: Voters,
}

/// That a new epoch begins with these voters, signed by the key that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The fleet.
    pub fleet: FleetId,
    /// The new epoch.
    pub epoch: u64,
    /// Who votes in it from its beginning.
    pub voters: Voters,
    /// The recovery key's.
    pub signature: Signature,
}

impl Recovery {
    /// The bytes that the recovery key signs.
    #[must_use]
    pub fn message(fleet: FleetId, epoch: u64, voters: &Voters) -> Vec<u8> {
        [
            RECOVERY.as_slice(),
            fleet.as_bytes(),
            &epoch.to_be_bytes(),
            voters.hash().as_bytes(),
        ]
        .concat()
    }

    /// Whether the holder of this key says so.
    #[must_use]
    pub fn is_by(&self, key: &PublicSigningKey) -> bool {
        let message = Self::message(self.fleet, self.epoch, &self.voters);
        verify_recovery(key, &message, &self.signature.bytes())
    }
}

const RECOVERY: &[u8; 16] = b"recovery\0\0\0\0\0\0\0\x01";

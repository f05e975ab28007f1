//! The last good view, as a gateway keeps it on its disk.
//!
//! A file is: sixteen bytes that say what it is, the view with its statement and those by whose
//! keys the signatures count, and a checksum. What is read is verified again as if it were told.

use super::follower::{Follower, Output, Publish, Trusted};
use super::frames::{Frame, decode, encode};
use super::statement::{Signed, Voters};
use portcullis_certs::fleet::PublicSigningKey;
use portcullis_policy::{FleetId, Timestamp, ViewUpdate};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Those who voted before the view.
    voters: Voters,
    /// Who says so.
    signed: Signed,
    /// The view, as an update of an empty one.
    update: ViewUpdate,
}

/// What a file begins with.
const MAGIC: &[u8; 16] = b"portcullis view1";
/// The largest file, in bytes.
pub const MAX_KEPT: u64 = 1 << 30;

impl Kept {
    /// What is kept of a view that is about to be put in force.
    #[must_use]
    pub fn of(publish: &Publish) -> Self {
        Self {
            voters: publish.voters.clone(),
            signed: publish.signed.clone(),
            update: publish.view.as_update(),
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// In words: it is larger than postcard can hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(encode(self)?);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        Ok(bytes)
    }

    /// What these bytes of a file hold.
    ///
    /// # Errors
    /// In words: they are not whole, or no file of this kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.len().saturating_sub(32);
        let (body, sum) = bytes.split_at_checked(end).ok_or("it is too short")?;
        if Sha256::digest(body).as_slice() != sum {
            return Err("its checksum is wrong".to_owned());
        }
        let body = body.strip_prefix(MAGIC).ok_or("it is no kept view")?;
        decode(body)
    }

    /// A follower that goes on from it.
    ///
    /// # Errors
    /// In words: it is not what was signed, or another fleet's.
    pub fn follow(
        self,
        fleet: FleetId,
        recovery_key: PublicSigningKey,
        at: Timestamp,
    ) -> Result<Follower, String> {
        let mut follower = Follower::new(Trusted {
            fleet,
            epoch: self.signed.statement.epoch,
            voters: self.voters,
            recovery_key,
        });
        let frame = Frame::Whole {
            update: self.update,
            signed: self.signed,
        };
        match follower.take(frame, at) {
            Output::Publish(_) => Ok(follower),
            Output::Refused(refused) => Err(refused.to_string()),
            Output::Resync | Output::Taken | Output::Alive { .. } => {
                Err("it is not a view".to_owned())
            }
        }
    }
}

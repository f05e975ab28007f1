//! The greeting on a new connection: what the certificate does not say.

use super::closing::Closing;
use super::limits::PROOF_BYTES;

/// The version of what nodes say to each other.
pub const VERSION: u16 = 1;

/// Bytes of a greeting without what is appended.
const BYTES: usize = 34;

/// What each side tells first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The version that it speaks.
    pub version: u16,
    /// Its fleet.
    pub fleet: [u8; 16],
    /// The epoch that it lives in.
    pub epoch: u64,
    /// Its number: it must be the certificate's.
    pub node: u64,
}

impl Hello {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.fleet);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.node.to_be_bytes());
        bytes
    }

    /// As bytes, with what proves its epoch to whoever lives in an older one.
    #[must_use]
    pub fn encode_with(&self, proof: &[u8]) -> Vec<u8> {
        let mut bytes = self.encode();
        let length = u16::try_from(proof.len()).ok();
        if let Some(length) = length.filter(|_| (1..=PROOF_BYTES).contains(&proof.len())) {
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(proof);
        }
        bytes
    }

    /// The proof in the bytes of a greeting; nothing where there is none.
    #[must_use]
    pub fn proof(bytes: &[u8]) -> Option<&[u8]> {
        let (length, rest) = bytes.get(BYTES..)?.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        rest.get(..length)
            .filter(|proof| (1..=PROOF_BYTES).contains(&proof.len()))
    }

    /// From bytes. Later versions may append to a greeting.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first_chunk()?;
        let (fleet, bytes) = bytes.split_first_chunk()?;
        let (epoch, bytes) = bytes.split_first_chunk()?;
        let (node, _) = bytes.split_first_chunk()?;
        Some(Self {
            version: u16::from_be_bytes(*version),
            fleet: *fleet,
            epoch: u64::from_be_bytes(*epoch),
            node: u64::from_be_bytes(*node),
        })
    }

    /// Whether we, who say `self`, go on with somebody who says `theirs` and whose certificate is node `certified`'s.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, theirs: &Self, certified: u64) -> Result<(), Closing> {
        if theirs.version != self.version {
            return Err(Closing::WrongVersion);
        }
        if theirs.fleet != self.fleet {
            return Err(Closing::WrongFleet);
        }
        if theirs.node != certified {
            return Err(Closing::OtherNode);
        }
        self.check_epoch(theirs.epoch)
    }

    /// Whether we live in the same epoch.
    ///
    /// # Errors
    /// Which of us is behind.
    pub fn check_epoch(&self, theirs: u64) -> Result<(), Closing> {
        match theirs.cmp(&self.epoch) {
            std::cmp::Ordering::Less => Err(Closing::OlderEpoch),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Closing::NewerEpoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Hello = Hello {
        version: VERSION,
        fleet: [7; 16],
        epoch: 5,
        node: 1,
    };

    #[test]
    fn a_greeting_is_read_as_it_was_written_and_may_be_longer_but_not_shorter() {
        let mut bytes = OURS.encode();
        assert_eq!(Hello::decode(&bytes), Some(OURS));
        assert_eq!(Hello::decode(&bytes[..33]), None);
        bytes.push(1);
        assert_eq!(Hello::decode(&bytes), Some(OURS));
    }

    #[test]
    fn a_proof_is_read_as_it_was_written_or_not_at_all() {
        for length in [1, 150, PROOF_BYTES] {
            let proof = vec![7; length];
            let bytes = OURS.encode_with(&proof);
            assert_eq!(Hello::decode(&bytes), Some(OURS));
            assert_eq!(Hello::proof(&bytes), Some(&proof[..]));
            assert_eq!(Hello::proof(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(OURS.encode_with(&[]), OURS.encode());
        assert_eq!(OURS.encode_with(&[7; PROOF_BYTES + 1]), OURS.encode());
        assert_eq!(Hello::proof(&OURS.encode()), None);
        assert_eq!(Hello::proof(&[OURS.encode(), vec![0]].concat()), None);
        assert_eq!(Hello::proof(&[OURS.encode(), vec![0, 0]].concat()), None);
        assert_eq!(
            Hello::proof(&[OURS.encode(), vec![0xFF; 2_000]].concat()),
            None
        );
    }

    #[test]
    fn each_thing_that_differs_has_its_reason() {
        let theirs = Hello { node: 2, ..OURS };
        assert_eq!(OURS.check(&theirs, 2), Ok(()));
        assert_eq!(OURS.check(&theirs, 3), Err(Closing::OtherNode));
        for (theirs, reason) in [
            (
                Hello {
                    version: 2,
                    ..theirs
                },
                Closing::WrongVersion,
            ),
            (
                Hello {
                    fleet: [8; 16],
                    ..theirs
                },
                Closing::WrongFleet,
            ),
            (Hello { epoch: 4, ..theirs }, Closing::OlderEpoch),
            (Hello { epoch: 6, ..theirs }, Closing::NewerEpoch),
        ] {
            assert_eq!(OURS.check(&theirs, 2), Err(reason));
        }
    }
}

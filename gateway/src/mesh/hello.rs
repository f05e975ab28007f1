//! The greeting on a new connection: what the certificate does not say.

use super::closing::Closing;
use super::limits::PROOF_BYTES;
use super::start::MAX_BYTES;

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

    /// As bytes, with what is appended. What is too long is not said.
    #[must_use]
    pub fn encode_with(&self, appended: &Appended<'_>) -> Vec<u8> {
        let mut bytes = self.encode();
        let mut whole = bytes.len();
        for (part, most) in appended.parts() {
            let part = if part.len() > most { &[] } else { part };
            let length = u16::try_from(part.len()).unwrap_or_default();
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
            if !part.is_empty() {
                whole = bytes.len();
            }
        }
        bytes.truncate(whole);
        bytes
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

/// What may stand behind a greeting: each with its length before it, empty where it is not said. Later versions may append more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended<'a> {
    /// What proves its epoch to whoever lives in an older one; at most [`PROOF_BYTES`].
    pub proof: &'a [u8],
    /// Which start of its process says so, signed.
    pub start: &'a [u8],
    /// To one that is turned away for it: the later start of the same node, signed by that.
    pub later: &'a [u8],
}

impl<'a> Appended<'a> {
    /// What is appended in the bytes of a greeting. What is cut off, or longer than it may be, and all behind it, counts as not said.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut rest = bytes.get(BYTES..).unwrap_or_default();
        let mut next = |most: usize| -> &'a [u8] {
            let part = rest.split_first_chunk().and_then(|(length, behind)| {
                let length = usize::from(u16::from_be_bytes(*length));
                let (part, behind) = behind.split_at_checked(length)?;
                (length <= most).then_some((part, behind))
            });
            let (part, behind) = part.unwrap_or_default();
            rest = behind;
            part
        };
        Self {
            proof: next(PROOF_BYTES),
            start: next(MAX_BYTES),
            later: next(MAX_BYTES),
        }
    }

    fn parts(&self) -> [(&'a [u8], usize); 3] {
        [
            (self.proof, PROOF_BYTES),
            (self.start, MAX_BYTES),
            (self.later, MAX_BYTES),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_proof(proof: &[u8]) -> Vec<u8> {
        OURS.encode_with(&Appended {
            proof,
            ..Appended::default()
        })
    }

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
            let bytes = with_proof(&proof);
            assert_eq!(Hello::decode(&bytes), Some(OURS));
            assert_eq!(Appended::of(&bytes).proof, proof);
            assert!(Appended::of(&bytes[..bytes.len() - 1]).proof.is_empty());
        }
        assert_eq!(with_proof(&[]), OURS.encode());
        assert_eq!(with_proof(&[7; PROOF_BYTES + 1]), OURS.encode());
        for behind in [vec![], vec![0], vec![0, 0], vec![0xFF; 2_000]] {
            let bytes = [OURS.encode(), behind].concat();
            assert_eq!(Appended::of(&bytes), Appended::default());
        }
    }

    #[test]
    fn what_is_appended_is_read_as_it_was_written_each_with_or_without_the_others() {
        let (proof, start, later) = ([1; PROOF_BYTES], [2; MAX_BYTES], [3; MAX_BYTES]);
        for chosen in 0..8 {
            let of = |bit: u8, part| if chosen & bit == 0 { &[][..] } else { part };
            let appended = Appended {
                proof: of(1, &proof),
                start: of(2, &start),
                later: of(4, &later),
            };
            let mut bytes = OURS.encode_with(&appended);
            assert!(bytes.len() <= crate::mesh::limits::HELLO_BYTES);
            assert_eq!(Hello::decode(&bytes), Some(OURS));
            assert_eq!(Appended::of(&bytes), appended);
            bytes.extend([9; 20]);
            assert_eq!(Appended::of(&bytes).start, appended.start);
            for end in 0..bytes.len() {
                let cut = Appended::of(&bytes[..end]);
                assert!(cut.start.is_empty() || cut.start == appended.start);
            }
        }
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

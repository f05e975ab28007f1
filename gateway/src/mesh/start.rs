//! Which start of its process a peer is: of two that show one node's key, the later one is the node.
//!
//! A node counts its starts on its disk and draws a random number at each. A copy of its data that is started elsewhere counts on from
//! there, so that no two processes are the same start, and everybody who compares them comes to the same answer. The node signs what it
//! says: whoever is turned away is shown by whom it was overtaken, and nobody can make that up.

use std::fmt;

use portcullis_certs::fleet::{FleetId, MAX_SIGNED_BYTES, NodeIdentity, Statement};

/// One start of a node's process. The later of two is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// The epoch in which the process began: whoever was recovered goes on whatever was started before.
    pub epoch: u64,
    /// How many starts there were, this one included.
    pub number: u64,
    /// Drawn at this start and kept nowhere: tells apart what was copied and started as often.
    pub random: [u8; 16],
}

/// The version of the bytes.
const VERSION: u8 = 1;
/// Bytes of a start without its signature.
const BYTES: usize = 33;
/// The most bytes of a signed start.
pub(super) const MAX_BYTES: usize = BYTES + MAX_SIGNED_BYTES;

impl Start {
    /// As the node says it. `None` if its key cannot sign.
    #[must_use]
    pub fn signed(&self, identity: &NodeIdentity) -> Option<Vec<u8>> {
        let bytes = self.encode();
        let message = message(identity.fleet(), identity.node(), &bytes);
        let signature = identity.sign(Statement::Start, &message)?;
        Some([bytes.as_slice(), &signature].concat())
    }

    /// What that node has said, if the holder of the key with this hash has.
    #[must_use]
    pub fn verified(said: &[u8], fleet: FleetId, node: u64, key: &[u8; 32]) -> Option<Self> {
        let (bytes, signature) = said.split_first_chunk::<BYTES>()?;
        let message = message(fleet, node, bytes);
        let start = Self::decode(bytes)?;
        Statement::Start
            .verify(key, &message, signature)
            .then_some(start)
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let fields = [VERSION]
            .into_iter()
            .chain(self.epoch.to_be_bytes())
            .chain(self.number.to_be_bytes())
            .chain(self.random);
        for (byte, value) in bytes.iter_mut().zip(fields) {
            *byte = value;
        }
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let (&[version], bytes) = bytes.split_first_chunk()?;
        let (epoch, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let (random, _) = bytes.split_first_chunk()?;
        (version == VERSION).then_some(Self {
            epoch: u64::from_be_bytes(*epoch),
            number: u64::from_be_bytes(*number),
            random: *random,
        })
    }
}

fn message(fleet: FleetId, node: u64, start: &[u8]) -> Vec<u8> {
    [&fleet.0[..], &node.to_be_bytes(), start].concat()
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {} of epoch {}", self.number, self.epoch)
    }
}

/// The latest start of a peer that this node knows, as the peer said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) start: Start,
    pub(super) bytes: Vec<u8>,
}

/// Who of two says to be a node: whether the one that comes is taken, given the latest that was. One that says nothing of its start, as
/// older versions do, is taken as long as none has.
pub(super) fn is_overtaken(latest: Option<&Said>, comes: Option<&Said>) -> bool {
    match (latest, comes) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(latest), Some(comes)) => comes.start < latest.start,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_world::World;
    use super::*;

    const START: Start = Start {
        epoch: 2,
        number: 7,
        random: [5; 16],
    };

    #[test]
    fn a_start_is_read_as_its_node_signed_it_or_not_at_all() {
        let world = World::new(1, &[1, 2]);
        let (one, two) = (world.identity(1), world.identity(2));
        let said = START.signed(&one).unwrap();
        assert!(said.len() <= MAX_BYTES);
        let read = |said: &[u8], node, key| Start::verified(said, one.fleet(), node, &key);
        assert_eq!(read(&said, 1, one.key()), Some(START));
        assert_eq!(read(&said, 2, one.key()), None);
        assert_eq!(read(&said, 1, two.key()), None);
        assert_eq!(
            Start::verified(&said, FleetId([9; 16]), 1, &one.key()),
            None
        );
        for end in 0..said.len() {
            assert_eq!(read(&said[..end], 1, one.key()), None);
        }
        for position in 0..said.len() {
            let mut bytes = said.clone();
            bytes[position] ^= 1;
            assert_eq!(read(&bytes, 1, one.key()), None, "{position}");
        }
    }

    #[test]
    fn a_start_is_read_as_it_was_first_written() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/mesh/start.v1.bin");
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            let one = World::new(1, &[1]).identity(1);
            let said = START.signed(&one).unwrap();
            std::fs::write(&path, [&one.key()[..], &said].concat()).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        let (key, said) = written.split_first_chunk().unwrap();
        let fleet = FleetId([1; 16]);
        assert_eq!(Start::verified(said, fleet, 1, key), Some(START));
    }

    #[test]
    fn the_later_of_two_starts_is_the_node_whoever_compares_them() {
        let of = |epoch, number, random| Said {
            start: Start {
                epoch,
                number,
                random: [random; 16],
            },
            bytes: Vec::new(),
        };
        let ascending = [
            of(1, 1, 9),
            of(1, 2, 1),
            of(1, 2, 2),
            of(1, 9, 1),
            of(2, 1, 1),
        ];
        for (one, earlier) in ascending.iter().enumerate() {
            for (other, later) in ascending.iter().enumerate() {
                let overtaken = is_overtaken(Some(later), Some(earlier));
                assert_eq!(overtaken, one < other, "{earlier:?} after {later:?}");
            }
            assert!(!is_overtaken(None, Some(earlier)));
            assert!(is_overtaken(Some(earlier), None));
        }
        assert!(!is_overtaken(None, None));
    }
}

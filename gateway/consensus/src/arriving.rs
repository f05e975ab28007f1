//! Snapshots that arrive in pieces.
//!
//! Each sender has a transfer of its own, so that no node can take away what another one sent; one
//! that gets no further piece is forgotten, so that a sender that died holds no memory.

use crate::image::{Image, MAX_IMAGE};
use portcullis_policy::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Nodes that may be sending a snapshot at once: one that led and the one that leads now.
pub const TRANSFERS: usize = 2;
/// How often transfers that got no further piece since the last time are given up.
pub const TRANSFER_IDLE: Duration = Duration::from_secs(30);

/// What has arrived so far.
#[derive(Default)]
pub(crate) struct Arriving(Mutex<BTreeMap<NodeId, Pieces>>);

struct Pieces {
    transfer: u64,
    bytes: Vec<u8>,
    /// Whether a piece came since it was last looked at.
    going_on: bool,
}

impl Arriving {
    /// Takes a piece; one from the beginning starts its sender's transfer anew.
    pub(crate) fn take(
        &self,
        from: NodeId,
        transfer: u64,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let mut arriving = self.all();
        if at == 0 {
            if arriving.len() >= TRANSFERS && !arriving.contains_key(&from) {
                return Err("other snapshots are on their way".to_owned());
            }
            let begun = Pieces {
                transfer,
                bytes: Vec::new(),
                going_on: true,
            };
            arriving.insert(from, begun);
        }
        let pieces = arriving
            .get_mut(&from)
            .filter(|pieces| pieces.transfer == transfer)
            .ok_or("there is no such snapshot on its way")?;
        if u64::try_from(pieces.bytes.len()) != Ok(at) {
            return Err("a piece of the snapshot is missing".to_owned());
        }
        if pieces.bytes.len().saturating_add(bytes.len()) > MAX_IMAGE {
            arriving.remove(&from);
            return Err("the snapshot is larger than one may be".to_owned());
        }
        pieces.bytes.extend_from_slice(bytes);
        pieces.going_on = true;
        Ok(())
    }

    /// All of what a node sent.
    pub(crate) fn whole(
        &self,
        from: NodeId,
        transfer: u64,
        digest: [u8; 32],
    ) -> Result<Image, String> {
        let mut arriving = self.all();
        let pieces = arriving
            .remove(&from)
            .filter(|pieces| pieces.transfer == transfer)
            .ok_or("there is no such snapshot on its way")?;
        drop(arriving);
        let image = Image(Arc::new(pieces.bytes));
        if image.digest() == digest {
            Ok(image)
        } else {
            Err("the snapshot did not arrive as it was sent".to_owned())
        }
    }

    /// Lets go of what got no further piece since this was last called.
    pub(crate) fn expire(&self) {
        self.all()
            .retain(|_, pieces| std::mem::replace(&mut pieces.going_on, false));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Pieces>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn digest(bytes: &[u8]) -> [u8; 32] {
        Image(Arc::new(bytes.to_vec())).digest()
    }

    #[test]
    fn a_node_cannot_take_away_what_another_one_sends() {
        let arriving = Arriving::default();
        arriving.take(node(1), 7, 0, b"one ").unwrap();
        arriving.take(node(2), 7, 0, b"other").unwrap();
        assert!(arriving.whole(node(2), 8, digest(b"other")).is_err());
        arriving.take(node(1), 7, 4, b"two").unwrap();
        let whole = arriving.whole(node(1), 7, digest(b"one two"));
        assert_eq!(whole.unwrap().0.as_slice(), b"one two");
        assert!(arriving.whole(node(1), 7, digest(b"one two")).is_err());
    }

    #[test]
    fn a_transfer_has_an_order_and_an_end() {
        let arriving = Arriving::default();
        assert!(arriving.take(node(1), 7, 4, b"two").is_err());
        arriving.take(node(1), 7, 0, b"one ").unwrap();
        assert!(arriving.take(node(1), 7, 5, b"two").is_err());
        assert!(arriving.take(node(1), 8, 4, b"two").is_err());
        arriving.expire();
        arriving.take(node(1), 7, 4, b"two").unwrap();
        arriving.expire();
        arriving.expire();
        assert!(arriving.take(node(1), 7, 7, b"three").is_err());
        assert!(arriving.all().is_empty());
    }

    #[test]
    fn so_many_nodes_may_send_at_once_and_whoever_stops_makes_room() {
        let arriving = Arriving::default();
        arriving.take(node(1), 7, 0, b"a").unwrap();
        arriving.take(node(2), 7, 0, b"b").unwrap();
        assert!(arriving.take(node(3), 7, 0, b"c").is_err());
        arriving.take(node(2), 8, 0, b"again").unwrap();
        arriving.expire();
        arriving.take(node(2), 8, 5, b"more").unwrap();
        arriving.expire();
        arriving.take(node(3), 7, 0, b"c").unwrap();
        assert!(arriving.take(node(1), 7, 1, b"a").is_err());
        assert!(arriving.take(node(2), 8, 9, b"more").is_ok());
    }
}

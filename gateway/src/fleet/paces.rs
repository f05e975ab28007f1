//! How often another node may ask what makes this one ask others in turn, or read much.
//!
//! Each peer by itself: one that asks too often is refused, and takes nothing from the others.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use portcullis_policy::NodeId;

use super::words;
use crate::mesh;
use crate::runtime::clock::{Duration, Instant};

/// Reports that one node may have passed on in a second: it reports each second and after each change, to
/// each control node, and what is lost is made good by the next.
pub const PASSED_ON: u32 = 50;
/// How often one node may ask in a second which view is the latest: more often than one that woke does.
pub const LATEST: u32 = 50;
/// How often one node may have this one search its evidence in a second.
pub const SEARCHES: u32 = 10;
/// How often one node may ask for a certificate in a second.
pub const RENEWALS: u32 = 2;
/// How often one node may ask for an authority's key in a second.
pub const KEYS: u32 = 2;
/// In so much time.
pub const PACE: Duration = Duration::from_secs(1);

/// Whose requests were counted since when. Bounded: what is older than [`PACE`] is forgotten.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<BTreeMap<(NodeId, u8), (Instant, u32)>>);

impl Paces {
    /// Whether one more request of this kind is answered at `now`.
    pub(super) fn admits(&self, from: NodeId, service: u8, now: Instant) -> bool {
        let most = match service {
            words::PASS_ON => PASSED_ON,
            words::LATEST => LATEST,
            words::FIND => SEARCHES,
            mesh::RENEW => RENEWALS,
            words::AUTHORITY_KEY => KEYS,
            _ => return true,
        };
        let mut counts = self.0.lock();
        counts.retain(|_, (since, _)| now.saturating_duration_since(*since) < PACE);
        let (_, count) = counts.entry((from, service)).or_insert((now, 0));
        let admits = *count < most;
        *count = count.saturating_add(u32::from(admits));
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock;

    #[test]
    fn each_node_may_ask_so_often_in_a_second_and_no_more() {
        let node = |id| NodeId::new(id).unwrap();
        let (one, other) = (node(1), node(2));
        for (service, most) in [
            (words::PASS_ON, PASSED_ON),
            (words::LATEST, LATEST),
            (words::FIND, SEARCHES),
            (mesh::RENEW, RENEWALS),
            (words::AUTHORITY_KEY, KEYS),
        ] {
            let paces = Paces::default();
            let start = clock::instant();
            for _ in 0..most {
                assert!(paces.admits(one, service, start));
            }
            assert!(!paces.admits(one, service, start));
            assert!(paces.admits(other, service, start), "each by itself");
            assert!(
                paces.admits(one, words::REPORT, start),
                "others are not counted"
            );
            let end = start + PACE;
            let before = end.checked_sub(Duration::from_millis(1)).unwrap();
            assert!(!paces.admits(one, service, before));
            assert!(paces.admits(one, service, end));
            assert_eq!(paces.0.lock().len(), 1, "what is over is forgotten");
        }
    }
}

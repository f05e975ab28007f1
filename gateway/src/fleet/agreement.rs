//! Whether control nodes have the same state: what they had at equal positions of the log, compared.
//!
//! Every control node compares what all of them say, itself included, by the same rule: whoever
//! differs from what a majority **of the voters** had at the same position is wrong. A majority of
//! those who happen to be heard would not do: two parts of a fleet could call each other wrong. Where
//! no majority had the same, nobody can be told wrong, and all say so.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_consensus::Rooted;
use portcullis_policy::NodeId;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Who has another state than a majority of the voters.
    pub(super) wrong: BTreeMap<NodeId, Difference>,
    /// Who has the same.
    pub(super) same: BTreeSet<NodeId>,
    /// Who had which state at the latest position that several were heard at, where these differ
    /// and none is the majority's.
    pub(super) split: Option<Split>,
}

/// How a node's state differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The position of the log.
    pub(super) position: u64,
    /// What its state hashed to there.
    pub(super) root: [u8; 32],
    /// What the majority's did.
    pub(super) majority: [u8; 32],
    /// Who they are.
    pub(super) by: BTreeSet<NodeId>,
}

/// States of which none is the majority's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// The position of the log.
    pub(super) position: u64,
    /// Who had which.
    pub(super) roots: BTreeMap<NodeId, [u8; 32]>,
}

/// Compares what the nodes had. A node's latest position that can be judged is what counts.
pub(super) fn compare(
    voters: &BTreeSet<NodeId>,
    told: &BTreeMap<NodeId, Vec<Rooted>>,
) -> Comparison {
    let mut positions: BTreeMap<u64, BTreeMap<NodeId, [u8; 32]>> = BTreeMap::new();
    for (node, roots) in told {
        for rooted in roots {
            let at = positions.entry(rooted.position).or_default();
            at.insert(*node, rooted.root);
        }
    }
    let mut found = Comparison::default();
    for (position, roots) in positions {
        if roots.len() < 2 {
            continue;
        }
        let Some(majority) = majority(voters, &roots) else {
            let mut distinct = roots.values();
            let first = distinct.next();
            let differ = distinct.any(|root| Some(root) != first);
            found.split = differ.then_some(Split { position, roots });
            continue;
        };
        let agrees = |(node, root): (&NodeId, &[u8; 32])| (*root == majority).then_some(*node);
        let by: BTreeSet<NodeId> = roots.iter().filter_map(agrees).collect();
        for (node, root) in roots {
            if root == majority {
                found.wrong.remove(&node);
                found.same.insert(node);
            } else {
                found.same.remove(&node);
                let difference = Difference {
                    position,
                    root,
                    majority,
                    by: by.clone(),
                };
                found.wrong.insert(node, difference);
            }
        }
        found.split = None;
    }
    found
}

/// The root that more than half of the voters had.
fn majority(voters: &BTreeSet<NodeId>, roots: &BTreeMap<NodeId, [u8; 32]>) -> Option<[u8; 32]> {
    let votes = |root: &[u8; 32]| {
        let of = roots.iter().filter(|(_, other)| *other == root);
        of.filter(|(node, _)| voters.contains(node)).count()
    };
    let mut had = roots.values();
    had.find(|root| votes(root) * 2 > voters.len()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of `node: position=root …`; the voters are all nodes but those in brackets.
    fn check(told: &[&str], wrong: &[u64], same: &[u64], split: Option<u64>) {
        let mut voters = BTreeSet::new();
        let mut roots = BTreeMap::new();
        for line in told {
            let (node, had) = line.split_once(':').unwrap();
            let id = node.trim_matches(['(', ')']).parse().unwrap();
            let id = NodeId::new(id).unwrap();
            if !node.starts_with('(') {
                voters.insert(id);
            }
            let rooted = |one: &str| {
                let (position, root) = one.split_once('=').unwrap();
                Rooted {
                    position: position.parse().unwrap(),
                    root: [root.as_bytes()[0]; 32],
                }
            };
            roots.insert(id, had.split_whitespace().map(rooted).collect());
        }
        let found = compare(&voters, &roots);
        let ids = |nodes: &mut dyn Iterator<Item = &NodeId>| -> Vec<u64> {
            nodes.map(|node| node.get()).collect()
        };
        assert_eq!(ids(&mut found.wrong.keys()), wrong, "{told:?}");
        assert_eq!(ids(&mut found.same.iter()), same, "{told:?}");
        let position = found.split.map(|split| split.position);
        assert_eq!(position, split, "{told:?}");
    }

    #[test]
    fn two_of_three_tell_the_third_that_it_is_wrong() {
        check(&["1: 7=a", "2: 7=a", "3: 7=a"], &[], &[1, 2, 3], None);
        check(&["1: 7=a", "2: 7=a", "3: 7=b"], &[3], &[1, 2], None);
        check(&["1: 7=b", "2: 7=a", "3: 7=a"], &[1], &[2, 3], None);
        // Of different positions nothing can be said.
        check(&["1: 7=a", "2: 7=a", "3: 8=b"], &[], &[1, 2], None);
        check(&["1: 7=a", "2: 8=b", "3: 9=c"], &[], &[], None);
    }

    #[test]
    fn without_a_majority_of_the_voters_nobody_is_wrong() {
        check(&["1: 7=a", "2: 7=b"], &[], &[], Some(7));
        check(&["1: 7=a", "2: 7=b", "3:"], &[], &[], Some(7));
        check(&["1: 7=a", "2: 7=b", "3: 7=c"], &[], &[], Some(7));
        // Two of five are a majority of those who were heard, and not of those who vote.
        let heard = ["1: 7=a", "2: 7=a", "3: 7=b", "4:", "5:"];
        check(&heard, &[], &[], Some(7));
        let heard = ["1: 7=a", "2: 7=a", "3: 7=b", "4: 7=a", "5:"];
        check(&heard, &[3], &[1, 2, 4], None);
    }

    #[test]
    fn whoever_does_not_vote_is_judged_and_judges_nobody() {
        check(&["1: 7=a", "2: 7=a", "(3): 7=b"], &[3], &[1, 2], None);
        check(&["1: 7=a", "2: 7=b", "(3): 7=b"], &[], &[], Some(7));
        check(&["1: 7=a", "(2): 7=b", "(3): 7=b"], &[2, 3], &[1], None);
    }

    #[test]
    fn the_latest_position_counts() {
        let healed = ["1: 7=a 9=c", "2: 7=a 9=c", "3: 7=b 9=c"];
        check(&healed, &[], &[1, 2, 3], None);
        let split_then_same = ["1: 7=a 9=c", "2: 7=b 9=c"];
        check(&split_then_same, &[], &[1, 2], None);
        let then_wrong = ["1: 7=a 9=c", "2: 7=a 9=c", "3: 7=a 9=d"];
        check(&then_wrong, &[3], &[1, 2], None);
    }
}

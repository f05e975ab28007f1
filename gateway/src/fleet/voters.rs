//! The leader makes the set of voters what the state says it should be.
//!
//! Who belongs to the fleet is decided by commands; who votes follows from it, step by step, each
//! of which finds out anew what is to be done: a leader that dies in the middle leaves nothing to
//! repair, the next one goes on.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use portcullis_consensus::Status;
use portcullis_policy::{NodeId, State};

/// The next step towards the voters that the state wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Let it follow the log, without a vote yet.
    Learn(NodeId),
    /// Give it a vote: it has caught up, and is there.
    Promote(NodeId),
    /// It is no longer of the fleet, or its state is not what the others have.
    Drop(NodeId),
    /// This node itself is to go, so another must lead first.
    HandOver(NodeId),
}

/// Who leads best in the place of `me`: of those who have caught up, one that did not fail at it
/// lately, then one that was heard a moment ago, then the one with the most of the log.
pub(super) fn heir<'a>(
    me: NodeId,
    candidates: impl Iterator<Item = &'a NodeId>,
    status: &Status,
    failed: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let may = candidates.filter(|node| **node != me && status.voters.contains(*node));
    let may = may.filter(|node| status.caught_up(**node));
    may.max_by_key(|node| {
        let heard = heard(status, **node);
        let reached = status.reached.get(*node);
        (!failed.contains(*node), heard, reached, Reverse(**node))
    })
    .copied()
}

fn heard(status: &Status, node: NodeId) -> bool {
    let silent = status.silent.get(&node);
    silent.is_some_and(|it| *it <= status.patience)
}

/// Whether a majority of the voters that stay is there when `node` goes. Where it is not, the change could
/// not be decided, and neither could anything after it: it waits until more are heard.
fn is_spared(me: NodeId, status: &Status, node: NodeId) -> bool {
    let stay = status.voters.iter().filter(|voter| **voter != node);
    let there = |voter: &&NodeId| **voter == me || heard(status, **voter);
    stay.clone().filter(there).count() * 2 > stay.count()
}

/// What the leader `me` does next; nothing when voters and state agree, or when it must wait for
/// a learner to catch up. Those whose state is `wrong` are taken out until it is reinstalled: they
/// are put in anew then, like ones that join, since what they had acknowledged is gone. Those who
/// `failed` to take the lead are asked after the others.
pub(super) fn next(
    me: NodeId,
    state: &State,
    status: &Status,
    wrong: &BTreeSet<NodeId>,
    failed: &BTreeSet<NodeId>,
) -> Option<Change> {
    let wanted = state.fleet()?.control().map(|node| node.id);
    // A leader that is wrong keeps out by itself.
    let wanted: BTreeSet<NodeId> = wanted
        .filter(|node| *node == me || !wrong.contains(node))
        .collect();
    let voters = &status.voters;
    let learners = &status.learners;
    // First whoever is to go, one at a time: a dead voter still counts for the quorum.
    let surplus = voters.union(learners).find(|node| !wanted.contains(node));
    if let Some(surplus) = surplus {
        if *surplus != me {
            let counts = voters.contains(surplus) && heard(status, *surplus);
            let spared = !counts || is_spared(me, status, *surplus);
            return spared.then_some(Change::Drop(*surplus));
        }
        return heir(me, wanted.iter(), status, failed).map(Change::HandOver);
    }
    if let Some(new) = wanted
        .iter()
        .find(|node| !voters.contains(node) && !learners.contains(node))
    {
        return Some(Change::Learn(*new));
    }
    learners
        .iter()
        .find(|node| status.caught_up(**node) && heard(status, **node))
        .map(|node| Change::Promote(*node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::Duration;
    use portcullis_policy::{
        Command, FleetId, GuardRails, KeyHash, NodeRole, Proposal, Timestamp, Told,
    };

    const HEARD: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn step(
        me: NodeId,
        state: &State,
        status: &Status,
        wrong: &BTreeSet<NodeId>,
    ) -> Option<Change> {
        next(me, state, status, wrong, &BTreeSet::new())
    }

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn apply(state: &mut State, command: Command) -> Told {
        let proposal = Proposal::local("test", NOW, command);
        state.apply(&proposal).unwrap().told
    }

    fn founded() -> State {
        let mut state = State::default();
        apply(
            &mut state,
            Command::Found {
                fleet: FleetId::new([1; 16]),
                name: "n1".parse().unwrap(),
                roles: [NodeRole::Control, NodeRole::Gateway].into(),
                key: KeyHash::new([1; 32]),
                view_key: [1; 32],
                address: "127.0.0.1:1".to_owned(),
                recovery_key: [9; 32],
                guard_rails: GuardRails::NONE,
            },
        );
        state
    }

    fn admitted(state: &mut State, name: &str, mark: u8, role: NodeRole) -> NodeId {
        let (token, name) = (KeyHash::new([mark; 32]), name.parse().unwrap());
        let expires = Timestamp::from_millis(NOW.as_millis() + 60_000);
        let invite = Command::Invite {
            token,
            name,
            roles: [role].into(),
            expires,
        };
        let Command::Invite { name, roles, .. } = invite.clone() else {
            unreachable!()
        };
        apply(state, invite);
        let admit = Command::Admit {
            token,
            name,
            roles,
            key: KeyHash::new([mark; 32]),
            view_key: (role == NodeRole::Control).then_some([mark; 32]),
            address: Some(format!("127.0.0.1:{mark}")),
        };
        let told = apply(state, admit);
        let Told::Admitted(id) = told else {
            panic!("{told:?}");
        };
        id
    }

    fn status(voters: &[NodeId], learners: &[NodeId], reached: &[(NodeId, u64)]) -> Status {
        Status {
            leader: Some(node(1)),
            term: 1,
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            log: 1_000,
            applied: 1_000,
            reached: reached.iter().copied().collect(),
            silent: reached.iter().map(|(node, _)| (*node, HEARD)).collect(),
            patience: HEARD,
            gone_back: BTreeSet::new(),
            settled: true,
            failed: None,
        }
    }

    #[test]
    fn a_control_node_learns_first_and_votes_when_it_has_caught_up() {
        let mut state = founded();
        let new = admitted(&mut state, "n2", 2, NodeRole::Control);
        let alone = status(&[node(1)], &[], &[]);
        assert_eq!(
            step(node(1), &state, &alone, &BTreeSet::new()),
            Some(Change::Learn(new))
        );
        let behind = status(&[node(1)], &[new], &[(new, 10)]);
        assert_eq!(step(node(1), &state, &behind, &BTreeSet::new()), None);
        // In a young fleet even nothing is nearly all: but it must have said so, a moment ago.
        let mut silent = status(&[node(1)], &[new], &[]);
        silent.log = 20;
        assert_eq!(step(node(1), &state, &silent, &BTreeSet::new()), None);
        let mut gone = status(&[node(1)], &[new], &[(new, 990)]);
        gone.silent.insert(new, 2 * HEARD);
        assert_eq!(step(node(1), &state, &gone, &BTreeSet::new()), None);
        let there = status(&[node(1)], &[new], &[(new, 990)]);
        assert_eq!(
            step(node(1), &state, &there, &BTreeSet::new()),
            Some(Change::Promote(new))
        );
        let both = status(&[node(1), new], &[], &[(new, 1_000)]);
        assert_eq!(step(node(1), &state, &both, &BTreeSet::new()), None);
    }

    #[test]
    fn a_gateway_never_votes() {
        let mut state = founded();
        admitted(&mut state, "g1", 3, NodeRole::Gateway);
        let alone = status(&[node(1)], &[], &[]);
        assert_eq!(step(node(1), &state, &alone, &BTreeSet::new()), None);
    }

    #[test]
    fn a_removed_node_is_dropped_and_a_removed_leader_hands_over_first() {
        let mut state = founded();
        let second = admitted(&mut state, "n2", 2, NodeRole::Control);
        apply(&mut state, Command::Remove { node: node(1) });
        let both = status(&[node(1), second], &[], &[(second, 1_000)]);
        assert_eq!(
            step(node(1), &state, &both, &BTreeSet::new()),
            Some(Change::HandOver(second))
        );
        assert_eq!(
            step(second, &state, &both, &BTreeSet::new()),
            Some(Change::Drop(node(1)))
        );
    }

    #[test]
    fn a_voter_that_the_majority_needs_is_not_dropped_until_it_is_not() {
        let mut state = founded();
        let second = admitted(&mut state, "n2", 2, NodeRole::Control);
        let third = admitted(&mut state, "n3", 3, NodeRole::Control);
        apply(&mut state, Command::Remove { node: second });
        let voters = [node(1), second, third];
        let right = BTreeSet::new();
        let drop = Some(Change::Drop(second));
        let third_is_gone = status(&voters, &[], &[(second, 1_000)]);
        assert_eq!(step(node(1), &state, &third_is_gone, &right), None);
        let third_is_back = status(&voters, &[], &[(second, 1_000), (third, 900)]);
        assert_eq!(step(node(1), &state, &third_is_back, &right), drop);
        // Without it nothing is decided in any case.
        let it_is_gone = status(&voters, &[], &[(third, 1_000)]);
        assert_eq!(step(node(1), &state, &it_is_gone, &right), drop);
        let without_vote = status(&[node(1), third], &[second], &[(second, 1_000)]);
        assert_eq!(step(node(1), &state, &without_vote, &right), drop);
    }

    #[test]
    fn a_node_whose_state_is_wrong_is_taken_out_and_learns_anew_when_it_is_not() {
        let mut state = founded();
        let second = admitted(&mut state, "n2", 2, NodeRole::Control);
        let third = admitted(&mut state, "n3", 3, NodeRole::Control);
        let wrong = BTreeSet::from([third]);
        let heard = [(second, 1_000), (third, 1_000)];
        let all = status(&[node(1), second, third], &[], &heard);
        assert_eq!(
            step(node(1), &state, &all, &wrong),
            Some(Change::Drop(third))
        );
        let learning = status(&[node(1), second], &[third], &[(third, 1_000)]);
        assert_eq!(
            step(node(1), &state, &learning, &wrong),
            Some(Change::Drop(third))
        );
        let out = status(&[node(1), second], &[], &[]);
        assert_eq!(step(node(1), &state, &out, &wrong), None);
        assert_eq!(
            step(node(1), &state, &out, &BTreeSet::new()),
            Some(Change::Learn(third))
        );
        // One that leads and is wrong keeps out by itself.
        let own = BTreeSet::from([node(1)]);
        assert_eq!(step(node(1), &state, &all, &own), None);
    }

    #[test]
    fn whoever_is_there_and_has_the_most_of_the_log_leads_next_and_then_another() {
        let mut status = status(
            &[node(1), node(2), node(3), node(4), node(5)],
            &[],
            &[
                (node(2), 1_000),
                (node(3), 990),
                (node(4), 1_000),
                (node(5), 10),
            ],
        );
        // The lowest is gone, and the last is far behind.
        let second = Duration::from_secs(1);
        status.silent = [
            (node(2), 5 * second),
            (node(3), second / 10),
            (node(4), second / 10),
            (node(5), second / 10),
        ]
        .into();
        let mut failed = BTreeSet::new();
        for expected in [4, 3, 2] {
            let next = heir(node(1), status.voters.iter(), &status, &failed);
            assert_eq!(next, Some(node(expected)));
            failed.insert(node(expected));
        }
        // All failed: from the beginning.
        let again = heir(node(1), status.voters.iter(), &status, &failed);
        assert_eq!(again, Some(node(4)));
        let others = [node(5), node(1)];
        assert_eq!(heir(node(1), others.iter(), &status, &failed), None);
    }

    #[test]
    fn without_a_fleet_nothing_is_to_be_done() {
        assert_eq!(
            step(
                node(1),
                &State::default(),
                &status(&[node(1)], &[], &[]),
                &BTreeSet::new()
            ),
            None
        );
    }
}

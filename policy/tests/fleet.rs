//! Nodes: founded, invited, admitted, removed, recovered, and every step safe to repeat.

mod common;

use common::fleet::*;
use common::{Proposed, at, command, name, tenant};
use portcullis_policy::*;
use sha2::{Digest as _, Sha256};

/// A fleet of three: control nodes 1 and 3, gateway 5.
fn three() -> State {
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (0, found(ONE), "+node 1"),
            (1, invite(2, "n2", "c", 1000), "+done"),
            (2, admit(2, "n2", "c", 12), "+node 3"),
            (3, invite(3, "n3", "g", 1000), "+done"),
            (4, admit(3, "n3", "g", 13), "+node 5"),
        ],
    );
    state
}

#[test]
fn a_fleet_is_founded_once() {
    let mut other = found(ONE);
    if let Command::Found { fleet, .. } = &mut other {
        *fleet = FleetId::new([8; 16]);
    }
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (0, invite(2, "n2", "g", 1000), "no_fleet"),
            (0, Command::SetGuardRails { guard_rails: ONE }, "no_fleet"),
            (0, found(ONE), "+node 1"),
            (1, found(ONE), "node 1"),
            (2, other, "already_founded"),
        ],
    );
    let view = state.view();
    let fleet = view.fleet().unwrap();
    assert_eq!((fleet.epoch, fleet.nodes.len()), (1, 1));
    assert_eq!(fleet.named(&name("n1")).unwrap().id, NodeId::FIRST);
}

#[test]
fn the_first_node_votes_and_can_be_reached() {
    let with = |change: &dyn Fn(&mut Command)| {
        let mut command = found(ONE);
        change(&mut command);
        let proposal = Proposal::local("a test", at(0), command);
        outcome(&mut State::default(), &proposal)
    };
    let gateway = with(&|command| {
        if let Command::Found { roles: its, .. } = command {
            *its = roles("g");
        }
    });
    assert_eq!(gateway, "node_lacks");
    for bad in [
        "",
        "n1",
        "n1:",
        ":7400",
        "n1:0",
        "n1:99999",
        "n 1:7400",
        "n1\n:7400",
    ] {
        let outcome = with(&|command| {
            if let Command::Found { address, .. } = command {
                *address = bad.to_owned();
            }
        });
        assert_eq!(outcome, "node_address", "{bad:?}");
    }
}

#[test]
fn a_token_admits_one_node_of_one_name_in_time() {
    let mut state = State::default();
    let week = limits::MAX_INVITATION_LIFE_MS;
    check_lines(
        &mut state,
        vec![
            (0, found(ONE), "+node 1"),
            (10, invite(2, "n2", "g", 10), "token_life"),
            (10, invite(2, "n2", "g", week + 11), "token_life"),
            (10, invite(2, "n2", "", 20), "node_lacks"),
            (10, invite(2, "n1", "g", 20), "node_name_taken"),
            (10, invite(2, "n2", "g", 20), "+done"),
            (11, invite(2, "n2", "g", 20), "done"),
            (11, invite(2, "n2", "g", 30), "token_taken"),
            (11, admit(9, "n2", "g", 12), "no_such_token"),
            (11, admit(2, "n9", "g", 12), "token_of_another"),
            (11, admit(2, "n2", "cg", 12), "token_of_another"),
            (20, admit(2, "n2", "g", 12), "token_expired"),
        ],
    );
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, admit(2, "n2", "c", 12), "node 3"),
            // The answer was lost, and the token has expired meanwhile.
            (2000, admit(2, "n2", "c", 12), "node 3"),
            (2000, admit(2, "n2", "c", 99), "token_used"),
            (2000, Command::Withdraw { token: key(2) }, "token_used"),
            (2000, Command::Withdraw { token: key(77) }, "done"),
            (2000, invite(4, "n4", "g", 3000), "+done"),
            (2000, Command::Withdraw { token: key(4) }, "+done"),
            (2001, admit(4, "n4", "g", 14), "no_such_token"),
        ],
    );
}

#[test]
fn time_does_not_go_back_for_a_token() {
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (0, found(ONE), "+node 1"),
            (0, invite(2, "n2", "g", 20), "+done"),
            (50, invite(3, "n3", "g", 90), "+done"),
            (5, admit(2, "n2", "g", 12), "token_expired"),
        ],
    );
    let applied = state.propose(&admit(3, "n3", "g", 13), at(5)).unwrap();
    assert_eq!((applied.at, applied.fleet_changed), (at(50), true));
}

#[test]
fn ids_are_never_used_again() {
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, Command::Remove { node: node(5) }, "+done"),
            (5, Command::Remove { node: node(5) }, "done"),
            (5, Command::Remove { node: node(4) }, "no_such_node"),
            (5, admit(3, "n3", "g", 13), "token_used"),
            (5, invite(4, "n3", "g", 1000), "+done"),
            (5, admit(4, "n3", "g", 13), "+node 8"),
        ],
    );
}

#[test]
fn the_last_control_node_stays() {
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, Command::Remove { node: node(1) }, "+done"),
            (5, Command::Remove { node: node(3) }, "last_control_node"),
            (5, Command::Remove { node: node(5) }, "+done"),
        ],
    );
}

#[test]
fn what_some_nodes_do_not_understand_is_not_used_and_they_are_named() {
    let report = |number, level| Command::Report {
        node: node(number),
        level,
        address: Some(String::from("[2001:db8::1]:7400")),
    };
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, report(5, 0), "+done"),
            (5, report(5, 0), "done"),
            (5, report(9, 1), "no_such_node"),
            (6, command(&[tenant("acme")], &[]), "nodes_lack"),
            (6, invite(4, "n4", "g", 1000), "nodes_lack"),
        ],
    );
    let refused = state.propose(&command(&[], &[]), at(6)).unwrap_err();
    assert!(refused.to_string().contains("n3"), "{refused}");
    check_lines(
        &mut state,
        vec![
            (7, report(5, FEATURE_LEVEL), "+done"),
            (7, command(&[tenant("acme")], &[]), "+done"),
        ],
    );
}

#[test]
fn on_stale_waits_for_the_last_node_that_cannot_read_it_also_in_pieces() {
    let report = |number| Command::Report {
        node: node(number),
        level: FEATURE_LEVEL,
        address: Some(format!("[2001:db8::{number}]:7400")),
    };
    let mut acme = tenant("acme");
    acme.limits.on_stale = OnStale::REFUSE;
    let put = command(&[acme], &[]);
    let bytes = encode_command(&put).unwrap();
    let commit = |stage| Command::Commit {
        stage,
        digest: Digest::new(Sha256::digest(&bytes).into()),
    };
    let stage = |stage| Command::Stage {
        stage,
        index: 0,
        of: 1,
        bytes: bytes.clone(),
    };
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, put.clone(), "nodes_lack"),
            (5, report(1), "+done"),
            (5, report(3), "+done"),
            (6, put.clone(), "nodes_lack"),
            (6, stage(request(1)), "1/1"),
            (6, commit(request(1)), "nodes_lack"),
            (6, command(&[tenant("acme")], &[]), "+done"),
            (7, report(5), "+done"),
            (8, put, "+done"),
        ],
    );
    check_kept(&state);
}

#[test]
fn a_recovery_leaves_one_control_node_in_a_new_epoch() {
    let recover = |epoch, survivor| Command::Recover {
        epoch,
        survivor: node(survivor),
        statement: vec![1, 2, 3],
    };
    let mut state = three();
    check_lines(
        &mut state,
        vec![
            (5, recover(1, 3), "epoch"),
            (5, recover(3, 3), "epoch"),
            (5, recover(2, 5), "not_control"),
            (5, recover(2, 4), "no_such_node"),
            (5, recover(2, 3), "+done"),
            (5, recover(2, 3), "done"),
            (5, Command::Remove { node: node(1) }, "done"),
        ],
    );
    let view = state.view();
    let fleet = view.fleet().unwrap();
    assert_eq!(fleet.epoch, 2);
    assert_eq!(
        fleet.nodes.keys().copied().collect::<Vec<_>>(),
        [node(3), node(5)]
    );
    assert_eq!(state.recovery(), Some([1, 2, 3].as_slice()));
}

#[test]
fn successions_are_kept_up_to_their_limit() {
    let mut state = three();
    let succession = |number: usize| Command::Succession {
        statement: number.to_be_bytes().to_vec(),
    };
    for number in 0..limits::MAX_SUCCESSIONS + 2 {
        state.propose(&succession(number), at(9)).unwrap();
        state.propose(&succession(number), at(9)).unwrap();
    }
    let kept: Vec<&[u8]> = state.successions().collect();
    assert_eq!(kept.len(), limits::MAX_SUCCESSIONS);
    assert_eq!(kept[0], 2_usize.to_be_bytes());
    check_kept(&state);
    let statement = vec![0; limits::MAX_STATEMENT + 1];
    check_lines(
        &mut state,
        vec![(9, Command::Succession { statement }, "statement")],
    );
}

#[test]
fn tokens_and_nodes_have_their_limits() {
    let mut state = State::default();
    state.propose(&found(ONE), at(0)).unwrap();
    let token = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        KeyHash::new(bytes)
    };
    let invite = |number: usize, until| Command::Invite {
        token: token(number),
        name: name(&format!("m{number}")),
        roles: roles("g"),
        expires: at(until),
    };
    for number in 0..limits::MAX_INVITATIONS {
        state.propose(&invite(number, 100), at(1)).unwrap();
    }
    check_lines(
        &mut state,
        vec![
            (1, invite(999, 200), "too_many"),
            // Those that have expired make room.
            (100, invite(999, 200), "+done"),
        ],
    );
    assert_eq!(state.invitations().count(), 1);
    let mut join = |number: usize| {
        let moment = 1000 + i64::try_from(number).unwrap();
        let invite = invite(number, moment + 1);
        state.propose(&invite, at(moment)).unwrap();
        let admit = Command::Admit {
            token: token(number),
            name: name(&format!("m{number}")),
            roles: roles("g"),
            key: token(number),
            view_key: None,
            address: None,
        };
        outcome(&mut state, &Proposal::local("a test", at(moment), admit))
    };
    for number in 1..limits::MAX_NODES {
        assert!(join(number).starts_with("+node "), "{number}");
    }
    assert_eq!(join(limits::MAX_NODES), "too_many");
}

#[test]
fn nodes_speak_of_themselves_only() {
    let mut state = three();
    let from = |number, command| Proposal {
        request: None,
        at: at(9),
        author: Author {
            name: String::from("a node"),
            principal: Principal::Node(node(number)),
        },
        command,
    };
    let report = |number| Command::Report {
        node: node(number),
        level: 2,
        address: None,
    };
    let mut check = |proposal, expected| assert_eq!(outcome(&mut state, &proposal), expected);
    check(from(5, report(5)), "+done");
    check(from(5, report(3)), "not_permitted");
    check(from(9, report(9)), "not_permitted");
    check(from(5, command(&[tenant("acme")], &[])), "not_permitted");
    check(from(1, command(&[tenant("acme")], &[])), "not_permitted");
    check(from(5, Command::Remove { node: node(1) }), "not_permitted");
    check(from(5, admit(2, "n2", "c", 12)), "not_permitted");
    check(from(1, admit(2, "n2", "c", 12)), "node 3");
}

#[test]
fn the_first_second_person_is_made_by_one_and_the_next_is_not() {
    let mut state = State::default();
    state.propose(&found(ONE), at(0)).unwrap();
    let guard_rails = GuardRails {
        operators: People::TwoPeople,
        ..GuardRails::NONE
    };
    state
        .propose(&Command::SetGuardRails { guard_rails }, at(0))
        .unwrap();
    let put = |operator: &str, role| Command::PutOperator {
        operator: name(operator),
        roles: vec![role],
    };
    // Who only looks is nobody's second person.
    for (operator, role) in [("reader", Role::Reader), ("fleet", Role::FleetOperator)] {
        let applied = state.propose(&put(operator, role), at(1)).unwrap();
        assert_eq!(applied.told, Told::Done, "{operator}");
    }
    let applied = state.propose(&put("puppet", Role::FleetOperator), at(1));
    assert!(matches!(applied.unwrap().told, Told::Pending { .. }));
}

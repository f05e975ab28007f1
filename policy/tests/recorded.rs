//! Records: what a node saw gets into the audit logs once, and nobody speaks for another.

mod common;

use common::fleet::*;
use common::{at, name};
use portcullis_policy::*;

/// Three nodes, of which 5 is a gateway; all of this version if `know`.
fn three(know: bool) -> State {
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
    for number in [1, 3, 5].into_iter().filter(|_| know) {
        let report = Command::Report {
            node: node(number),
            level: FEATURE_LEVEL,
            address: Some(format!("[2001:db8::{number}]:7400")),
        };
        check_lines(&mut state, vec![(5, report, "+done")]);
    }
    state
}

fn check(state: &mut State, lines: Vec<(Proposal, &str)>) {
    for (number, (proposal, expected)) in lines.into_iter().enumerate() {
        assert_eq!(outcome(state, &proposal), expected, "line {number}");
        check_kept(state);
    }
}

fn sized(sizes: &[usize]) -> Proposal {
    let events: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    record(5, 1, &events, 9)
}

#[test]
fn every_record_of_a_node_is_executed_once_and_in_its_order() {
    let mut state = three(true);
    let revision = state.revision();
    check(
        &mut state,
        vec![
            (record(5, 0, &["a"], 6), "again recorded 0"),
            (record(5, 2, &["a"], 6), "record_gap"),
            (record(5, 1, &["a"], 7), "recorded 1"),
            (record(5, 1, &["a"], 8), "again recorded 1"),
            (record(5, 3, &["c"], 8), "record_gap"),
            (record(5, 2, &["b", "c"], 8), "recorded 2"),
            (record(5, 1, &["a"], 8), "again recorded 2"),
            // Each node counts for itself.
            (record(1, 2, &["a"], 8), "record_gap"),
            (record(1, 1, &["a"], 8), "recorded 1"),
            (record(5, u64::MAX, &["a"], 8), "record_gap"),
        ],
    );
    assert_eq!((state.recorded(node(5)), state.recorded(node(3))), (2, 0));
    // Nothing that is policy's changed, and no request is remembered.
    assert_eq!(state.revision(), revision);
    assert!(state.snapshot().requests.is_empty());
    // What is told says how far the node is.
    let error = state.apply(&record(5, 9, &["a"], 9)).unwrap_err();
    assert_eq!(
        error,
        Rejection::RecordGap {
            sequence: 9,
            through: 2
        }
    );
}

#[test]
fn the_root_tells_how_far_nodes_are() {
    let (mut state, mut roots) = (three(true), Vec::new());
    for proposal in [
        record(5, 1, &["a"], 5),
        record(5, 2, &["a"], 5),
        record(1, 1, &["a"], 5),
    ] {
        roots.push(state.root());
        state.apply(&proposal).unwrap();
    }
    roots.push(state.root());
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), 4);
}

#[test]
fn a_node_that_is_gone_is_forgotten_and_records_no_more() {
    let mut state = three(true);
    check(
        &mut state,
        vec![
            (record(5, 1, &["a"], 6), "recorded 1"),
            (record(3, 1, &["a"], 6), "recorded 1"),
            (
                Proposal::local("a test", at(7), Command::Remove { node: node(5) }),
                "+done",
            ),
            (record(5, 2, &["a"], 8), "not_permitted"),
            (
                Proposal::local(
                    "a test",
                    at(9),
                    Command::Recover {
                        epoch: 2,
                        survivor: node(1),
                        statement: vec![1],
                    },
                ),
                "+done",
            ),
        ],
    );
    assert_eq!((state.recorded(node(5)), state.recorded(node(3))), (0, 0));
    assert!(state.snapshot().recorded.is_empty());
}

#[test]
fn only_nodes_record_and_only_once_all_know_of_it() {
    let command = record(1, 1, &["a"], 6).command;
    let local = Proposal::local("a test", at(6), command.clone());
    let mut state = three(false);
    check(&mut state, vec![(record(1, 1, &["a"], 6), "nodes_lack")]);
    let mut state = three(true);
    let roles = vec![Role::FleetOperator, Role::PolicyAuthor];
    let put = Command::PutOperator {
        operator: name("alice"),
        roles,
    };
    state.apply(&Proposal::local("a test", at(6), put)).unwrap();
    check(
        &mut state,
        vec![
            (local, "not_permitted"),
            (by("alice", command, 6), "not_permitted"),
            (record(4, 1, &["a"], 6), "not_permitted"),
            (record(3, 1, &["a"], 6), "recorded 1"),
        ],
    );
}

#[test]
fn before_there_is_a_fleet_its_first_node_records_and_goes_on_once_it_founded_one() {
    let mut state = State::default();
    let command = record(1, 1, &["a"], 0).command;
    check(
        &mut state,
        vec![
            (record(2, 1, &["a"], 0), "not_permitted"),
            (Proposal::local("a test", at(0), command), "not_permitted"),
            (record(1, 2, &["a"], 0), "record_gap"),
            (record(1, 1, &["a"], 0), "recorded 1"),
            (record(1, 1, &["a"], 0), "again recorded 1"),
            (record(1, 2, &["a"], 0), "recorded 2"),
        ],
    );
    let mut of_another = state.snapshot();
    of_another.recorded = vec![(node(2), 1)];
    assert!(State::restore(of_another).is_err());
    // It speaks of nothing else as a node.
    let report = Proposal {
        command: Command::Report {
            node: node(1),
            level: FEATURE_LEVEL,
            address: None,
        },
        ..record(1, 1, &["a"], 1)
    };
    check(&mut state, vec![(report, "not_permitted")]);
    check_lines(&mut state, vec![(1, found(ONE), "+node 1")]);
    check(&mut state, vec![(record(1, 3, &["a"], 2), "nodes_lack")]);
    let report = Command::Report {
        node: node(1),
        level: FEATURE_LEVEL,
        address: Some("n1.example.net:7400".to_owned()),
    };
    check_lines(&mut state, vec![(2, report, "+done")]);
    check(
        &mut state,
        vec![
            (record(1, 2, &["a"], 3), "again recorded 2"),
            (record(1, 3, &["a"], 3), "recorded 3"),
        ],
    );
}

#[test]
fn a_record_is_as_large_as_one_message_of_the_log() {
    let (each, all) = (limits::MAX_RECORDED_EVENT, limits::MAX_RECORD_BYTES);
    for (sizes, expected) in [
        (vec![], "record_size"),
        (vec![0], "record_size"),
        (vec![1, 0], "record_size"),
        (vec![each + 1], "record_size"),
        (vec![each, all - each + 1], "record_size"),
        (vec![1; limits::MAX_RECORDED + 1], "record_size"),
        (vec![each, all - each], "recorded 1"),
        (vec![1; limits::MAX_RECORDED], "recorded 1"),
        (
            vec![all / limits::MAX_RECORDED; limits::MAX_RECORDED],
            "recorded 1",
        ),
    ] {
        assert_eq!(outcome(&mut three(true), &sized(&sizes)), expected);
        let mut longest = sized(&sizes);
        longest.author.name = "n".repeat(limits::MAX_WORDS);
        if let Command::Record { sequence, .. } = &mut longest.command {
            *sequence = u64::MAX;
        }
        let bytes = encode_proposal(&longest).unwrap();
        assert!(expected != "recorded 1" || bytes.len() <= 64 * 1024);
    }
}

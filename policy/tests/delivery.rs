//! How commands arrive: repeated, in pieces, against a state that has moved on.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::fleet::*;
use common::{Proposed, at, command, name, tenant};
use portcullis_policy::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

#[test]
fn a_repeated_request_is_told_the_same_and_not_executed() {
    let mut state = State::default();
    let put = numbered(
        1,
        Proposal::local("a", at(1), command(&[tenant("acme")], &[])),
    );
    let remove = numbered(2, Proposal::local("a", at(2), command(&[], &["acme"])));
    assert_eq!(outcome(&mut state, &put), "+done");
    assert_eq!(outcome(&mut state, &remove), "+done");
    let late = Proposal {
        at: at(99),
        ..put.clone()
    };
    let applied = state.apply(&late).unwrap();
    assert!(applied.repeated && applied.tenants.is_empty());
    assert_eq!((applied.revision, applied.at), (Revision::new(1), at(1)));
    assert!(state.view().tenant(&name("acme")).is_none());
    // Whoever repeats it looks at the policy again first, and may see it executed.
    let mut looked_again = late.clone();
    if let Command::Apply { base, .. } = &mut looked_again.command {
        *base = Some(Revision::new(1));
    }
    assert!(state.apply(&looked_again).unwrap().repeated);
    // Somebody else, or something else, under the same number is a mistake.
    let other = numbered(
        1,
        Proposal::local("a", at(3), command(&[tenant("globex")], &[])),
    );
    assert_eq!(outcome(&mut state, &other), "request_reused");
    let mut stranger = put;
    stranger.author.principal = Principal::Operator(name("eve"));
    assert_eq!(outcome(&mut state, &stranger), "request_reused");
    check_kept(&state);
}

#[test]
fn what_changed_nothing_is_remembered_too_and_a_refusal_is_not() {
    let mut state = State::default();
    let nothing = numbered(1, Proposal::local("a", at(1), command(&[], &[])));
    let refused = numbered(2, Proposal::local("a", at(1), command(&[], &["acme"])));
    assert_eq!(outcome(&mut state, &nothing), "done");
    assert_eq!(outcome(&mut state, &nothing), "again done");
    assert_eq!(outcome(&mut state, &refused), "no_such_tenant");
    state
        .propose(&command(&[tenant("acme")], &[]), at(2))
        .unwrap();
    assert_eq!(outcome(&mut state, &refused), "+done");
    assert_eq!(outcome(&mut state, &refused), "again done");
}

#[test]
fn the_memory_of_requests_forgets_the_oldest() {
    let mut state = State::default();
    let nothing = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Proposal {
            request: Some(RequestId::new(id)),
            ..Proposal::local("a", at(1), command(&[], &[]))
        }
    };
    for number in 0..=limits::MAX_REQUESTS {
        state.apply(&nothing(number)).unwrap();
    }
    assert_eq!(state.snapshot().requests.len(), limits::MAX_REQUESTS);
    assert!(state.apply(&nothing(1)).unwrap().repeated);
    assert!(!state.apply(&nothing(0)).unwrap().repeated);
    assert!(!state.apply(&nothing(1)).unwrap().repeated);
    check_kept(&state);
}

#[test]
fn a_tenant_that_moved_on_is_a_conflict_and_names_who() {
    let mut state = State::default();
    state
        .propose(&command(&[tenant("acme"), tenant("globex")], &[]), at(1))
        .unwrap();
    let suspended = |id: &str| Tenant {
        suspended: true,
        ..tenant(id)
    };
    let expecting = |expected: &[(&str, Option<u64>)], put: &[Tenant]| {
        let pair = |(id, revision): &(&str, Option<u64>)| (name(id), revision.map(Revision::new));
        Command::Apply {
            base: None,
            expected: expected.iter().map(pair).collect::<BTreeMap<_, _>>(),
            put: put.to_vec(),
            remove: vec![],
        }
    };
    check_lines(
        &mut state,
        vec![
            (
                2,
                expecting(&[("acme", Some(0))], &[suspended("acme")]),
                "conflict",
            ),
            (
                2,
                expecting(&[("acme", None)], &[suspended("acme")]),
                "conflict",
            ),
            (
                2,
                expecting(&[("initech", Some(1))], &[suspended("acme")]),
                "conflict",
            ),
            (
                2,
                expecting(&[("acme", Some(1))], &[suspended("acme")]),
                "+done",
            ),
            (
                2,
                expecting(&[("acme", Some(1))], &[tenant("acme")]),
                "conflict",
            ),
            // Another tenant's change is none of one's business.
            (
                2,
                expecting(&[("globex", Some(1))], &[suspended("globex")]),
                "+done",
            ),
            (
                2,
                expecting(&[("initech", None)], &[tenant("initech")]),
                "+done",
            ),
        ],
    );
    let stale = expecting(&[("acme", Some(1))], &[tenant("acme")]);
    let refused = state.propose(&stale, at(3)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this was made against tenant acme of revision 1, but it changed at revision 2; look again"
    );
    assert_eq!(
        state.view().tenant(&name("globex")).unwrap().revision(),
        Revision::new(3)
    );
}

#[test]
fn a_base_is_stale_when_a_tenant_changed_and_not_when_a_node_did() {
    let on = |base, put: Tenant| Command::Apply {
        base: Some(Revision::new(base)),
        expected: BTreeMap::new(),
        put: vec![put],
        remove: vec![],
    };
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (1, command(&[tenant("acme")], &[]), "+done"),
            (1, found(ONE), "+node 1"),
            (1, invite(2, "n2", "g", 100), "+done"),
            (1, on(4, tenant("globex")), "stale_base"),
            (1, on(0, tenant("globex")), "stale_base"),
            (1, on(1, tenant("globex")), "+done"),
            (1, on(3, tenant("initech")), "stale_base"),
            (1, on(4, tenant("initech")), "+done"),
        ],
    );
}

/// A command in pieces of this size.
fn pieces(stage: u8, command: &Command, size: usize) -> (Vec<Command>, Command) {
    let bytes = encode_command(command).unwrap();
    let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
    let of = u32::try_from(chunks.len()).unwrap();
    let piece = |(index, bytes): (usize, &&[u8])| Command::Stage {
        stage: request(stage),
        index: u32::try_from(index).unwrap(),
        of,
        bytes: bytes.to_vec(),
    };
    let commit = Command::Commit {
        stage: request(stage),
        digest: digest(&bytes),
    };
    (chunks.iter().enumerate().map(piece).collect(), commit)
}

#[test]
fn a_staged_command_is_executed_when_it_is_whole_and_right() {
    let mut state = State::default();
    let whole = command(&[tenant("acme"), tenant("globex")], &[]);
    let (pieces, commit) = pieces(1, &whole, encode_command(&whole).unwrap().len() / 3 + 1);
    let [first, second, third] = pieces.as_slice() else {
        panic!("{pieces:?}")
    };
    let mut other = first.clone();
    if let Command::Stage { bytes, .. } = &mut other {
        bytes[0] ^= 1;
    }
    let wrong = Command::Commit {
        stage: request(1),
        digest: digest(b"something else"),
    };
    check_lines(
        &mut state,
        vec![
            (1, commit.clone(), "no_such_stage"),
            (1, third.clone(), "1/3"),
            (1, first.clone(), "2/3"),
            (1, first.clone(), "2/3"),
            (1, other, "other_piece"),
            (1, commit.clone(), "pieces_missing"),
            (1, second.clone(), "3/3"),
            (1, wrong, "digest_differs"),
            (1, commit.clone(), "+done"),
            (1, commit, "no_such_stage"),
        ],
    );
    assert_eq!(state.revision(), Revision::new(1));
    assert_eq!(state.view().tenants().count(), 2);
    let mut direct = State::default();
    direct.propose(&whole, at(1)).unwrap();
    assert_eq!(direct.root(), state.root(), "nothing is left of the pieces");
}

#[test]
fn what_is_staged_is_dropped_refused_and_bounded() {
    let mut state = State::default();
    let stage = |number, index, of, bytes: usize| Command::Stage {
        stage: request(number),
        index,
        of,
        bytes: vec![0; bytes],
    };
    let (founding, commit) = pieces(1, &found(ONE), limits::MAX_PIECE);
    let (broken, _) = pieces(1, &command(&[], &[]), limits::MAX_PIECE);
    let discard = |number| Command::Discard {
        stage: request(number),
    };
    let idle = limits::STAGE_IDLE_MS;
    let mut lines = vec![
        (0, stage(1, 0, 1, 0), "piece"),
        (0, stage(1, 0, 0, 1), "piece"),
        (0, stage(1, 1, 1, 1), "piece"),
        (0, stage(1, 0, 2, limits::MAX_PIECE + 1), "piece"),
        (0, stage(1, 0, limits::MAX_PIECES + 1, 1), "piece"),
        (0, founding[0].clone(), "1/1"),
        (0, broken[0].clone(), "other_piece"),
        (0, stage(1, 1, 2, 1), "other_piece"),
        (0, commit, "staged_command"),
        (0, discard(1), "done"),
        (0, discard(1), "done"),
        (0, stage(1, 0, 1, 5), "1/1"),
        (
            0,
            Command::Commit {
                stage: request(1),
                digest: digest(&[0; 5]),
            },
            "staged_command",
        ),
        (0, discard(1), "done"),
    ];
    for number in 0..u8::try_from(limits::MAX_STAGES).unwrap() {
        lines.push((0, stage(number, 0, 2, 1), "1/2"));
    }
    lines.push((idle, stage(100, 0, 2, 1), "too_many"));
    lines.push((idle, stage(0, 1, 2, 1), "2/2"));
    lines.push((idle + 1, stage(100, 0, 2, 1), "1/2"));
    check_lines(&mut state, lines);
    // The one that was touched last was not idle.
    assert_eq!(state.snapshot().staged.len(), 2);
}

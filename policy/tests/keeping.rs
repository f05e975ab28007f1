//! For how long the audit logs are kept: who may say so, and what cannot be said.

mod common;

use common::fleet::*;
use common::{Proposed, at, name};
use portcullis_policy::*;

fn keeping(entries: Option<u64>, personal: Option<u64>, holds: &[(&str, usize)]) -> Keeping {
    let hold = |(hold, bytes): &(&str, usize)| Hold {
        name: name(hold),
        tenant: None,
        reason: "x".repeat(*bytes),
    };
    Keeping {
        entries,
        personal,
        holds: holds.iter().map(hold).collect(),
    }
}

fn set(keeping: Keeping) -> Command {
    Command::SetKeeping {
        keeping,
        replaces: None,
    }
}

#[test]
fn what_cannot_be_kept_is_refused_and_changes_nothing() {
    let mut state = State::default();
    let most = limits::MAX_KEPT_SECONDS;
    let names: Vec<String> = (0..=limits::MAX_HOLDS)
        .map(|number| format!("hold-{number}"))
        .collect();
    let holds: Vec<(&str, usize)> = names.iter().map(|it| (it.as_str(), 1)).collect();
    let cases = vec![
        (keeping(Some(0), None, &[]), "kept_for"),
        (keeping(None, Some(0), &[]), "kept_for"),
        (keeping(Some(most + 1), None, &[]), "kept_for"),
        (keeping(None, Some(u64::MAX), &[]), "kept_for"),
        (
            keeping(None, None, &[("a", 1), ("b", 1), ("a", 2)]),
            "hold_twice",
        ),
        (keeping(None, None, &[("a", 0)]), "hold_reason"),
        (
            keeping(None, None, &[("a", limits::MAX_HOLD_REASON + 1)]),
            "hold_reason",
        ),
        (keeping(None, None, &holds), "too_many"),
        (
            keeping(Some(1), Some(most), &[("a", limits::MAX_HOLD_REASON)]),
            "+done",
        ),
        (keeping(None, None, &holds[1..]), "+done"),
    ];
    for (number, (keeping, expected)) in cases.into_iter().enumerate() {
        let before = state.keeping().clone();
        let proposal = Proposal::local("a test", at(1), set(keeping.clone()));
        assert_eq!(outcome(&mut state, &proposal), expected, "line {number}");
        let now = if expected == "+done" { keeping } else { before };
        assert_eq!(*state.keeping(), now, "line {number}");
        check_kept(&state);
    }
}

#[test]
fn what_somebody_else_set_meanwhile_is_not_lost() {
    let mut state = State::default();
    let replacing = |keeping: Keeping, replaces: &Keeping| Command::SetKeeping {
        keeping,
        replaces: Some(replaces.digest()),
    };
    let (first, second) = (
        keeping(None, None, &[("a", 1)]),
        keeping(Some(1), None, &[]),
    );
    let begun = Keeping::default();
    state
        .propose(&replacing(first.clone(), &begun), at(1))
        .unwrap();
    let late = Proposal::local("a test", at(2), replacing(second.clone(), &begun));
    assert_eq!(outcome(&mut state, &late), "keeping_changed");
    assert!(state.keeping().is_held(None));
    state
        .propose(&replacing(second.clone(), &first), at(3))
        .unwrap();
    assert_eq!(*state.keeping(), second);
    assert_ne!(begun.digest(), first.digest());
}

#[test]
fn a_hold_covers_one_log_or_all() {
    let (acme, bolt): (TenantId, TenantId) = (name("acme"), name("bolt"));
    let mut kept = keeping(Some(1), Some(1), &[]);
    assert!(!kept.is_held(None) && !kept.is_held(Some(&acme)));
    kept.holds = keeping(None, None, &[("a", 1)]).holds;
    kept.holds[0].tenant = Some(acme.clone());
    assert!(kept.is_held(Some(&acme)));
    assert!(!kept.is_held(Some(&bolt)) && !kept.is_held(None));
    kept.holds[0].tenant = None;
    assert!(kept.is_held(Some(&bolt)) && kept.is_held(None));
}

#[test]
fn where_guard_rails_take_two_people_so_does_this() {
    let mut state = State::default();
    let two = GuardRails {
        guard_rails: People::TwoPeople,
        ..ONE
    };
    state.propose(&found(ONE), at(0)).unwrap();
    let report = Command::Report {
        node: node(1),
        level: FEATURE_LEVEL,
        address: Some("n1.example.net:7400".to_owned()),
    };
    state.propose(&report, at(0)).unwrap();
    for operator in ["alice", "bob"] {
        let roles = vec![Role::FleetOperator];
        let operator = name(operator);
        state
            .propose(&Command::PutOperator { operator, roles }, at(0))
            .unwrap();
    }
    state
        .propose(&Command::SetGuardRails { guard_rails: two }, at(0))
        .unwrap();
    let less = by("alice", set(keeping(Some(1), None, &[])), 1);
    let told = state.apply(&less).unwrap().told;
    let Told::Pending {
        pending, digest, ..
    } = told
    else {
        panic!("{told:?}")
    };
    assert_eq!(*state.keeping(), Keeping::default());
    let approve = Command::Approve { pending, digest };
    assert_eq!(outcome(&mut state, &by("bob", approve, 2)), "+done");
    assert_eq!(state.keeping().entries, Some(1));
}

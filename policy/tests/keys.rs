//! An operator is known by a key, which goes with them.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::fleet::*;
use common::name;
use portcullis_policy::*;

fn put(operator: &str, role: Role) -> Command {
    Command::PutOperator {
        operator: name(operator),
        roles: vec![role],
    }
}

fn bind(operator: &str, number: u8) -> Command {
    Command::BindOperator {
        operator: name(operator),
        key: key(number),
    }
}

fn local(command: Command) -> Proposal {
    Proposal::local("a test", common::at(5), command)
}

fn founded(operators: People) -> State {
    let mut state = State::default();
    let guard_rails = GuardRails {
        operators,
        ..GuardRails::NONE
    };
    for command in [
        found(guard_rails),
        put("bob", Role::Reader),
        put("alice", Role::FleetOperator),
    ] {
        state.apply(&local(command)).unwrap();
    }
    state
}

#[test]
fn a_key_goes_with_its_operator_and_comes_back_with_nobody() {
    let mut state = founded(People::One);
    let alice = name("alice");
    assert_eq!(state.key_of(&alice), None);
    let without = state.root();
    state.apply(&local(bind("alice", 7))).unwrap();
    assert_eq!(state.key_of(&alice), Some(key(7)));
    assert_ne!(state.root(), without);
    check_kept(&state);
    // Again is nothing new; another is the only one.
    let revision = state.revision();
    assert_eq!(
        state.apply(&local(bind("alice", 7))).unwrap().revision,
        revision
    );
    state.apply(&local(bind("alice", 8))).unwrap();
    assert_eq!(state.key_of(&alice), Some(key(8)));
    // Other roles are no other person.
    state.apply(&local(put("alice", Role::Reader))).unwrap();
    assert_eq!(state.key_of(&alice), Some(key(8)));

    let remove = Command::RemoveOperator {
        operator: alice.clone(),
    };
    state.apply(&local(remove)).unwrap();
    assert_eq!(state.key_of(&alice), None);
    let refused = state.apply(&local(bind("alice", 8))).unwrap_err();
    assert_eq!(refused.code(), "no_such_operator");
    state.apply(&local(put("alice", Role::Reader))).unwrap();
    assert_eq!(state.key_of(&alice), None);
    check_kept(&state);
}

#[test]
fn whoever_could_bind_anothers_name_alone_would_be_two_people() {
    for (rails, author, permitted) in [
        (People::One, "alice", true),
        (People::One, "bob", false),
        (People::TwoPeople, "alice", false),
    ] {
        let mut state = founded(rails);
        let bound = state.apply(&by(author, bind("bob", 9), 6));
        assert_eq!(bound.is_ok(), permitted, "{rails:?} {author}");
        if let Err(refused) = bound {
            assert_eq!(refused.code(), "not_permitted", "{author}");
        }
        // The machine of a node may: that is where certificates are issued.
        state.apply(&local(bind("bob", 10))).unwrap();
        assert_eq!(state.key_of(&name("bob")), Some(key(10)));
    }
}

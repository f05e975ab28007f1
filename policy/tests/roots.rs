//! Hashes of views and states: equal when they are, different when they are not; and views that follow by updates.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::fleet::*;
use common::random::{cases, tenants};
use common::{Proposed, at, command, name, tenant};
use portcullis_policy::*;
use proptest::prelude::*;

#[test]
fn the_order_of_documents_in_a_command_does_not_show() {
    let (mut forth, mut back) = (State::default(), State::default());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    forth
        .propose(&command(&[acme.clone(), globex.clone()], &[]), at(1))
        .unwrap();
    back.propose(&command(&[globex, acme], &[]), at(1)).unwrap();
    assert_eq!(forth.root(), back.root());
    assert_eq!(forth.view().root(), back.view().root());
}

#[test]
fn every_difference_shows() {
    let mut state = State::default();
    state.propose(&found(ONE), at(1)).unwrap();
    state
        .propose(&command(&[tenant("acme")], &[]), at(1))
        .unwrap();
    let check = |in_view: bool, command: Command| {
        let mut after = state.clone();
        after.propose(&command, at(1)).unwrap();
        assert_ne!(after.root(), state.root(), "{command:?}");
        let differs = after.view().root() != state.view().root();
        // A new revision is a difference, whatever it was for.
        assert_eq!(differs, in_view, "{command:?}");
    };
    let mut suspended = tenant("acme");
    suspended.suspended = true;
    check(true, command(&[suspended], &[]));
    check(true, command(&[tenant("globex")], &[]));
    check(true, command(&[], &["acme"]));
    check(true, invite(2, "n2", "g", 100));
    let operator = name("alice");
    let roles = vec![Role::Reader];
    check(true, Command::PutOperator { operator, roles });
    check(
        false,
        Command::Stage {
            stage: request(1),
            index: 0,
            of: 2,
            bytes: vec![1],
        },
    );
    let mut later = state.clone();
    later.propose(&command(&[], &[]), at(2)).unwrap();
    assert_ne!(later.root(), state.root(), "time is a part of the state");
    assert_eq!(later.view().root(), state.view().root());
    let mut numbered_one = state.clone();
    numbered_one
        .apply(&numbered(1, Proposal::local("a", at(1), command(&[], &[]))))
        .unwrap();
    assert_ne!(numbered_one.root(), state.root());
}

#[test]
fn the_same_document_of_another_revision_is_another_leaf() {
    let mut once = State::default();
    once.propose(&command(&[tenant("acme")], &[]), at(1))
        .unwrap();
    let mut again = once.clone();
    again.propose(&command(&[], &["acme"]), at(1)).unwrap();
    again
        .propose(&command(&[tenant("acme")], &[]), at(1))
        .unwrap();
    assert_ne!(once.view().root(), again.view().root());
}

#[test]
fn an_update_that_does_not_fit_is_refused() {
    let mut state = State::default();
    state
        .propose(&command(&[tenant("acme")], &[]), at(1))
        .unwrap();
    state.propose(&found(ONE), at(1)).unwrap();
    let view = state.view();
    let update = |change: &dyn Fn(&mut ViewUpdate)| {
        let mut update = ViewUpdate {
            revision: Revision::new(3),
            put: vec![TenantAt {
                revision: Revision::new(3),
                document: tenant("globex"),
                revoked: Revocations::default(),
            }],
            remove: vec![],
            fleet: None,
        };
        change(&mut update);
        match view.updated(&update, at(2)) {
            Ok(_) => "taken",
            Err(rejection) => rejection.code(),
        }
    };
    assert_eq!(update(&|_| ()), "taken");
    assert_eq!(
        update(&|update| update.revision = Revision::new(1)),
        "snapshot"
    );
    assert_eq!(
        update(&|update| update.put[0].revision = Revision::new(4)),
        "snapshot"
    );
    assert_eq!(
        update(&|update| update.remove = vec![name("initech")]),
        "no_such_tenant"
    );
    assert_eq!(
        update(&|update| update.remove = vec![name("globex")]),
        "named_twice"
    );
    assert_eq!(
        update(&|update| drop(update.put[0].document.networks.replace(name("acme-vpc")))),
        "network_claimed"
    );
    let fleet = view.fleet().unwrap();
    let no_control = |update: &mut ViewUpdate| {
        let mut fleet = fleet.clone();
        fleet.nodes.clear();
        update.fleet = Some(fleet);
    };
    assert_eq!(update(&no_control), "node_lacks");
}

#[test]
fn a_snapshot_that_does_not_fit_together_is_refused() {
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (1, found(ONE), "+node 1"),
            (1, invite(2, "n2", "g", 100), "+done"),
            (1, admit(2, "n2", "g", 12), "+node 3"),
            (1, Command::Remove { node: node(3) }, "+done"),
        ],
    );
    let check = |expected: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = state.snapshot();
        change(&mut snapshot);
        assert_eq!(State::restore(snapshot).unwrap_err().code(), expected);
    };
    check("snapshot", &|snapshot| snapshot.policy = Revision::new(99));
    check("snapshot", &|snapshot| {
        snapshot.ids = State::default().snapshot().ids
    });
    check("node_name_taken", &|snapshot| {
        let nodes = &mut snapshot.fleet.as_mut().unwrap().nodes;
        let mut twin = nodes[&node(1)].clone();
        twin.id = node(2);
        nodes.insert(twin.id, twin);
    });
    check("snapshot", &|snapshot| {
        let nodes = &mut snapshot.fleet.as_mut().unwrap().nodes;
        let mut back = nodes[&node(1)].clone();
        (back.id, back.name) = (node(3), name("n3"));
        nodes.insert(back.id, back);
    });
}

/// Commands of all kinds from few values, so that they often meet.
fn commands() -> impl Strategy<Value = Command> {
    let small = 0..4_u8;
    let put = (tenants(), any::<bool>()).prop_map(|(put, prune)| {
        let remove: &[&str] = if prune { &["initech"] } else { &[] };
        command(&put, remove)
    });
    let nodes = (small.clone(), small.clone(), any::<bool>(), 0..60_i64).prop_map(
        |(token, who, control, until)| {
            let (named, letters) = (format!("n{who}"), if control { "c" } else { "g" });
            match until % 3 {
                0 => invite(token, &named, letters, until),
                1 => admit(token, &named, letters, who),
                _ => Command::Withdraw { token: key(token) },
            }
        },
    );
    let others = (1..9_u64, 0..9_u8, any::<bool>()).prop_map(|(number, kind, yes)| {
        let people = if yes { People::TwoPeople } else { People::One };
        let guard_rails = GuardRails {
            anywhere: people,
            operators: People::One,
            guard_rails: people,
        };
        let operator = name(if yes { "alice" } else { "bob" });
        let roles = vec![if yes {
            Role::PolicyAuthor
        } else {
            Role::FleetOperator
        }];
        match kind {
            0 => found(guard_rails),
            1 => Command::Remove { node: node(number) },
            2 => Command::Report {
                node: node(number),
                level: u32::from(yes),
                address: yes.then(|| String::from("n:1")),
            },
            3 => Command::Recover {
                epoch: 2,
                survivor: node(number),
                statement: vec![1],
            },
            4 => Command::Stage {
                stage: request(u8::from(yes)),
                index: 0,
                of: 1,
                bytes: encode_command(&command(&[tenant("acme")], &[])).unwrap(),
            },
            5 => Command::PutOperator { operator, roles },
            6 => Command::RemoveOperator { operator },
            7 => Command::SetGuardRails { guard_rails },
            8 => Command::SetKeeping {
                keeping: Keeping {
                    entries: yes.then_some(number),
                    ..Keeping::default()
                },
                replaces: None,
            },
            _ => Command::Reject {
                pending: PendingId::new(number),
            },
        }
    });
    prop_oneof![put, nodes, others]
}

fn proposals() -> impl Strategy<Value = Vec<Proposal>> {
    let author = 0..4_u8;
    let one = (commands(), author, proptest::option::of(0..6_u8), 0..50_i64);
    let proposal = one.prop_map(|(command, author, number, moment)| {
        let proposal = match author {
            0 => by("alice", command, moment),
            1 => by("bob", command, moment),
            _ => Proposal::local("a test", at(moment), command),
        };
        match number {
            Some(number) => numbered(number, proposal),
            None => proposal,
        }
    });
    proptest::collection::vec(proposal, 1..25)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_history_is_kept_whole_and_followed_by_views(history in proposals()) {
        let mut state = State::default();
        let mut follower = View::empty();
        for proposal in &history {
            let before = state.clone();
            match state.apply(proposal) {
                Err(_) => prop_assert_eq!(&state, &before),
                Ok(applied) => {
                    let grown = state.revision().get() - before.revision().get();
                    prop_assert!(grown <= 1 && state.at() >= before.at());
                    prop_assert!(grown == 1 || state.view() == before.view());
                    let view = state.view();
                    let put = applied.tenants.iter().filter_map(|id| view.tenant(id));
                    let gone = applied.tenants.iter().filter(|id| view.tenant(id).is_none());
                    let update = ViewUpdate {
                        revision: view.revision(),
                        put: put.map(|tenant| tenant.as_put()).collect(),
                        remove: gone.cloned().collect(),
                        fleet: view.fleet().filter(|_| applied.fleet_changed).cloned(),
                    };
                    let (next, changes) = follower.updated(&update, applied.at).unwrap();
                    prop_assert_eq!(next.root(), view.root());
                    prop_assert_eq!(&next, &view);
                    prop_assert_eq!(changes, applied.changes);
                    follower = next;
                }
            }
        }
        check_kept(&state);
        let (whole, _) = View::empty().updated(&state.view().as_update(), at(0)).unwrap();
        prop_assert_eq!(whole.root(), state.view().root());
    }
}

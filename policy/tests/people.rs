//! Who may propose what, and what takes two.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::fleet::*;
use common::{EntryWords, Proposed, at, command, endpoint, entry, name, tenant};
use portcullis_policy::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

fn operators() -> Vec<(&'static str, Vec<Role>)> {
    vec![
        ("fleet", vec![Role::FleetOperator]),
        ("author", vec![Role::PolicyAuthor]),
        ("second", vec![Role::PolicyAuthor]),
        (
            "acme-ops",
            vec![Role::TenantOperator(BTreeSet::from([name("acme")]))],
        ),
        ("auditor", vec![Role::Auditor]),
        ("reader", vec![Role::Reader]),
    ]
}

/// A fleet with these guard rails, operators of every role, and acme and globex.
fn peopled(guard_rails: GuardRails) -> State {
    let mut state = State::default();
    state.propose(&found(ONE), at(0)).unwrap();
    for (operator, roles) in operators() {
        let operator = name(operator);
        state
            .propose(&Command::PutOperator { operator, roles }, at(0))
            .unwrap();
    }
    state
        .propose(&Command::SetGuardRails { guard_rails }, at(0))
        .unwrap();
    state
        .propose(
            &command(&[listing("acme", &[]), listing("globex", &[])], &[]),
            at(0),
        )
        .unwrap();
    state
}

/// A tenant whose one endpoint has these entries, all public.
fn listing(id: &str, entries: &[&str]) -> Tenant {
    let mut tenant = tenant(id);
    let allow = entries
        .iter()
        .map(|prefix| entry(prefix, "public"))
        .collect();
    tenant.endpoints.insert(
        name("orders"),
        endpoint(&format!("{id}-orders"), &["public"], allow),
    );
    tenant
}

const TWO: GuardRails = GuardRails {
    anywhere: People::TwoPeople,
    operators: People::TwoPeople,
    guard_rails: People::TwoPeople,
};

#[test]
fn the_table_of_who_may_ask_what_is_the_one_that_was_reviewed() {
    let acme = name("acme");
    let globex = name("globex");
    let mut table = String::new();
    for action in Action::ALL {
        for (who, roles) in operators() {
            if who == "second" {
                continue;
            }
            let mark = |tenant| {
                if may(&roles, action, tenant) {
                    'x'
                } else {
                    '.'
                }
            };
            let marks: String = [None, Some(&acme), Some(&globex)]
                .map(mark)
                .iter()
                .collect();
            table.push_str(&format!("{action:?} {who} {marks}\n"));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/who_may.txt");
    #[expect(clippy::disallowed_methods, reason = "a test that keeps its own files")]
    if std::env::var("BLESS").is_ok() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), table);
    assert!(
        !Action::ALL
            .iter()
            .any(|action| may(&[], *action, Some(&acme)))
    );
}

#[test]
fn operators_propose_what_their_roles_permit() {
    let state = peopled(ONE);
    let check = |who: &str, command: Command, expected: &str| {
        let proposal = by(who, command, 1);
        assert_eq!(
            outcome(&mut state.clone(), &proposal),
            expected,
            "{proposal:?}"
        );
    };
    let everyone = [
        "fleet", "author", "acme-ops", "auditor", "reader", "stranger",
    ];
    let check_all = |command: &Command, expected: [&str; 6]| {
        for (who, expected) in everyone.iter().zip(expected) {
            check(who, command.clone(), expected);
        }
    };
    const NO: &str = "not_permitted";
    let list = |id: &str| command(&[listing(id, &["203.0.113.0/24"])], &[]);
    check_all(&list("acme"), ["+done", "+done", "+done", NO, NO, NO]);
    check_all(&list("globex"), ["+done", "+done", NO, NO, NO, NO]);
    check_all(&list("initech"), ["+done", "+done", NO, NO, NO, NO]);
    check_all(&command(&[], &["acme"]), ["+done", "+done", NO, NO, NO, NO]);
    check_all(&command(&[], &[]), ["done", "done", NO, NO, NO, NO]);
    check_all(&invite(9, "n9", "g", 100), ["+done", NO, NO, NO, NO, NO]);
    check_all(
        &Command::Withdraw { token: key(9) },
        ["done", NO, NO, NO, NO, NO],
    );
    check_all(
        &Command::Remove { node: node(1) },
        ["last_control_node", NO, NO, NO, NO, NO],
    );
    let operator: OperatorId = name("reader");
    check_all(
        &Command::RemoveOperator { operator },
        ["+done", NO, NO, NO, NO, NO],
    );
    check_all(
        &Command::SetGuardRails { guard_rails: TWO },
        ["+done", NO, NO, NO, NO, NO],
    );
    // These need the machine of a node.
    check_all(&found(ONE), [NO; 6]);
    check_all(&admit(9, "n9", "g", 9), [NO; 6]);
}

#[test]
fn a_tenant_operator_changes_entries_of_its_own_and_nothing_else() {
    let state = peopled(ONE);
    let check = |expected: &str, change: &dyn Fn(&mut Tenant)| {
        let mut acme = listing("acme", &[]);
        change(&mut acme);
        let proposal = by("acme-ops", command(&[acme], &[]), 1);
        assert_eq!(outcome(&mut state.clone(), &proposal), expected);
    };
    const NO: &str = "not_permitted";
    let orders: EndpointId = name("orders");
    let change = |tenant: &mut Tenant, to: &dyn Fn(&mut Endpoint)| {
        to(tenant.endpoints.get_mut(&orders).unwrap());
    };
    check("+done", &|acme| {
        change(acme, &|orders| {
            orders.allow.push(entry("192.0.2.0/24", "public"))
        });
    });
    check("done", &|_| {});
    check(NO, &|acme| acme.suspended = true);
    check(NO, &|acme| acme.limits.connections = Some(7));
    check(NO, &|acme| assert!(acme.networks.insert(name("more"))));
    check(NO, &|acme| {
        assert!(acme.private_links.insert(name("azure:9")))
    });
    check(NO, &|acme| {
        drop(
            acme.clusters
                .insert(name("more"), common::cluster("10.0.0.1")),
        )
    });
    check(NO, &|acme| drop(acme.endpoints.remove(&orders)));
    check(NO, &|acme| {
        let more = endpoint("acme-more", &[], vec![]);
        acme.endpoints.insert(name("more"), more);
    });
    check(NO, &|acme| {
        let same = acme.endpoints.remove(&orders).unwrap();
        acme.endpoints.insert(name("renamed"), same);
    });
    check(NO, &|acme| change(acme, &|orders| orders.suspended = true));
    check(NO, &|acme| {
        change(acme, &|orders| drop(orders.doors.pop_first()))
    });
    check(NO, &|acme| {
        change(acme, &|orders| {
            orders.authentication = Authentication::Relay
        });
    });
    check(NO, &|acme| {
        change(acme, &|orders| orders.replication = Replication::Allowed);
    });
    check(NO, &|acme| {
        change(acme, &|orders| {
            orders.names.push(name("other.db.example.net"))
        });
    });
    // In company with another tenant's document, or by way of pieces.
    let both = command(
        &[listing("acme", &["192.0.2.0/24"]), listing("globex", &[])],
        &[],
    );
    assert_eq!(outcome(&mut state.clone(), &by("acme-ops", both, 1)), NO);
    for (id, expected) in [("acme", "+done"), ("globex", NO)] {
        let bytes = encode_command(&command(&[listing(id, &["192.0.2.0/24"])], &[])).unwrap();
        let digest = Digest::new(Sha256::digest(&bytes).into());
        let stage = request(1);
        let piece = Command::Stage {
            stage,
            index: 0,
            of: 1,
            bytes,
        };
        let mut state = state.clone();
        assert_eq!(outcome(&mut state, &by("acme-ops", piece, 1)), "1/1");
        let commit = Command::Commit { stage, digest };
        assert_eq!(outcome(&mut state, &by("acme-ops", commit, 1)), expected);
    }
}

#[test]
fn a_role_that_was_taken_away_no_longer_counts() {
    let mut state = peopled(ONE);
    let change = by("author", command(&[], &["acme"]), 2);
    let operator = name("author");
    state
        .propose(&Command::RemoveOperator { operator }, at(1))
        .unwrap();
    assert_eq!(outcome(&mut state, &change), "not_permitted");
}

#[test]
fn an_entry_for_everyone_takes_two_people() {
    let mut state = peopled(TWO);
    let open = command(&[listing("acme", &["anywhere"])], &[]);
    let told = state.apply(&by("author", open.clone(), 10)).unwrap();
    let Told::Pending {
        pending,
        digest,
        expires,
    } = told.told
    else {
        panic!("{told:?}")
    };
    assert!(told.tenants.is_empty() && told.changes.is_empty());
    assert_eq!(expires, at(10 + limits::PENDING_LIFE_MS));
    let approve = |digest| Command::Approve { pending, digest };
    let mut check = |proposal, expected: &str| {
        assert_eq!(outcome(&mut state, &proposal), expected);
        check_kept(&state);
    };
    let waits = format!("pending {pending}");
    check(by("author", open.clone(), 11), &waits);
    check(by("author", approve(digest), 11), "same_person");
    check(
        by("second", approve(Digest::new([0; 32])), 11),
        "digest_differs",
    );
    check(by("acme-ops", approve(digest), 11), "not_permitted");
    check(by("auditor", approve(digest), 11), "not_permitted");
    check(by("second", approve(digest), 12), "+done");
    check(by("second", approve(digest), 12), "no_such_pending");
    // It is there now, so that words about it and fewer addresses need nobody.
    check(by("author", open, 13), "done");
    let mut noted = listing("acme", &["anywhere"]);
    let allow = &mut noted
        .endpoints
        .get_mut(&name::<EndpointId>("orders"))
        .unwrap()
        .allow;
    allow[0].note = String::from("a public demonstration");
    check(by("author", command(&[noted.clone()], &[]), 14), "+done");
    let allow = &mut noted
        .endpoints
        .get_mut(&name::<EndpointId>("orders"))
        .unwrap()
        .allow;
    allow[0] = entry("anywhere", "public").until(1_000_000);
    check(by("author", command(&[noted], &[]), 14), "+pending 13");
    check(
        by("author", command(&[listing("acme", &[])], &[]), 15),
        "+done",
    );
}

#[test]
fn a_rehearsal_shows_what_would_happen_after_the_approval() {
    let state = peopled(TWO);
    let open = by("author", command(&[listing("acme", &["anywhere"])], &[]), 1);
    let rehearsed = state.rehearse(&open).unwrap();
    assert!(rehearsed.second_person);
    assert_eq!(rehearsed.applied.tenants, [name("acme")]);
    assert_eq!(rehearsed.applied.changes.len(), 1);
    assert_eq!(rehearsed.view.revision(), state.revision().next());
    let closed = by("author", command(&[listing("acme", &[])], &[]), 1);
    assert!(!state.rehearse(&closed).unwrap().second_person);
    let reader = by("reader", command(&[listing("acme", &[])], &[]), 1);
    assert_eq!(state.rehearse(&reader).unwrap_err().code(), "not_permitted");
}

#[test]
fn local_users_of_all_nodes_are_one_person() {
    let mut state = peopled(TWO);
    let open = command(&[listing("acme", &["anywhere"])], &[]);
    let told = state.propose(&open, at(1)).unwrap().told;
    let Told::Pending {
        pending, digest, ..
    } = told
    else {
        panic!("{told:?}")
    };
    let approve = Command::Approve { pending, digest };
    let elsewhere = Proposal::local("uid 0 on another node", at(2), approve.clone());
    assert_eq!(outcome(&mut state, &elsewhere), "same_person");
    assert_eq!(outcome(&mut state, &by("second", approve, 2)), "+done");
}

#[test]
fn a_door_opened_to_an_entry_for_everyone_takes_two_people() {
    let mut state = peopled(TWO);
    let mut shut = listing("acme", &["anywhere"]);
    let orders = shut
        .endpoints
        .get_mut(&name::<EndpointId>("orders"))
        .unwrap();
    orders.doors = BTreeSet::from([name("network:acme-vpc")]);
    let open = command(&[listing("acme", &["anywhere"])], &[]);
    assert_eq!(
        outcome(&mut state, &by("author", command(&[shut], &[]), 1)),
        "+done"
    );
    assert_eq!(outcome(&mut state, &by("author", open, 1)), "+pending 11");
}

#[test]
fn what_waited_is_checked_against_the_state_as_it_is_then() {
    let mut state = peopled(TWO);
    let mut open = command(&[listing("acme", &["anywhere"])], &[]);
    if let Command::Apply { expected, .. } = &mut open {
        let revision = state.view().tenant(&name("acme")).unwrap().revision();
        expected.insert(name("acme"), Some(revision));
    }
    let wait = |state: &mut State, moment| match state.apply(&by("author", open.clone(), moment)) {
        Ok(Applied {
            told: Told::Pending {
                pending, digest, ..
            },
            ..
        }) => Command::Approve { pending, digest },
        other => panic!("{other:?}"),
    };
    let approve = wait(&mut state, 1);
    let mut moved = state.clone();
    let closed = command(&[listing("acme", &["192.0.2.0/24"])], &[]);
    assert_eq!(outcome(&mut moved, &by("author", closed, 2)), "+done");
    assert_eq!(
        outcome(&mut moved, &by("second", approve.clone(), 3)),
        "conflict"
    );
    // Nor is it enough that the first person once had the role.
    let mut dismissed = peopled(GuardRails {
        operators: People::One,
        ..TWO
    });
    let approve_there = wait(&mut dismissed, 1);
    let operator = name("author");
    dismissed
        .propose(&Command::RemoveOperator { operator }, at(2))
        .unwrap();
    assert_eq!(
        outcome(&mut dismissed, &by("second", approve_there, 3)),
        "not_permitted"
    );
    // And it does not wait for ever.
    let late = 1 + limits::PENDING_LIFE_MS;
    assert_eq!(
        outcome(&mut state.clone(), &by("second", approve.clone(), late)),
        "pending_expired"
    );
    assert_eq!(
        outcome(&mut state, &by("second", approve, late - 1)),
        "+done"
    );
}

#[test]
fn a_pending_change_is_rejected_by_its_author_or_a_second_person() {
    let mut state = peopled(TWO);
    let rails = Command::SetGuardRails { guard_rails: ONE };
    let told = state.apply(&by("fleet", rails, 1)).unwrap().told;
    let Told::Pending {
        pending, digest, ..
    } = told
    else {
        panic!("{told:?}")
    };
    let approve = by("second", Command::Approve { pending, digest }, 2);
    assert_eq!(
        outcome(&mut state, &approve),
        "not_permitted",
        "nor could they propose it"
    );
    let reject = Command::Reject { pending };
    for (who, expected) in [("acme-ops", "not_permitted"), ("fleet", "+done")] {
        assert_eq!(outcome(&mut state, &by(who, reject.clone(), 3)), expected);
    }
    assert_eq!(
        outcome(&mut state, &by("fleet", reject, 3)),
        "no_such_pending"
    );
    assert_eq!(state.guard_rails(), Some(TWO));
}

#[test]
fn a_second_person_is_not_made_by_one() {
    let mut state = peopled(TWO);
    let operator = name("puppet");
    let roles = vec![Role::FleetOperator];
    let puppet = Command::PutOperator { operator, roles };
    assert_eq!(outcome(&mut state, &by("fleet", puppet, 1)), "+pending 10");
}

#[test]
fn pending_changes_and_roles_have_their_limits() {
    let mut state = peopled(TWO);
    let open = |number: usize| {
        let mut acme = listing("acme", &["anywhere"]);
        acme.limits.connections = Some(u32::try_from(number + 1).unwrap());
        command(&[acme], &[])
    };
    for number in 0..limits::MAX_PENDING {
        state.propose(&open(number), at(1)).unwrap();
    }
    let late = 1 + limits::PENDING_LIFE_MS;
    check_lines(
        &mut state,
        vec![
            (1, open(999), "too_many"),
            (
                late,
                open(999),
                &format!("+pending {}", 10 + limits::MAX_PENDING),
            ),
        ],
    );
    assert_eq!(state.pending().count(), 1);
    let mut state = peopled(ONE);
    let with = |roles: Vec<Role>| Command::PutOperator {
        operator: name("bob"),
        roles,
    };
    check_lines(
        &mut state,
        vec![
            (1, with(vec![]), "operator_roles"),
            (
                1,
                with(vec![Role::TenantOperator(BTreeSet::new())]),
                "operator_roles",
            ),
            (
                1,
                with(vec![Role::Reader; limits::MAX_ROLES + 1]),
                "operator_roles",
            ),
            (1, with(vec![Role::Reader; limits::MAX_ROLES]), "+done"),
            (1, with(vec![Role::Reader; limits::MAX_ROLES]), "done"),
        ],
    );
}

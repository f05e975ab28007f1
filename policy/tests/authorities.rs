//! The exchange of an authority: who may take which step, and that none is taken before every node can follow.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::at;
use common::fleet::*;
use portcullis_policy::AuthorityPhase::{Issuing, Returning, Settled, Trusting};
use portcullis_policy::*;
use proptest::prelude::*;

const FLEET: AuthorityPurpose = AuthorityPurpose::Fleet;
const OLD: [u8; 3] = [1, 1, 1];
const NEW: [u8; 3] = [2, 2, 2];
const NEWER: [u8; 3] = [3, 3, 3];

fn step(step: AuthorityStep) -> Command {
    Command::Authority {
        purpose: FLEET,
        step,
    }
}

fn known(certificate: [u8; 3]) -> Command {
    step(AuthorityStep::Known {
        certificate: certificate.to_vec(),
    })
}

fn rotate(to: [u8; 3]) -> Command {
    step(AuthorityStep::Rotate(Successor {
        certificate: to.to_vec(),
        link: vec![9],
    }))
}

fn digest(certificate: [u8; 3]) -> Digest {
    let authority = Authority {
        certificate: OLD.to_vec(),
        next: Some(Successor {
            certificate: certificate.to_vec(),
            link: vec![9],
        }),
        phase: Trusting,
        previous: None,
    };
    authority.successor().unwrap()
}

fn confirm(by: u64, of: [u8; 3], phase: AuthorityPhase) -> Command {
    said(by, of, phase, None)
}

fn said(by: u64, of: [u8; 3], phase: AuthorityPhase, problem: Option<&str>) -> Command {
    step(AuthorityStep::Confirm {
        node: node(by),
        successor: digest(of),
        phase,
        problem: problem.map(str::to_owned),
    })
}

fn advance(of: [u8; 3], from: AuthorityPhase) -> Command {
    step(AuthorityStep::Advance {
        successor: digest(of),
        from,
    })
}

fn give_up(of: [u8; 3]) -> Command {
    step(AuthorityStep::Return {
        successor: digest(of),
    })
}

/// A fleet of two nodes of this version.
fn fleet() -> State {
    let mut state = State::default();
    check_lines(
        &mut state,
        vec![
            (1, found(ONE), "+node 1"),
            (2, invite(2, "n2", "g", 100), "+done"),
            (3, admit(2, "n2", "g", 2), "+node 3"),
        ],
    );
    for id in [1, 3] {
        let report = Command::Report {
            node: node(id),
            level: FEATURE_LEVEL,
            address: Some("n:1".to_owned()),
        };
        state
            .apply(&Proposal::local("a test", at(4), report))
            .unwrap();
    }
    state
}

fn phase(state: &State) -> AuthorityPhase {
    state.fleet().unwrap().authorities[&FLEET].phase
}

fn issuing(state: &State) -> Vec<u8> {
    state.fleet().unwrap().authorities[&FLEET]
        .issuing()
        .to_vec()
}

#[test]
fn an_authority_is_exchanged_once_every_node_has_followed_each_phase() {
    let mut state = fleet();
    check_lines(
        &mut state,
        vec![
            (5, rotate(NEW), "no_authority"),
            (5, known(OLD), "+done"),
            (5, known(OLD), "done"),
            (5, known(NEW), "authority_known"),
            (5, rotate(OLD), "authority_certificate"),
            (5, give_up(NEW), "authority_phase"),
            (6, rotate(NEW), "+done"),
            (6, rotate(NEWER), "authority_phase"),
            (7, advance(NEW, Trusting), "authority_unconfirmed"),
            (7, confirm(1, NEW, Trusting), "done"),
            (7, confirm(2, NEW, Trusting), "no_such_node"),
            // Of another phase, and of another exchange.
            (7, confirm(3, NEW, Issuing), "done"),
            (7, confirm(3, NEWER, Trusting), "done"),
            (7, advance(NEW, Trusting), "authority_unconfirmed"),
            (7, said(3, NEW, Trusting, Some("sealed")), "done"),
            (7, advance(NEW, Trusting), "authority_unconfirmed"),
            (8, confirm(3, NEW, Trusting), "done"),
            (8, advance(NEW, Issuing), "authority_phase"),
            (8, advance(NEWER, Trusting), "authority_phase"),
        ],
    );
    assert_eq!((phase(&state), issuing(&state)), (Trusting, OLD.to_vec()));
    check_lines(&mut state, vec![(8, advance(NEW, Trusting), "+done")]);
    assert_eq!((phase(&state), issuing(&state)), (Issuing, NEW.to_vec()));
    check_lines(
        &mut state,
        vec![
            // What was said of the phase before counts no more.
            (9, advance(NEW, Issuing), "authority_unconfirmed"),
            (9, confirm(1, NEW, Issuing), "done"),
            (9, confirm(3, NEW, Issuing), "done"),
            (10, advance(NEW, Issuing), "+done"),
            (10, advance(NEW, Issuing), "authority_phase"),
        ],
    );
    let authority = &state.fleet().unwrap().authorities[&FLEET];
    assert_eq!(authority.trusted(), [NEW.as_slice()]);
    let previous = authority.previous.as_ref().unwrap();
    assert_eq!(
        (&previous.certificate[..], previous.retired),
        (&OLD[..], at(10))
    );
    assert_eq!(authority.link(at(10)), Some([9].as_slice()));
    assert_eq!(authority.link(at(11)), None);
}

#[test]
fn an_exchange_is_taken_back_from_where_it_is() {
    let mut state = fleet();
    check_lines(
        &mut state,
        vec![
            (5, known(OLD), "+done"),
            (6, rotate(NEW), "+done"),
            (6, give_up(NEWER), "authority_phase"),
            (6, give_up(NEW), "+done"),
            (7, rotate(NEWER), "+done"),
            (7, confirm(1, NEWER, Trusting), "done"),
            (7, confirm(3, NEWER, Trusting), "done"),
            (7, advance(NEWER, Trusting), "+done"),
            (8, give_up(NEWER), "+done"),
        ],
    );
    assert_eq!((phase(&state), issuing(&state)), (Returning, OLD.to_vec()));
    let authority = &state.fleet().unwrap().authorities[&FLEET];
    assert_eq!(authority.trusted(), [OLD.as_slice(), &NEWER]);
    check_lines(
        &mut state,
        vec![
            (8, give_up(NEWER), "authority_phase"),
            (8, advance(NEWER, Returning), "authority_unconfirmed"),
            (9, confirm(1, NEWER, Returning), "done"),
            (9, confirm(3, NEWER, Returning), "done"),
            (9, advance(NEWER, Returning), "+done"),
        ],
    );
    let authority = &state.fleet().unwrap().authorities[&FLEET];
    assert_eq!(authority.trusted(), [OLD.as_slice()]);
    assert_eq!((authority.phase, &authority.previous), (Settled, &None));
}

#[test]
fn a_node_that_is_removed_is_waited_for_no_longer_and_a_new_one_is() {
    let mut state = fleet();
    check_lines(
        &mut state,
        vec![
            (5, known(OLD), "+done"),
            (5, invite(4, "n4", "g", 100), "+done"),
            (6, rotate(NEW), "+done"),
            (6, confirm(1, NEW, Trusting), "done"),
            (6, confirm(3, NEW, Trusting), "done"),
            (7, admit(4, "n4", "g", 4), "+node 9"),
            (7, Command::Remove { node: node(3) }, "+done"),
        ],
    );
    let waiting: Vec<String> = state
        .unconfirmed(FLEET)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(waiting, ["n4"]);
    // It runs this version only once it says so.
    check_lines(
        &mut state,
        vec![
            (8, confirm(9, NEW, Trusting), "nodes_lack"),
            (
                8,
                Command::Report {
                    node: node(9),
                    level: FEATURE_LEVEL,
                    address: None,
                },
                "+done",
            ),
            (8, confirm(9, NEW, Trusting), "done"),
            (8, advance(NEW, Trusting), "+done"),
        ],
    );
}

#[test]
fn nodes_speak_for_themselves_and_people_decide() {
    let by_node = |id: u64, command: Command| Proposal {
        author: Author {
            name: format!("n{id}"),
            principal: Principal::Node(node(id)),
        },
        ..Proposal::local("a test", at(50), command)
    };
    let operator = |role: Role| {
        let mut state = fleet();
        let put = Command::PutOperator {
            operator: common::name("alice"),
            roles: vec![role],
        };
        let lines = vec![(5, put, "+done"), (5, known(OLD), "+done")];
        check_lines(&mut state, lines);
        state
    };
    let mut state = operator(Role::PolicyAuthor);
    let refused = [
        by("alice", rotate(NEW), 50),
        by_node(3, rotate(NEW)),
        by_node(3, known(OLD)),
        by_node(3, confirm(1, NEW, Trusting)),
        by_node(1, confirm(3, NEW, Trusting)),
        by_node(1, give_up(NEW)),
        by("alice", confirm(1, NEW, Trusting), 50),
    ];
    for proposal in refused {
        let outcome = outcome(&mut state, &proposal);
        assert_eq!(outcome, "not_permitted", "{proposal:?}");
    }
    let mut state = operator(Role::FleetOperator);
    for (proposal, expected) in [
        (by("alice", advance(NEW, Trusting), 50), "not_permitted"),
        (by("alice", rotate(NEW), 50), "+done"),
        (by_node(1, confirm(1, NEW, Trusting)), "done"),
        (by_node(3, confirm(3, NEW, Trusting)), "done"),
        (by_node(3, advance(NEW, Trusting)), "not_permitted"),
        (by_node(1, advance(NEW, Trusting)), "+done"),
        (by("alice", give_up(NEW), 50), "+done"),
    ] {
        assert_eq!(outcome(&mut state, &proposal), expected, "{proposal:?}");
    }
}

#[test]
fn a_view_travels_with_its_authorities_and_without_any_as_it_always_did() {
    let mut state = fleet();
    let plain = postcard::to_stdvec(&state.view().as_update()).unwrap();
    check_lines(&mut state, vec![(5, known(OLD), "+done")]);
    let told = postcard::to_stdvec(&state.view().as_update()).unwrap();
    assert!(told.len() > plain.len());
    let update: ViewUpdate = postcard::from_bytes(&told).unwrap();
    let (view, _) = View::empty().updated(&update, at(5)).unwrap();
    assert_eq!(view.root(), state.view().root());
    assert_eq!(view.fleet(), state.fleet());
    // An `Option`, as the versions before wrote it.
    let mut before = plain.clone();
    let update: ViewUpdate = postcard::from_bytes(&before).unwrap();
    assert!(update.fleet.unwrap().authorities.is_empty());
    before.truncate(before.len() - 1);
    assert!(postcard::from_bytes::<ViewUpdate>(&before).is_err());
    let none = ViewUpdate {
        fleet: None,
        ..state.view().as_update()
    };
    let bytes = postcard::to_stdvec(&none).unwrap();
    assert_eq!(bytes.last(), Some(&0));
}

proptest! {
    /// Whatever is proposed in whatever order: nobody stops trusting what a node still shows.
    #[test]
    fn what_a_node_shows_is_trusted_by_all(
        steps in prop::collection::vec((0..6_u8, any::<bool>(), 0..3_u8), 1..60),
    ) {
        let mut state = fleet();
        let apply = |state: &mut State, command| {
            state.apply(&Proposal::local("a test", at(20), command)).is_ok()
        };
        prop_assert!(apply(&mut state, known(OLD)));
        let mut shown = [OLD.to_vec(), OLD.to_vec()];
        let mut last = 1;
        for (kind, second, _) in steps {
            let authority = state.fleet().unwrap().authorities[&FLEET].clone();
            let (id, index) = if second { (3, 1) } else { (1, 0) };
            match kind {
                0 => {
                    last = if last == 250 { 1 } else { last + 1 };
                    apply(&mut state, rotate([last; 3]));
                }
                1 => {
                    if let Some(successor) = authority.successor() {
                        apply(&mut state, step(AuthorityStep::Return { successor }));
                    }
                }
                // A node does what the phase asks, and says so.
                2 | 3 => {
                    if let Some(successor) = authority.successor() {
                        if authority.phase != Trusting {
                            shown[index] = authority.issuing().to_vec();
                        }
                        let confirm = AuthorityStep::Confirm {
                            node: node(id),
                            successor,
                            phase: authority.phase,
                            problem: None,
                        };
                        prop_assert!(apply(&mut state, step(confirm)));
                    }
                }
                _ => {
                    if let Some(successor) = authority.successor() {
                        let from = authority.phase;
                        apply(&mut state, step(AuthorityStep::Advance { successor, from }));
                    }
                }
            }
            let authority = &state.fleet().unwrap().authorities[&FLEET];
            for certificate in &shown {
                prop_assert!(authority.trusted().contains(&certificate.as_slice()));
            }
        }
    }
}

//! Fleets for tests, in few words.

use super::{at, name};
use portcullis_policy::*;
use std::collections::BTreeSet;

/// A number that stands for 16 bytes.
pub fn request(number: u8) -> RequestId {
    RequestId::new([number; 16])
}

/// A number that stands for a key or token.
pub fn key(number: u8) -> KeyHash {
    KeyHash::new([number; 32])
}

/// The node with this number.
pub fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// Roles by their first letters: `"cg"`.
pub fn roles(letters: &str) -> BTreeSet<NodeRole> {
    let role = |letter| match letter {
        'c' => NodeRole::Control,
        _ => NodeRole::Gateway,
    };
    letters.chars().map(role).collect()
}

/// One person suffices for everything.
pub const ONE: GuardRails = GuardRails {
    anywhere: People::One,
    operators: People::One,
    guard_rails: People::One,
};

/// Founds fleet 7 with node `n1` and these guard rails.
pub fn found(guard_rails: GuardRails) -> Command {
    Command::Found {
        fleet: FleetId::new([7; 16]),
        name: name("n1"),
        roles: roles("cg"),
        key: key(1),
        view_key: [1; 32],
        address: String::from("n1.example.net:7400"),
        recovery_key: [9; 32],
        guard_rails,
    }
}

/// A token for this node that holds until this moment.
pub fn invite(token: u8, named: &str, letters: &str, until: i64) -> Command {
    Command::Invite {
        token: key(token),
        name: name(named),
        roles: roles(letters),
        expires: at(until),
    }
}

/// A node that shows a token.
pub fn admit(token: u8, named: &str, letters: &str, with: u8) -> Command {
    Command::Admit {
        token: key(token),
        name: name(named),
        roles: roles(letters),
        key: key(with),
        view_key: Some([with; 32]),
        address: Some(format!("{named}.example.net:7400")),
    }
}

/// A proposal by an operator.
pub fn by(operator: &str, command: Command, moment: i64) -> Proposal {
    Proposal {
        request: None,
        at: at(moment),
        author: Author {
            name: operator.to_owned(),
            principal: Principal::Operator(name(operator)),
        },
        command,
    }
}

/// A record of a node's events.
pub fn record(of: u64, sequence: u64, events: &[&str], moment: i64) -> Proposal {
    Proposal {
        request: None,
        at: at(moment),
        author: Author {
            name: format!("n{of}"),
            principal: Principal::Node(node(of)),
        },
        command: Command::Record {
            sequence,
            events: events.iter().map(|it| it.as_bytes().to_vec()).collect(),
        },
    }
}

/// The same proposal under this number.
pub fn numbered(number: u8, proposal: Proposal) -> Proposal {
    Proposal {
        request: Some(request(number)),
        ..proposal
    }
}

/// What came of a command, in one line: `+` when the revision grew, then what was told, or the refusal's code.
pub fn outcome(state: &mut State, proposal: &Proposal) -> String {
    let before = state.clone();
    match state.apply(proposal) {
        Ok(applied) => {
            let grew = if state.revision() > before.revision() {
                "+"
            } else {
                ""
            };
            let again = if applied.repeated { "again " } else { "" };
            let told = match applied.told {
                Told::Done => String::from("done"),
                Told::Admitted(id) => format!("node {id}"),
                Told::Staged { present, of } => format!("{present}/{of}"),
                Told::Pending { pending, .. } => format!("pending {pending}"),
                Told::Recorded(through) => format!("recorded {through}"),
            };
            format!("{grew}{again}{told}")
        }
        Err(rejection) => {
            assert_eq!(*state, before, "a refusal leaves no trace");
            assert!(!rejection.to_string().is_empty());
            rejection.code().to_owned()
        }
    }
}

/// Runs a scenario of local commands, each with the moment and the line that must come of it.
pub fn check_lines(state: &mut State, lines: Vec<(i64, Command, &str)>) {
    for (number, (moment, command, expected)) in lines.into_iter().enumerate() {
        let proposal = Proposal::local("a test", at(moment), command);
        let outcome = outcome(state, &proposal);
        assert_eq!(outcome, expected, "line {number}: {:?}", proposal.command);
        check_kept(state);
    }
}

/// What is written down and read back is the same, hashes and all.
pub fn check_kept(state: &State) {
    let bytes = encode_snapshot(&state.snapshot()).unwrap();
    let restored = State::restore(decode_snapshot(&bytes).unwrap()).unwrap();
    assert_eq!(&restored, state);
    assert_eq!(restored.root(), state.root());
    assert_eq!(restored.view().root(), state.view().root());
}

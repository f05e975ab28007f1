//! The bytes of every command: what was written once is read for ever.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

#[path = "../common/mod.rs"]
mod common;
mod examples;

use common::fleet::*;
use common::{at, name, tenant};
use examples::{authority, examples, keeping};
use portcullis_policy::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `NAME.v1.bin` and `NAME.json`. With `BLESS` set, what is not there yet is written.
fn file(named: &str, written: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/commands");
    let path = directory.join(named);
    #[expect(clippy::disallowed_methods, reason = "a test that keeps its own files")]
    let bless = std::env::var("BLESS").is_ok();
    if bless && !path.exists() {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(&path, written()).unwrap();
    }
    std::fs::read(&path).unwrap()
}

#[test]
fn commands_written_in_format_1_are_read_as_they_were_meant_and_written_so_today() {
    for (named, command) in examples() {
        let json = file(&format!("{named}.json"), || {
            let mut text = serde_json::to_vec_pretty(&command).unwrap();
            text.push(b'\n');
            text
        });
        assert_eq!(
            serde_json::from_slice::<Command>(&json).unwrap(),
            command,
            "{named}"
        );
        let bytes = file(&format!("{named}.v1.bin"), || {
            encode_command(&command).unwrap()
        });
        assert_eq!(decode_command(&bytes), Ok(command.clone()), "{named}");
        assert_eq!(encode_command(&command).unwrap(), bytes, "{named}");
    }
}

#[test]
fn no_command_is_without_its_file() {
    let commands: BTreeSet<u8> = examples()
        .iter()
        .map(|(_, command)| encode_command(command).unwrap()[1])
        .collect();
    // Variants are numbered in their order; a new one needs an example above and a number here.
    assert_eq!(commands, (0..24).collect());
}

#[test]
fn later_formats_and_broken_bytes_are_told_apart_and_never_panic() {
    let malformed = |bytes: &[u8]| matches!(decode_command(bytes), Err(CodecError::Malformed(_)));
    assert!(malformed(&[]) && malformed(&[0, 0]) && malformed(&[1, 99]));
    for (named, command) in examples() {
        let bytes = encode_command(&command).unwrap();
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(decode_command(&newer), Err(CodecError::Newer(2)), "{named}");
        assert!(malformed(&[&bytes[..], &[0]].concat()), "{named}");
        for end in 0..bytes.len() {
            assert!(malformed(&bytes[..end]), "{named} cut at {end}");
        }
        for at in 1..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            if let Ok(command) = decode_command(&flipped) {
                let proposal = Proposal::local("a test", common::at(5), command);
                let _ = full().apply(&proposal);
            }
        }
    }
}

#[test]
fn proposals_are_written_and_read_back() {
    for (_, command) in examples() {
        for proposal in [
            Proposal::local("uid 0 (root)", at(7), command.clone()),
            numbered(3, by("alice", command, -1)),
        ] {
            let bytes = encode_proposal(&proposal).unwrap();
            assert_eq!(decode_proposal(&bytes), Ok(proposal));
        }
    }
}

/// A state with something of everything.
fn full() -> State {
    let two = GuardRails {
        anywhere: People::TwoPeople,
        operators: People::One,
        guard_rails: People::TwoPeople,
    };
    let mut state = State::default();
    let history = [
        found(two),
        invite(2, "n2", "c", 100),
        admit(2, "n2", "c", 12),
        invite(3, "n3", "g", 100),
        Command::Remove { node: node(3) },
        Command::Recover {
            epoch: 2,
            survivor: NodeId::FIRST,
            statement: vec![1, 2],
        },
        Command::Succession {
            statement: vec![3, 4],
        },
        Command::PutOperator {
            operator: name("alice"),
            roles: vec![Role::PolicyAuthor],
        },
        common::command(&[tenant("acme"), tenant("globex")], &[]),
        Command::SetGuardRails { guard_rails: ONE },
        Command::Stage {
            stage: request(4),
            index: 1,
            of: 2,
            bytes: vec![0, 255],
        },
    ];
    for (number, command) in history.into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let proposal = Proposal::local("a test", at(number.into()), command);
        state.apply(&numbered(number, proposal)).unwrap();
    }
    state
}

#[test]
fn snapshots_and_proposals_written_in_format_1_are_read_as_they_were_meant() {
    let snapshot = full().snapshot();
    let bytes = file("../snapshot.v1.bin", || encode_snapshot(&snapshot).unwrap());
    assert_eq!(decode_snapshot(&bytes), Ok(snapshot.clone()));
    assert_eq!(encode_snapshot(&snapshot).unwrap(), bytes);
    let (_, apply) = examples().swap_remove(0);
    let proposals = [
        (
            "local",
            Proposal::local("uid 0 (root)", at(1_800_000_000_000), apply.clone()),
        ),
        ("operator", numbered(3, by("alice", apply, -1))),
    ];
    for (named, proposal) in proposals {
        let named = format!("../proposal-{named}.v1.bin");
        let bytes = file(&named, || encode_proposal(&proposal).unwrap());
        assert_eq!(decode_proposal(&bytes), Ok(proposal.clone()), "{named}");
        assert_eq!(encode_proposal(&proposal).unwrap(), bytes, "{named}");
    }
}

/// The same with an operator's key.
fn with_key() -> State {
    let mut state = full();
    let bind = Command::BindOperator {
        operator: name("alice"),
        key: key(200),
    };
    state
        .apply(&numbered(99, Proposal::local("a test", at(99), bind)))
        .unwrap();
    state
}

#[test]
fn snapshots_written_in_format_2_are_read_as_they_were_meant() {
    let snapshot = with_key().snapshot();
    let bytes = file("../snapshot.v2.bin", || encode_snapshot(&snapshot).unwrap());
    assert_eq!(bytes[0], 2);
    assert_eq!(decode_snapshot(&bytes), Ok(snapshot.clone()));
    assert_eq!(encode_snapshot(&snapshot).unwrap(), bytes);
    for end in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(decode_snapshot(&[&bytes[..], &[0]].concat()).is_err());
    let state = with_key();
    let roots = format!("{}\n{}\n", state.view().root(), state.root());
    let kept = file("../roots.v2.txt", || roots.clone().into_bytes());
    assert_eq!(String::from_utf8(kept).unwrap(), roots);
    check_kept(&state);
}

/// The same with a record of a node.
fn with_records() -> State {
    let mut state = with_key();
    let nodes: Vec<Node> = state.fleet().unwrap().nodes.values().cloned().collect();
    for node in nodes {
        let report = Command::Report {
            node: node.id,
            level: AUDIT_LEVEL,
            address: node.address,
        };
        let report = Proposal::local("a test", at(100), report);
        state.apply(&report).unwrap();
    }
    state.apply(&record(1, 1, &["{}"], 101)).unwrap();
    state
}

#[test]
fn snapshots_written_in_format_3_are_read_as_they_were_meant() {
    let state = with_records();
    let snapshot = state.snapshot();
    let bytes = file("../snapshot.v3.bin", || encode_snapshot(&snapshot).unwrap());
    assert_eq!(bytes[0], 3);
    assert_eq!(decode_snapshot(&bytes), Ok(snapshot.clone()));
    assert_eq!(encode_snapshot(&snapshot).unwrap(), bytes);
    for end in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(decode_snapshot(&[&bytes[..], &[0]].concat()).is_err());
    let roots = format!("{}\n{}\n", state.view().root(), state.root());
    let kept = file("../roots.v3.txt", || roots.clone().into_bytes());
    assert_eq!(String::from_utf8(kept).unwrap(), roots);
    check_kept(&state);
    for wrong in [
        vec![(node(77), 1)],
        vec![(node(1), 0)],
        vec![(node(1), 1); 2],
    ] {
        let wrong = Snapshot {
            recorded: wrong,
            ..snapshot.clone()
        };
        assert!(State::restore(wrong).is_err());
    }
}

#[test]
fn snapshots_written_in_format_4_are_read_as_they_were_meant() {
    let mut snapshot = with_records().snapshot();
    snapshot.keeping = keeping();
    let state = State::restore(snapshot).unwrap();
    let snapshot = state.snapshot();
    let bytes = file("../snapshot.v4.bin", || encode_snapshot(&snapshot).unwrap());
    assert_eq!(bytes[0], 4);
    assert_eq!(decode_snapshot(&bytes), Ok(snapshot.clone()));
    assert_eq!(encode_snapshot(&snapshot).unwrap(), bytes);
    for end in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(decode_snapshot(&[&bytes[..], &[0]].concat()).is_err());
    let roots = format!("{}\n{}\n", state.view().root(), state.root());
    let kept = file("../roots.v4.txt", || roots.clone().into_bytes());
    assert_eq!(String::from_utf8(kept).unwrap(), roots);
    check_kept(&state);
    let mut wrong = snapshot;
    wrong.keeping.holds.push(keeping().holds[0].clone());
    assert!(State::restore(wrong).is_err());
}

/// The same with an authority in the middle of an exchange.
fn with_authorities() -> State {
    let mut state = with_records();
    let nodes: Vec<Node> = state.fleet().unwrap().nodes.values().cloned().collect();
    let reports = nodes.into_iter().map(|node| Command::Report {
        node: node.id,
        level: FEATURE_LEVEL,
        address: node.address,
    });
    let next = Successor {
        certificate: vec![2; 300],
        link: vec![3; 300],
    };
    let steps = [
        AuthorityStep::Known {
            certificate: vec![1; 300],
        },
        AuthorityStep::Rotate(next),
    ];
    let steps = steps.into_iter().map(authority);
    for (number, command) in (110..).zip(reports.chain(steps).collect::<Vec<_>>()) {
        let proposal = Proposal::local("a test", at(number), command);
        state.apply(&proposal).unwrap();
    }
    let fleet = state.fleet().unwrap();
    let successor = fleet
        .authority(AuthorityPurpose::Fleet)
        .unwrap()
        .successor();
    let confirm = authority(AuthorityStep::Confirm {
        node: NodeId::FIRST,
        successor: successor.unwrap(),
        phase: AuthorityPhase::Trusting,
        problem: Some("its vault is sealed".to_owned()),
    });
    state
        .apply(&Proposal::local("a test", at(120), confirm))
        .unwrap();
    state
}

#[test]
fn snapshots_written_in_format_5_are_read_as_they_were_meant() {
    let state = with_authorities();
    let snapshot = state.snapshot();
    let bytes = file("../snapshot.v5.bin", || encode_snapshot(&snapshot).unwrap());
    assert_eq!(bytes[0], 5);
    assert_eq!(decode_snapshot(&bytes), Ok(snapshot.clone()));
    assert_eq!(encode_snapshot(&snapshot).unwrap(), bytes);
    for end in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(decode_snapshot(&[&bytes[..], &[0]].concat()).is_err());
    let newer = [&[6], &bytes[1..]].concat();
    assert_eq!(decode_snapshot(&newer), Err(CodecError::Newer(6)));
    let roots = format!("{}\n{}\n", state.view().root(), state.root());
    let kept = file("../roots.v5.txt", || roots.clone().into_bytes());
    assert_eq!(String::from_utf8(kept).unwrap(), roots);
    check_kept(&state);
    let wrongs: [fn(&mut Snapshot); 3] = [
        |it| {
            it.authorities
                .get_mut(&AuthorityPurpose::Fleet)
                .unwrap()
                .next = None
        },
        |it| {
            it.authorities
                .get_mut(&AuthorityPurpose::Fleet)
                .unwrap()
                .certificate = Vec::new()
        },
        |it| it.fleet.as_mut().unwrap().nodes.clear(),
    ];
    for wrong in wrongs {
        let mut changed = snapshot.clone();
        wrong(&mut changed);
        assert!(State::restore(changed).is_err());
    }
}

#[test]
fn the_hash_of_a_state_is_what_it_was() {
    let state = full();
    let roots = format!("{}\n{}\n", state.view().root(), state.root());
    let kept = file("../roots.v1.txt", || roots.clone().into_bytes());
    // Nodes of two versions compare these: another hash needs another level.
    assert_eq!(String::from_utf8(kept).unwrap(), roots);
    check_kept(&state);
}

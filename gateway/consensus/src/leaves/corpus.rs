//! What commands leave in the audit logs, as it was when it was first written: a node that made other
//! bytes would have other logs than its fleet.

use crate::whole::Whole;
use portcullis_audit::personal::Salt;
use portcullis_policy::{
    Author, AuthorityStep, Command, Digest, Entry, GuardRails, KeyHash, NodeId, NodeRole, People,
    Principal, Proposal, RequestId, Timestamp, Told, decode_command,
};
use std::path::{Path, PathBuf};

#[test]
fn what_commands_leave_is_what_they_always_left() {
    let mut all = Vec::new();
    let mut history = History::default();
    for (name, leaves) in history.play() {
        all.extend(leaves.into_iter().map(|leaf| format!("{name}\t{leaf}\n")));
    }
    let path = folder("consensus/testdata/leaves").join("v1.txt");
    let bytes = all.concat();
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    for (line, (before, now)) in written.lines().zip(bytes.lines()).enumerate() {
        assert_eq!(before, now, "line {}", line + 1);
    }
    assert_eq!(written, bytes);
    // What nodes compare is made of it, too.
    assert_eq!(hex(&history.whole.logs.chain()), CHAIN);
}

const SALT: Salt = Salt([9; 16]);

const CHAIN: &str = "66738544c4c47d1d5ca62ab264a7bc661fc69052d7fe32a85fb4d3e732cc4eff";

#[derive(Default)]
struct History {
    whole: Whole,
    position: u64,
    played: Vec<(&'static str, Vec<String>)>,
}

impl History {
    /// Every command that leaves something.
    fn play(&mut self) -> Vec<(&'static str, Vec<String>)> {
        let me = Principal::Node(NodeId::FIRST);
        self.local("apply", kept("apply"));
        self.local("found", kept("found"));
        self.by(
            "report",
            me.clone(),
            Command::Report {
                node: NodeId::FIRST,
                level: 3,
                address: Some("n1.example.net:7401".to_owned()),
            },
        );
        self.local("invite", kept("invite"));
        let mut admit = kept("admit");
        if let Command::Admit { roles, .. } = &mut admit {
            roles.insert(NodeRole::Control);
        }
        let told = self.by("admit", me.clone(), admit);
        let Told::Admitted(second) = told else {
            panic!("{told:?}");
        };
        self.local("put-operator", kept("put-operator"));
        self.local("bind-operator", kept("bind-operator"));
        self.local("withdraw-invited", {
            let mut invite = kept("invite");
            if let Command::Invite { name, token, .. } = &mut invite {
                (*name, *token) = ("n3".parse().unwrap(), KeyHash::new([3; 32]));
            }
            invite
        });
        let token = KeyHash::new([3; 32]);
        self.local("withdraw", Command::Withdraw { token });
        // For everyone: two people.
        let mut open = kept("apply");
        let Command::Apply { put, .. } = &mut open else {
            panic!("an apply");
        };
        put.truncate(1);
        let endpoint = put[0].endpoints.values_mut().next().unwrap();
        let everyone: Entry = endpoint.allow[1].clone();
        endpoint.allow = vec![endpoint.allow[0].clone()];
        let closed = open.clone();
        self.local("shut", closed);
        let Command::Apply { put, .. } = &mut open else {
            panic!("an apply");
        };
        let endpoint = put[0].endpoints.values_mut().next().unwrap();
        endpoint.allow.push(everyone);
        for decision in ["approve", "reject"] {
            let told = self.local("waiting", open.clone());
            let Told::Pending {
                pending, digest, ..
            } = told
            else {
                panic!("{told:?}");
            };
            let command = match decision {
                "approve" => Command::Approve { pending, digest },
                _ => Command::Reject { pending },
            };
            let alice = Principal::Operator("alice".parse().unwrap());
            self.by(decision, alice, command);
            if decision == "approve" {
                let mut shut = open.clone();
                if let Command::Apply { put, .. } = &mut shut {
                    put[0].endpoints.values_mut().next().unwrap().allow.pop();
                }
                self.local("shut-again", shut);
            }
        }
        let mut large = open.clone();
        if let Command::Apply { put, .. } = &mut large {
            let allow = &mut put[0].endpoints.values_mut().next().unwrap().allow;
            allow.pop();
            let pattern = allow[0].clone();
            for number in 0..120 {
                let mut entry = pattern.clone();
                entry.addresses = format!("198.51.{number}.0/24").parse().unwrap();
                entry.note = format!("\u{1f6aa} number \"{number}\"").parse().unwrap();
                allow.push(entry);
            }
        }
        self.local("large", large);
        self.local(
            "set-guard-rails",
            Command::SetGuardRails {
                guard_rails: GuardRails {
                    operators: People::TwoPeople,
                    ..GuardRails::NONE
                },
            },
        );
        self.local("remove", Command::Remove { node: second });
        self.local("remove-operator", kept("remove-operator"));
        self.local(
            "remove-tenant",
            Command::Apply {
                base: None,
                expected: std::collections::BTreeMap::new(),
                put: vec![],
                remove: vec!["acme".parse().unwrap()],
            },
        );
        self.by("seal", me.clone(), Command::Seal);
        self.local("set-keeping", kept("set-keeping"));
        self.by(
            "report-level-4",
            me.clone(),
            Command::Report {
                node: NodeId::FIRST,
                level: 4,
                address: Some("n1.example.net:7401".to_owned()),
            },
        );
        for name in ["authority-known", "authority-rotate", "authority-return"] {
            let mut command = kept(name);
            if let Command::Authority {
                step: AuthorityStep::Return { successor },
                ..
            } = &mut command
            {
                let next = kept("authority-rotate");
                let Command::Authority {
                    step: AuthorityStep::Rotate(next),
                    ..
                } = next
                else {
                    panic!("{next:?}");
                };
                *successor =
                    Digest::new(<sha2::Sha256 as sha2::Digest>::digest(next.certificate).into());
            }
            let by = match name {
                "authority-return" => Principal::Local,
                _ => me.clone(),
            };
            self.by(name, by, command);
        }
        std::mem::take(&mut self.played)
    }

    fn local(&mut self, name: &'static str, command: Command) -> Told {
        self.by(name, Principal::Local, command)
    }

    fn by(&mut self, name: &'static str, principal: Principal, command: Command) -> Told {
        self.position += 1;
        let proposal = Proposal {
            request: Some(RequestId::new([u8::try_from(self.position).unwrap(); 16])),
            at: Timestamp::from_millis(1_799_999_000_000 + i64::try_from(self.position).unwrap()),
            author: Author {
                name: "somebody".to_owned(),
                principal,
            },
            command,
        };
        let outcome = self.whole.apply(&proposal, Some(&SALT), self.position);
        let again = self
            .whole
            .clone()
            .apply(&proposal, Some(&SALT), self.position + 1);
        assert!(again.leaves.is_empty(), "{name}, repeated");
        let lines = outcome.leaves.iter().map(|leaf| {
            let line = String::from_utf8(leaf.bytes.clone()).unwrap();
            assert!(portcullis_audit::Event::parse(&line).is_ok(), "{line}");
            let event = portcullis_audit::Event::parse(&line).unwrap();
            assert!(leaf.openings.iter().all(|it| it.opens(&event)), "{line}");
            let by_node = matches!(proposal.author.principal, Principal::Node(_));
            assert!(by_node || !line.contains("somebody"), "{line}");
            let openings = leaf.openings.iter().map(|it| format!(" {}", it.line()));
            let openings: String = openings.collect();
            format!("{:?} {} {line}{openings}", leaf.log, leaf.index)
        });
        let lines: Vec<String> = lines.collect();
        assert!(!lines.is_empty(), "{name}: {:?}", outcome.answer);
        self.played.push((name, lines));
        outcome.answer.unwrap().told
    }
}

fn kept(name: &str) -> Command {
    let path = folder("../policy/testdata/commands").join(format!("{name}.v1.bin"));
    let mut command = decode_command(&std::fs::read(path).unwrap()).unwrap();
    if let Command::Apply {
        base,
        expected,
        remove,
        ..
    } = &mut command
    {
        (*base, *remove) = (None, Vec::new());
        expected.clear();
    }
    if let Command::SetKeeping { replaces, .. } = &mut command {
        *replaces = None;
    }
    command
}

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

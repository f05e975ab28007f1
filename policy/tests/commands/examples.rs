//! One command of each kind, and more of those that have kinds themselves.

use super::common::fleet::*;
use super::common::{at, endpoint, entry, name, tenant};
use portcullis_policy::*;
use std::collections::{BTreeMap, BTreeSet};

/// One of each, by the name of its file.
pub(crate) fn examples() -> Vec<(&'static str, Command)> {
    let mut acme = tenant("acme");
    let allow = vec![
        entry("203.0.113.0/24", "public"),
        entry("anywhere", "public"),
    ];
    acme.endpoints
        .insert(name("orders"), endpoint("acme-orders", &["public"], allow));
    let mut minding = acme.clone();
    minding.limits.connections = Some(300);
    minding.limits.on_stale = OnStale::RefuseAfter(600);
    let two = GuardRails {
        anywhere: People::TwoPeople,
        operators: People::One,
        guard_rails: People::TwoPeople,
    };
    vec![
        (
            "apply",
            Command::Apply {
                base: Some(Revision::new(7)),
                expected: BTreeMap::from([
                    (name("acme"), Some(Revision::new(300))),
                    (name("globex"), None),
                ]),
                put: vec![acme],
                remove: vec![name("initech")],
            },
        ),
        (
            "apply-on-stale",
            Command::Apply {
                base: None,
                expected: BTreeMap::new(),
                put: vec![minding],
                remove: vec![],
            },
        ),
        ("found", found(two)),
        ("invite", invite(2, "n2", "cg", 1_800_000_000_000)),
        ("withdraw", Command::Withdraw { token: key(2) }),
        ("admit", admit(2, "n2", "g", 12)),
        ("remove", Command::Remove { node: node(300) }),
        (
            "report",
            Command::Report {
                node: node(3),
                level: 1,
                address: Some(String::from("[2001:db8::1]:7400")),
            },
        ),
        (
            "stage",
            Command::Stage {
                stage: request(4),
                index: 1,
                of: 2,
                bytes: vec![0, 127, 128, 255],
            },
        ),
        (
            "commit",
            Command::Commit {
                stage: request(4),
                digest: Digest::new([5; 32]),
            },
        ),
        ("discard", Command::Discard { stage: request(4) }),
        (
            "recover",
            Command::Recover {
                epoch: 2,
                survivor: node(3),
                statement: vec![1, 2, 255],
            },
        ),
        (
            "succession",
            Command::Succession {
                statement: vec![3, 2, 200],
            },
        ),
        (
            "put-operator",
            Command::PutOperator {
                operator: name("alice"),
                roles: vec![
                    Role::FleetOperator,
                    Role::PolicyAuthor,
                    Role::TenantOperator(BTreeSet::from([name("acme"), name("globex")])),
                    Role::Auditor,
                    Role::Reader,
                ],
            },
        ),
        (
            "remove-operator",
            Command::RemoveOperator {
                operator: name("alice"),
            },
        ),
        (
            "approve",
            Command::Approve {
                pending: PendingId::new(300),
                digest: Digest::new([6; 32]),
            },
        ),
        (
            "reject",
            Command::Reject {
                pending: PendingId::new(300),
            },
        ),
        (
            "set-guard-rails",
            Command::SetGuardRails { guard_rails: two },
        ),
        (
            "bind-operator",
            Command::BindOperator {
                operator: name("alice"),
                key: key(200),
            },
        ),
        ("seal", Command::Seal),
        (
            "record",
            Command::Record {
                sequence: 300,
                events: vec![b"{}".to_vec(), vec![0, 127, 128, 255]],
            },
        ),
        (
            "set-keeping",
            Command::SetKeeping {
                keeping: keeping(),
                replaces: Some(Digest::new([7; 32])),
            },
        ),
        (
            "authority-known",
            authority(AuthorityStep::Known {
                certificate: vec![0, 127, 128, 255],
            }),
        ),
        (
            "authority-rotate",
            authority(AuthorityStep::Rotate(Successor {
                certificate: vec![1, 200],
                link: vec![2, 200],
            })),
        ),
        (
            "authority-confirm",
            authority(AuthorityStep::Confirm {
                node: node(300),
                successor: Digest::new([8; 32]),
                phase: AuthorityPhase::Trusting,
                problem: Some("its vault is sealed".to_owned()),
            }),
        ),
        (
            "authority-advance",
            authority(AuthorityStep::Advance {
                successor: Digest::new([8; 32]),
                from: AuthorityPhase::Issuing,
            }),
        ),
        (
            "authority-return",
            authority(AuthorityStep::Return {
                successor: Digest::new([8; 32]),
            }),
        ),
        (
            "revoke",
            Command::Revoke {
                tenant: name("acme"),
                serial: name("1f0a33"),
                reason: String::from("stolen laptop"),
                until: Some(at(1_000)),
            },
        ),
        (
            "unrevoke",
            Command::Unrevoke {
                tenant: name("acme"),
                serial: name("1f0a33"),
            },
        ),
    ]
}

pub(crate) fn keeping() -> Keeping {
    Keeping {
        entries: Some(34_560_000),
        personal: Some(7_776_000),
        holds: vec![
            Hold {
                name: name("lawsuit"),
                tenant: Some(name("acme")),
                reason: "a court asked for it".to_owned(),
            },
            Hold {
                name: name("all"),
                tenant: None,
                reason: "\u{1f6aa}".to_owned(),
            },
        ],
    }
}

pub(crate) fn authority(step: AuthorityStep) -> Command {
    Command::Authority {
        purpose: AuthorityPurpose::Fleet,
        step,
    }
}

//! Which events an auditor asks for together: each population is a query that anybody can repeat over the entries.

use portcullis_audit::{Event, kinds};
use serde_json::{Value, json};

/// Events that are asked for together.
#[derive(Debug)]
pub(super) struct Population {
    /// As its files are called.
    pub(super) name: &'static str,
    /// As people call it.
    pub(super) title: &'static str,
    /// What of the events it takes.
    kinds: &'static [&'static str],
    /// Of those, only these.
    only: Only,
    /// Whether each entry comes with its proof.
    pub(super) proved: bool,
    /// What must be known of it.
    note: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    All,
    /// Changes of policy that altered who can reach an endpoint, or were too large to say.
    ReachChanged,
}

const NONE_YET: &str = "This version of the gateway makes no such events: the count is 0, and no proof that nothing happened elsewhere.";

const fn of(name: &'static str, title: &'static str, kinds: &'static [&'static str]) -> Population {
    Population {
        name,
        title,
        kinds,
        only: Only::All,
        proved: false,
        note: "",
    }
}

/// All but [`OTHER`], in the order in which they are listed.
pub(super) const ALL: [Population; 17] = [
    Population {
        note: NONE_YET,
        ..of("grants", "Access that staff was granted", &[])
    },
    Population {
        note: NONE_YET,
        ..of("staff-sessions", "Sessions of staff", &[])
    },
    Population {
        proved: true,
        ..of(
            "reviews",
            "Changes that waited for a second person, and what became of them",
            &[
                kinds::CHANGE_APPROVED,
                kinds::CHANGE_REJECTED,
                kinds::CHANGE_WAITING,
            ],
        )
    },
    Population {
        proved: true,
        ..of(
            "policy-changes",
            "Changes of policy, and what was refused",
            &[
                kinds::POLICY_APPLIED,
                kinds::POLICY_REJECTED,
                kinds::POLICY_UNCONFIRMED,
            ],
        )
    },
    Population {
        only: Only::ReachChanged,
        note: "Those of the policy changes that opened, shut or retimed a door to an endpoint, in the log of its tenant.",
        ..of(
            "allow-list-changes",
            "Changes of who can reach an endpoint",
            &[kinds::POLICY_APPLIED],
        )
    },
    Population {
        proved: true,
        ..of(
            "operators",
            "Operators, their roles and keys, and what needs two people",
            &[
                kinds::GUARD_RAILS_SET,
                kinds::OPERATOR_ADDED,
                kinds::OPERATOR_BOUND,
                kinds::OPERATOR_REMOVED,
            ],
        )
    },
    Population {
        proved: true,
        ..of(
            "retention",
            "For how long evidence is kept, what is held, and what was let go of",
            &[
                kinds::KEEPING_SET,
                kinds::LOG_PRUNED,
                kinds::OPENINGS_ERASED,
            ],
        )
    },
    Population {
        proved: true,
        ..of(
            "fleet-membership",
            "Nodes that were invited, admitted and removed",
            &[
                kinds::FLEET_ADMITTED,
                kinds::FLEET_FOUNDED,
                kinds::FLEET_INVITED,
                kinds::FLEET_REMOVED,
                kinds::FLEET_REPORTED,
                kinds::FLEET_UNINVITED,
            ],
        )
    },
    Population {
        note: "Attempts of customers' clients are counted by batches, whose lines are with the node that saw them; an entry has their root.",
        ..of(
            "denied-attempts",
            "What was refused",
            &[
                kinds::ADMIN_REFUSED,
                kinds::AUTHENTICATION_FAILED,
                kinds::CANCEL_DENIED,
                kinds::CONNECTION_DENIED,
                kinds::FLEET_DENIED,
                kinds::LIMIT_SHED,
                kinds::PROTOCOL_VIOLATION,
            ],
        )
    },
    Population {
        note: "As for denied attempts: counted by batches.",
        ..of(
            "connections",
            "Connections of customers' clients",
            &[
                kinds::BACKEND_ENDED,
                kinds::CANCEL_FORWARDED,
                kinds::CONNECTION_CLOSED,
                kinds::CONNECTION_LAPSED,
                kinds::CONNECTION_PERMITTED,
            ],
        )
    },
    Population {
        proved: true,
        note: "Uses of the recovery key, which needs no majority. Break-glass access of staff does not exist in this version.",
        ..of("break-glass", "Break-glass uses", &[kinds::FLEET_EPOCH])
    },
    of(
        "evidence-reads",
        "Who read evidence",
        &[kinds::EVIDENCE_READ],
    ),
    of(
        "certificates",
        "Certificates that were issued, shown, missed, refused and revoked, and exchanges of authorities",
        &[
            kinds::AUTHORITY_CHANGED,
            kinds::CERTIFICATE_ISSUED,
            kinds::CERTIFICATE_OVERDUE,
            kinds::CERTIFICATE_REFUSED,
            kinds::CERTIFICATE_RENEWED,
            kinds::CERTIFICATE_RESTORED,
            kinds::CERTIFICATE_REVOKED,
        ],
    ),
    Population {
        note: "What the logs themselves say is missing from them.",
        ..of(
            "gaps",
            "Gaps in the evidence",
            &[kinds::LEDGER_TORN, kinds::LOG_GAP],
        )
    },
    of(
        "differences",
        "Nodes that differed, were overtaken, or had a wrong clock; copies and witnesses that have another log",
        &[
            kinds::FLEET_DIVERGED,
            kinds::FLEET_OVERTAKEN,
            kinds::FLEET_REINSTALLED,
            kinds::INDEX_CONTRADICTED,
            kinds::LOG_CONTRADICTED,
            kinds::OBJECTS_CONTRADICTED,
            kinds::TIME_SKEW,
        ],
    ),
    of(
        "operation",
        "Nodes that started, stopped and slept; databases that failed",
        &[
            kinds::NODE_STARTED,
            kinds::NODE_STOPPED,
            kinds::NODE_WOKE,
            kinds::UPSTREAM_FAILED,
        ],
    ),
    of(
        "log-heads",
        "Heads of tenants' logs, and parts of large documents",
        &[kinds::LOG_HEAD, kinds::POLICY_DOCUMENT],
    ),
];

/// What no other takes.
pub(super) const OTHER: Population = Population {
    note: "What no other takes; also an entry of a batch that counts nothing of what the others take.",
    ..of("other", "Everything else", &[])
};

impl Population {
    /// How often it takes this event: 0, 1, or as many events as a batch counts of its kinds.
    pub(super) fn takes(&self, event: &Event) -> u64 {
        if self.name == OTHER.name {
            return u64::from(ALL.iter().all(|it| it.takes(event) == 0));
        }
        let kind = event.kind.as_ref();
        if kind == kinds::CONNECTIONS_BATCH {
            let counts = event.field("kinds").and_then(Value::as_object);
            let of = |kind: &&str| counts.and_then(|all| all.get(*kind)?.as_u64());
            return self
                .batched()
                .iter()
                .filter_map(of)
                .fold(0, u64::saturating_add);
        }
        let wanted = self.kinds.contains(&kind);
        u64::from(wanted && (self.only == Only::All || reach_changed(event)))
    }

    /// Of `connections.batch` it takes those that count one of these kinds: of any kind there may be more than a record holds one by one.
    fn batched(&self) -> &'static [&'static str] {
        match self.only {
            Only::All => self.kinds,
            Only::ReachChanged => &[],
        }
    }

    /// What of the entries it takes, so that anybody can repeat it.
    pub(super) fn query(&self) -> Value {
        let named: Vec<&str> = ALL.iter().flat_map(|it| it.kinds).copied().collect();
        let other = self.name == OTHER.name;
        json!({
            "kinds": self.kinds,
            "not_kinds": if other { named } else { Vec::new() },
            "only": self.only.name(),
            "batches_that_count": self.batched(),
        })
    }

    /// Its name, title and note.
    pub(super) fn about(&self) -> [(&'static str, &'static str); 3] {
        [
            ("population", self.name),
            ("title", self.title),
            ("note", self.note),
        ]
    }
}

impl Only {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::ReachChanged => "reach-changed",
        }
    }
}

fn reach_changed(event: &Event) -> bool {
    let Some(Value::Array(endpoints)) = event.field("endpoints") else {
        // Too large to say; the fleet's own entry about the same change says nothing of endpoints.
        return event.field("endpoints").is_some_and(Value::is_object);
    };
    endpoints.iter().any(|endpoint| {
        let some = |name: &str| {
            let doors = endpoint.get(name).and_then(Value::as_object);
            doors.is_some_and(|doors| !doors.is_empty())
        };
        ["opened", "shut", "retimed"].into_iter().any(some)
    })
}

#[cfg(test)]
mod tests {
    use portcullis_audit::kinds;
    use serde_json::{Map, json};

    use super::super::{VERIFY, all};
    use super::*;

    #[test]
    fn the_program_that_checks_has_the_same_populations() {
        let (_, table) = VERIFY.split_once("\nPOPULATIONS = ").unwrap();
        let (table, _) = table.split_once("\n}\n").unwrap();
        let names: Vec<&str> = table
            .lines()
            .filter_map(|it| it.split('"').nth(1))
            .collect();
        let table: Map<String, Value> = serde_json::from_str(&format!("{table}}}")).unwrap();
        for population in all() {
            let wanted = json!({
                "title": population.title,
                "note": population.note,
                "kinds": population.kinds,
                "only": population.only.name(),
            });
            assert_eq!(table.get(population.name), Some(&wanted));
        }
        // In this order, too: it is that of the kinds in the query of what is left.
        assert_eq!(names, all().map(|it| it.name).collect::<Vec<_>>());
    }

    #[test]
    fn each_event_is_in_a_population() {
        let counted =
            |kinds: Value| Event::new(0, kinds::CONNECTIONS_BATCH, "n1").with("kinds", kinds);
        let batches = [
            json!({}),
            json!({"node.slept": 3}),
            json!({"connection.denied": 2}),
        ];
        let events = kinds::ALL.iter().map(|kind| Event::new(0, kind, "n1"));
        for event in events.chain(batches.map(counted)) {
            assert!(all().any(|it| it.takes(&event) > 0), "{event:?}");
        }
    }
}

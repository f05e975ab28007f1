//! An oracle that knows nothing of segments, sets or views: it walks the documents as a patient person would, bit by bit,
//! and must agree with `decide` on every attempt at every random policy.
#![expect(clippy::panic, reason = "in a test, a panic is how a helper fails")]

mod common;

use common::random::{attempts, cases, moments, tenants};
use common::{Proposed, at, name, state};
use portcullis_policy::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::net::IpAddr;

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn decide_agrees_with_the_oracle(tenants in tenants(), probes in attempts(), moment in moments()) {
        let view = with_revoked(&tenants).view();
        for probe in &probes {
            let attempt = probe.attempt();
            let expected = oracle(&tenants, &attempt, moment);
            let told = explain(&view, &attempt, moment);
            let silent = decide(&view, &attempt, moment, &mut Silent);
            for decision in [&silent, &told.decision] {
                prop_assert_eq!(&in_oracles_words(decision), &expected, "{}", told);
            }
        }
    }
}

#[test]
fn the_random_attempts_meet_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeMap::new();
    for _ in 0..400 {
        let drawn = (tenants(), attempts(), moments()).new_tree(&mut runner);
        let (tenants, probes, moment) = drawn.expect("policies can be drawn").current();
        for probe in &probes {
            let outcome = match oracle(&tenants, &probe.attempt(), moment) {
                Said::Yes { .. } => "permitted",
                Said::No(code) => code,
            };
            *met.entry(outcome).or_insert(0) += 1;
        }
    }
    for outcome in DenialCode::ALL
        .iter()
        .map(|code| code.as_str())
        .chain(["permitted"])
    {
        assert!(
            met.get(outcome).is_some_and(|times| *times >= 20),
            "{outcome}: {met:?}"
        );
    }
}

/// Whose certificate is revoked, and its serial number.
const REVOKED: [(&str, &str); 2] = [("acme", "1f"), ("globex", "20")];

fn with_revoked(tenants: &[Tenant]) -> State {
    let mut state = state(tenants);
    for (tenant, serial) in REVOKED {
        let revoke = Command::Revoke {
            tenant: name(tenant),
            serial: name(serial),
            reason: String::from("lost"),
            until: None,
        };
        let revoked = state.propose(&revoke, at(0));
        revoked.unwrap_or_else(|rejection| panic!("{rejection}"));
    }
    state
}

/// What the oracle says: who and until when, or the denial's code.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Yes {
        endpoint: String,
        entry: usize,
        until: Option<Timestamp>,
    },
    No(&'static str),
}

fn in_oracles_words(decision: &Decision) -> Said {
    match decision {
        Decision::Permitted(permit) => Said::Yes {
            endpoint: format!("{}/{}", permit.tenant(), permit.endpoint_id()),
            entry: permit.entry().index,
            until: permit.expires(),
        },
        Decision::Denied(denial) => Said::No(denial.code()),
    }
}

fn oracle(tenants: &[Tenant], attempt: &Attempt<'_>, moment: Timestamp) -> Said {
    for tenant in tenants {
        for (id, endpoint) in &tenant.endpoints {
            let asked_for = |name: &ServerName| {
                attempt.server_name.map(ServerName::as_str) == Some(name.as_str())
            };
            if endpoint.names.iter().any(asked_for) {
                let endpoint_name = format!("{}/{}", tenant.id, id);
                return oracle_at(tenant, endpoint, endpoint_name, attempt, moment);
            }
        }
    }
    Said::No("unknown_endpoint")
}

fn oracle_at(
    tenant: &Tenant,
    endpoint: &Endpoint,
    endpoint_name: String,
    attempt: &Attempt<'_>,
    moment: Timestamp,
) -> Said {
    if tenant.suspended {
        return Said::No("tenant_suspended");
    }
    if endpoint.suspended {
        return Said::No("endpoint_suspended");
    }
    let door = attempt.origin.to_string();
    if !endpoint.doors.iter().any(|other| other.to_string() == door) {
        return Said::No(match attempt.origin {
            Origin::Public => "public_blocked",
            Origin::Network(_) => "network_mismatch",
            Origin::PrivateLink(_) => "private_link_mismatch",
        });
    }
    let mut any_for_door = false;
    let mut best: Option<(usize, Option<i64>)> = None;
    for (index, entry) in endpoint.allow.iter().enumerate() {
        if entry.origin.to_string() != door {
            continue;
        }
        any_for_door = true;
        if !covers(entry, attempt.address) {
            continue;
        }
        let until = entry.expires.map(Timestamp::as_millis);
        let is_better = match best {
            None => true,
            Some((_, None)) => false,
            Some((_, Some(best))) => until.is_none_or(|until| until > best),
        };
        if is_better {
            best = Some((index, until));
        }
    }
    match best {
        None if any_for_door => Said::No("address_not_listed"),
        None => Said::No("empty_list"),
        Some((_, Some(until))) if until <= moment.as_millis() => Said::No("entry_expired"),
        Some(_) if attempt.replication && endpoint.replication == Replication::Refused => {
            Said::No("replication_refused")
        }
        Some(_) if is_revoked(tenant, attempt.certificate) => Said::No("certificate_revoked"),
        Some(_) if is_too_old(tenant.limits.on_stale, attempt.unconfirmed) => {
            Said::No("policy_stale")
        }
        Some((entry, until)) => Said::Yes {
            endpoint: endpoint_name,
            entry,
            until: until.map(Timestamp::from_millis),
        },
    }
}

fn is_revoked(tenant: &Tenant, certificate: Option<&Serial>) -> bool {
    certificate.is_some_and(|serial| {
        let shown = serial.to_string();
        REVOKED.contains(&(tenant.id.as_str(), shown.as_str()))
    })
}

fn is_too_old(on_stale: OnStale, unconfirmed: u64) -> bool {
    match on_stale {
        OnStale::Serve => false,
        OnStale::RefuseAfter(seconds) => u64::from(seconds) <= unconfirmed,
    }
}

fn covers(entry: &Entry, address: Address) -> bool {
    let listed = match &entry.addresses {
        Addresses::Anywhere => true,
        Addresses::Prefix(prefix) => starts_with(address, &prefix.to_string()),
    };
    listed
        && !entry
            .except
            .iter()
            .any(|except| starts_with(address, &except.to_string()))
}

/// Compares the leading bits, one at a time, of the address and of the prefix as text.
fn starts_with(address: Address, prefix: &str) -> bool {
    let Some((first, length)) = prefix.split_once('/') else {
        panic!("{prefix} has no length");
    };
    let (Ok(first), Ok(length)) = (first.parse::<IpAddr>(), length.parse::<usize>()) else {
        panic!("{prefix} is no prefix");
    };
    let (address, first) = (bits(address.ip()), bits(first));
    address.len() == first.len() && address.iter().zip(&first).take(length).all(|(a, b)| a == b)
}

fn bits(ip: IpAddr) -> Vec<bool> {
    let bytes = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let of_byte = |byte: u8| (0..8).rev().map(move |bit| byte >> bit & 1 == 1);
    bytes.into_iter().flat_map(of_byte).collect()
}

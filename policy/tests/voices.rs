//! What people are told: clients next to nothing, operators everything, reviewers what is odd.
#![expect(clippy::panic, reason = "in a test, a panic is how a helper fails")]

mod common;

use common::{
    EntryWords, Proposed, at, attempt, endpoint, entry, name, server_name, state, tenant,
};
use portcullis_policy::*;
use std::collections::BTreeSet;

fn view() -> View {
    let mut acme = tenant("acme");
    let allow = vec![
        entry("203.0.113.0/24", "public"),
        entry("198.51.100.0/24", "public")
            .except(&["198.51.100.9"])
            .until(5),
    ];
    acme.endpoints.insert(
        name("orders"),
        endpoint("acme-orders", &["public", "network:acme-vpc"], allow),
    );
    acme.endpoints
        .insert(name("private"), endpoint("acme-private", &[], vec![]));
    acme.endpoints.insert(
        name("closed"),
        Endpoint {
            suspended: true,
            ..endpoint("acme-closed", &[], vec![])
        },
    );
    let mut globex = tenant("globex");
    globex.suspended = true;
    globex
        .endpoints
        .insert(name("orders"), endpoint("globex-orders", &[], vec![]));
    state(&[acme, globex]).view()
}

/// One attempt for each code but those of a revoked certificate and of a policy that is too old: origin, address, name, whether replication.
const ATTEMPTS: [(&str, &str, &str, Option<&str>, bool); 11] = [
    (
        "unknown_endpoint",
        "public",
        "203.0.113.7",
        Some("acme-order"),
        false,
    ),
    ("unknown_endpoint", "public", "203.0.113.7", None, false),
    (
        "tenant_suspended",
        "public",
        "203.0.113.7",
        Some("globex-orders"),
        false,
    ),
    (
        "endpoint_suspended",
        "public",
        "203.0.113.7",
        Some("acme-closed"),
        false,
    ),
    (
        "public_blocked",
        "public",
        "203.0.113.7",
        Some("acme-private"),
        false,
    ),
    (
        "network_mismatch",
        "network:globex-vpc",
        "203.0.113.7",
        Some("acme-orders"),
        false,
    ),
    (
        "private_link_mismatch",
        "private-link:aws:vpce-acme",
        "10.0.0.5",
        Some("acme-orders"),
        false,
    ),
    (
        "empty_list",
        "network:acme-vpc",
        "10.0.0.5",
        Some("acme-orders"),
        false,
    ),
    (
        "address_not_listed",
        "public",
        "192.0.2.7",
        Some("acme-orders"),
        false,
    ),
    (
        "entry_expired",
        "public",
        "198.51.100.7",
        Some("acme-orders"),
        false,
    ),
    (
        "replication_refused",
        "public",
        "203.0.113.7",
        Some("acme-orders"),
        true,
    ),
];

/// Every denial with what the operator is told of it.
fn denials() -> Vec<(Denial, String)> {
    let view = view();
    let deny =
        |(code, origin, address, server, replication): &(&str, &str, &str, Option<&str>, bool)| {
            let (origin, server) = (name(origin), server.map(server_name));
            let attempt = Attempt {
                replication: *replication,
                ..attempt(&origin, address, server.as_ref())
            };
            match decide(&view, &attempt, at(5), &mut Silent) {
                Decision::Permitted(permit) => panic!("{permit:?}"),
                Decision::Denied(denial) => {
                    assert_eq!(denial.code(), *code);
                    let told = denial.for_operator(&attempt);
                    (denial, told)
                }
            }
        };
    ATTEMPTS.iter().map(deny).collect()
}

#[test]
fn clients_cannot_tell_one_denial_from_another() {
    let reference = Reference::from_bits(0x0123_4567_89ab_cdef);
    let texts: BTreeSet<String> = denials()
        .iter()
        .map(|(denial, _)| denial.for_client(&reference))
        .collect();
    let codes: BTreeSet<_> = denials()
        .iter()
        .map(|(denial, _)| denial.reason())
        .collect();
    assert_eq!(
        codes.len() + 2,
        DenialCode::ALL.len(),
        "every code is among them but the two below"
    );
    assert_eq!(texts.len(), 1, "{texts:?}");
    let text = texts.first().unwrap();
    assert_eq!(
        text,
        &format!("connection not permitted (reference {reference})")
    );
    assert!(CLIENT_HINT.contains("`portcullis why REFERENCE`"));
}

#[test]
fn the_operator_alone_is_told_which_certificate_is_revoked() {
    let mut acme = tenant("acme");
    let allow = vec![entry("203.0.113.0/24", "public")];
    acme.endpoints
        .insert(name("orders"), endpoint("acme-orders", &["public"], allow));
    let mut state = state(&[acme]);
    let revoke = Command::Revoke {
        tenant: name("acme"),
        serial: name("1f0a"),
        reason: String::from("lost"),
        until: None,
    };
    state.propose(&revoke, at(1)).unwrap();
    let (target, serial) = (server_name("acme-orders"), name::<Serial>("1f0a"));
    let attempt = Attempt {
        certificate: Some(&serial),
        ..attempt(&Origin::Public, "203.0.113.7", Some(&target))
    };
    let told = explain(&state.view(), &attempt, at(1));
    assert!(
        told.to_string().contains("certificate 1f0a is revoked"),
        "{told}"
    );
    let Decision::Denied(denial) = told.decision else {
        panic!("permitted");
    };
    let whole = denial.for_operator(&attempt);
    assert!(
        whole.contains("the client's certificate 1f0a is revoked"),
        "{whole}"
    );
    let said = denial.for_client(&Reference::from_bits(0));
    assert!(
        !said.contains("1f0a") && !said.contains("revoked"),
        "{said}"
    );
}

#[test]
fn only_whom_the_policy_lets_in_is_told_that_it_is_too_old() {
    let mut acme = tenant("acme");
    acme.limits.on_stale = OnStale::REFUSE;
    let allow = vec![entry("203.0.113.0/24", "public")];
    acme.endpoints
        .insert(name("orders"), endpoint("acme-orders", &["public"], allow));
    let view = state(&[acme]).view();
    let target = server_name("acme-orders");
    let decided = |address: &str, unconfirmed| {
        let attempt = Attempt {
            unconfirmed,
            ..attempt(&Origin::Public, address, Some(&target))
        };
        let told = explain(&view, &attempt, at(1));
        let verdict = told.to_string();
        match told.decision {
            Decision::Permitted(_) => (None, verdict),
            Decision::Denied(denial) => {
                let reference = Reference::from_bits(0);
                (
                    Some((denial.code(), denial.for_client(&reference))),
                    verdict,
                )
            }
        }
    };
    let (fresh, told) = decided("203.0.113.7", 29);
    assert_eq!(fresh, None);
    assert!(
        told.contains(
            "ok   confirmation the policy was confirmed 29 s ago; on-stale refuses after 30 s\n"
        ),
        "{told}"
    );
    let (old, told) = decided("203.0.113.7", 30);
    let (code, said) = old.unwrap();
    assert_eq!(code, "policy_stale");
    assert!(said.starts_with(
        "connections are not accepted here until the policy is confirmed again; try another gateway"
    ));
    assert!(
        told.contains("NO   confirmation nobody has confirmed the policy for 30 s; on-stale refuses after 30 s\n"),
        "{told}"
    );
    assert!(told.contains("`on-stale` of tenant acme"), "{told}");
    let (stranger, _) = decided("192.0.2.7", 30);
    let (code, said) = stranger.unwrap();
    assert_eq!(code, "address_not_listed");
    assert!(said.starts_with("connection not permitted"));
}

#[test]
fn operators_are_told_everything_and_what_to_try_next() {
    let told: Vec<String> = denials().into_iter().map(|(_, told)| told).collect();
    let expected = [
        "unknown_endpoint: 203.0.113.7 via public reached no endpoint named acme-order.db.example.net (revision 1). \
         Next: `portcullis plan DIR` shows whether a policy that has it was not applied",
        "unknown_endpoint: 203.0.113.7 via public reached no endpoint because the client named none (no SNI) (revision 1). \
         Next: `portcullis plan DIR` shows whether a policy that has it was not applied",
        "tenant_suspended: 203.0.113.7 via public to globex/orders: tenant globex is suspended (revision 1). \
         Next: `portcullis explain --to globex/orders --from 203.0.113.7 --via public`",
        "endpoint_suspended: 203.0.113.7 via public to acme/closed: the endpoint is suspended (revision 1). \
         Next: `portcullis explain --to acme/closed --from 203.0.113.7 --via public`",
        "public_blocked: 203.0.113.7 via public to acme/private: the endpoint has no public door (revision 1). \
         Next: `portcullis explain --to acme/private --from 203.0.113.7 --via public`",
        "network_mismatch: 203.0.113.7 via network:globex-vpc to acme/orders: \
         network:globex-vpc is not a door of the endpoint (revision 1). \
         Next: `portcullis explain --to acme/orders --from 203.0.113.7 --via network:globex-vpc`",
        "private_link_mismatch: 10.0.0.5 via private-link:aws:vpce-acme to acme/orders: \
         private-link:aws:vpce-acme is not a door of the endpoint (revision 1). \
         Next: `portcullis explain --to acme/orders --from 10.0.0.5 --via private-link:aws:vpce-acme`",
        "empty_list: 10.0.0.5 via network:acme-vpc to acme/orders: \
         nobody may come via network:acme-vpc: there is no entry (revision 1). \
         Next: `portcullis explain --to acme/orders --from 10.0.0.5 --via network:acme-vpc`",
        "address_not_listed: 192.0.2.7 via public to acme/orders: \
         the address is in none of the 2 entries via public (revision 1). \
         Next: `portcullis explain --to acme/orders --from 192.0.2.7 --via public`",
        "entry_expired: 198.51.100.7 via public to acme/orders: \
         allow[1] (198.51.100.0/24 via public except 198.51.100.9/32 until 1970-01-01T00:00:00.005Z) expired (revision 1). \
         Next: `portcullis explain --to acme/orders --from 198.51.100.7 --via public`",
        "replication_refused: 203.0.113.7 via public to acme/orders: \
         the endpoint refuses replication connections (revision 1). \
         Next: `portcullis explain --to acme/orders --from 203.0.113.7 --via public`",
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told, expected);
    }
}

#[test]
fn an_explanation_is_the_checks_and_the_verdict() {
    let view = view();
    let target = server_name("acme-orders");
    let told = |address: &str, moment| {
        explain(
            &view,
            &attempt(&Origin::Public, address, Some(&target)),
            at(moment),
        )
        .to_string()
    };
    assert_eq!(
        told("198.51.100.7", 4),
        "ok   endpoint     acme-orders.db.example.net is acme/orders\n\
         ok   tenant       tenant acme is not suspended\n\
         ok   suspension   endpoint orders is not suspended\n\
         ok   door         public is a door of the endpoint\n\
         ok   list         there are 2 entries via public\n\
         ok   address      198.51.100.7 is in allow[1]: 198.51.100.0/24 via public except 198.51.100.9/32 \
         until 1970-01-01T00:00:00.005Z\n\
         ok   expiry       the entry holds until 1970-01-01T00:00:00.005Z\n\
         ok   replication  this is no replication connection\n\
         permitted: 198.51.100.7 via public to acme/orders by allow[1] (198.51.100.0/24 via public except 198.51.100.9/32 \
         until 1970-01-01T00:00:00.005Z) (revision 1)"
    );
    let denied = told("198.51.100.9", 4);
    assert!(
        denied.contains("NO   address      198.51.100.9 is in no entry via public\n"),
        "{denied}"
    );
}

#[test]
fn nothing_that_is_logged_spells_out_a_whole_policy() {
    let view = view();
    let denials: Vec<Denial> = denials().into_iter().map(|(denial, _)| denial).collect();
    let debug = format!("{view:?} {denials:?}");
    assert!(!debug.contains("203.0.113"), "{debug}");
}

/// The warnings of an endpoint with this allow list, as `place: words`.
fn warned(doors: &[&str], allow: Vec<Entry>) -> Vec<String> {
    let mut acme = tenant("acme");
    acme.clusters.insert(
        name("main"),
        Cluster {
            tls: verified(),
            ..common::cluster("db")
        },
    );
    acme.endpoints
        .insert(name("orders"), endpoint("acme-orders", doors, allow));
    warnings(&acme, at(100))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn verified() -> UpstreamTls {
    UpstreamTls::Verified {
        server_name: String::from("db"),
        authorities: String::from("-----BEGIN CERTIFICATE-----"),
    }
}

#[test]
fn an_ordinary_list_gives_no_warning() {
    let allow = vec![
        entry("203.0.113.0/24", "public"),
        entry("10.0.0.0/8", "network:acme-vpc"),
        entry("anywhere", "private-link:azure:7"),
        entry("203.0.112.0/23", "public").until(1000),
    ];
    assert_eq!(
        warned(
            &["public", "network:acme-vpc", "private-link:azure:7"],
            allow
        ),
        Vec::<String>::new()
    );
}

#[test]
fn shadowed_entries_are_told_with_those_before_them() {
    let shadowed = |allow: Vec<Entry>| warned(&["public"], allow);
    assert_eq!(
        shadowed(vec![
            entry("203.0.113.0/24", "public"),
            entry("203.0.113.7", "public"),
            entry("203.0.113.8", "public").until(1000)
        ]),
        [
            "endpoints.orders.allow[1]: shadowed: everyone it admits is admitted as long by allow[0]",
            "endpoints.orders.allow[2]: shadowed: everyone it admits is admitted as long by allow[0]",
        ]
    );
    assert_eq!(
        shadowed(vec![
            entry("203.0.113.0/24", "public").until(900),
            entry("203.0.113.0/24", "public").until(900)
        ]),
        ["endpoints.orders.allow[1]: shadowed: everyone it admits is admitted as long by allow[0]"]
    );
    // By two halves together; a later end is not shadowed by an earlier one; twins are, the second by the first.
    let halves = vec![
        entry("203.0.113.0/24", "public"),
        entry("203.0.113.0/25", "public").until(900),
        entry("203.0.113.128/25", "public"),
    ];
    assert_eq!(shadowed(halves.clone()).len(), 2);
    let mut ends_first = halves;
    ends_first[0].expires = Some(at(900));
    assert_eq!(
        shadowed(ends_first),
        ["endpoints.orders.allow[1]: shadowed: everyone it admits is admitted as long by allow[0]"]
    );
    let two_halves = vec![
        entry("203.0.113.0/25", "public"),
        entry("203.0.113.0/24", "public").until(900),
        entry("203.0.113.128/25", "public"),
    ];
    assert_eq!(
        shadowed(two_halves),
        [
            "endpoints.orders.allow[1]: shadowed: everyone it admits is admitted as long by allow[0], allow[2]"
        ]
    );
}

#[test]
fn unused_wide_and_idle_things_are_told() {
    assert_eq!(
        warned(
            &["public", "network:acme-vpc"],
            vec![
                entry("10.0.0.0/8", "private-link:azure:7"),
                entry("203.0.113.0/24", "public").until(100),
                entry("198.51.100.0/24", "public")
                    .except(&["198.51.100.0/25", "198.51.100.128/25"]),
                entry("198.18.0.0/16", "public"),
                entry("198.19.0.0/17", "public"),
                entry("2001:db8::/32", "public"),
                entry("2001:db9::/33", "public"),
            ]
        ),
        [
            "endpoints.orders.doors: nobody may come via network:acme-vpc: there is no entry",
            "endpoints.orders.allow[0]: unused: its origin is not a door of the endpoint",
            "endpoints.orders.allow[1]: unused: it expired at 1970-01-01T00:00:00.100Z",
            "endpoints.orders.allow[2]: unused: its excepts leave nothing of it",
            "endpoints.orders.allow[3]: wide: it admits 65536 IPv4 addresses from the internet",
            "endpoints.orders.allow[5]: wide: it admits 2^96 IPv6 addresses from the internet",
        ]
    );
    let anywhere = warned(&["public"], vec![entry("anywhere", "public")]);
    assert_eq!(
        anywhere,
        ["endpoints.orders.allow[0]: wide: it admits every address from the internet"]
    );
    let mut acme = tenant("acme");
    acme.endpoints.clear();
    let told: Vec<_> = warnings(&acme, at(0))
        .iter()
        .map(|warning| warning.caution.code())
        .collect();
    assert_eq!(told, ["unused_cluster", "unencrypted"]);
}

//! The state machine: whole or not at all, everything claimed once, and a view that costs what changed.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::{
    EntryWords, Proposed, at, attempt, check_refused, cluster, command, decided, endpoint, entry,
    name, server_name, state, tenant,
};
use portcullis_policy::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn acme() -> Tenant {
    let mut acme = tenant("acme");
    let allow = vec![
        entry("203.0.113.0/24", "public"),
        entry("10.0.0.0/16", "network:acme-vpc"),
    ];
    acme.endpoints.insert(
        name("orders"),
        endpoint("acme-orders", &["public", "network:acme-vpc"], allow),
    );
    acme.endpoints.insert(
        name("stock"),
        endpoint(
            "acme-stock",
            &["public"],
            vec![entry("198.51.100.0/24", "public")],
        ),
    );
    acme
}

fn globex() -> Tenant {
    let mut globex = tenant("globex");
    let allow = vec![entry("10.0.0.0/16", "network:globex-vpc")];
    globex.endpoints.insert(
        name("orders"),
        endpoint("globex-orders", &["network:globex-vpc"], allow),
    );
    globex
}

fn orders(tenant: &mut Tenant) -> &mut Endpoint {
    tenant
        .endpoints
        .get_mut(&name::<EndpointId>("orders"))
        .unwrap()
}

#[test]
fn a_new_state_admits_nobody() {
    let view = State::default().view();
    let target = server_name("acme-orders");
    assert_eq!(
        decided(
            &view,
            &attempt(&Origin::Public, "203.0.113.7", Some(&target)),
            at(0)
        ),
        "unknown_endpoint"
    );
    assert_eq!(view.revision(), Revision::new(0));
}

#[test]
fn what_belongs_to_one_tenant_is_refused_to_another() {
    let state = state(&[acme(), globex()]);
    let refused = |change: &dyn Fn(&mut Tenant), code, words| {
        let mut greedy = globex();
        change(&mut greedy);
        check_refused(&state, &command(&[greedy], &[]), code, words);
    };
    refused(
        &|globex| assert!(globex.networks.insert(name("acme-vpc"))),
        "network_claimed",
        "tenant globex claims network acme-vpc, which belongs to tenant acme",
    );
    refused(
        &|globex| assert!(globex.private_links.insert(name("azure:7"))),
        "private_link_claimed",
        "azure:7, which belongs to tenant acme",
    );
    refused(
        &|globex| orders(globex).names.push(server_name("acme-stock")),
        "server_name_claimed",
        "acme-stock.db.example.net, which belongs to tenant acme",
    );
    // The same number of another cloud is another link.
    let mut harmless = globex();
    harmless.private_links.insert(name("gcp:7"));
    assert!(
        state
            .clone()
            .propose(&command(&[harmless], &[]), at(1))
            .is_ok()
    );
}

#[test]
fn two_newcomers_with_one_claim_are_refused_both() {
    let (mut a, mut b) = (tenant("acme"), tenant("globex"));
    a.networks.insert(name("shared"));
    b.networks.insert(name("shared"));
    check_refused(
        &State::default(),
        &command(&[a, b], &[]),
        "network_claimed",
        "shared",
    );
}

#[test]
fn tenants_may_exchange_what_they_own_in_one_command() {
    let mut state = state(&[acme(), globex()]);
    let (mut a, mut g) = (acme(), globex());
    a.networks.remove(&name::<NetworkId>("acme-vpc"));
    orders(&mut a).doors.remove(&name("network:acme-vpc"));
    orders(&mut a).allow.truncate(1);
    orders(&mut a).names = vec![server_name("a2")];
    g.networks.insert(name("acme-vpc"));
    orders(&mut g).names.push(server_name("acme-orders"));
    state.propose(&command(&[g, a], &[]), at(1)).unwrap();
    let view = state.view();
    assert_eq!(view.network_owner(&name("acme-vpc")), Some(&name("globex")));
    assert_eq!(
        view.private_link_owner(&name("azure:7")),
        Some(&name("acme"))
    );
    assert_eq!(
        view.named(&server_name("acme-orders")).unwrap().tenant(),
        &name("globex")
    );
}

#[test]
fn commands_that_do_not_make_sense_are_refused() {
    let state = state(&[acme(), globex()]);
    check_refused(
        &state,
        &command(&[acme(), acme()], &[]),
        "named_twice",
        "acme",
    );
    check_refused(
        &state,
        &command(&[acme()], &["acme"]),
        "named_twice",
        "acme",
    );
    check_refused(
        &state,
        &command(&[], &["globex", "initech"]),
        "no_such_tenant",
        "initech",
    );
    let mut broken = acme();
    orders(&mut broken).cluster = name("missing");
    check_refused(
        &state,
        &command(&[globex(), broken], &[]),
        "document",
        "endpoints.orders.cluster: the tenant has no cluster missing",
    );
    let nobody = Proposal::local("somebody\nelse", at(1), command(&[], &[]));
    assert_eq!(state.clone().apply(&nobody).unwrap_err().code(), "author");
}

#[test]
fn a_stale_base_is_refused_and_the_current_one_taken() {
    let mut state = state(&[acme()]);
    let mut changed = acme();
    changed.suspended = true;
    let with = |base| Command::Apply {
        base: Some(Revision::new(base)),
        put: vec![changed.clone()],
        remove: vec![],
        expected: BTreeMap::new(),
    };
    check_refused(&state, &with(0), "stale_base", "revision 1 is in force");
    check_refused(&state, &with(2), "stale_base", "revision 1 is in force");
    assert_eq!(
        state.propose(&with(1), at(1)).unwrap().revision,
        Revision::new(2)
    );
}

#[test]
fn limits_hold_at_their_edge() {
    let many = |count: u32| {
        let mut acme = tenant("acme");
        let host = |n: u32| {
            entry(
                &format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255),
                "public",
            )
        };
        acme.endpoints.insert(
            name("orders"),
            endpoint("acme-orders", &["public"], (0..count).map(host).collect()),
        );
        acme
    };
    let mut state = State::default();
    state
        .propose(&command(&[many(10_000)], &[]), at(0))
        .unwrap();
    assert_eq!(state.weight(), 10_000);
    check_refused(
        &state,
        &command(&[many(10_001)], &[]),
        "document",
        "10001 entries and excepts are more than 10000",
    );
    let mut excepted = many(9_999);
    orders(&mut excepted)
        .allow
        .push(entry("anywhere", "public").except(&["10.0.0.1"]));
    check_refused(
        &state,
        &command(&[excepted], &[]),
        "document",
        "10001 entries and excepts",
    );

    let mut small = State::with_limits(10, 15);
    small.propose(&command(&[many(10)], &[]), at(0)).unwrap();
    let with = |count| {
        let mut globex = globex();
        let more = (0..count).map(|n| entry(&format!("192.0.2.{n}"), "network:globex-vpc"));
        orders(&mut globex).allow = more.collect();
        globex
    };
    check_refused(
        &small,
        &command(&[with(6)], &[]),
        "fleet_limit",
        "16 entries",
    );
    small.propose(&command(&[with(5)], &[]), at(0)).unwrap();
    // Room that is made in the same command counts.
    small
        .propose(&command(&[with(10)], &["acme"]), at(0))
        .unwrap();
    assert_eq!(small.weight(), 10);
}

#[test]
fn what_does_not_differ_changes_nothing() {
    let mut state = state(&[acme(), globex()]);
    let before = state.view();
    let applied = state
        .propose(&command(&[globex(), acme()], &[]), at(1))
        .unwrap();
    assert_eq!(
        (
            applied.revision,
            applied.tenants.len(),
            applied.changes.len()
        ),
        (Revision::new(1), 0, 0)
    );
    let mut changed = acme();
    orders(&mut changed).allow[0].note = String::from("office");
    let applied = state
        .propose(&command(&[globex(), changed], &[]), at(1))
        .unwrap();
    assert_eq!(
        (applied.revision, &applied.tenants),
        (Revision::new(2), &vec![name("acme")])
    );
    let [change] = applied.changes.as_slice() else {
        panic!("{:?}", applied.changes)
    };
    assert_eq!(
        (change.kind, change.matters(), change.affected()),
        (ChangeKind::Altered, false, Affected::Nobody)
    );
    assert!(difference(&before, &state.view(), at(1)).is_empty());
}

#[test]
fn publishing_shares_all_that_did_not_change() {
    let mut state = state(&[acme(), globex()]);
    let before = state.view();
    let mut changed = acme();
    orders(&mut changed).allow.pop();
    state
        .propose(&command(&[changed, globex()], &[]), at(1))
        .unwrap();
    let after = state.view();
    let kept = |tenant: &str| {
        let (was, is) = (before.tenant(&name(tenant)), after.tenant(&name(tenant)));
        Arc::ptr_eq(was.unwrap(), is.unwrap())
    };
    assert!(kept("globex") && !kept("acme"));
    let endpoints = |id: &str| {
        let of = |view: &View| Arc::clone(view.endpoint(&name("acme"), &name(id)).unwrap());
        (of(&before), of(&after))
    };
    let (was, is) = endpoints("stock");
    assert!(
        Arc::ptr_eq(&was, &is),
        "an endpoint whose document is the same is the same"
    );
    let (was, is) = endpoints("orders");
    assert!(!Arc::ptr_eq(&was, &is) && Arc::ptr_eq(was.cluster(), is.cluster()));
    // And the old view still says what it said.
    let (origin, target) = (name("network:acme-vpc"), server_name("acme-orders"));
    let vpc = attempt(&origin, "10.0.0.5", Some(&target));
    assert_eq!(decided(&before, &vpc, at(1)), "permitted");
    assert_eq!(decided(&after, &vpc, at(1)), "empty_list");
}

#[test]
fn a_change_of_one_entry_affects_its_own_addresses_at_its_own_door() {
    let mut state = state(&[acme(), globex()]);
    let mut changed = acme();
    orders(&mut changed).allow[0] = entry("203.0.113.0/24", "public").except(&["203.0.113.9"]);
    orders(&mut changed).allow[1].expires = Some(at(1000));
    let applied = state.propose(&command(&[changed], &[]), at(1)).unwrap();
    let [change] = applied.changes.as_slice() else {
        panic!("{:?}", applied.changes)
    };
    assert_eq!(change.kind, ChangeKind::Altered);
    let check = |origin: &str, address: &str, expected| {
        assert_eq!(
            change.affects(&name(origin), name(address)),
            expected,
            "{origin} {address}"
        );
    };
    check("public", "203.0.113.9", true);
    check("public", "203.0.113.8", false);
    check("public", "10.0.0.5", false);
    // Still admitted, but until a moment that a live connection does not know yet.
    check("network:acme-vpc", "10.0.0.5", true);
    check("network:acme-vpc", "10.1.0.5", false);
    check("network:globex-vpc", "10.0.0.5", false);
}

#[test]
fn what_every_connection_stands_on_affects_every_connection() {
    let check = |expected: ChangeKind, change: &dyn Fn(&mut Tenant)| {
        let mut state = state(&[acme(), globex()]);
        let mut changed = acme();
        change(&mut changed);
        let applied = state.propose(&command(&[changed], &[]), at(1)).unwrap();
        let of_orders = |change: &&Change| change.endpoint == name("orders");
        let change = applied.changes.iter().find(of_orders).unwrap();
        assert_eq!(change.kind, expected);
        let all = matches!(expected, ChangeKind::Redirected | ChangeKind::Removed);
        assert_eq!(change.affects(&Origin::Public, name("203.0.113.7")), all);
        assert_eq!(change.affected() == Affected::Everybody, all);
    };
    check(ChangeKind::Redirected, &|acme| acme.suspended = true);
    check(ChangeKind::Redirected, &|acme| {
        orders(acme).suspended = true
    });
    check(ChangeKind::Redirected, &|acme| {
        drop(acme.clusters.insert(name("main"), cluster("10.0.0.99")))
    });
    check(ChangeKind::Redirected, &|acme| {
        orders(acme).authentication = Authentication::Relay
    });
    check(ChangeKind::Redirected, &|acme| {
        acme.clusters.insert(name("copy"), cluster("10.0.0.10"));
        orders(acme).cluster = name("copy");
    });
    check(ChangeKind::Redirected, &|acme| {
        orders(acme).names = vec![server_name("acme-new")]
    });
    check(ChangeKind::Removed, &|acme| {
        drop(acme.endpoints.remove(&name::<EndpointId>("orders")))
    });
    check(ChangeKind::Altered, &|acme| {
        orders(acme).names.push(server_name("acme-new"))
    });
    check(ChangeKind::Altered, &|acme| {
        orders(acme).replication = Replication::Allowed
    });
    check(ChangeKind::Altered, &|acme| {
        orders(acme).allow.push(entry("192.0.2.0/24", "public"))
    });
}

#[test]
fn refusing_replication_affects_those_who_may_be_replicating() {
    let mut lenient = acme();
    orders(&mut lenient).replication = Replication::Allowed;
    let mut state = state(&[lenient]);
    let applied = state.propose(&command(&[acme()], &[]), at(1)).unwrap();
    assert_eq!(applied.changes[0].kind, ChangeKind::Redirected);
}

#[test]
fn the_way_into_a_vpc_belongs_to_one_tenant() {
    let inside = |mut tenant: Tenant, place: &str| {
        main_of(&mut tenant).via = Some(Via::NetworkNamespace(place.to_owned()));
        tenant
    };
    let mut state = state(&[inside(acme(), "vpc-a"), inside(globex(), "vpc-b")]);
    let refused = state
        .propose(&command(&[inside(globex(), "vpc-a")], &[]), at(1))
        .unwrap_err();
    assert_eq!(refused.code(), "place_claimed");
    // Two tenants may exchange theirs in one command.
    let exchange = command(&[inside(globex(), "vpc-a"), inside(acme(), "vpc-b")], &[]);
    assert!(state.propose(&exchange, at(3)).is_ok());
}

#[test]
fn a_removed_tenant_is_gone_with_all_its_names_and_claims() {
    let mut state = state(&[acme(), globex()]);
    let applied = state.propose(&command(&[], &["acme"]), at(1)).unwrap();
    assert!(
        applied
            .changes
            .iter()
            .all(|change| change.kind == ChangeKind::Removed && !change.shut.is_empty())
    );
    assert_eq!(applied.changes.len(), 2);
    let view = state.view();
    assert!(
        view.named(&server_name("acme-orders")).is_none()
            && view.network_owner(&name("acme-vpc")).is_none()
    );
    assert_eq!(state.weight(), 1);
    let mut heir = globex();
    heir.networks.insert(name("acme-vpc"));
    assert!(state.propose(&command(&[heir], &[]), at(2)).is_ok());
}

#[test]
fn a_permit_continues_only_where_it_leads_to_the_same_place_by_the_same_proof() {
    let permit = |tenant: &Tenant| {
        let view = state(std::slice::from_ref(tenant)).view();
        let target = server_name("acme-orders");
        match decide(
            &view,
            &attempt(&Origin::Public, "203.0.113.7", Some(&target)),
            at(0),
            &mut Silent,
        ) {
            Decision::Permitted(permit) => permit,
            Decision::Denied(denial) => panic!("{denial:?}"),
        }
    };
    let before = permit(&acme());
    let check = |expected, change: &dyn Fn(&mut Tenant)| {
        let mut changed = acme();
        change(&mut changed);
        assert_eq!(permit(&changed).continues(&before.footing()), expected);
    };
    check(true, &|_| ());
    check(true, &|acme| {
        orders(acme).allow.insert(0, entry("203.0.113.7", "public"))
    });
    check(false, &|acme| {
        orders(acme).authentication = Authentication::Relay
    });
    check(false, &|acme| {
        drop(acme.clusters.insert(name("main"), cluster("10.0.0.99")))
    });
    // A server that joins disturbs nobody; one that leaves may be the one.
    let another = Backend {
        host: "10.0.0.98".to_owned(),
        port: 5432,
    };
    check(true, &|acme| main_of(acme).backends.push(another.clone()));
    check(false, &|acme| {
        main_of(acme).backends = vec![another.clone()]
    });
    check(false, &|acme| {
        main_of(acme).via = Some(Via::Interface("eth7".to_owned()))
    });
    check(false, &|acme| {
        let orders = acme
            .endpoints
            .remove(&name::<EndpointId>("orders"))
            .unwrap();
        acme.endpoints.insert(name("orders-2"), orders);
    });
}

fn main_of(tenant: &mut Tenant) -> &mut Cluster {
    tenant.clusters.get_mut(&name::<ClusterId>("main")).unwrap()
}

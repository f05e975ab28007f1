//! Sets of addresses against brute force: every answer that is computed on sets is compared with asking about single
//! addresses, all of a small window and those just outside it.

mod common;

use common::random::{cases, entry, moments, prefix, tenants};
use common::{Proposed, at, command, endpoint, name, server_name, state, tenant};
use portcullis_policy::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn sets_do_what_single_addresses_say(a in vec(prefix(), 0..12), b in vec(prefix(), 0..12)) {
        let (left, right) = (AddressSet::of(a.clone()), AddressSet::of(b.clone()));
        let (union, both) = (left.union(&right), left.intersect(&right));
        let (rest, complement) = (left.subtract(&right), AddressSet::everything().subtract(&left));
        for address in window() {
            let (x, y) = (listed(&a, address), listed(&b, address));
            prop_assert_eq!(left.contains(address), x);
            prop_assert_eq!(union.contains(address), x || y);
            prop_assert_eq!(both.contains(address), x && y);
            prop_assert_eq!(rest.contains(address), x && !y);
            prop_assert_eq!(complement.contains(address), !x);
        }
        prop_assert_eq!(&union, &AddressSet::of(a.into_iter().chain(b)));
        prop_assert_eq!(&union, &AddressSet::union_of([right.clone(), left.clone()]));
        prop_assert_eq!(&rest.union(&both), &left);
        prop_assert!(rest.intersect(&right).is_empty());
        prop_assert_eq!(union.count().v4, rest.count().v4 + right.count().v4);
        prop_assert!(left.union(&complement).is_everything());
        prop_assert_eq!(left.subtract(&right).is_empty(), left.intersect(&right) == left);
    }

    #[test]
    fn prefixes_of_a_set_are_the_set_and_the_fewest_possible(prefixes in vec(prefix(), 0..12)) {
        let set = AddressSet::of(prefixes);
        let minimal: Vec<Prefix> = set.prefixes().collect();
        // No /0 came in, and a /0 that comes out cannot be parsed back, so the set is rebuilt from ranges when it is whole.
        if minimal.iter().all(|prefix| prefix.length() > 0) {
            prop_assert_eq!(&AddressSet::of(minimal.clone()), &set);
        }
        prop_assert!(minimal.is_sorted());
        prop_assert_eq!(fewest(&set), minimal.len());
    }

    #[test]
    fn counts_are_exact_in_a_window(prefixes in vec(prefix(), 0..12)) {
        let window: AddressSet = AddressSet::of([name("203.0.113.0/24"), name("2001:db8::/120")]);
        let set = AddressSet::of(prefixes);
        let by_hand = |base: &dyn Fn(u8) -> Address| (0..=255).filter(|low| set.contains(base(*low))).count();
        let count = set.intersect(&window).count();
        prop_assert_eq!(count.v4, by_hand(&|low| Ipv4Addr::new(203, 0, 113, low).into()) as u64);
        let v6 = by_hand(&|low| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low.into()).into());
        prop_assert_eq!(count.v6, v6 as u128);
    }

    #[test]
    fn reach_is_what_decide_permits(tenants in tenants(), moment in moments()) {
        let view = state(&tenants).view();
        for (tenant, id, endpoint) in endpoints(&tenants) {
            let reach = reach(&view, &tenant.id, id, moment).unwrap();
            prop_assert!(reach.0.values().all(|set| !set.is_empty()));
            for door in doors(&tenants) {
                for address in window() {
                    let reached = reach.0.get(&door).is_some_and(|set| set.contains(address));
                    let permitted = permits(&view, &door, address, &endpoint.names[0], moment);
                    prop_assert_eq!(reached, permitted, "{} via {}", address, door);
                }
            }
        }
    }

    #[test]
    fn the_difference_is_what_decide_says_differently(old in tenants(), new in tenants(), moment in moments()) {
        let mut state = state(&old);
        let before = state.view();
        let applied = state.propose(&command(&new, &[]), moment).unwrap();
        let after = state.view();
        let difference = difference(&before, &after, moment);
        let mut expected = applied.changes.clone();
        expected.retain(Change::matters);
        prop_assert_eq!(&difference.changes, &expected);
        let changes: BTreeMap<_, _> =
            applied.changes.iter().map(|change| ((&change.tenant, &change.endpoint), change)).collect();
        for (tenant, id, endpoint) in endpoints(&old).chain(endpoints(&new)) {
            let change = changes.get(&(&tenant.id, id));
            for door in doors(&old) {
                let within = |sets: fn(&Change) -> &BTreeMap<Origin, AddressSet>, address| {
                    change.and_then(|change| sets(change).get(&door)).is_some_and(|set| set.contains(address))
                };
                for address in window() {
                    let was = permit(&before, &door, address, &endpoint.names[0], moment);
                    let is = permit(&after, &door, address, &endpoint.names[0], moment);
                    let opened = was.is_none() && is.is_some();
                    let shut = was.is_some() && is.is_none();
                    let retimed = matches!((&was, &is), (Some(was), Some(is)) if was.expires() != is.expires());
                    prop_assert_eq!(within(|change| &change.opened, address), opened);
                    prop_assert_eq!(within(|change| &change.shut, address), shut);
                    prop_assert_eq!(within(|change| &change.retimed, address), retimed);
                    // The promise that a live index rests on: whoever lapses, or must learn of another end, is found.
                    let continues = matches!((&was, &is), (Some(was), Some(is)) if is.continues(&was.footing()));
                    if was.is_some() && (!continues || retimed) {
                        prop_assert!(change.is_some_and(|change| change.affects(&door, address)));
                    }
                }
            }
        }
    }

    #[test]
    fn affected_ranges_are_affected_addresses(old in tenants(), new in tenants(), moment in moments()) {
        let mut state = state(&old);
        for change in state.propose(&command(&new, &[]), moment).unwrap().changes {
            for door in doors(&old) {
                for address in window() {
                    let found = match change.affected() {
                        Affected::Everybody => true,
                        Affected::Nobody => false,
                        Affected::Within(ranges) => {
                            ranges.iter().any(|(origin, range)| **origin == door && range.contains(&address))
                        }
                    };
                    prop_assert_eq!(found, change.affects(&door, address));
                }
            }
        }
    }

    #[test]
    fn adding_an_entry_denies_nobody_and_removing_one_admits_nobody(
        entries in vec(entry("acme"), 0..8),
        more in entry("acme"),
        position in 0_usize..9,
        moment in moments(),
    ) {
        let with = |allow: Vec<Entry>| {
            let mut acme = tenant("acme");
            let doors = ["public", "network:acme-vpc", "private-link:aws:vpce-acme", "private-link:azure:7"];
            acme.endpoints.insert(name("orders"), endpoint("acme-orders", &doors, allow));
            acme
        };
        let fewer = with(entries.clone());
        let mut entries = entries;
        entries.insert(position.min(entries.len()), more);
        let more = with(entries);
        prop_assume!(fewer.validate().is_ok() && more.validate().is_ok());
        let (fewer, more) = (state(&[fewer]).view(), state(&[more]).view());
        let only_opened = difference(&fewer, &more, moment);
        prop_assert!(only_opened.changes.iter().all(|change| change.shut.is_empty()));
        let only_shut = difference(&more, &fewer, moment);
        prop_assert!(only_shut.changes.iter().all(|change| change.opened.is_empty()));
        let target = server_name("acme-orders");
        for address in window() {
            let narrow = permit(&fewer, &Origin::Public, address, &target, moment);
            let wide = permit(&more, &Origin::Public, address, &target, moment);
            prop_assert!(narrow.is_none() || wide.is_some());
            if let (Some(narrow), Some(wide)) = (narrow, wide) {
                // Nor does anybody lapse earlier for it.
                prop_assert!(narrow.expires().is_none_or(|end| wide.expires().is_none_or(|later| later >= end))
                    && (narrow.expires().is_some() || wide.expires().is_none()));
            }
        }
    }
}

#[test]
fn the_reach_of_a_suspended_endpoint_is_nobody_and_of_a_missing_one_nothing() {
    let mut acme = tenant("acme");
    let anywhere = vec![common::entry("anywhere", "public")];
    acme.endpoints.insert(
        name("orders"),
        endpoint("acme-orders", &["public"], anywhere),
    );
    let orders = name("orders");
    let reach_of = |acme: &Tenant, id: &EndpointId| {
        reach(
            &state(std::slice::from_ref(acme)).view(),
            &acme.id,
            id,
            at(0),
        )
        .map(|reach| reach.to_string())
    };
    assert_eq!(
        reach_of(&acme, &orders).unwrap(),
        "public: every address: anywhere\n"
    );
    assert_eq!(reach_of(&acme, &name("other")), None);
    acme.suspended = true;
    assert_eq!(reach_of(&acme, &orders).unwrap(), "nobody\n");
}

#[test]
fn a_difference_reads_as_a_list_of_doors_with_counts_and_prefixes() {
    let with = |prefixes: &[&str]| {
        let allow = prefixes
            .iter()
            .map(|prefix| common::entry(prefix, "public"))
            .collect();
        let mut acme = tenant("acme");
        acme.endpoints
            .insert(name("orders"), endpoint("acme-orders", &["public"], allow));
        state(&[acme]).view()
    };
    let before = with(&["203.0.113.0/24", "2001:db8::/32"]);
    let after = with(&[
        "203.0.113.0/25",
        "198.51.100.0/25",
        "198.51.100.128/25",
        "2001:db8::/32",
    ]);
    assert_eq!(
        difference(&before, &after, at(0)).to_string(),
        "acme/orders altered\n  \
           + public: 256 IPv4 addresses: 198.51.100.0/24\n  \
           - public: 128 IPv4 addresses: 203.0.113.128/25\n"
    );
    assert_eq!(
        difference(&before, &before, at(0)).to_string(),
        "no difference\n"
    );
}

/// The /24 where most prefixes lie with its neighbours on both sides, a few of each other window, and the ends of both
/// spaces.
fn window() -> impl Iterator<Item = Address> {
    let v4 = |first: [u8; 4], count: u32| {
        let first = Ipv4Addr::from(first).to_bits();
        (first..=first.saturating_add(count - 1))
            .map(|bits| Address::from(Ipv4Addr::from_bits(bits)))
    };
    let v6 = |first: u128| (0..20).map(move |low| Address::from(Ipv6Addr::from_bits(first + low)));
    let last = |low: u128| Address::from(Ipv6Addr::from_bits(u128::MAX - low));
    v4([203, 0, 112, 254], 260)
        .chain(v4([9, 255, 255, 254], 12))
        .chain(v4([10, 0, 1, 250], 12))
        .chain(v4([0, 0, 0, 0], 3))
        .chain(v4([255, 255, 255, 253], 3))
        .chain(v6(0x2001_0db8 << 96))
        .chain(v6((0x2001_0db8 << 96) - 2))
        .chain(v6((0x2001_0db8 << 96) + 246))
        .chain(v6(0))
        .chain((0..3).map(last))
}

fn listed(prefixes: &[Prefix], address: Address) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

/// How many prefixes a set needs, found top down: a block that is wholly inside is one, a block that is partly inside is what
/// its halves need.
fn fewest(set: &AddressSet) -> usize {
    fn inside(set: &AddressSet, first: IpAddr, length: u8) -> usize {
        let (width, next): (u8, Box<dyn Fn(u8) -> IpAddr>) = match first {
            IpAddr::V4(v4) => (
                32,
                Box::new(move |bit| Ipv4Addr::from_bits(v4.to_bits() | 1 << bit).into()),
            ),
            IpAddr::V6(v6) => (
                128,
                Box::new(move |bit| Ipv6Addr::from_bits(v6.to_bits() | 1 << bit).into()),
            ),
        };
        let last = last_of(first, length);
        let overlaps = |range: &std::ops::RangeInclusive<Address>| {
            range.start().ip() <= last
                && first <= range.end().ip()
                && range.start().ip().is_ipv4() == first.is_ipv4()
        };
        let Some(range) = set.ranges().find(overlaps) else {
            return 0;
        };
        if range.start().ip() <= first && last <= range.end().ip() {
            return 1;
        }
        let free = width - length;
        inside(set, first, length + 1) + inside(set, next(free - 1), length + 1)
    }
    inside(set, Ipv4Addr::UNSPECIFIED.into(), 0) + inside(set, Ipv6Addr::UNSPECIFIED.into(), 0)
}

fn last_of(first: IpAddr, length: u8) -> IpAddr {
    match first {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() | u32::MAX.checked_shr(length.into()).unwrap_or(0))
                .into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() | u128::MAX.checked_shr(length.into()).unwrap_or(0))
                .into()
        }
    }
}

fn endpoints(tenants: &[Tenant]) -> impl Iterator<Item = (&Tenant, &EndpointId, &Endpoint)> {
    tenants.iter().flat_map(|tenant| {
        tenant
            .endpoints
            .iter()
            .map(move |(id, endpoint)| (tenant, id, endpoint))
    })
}

fn doors(tenants: &[Tenant]) -> Vec<Origin> {
    let networks = tenants
        .iter()
        .flat_map(|tenant| tenant.networks.iter().cloned().map(Origin::Network));
    let links = tenants.iter().flat_map(|tenant| {
        tenant
            .private_links
            .iter()
            .cloned()
            .map(Origin::PrivateLink)
    });
    networks.chain(links).chain([Origin::Public]).collect()
}

fn permits(
    view: &View,
    door: &Origin,
    address: Address,
    target: &ServerName,
    moment: Timestamp,
) -> bool {
    permit(view, door, address, target, moment).is_some()
}

fn permit(
    view: &View,
    door: &Origin,
    address: Address,
    target: &ServerName,
    moment: Timestamp,
) -> Option<Permit> {
    let attempt = Attempt {
        address,
        ..common::attempt(door, "0.0.0.0", Some(target))
    };
    match decide(view, &attempt, moment, &mut Silent) {
        Decision::Permitted(permit) => Some(permit),
        Decision::Denied(_) => None,
    }
}

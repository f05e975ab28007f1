//! Random policies and attempts, crowded into a few small windows so that they meet: two tenants that both use
//! 10.0.0.0/16, one office on the internet, a patch of IPv6, and the very ends of both spaces.

use super::{at, cluster, name, server_name};
use portcullis_policy::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::FileFailurePersistence;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many policies a property is tried on. Every seed that ever failed is kept in one file and tried first.
pub fn cases(count: u32) -> ProptestConfig {
    const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/failed_seeds.txt");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        ..ProptestConfig::with_cases(count)
    }
}

/// Acme and globex, each with up to three endpoints; documents that validate.
pub fn tenants() -> impl Strategy<Value = Vec<Tenant>> {
    let valid = |tenant: &Tenant| tenant.validate().is_ok();
    let acme = tenant("acme").prop_filter("everyone, unsaid", valid);
    let globex = tenant("globex").prop_filter("everyone, unsaid", valid);
    (acme, globex).prop_map(|(acme, globex)| vec![acme, globex])
}

/// One tenant; now and then suspended.
pub fn tenant(id: &'static str) -> impl Strategy<Value = Tenant> {
    let endpoints = vec(option::weighted(0.9, endpoint(id)), 3);
    let on_stale = select(vec![
        OnStale::Serve,
        OnStale::RefuseAfter(10),
        OnStale::REFUSE,
    ]);
    (endpoints, seldom(), on_stale).prop_map(move |(endpoints, suspended, on_stale)| {
        let mut tenant = super::tenant(id);
        tenant.clusters.insert(name("other"), cluster("10.0.0.11"));
        tenant.suspended = suspended;
        tenant.limits.on_stale = on_stale;
        for (number, endpoint) in endpoints.into_iter().enumerate() {
            if let Some(mut endpoint) = endpoint {
                endpoint.names = vec![server_name(&format!("{id}-{number}"))];
                tenant
                    .endpoints
                    .insert(name(&format!("e{number}")), endpoint);
            }
        }
        tenant
    })
}

fn endpoint(tenant: &'static str) -> impl Strategy<Value = Endpoint> {
    let all = doors_of(tenant);
    let count = all.len();
    let doors = subsequence(all, count / 2..=count);
    let allow = vec(entry(tenant), 0..10);
    let replication = select(vec![Replication::Refused, Replication::Allowed]);
    let cluster = select(vec!["main", "main", "main", "other"]);
    (doors, allow, seldom(), replication, cluster).prop_map(
        |(doors, allow, suspended, replication, cluster)| Endpoint {
            doors: doors.into_iter().collect(),
            suspended,
            replication,
            cluster: name(cluster),
            ..super::endpoint("nameless", &[], allow)
        },
    )
}

/// An entry for a door of this tenant.
pub fn entry(tenant: &'static str) -> impl Strategy<Value = Entry> {
    let addresses = prop_oneof![
        1 => Just(Addresses::Anywhere),
        9 => prefix().prop_map(Addresses::Prefix),
    ];
    let except = vec(prefix(), 0..3);
    (addresses, origin_of(tenant), except, option::of(moments())).prop_map(
        |(addresses, origin, mut except, expires)| {
            except.retain(|except| match addresses {
                Addresses::Prefix(prefix) => prefix.covers(except),
                Addresses::Anywhere => true,
            });
            Entry {
                except,
                expires,
                ..Entry::new(addresses, origin)
            }
        },
    )
}

/// A prefix of any length around an address of a window.
pub fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 =
        (window_v4(), prop_oneof![8 => 20_u8..=32, 1 => 1_u8..=32]).prop_map(|(first, length)| {
            let kept = first.to_bits() & u32::MAX << (32 - length);
            Prefix::new(Ipv4Addr::from_bits(kept).into(), length)
        });
    let v6 = (window_v6(), prop_oneof![8 => 116_u8..=128, 1 => 1_u8..=128]).prop_map(
        |(first, length)| {
            let kept = first.to_bits() & u128::MAX << (128 - length);
            Prefix::new(Ipv6Addr::from_bits(kept).into(), length)
        },
    );
    // Refused are only the forms that policy must not contain.
    prop_oneof![3 => v4, 1 => v6].prop_filter_map("IPv4 inside IPv6", Result::ok)
}

/// A door of this tenant.
pub fn origin_of(tenant: &'static str) -> impl Strategy<Value = Origin> {
    select(doors_of(tenant))
}

fn doors_of(tenant: &'static str) -> Vec<Origin> {
    let mut doors = vec![
        String::from("public"),
        format!("network:{tenant}-vpc"),
        format!("private-link:aws:vpce-{tenant}"),
    ];
    if tenant == "acme" {
        doors.push(String::from("private-link:azure:7"));
    }
    doors.iter().map(|door| name(door)).collect()
}

/// An address that the policies have something to say about, or nearly so.
pub fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        6 => window_v4().prop_map(Address::from),
        1 => window_v4().prop_map(|v4| Address::from(v4.to_ipv6_mapped())),
        2 => window_v6().prop_map(Address::from),
        1 => any::<u32>().prop_map(|bits| Address::from(Ipv4Addr::from_bits(bits))),
    ]
}

fn window_v4() -> impl Strategy<Value = Ipv4Addr> {
    let base = select(vec![
        [10, 0, 0, 0],
        [10, 0, 1, 0],
        [203, 0, 113, 0],
        [0, 0, 0, 0],
        [255, 255, 255, 0],
    ]);
    (base, any::<u8>()).prop_map(|([a, b, c, _], d)| Ipv4Addr::new(a, b, c, d))
}

fn window_v6() -> impl Strategy<Value = Ipv6Addr> {
    let base = select(vec![0x2001_0db8_u128 << 96, 0, u128::MAX - 0xff]);
    (base, any::<u8>()).prop_map(|(base, low)| Ipv6Addr::from_bits(base | u128::from(low)))
}

/// One of a few moments, so that expiry and question often coincide.
pub fn moments() -> impl Strategy<Value = Timestamp> {
    (0_i64..5).prop_map(at)
}

fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.05)
}

/// An attempt that owns its parts.
#[derive(Clone, Debug)]
pub struct Probe {
    pub origin: Origin,
    pub address: Address,
    pub server_name: Option<ServerName>,
    pub replication: bool,
    pub certificate: Option<Serial>,
    pub purpose: Purpose,
    pub unconfirmed: u64,
}

impl Probe {
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            origin: &self.origin,
            address: self.address,
            server_name: self.server_name.as_ref(),
            user: "app",
            database: "orders",
            replication: self.replication,
            certificate: self.certificate.as_ref(),
            purpose: self.purpose,
            unconfirmed: self.unconfirmed,
        }
    }
}

/// A few dozen attempts, at existing and missing endpoints, through anybody's doors.
pub fn attempts() -> impl Strategy<Value = Vec<Probe>> {
    let own = |tenant: &'static str| {
        (0..3, origin_of(tenant)).prop_map(move |(number, origin)| {
            (Some(server_name(&format!("{tenant}-{number}"))), origin)
        })
    };
    let anybodys = prop_oneof![
        origin_of("acme"),
        origin_of("globex"),
        Just(name("private-link:gcp:7"))
    ];
    let other = (0..3, anybodys)
        .prop_map(|(number, origin)| (Some(server_name(&format!("acme-{number}"))), origin));
    let nowhere = select(vec![None, Some(server_name("acme-9"))])
        .prop_map(|server_name| (server_name, Origin::Public));
    let target = prop_oneof![8 => own("acme"), 8 => own("globex"), 2 => other, 1 => nowhere];
    let purpose = select(vec![Purpose::Connect, Purpose::Connect, Purpose::Cancel]);
    let unconfirmed = 0_u64..40;
    let certificate = select(vec![None, None, Some(name("1f")), Some(name("20"))]);
    let probe = (
        target,
        address(),
        prop::bool::weighted(0.1),
        certificate,
        purpose,
        unconfirmed,
    )
        .prop_map(
            |((server_name, origin), address, replication, certificate, purpose, unconfirmed)| {
                Probe {
                    origin,
                    address,
                    server_name,
                    replication,
                    certificate,
                    purpose,
                    unconfirmed,
                }
            },
        );
    vec(probe, 40)
}

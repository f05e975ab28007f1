//! Whatever a document says, its rendering says the same.

use super::{PolicyFiles, parse, render};
use portcullis_policy::{
    Addresses, Authentication, Backend, CertificateRule, Cluster, Endpoint, Engine, Entry, OnStale,
    Origin, Prefix, PrivateLinkId, Replication, ServerName, Service, Tenant, TenantLimits,
    Timestamp, TokenKeys, TokenRule, UpstreamTls, Via,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_rendered_document_reads_as_itself(tenant in tenant()) {
        prop_assert_eq!(tenant.validate(), Ok(()));
        let name = format!("{}.yaml", tenant.id);
        let text = render(&tenant);
        let files = PolicyFiles { files: BTreeMap::from([(name, text.clone())]) };
        match parse(&files) {
            Ok(tenants) => prop_assert_eq!(&tenants[..], &[tenant], "{}", text),
            Err(errors) => prop_assert!(false, "{}\n{text}", errors[0]),
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let files = PolicyFiles { files: BTreeMap::from([("a.yaml".to_owned(), text)]) };
        let _ = parse(&files);
    }

    /// A good file with a piece cut out, doubled or replaced: refused or understood, never a panic.
    #[test]
    fn no_mutilated_file_makes_the_reader_panic(
        tenant in tenant(),
        from in any::<prop::sample::Index>(),
        length in 0..40_usize,
        instead in "[-\\[\\]{}:,#&*!|>'\"%@` \n\ta0~]{0,8}",
    ) {
        let mut text: Vec<char> = render(&tenant).chars().collect();
        let from = from.index(text.len());
        let to = (from + length).min(text.len());
        text.splice(from..to, instead.chars());
        let name = format!("{}.yaml", tenant.id);
        let files = PolicyFiles { files: BTreeMap::from([(name, text.into_iter().collect())]) };
        if let Err(errors) = parse(&files) {
            prop_assert!(!errors.is_empty());
        }
    }
}

fn tenant() -> impl Strategy<Value = Tenant> {
    (
        label(),
        any::<bool>(),
        vec(cluster(), 1..3),
        btree_set(network(), 0..3),
        btree_set(link(), 0..3),
        limits(),
    )
        .prop_flat_map(|(id, suspended, clusters, networks, links, limits)| {
            let origins: Vec<Origin> = std::iter::once(Origin::Public)
                .chain(networks.iter().cloned().map(Origin::Network))
                .chain(links.iter().cloned().map(Origin::PrivateLink))
                .collect();
            let names: Vec<String> = (0..clusters.len())
                .map(|number| ["no", "1e3", "c"][number % 3].to_owned())
                .collect();
            vec(endpoint(names.clone(), origins), 0..4).prop_map(move |endpoints| Tenant {
                id: id.parse().unwrap(),
                suspended,
                clusters: names
                    .iter()
                    .map(|name| name.parse().unwrap())
                    .zip(clusters.clone())
                    .collect(),
                networks: networks.clone(),
                private_links: links.clone(),
                endpoints: (0..)
                    .zip(endpoints)
                    .map(|(number, mut endpoint): (usize, Endpoint)| {
                        let name = ServerName::parse(&format!("e{number}.example.net")).unwrap();
                        endpoint.names.push(name);
                        let id = ["null", "true", "0x1", "e"][number % 4];
                        (id.parse().unwrap(), endpoint)
                    })
                    .collect(),
                limits,
            })
        })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let tls = prop_oneof![
        Just(UpstreamTls::Unencrypted),
        (
            prop_oneof![Just("db.example"), Just("192.0.2.1"), Just("DB_1.example")],
            pem()
        )
            .prop_map(|(name, authorities)| UpstreamTls::Verified {
                server_name: name.to_owned(),
                authorities
            }),
    ];
    let via = prop_oneof![
        "[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,60}".prop_map(Via::NetworkNamespace),
        "[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,14}".prop_map(Via::Interface),
    ];
    let host = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
        "[a-z]{1,9}\\.example",
    ];
    let backend = (host, 1..=u16::MAX).prop_map(|(host, port)| Backend { host, port });
    let service = (role(), role()).prop_map(|(role, database)| Service { role, database });
    (
        any::<bool>(),
        btree_set(backend, 1..4),
        tls,
        option::of(via),
        option::of(service),
    )
        .prop_map(|(yugabytedb, backends, tls, via, service)| Cluster {
            engine: if yugabytedb {
                Engine::Yugabytedb
            } else {
                Engine::Postgresql
            },
            backends: backends.into_iter().collect(),
            tls,
            via,
            service,
        })
}

fn endpoint(clusters: Vec<String>, origins: Vec<Origin>) -> impl Strategy<Value = Endpoint> {
    (
        prop::sample::select(clusters),
        any::<bool>(),
        any::<bool>(),
        authentication(),
        prop::sample::subsequence(origins.clone(), 0..=origins.len()),
        vec(entry(origins), 0..5),
    )
        .prop_map(
            |(cluster, suspended, replication, authentication, doors, allow)| Endpoint {
                cluster: cluster.parse().unwrap(),
                names: Vec::new(),
                suspended,
                replication: if replication {
                    Replication::Allowed
                } else {
                    Replication::Refused
                },
                authentication,
                doors: doors.into_iter().collect::<BTreeSet<_>>(),
                allow,
            },
        )
}

fn authentication() -> impl Strategy<Value = Authentication> {
    let names = vec(("(uri|dns|email|cn):", words(), role()), 1..4).prop_map(|rules| {
        let rules: BTreeMap<String, String> = rules
            .into_iter()
            .map(|(kind, value, role)| (format!("{kind}{value}."), role))
            .collect();
        let rule = |(name, role)| CertificateRule { name, role };
        rules.into_iter().map(rule).collect()
    });
    let values = vec((words(), role()), 1..4).prop_map(|rules| {
        let rules: BTreeMap<String, String> = rules
            .into_iter()
            .map(|(value, role)| (format!("{value}."), role))
            .collect();
        let rule = |(value, role)| TokenRule { value, role };
        rules.into_iter().map(rule).collect()
    });
    let keys = prop_oneof![
        Just(TokenKeys::Inline(KEYS.to_owned())),
        Just(TokenKeys::Inline(KEYS.trim_end().to_owned())),
        Just(TokenKeys::Inline(format!("  \n\t{KEYS}\r\n\n"))),
        Just(TokenKeys::Url(
            "https://id.example/a b?x#y".replace(' ', "%20")
        )),
    ];
    prop_oneof![
        Just(Authentication::Scram),
        Just(Authentication::Relay),
        (pem(), names)
            .prop_map(|(authorities, map)| Authentication::Certificate { authorities, map }),
        (role(), role(), keys, role(), values).prop_map(|(issuer, audience, keys, claim, map)| {
            Authentication::Token {
                issuer,
                audience,
                keys,
                claim,
                map,
            }
        }),
    ]
}

/// Entries of length 2 at least, so that no two of them are everyone.
fn entry(origins: Vec<Origin>) -> impl Strategy<Value = Entry> {
    let v4 = (any::<u32>(), 8..=32_u32).prop_map(|(bits, length)| {
        let first = std::net::Ipv4Addr::from_bits(bits & (u32::MAX << (32 - length)));
        Prefix::parse(&format!("{first}/{length}")).unwrap()
    });
    let v6 = (any::<u128>(), 16..=128_u32).prop_map(|(bits, length)| {
        let bits = (bits | 1 << 126) & (u128::MAX << (128 - length));
        Prefix::parse(&format!("{}/{length}", std::net::Ipv6Addr::from_bits(bits))).unwrap()
    });
    let prefix = prop_oneof![v4, v6];
    let addresses = prop_oneof![
        (Just(Addresses::Anywhere), vec(prefix.clone(), 0..3)),
        prefix.prop_map(|prefix| (Addresses::Prefix(prefix), vec![prefix])),
    ];
    (
        addresses,
        prop::sample::select(origins),
        words(),
        words(),
        option::of(0..=Timestamp::LAST.as_millis()),
    )
        .prop_map(
            |((addresses, except), origin, note, owner, expires)| Entry {
                addresses,
                origin,
                except,
                note,
                owner,
                expires: expires.map(Timestamp::from_millis),
            },
        )
}

fn limits() -> impl Strategy<Value = TenantLimits> {
    let limit = || option::of(1..=u32::MAX);
    let on_stale = prop_oneof![
        Just(OnStale::Serve),
        Just(OnStale::REFUSE),
        (10..=86_400_u32).prop_map(OnStale::RefuseAfter),
    ];
    (limit(), limit(), limit(), on_stale).prop_map(|(all, each, rate, on_stale)| TenantLimits {
        connections: all,
        connections_per_endpoint: each,
        new_connections_per_second: rate,
        on_stale,
    })
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        prop::sample::select(vec!["null", "true", "no", "1e3", "0x1f", "007", "1-1"])
            .prop_map(str::to_owned),
    ]
}

fn network() -> impl Strategy<Value = portcullis_policy::NetworkId> {
    "[a-z0-9]{1,8}([/._][a-z0-9]{1,8}){0,2}".prop_map(|text| text.parse().unwrap())
}

fn link() -> impl Strategy<Value = PrivateLinkId> {
    prop_oneof![
        "aws:vpce-[0-9a-f]{1,17}",
        "azure:[1-9][0-9]{0,8}",
        "gcp:[1-9][0-9]{0,17}"
    ]
    .prop_map(|text| text.parse().unwrap())
}

/// Text such as a document may hold, full of what YAML could take for its own.
fn words() -> impl Strategy<Value = String> {
    let turns_text = |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let words = prop_oneof![
        "\\PC{0,40}",
        "[-?:,\\[\\]{}#&*!|>'\"%@`~ =<a0\u{ad}\u{202e}\u{2028}\u{feff}]{0,12}",
        prop::sample::select(vec![
            "~",
            "null",
            "yes",
            "1.0",
            "2027-01-01",
            "=",
            "<<",
            "- a",
            "a: b",
            " a ",
            "a #b",
            "\u{2029}"
        ])
        .prop_map(str::to_owned),
    ];
    words.prop_map(move |text| text.chars().filter(|c| !turns_text(c)).collect())
}

fn role() -> impl Strategy<Value = String> {
    // At most 63 bytes, and never empty.
    words().prop_map(|text| {
        let mut role: String = text.chars().take(15).collect();
        role.push('x');
        role
    })
}

fn pem() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        PEM.to_owned(),
        PEM.trim_end().to_owned(),
        format!("{PEM}\n\n"),
        format!("\n  # a comment: 'x'\n\n{PEM}{PEM}"),
        PEM.replace('\n', "\r\n"),
    ])
}

const PEM: &str = include_str!("../../../testdata/policy-good/ca/acme-db.pem");
const KEYS: &str = include_str!("../../../testdata/policy-good/keys/acme.json");

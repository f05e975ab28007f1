//! Documents that do not hold together, each refused with its place and reason.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::{EntryWords, at, endpoint, entry, name, server_name, tenant};
use portcullis_policy::*;

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
    acme
}

fn orders(tenant: &mut Tenant) -> &mut Endpoint {
    tenant
        .endpoints
        .get_mut(&name::<EndpointId>("orders"))
        .unwrap()
}

fn main_cluster(tenant: &mut Tenant) -> &mut Cluster {
    tenant.clusters.get_mut(&name::<ClusterId>("main")).unwrap()
}

/// Changes the good document and expects `place: reason`, or nothing to complain about.
fn check(change: impl Fn(&mut Tenant), expected: &str) {
    let mut document = acme();
    change(&mut document);
    let said = document
        .validate()
        .map_or_else(|error| error.to_string(), |()| String::from("fine"));
    assert_eq!(said, expected);
}

/// The same for the allow list of `orders`.
fn check_allow(allow: Vec<Entry>, expected: &str) {
    check(|acme| orders(acme).allow = allow.clone(), expected);
}

#[test]
fn a_good_document_is_fine() {
    check(|_| (), "fine");
    check_allow(vec![], "fine");
}

#[test]
fn excepts_lie_inside_their_entry() {
    let place = "endpoints.orders.allow[1].except[1]";
    let with = |prefix: &str, except: &[&str]| {
        vec![
            entry("192.0.2.1", "public"),
            entry(prefix, "public").except(except),
        ]
    };
    check_allow(
        with("203.0.113.0/24", &["203.0.113.9", "203.0.113.0/24"]),
        "fine",
    );
    check_allow(
        with("203.0.113.0/24", &["203.0.113.9", "203.0.112.0/23"]),
        &format!("{place}: 203.0.112.0/23 is not inside 203.0.113.0/24"),
    );
    check_allow(
        with("203.0.113.0/24", &["203.0.113.9", "2001:db8::1"]),
        &format!("{place}: 2001:db8::1/128 is not inside 203.0.113.0/24"),
    );
    check_allow(with("anywhere", &["203.0.113.9", "2001:db8::1"]), "fine");
}

#[test]
fn doors_and_entries_are_the_tenants_own() {
    let not_ours = |place: &str, origin: &str| {
        format!("{place}: {origin} is not among the tenant's networks and private links")
    };
    check(
        |acme| assert!(orders(acme).doors.insert(name("network:globex-vpc"))),
        &not_ours("endpoints.orders.doors", "network:globex-vpc"),
    );
    check_allow(
        vec![entry("10.0.0.0/8", "private-link:gcp:7")],
        &not_ours("endpoints.orders.allow[0].origin", "private-link:gcp:7"),
    );
    check_allow(vec![entry("10.0.0.0/8", "private-link:azure:7")], "fine");
}

#[test]
fn endpoints_lead_somewhere_and_are_called_something() {
    check(
        |acme| orders(acme).cluster = name("copy"),
        "endpoints.orders.cluster: the tenant has no cluster copy",
    );
    check(
        |acme| orders(acme).names.clear(),
        "endpoints.orders.names: at least one name is needed",
    );
    let numbered = |count| {
        (0..count)
            .map(|n| server_name(&format!("n{n}")))
            .collect::<Vec<_>>()
    };
    check(|acme| orders(acme).names = numbered(16), "fine");
    check(
        |acme| orders(acme).names = numbered(17),
        "endpoints.orders.names: 17 names are more than 16",
    );
    check(
        |acme| orders(acme).names.push(name("ACME-orders.db.example.net")),
        "endpoints.orders.names[1]: acme-orders.db.example.net is already a name of endpoint orders",
    );
    check(
        |acme| {
            drop(
                acme.endpoints
                    .insert(name("stock"), endpoint("acme-orders", &[], vec![])),
            )
        },
        "endpoints.stock.names[0]: acme-orders.db.example.net is already a name of endpoint orders",
    );
}

#[test]
fn moments_are_between_1970_and_9999() {
    let out = "endpoints.orders.allow[0].expires: the moment is not between 1970 and 9999";
    check_allow(vec![entry("192.0.2.1", "public").until(-1)], out);
    check_allow(vec![entry("192.0.2.1", "public").until(0)], "fine");
    check_allow(
        vec![Entry {
            expires: Some(Timestamp::LAST),
            ..entry("192.0.2.1", "public")
        }],
        "fine",
    );
    check_allow(
        vec![Entry {
            expires: Some(Timestamp::LAST.plus_millis(1)),
            ..entry("192.0.2.1", "public")
        }],
        out,
    );
}

#[test]
fn clusters_have_backends_that_can_be_reached_and_names_that_can_be_written() {
    let backend = |host: &str, port| Backend {
        host: host.to_owned(),
        port,
    };
    let with = |backends: Vec<Backend>, expected: &str| {
        check(
            |acme| main_cluster(acme).backends.clone_from(&backends),
            expected,
        );
    };
    with(
        vec![],
        "clusters.main.backends: at least one backend is needed",
    );
    with(
        vec![
            backend("db.acme.internal", 5432),
            backend("2001:db8::1", 5432),
            backend("db_1", 1),
        ],
        "fine",
    );
    with((1..=16).map(|port| backend("db", port)).collect(), "fine");
    with(
        (1..=17).map(|port| backend("db", port)).collect(),
        "clusters.main.backends: 17 backends are more than 16",
    );
    with(
        vec![backend("db", 0)],
        "clusters.main.backends[0]: the port must not be 0",
    );
    with(
        vec![backend("db", 1), backend("db", 1)],
        "clusters.main.backends[1]: db:1 is written twice",
    );
    for host in [
        "",
        "db:5432",
        "[::1]",
        "a b",
        "db.",
        "10.1",
        "0x7f.1.2.3",
        "010.0.0.1",
        "-db",
        "db/..",
        "fe80::1%eth0",
    ] {
        let quoted = format!("{host:?}");
        with(
            vec![backend(host, 1)],
            &format!("clusters.main.backends[0]: {quoted} is not a host name or IP address"),
        );
    }
    let tls = |server_name: &str, authorities: &str| UpstreamTls::Verified {
        server_name: server_name.to_owned(),
        authorities: authorities.to_owned(),
    };
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    check(
        |acme| main_cluster(acme).tls = tls("db.acme.internal", pem),
        "fine",
    );
    check(
        |acme| main_cluster(acme).tls = tls("", pem),
        "clusters.main.tls.server-name: \"\" is not a host name or IP address",
    );
    check(
        |acme| main_cluster(acme).tls = tls("db", ""),
        "clusters.main.tls.authorities: \"\" is not a PEM bundle of certificates",
    );
}

#[test]
fn namespaces_and_interfaces_cannot_leave_their_directory() {
    for bad in [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a b",
        "a\0",
        ".hidden",
        &"n".repeat(65),
    ] {
        let mut document = acme();
        main_cluster(&mut document).via = Some(Via::NetworkNamespace(bad.to_owned()));
        assert!(document.validate().is_err(), "{bad:?}");
    }
    check(
        |acme| main_cluster(acme).via = Some(Via::NetworkNamespace(String::from("acme.vpc_1"))),
        "fine",
    );
    check(
        |acme| main_cluster(acme).via = Some(Via::Interface("e".repeat(15))),
        "fine",
    );
    check(
        |acme| main_cluster(acme).via = Some(Via::Interface("e".repeat(16))),
        "clusters.main.via.interface: \"eeeeeeeeeeeeeeee\" is not the name of a network interface",
    );
}

#[test]
fn words_are_one_line_and_do_not_lie_on_a_terminal() {
    let note = |note: &str| {
        vec![Entry {
            note: note.to_owned(),
            ..entry("192.0.2.1", "public")
        }]
    };
    check_allow(note("Büro, 2. Stock"), "fine");
    check_allow(note(&"x".repeat(512)), "fine");
    check_allow(
        note(&"x".repeat(513)),
        "endpoints.orders.allow[0].note: the note is longer than 512 bytes",
    );
    for bad in ["a\nb", "a\u{1b}[31m", "a\u{202e}b", "a\u{2028}b", "\0"] {
        let mut document = acme();
        orders(&mut document).allow = note(bad);
        assert!(document.validate().is_err(), "{bad:?}");
    }
    let service = |role: &str| {
        Some(Service {
            role: role.to_owned(),
            database: String::from("postgres"),
        })
    };
    check(
        |acme| main_cluster(acme).service = service("portcullis_service"),
        "fine",
    );
    check(
        |acme| main_cluster(acme).service = service(""),
        "clusters.main.service.role: the role is empty",
    );
    check(
        |acme| main_cluster(acme).service = service(&"r".repeat(64)),
        "clusters.main.service.role: the role is longer than 63 bytes",
    );
}

#[test]
fn authentication_names_whom_it_believes_and_whom_it_signs_in() {
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let rule = |name: &str, role: &str| CertificateRule {
        name: name.to_owned(),
        role: role.to_owned(),
    };
    let certificate = |authorities: &str, map: Vec<CertificateRule>, expected: &str| {
        let authorities = authorities.to_owned();
        let authentication = Authentication::Certificate { authorities, map };
        check(
            |acme| orders(acme).authentication = authentication.clone(),
            expected,
        );
    };
    let at = "endpoints.orders.authentication.certificate";
    certificate(
        pem,
        vec![
            rule("uri:spiffe://acme/app", "app"),
            rule("uri:spiffe://acme/app", "report"),
        ],
        "fine",
    );
    certificate(
        "",
        vec![rule("cn:app", "app")],
        &format!("{at}.authorities: \"\" is not a PEM bundle of certificates"),
    );
    certificate(
        pem,
        vec![],
        &format!("{at}.map: at least one rule is needed"),
    );
    certificate(
        pem,
        vec![rule("cn:a", "a"), rule("cn:a", "a")],
        &format!("{at}.map[1]: the rule for \"cn:a\" is written twice"),
    );
    certificate(
        pem,
        vec![rule("cn:app", "")],
        &format!("{at}.map[0].role: the role is empty"),
    );
    for name in ["app", "cn:", "CN:app", "ip:10.0.0.1"] {
        let expected = format!(
            "{at}.map[0].name: {name:?} is not a certificate name: uri:…, dns:…, email:… or cn:…"
        );
        certificate(pem, vec![rule(name, "app")], &expected);
    }

    let token = |keys: TokenKeys, issuer: &str, expected: &str| {
        let authentication = Authentication::Token {
            issuer: issuer.to_owned(),
            audience: String::from("db"),
            keys,
            claim: String::from("sub"),
            map: vec![TokenRule {
                value: String::from("app"),
                role: String::from("app"),
            }],
        };
        check(
            |acme| orders(acme).authentication = authentication.clone(),
            expected,
        );
    };
    let at = "endpoints.orders.authentication.token";
    let url = |url: &str| TokenKeys::Url(url.to_owned());
    token(
        url("https://id.acme.example/keys"),
        "https://id.acme.example",
        "fine",
    );
    token(
        url("https://id.acme.example/keys"),
        "",
        &format!("{at}.issuer: the issuer is empty"),
    );
    for bad in [
        "http://id.acme.example/keys",
        "https://",
        "https:///keys",
        "https://a b",
    ] {
        token(
            url(bad),
            "i",
            &format!("{at}.keys-url: {bad:?} is not an address that begins with https://"),
        );
    }
    token(
        TokenKeys::Inline(String::from(" ")),
        "i",
        &format!("{at}.keys: the key set is empty"),
    );
}

#[test]
fn a_limit_of_nothing_is_said_by_suspending() {
    check(
        |acme| acme.limits.connections_per_endpoint = Some(0),
        "limits.connections-per-endpoint: connections-per-endpoint must not be 0",
    );
    check(|acme| acme.limits.connections = Some(1), "fine");
    for (seconds, said) in [
        (
            9,
            "limits.on-stale: refuse-after 9: write 10 to 86400 seconds",
        ),
        (10, "fine"),
        (86_400, "fine"),
        (
            86_401,
            "limits.on-stale: refuse-after 86401: write 10 to 86400 seconds",
        ),
    ] {
        let on_stale = OnStale::RefuseAfter(seconds);
        check(|acme| acme.limits.on_stale = on_stale, said);
    }
    let unsaid = TenantLimits::none_said();
    assert_eq!(
        unsaid.connections_or_default(),
        limits::DEFAULT_TENANT_CONNECTIONS
    );
}

#[test]
fn every_list_has_its_maximum() {
    let count = limits::MAX_ATTACHMENTS;
    check(
        |acme| {
            acme.networks
                .extend((0..count).map(|n| name::<NetworkId>(&format!("n{n}"))))
        },
        "networks: 1001 networks are more than 1000",
    );
    check(
        |acme| {
            for n in 0..limits::MAX_ENDPOINTS {
                acme.endpoints.insert(
                    name(&format!("e{n}")),
                    endpoint(&format!("e{n}"), &[], vec![]),
                );
            }
        },
        "endpoints: 1001 endpoints are more than 1000",
    );
    let moment = at(0);
    assert!(
        warnings(&acme(), moment)
            .iter()
            .all(|warning| !warning.to_string().is_empty())
    );
}

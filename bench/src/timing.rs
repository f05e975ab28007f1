//! Whether the time that a denial takes tells what its words do not.
//!
//! Cases of one class are tried in turn, each time from another address, and each is compared with
//! the first of its class. A difference is one when chance does not explain it and it is large
//! enough to be put to use across a network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Instant;

use portcullis_tests::balancer::{aws_link, proxy_v2};
use portcullis_tests::client::tagged;
use portcullis_tests::{
    EndpointText, Gateway, Listener, Postgres, TenantText, TestAuthority, Version,
};
use serde_json::json;

use crate::board::Board;
use crate::client::{Caller, Sessions};
use crate::machine::load;
use crate::report::Table;
use crate::sample::quantile;
use crate::scram::Keys;
use crate::stage::{DATABASE, PASSWORD, Target, USER};
use crate::statistics::{Comparison, compare};
use crate::ways::{Behind, Way};

/// Attempts of each case.
const ATTEMPTS: u32 = 1_000;
/// Untimed attempts of each case before them: every role has been asked for.
const WARM_UP: u32 = 2 * ROLES;
/// Roles of each case of authentication, which take turns.
const ROLES: u32 = 25;
/// The product makes a role wait that fails so often within a minute; measured is what comes before.
const FREE_FAILURES: u32 = 100;
const _: () = assert!((WARM_UP + ATTEMPTS).div_ceil(ROLES) < FREE_FAILURES);
/// Chance explains less than this of what is called a difference, all comparisons together.
const SIGNIFICANT: f64 = 0.001;
/// Microseconds by which medians must differ to be called different: far below what a network's own
/// jitter lets anybody see in a thousand attempts.
const PRACTICAL: f64 = 20.0;
/// Where attempts behind the load balancer say that they come from.
const BEHIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 5432);

const ORDERS: &str = "orders.db.test";

/// Before authentication: by which listener, and whom it asks for. The first of each listener is a
/// name that does not exist.
const PLACES: [(Door, &str, &str); 11] = [
    (Door::Public, "unknown endpoint", "nothing.db.test"),
    (Door::Public, "no public door", "far.db.test"),
    (Door::Public, "address not listed", "listed.db.test"),
    (Door::Public, "tenant suspended", "closed.db.test"),
    (Door::Public, "endpoint suspended", "paused.db.test"),
    (Door::Network, "unknown endpoint", "nothing.db.test"),
    (Door::Network, "wrong network", "far.db.test"),
    (Door::Network, "tenant suspended", "closed.db.test"),
    (Door::Link, "unknown endpoint", "nothing.db.test"),
    (Door::Link, "wrong private link", "far.db.test"),
    (Door::Link, "tenant suspended", "closed.db.test"),
];

/// In authentication: what the roles' names begin with, with what password they come, and how they
/// are made, if they are. All that exist have a verifier of the same kind.
const USERS: [(&str, &str, &str, Option<&str>); 4] = [
    ("wrong password", "member", "wrong", Some("login")),
    ("unknown user", "nobody", "wrong", None),
    ("may not log in", "sleeper", PASSWORD, Some("nologin")),
    (
        "password expired",
        "former",
        PASSWORD,
        Some("login valid until '2020-01-01'"),
    ),
];

/// Measures; `Err` tells which cases can be told apart.
pub(crate) fn measure(board: &mut Board) -> (Table, Result<(), String>) {
    let scene = Scene::set();
    let loaded = load();
    let mut classes = scene.before_authentication();
    classes.extend(scene.in_authentication());
    let comparisons: usize = classes.iter().map(|class| class.cases.len() - 1).sum();
    let mut table = Table::new(
        "denials: does their timing tell them apart?",
        &[
            "class, case",
            "median µs",
            "p99",
            "to the first",
            "KS distance",
            "p, corrected",
            "verdict",
        ],
    );
    let mut told_apart = Vec::new();
    for class in &classes {
        let (_, first) = &class.cases[0];
        for (index, (case, took)) in class.cases.iter().enumerate() {
            let compared = (index > 0).then(|| compare(took, first));
            let corrected = compared.map(|it| (it.p * comparisons as f64).min(1.0));
            let apart = compared
                .zip(corrected)
                .is_some_and(|(it, p)| p < SIGNIFICANT && it.median_difference.abs() > PRACTICAL);
            if apart {
                told_apart.push(format!("{}: {case}", class.name));
            }
            let mut sorted = took.clone();
            let (median, most) = (quantile(&mut sorted, 0.5), quantile(&mut sorted, 0.99));
            let cell = |figure: fn(&Comparison) -> String| {
                compared.as_ref().map_or("–".to_owned(), figure)
            };
            table.row(
                vec![
                    format!("{}: {case}", class.name),
                    format!("{median:.0}"),
                    format!("{most:.0}"),
                    cell(|it| format!("{:+.1}", it.median_difference)),
                    cell(|it| format!("{:.3}", it.distance)),
                    corrected.map_or("–".to_owned(), |p| format!("{p:.3}")),
                    match (compared, apart) {
                        (None, _) => "–",
                        (Some(_), true) => "FAIL",
                        (Some(_), false) => "alike",
                    }
                    .to_owned(),
                ],
                json!({
                    "class": class.name,
                    "case": case,
                    "attempts": took.len(),
                    "median µs": median,
                    "p99 µs": most,
                    "median less the first case's, µs": compared.map(|it| it.median_difference),
                    "Kolmogorov-Smirnov distance": compared.map(|it| it.distance),
                    "p": compared.map(|it| it.p),
                    "p, corrected": corrected,
                    "told apart": apart,
                    "load before": loaded,
                }),
            );
        }
    }
    table.note(format!(
        "{ATTEMPTS} attempts each, in turn; two-sample Kolmogorov–Smirnov tests, p multiplied by the {comparisons} comparisons (Bonferroni)"
    ));
    table.note(format!(
        "in authentication: {ROLES} roles of each case take turns, so that none fails {FREE_FAILURES} times and has to wait"
    ));
    table.note(format!(
        "FAIL: p below {SIGNIFICANT} and medians more than {PRACTICAL} µs apart; either alone is chance, or nothing that shows across a network"
    ));
    let verdict = if told_apart.is_empty() {
        Ok(())
    } else {
        Err(format!("timing tells these denials apart: {told_apart:?}"))
    };
    board.line(match &verdict {
        Ok(()) => format!(
            "timing of denials: {comparisons} comparisons of {ATTEMPTS} attempts each, none told apart (Kolmogorov–Smirnov, p < {SIGNIFICANT} and medians > {PRACTICAL} µs apart)"
        ),
        Err(told) => told.clone(),
    });
    (table, verdict)
}

/// Cases that should be alike, and the microseconds that each attempt took.
struct Class {
    name: &'static str,
    cases: Vec<(&'static str, Vec<f64>)>,
}

/// What a listener establishes about who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Public,
    Network,
    Link,
}

impl Door {
    const ALL: [Self; 3] = [Self::Public, Self::Network, Self::Link];

    fn name(self) -> &'static str {
        match self {
            Self::Public => "28000 from the internet",
            Self::Network => "28000 from a network",
            Self::Link => "28000 by private link",
        }
    }
}

/// Every name of a kind is equally long.
fn role(kind: &str, number: u32) -> String {
    format!("{kind}_{number:02}")
}

/// A gateway with something to deny at every door.
struct Scene {
    gateway: Gateway,
    _server: Postgres,
}

impl Scene {
    fn set() -> Self {
        let clients = TestAuthority::new("Database clients");
        let server = Postgres::builder(Version::V15)
            .client_authority(&clients)
            .role(USER, PASSWORD)
            .served()
            .start();
        for (_, kind, _, made) in USERS {
            let Some(made) = made else { continue };
            let create = |number| {
                let name = role(kind, number);
                format!("create role {name} {made} password '{PASSWORD}';")
            };
            server.sql(&(0..ROLES).map(create).collect::<String>());
        }
        let limits = "{new-connections-per-second: 100000}";
        let paused = EndpointText::new("paused", "paused.db.test").more("    suspended: true\n");
        let acme = TenantText::new("acme")
            .network("acme-vpc")
            .cluster("orders", &server)
            .endpoint(EndpointText::new("orders", ORDERS).allow("127.0.0.0/8", "public"))
            .endpoint(
                EndpointText::new("far", "far.db.test")
                    .cluster("orders")
                    .allow("127.0.0.0/8", "network:acme-vpc"),
            )
            .endpoint(
                EndpointText::new("listed", "listed.db.test")
                    .cluster("orders")
                    .allow("192.0.2.0/24", "public"),
            )
            .endpoint(paused.cluster("orders").allow("127.0.0.0/8", "public"))
            .limits(limits);
        let closed = TenantText::new("closed")
            .cluster("closed", &server)
            .endpoint(EndpointText::new("closed", "closed.db.test").allow("127.0.0.0/8", "public"));
        let other = TenantText::new("other")
            .network("other-vpc")
            .private_link("aws:vpce-other")
            .limits(limits);
        let gateway = Gateway::builder()
            .listener(Listener::public())
            .listener(Listener::network("other-vpc"))
            .listener(Listener::private_links("aws", "127.0.0.0/8"))
            .tenant(&acme)
            .policy_text(
                "closed.yaml",
                &format!("{}suspended: true\n", closed.yaml()),
            )
            .tenant(&other)
            .signs_in_at("acme", &clients)
            .start();
        let status = gateway.ask(&["status"]);
        assert_eq!(status["tenants"], 3, "{}", gateway.log_text());
        Self {
            gateway,
            _server: server,
        }
    }

    /// From the start-up packet to the error.
    fn before_authentication(&self) -> Vec<Class> {
        let mut measured = PLACES.map(|_| Vec::new());
        for attempt in 0..WARM_UP + ATTEMPTS {
            for ((door, _, name), took) in PLACES.iter().zip(&mut measured) {
                let mut client = self.caller(*door, name, attempt).connect().expect("TLS");
                let began = Instant::now();
                client.start(USER, DATABASE).expect("an open socket");
                assert_eq!(client.read().expect("an answer"), b'E', "{door:?} {name}");
                let elapsed = began.elapsed().as_secs_f64() * 1e6;
                let told = String::from_utf8_lossy(client.body()).into_owned();
                assert!(told.contains("\0C28000\0"), "{door:?} {name}: {told}");
                if attempt >= WARM_UP {
                    took.push(elapsed);
                }
            }
        }
        let mut classes = Door::ALL.map(|door| Class {
            name: door.name(),
            cases: Vec::new(),
        });
        for ((door, case, _), took) in PLACES.iter().zip(measured) {
            let class = classes.iter_mut().find(|class| class.name == door.name());
            class.expect("every door").cases.push((*case, took));
        }
        classes.into()
    }

    /// From the first message to the challenge, and from the proof to the error.
    fn in_authentication(&self) -> Vec<Class> {
        let mut challenged = USERS.map(|_| Vec::new());
        let mut refused = USERS.map(|_| Vec::new());
        // Salting a password takes longer than all that is measured here: once for each role.
        let mut keys = BTreeMap::<String, OnceLock<Keys>>::new();
        for attempt in 0..WARM_UP + ATTEMPTS {
            for (index, (case, kind, password, _)) in USERS.iter().enumerate() {
                let user = role(kind, attempt % ROLES);
                let caller = self.caller(Door::Public, ORDERS, attempt);
                let mut client = caller.connect().expect("TLS");
                let began = Instant::now();
                client.start(&user, DATABASE).expect("an open socket");
                let exchange = client.challenged(&user).expect("a challenge");
                let until_challenge = began.elapsed().as_secs_f64() * 1e6;
                let proof = exchange.proof(keys.entry(user).or_default(), password);
                let proof = tagged(b'p', &proof);
                let began = Instant::now();
                client.send(&proof).expect("an open socket");
                assert_eq!(client.read().expect("an answer"), b'E', "{case}");
                let until_refused = began.elapsed().as_secs_f64() * 1e6;
                let told = String::from_utf8_lossy(client.body()).into_owned();
                assert!(told.contains("\0C28P01\0"), "{case}: {told}");
                if attempt >= WARM_UP {
                    challenged[index].push(until_challenge);
                    refused[index].push(until_refused);
                }
            }
        }
        let class = |name, measured: [Vec<f64>; USERS.len()]| Class {
            name,
            cases: USERS.iter().map(|(case, ..)| *case).zip(measured).collect(),
        };
        vec![
            class("28P01, until the challenge", challenged),
            class("28P01, after the proof", refused),
        ]
    }

    /// From another address each time, so that what is remembered of one is not in the way.
    fn caller(&self, door: Door, name: &'static str, attempt: u32) -> Caller {
        let [_, _, high, low] = attempt.to_be_bytes();
        let target = Target {
            address: self.gateway.address(),
            name,
            authorities: self.gateway.authorities_pem(),
        };
        let caller = Caller::new(Way::Gateway(Behind::Tls), target, Sessions::Fresh);
        match door {
            Door::Public => caller.from(Ipv4Addr::new(127, 1, high, low).into()),
            Door::Network => caller
                .to(self.gateway.listener(1))
                .from(Ipv4Addr::new(127, 1, high, low).into()),
            Door::Link => {
                let source = SocketAddr::new(Ipv4Addr::new(10, 1, high, low).into(), 40_000);
                let (kind, value) = aws_link("vpce-other");
                let header = proxy_v2(source, BEHIND, &[(kind, &value)]);
                caller.to(self.gateway.listener(2)).first(&header)
            }
        }
    }
}

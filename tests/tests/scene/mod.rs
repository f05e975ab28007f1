//! What most of these tests stand on: one server of each version for a whole test binary, a tenant
//! before it, and a database that must never be reached.
//!
//! The servers are shared: what a test adds to one (a role, a database) bears a name that no other
//! test uses. A test that changes what is there already, or counts what others do too, makes its own.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod session;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::time::Duration;

use portcullis_tests::client::{V3_0, startup, tagged};
use portcullis_tests::policy::cluster_lines;
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{
    EndpointText, Gateway, Listener, Message, Postgres, TenantText, TestAuthority, Version, wait,
};
use serde_json::Value;

/// The endpoint acme/orders, as clients call it.
pub(crate) const NAME: &str = "acme-orders.db.test";
/// Both servers.
pub(crate) const BOTH: [Version; 2] = [Version::V15, Version::V18];
/// How long anything that should happen soon may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The server of this version. It has the password role `app` (`secret`) and lets the gateway's
/// certificate in as `reports` and `batch`.
pub(crate) fn server(version: Version) -> &'static Postgres {
    static V15: OnceLock<Postgres> = OnceLock::new();
    static V18: OnceLock<Postgres> = OnceLock::new();
    let server = match version {
        Version::V15 => &V15,
        Version::V18 => &V18,
    };
    server.get_or_init(|| new_server(version))
}

/// The same, with a role (`secret`) for one test alone: it may count that role's backends.
pub(crate) fn with_role(version: Version, role: &str) -> &'static Postgres {
    let server = server(version);
    server.sql(&format!("create role {role} login password 'secret'"));
    server
}

/// The same server, but for one test alone.
pub(crate) fn new_server(version: Version) -> Postgres {
    Postgres::builder(version)
        .client_authority(clients())
        .role("app", "secret")
        .certificate_role("reports")
        .certificate_role("batch")
        .setting("log_statement", "all")
        .served()
        .start()
}

/// Who signs the gateway's certificates towards databases.
pub(crate) fn clients() -> &'static TestAuthority {
    static CLIENTS: OnceLock<TestAuthority> = OnceLock::new();
    CLIENTS.get_or_init(|| TestAuthority::new("Database clients"))
}

/// The endpoint acme/orders, open to everybody on this machine.
pub(crate) fn orders() -> EndpointText {
    EndpointText::new("orders", NAME).allow("127.0.0.0/8", "public")
}

/// Authentication by token: the one proof for which the gateway asks no database.
pub(crate) const TOKEN: &str = "{token: {issuer: x, audience: x, claim: sub, map: [{value: x, role: app}], \
    keys: '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}}";

/// The endpoint acme/orders, where clients are asked for a token.
pub(crate) fn asks_for_a_token() -> EndpointText {
    orders().authentication(TOKEN)
}

/// The tenant acme with one cluster and this endpoint.
pub(crate) fn acme(server: &Postgres, endpoint: EndpointText) -> TenantText {
    TenantText::new("acme")
        .cluster("orders", server)
        .endpoint(endpoint)
}

/// A gateway with a public listener before this tenant's databases.
pub(crate) fn gateway(tenant: &TenantText) -> Gateway {
    let gateway = Gateway::builder()
        .listener(Listener::public())
        .tenant(tenant)
        .signs_in_at(tenant.id(), clients())
        .start();
    assert_in_force(&gateway, 1);
    gateway
}

/// A gateway starts with a policy that it refuses, and then lets nobody in: no test may take that
/// for its answer.
pub(crate) fn assert_in_force(gateway: &Gateway, tenants: u64) {
    let status = gateway.ask(&["status"]);
    assert_eq!(status["tenants"], tenants, "{}", gateway.log_text());
}

/// 127.0.`network`.`host`: an address to call from.
pub(crate) fn here(network: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, network, host))
}

/// The audit event of this kind and code about the connection that came from `from`.
pub(crate) fn event(gateway: &Gateway, kind: &str, code: &str, from: SocketAddr) -> Value {
    gateway.event(&format!("{kind} {code} of {from}"), |event| {
        event["kind"] == kind
            && event["code"] == code
            && event["address"] == from.ip().to_string()
            && event["port"] == from.port()
    })
}

/// The audit event of this kind under the reference that an error carries.
pub(crate) fn event_of(gateway: &Gateway, kind: &str, refusal: &Message) -> Value {
    let reference = refusal.reference();
    gateway.event(&format!("{kind} {reference}"), |event| {
        event["kind"] == kind && event["reference"] == *reference
    })
}

/// An `ErrorResponse` with its reference made the same for all: what may not differ otherwise.
pub(crate) fn but_for_the_reference(refusal: &Message) -> String {
    let text = String::from_utf8_lossy(&refusal.body).into_owned();
    text.replace(&refusal.reference(), "PC-XXXX-XXXX-XXXX")
}

/// Waits until so many backends of `role` are there.
pub(crate) fn backends(server: &Postgres, role: &str, count: usize) {
    wait::wait_for(&format!("{count} backends of {role}"), SOON, || {
        server.connections_of(role) == count
    });
}

/// A start-up packet as this role, and the end behind it: whoever is let in leaves again.
pub(crate) fn start_and_end(role: &str) -> Vec<u8> {
    let packet = startup(V3_0, &[("user", role), ("database", "postgres")]);
    [packet, tagged(b'X', b"")].concat()
}

/// A database that must never be reached: it notices whoever tries.
pub(crate) struct Trap(TcpListener);

impl Trap {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("our own socket");
        Self(listener)
    }

    /// The tenant acme with this database behind its endpoint.
    pub(crate) fn acme(&self, endpoint: EndpointText) -> TenantText {
        self.tenant("acme").endpoint(endpoint)
    }

    /// A tenant with a cluster `orders` that is this database.
    pub(crate) fn tenant(&self, id: &str) -> TenantText {
        let address = self.0.local_addr().expect("bound").to_string();
        let lines = cluster_lines(&address, SERVER_NAME, &clients().pem(), "");
        TenantText::new(id).cluster_text("orders", &lines)
    }

    /// Nobody called, not even the gateway itself.
    pub(crate) fn assert_untouched(&self) {
        let called = self.0.accept();
        assert!(called.is_err(), "the database was reached: {called:?}");
    }
}

/// `certificate` mode by this authority, with these names mapped to roles.
pub(crate) fn certificate_mode(authorities_pem: &str, map: &[(&str, &str)]) -> String {
    let pem: String = authorities_pem
        .lines()
        .map(|line| format!("\n            {line}"))
        .collect();
    let rules: Vec<String> = map
        .iter()
        .map(|(name, role)| format!("{{name: \"{name}\", role: {role}}}"))
        .collect();
    format!(
        "\n      certificate:\n        authorities: |{pem}\n        map: [{}]",
        rules.join(", ")
    )
}

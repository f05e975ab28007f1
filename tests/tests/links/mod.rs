//! A gateway with a listener for the private links of each cloud, and load balancers before it.

pub(crate) mod spoiled;

use std::sync::OnceLock;

use portcullis_tests::balancer::proxy_v2;
use portcullis_tests::client::SSL_REQUEST;
use portcullis_tests::gateway::Builder;
use portcullis_tests::{
    Dial, Ending, EndpointText, Gateway, Listener, LoadBalancer, Postgres, Psql, RawClient,
    TenantText, TestAuthority, Version,
};
use serde_json::Value;

/// The clouds, in the order of their listeners.
pub(crate) const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
pub(crate) const AWS: usize = 0;
pub(crate) const AZURE: usize = 1;
pub(crate) const GCP: usize = 2;
/// Public, behind a balancer.
pub(crate) const PUBLIC: usize = 3;
/// Of acme-vpc, behind a balancer.
pub(crate) const NETWORK: usize = 4;
/// Public, with nothing before it.
pub(crate) const PLAIN: usize = 5;
/// The balancers' addresses, as the listeners trust them.
pub(crate) const TRUSTED: &str = "127.0.9.0/24";
/// Where clients connected to, by the header.
pub(crate) const HERE: &str = "10.9.0.1:5433";

pub(crate) struct Scene {
    pub(crate) server: Postgres,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let server = Postgres::builder(Version::V15)
            .client_authority(clients())
            .role("app", "secret")
            .served();
        Self {
            server: server.start(),
        }
    }

    pub(crate) fn empty(&self, id: &str) -> TenantText {
        TenantText::new(id).cluster("orders", &self.server)
    }

    /// A tenant whose endpoint admits everybody in public and 10.0.0.0/16 by these links.
    pub(crate) fn tenant(&self, id: &str, links: &[&str]) -> TenantText {
        let name = format!("{id}.db.test");
        let public = EndpointText::new("orders", &name).allow("anywhere", "public");
        let endpoint = links.iter().fold(public, |endpoint, link| {
            endpoint.allow("10.0.0.0/16", &format!("private-link:{link}"))
        });
        let tenant = self.empty(id).endpoint(endpoint);
        links
            .iter()
            .fold(tenant, |tenant, link| tenant.private_link(link))
    }

    pub(crate) fn gateway(&self, tenants: &[TenantText]) -> Gateway {
        let builder = CLOUDS.iter().fold(Gateway::builder(), |builder, cloud| {
            builder.listener(Listener::private_links(cloud, TRUSTED))
        });
        let builder = builder
            .listener(Listener::public().balanced(TRUSTED))
            .listener(Listener::network("acme-vpc").balanced(TRUSTED))
            .listener(Listener::public());
        let with = |builder: Builder, tenant: &TenantText| {
            builder.tenant(tenant).signs_in_at(tenant.id(), clients())
        };
        tenants.iter().fold(builder, with).start()
    }

    /// How many connections its database has had from anywhere but this test, of this role.
    pub(crate) fn called(&self, role: &str) -> usize {
        let log = self.server.log();
        let lines = log.lines().filter(|line| match role {
            "" => line.contains("connection received: host=127."),
            role => line.contains(&format!("connection authorized: user={role} ")),
        });
        lines.count()
    }
}

fn clients() -> &'static TestAuthority {
    static CLIENTS: OnceLock<TestAuthority> = OnceLock::new();
    CLIENTS.get_or_init(|| TestAuthority::new("Database clients"))
}

/// The header of the consumer that every network has one of.
pub(crate) fn consumer(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    proxy_v2(
        "10.0.0.7:1111".parse().unwrap(),
        HERE.parse().unwrap(),
        tlvs,
    )
}

pub(crate) fn balancer(
    gateway: &Gateway,
    listener: usize,
    from: &str,
    header: Vec<u8>,
) -> LoadBalancer {
    LoadBalancer::start(gateway.listener(listener), from.parse().unwrap(), header)
}

pub(crate) fn dial(gateway: &Gateway, balancer: &LoadBalancer, tenant: &str) -> Dial {
    Dial::tls(
        balancer.address(),
        &format!("{tenant}.db.test"),
        &gateway.authorities_pem(),
    )
}

pub(crate) fn psql(gateway: &Gateway, balancer: &LoadBalancer, tenant: &str) -> Psql {
    let name = format!("{tenant}.db.test");
    let psql = Psql::new(balancer.address(), &name, &gateway.authorities_pem());
    psql.user("app", "secret", "postgres")
}

/// The event of an attempt that policy denies.
pub(crate) fn denied(gateway: &Gateway, balancer: &LoadBalancer, tenant: &str) -> Value {
    let mut client = dial(gateway, balancer, tenant)
        .start(&[("user", "app")])
        .unwrap();
    let refusal = client.refusal();
    assert_eq!(refusal.sqlstate(), "28000");
    let reference = refusal.reference();
    gateway.event(&reference, |event| event["reference"] == reference)
}

/// The event of an attempt that ends without a word; `from` is the balancer's own address.
pub(crate) fn dropped(gateway: &Gateway, balancer: &LoadBalancer, from: &str) -> Value {
    let client = Dial::plain(balancer.address()).first(&SSL_REQUEST);
    assert_silence(&mut client.connect().unwrap());
    gateway.event(from, |event| event["address"] == from)
}

pub(crate) fn assert_silence(client: &mut RawClient) {
    let (told, ending) = client.read_to_end();
    assert_eq!(told, []);
    assert!(
        matches!(ending, Ending::Closed | Ending::Reset),
        "{ending:?}"
    );
}

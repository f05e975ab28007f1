//! Where the programs connect: through a gateway, or past it.

use std::net::TcpListener;
use std::sync::OnceLock;

use portcullis_tests::drivers::program::{Closed, Place};
use portcullis_tests::{Gateway, Listener, Postgres, TestAuthority, Version};

use crate::scene::{NAME, acme, assert_in_force, clients, orders};

/// A way to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the gateway to this server.
    Through(Version),
    /// At the server, past the gateway.
    Direct,
}

pub(crate) const WAYS: [Way; 3] = [
    Way::Through(Version::V15),
    Way::Through(Version::V18),
    Way::Direct,
];

/// The name that every machine can look up.
const HOST: &str = "localhost";
const PASSWORD: &str = "s3cret, with a blank";

struct Site {
    server: Postgres,
    gateway: Gateway,
    silent: TcpListener,
}

/// The place at that way for the role `user`, which is made if it is not there.
pub(crate) fn place(way: Way, user: &str) -> Place {
    let site = match way {
        Way::Through(version) => site(version),
        Way::Direct => site(Version::V18),
    };
    // Three runs may come at once; one of them makes the role.
    site.server.sql(&format!(
        "do $$ begin perform pg_advisory_xact_lock(1); \
         if not exists (select from pg_roles where rolname = '{user}') then \
         create role {user} login password '{PASSWORD}'; end if; end $$"
    ));
    let place = |address, authority, closed| Place {
        host: HOST.to_owned(),
        address,
        authority,
        other_authority: TestAuthority::new("Somebody else").pem(),
        user: user.to_owned(),
        password: PASSWORD.to_owned(),
        closed,
    };
    match way {
        Way::Direct => place(site.server.address(), site.server.authorities_pem(), None),
        Way::Through(_) => {
            let closed = Closed {
                denied: site.gateway.listener(1).port(),
                silent: site.silent.local_addr().expect("bound").port(),
            };
            place(
                site.gateway.address(),
                site.gateway.authorities_pem(),
                Some(closed),
            )
        }
    }
}

/// The gateway before that server.
pub(crate) fn gateway(version: Version) -> &'static Gateway {
    &site(version).gateway
}

fn site(version: Version) -> &'static Site {
    static V15: OnceLock<Site> = OnceLock::new();
    static V18: OnceLock<Site> = OnceLock::new();
    let site = match version {
        Version::V15 => &V15,
        Version::V18 => &V18,
    };
    site.get_or_init(|| {
        let server = Postgres::builder(version)
            .client_authority(clients())
            .server_name(HOST)
            .served()
            .start();
        let tenant = acme(&server, orders().name(HOST));
        let gateway = Gateway::builder()
            .names(&["*.db.test", HOST])
            .listener(Listener::public())
            .listener(Listener::network("nobodys"))
            .tenant(&tenant)
            .signs_in_at(tenant.id(), clients())
            .start();
        assert_in_force(&gateway, 1);
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        Site {
            server,
            gateway,
            silent,
        }
    })
}

/// The name by which drivers come that want a dot in it.
pub(crate) const DOTTED: &str = NAME;

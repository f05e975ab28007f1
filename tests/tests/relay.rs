//! Authentication by the database itself, carried through by the gateway.

mod scene;

use portcullis_tests::client::Binding;
use portcullis_tests::{Ending, Gateway, Message, Version};
use scene::{BOTH, NAME, acme, gateway, new_server, orders, server};

#[test]
fn the_database_asks_for_scram_and_the_client_answers_it() {
    for version in BOTH {
        let gateway = relaying(version);
        let psql = gateway.psql(NAME).user("app", "secret", "postgres");
        let told = psql
            .parameter("channel_binding", "disable")
            .run("select current_user");
        assert_eq!(told.ok(), "app", "{version:?}");
        let node = gateway.node_pg(NAME).user("app", "secret", "postgres");
        assert_eq!(node.query("select current_user").ok(), "app", "{version:?}");
    }
}

#[test]
fn the_database_may_ask_for_a_password_in_clear_or_by_md5() {
    let server = new_server(Version::V15);
    server.sql(
        "create role plain login password 'secret';
         set password_encryption = 'md5'; create role digest login password 'secret'",
    );
    server.replace_hba(&[
        "hostssl all portcullis_service all cert map=portcullis",
        "hostssl all plain all password",
        "hostssl all digest all md5",
        "hostssl all all all scram-sha-256",
    ]);
    let gateway = gateway(&acme(&server, orders().authentication("relay")));
    for user in ["plain", "digest"] {
        let psql = gateway.psql(NAME).user(user, "secret", "postgres");
        assert_eq!(psql.run("select current_user").ok(), user);
        let wrong = gateway.psql(NAME).user(user, "wrong", "postgres");
        assert!(
            wrong
                .run("select 1")
                .refused()
                .contains("authentication failed")
        );
    }
}

#[test]
fn a_client_that_would_bind_to_tls_is_refused_by_the_database_in_its_words() {
    let gateway = relaying(Version::V15);
    // libpq's default: it would bind, and is told that the server does not.
    let told = gateway
        .psql(NAME)
        .user("app", "secret", "postgres")
        .run("select 1");
    let told = told.refused();
    assert!(
        told.contains("SCRAM channel binding negotiation error"),
        "{told}"
    );
    // Required, the client itself refuses.
    let told = gateway
        .psql(NAME)
        .user("app", "secret", "postgres")
        .parameter("channel_binding", "require")
        .run("select 1");
    assert!(told.refused().contains("channel binding"), "{told}");

    let mut client = gateway
        .dial(NAME)
        .start(&[("user", "app"), ("database", "postgres")])
        .unwrap();
    let Err(Ending::Refused(refusal)) = client.authenticate("app", "secret", Binding::Unsupported)
    else {
        panic!("let in with a lie");
    };
    assert_eq!(refusal.sqlstate(), "28000");
}

#[test]
fn a_wrong_password_and_an_unknown_role_are_alike() {
    let gateway = relaying(Version::V15);
    let refusal = |user: &str| {
        let mut client = gateway
            .dial(NAME)
            .start(&[("user", user), ("database", "postgres")])
            .unwrap();
        match client.authenticate(user, "wrong", Binding::None) {
            Err(Ending::Refused(refusal)) => refusal,
            other => panic!("{user}: {other:?}"),
        }
    };
    let (known, unknown) = (refusal("app"), refusal("nob"));
    assert_eq!(known.sqlstate(), "28P01");
    let told = |refusal: &Message, user: &str| {
        let told = refusal.text().replace(user, "somebody");
        told.replace(&refusal.reference(), "PC-…")
    };
    assert_eq!(told(&known, "app"), told(&unknown, "nob"));
    assert!(
        known.text().contains("password authentication failed"),
        "{known:?}"
    );
    for user in ["app", "nob"] {
        gateway.event(user, |event| {
            event["kind"] == "authentication.failed" && event["user"] == user
        });
    }
}

fn relaying(version: Version) -> Gateway {
    gateway(&acme(server(version), orders().authentication("relay")))
}

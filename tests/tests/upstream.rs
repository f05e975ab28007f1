//! The gateway's own side towards the database: encrypted and verified, or nothing is said there.

mod scene;

use portcullis_tests::client::Binding;
use portcullis_tests::{Ending, Gateway, Postgres, TenantText, TestAuthority, Version};
use scene::{BOTH, NAME, acme, event_of, gateway, new_server, orders, server};

#[test]
fn the_database_sees_an_encrypted_connection_with_the_gateways_certificate() {
    for version in BOTH {
        let gateway = gateway(&acme(server(version), orders()));
        let psql = gateway.psql(NAME).user("app", "secret", "postgres");
        let told = psql.run("select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()");
        assert_eq!(told.ok(), "t|/CN=gateway.portcullis", "{version:?}");
    }
}

#[test]
fn a_database_that_does_not_show_who_it_is_hears_nothing() {
    let database = new_server(Version::V15);
    let good = acme(&database, orders().authentication("relay")).yaml();
    let indented = |pem: &str| -> String {
        pem.lines()
            .map(|line| format!("        {line}\n"))
            .collect()
    };
    let trusting = |pem: &str| good.replace(&indented(&database.authorities_pem()), &indented(pem));
    let same_name = server(Version::V15).authorities_pem();
    let other_name = TestAuthority::new("Globex databases").pem();
    for (yaml, code) in [
        (trusting(&same_name), "certificate"),
        (trusting(&other_name), "certificate_authority"),
        (
            good.replace("db.acme.internal", "db.globex.internal"),
            "certificate_name",
        ),
    ] {
        let gateway = Gateway::builder()
            .listener(portcullis_tests::Listener::public())
            .policy_text("acme.yaml", &yaml)
            .start();
        scene::assert_in_force(&gateway, 1);
        let refusal = refusal(&gateway, "app", "secret");
        assert_eq!(refusal.sqlstate(), "57P03");
        let event = event_of(&gateway, "upstream.failed", &refusal);
        assert_eq!(event["code"], code, "{event}");
    }
    assert!(!database.log().contains("user=app"), "{}", database.log());
}

#[test]
fn a_database_without_tls_is_reached_only_where_policy_says_so_in_words() {
    let database = Postgres::builder(Version::V15)
        .without_tls()
        .role("app", "secret")
        .start();
    let encrypted = gateway(&acme(&database, orders().authentication("relay")));
    let refused = refusal(&encrypted, "app", "secret");
    let event = event_of(&encrypted, "upstream.failed", &refused);
    assert_eq!(event["code"], "tls_not_offered");
    assert!(!database.log().contains("user=app"));

    let address = database.address();
    let lines = format!(
        "    engine: postgresql\n    backends: [\"{address}\"]\n    tls: unencrypted-and-unverified\n"
    );
    let tenant = TenantText::new("acme").cluster_text("orders", &lines);
    let plain = gateway(&tenant.endpoint(orders().authentication("relay")));
    // Nobody here can bind to TLS, so libpq's default is honest.
    let psql = plain.psql(NAME).user("app", "secret", "postgres");
    assert_eq!(
        psql.run("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            .ok(),
        "f"
    );
}

#[test]
fn a_database_that_asks_for_the_password_itself_gets_none() {
    let database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders()));
    let _ = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    for method in ["password", "trust", "reject"] {
        database.replace_hba(&[
            "hostssl all portcullis_service all cert map=portcullis",
            &format!("hostssl all all all {method}"),
        ]);
        let refused = refusal(&gateway, "app", "secret");
        assert_eq!(refused.sqlstate(), "57P03", "{method}: {refused:?}");
        event_of(&gateway, "upstream.failed", &refused);
    }
}

#[test]
fn without_a_service_role_nobody_can_sign_in_by_scram_and_the_operator_is_told_what_to_check() {
    let database = Postgres::builder(Version::V15)
        .client_authority(scene::clients())
        .role("app", "secret")
        .start();
    let gateway = gateway(&acme(&database, orders()));
    for user in ["app", "nobody"] {
        let refused = refusal(&gateway, user, "secret");
        assert_eq!(refused.sqlstate(), "57P03");
        event_of(&gateway, "upstream.failed", &refused);
        let why = gateway.command(&["why", &refused.reference()]);
        assert!(
            why.ok().contains("setup.sql") || why.ok().contains("cluster check"),
            "{why}"
        );
    }
}

#[test]
fn a_certificate_that_the_database_does_not_trust_is_the_operators_matter() {
    let database = new_server(Version::V18);
    let stranger = TestAuthority::new("Somebody else's");
    let gateway = Gateway::builder()
        .listener(portcullis_tests::Listener::public())
        .tenant(&acme(&database, orders()))
        .signs_in_at("acme", &stranger)
        .start();
    let refused = refusal(&gateway, "app", "secret");
    assert_eq!(refused.sqlstate(), "57P03");
    event_of(&gateway, "upstream.failed", &refused);
}

#[test]
fn a_database_that_is_not_there_is_told_with_a_reference_that_why_explains() {
    let mut database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders().authentication("relay")));
    database.stop();
    let told = gateway
        .psql(NAME)
        .user("app", "secret", "postgres")
        .run("select 1");
    let told = told.refused();
    assert!(
        told.contains("the database cannot be reached right now"),
        "{told}"
    );
    let reference: String = told[told.find("PC-").unwrap()..].chars().take(17).collect();
    let why = gateway.command(&["why", &reference]);
    assert!(why.ok().contains("upstream.failed"), "{why}");
    database.start_again();
    let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    assert_eq!(client.query("select 1").unwrap().len(), 1);
    database.stop();
    let (_, ending) = client.read_to_end();
    assert_ne!(ending, Ending::Silent, "the end of the database is the end");
}

fn refusal(gateway: &Gateway, user: &str, password: &str) -> portcullis_tests::Message {
    let mut client = gateway
        .dial(NAME)
        .start(&[("user", user), ("database", "postgres")])
        .unwrap();
    match client.authenticate(user, password, Binding::None) {
        Err(Ending::Refused(told)) => told,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

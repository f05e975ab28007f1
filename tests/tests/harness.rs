//! The harness against real servers, without a gateway between: what fails here is no fault of the
//! product's.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_tests::client::{Binding, Dial};
use portcullis_tests::drivers::{Start, connect};
use portcullis_tests::namespace::Network;
use portcullis_tests::postgres::{GATEWAY_COMMON_NAME, SERVER_NAME, SERVICE_ROLE};
use portcullis_tests::{
    Ending, NodePg, Postgres, Psql, Psycopg, TestAuthority, Version, requires_root, wait,
};

const BOTH: [Version; 2] = [Version::V15, Version::V18];

fn server(version: Version) -> Postgres {
    Postgres::builder(version).role("app", "pass'word").start()
}

fn dial(server: &Postgres) -> Dial {
    Dial::tls(server.address(), SERVER_NAME, &server.authorities_pem())
}

#[test]
fn psql_selects_over_verified_tls_from_both_servers() {
    for version in BOTH {
        let server = server(version);
        let psql = Psql::new(server.address(), SERVER_NAME, &server.authorities_pem()).user(
            "app",
            "pass'word",
            "postgres",
        );
        let told = psql
            .parameter("channel_binding", "require")
            .run("select ssl, 1 from pg_stat_ssl where pid = pg_backend_pid()");
        assert_eq!(told.ok(), "t|1", "{version:?}");
        assert_eq!(server.sql("select 'me'"), "me");
    }
}

#[test]
fn every_driver_selects() {
    let server = server(Version::V18);
    let (to, trusted) = (server.address(), server.authorities_pem());
    let psycopg = Psycopg::new(to, SERVER_NAME, &trusted).user("app", "pass'word", "postgres");
    assert_eq!(
        psycopg
            .parameter("sslnegotiation", "direct")
            .query("select 1, 'x'")
            .ok(),
        "1|x"
    );
    let node = NodePg::new(to, SERVER_NAME, &trusted).user("app", "pass'word", "postgres");
    assert_eq!(
        node.parameter("enableChannelBinding", "true")
            .query("select 1, 'x'")
            .ok(),
        "1|x"
    );
    for start in [Start::SslRequest, Start::Direct] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let number: i32 = runtime.block_on(async {
            let connected = connect(
                to,
                (SERVER_NAME, &trusted),
                ("app", "pass'word", "postgres"),
                start,
            )
            .await
            .unwrap();
            connected
                .client
                .query_one("select 1", &[])
                .await
                .unwrap()
                .get(0)
        });
        assert_eq!(number, 1, "{start:?}");
    }
}

#[test]
fn a_driver_that_trusts_another_authority_does_not_connect() {
    let server = server(Version::V15);
    let stranger = TestAuthority::new("Stranger").pem();
    let psql = Psql::new(server.address(), SERVER_NAME, &stranger)
        .user("app", "pass'word", "postgres")
        .run("select 1");
    assert!(
        psql.refused().contains("certificate verify failed"),
        "{psql}"
    );
    let node = NodePg::new(server.address(), "other.test", &server.authorities_pem())
        .user("app", "pass'word", "postgres")
        .query("select 1");
    assert!(
        node.refused().contains("ERR_TLS_CERT_ALTNAME_INVALID"),
        "{node}"
    );
}

#[test]
fn the_raw_client_signs_in_with_every_honest_binding_and_with_no_false_one() {
    let server = server(Version::V15);
    for (binding, lets_in) in [
        (Binding::None, true),
        (Binding::ServerEndPoint, true),
        (Binding::Unsupported, false),
        (Binding::WrongEndPoint, false),
    ] {
        let mut client = dial(&server)
            .start(&[("user", "app"), ("database", "postgres")])
            .unwrap();
        let outcome = client.authenticate("app", "pass'word", binding);
        assert_eq!(outcome.is_ok(), lets_in, "{binding:?}: {outcome:?}");
    }
}

#[test]
fn the_raw_client_reads_rows_errors_and_the_end() {
    let server = server(Version::V18);
    let mut client = dial(&server)
        .direct()
        .sign_in("app", "pass'word", "postgres");
    assert_eq!(client.alpn().as_deref(), Some("postgresql"));
    assert_eq!(
        client.query("select 1, null").unwrap(),
        [[Some("1".to_owned()), None]]
    );
    let Err(Ending::Refused(error)) = client.query("select 1/0") else {
        panic!("no error")
    };
    assert_eq!(error.sqlstate(), "22012");
    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    let (messages, ending) = client.read_to_end();
    assert_eq!(
        (messages[0].sqlstate().as_str(), messages.len(), ending),
        ("57P01", 1, Ending::Closed)
    );
}

#[test]
fn the_raw_client_calls_from_the_address_it_is_told() {
    let server = Postgres::builder(Version::V15)
        .role("app", "x")
        .hba("hostssl all app 127.0.2.0/24 reject")
        .start();
    let from = |address: &str| {
        dial(&server)
            .from(address.parse().unwrap())
            .start(&[("user", "app")])
            .unwrap()
    };
    assert_eq!(from("127.0.2.9").refusal().sqlstate(), "28000");
    assert!(
        from("127.0.1.9")
            .authenticate("app", "x", Binding::None)
            .is_err_and(|ending| matches!(
                ending,
                Ending::Refused(error) if error.sqlstate() == "3D000"
            ))
    );
}

#[test]
fn a_certificate_signs_in_where_the_server_knows_its_authority() {
    let clients = TestAuthority::new("Clients");
    for version in BOTH {
        let server = Postgres::builder(version)
            .client_authority(&clients)
            .certificate_role("report")
            .served()
            .start();
        for role in ["report", SERVICE_ROLE] {
            let psql = Psql::new(server.address(), SERVER_NAME, &server.authorities_pem())
                .user(role, "", "postgres");
            let good = clients.client(GATEWAY_COMMON_NAME, &[]);
            assert_eq!(
                psql.credential(&good).run("select current_user").ok(),
                role,
                "{version:?}"
            );
        }
        let psql = Psql::new(server.address(), SERVER_NAME, &server.authorities_pem())
            .user("report", "", "postgres");
        let _ = psql
            .credential(&clients.client("somebody", &[]))
            .run("select 1")
            .refused();
    }
}

#[test]
fn a_server_without_tls_says_so_to_an_ssl_request() {
    let server = Postgres::builder(Version::V15).without_tls().start();
    let told = dial(&server).connect().unwrap_err();
    assert!(told.to_string().contains("'N'"), "{told}");
}

#[test]
fn a_server_can_be_frozen_stopped_and_started_again() {
    let mut server = server(Version::V15);
    server.sql("create table kept (it int)");
    server.freeze();
    assert!(
        dial(&server)
            .limit(Duration::from_millis(200))
            .connect()
            .is_err()
    );
    server.thaw();
    wait::wait_for("an answer", Duration::from_secs(10), || {
        dial(&server).connect().is_ok()
    });
    server.stop();
    assert!(dial(&server).connect().is_err());
    server.start_again();
    assert_eq!(server.sql("select count(*) from kept"), "0");
}

#[test]
fn two_servers_at_the_same_address_in_two_networks_are_two() {
    requires_root!();
    let address: IpAddr = "10.0.0.10".parse().unwrap();
    let mut answers = Vec::new();
    for tenant in ["acme", "globex"] {
        let network = Network::new(tenant, 16);
        let host = network.host("db", &[address]);
        let client = network.host("client", &["10.0.0.7".parse().unwrap()]);
        let server = Postgres::builder(Version::V15)
            .listen(address)
            .port(5432)
            .namespace(&host)
            .role("app", "x")
            .start();
        server.sql(&format!("create database \"{tenant}\""));
        let dial = dial(&server)
            .inside(&client)
            .from_port("10.0.0.7:40000".parse().unwrap());
        answers.push(
            dial.sign_in("app", "x", tenant)
                .query("select current_database(), inet_client_port()")
                .unwrap(),
        );
        let psql = Psql::new(server.address(), SERVER_NAME, &server.authorities_pem())
            .user("app", "x", tenant)
            .inside(&client);
        assert_eq!(psql.run("select inet_server_addr()").ok(), "10.0.0.10");
    }
    let row = |tenant: &str| vec![vec![Some(tenant.to_owned()), Some("40000".to_owned())]];
    assert_eq!(answers, [row("acme"), row("globex")]);
}

//! Attacks on sign-in and on the session behind it: messages out of turn, proofs that were good a
//! moment ago, and a client that would be somebody else.

mod scene;

use std::time::Instant;

use portcullis_certs::authority::Purpose;
use portcullis_tests::client::{Binding, tagged};
use portcullis_tests::identities::{empty, validity};
use portcullis_tests::postgres::SERVICE_ROLE;
use portcullis_tests::{Dial, Ending, Message, RawClient, TestAuthority, Version};
use scene::{
    NAME, SOON, acme, backends, certificate_mode, event, gateway, new_server, orders, server,
};

#[test]
fn nothing_is_done_with_what_is_sent_before_signing_in() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let parse = tagged(b'P', b"\0select 'too early'\0\0\0");
    for (what, early) in [
        ("a query", tagged(b'Q', b"select 'too early'\0")),
        ("a statement", parse.clone()),
        (
            "an execution",
            [parse, tagged(b'E', b"\0\0\0\0\0"), tagged(b'S', b"")].concat(),
        ),
        ("a function call", tagged(b'F', &[0; 14])),
        ("the end", tagged(b'X', b"")),
        ("data", tagged(b'd', b"too early")),
        ("a server's message", tagged(b'R', &[0; 4])),
        ("nothing known", tagged(b'!', b"")),
    ] {
        let mut client = started(&gateway.dial(NAME), "app");
        let from = client.local_address();
        client.read_until(b'R').unwrap();
        client.send(&early).unwrap();
        let told = client.refusal();
        assert_eq!(told.field(b'V').unwrap(), "FATAL", "{what}");
        event(&gateway, "protocol.violation", "unexpected_message", from);
    }
    assert!(!server.log().contains("too early"));
}

#[test]
fn a_query_in_one_segment_with_the_password_waits_for_the_sign_in_and_a_wrong_one_takes_it_along() {
    let server = new_server(Version::V15);
    server.replace_hba(&["hostssl all all all password"]);
    let gateway = gateway(&acme(&server, orders().authentication("relay")));
    for (password, is_in) in [("secret", true), ("wrong", false)] {
        let mut client = started(&gateway.dial(NAME), "app");
        let from = client.local_address();
        assert_eq!(client.read_message().unwrap().authentication(), Some(3));
        let password = tagged(b'p', format!("{password}\0").as_bytes());
        let query = tagged(b'Q', format!("select 'in one {is_in}'\0").as_bytes());
        client.send(&[password, query].concat()).unwrap();
        if is_in {
            client.read_until(b'Z').unwrap();
            assert!(client.read_until(b'Z').is_ok());
            gateway.event("the sign-in", |event| {
                event["kind"] == "connection.permitted" && event["port"] == from.port()
            });
        } else {
            assert_eq!(client.refusal().sqlstate(), "28P01");
            event(
                &gateway,
                "authentication.failed",
                "refused_by_database",
                from,
            );
        }
    }
    let log = server.log();
    assert!(
        log.contains("in one true") && !log.contains("in one false"),
        "{log}"
    );
}

#[test]
fn what_is_wrong_in_a_session_is_answered_by_its_own_database_and_harms_nobody_else() {
    for version in scene::BOTH {
        let server = server(version);
        let gateway = gateway(&acme(server, orders()));
        let mut bystander = gateway.dial(NAME).sign_in("app", "secret", "postgres");
        let through = gateway.dial(NAME);
        let straight = Dial::tls(
            server.address(),
            server.server_name(),
            &server.authorities_pem(),
        );
        // abs(integer), by its number in every catalogue.
        let call = [
            &1397_u32.to_be_bytes()[..],
            b"\0\x01\0\x01\0\x01\0\0\0\x04\xff\xff\xff\xff\0\x01",
        ]
        .concat();
        for (what, bytes) in [
            ("a function call", tagged(b'F', &call)),
            ("a function call cut short", tagged(b'F', &call[..9])),
            (
                "data outside of COPY",
                [tagged(b'd', b"x"), tagged(b'Q', b"select 1\0")].concat(),
            ),
            (
                "the end of no COPY",
                [
                    tagged(b'c', b""),
                    tagged(b'f', b"no\0"),
                    tagged(b'Q', b"\0"),
                ]
                .concat(),
            ),
            (
                "a statement with a parameter and none",
                [
                    tagged(b'P', b"\0select $1\0\0\0"),
                    tagged(b'B', b"\0\0\0\0\0\0\0\0"),
                    tagged(b'S', b""),
                ]
                .concat(),
            ),
            ("a server's row", tagged(b'T', b"\0\0")),
            ("a server's readiness", tagged(b'Z', b"I")),
            ("a password", tagged(b'p', b"secret\0")),
            ("a type of no kind", tagged(b'!', b"x")),
            ("a type of zero", tagged(0, b"")),
            ("a query without its end", tagged(b'Q', b"select 1")),
        ] {
            let [direct, relayed] = [&straight, &through].map(|dial| {
                let mut client = dial.sign_in("app", "secret", "postgres");
                // The end behind it, so that nobody has to wait for what does not come.
                client
                    .send(&[&bytes[..], &tagged(b'X', b"")].concat())
                    .unwrap();
                let (messages, ending) = client.read_to_end();
                assert_ne!(ending, Ending::Silent, "{what}");
                messages.iter().map(gist).collect::<Vec<_>>()
            });
            assert_eq!(direct, relayed, "{version:?}: {what}");
        }
        // Of a length that cannot be, the database does not know where to go on.
        let mut client = through.sign_in("app", "secret", "postgres");
        let from = client.local_address();
        client.send(&[b'Q', 0, 0, 0, 3, b'x']).unwrap();
        assert_ne!(client.read_to_end().1, Ending::Silent);
        event(&gateway, "connection.closed", "database_closed", from);
        assert_eq!(bystander.query("select 1").unwrap().len(), 1);
        assert!(!gateway.log_text().contains("panicked"));
    }
}

#[test]
fn what_a_session_calls_itself_changes_neither_who_it_is_nor_what_is_written_of_it() {
    let server = new_server(Version::V18);
    server.sql("create role mask; grant mask to app");
    let gateway = gateway(&acme(&server, orders()));
    let mut client = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let from = client.local_address();
    for sql in [
        "set session authorization postgres",
        "set session authorization portcullis_service",
        "set role postgres",
        "alter role app superuser",
        "create role other superuser",
        "set log_statement = 'none'",
        "select pg_read_file('/etc/passwd')",
        "copy (select 1) to program 'id'",
        "select rolpassword from pg_authid",
        "select * from portcullis.role_secret('app')",
        "select pg_reload_conf()",
    ] {
        let Err(Ending::Refused(told)) = client.query(sql) else {
            panic!("it could: {sql}");
        };
        assert_eq!(told.sqlstate(), "42501", "{sql}: {told:?}");
    }
    // The gateway's own sessions are not this client's to end.
    let own = server.sql(&format!(
        "select min(pid) from pg_stat_activity where usename = '{SERVICE_ROLE}'"
    ));
    assert!(own.parse::<u32>().is_ok(), "no session of its own: {own:?}");
    let Err(Ending::Refused(told)) = client.query(&format!("select pg_terminate_backend({own})"))
    else {
        panic!("it could end {own}");
    };
    assert_eq!(told.sqlstate(), "42501", "{told:?}");
    for sql in [
        "set role mask",
        "reset role",
        "discard all",
        "set application_name = 'postgres'",
        "reset session authorization",
    ] {
        client.query(sql).unwrap();
    }
    let live = gateway.ask(&["connections"]);
    assert_eq!(live["connections"][0]["user"], "app", "{live}");
    drop(client);
    let closed = event(&gateway, "connection.closed", "client_closed", from);
    assert_eq!(
        (&closed["user"], &closed["tenant"]),
        (&"app".into(), &"acme".into())
    );
}

#[test]
fn a_role_withdrawn_a_moment_ago_is_let_in_no_more_though_its_verifier_is_remembered() {
    let server = server(Version::V18);
    let gateway = gateway(&acme(server, orders()));
    for (n, withdrawal) in [
        "nologin",
        "password null",
        "valid until '2020-01-01'",
        "connection limit 0",
    ]
    .iter()
    .enumerate()
    {
        let role = format!("former{n}");
        server.sql(&format!("create role {role} login password 'secret'"));
        drop(gateway.dial(NAME).sign_in(&role, "secret", "postgres"));
        backends(server, &role, 0);
        server.sql(&format!("alter role {role} {withdrawal}"));
        let mut client = started(&gateway.dial(NAME), &role);
        let Err(Ending::Refused(told)) = client.authenticate(&role, "secret", Binding::None) else {
            panic!("let in after {withdrawal}");
        };
        assert!(
            ["28P01", "28000", "53300"].contains(&told.sqlstate().as_str()),
            "{withdrawal}: {told:?}"
        );
        let reference = told.reference();
        let event = gateway.event(&reference, |event| event["reference"] == reference);
        let codes = ["refused_by_database", "verifier_mismatch"];
        assert!(
            codes.iter().any(|code| event["code"] == *code),
            "{withdrawal}: {event}"
        );
    }
}

#[test]
fn a_proof_that_ends_ends_its_session_idle_in_a_transaction_and_in_the_middle_of_a_copy() {
    let server = server(Version::V15);
    let people = TestAuthority::new("Acme clients");
    let mode = certificate_mode(&people.pem(), &[("cn:batch", "batch")]);
    let gateway = gateway(&acme(server, orders().authentication(&mode)));
    let mut leaf = empty(Purpose::Client);
    leaf.common_name = "batch".to_owned();
    leaf.validity = validity(-1, 1);
    leaf.validity.not_after = validity(0, 0).not_before + 8;
    let brief = people.issue(&leaf);
    let dial = gateway.dial(NAME).credential(&brief).limit(SOON * 2);
    let mut sessions = [
        "",
        "begin; create temp table t (n int)",
        "begin; create temp table t (n int); copy t from stdin",
    ]
    .map(|sql| {
        let mut client = started(&dial, "batch");
        client.read_until(b'Z').unwrap();
        client.send_query(sql).unwrap();
        let last = if sql.contains("copy") { b'G' } else { b'Z' };
        client.read_until(last).unwrap();
        client
    });
    // One that nobody reads, in the middle of a message.
    let mut flooded = started(&dial, "batch");
    flooded.read_until(b'Z').unwrap();
    flooded.send_query("select repeat('x', 60000000)").unwrap();
    let began = Instant::now();
    for client in &mut sessions {
        let told = client.refusal();
        assert_eq!(told.sqlstate(), "57P01");
        let event = scene::event_of(&gateway, "connection.lapsed", &told);
        assert_eq!(event["code"], "proof_expired");
    }
    assert!(began.elapsed() < SOON * 2);
    backends(server, "batch", 0);
    let lapsed = || {
        let events = gateway.events();
        events
            .iter()
            .filter(|event| event["kind"] == "connection.lapsed")
            .count()
    };
    portcullis_tests::wait::wait_for("all four", SOON, || lapsed() == 4);
    assert_ne!(flooded.read_to_end().1, Ending::Silent);
    // The certificate itself is no way in any more.
    let late = dial.tls12_only().connect();
    assert!(late.is_err(), "{late:?}");
}

fn started(dial: &Dial, user: &str) -> RawClient {
    dial.start(&[("user", user), ("database", "postgres")])
        .unwrap()
}

/// What must be the same through the gateway as without it: of an error its code.
fn gist(message: &Message) -> (char, Vec<u8>) {
    let kind = char::from(message.kind);
    match kind {
        'E' | 'N' => (kind, message.sqlstate().into_bytes()),
        _ => (kind, message.body.clone()),
    }
}

//! Signing in by SCRAM, ended at the gateway against the database's own verifier, and what a
//! stranger can learn from being refused.

mod scene;

use portcullis_tests::client::{Binding, Dial, tagged};
use portcullis_tests::postgres::SERVICE_ROLE;
use portcullis_tests::{Ending, Gateway, Message, Postgres, Version};
use scene::{BOTH, NAME, acme, but_for_the_reference, event_of, gateway, orders, server};

#[test]
fn psql_signs_in_whatever_it_thinks_of_channel_binding() {
    for version in BOTH {
        let gateway = gateway(&acme(server(version), orders()));
        for binding in ["require", "prefer", "disable"] {
            let psql = gateway.psql(NAME).user("app", "secret", "postgres");
            let told = psql
                .parameter("channel_binding", binding)
                .run("select current_user, session_user");
            assert_eq!(told.ok(), "app|app", "{version:?}, {binding}");
        }
    }
}

#[test]
fn every_honest_binding_is_let_in_and_every_false_one_is_refused_in_words() {
    for version in BOTH {
        let gateway = gateway(&acme(server(version), orders()));
        for dial in [
            gateway.dial(NAME),
            gateway.dial(NAME).direct(),
            gateway.dial(NAME).tls12_only(),
        ] {
            for binding in [Binding::None, Binding::ServerEndPoint] {
                let entered = start(&dial, "app").authenticate("app", "secret", binding);
                assert!(entered.is_ok(), "{version:?}, {binding:?}: {entered:?}");
            }
        }
        for binding in [Binding::Unsupported, Binding::WrongEndPoint] {
            let mut client = start(&gateway.dial(NAME), "app");
            let port = client.local_address();
            let refusal = refused(client.authenticate("app", "secret", binding));
            assert_eq!(refusal.sqlstate(), "28000", "{binding:?}");
            assert!(refusal.text().contains("channel binding"), "{refusal:?}");
            let event = scene::event(&gateway, "authentication.failed", "cbind", port);
            assert_eq!(event["reference"], refusal.reference());
        }
    }
}

#[test]
fn the_offer_is_plus_and_plain_on_every_endpoint_known_or_not_in_the_database() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    for user in ["app", "nobody-by-this-name"] {
        let offer = start(&gateway.dial(NAME), user).read_message().unwrap();
        assert_eq!(
            offer.body[4..],
            *b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
            "{user}"
        );
    }
}

#[test]
fn a_wrong_password_an_unknown_role_and_a_role_that_may_not_sign_in_are_alike_on_the_wire() {
    let server = server(Version::V15);
    server.sql(
        "create role gone login password 'secret' valid until '2020-01-01';
         create role shut nologin password 'secret';
         create role bare login;
         create role root2 superuser login password 'secret';
         set password_encryption = 'md5'; create role old5 login password 'secret'",
    );
    let gateway = gateway(&acme(server, orders()));
    let known = Exchange::with(&gateway, "app");
    for (user, code) in [
        ("nob", "unknown_role"),
        ("gone", "role_expired"),
        ("shut", "role_cannot_log_in"),
        ("bare", "role_has_no_password"),
        ("root2", "role_is_superuser"),
        ("old5", "role_password_not_scram"),
        ("portcullis_service", "role_is_reserved"),
    ] {
        let other = Exchange::with(&gateway, user);
        assert_eq!(other.offer, known.offer, "{user}");
        assert_eq!(other.shape(), known.shape(), "{user}");
        let told = but_for_the_reference(&other.refusal).replace(&format!("\"{user}\""), "\"app\"");
        assert_eq!(told, but_for_the_reference(&known.refusal), "{user}");
        let event = event_of(&gateway, "authentication.failed", &other.refusal);
        assert_eq!(event["code"], code);
        // The password that would be right makes no difference either.
        let with_password =
            start(&gateway.dial(NAME), user).authenticate(user, "secret", Binding::None);
        let told = but_for_the_reference(&refused(with_password))
            .replace(&format!("\"{user}\""), "\"app\"");
        assert_eq!(told, but_for_the_reference(&known.refusal), "{user}");
    }
    assert_eq!(known.refusal.sqlstate(), "28P01");
    let event = event_of(&gateway, "authentication.failed", &known.refusal);
    assert_eq!(event["code"], "wrong_password");
    let why = gateway.command(&["why", &known.refusal.reference()]);
    assert!(why.ok().contains("wrong_password"), "{why}");
}

#[test]
fn an_unknown_role_meets_the_same_salt_at_every_attempt_also_after_a_restart() {
    let mut gateway = gateway(&acme(server(Version::V15), orders()));
    let salt = |gateway: &Gateway, user: &str| Exchange::with(gateway, user).salt;
    let first = salt(&gateway, "ghost");
    assert_eq!(salt(&gateway, "ghost"), first);
    assert_ne!(salt(&gateway, "spook"), first, "each role has its own");
    gateway.terminate();
    gateway.start_again();
    assert_eq!(salt(&gateway, "ghost"), first);
    gateway.kill();
    gateway.start_again();
    assert_eq!(salt(&gateway, "ghost"), first);
}

#[test]
fn a_changed_password_works_after_one_failure_at_the_latest_and_the_old_one_at_no_attempt() {
    for version in BOTH {
        let server = server(version);
        server.sql("create role changing login password 'one'");
        let gateway = gateway(&acme(server, orders()));
        let _ = gateway.dial(NAME).sign_in("changing", "one", "postgres");
        server.sql("alter role changing password 'two'");
        // The gateway's copy still says 'one'; the database is asked, and says no.
        let old = refused(attempt(&gateway, "changing", "one"));
        assert_eq!(old.sqlstate(), "28P01", "{old:?}");
        let new =
            attempt(&gateway, "changing", "two").or_else(|_| attempt(&gateway, "changing", "two"));
        assert!(new.is_ok(), "{version:?}: {new:?}");
        assert_eq!(
            refused(attempt(&gateway, "changing", "one")).sqlstate(),
            "28P01"
        );

        server.sql("alter role changing password 'three'");
        let first = attempt(&gateway, "changing", "three");
        let second = attempt(&gateway, "changing", "three");
        assert!(
            first.is_ok() || second.is_ok(),
            "{version:?}: {first:?}, {second:?}"
        );
    }
}

#[test]
fn the_same_password_stored_anew_with_another_salt_works_after_one_failure_at_the_latest() {
    let server = server(Version::V18);
    server.sql("create role salted login password 'same'");
    let gateway = gateway(&acme(server, orders()));
    let _ = gateway.dial(NAME).sign_in("salted", "same", "postgres");
    server.sql("alter role salted password 'same'");
    let first = attempt(&gateway, "salted", "same");
    if let Err(Ending::Refused(told)) = &first {
        assert_eq!(told.sqlstate(), "28P01");
    }
    assert!(attempt(&gateway, "salted", "same").is_ok());
}

#[test]
fn a_verifier_is_read_once_for_many_sign_ins() {
    let server = server(Version::V18);
    server.sql("create role often login password 'secret'");
    let gateway = gateway(&acme(server, orders()));
    let asked = |server: &Postgres| server.log().matches("role_secret($1)").count();
    let _ = gateway.dial(NAME).sign_in("often", "secret", "postgres");
    let before = asked(server);
    for _ in 0..5 {
        let _ = gateway.dial(NAME).sign_in("often", "secret", "postgres");
    }
    // Other tests ask this server too, through gateways of their own: by name.
    let for_often = server.log().matches("= 'often'").count();
    assert_eq!(for_often, 1, "of {before} and more questions");
    assert!(server.connections_of(SERVICE_ROLE) >= 1);
}

#[test]
fn nothing_is_done_with_a_query_sent_behind_a_wrong_proof() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let query = tagged(b'Q', b"select 'early bird'\0");
    let mut client = start(&gateway.dial(NAME), "app");
    answer_wrongly(&mut client, &query);
    let refusal = client.refusal();
    assert_eq!(refusal.sqlstate(), "28P01");
    assert!(!server.log().contains("early bird"));
}

#[test]
fn a_message_that_is_no_answer_ends_the_exchange() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let long = tagged(b'p', &[b'x'; 2100]);
    for (message, code) in [
        (tagged(b'Q', b"select 1\0"), "unexpected_message"),
        (tagged(b'p', b""), "message_malformed"),
        (tagged(b'p', b"SCRAM-SHA-256"), "message_malformed"),
        (
            tagged(b'p', b"NOT-OFFERED\0\0\0\0\x09n,,n=,r=a"),
            "sasl_mechanism",
        ),
        (
            tagged(b'p', b"SCRAM-SHA-256\0\0\0\0\x05hello"),
            "scram_malformed",
        ),
        (long, "message_length"),
        (vec![b'p', 0xff, 0xff, 0xff, 0xff], "message_length"),
    ] {
        let mut client = start(&gateway.dial(NAME), "app");
        let from = client.local_address();
        client.read_until(b'R').unwrap();
        client.send(&message).unwrap();
        let told = client.refusal();
        assert_eq!(told.field(b'S').unwrap(), "FATAL", "{code}");
        let kind = match code {
            "sasl_mechanism" | "scram_malformed" => "authentication.failed",
            _ => "protocol.violation",
        };
        scene::event(&gateway, kind, code, from);
    }
}

#[test]
fn a_role_whose_time_ends_while_its_verifier_is_remembered_is_let_in_no_more() {
    let server = server(Version::V18);
    server.sql("create role brief login password 'secret'");
    let ends = "format('alter role brief valid until %L', now() + interval '2 seconds')";
    server.sql(&format!("do $$ begin execute {ends}; end $$"));
    let gateway = gateway(&acme(server, orders()));
    assert!(attempt(&gateway, "brief", "secret").is_ok());
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let refusal = refused(attempt(&gateway, "brief", "secret"));
    assert_eq!(refusal.sqlstate(), "28P01");
    let event = event_of(&gateway, "authentication.failed", &refusal);
    assert_eq!(event["code"], "role_expired");
}

#[test]
fn neither_the_log_nor_the_audit_events_hold_a_password_or_a_verifier() {
    let server = server(Version::V15);
    server.sql("create role discreet login password 'Correct-Horse-7'");
    let gateway = gateway(&acme(server, orders()));
    let psql = gateway
        .psql(NAME)
        .user("discreet", "Correct-Horse-7", "postgres");
    assert_eq!(psql.run("select 1").ok(), "1");
    let wrong = gateway
        .psql(NAME)
        .user("discreet", "Correct-Horse-8", "postgres");
    assert!(
        wrong
            .run("select 1")
            .refused()
            .contains("authentication failed")
    );
    let verifier = server.sql("select rolpassword from pg_authid where rolname = 'discreet'");
    gateway.event("both", |event| event["kind"] == "authentication.failed");
    let events: Vec<String> = gateway.events().iter().map(ToString::to_string).collect();
    let written = format!("{}{}", gateway.log_text(), events.join("\n"));
    let keys = verifier.split(['$', ':']).skip(2);
    for secret in keys.chain(["Correct-Horse", "SCRAM-SHA-256$"]) {
        assert!(
            !secret.is_empty() && !written.contains(secret),
            "{secret} is in\n{written}"
        );
    }
    assert!(
        gateway.log_text().lines().count() == gateway.log().len(),
        "the log is JSON lines"
    );
}

fn start(dial: &Dial, user: &str) -> portcullis_tests::RawClient {
    dial.start(&[("user", user), ("database", "postgres")])
        .unwrap()
}

fn attempt(gateway: &Gateway, user: &str, password: &str) -> Result<Vec<Message>, Ending> {
    start(&gateway.dial(NAME), user).authenticate(user, password, Binding::None)
}

fn refused(outcome: Result<Vec<Message>, Ending>) -> Message {
    match outcome {
        Err(Ending::Refused(told)) => told,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Goes through the exchange with a proof that proves nothing; `behind` goes out with it.
fn answer_wrongly(client: &mut portcullis_tests::RawClient, behind: &[u8]) -> (Message, String) {
    let offer = client.read_message().unwrap();
    let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
    body.extend(first);
    client.send(&tagged(b'p', &body)).unwrap();
    let challenge = client.read_message().unwrap();
    let server_first = String::from_utf8(challenge.body[4..].to_vec()).unwrap();
    let nonce = part(&server_first, "r=");
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let last = format!("c=biws,r={nonce},p={proof}");
    client
        .send(&[&tagged(b'p', last.as_bytes()), behind].concat())
        .unwrap();
    (offer, server_first)
}

fn part(text: &str, letter: &str) -> String {
    text.split(',')
        .find_map(|part| part.strip_prefix(letter))
        .unwrap()
        .to_owned()
}

/// Everything that a stranger without a password sees of a sign-in.
struct Exchange {
    offer: Message,
    salt: String,
    iterations: String,
    nonce_length: usize,
    refusal: Message,
}

impl Exchange {
    fn with(gateway: &Gateway, user: &str) -> Self {
        let mut client = start(&gateway.dial(NAME), user);
        let (offer, server_first) = answer_wrongly(&mut client, b"");
        Self {
            offer,
            salt: part(&server_first, "s="),
            iterations: part(&server_first, "i="),
            nonce_length: part(&server_first, "r=").len(),
            refusal: client.refusal(),
        }
    }

    /// What must not tell one role from another.
    fn shape(&self) -> (usize, &str, usize) {
        (self.salt.len(), &self.iterations, self.nonce_length)
    }
}

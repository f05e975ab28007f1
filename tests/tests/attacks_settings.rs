//! Attacks with the start-up packet's own means: settings, `options`, and names that look like
//! other names. What a client writes reaches its database byte for byte; who it is, policy and the
//! database's own rules say.

mod scene;

use std::sync::{Arc, Mutex};

use portcullis_tests::client::{Binding, V3_0, startup, tagged};
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{
    Ending, EvilDatabase, Gateway, Message, Postgres, RawClient, TenantText, TestAuthority, Version,
};
use scene::{NAME, acme, certificate_mode, event_of, gateway, new_server, orders};

#[test]
fn settings_and_options_reach_the_database_byte_for_byte() {
    let eaves = Eavesdropper::new();
    let gateway = eaves.gateway();
    let long = "x".repeat(1024);
    for options in [
        "-c=",
        "-c",
        "--",
        "--x",
        "-c search_path=evil,public",
        "-c session_authorization=postgres",
        "-c role=postgres",
        "-c a.b=one\\ word -c a.c=back\\\\slash",
        "-csearch_path=evil -d5 --work-mem=1",
        "a+b%20c%00d&user=postgres",
        "\u{130}\u{1F418} \t\u{a0}",
        "'; drop role app; --",
        &long,
    ] {
        let heard = eaves.hears(
            &gateway,
            &[("user", "app"), ("database", "db"), ("options", options)],
        );
        let expected = [("database", "db"), ("options", options), ("user", "app")];
        assert_eq!(heard, pairs(&expected), "{options:?}");
    }
    // Settings of their own, whatever they are called.
    let settings = [
        ("TimeZone", "UTC"),
        ("application_name", "a b\\c%20+"),
        ("client_encoding", "LATIN1"),
        ("is_superuser", "on"),
        ("role", "postgres"),
        ("search_path", "\"$user\", evil"),
        ("session_authorization", "postgres"),
        ("session_replication_role", "replica"),
        ("user.name", "postgres"),
        ("x_pq_.y", "1"),
    ];
    let who = [("user", "app"), ("database", "db")];
    let heard = eaves.hears(&gateway, &[&who[..], &settings].concat());
    assert_eq!(heard, pairs(&[&settings[..], &who].concat()));
    // An empty one is one too, and what extends the protocol stays between neighbours.
    let sent = [("user", "app"), ("_pq_.x", "1"), ("options", "")];
    let heard = eaves.hears(&gateway, &sent);
    assert_eq!(
        heard,
        pairs(&[("user", "app"), ("database", "app"), ("options", "")])
    );
}

#[test]
fn a_setting_given_twice_reaches_the_database_twice_and_in_order() {
    let eaves = Eavesdropper::new();
    let gateway = eaves.gateway();
    let who = [("user", "app"), ("database", "db")];
    for settings in [
        &[("DateStyle", "SQL"), ("datestyle", "ISO")][..],
        &[("datestyle", "ISO"), ("DateStyle", "SQL")],
        &[("work_mem", "2"), ("work_mem", "1"), ("work_mem", "2")],
        &[("b", "1"), ("a", "1"), ("B", "2"), ("a", "0")],
    ] {
        let mut heard = eaves.hears_in_order(&gateway, &[&who[..1], settings, &who[1..]].concat());
        heard.retain(|pair| !pairs(&who).contains(pair));
        assert_eq!(heard, in_order(settings));
    }
}

#[test]
fn a_name_is_the_bytes_that_were_sent_and_no_reading_of_them() {
    let eaves = Eavesdropper::new();
    let gateway = eaves.gateway();
    let longest = "x".repeat(63);
    for name in [
        "app ",
        " app",
        "APP",
        "\"app\"",
        "a+p",
        "a%70p",
        "a\\ pp",
        "app\t",
        "app\n",
        "app/../postgres",
        "\u{ff41}\u{ff50}\u{ff50}",
        "a\u{301}pp",
        "\u{e1}pp",
        "app\u{200b}",
        "app'--",
        &longest,
    ] {
        for (parameters, which) in [
            (&[("user", name), ("database", "db")], "user"),
            (&[("user", "app"), ("database", name)], "database"),
        ] {
            let heard = eaves.hears(&gateway, parameters);
            assert_eq!(heard, pairs(parameters), "{which} {name:?}");
            gateway.event(name, |event| event[which] == *name);
        }
    }
}

#[test]
fn nobody_signs_in_by_a_name_that_only_looks_like_a_roles() {
    let server = new_server(Version::V18);
    server.sql("create role \"Admin\" login password 'secret'; create role caf\u{e9} login password 'secret'");
    let longest = "r".repeat(63);
    server.sql(&format!("create role {longest} login password 'secret'"));
    let gateway = gateway(&acme(&server, orders()));
    for right in ["app", "Admin", "caf\u{e9}", &longest] {
        let _ = gateway.dial(NAME).sign_in(right, "secret", "postgres");
    }
    let before = server.log().matches("connection authorized").count();
    for name in [
        "APP",
        "App",
        "app ",
        " app",
        "\"app\"",
        "app\t",
        "admin",
        "ADMIN",
        "\"Admin\"",
        "\u{ff41}\u{ff50}\u{ff50}",
        "cafe\u{301}",
        "CAF\u{c9}",
        "app\u{200b}",
    ] {
        let told = refusal(&gateway, name);
        assert_eq!(told.sqlstate(), "28P01", "{name:?}");
        let event = event_of(&gateway, "authentication.failed", &told);
        assert_eq!(
            (&event["code"], &event["user"]),
            (&"unknown_role".into(), &name.into())
        );
    }
    // The database would cut it to a name that exists.
    let told = refusal(&gateway, &format!("{longest}r"));
    assert_eq!(told.sqlstate(), "28000");
    // And would end it at the NUL: the packet then has a name without a value.
    let mut client = gateway.dial(NAME).connect().unwrap();
    let from = client.local_address();
    client
        .send(&startup(
            V3_0,
            &[("user", "app\0x"), ("database", "postgres")],
        ))
        .unwrap();
    assert_eq!(client.refusal().sqlstate(), "08P01");
    scene::event(&gateway, "protocol.violation", "startup_layout", from);
    let after = server.log().matches("connection authorized").count();
    assert_eq!(after, before, "the database saw nobody of them");
}

#[test]
fn options_make_nobody_more_than_the_databases_own_rules_let_the_role_be() {
    // The gateway signs in with the client's key for the one, with its own certificate for the other.
    std::thread::scope(|scope| {
        scope.spawn(|| options_of(&new_server(Version::V15), "app"));
        scope.spawn(|| options_of(&new_server(Version::V18), "reports"));
    });
}

fn options_of(server: &Postgres, user: &str) {
    server.sql(&format!("create role helper; grant helper to {user}"));
    let people = TestAuthority::new("Acme clients");
    let mode = match user {
        "app" => "scram".to_owned(),
        other => certificate_mode(&people.pem(), &[("cn:reports", other)]),
    };
    let gateway = gateway(&acme(server, orders().authentication(&mode)));
    let enter = |setting: (&str, &str)| {
        let dial = gateway
            .dial(NAME)
            .credential(&people.client("reports", &[]));
        let mut client = dial
            .start(&[("user", user), ("database", "postgres"), setting])
            .unwrap();
        match user {
            "app" => client.authenticate(user, "secret", Binding::None).map(drop),
            _ => ready(&mut client),
        }
        .map(|()| client)
    };
    for setting in [
        ("options", "-c role=postgres"),
        ("options", "-c session_authorization=postgres"),
        ("options", "-c session_authorization=portcullis_service"),
        ("options", "-crole=pg_read_server_files"),
        ("options", "-c session_replication_role=replica"),
        ("options", "-c is_superuser=on"),
        ("options", "-c log_statement=none"),
        ("role", "postgres"),
        ("session_authorization", "postgres"),
    ] {
        let Err(Ending::Refused(told)) = enter(setting) else {
            panic!("{user} came in with {setting:?}");
        };
        let codes = ["42501", "42704", "55P02", "22023"];
        assert!(
            codes.contains(&told.sqlstate().as_str()),
            "{setting:?}: {told:?}"
        );
        let reference = told.reference();
        let event = gateway.event(&reference, |event| event["reference"] == reference);
        assert_eq!(
            (&event["code"], &event["user"]),
            (&"refused_by_database".into(), &user.into())
        );
    }
    // What the database allows is the client's own affair, and the audit says who it was.
    let mut client = enter(("options", "-c role=helper -c search_path=evil")).unwrap();
    let row = client
        .query("select current_user, session_user, current_setting('search_path')")
        .unwrap();
    assert_eq!(
        row,
        [["helper", user, "evil"].map(|it| Some(it.to_owned()))]
    );
    let live = gateway.ask(&["connections"]);
    assert_eq!(live["connections"][0]["user"], user, "{live}");
    drop(client);
}

#[test]
fn what_says_who_one_is_and_is_said_twice_or_in_other_letters_is_refused() {
    let eaves = Eavesdropper::new();
    let gateway = eaves.gateway();
    let who = [("user", "app"), ("database", "db")];
    for more in [
        [("user", "postgres"), ("x", "1")],
        [("database", "postgres"), ("x", "1")],
        [("options", "-c a=1"), ("options", "-c a=2")],
        [("replication", "off"), ("replication", "true")],
        [("USER", "postgres"), ("x", "1")],
        [("Database", "postgres"), ("x", "1")],
        [("Options", "-c a=1"), ("x", "1")],
        [("REPLICATION", "true"), ("x", "1")],
    ] {
        let mut client = gateway.dial(NAME).connect().unwrap();
        let from = client.local_address();
        client
            .send(&startup(V3_0, &[&who[..], &more].concat()))
            .unwrap();
        assert_eq!(client.refusal().sqlstate(), "08P01", "{more:?}");
        gateway.event("the violation", |event| {
            event["kind"] == "protocol.violation" && event["port"] == from.port()
        });
    }
    assert_eq!(eaves.evil.connections(), 0);
}

/// A database that remembers the start-up packets it gets, and refuses everybody.
struct Eavesdropper {
    evil: EvilDatabase,
    authority: TestAuthority,
    heard: Arc<Mutex<Vec<Pairs>>>,
}

type Pairs = Vec<(String, String)>;

impl Eavesdropper {
    fn new() -> Self {
        let authority = TestAuthority::new("Databases");
        let credential = authority.server(&[SERVER_NAME]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listed = Arc::clone(&heard);
        let evil = EvilDatabase::start(move |caller| {
            caller.secure(&credential)?;
            let parameters = caller.startup()?;
            listed.lock().unwrap().push(parameters);
            caller.say(&tagged(b'E', b"SFATAL\0VFATAL\0C53300\0Mnot now\0\0"))
        });
        Self {
            evil,
            authority,
            heard,
        }
    }

    fn gateway(&self) -> Gateway {
        let cluster = self.evil.cluster(&self.authority.pem());
        let tenant = TenantText::new("acme").cluster_text("orders", &cluster);
        gateway(&tenant.endpoint(orders().authentication("relay")))
    }

    /// The parameters that arrive of these, by name.
    fn hears(&self, gateway: &Gateway, parameters: &[(&str, &str)]) -> Pairs {
        let mut heard = self.hears_in_order(gateway, parameters);
        heard.sort();
        heard
    }

    /// The same, as they stand in the packet.
    fn hears_in_order(&self, gateway: &Gateway, parameters: &[(&str, &str)]) -> Pairs {
        let mut client = gateway.dial(NAME).start(parameters).unwrap();
        assert_eq!(client.refusal().sqlstate(), "53300", "{parameters:?}");
        self.heard
            .lock()
            .unwrap()
            .pop()
            .expect("its start-up packet")
    }
}

/// By name.
fn pairs(parameters: &[(&str, &str)]) -> Pairs {
    let mut all = in_order(parameters);
    all.sort();
    all
}

fn in_order(parameters: &[(&str, &str)]) -> Pairs {
    parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn refusal(gateway: &Gateway, user: &str) -> Message {
    let mut client = gateway
        .dial(NAME)
        .start(&[("user", user), ("database", "postgres")])
        .unwrap();
    match client.authenticate(user, "secret", Binding::None) {
        Err(Ending::Refused(told)) => told,
        other => panic!("{user:?} was let in: {other:?}"),
    }
}

/// Up to `ReadyForQuery`, or the error that comes instead.
fn ready(client: &mut RawClient) -> Result<(), Ending> {
    loop {
        match client.read_message()? {
            error if error.kind == b'E' => return Err(Ending::Refused(error)),
            done if done.kind == b'Z' => return Ok(()),
            _ => {}
        }
    }
}

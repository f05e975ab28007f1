//! A database that attacks: it gets no credential that it has no right to, nothing of it reaches
//! the client, the gateway gives it neither time nor memory, and the operator is told its name.

mod scene;

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use portcullis_tests::client::{Binding, SSL_REQUEST, tagged, verifier};
use portcullis_tests::evil::{Caller, EvilDatabase, row, row_description};
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{
    Credential, Dial, Ending, EndpointText, Gateway, Message, TenantText, TestAuthority, wait,
};
use scene::{SOON, certificate_mode, event_of, gateway};

/// Who vouches for the database that policy names.
static DATABASES: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new("Databases"));
/// Who vouches for clients of an endpoint with `certificate`.
static PEOPLE: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new("Acme clients"));

#[test]
fn a_database_that_does_not_prove_who_it_is_hears_an_sslrequest_and_nothing_else() {
    let own = |credential: Credential| move |caller: &mut Caller| caller.secure(&credential);
    let says = |bytes: &'static [u8]| {
        EvilDatabase::start(move |caller| {
            caller.ssl_request()?;
            caller.say(bytes)?;
            caller.stall()
        })
    };
    let globex = TestAuthority::new("Globex databases");
    // Rows, and that it is ready, in clear: what comes before TLS would be taken for its inside.
    let rows = b"SR\0\0\0\x08\0\0\0\0D\0\0\0\x0c\0\x01\0\0\0\x02xxZ\0\0\0\x05I";
    let evils = [
        ("it has no TLS", says(b"N"), "tls_not_offered"),
        ("clear bytes behind its yes", says(rows), "pretls_data"),
        (
            "an error in clear",
            says(b"E\0\0\0\x0bSFATAL\0\0"),
            "error_before_tls",
        ),
        (
            "another protocol",
            says(b"HTTP/1.1 400\r\n"),
            "not_postgres",
        ),
        (
            "signed by another tenant's authority",
            EvilDatabase::start(own(globex.server(&[SERVER_NAME]))),
            "certificate_authority",
        ),
        (
            "signed by an authority of the same name",
            EvilDatabase::start(own(TestAuthority::new("Databases").server(&[SERVER_NAME]))),
            "certificate",
        ),
        (
            "a certificate for another host",
            EvilDatabase::start(own(DATABASES.server(&["db.globex.internal"]))),
            "certificate_name",
        ),
        (
            "a client's certificate",
            EvilDatabase::start(own(DATABASES.client(SERVER_NAME, &[]))),
            "certificate",
        ),
    ];
    for mode in [certificates(), "relay".to_owned()] {
        let gateway = before(evils.iter().map(|(_, evil, _)| (evil, mode.as_str())));
        for (n, (what, _, code)) in evils.iter().enumerate() {
            let told = no_entry(&gateway, n);
            assert_eq!(told.sqlstate(), "57P03", "{what}");
            let event = event_of(&gateway, "upstream.failed", &told);
            assert_eq!(event["code"], *code, "{what}: {event}");
        }
    }
    for (what, evil, _) in &evils {
        let heard = evil.heard();
        let requests: Vec<&[u8]> = heard.chunks(SSL_REQUEST.len()).collect();
        assert_eq!(requests, vec![SSL_REQUEST; evil.connections()], "{what}");
    }
}

#[test]
fn a_database_that_asks_for_the_password_itself_gets_no_credential() {
    let asks = |number: u32, more: &[u8]| tagged(b'R', &[&number.to_be_bytes()[..], more].concat());
    let requests = [
        ("in clear", asks(3, b"")),
        ("by MD5", asks(5, b"salt")),
        ("by Kerberos", asks(2, b"")),
        ("by GSSAPI", asks(7, b"")),
        ("by SSPI", asks(9, b"")),
        ("by a mechanism that it made up", asks(10, b"PLAIN\0\0")),
        (
            "by a list without end",
            asks(10, &b"SCRAM-SHA-999\0".repeat(40)),
        ),
        // With `certificate` this is as it should be.
        ("not at all", asks(0, b"")),
    ];
    for (mode, count) in [("scram", 8), (certificates().as_str(), 7)] {
        let evils: Vec<(&str, EvilDatabase)> = requests[..count]
            .iter()
            .map(|(what, ask)| {
                let ask = ask.clone();
                let evil = signing_in(move |caller| {
                    caller.say(&ask)?;
                    caller.stall()
                });
                (*what, evil)
            })
            .collect();
        let gateway = before(evils.iter().map(|(_, evil)| (evil, mode)));
        for (n, (what, evil)) in evils.iter().enumerate() {
            let told = no_entry(&gateway, n);
            assert_eq!(told.sqlstate(), "57P03", "{what}");
            event_of(&gateway, "upstream.failed", &told);
            assert_eq!(evil.credentials(), Vec::<Vec<u8>>::new(), "{what}");
        }
    }
}

#[test]
fn a_database_that_cheats_at_scram_gets_no_proof_and_one_that_lies_about_it_no_session() {
    let long = "x".repeat(64 << 10);
    let cases = CHALLENGES.trim().lines().map(|line| {
        let [what, challenge, proofs, code] =
            [0, 1, 2, 3].map(|n| line.split('|').nth(n).unwrap().trim());
        let challenge = challenge
            .replace("SALT", "c2FsdCBvZiBzaXh0ZWVuIQ==")
            .replace("LONG", &long);
        let challenge = challenge.replace("KILO", &long[..1024]);
        let evil = signing_in(move |caller| {
            caller.say(&tagged(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
            let first = caller.message()?;
            let first = String::from_utf8_lossy(&first.body).into_owned();
            let nonce = first.split("r=").nth(1).unwrap_or_default();
            let answer = challenge.replace("NONCE", nonce);
            let answer = [&[0, 0, 0, 11], answer.as_bytes()].concat();
            caller.say(&tagged(b'R', &answer))?;
            caller.message()?;
            let signature = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            caller.say(&tagged(
                b'R',
                &[&[0, 0, 0, 12], signature.as_bytes()].concat(),
            ))?;
            caller.let_in()
        });
        (what, evil, proofs.parse::<usize>().unwrap(), code)
    });
    let cases: Vec<_> = cases.collect();
    let gateway = before(cases.iter().map(|(_, evil, ..)| (evil, "scram")));
    for (n, (what, evil, proofs, code)) in cases.iter().enumerate() {
        let began = Instant::now();
        let told = no_entry(&gateway, n);
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        assert!(
            ["28P01", "57P03"].contains(&told.sqlstate().as_str()),
            "{what}: {told:?}"
        );
        let event = gateway.event(what, |event| event["reference"] == told.reference());
        assert_eq!(event["code"], *code, "{what}: {event}");
        let sent = evil.credentials();
        let proving = sent
            .iter()
            .filter(|body| body.windows(3).any(|three| three == b",p="));
        assert_eq!(proving.count(), *proofs, "{what}");
    }
}

/// What is wrong, the challenge, how many proofs may be sent, and the code.
const CHALLENGES: &str = "
2^31-1 iterations | r=NONCEx,s=SALT,i=2147483647 | 0 | upstream_scram_iterations
one iteration | r=NONCEx,s=SALT,i=1 | 0 | upstream_scram_iterations
no number of iterations | r=NONCEx,s=SALT,i=-1 | 0 | upstream_scram_malformed
another salt | r=NONCEx,s=QUFBQQ==,i=4096 | 0 | verifier_mismatch
other iterations | r=NONCEx,s=SALT,i=8192 | 0 | verifier_mismatch
a nonce of 64 KiB | r=NONCELONG,s=SALT,i=4096 | 0 | message_length
a nonce of a kilobyte | r=NONCEKILO,s=SALT,i=4096 | 0 | upstream_scram_nonce
our nonce alone | r=NONCE,s=SALT,i=4096 | 0 | upstream_scram_nonce
another nonce | r=other,s=SALT,i=4096 | 0 | upstream_scram_nonce
an extension that must be known | m=x,r=NONCEx,s=SALT,i=4096 | 0 | upstream_scram_extension
nothing | | 0 | upstream_scram_malformed
a signature that is not the verifier's | r=NONCEx,s=SALT,i=4096 | 1 | upstream_server_signature
";

#[test]
fn what_a_database_says_instead_of_letting_in_costs_the_gateway_neither_time_nor_memory() {
    let notice = tagged(b'N', &[b"SNOTICE\0M", &[b'x'; 900][..], b"\0\0"].concat());
    let key = tagged(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]);
    let status = tagged(b'S', b"application_name\0x\0");
    let in_order = [tagged(b'R', &[0; 4]), key.clone()].concat();
    // The mode, what is said before anything is repeated, and what is repeated without end.
    let floods = [
        (
            "notices before anything is asked",
            "scram",
            vec![],
            notice.clone(),
        ),
        (
            "notices instead of an answer",
            "certificate",
            vec![],
            notice,
        ),
        ("cancel keys", "certificate", in_order.clone(), key),
        ("parameters", "certificate", in_order.clone(), status),
        (
            "messages of no kind",
            "certificate",
            vec![],
            tagged(b'?', b""),
        ),
        (
            "a message of 2 GiB",
            "certificate",
            vec![b'N', 0x7f, 0xff, 0xff, 0xff],
            vec![0; 4096],
        ),
        (
            "a message shorter than its length",
            "certificate",
            vec![b'N', 0, 0, 0, 3],
            vec![0; 4096],
        ),
        ("zeroes", "certificate", vec![], vec![0; 4096]),
    ];
    let evils: Vec<EvilDatabase> = floods
        .iter()
        .map(|(_, _, first, then)| {
            let (first, then) = (first.clone(), then.repeat(1 + 16_384 / then.len()));
            signing_in(move |caller| {
                caller.say(&first)?;
                caller.flood(&then)
            })
        })
        .collect();
    let certificates = certificates();
    let modes = floods.iter().map(|(_, mode, ..)| match *mode {
        "certificate" => certificates.as_str(),
        other => other,
    });
    let gateway = before(evils.iter().zip(modes));
    let before = gateway.resident_kib();
    for (n, (what, ..)) in floods.iter().enumerate() {
        let began = Instant::now();
        let told = no_entry(&gateway, n);
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        assert_eq!(told.sqlstate(), "57P03", "{what}");
        event_of(&gateway, "upstream.failed", &told);
        let grown = gateway.resident_kib().saturating_sub(before);
        assert!(grown < 8 << 10, "{what}: {grown} KiB more");
    }
    assert!(!gateway.log_text().contains("panicked"));
}

#[test]
fn an_error_without_any_field_is_told_as_a_whole_error_with_a_reference() {
    let in_order = [
        tagged(b'R', &[0; 4]),
        tagged(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
    ]
    .concat();
    let evils = [
        (vec![], tagged(b'E', b"\0")),
        (vec![], tagged(b'E', b"")),
        (vec![], tagged(b'E', b"SFATAL\0C28P01")),
        (in_order.clone(), tagged(b'E', b"\0")),
        (in_order, tagged(b'E', b"Cnot five\0\0")),
    ]
    .map(|(first, error)| {
        signing_in(move |caller| {
            caller.say(&[&first[..], &error].concat())?;
            caller.stall()
        })
    });
    let mode = certificates();
    let gateway = before(evils.iter().map(|evil| (evil, mode.as_str())));
    for n in 0..evils.len() {
        let told = no_entry(&gateway, n);
        assert_eq!(told.sqlstate().len(), 5, "{told:?}");
        let reference = told.reference();
        gateway.event(&reference, |event| event["reference"] == reference);
    }
}

#[test]
fn an_answer_about_a_role_that_is_out_of_shape_lets_nobody_in() {
    let good = verifier("secret");
    let four: [Option<&[u8]>; 4] = [Some(good.as_bytes()), None, Some(&[1]), None];
    // One column announced more than there is, and so on.
    let cut = |keep: usize| {
        let mut whole = row(&four);
        whole.truncate(keep);
        let length = u32::try_from(keep - 1).unwrap();
        whole[1..5].copy_from_slice(&length.to_be_bytes());
        whole
    };
    let evils = [
        ("no column", row(&[])),
        ("one column", row(&four[..1])),
        ("a row cut behind its count", cut(7)),
        ("a row cut within its verifier", cut(30)),
        (
            "a value longer than the row",
            tagged(b'D', b"\0\x04\x7f\xff\xff\xffx"),
        ),
        (
            "a row longer than any",
            vec![b'D', 0x7f, 0xff, 0xff, 0xff, 0, 4],
        ),
        (
            "a verifier that is none",
            row(&[Some(b"secret"), None, Some(&[1]), None]),
        ),
        (
            "a verifier of two billion iterations",
            row(&[
                Some(good.replace("$4096:", "$2147483647:").as_bytes()),
                None,
                Some(&[1]),
                None,
            ]),
        ),
        ("an error without fields", tagged(b'E', b"\0")),
        ("an answer to nothing", tagged(b'3', b"")),
    ]
    .map(|(what, answer)| {
        let credential = DATABASES.server(&[SERVER_NAME]);
        let evil = EvilDatabase::start(move |caller| {
            caller.secure(&credential)?;
            caller.startup()?;
            caller.let_in()?;
            while caller.message()?.kind != b'S' {}
            let columns = [tagged(b'1', b""), tagged(b'2', b""), row_description()];
            caller.say(&[columns.concat(), answer.clone()].concat())?;
            caller.say(&[tagged(b'C', b"SELECT 1\0"), tagged(b'Z', b"I")].concat())?;
            caller.stall()
        });
        (what, evil)
    });
    let gateway = before(evils.iter().map(|(_, evil)| (evil, "scram")));
    for (n, (what, _)) in evils.iter().enumerate() {
        let told = no_entry(&gateway, n);
        // A verifier that cannot be used is told as an unknown role is.
        let expected = match what.contains("verifier of") || what.contains("that is none") {
            true => ("28P01", "authentication.failed"),
            false => ("57P03", "upstream.failed"),
        };
        assert_eq!(told.sqlstate(), expected.0, "{what}: {told:?}");
        event_of(&gateway, expected.1, &told);
    }
    assert!(!gateway.log_text().contains("panicked"));
}

#[test]
fn a_database_that_takes_nothing_more_stops_the_client_and_fills_no_memory() {
    let evil = signing_in(|caller| {
        caller.let_in()?;
        caller.sleep(Duration::from_secs(30))
    });
    let gateway = before([(&evil, certificates().as_str())]);
    let mut client = dial(&gateway, 0)
        .limit(Duration::from_millis(400))
        .start(&AS_APP)
        .unwrap();
    client.read_until(b'Z').unwrap();
    let before = gateway.resident_kib();
    let chunk = tagged(b'd', &[b'x'; 64 << 10]);
    let mut sent = 0;
    // Until the sockets between us are full: nobody takes it.
    while sent < 256 << 20 && client.send(&chunk).is_ok() {
        sent += chunk.len();
    }
    assert!(
        sent < 64 << 20,
        "{sent} bytes were taken for a database that takes none"
    );
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
}

#[test]
fn what_a_database_sends_out_of_shape_in_a_session_reaches_its_own_client_and_nobody_else() {
    let evil = signing_in(|caller| {
        caller.let_in()?;
        caller.message()?;
        // Five columns and none there; then a message that never ends.
        caller.say(&tagged(b'D', b"\0\x05"))?;
        caller.say(&[b'D', 0x7f, 0xff, 0xff, 0xff])?;
        caller.flood(&[0; 4096])
    });
    let gateway = before([(&evil, certificates().as_str())]);
    let mut client = dial(&gateway, 0).start(&AS_APP).unwrap();
    client.read_until(b'Z').unwrap();
    client.send_query("select 1").unwrap();
    // A length past the protocol's own maximum ends the session.
    wait::wait_for("the session is over", SOON, || {
        let live = gateway.ask(&["connections"]);
        live["connections"].as_array().unwrap().is_empty()
    });
    gateway.event("its end", |event| {
        event["kind"] == "connection.closed" && event["code"] == "database_broken"
    });
    assert!(!gateway.log_text().contains("panicked"));
}

const AS_APP: [(&str, &str); 2] = [("user", "app"), ("database", "postgres")];

/// A database with the right certificate, for which every role has the password `secret`.
fn signing_in(
    script: impl Fn(&mut Caller) -> io::Result<()> + Send + Sync + 'static,
) -> EvilDatabase {
    let credential = DATABASES.server(&[SERVER_NAME]);
    EvilDatabase::with_clients(&credential, &verifier("secret"), script)
}

fn certificates() -> String {
    certificate_mode(&PEOPLE.pem(), &[("cn:app", "app")])
}

/// A gateway with an endpoint before each of these databases, of this mode.
fn before<'a>(evils: impl IntoIterator<Item = (&'a EvilDatabase, &'a str)>) -> Gateway {
    let tenant = TenantText::new("acme");
    let tenant = (0..).zip(evils).fold(tenant, |tenant, (n, (evil, mode))| {
        let endpoint = EndpointText::new(&format!("e{n}"), &name(n)).authentication(mode);
        tenant
            .cluster_text(&format!("e{n}"), &evil.cluster(&DATABASES.pem()))
            .endpoint(endpoint.allow("127.0.0.0/8", "public"))
    });
    gateway(&tenant)
}

fn name(n: usize) -> String {
    format!("acme-e{n}.db.test")
}

fn dial(gateway: &Gateway, n: usize) -> Dial {
    let dial = gateway.dial(&name(n)).limit(SOON);
    dial.credential(&PEOPLE.client("app", &[]))
}

/// The refusal of a client that does everything right, and that it hears nothing else but the
/// gateway's own part of the sign-in.
fn no_entry(gateway: &Gateway, n: usize) -> Message {
    let mut client = dial(gateway, n).start(&AS_APP).unwrap();
    let first = client.read_message().unwrap();
    let told = if first.kind == b'E' {
        first
    } else {
        assert_eq!(first.authentication(), Some(10), "{first:?}");
        drop(client);
        client = dial(gateway, n).start(&AS_APP).unwrap();
        match client.authenticate("app", "secret", Binding::None) {
            Err(Ending::Refused(told)) => told,
            other => panic!("let in: {other:?}"),
        }
    };
    assert_eq!(client.read_to_end().0, [], "behind the refusal");
    told
}

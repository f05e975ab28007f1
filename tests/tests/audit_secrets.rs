//! Forty secrets, each given to a node by another way, and none of them in anything that the node writes
//! down or says: log, metrics, audit events, audit logs, answers of its API.

mod scene;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_tests::client::{Binding, Dial, V3_0, startup, tagged};
use portcullis_tests::planted::secret_of_key;
use portcullis_tests::{EndpointText, Gateway, Planted, RawClient, TenantText, Version, wait};
use scene::{NAME, SOON, TOKEN, acme, new_server, orders};

#[test]
fn forty_secrets_are_in_nothing_that_a_node_writes_down() {
    let mut planted = Planted::default();
    let right = planted.plant("a password");
    let server = new_server(Version::V15);
    server.sql(&format!(
        "create role hidden login password '{right}'; create role plainly login password '{right}';
         create table kept (value text); grant all on kept to hidden"
    ));
    server.replace_hba(&[
        "hostssl all portcullis_service all cert map=portcullis",
        "hostssl all plainly all password",
        "hostssl all all all scram-sha-256",
    ]);
    let verifier = server.sql("select rolpassword from pg_authid where rolname = 'hidden'");
    for (way, part) in ["a salt", "a stored key", "a server key"]
        .into_iter()
        .zip(verifier.split(['$', ':']).skip(2))
    {
        planted.add(way, part.as_bytes());
    }
    let endpoint = |id: &str, mode: &str| {
        let endpoint = EndpointText::new(id, &format!("acme-{id}.db.test")).cluster("orders");
        endpoint.allow("127.0.0.0/8", "public").authentication(mode)
    };
    let tenant: TenantText = acme(&server, orders())
        .endpoint(endpoint("relayed", "relay"))
        .endpoint(endpoint("tokens", TOKEN));
    let gateway = scene::gateway(&tenant);

    sign_in(&gateway, &mut planted, &right);
    session(&gateway, &mut planted, &right);
    strangers(&gateway, &mut planted);
    administrators(&gateway, &mut planted);
    keys(&gateway, &mut planted);
    assert!(planted.count() >= 40, "only {}", planted.count());

    // Whoever searches finds what is there: the roles are recorded, on purpose.
    let mut canary = Planted::default();
    canary.add("a role", b"hidden-and-recorded");
    let told = gateway
        .dial(NAME)
        .start(&[("user", "hidden-and-recorded"), ("database", "x")]);
    drop(
        told.unwrap()
            .authenticate("hidden-and-recorded", "x", Binding::None),
    );
    wait::wait_for("the canary to be recorded", SOON, || {
        let events = gateway.events();
        events
            .iter()
            .any(|event| event["user"] == "hidden-and-recorded")
    });
    // Until what is gathered before it is written is there, and the logs are sealed.
    std::thread::sleep(Duration::from_millis(1_500));
    let said = said(&gateway);
    let mut canaries = 0;
    for (place, bytes) in &said {
        assert_eq!(planted.found_in(bytes), Vec::<&str>::new(), "in {place}");
        canaries += canary.found_in(bytes).len();
    }
    assert!(canaries > 0, "the search finds nothing at all");
    assert!(said.iter().any(|(place, _)| place.ends_with("checkpoint")));
}

fn sign_in(gateway: &Gateway, planted: &mut Planted, right: &str) {
    let dial = |name: &str| gateway.dial(&format!("acme-{name}.db.test"));
    let start = |dial: &Dial, user: &str| {
        let parameters = [("user", user), ("database", "postgres")];
        dial.start(&parameters).unwrap()
    };
    let wrong = planted.plant("a wrong password");
    let mut client = start(&dial("orders"), "hidden");
    client
        .authenticate("hidden", &wrong, Binding::None)
        .unwrap_err();
    let unknown = planted.plant("the password of nobody");
    let mut client = start(&dial("orders"), "nobody");
    client
        .authenticate("nobody", &unknown, Binding::None)
        .unwrap_err();
    let clear = planted.plant("a wrong password in clear");
    for password in [right, &clear] {
        let mut client = start(&dial("relayed"), "plainly");
        drop(client.read_message());
        client
            .send(&tagged(b'p', &[password.as_bytes(), &[0]].concat()))
            .unwrap();
        drop(client.read_until(b'Z'));
    }
    let claims = planted.plant("the claims of a token");
    let signature = planted.plant("the signature of a token");
    let opaque = planted.plant("a token that is none");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT"}"#);
    let body = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"x","note":"{claims}"}}"#));
    for token in [
        format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode(&signature)),
        opaque,
    ] {
        let mut client = start(&dial("tokens"), "app");
        drop(client.read_message());
        client
            .send(&tagged(b'p', &[token.as_bytes(), &[0]].concat()))
            .unwrap();
        let _told = client.refusal();
    }
    // Words of the exchange that say what they should not.
    let mechanism = planted.plant("the name of a mechanism");
    let mut client = start(&dial("orders"), "hidden");
    drop(client.read_message());
    let body = [mechanism.as_bytes(), &[0, 0, 0, 0, 0]].concat();
    client.send(&tagged(b'p', &body)).unwrap();
    drop(client.read_to_end());
    for way in ["an authorization identity", "an attribute of the exchange"] {
        let secret = planted.plant(way);
        let first = match way {
            "an authorization identity" => format!("n,a={secret},n=,r=abcdefghijklmnopqrstuvwx"),
            _ => format!("n,,n=,r=abcdefghijklmnopqrstuvwx,x={secret}"),
        };
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
        body.extend(first.as_bytes());
        let mut client = start(&dial("orders"), "hidden");
        drop(client.read_message());
        client.send(&tagged(b'p', &body)).unwrap();
        drop(client.read_to_end());
    }
    let early = planted.plant("a statement instead of a proof");
    let mut client = start(&dial("orders"), "hidden");
    drop(client.read_message());
    client
        .send(&tagged(b'Q', &[early.as_bytes(), &[0]].concat()))
        .unwrap();
    drop(client.read_to_end());
}

fn session(gateway: &Gateway, planted: &mut Planted, right: &str) {
    let options = planted.plant("an option at the start");
    let application = planted.plant("the name of an application");
    let parameters = [
        ("user", "hidden"),
        ("database", "postgres"),
        ("options", &format!("-c app.secret={options}")),
        ("application_name", &application),
    ];
    let mut client = gateway.dial(NAME).start(&parameters).unwrap();
    client.authenticate("hidden", right, Binding::None).unwrap();
    let statement = planted.plant("a statement");
    client.query(&format!("select '{statement}'")).unwrap();
    let fault = planted.plant("a statement that fails");
    client.query(&format!("select '{fault}'::int")).unwrap_err();
    let notice = planted.plant("a notice");
    client
        .query(&format!("do $$ begin raise notice '{notice}'; end $$"))
        .unwrap();
    let told = planted.plant("a notification");
    client
        .query(&format!("listen away; notify away, '{told}'"))
        .unwrap();
    let row = planted.plant("a row");
    client
        .query(&format!("insert into kept values ('{row}')"))
        .unwrap();
    client.query("select value from kept").unwrap();
    let named = planted.plant("the name of a statement");
    let bound = planted.plant("a parameter");
    let portal = planted.plant("the name of a portal");
    let zero = |text: &str| [text.as_bytes(), &[0]].concat();
    let mut bytes = tagged(
        b'P',
        &[&zero(&named)[..], &zero("select $1::text"), &[0, 0]].concat(),
    );
    let length = u32::try_from(bound.len()).unwrap().to_be_bytes();
    let mut bind = [&zero(&portal)[..], &zero(&named), &[0, 0, 0, 1]].concat();
    bind.extend(length);
    bind.extend(bound.as_bytes());
    bind.extend([0, 0]);
    bytes.extend(tagged(b'B', &bind));
    bytes.extend(tagged(b'E', &[&zero(&portal)[..], &[0; 4]].concat()));
    bytes.extend(tagged(b'S', &[]));
    client.send(&bytes).unwrap();
    client.read_until(b'Z').unwrap();
    let copied = planted.plant("copied data");
    client.send_query("copy kept from stdin").unwrap();
    client.read_until(b'G').unwrap();
    let mut bytes = tagged(b'd', format!("{copied}\n").as_bytes());
    bytes.extend(tagged(b'c', &[]));
    client.send(&bytes).unwrap();
    client.read_until(b'Z').unwrap();
    let failed = planted.plant("why a copy failed");
    client.send_query("copy kept from stdin").unwrap();
    client.read_until(b'G').unwrap();
    client.send(&tagged(b'f', &zero(&failed))).unwrap();
    client.read_until(b'Z').unwrap();
    // It ends in the middle of a message that is none.
    let broken = planted.plant("a message that is none");
    client.send(&tagged(1, broken.as_bytes())).unwrap();
    drop(client.read_to_end());
}

fn strangers(gateway: &Gateway, planted: &mut Planted) {
    let to = gateway.address();
    let plain = |bytes: &[u8]| {
        let mut client: RawClient = Dial::plain(to).connect().unwrap();
        client.send(bytes).unwrap();
        drop(client.read_to_end());
    };
    let request = planted.plant("a request of the web at the door");
    plain(format!("GET /?token={request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let password = planted.plant("a password at the start without TLS");
    plain(&startup(
        V3_0,
        &[("user", "hidden"), ("password", &password)],
    ));
    let protocol = planted.plant("a protocol by ALPN");
    drop(gateway.dial(NAME).alpn(&[&protocol]).connect());
    for way in [
        "a password at the start",
        "a parameter that nobody knows",
        "a kind of replication",
    ] {
        let secret = planted.plant(way);
        let name = match way {
            "a password at the start" => "password",
            "a kind of replication" => "replication",
            _ => "_pq_.unknown",
        };
        let dial = gateway.dial(NAME);
        let parameters = [
            ("user", "hidden"),
            ("database", "postgres"),
            (name, &secret),
        ];
        if let Ok(mut client) = dial.start(&parameters) {
            client.send(&tagged(b'X', &[])).unwrap();
            drop(client.read_to_end());
        }
    }
    let inside = planted.plant("a request of the web inside TLS");
    let mut client = gateway.dial(NAME).connect().unwrap();
    client
        .send(format!("POST /{inside} HTTP/1.1\r\n\r\n").as_bytes())
        .unwrap();
    drop(client.read_to_end());
}

fn administrators(gateway: &Gateway, planted: &mut Planted) {
    let mut exchange = |way: &'static str, request: fn(&str) -> String| {
        let request = request(&planted.plant(way));
        for to_metrics in [true, false] {
            let mut answer = Vec::new();
            if to_metrics {
                let mut stream = TcpStream::connect(gateway.metrics_address()).unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                drop(stream.read_to_end(&mut answer));
            } else {
                let mut stream = UnixStream::connect(gateway.admin_socket()).unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                drop(stream.read_to_end(&mut answer));
            }
        }
    };
    exchange("a bearer's token", |secret| {
        format!(
            "GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
        )
    });
    exchange("a path", |secret| {
        format!("GET /{secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    });
    exchange("a query", |secret| {
        format!("GET /metrics?token={secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    });
    exchange("a body", |secret| {
        let body = format!("{{\"password\": \"{secret}\"");
        format!(
            "POST /v1/apply HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    // Files that are refused: whoever applies them is told where and what, and evidence is told that it was so.
    for (way, line) in [
        ("a key that nobody knows, in a policy", "password: SECRET\n"),
        (
            "a value of a wrong type, in a policy",
            "suspended: SECRET\n",
        ),
    ] {
        let secret = planted.plant(way);
        let text = format!("tenant: globex\n{}", line.replace("SECRET", &secret));
        gateway.write_policy_text("globex.yaml", &text);
        let directory = gateway.policy_directory().display().to_string();
        assert!(!gateway.command(&["apply", &directory]).status.success());
        // The same as the node reads it by itself.
        let before = gateway.log().len();
        gateway.hang_up();
        wait::wait_for("the directory to be refused", SOON, || {
            gateway.log().len() > before
        });
    }
    std::fs::remove_file(gateway.policy_directory().join("globex.yaml")).unwrap();
}

/// What lies on the node's disk and must stay in the files that are for it.
fn keys(gateway: &Gateway, planted: &mut Planted) {
    let data = gateway.data_directory();
    for (way, file) in [
        ("the key of the audit logs", data.join("fleet/log.key")),
        ("the key of views", data.join("fleet/view.key")),
    ] {
        planted.add(way, &secret_of_key(&std::fs::read_to_string(file).unwrap()));
    }
    let mock = std::fs::read(data.join("mock-secret")).unwrap();
    planted.add("the secret of mock verifiers", mock.trim_ascii());
    let beside = gateway.configuration();
    let folder = std::fs::read_dir(beside.parent().unwrap()).unwrap();
    let mut found = 0;
    for path in folder.map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|it| it == "key") {
            planted.add(
                "a key of node.toml",
                &secret_of_key(&std::fs::read_to_string(path).unwrap()),
            );
            found += 1;
        }
    }
    assert!(found >= 2, "the server's and the tenant's");
}

/// All that the node wrote down or says, with the place.
fn said(gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut said = vec![("the log".to_owned(), gateway.log_text().into_bytes())];
    let mut metrics = TcpStream::connect(gateway.metrics_address()).unwrap();
    metrics
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = Vec::new();
    metrics.read_to_end(&mut text).unwrap();
    assert!(
        text.windows(11).any(|part| part == b"portcullis_"),
        "{}",
        text.len()
    );
    said.push(("metrics".to_owned(), text));
    for arguments in [
        &["status"][..],
        &["connections"],
        &["limits"],
        &["fleet", "status"],
    ] {
        let told = gateway.command(&[arguments, &["--json"]].concat());
        said.push((arguments.join(" "), told.to_string().into_bytes()));
    }
    files(&gateway.data_directory().join("audit"), &mut said);
    said
}

fn files(folder: &Path, said: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, said);
        } else if let Ok(bytes) = std::fs::read(&path) {
            said.push((path.display().to_string(), bytes));
        }
    }
}

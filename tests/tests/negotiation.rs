//! What is agreed on before anybody signs in: TLS, ALPN, the version of the protocol.

mod scene;

use portcullis_tests::client::{Binding, GSSENC_REQUEST, SSL_REQUEST, V3_0, V3_2, startup};
use portcullis_tests::{Dial, Ending, EndpointText, Message, Version};
use scene::{BOTH, NAME, acme, event, gateway, orders, server};

#[test]
fn the_name_that_a_client_calls_leads_to_that_endpoints_database() {
    let (old, new) = (server(Version::V15), server(Version::V18));
    let reports = EndpointText::new("reports", "acme-reports.db.test").allow("127.0.0.1", "public");
    let tenant = acme(old, orders())
        .cluster("reports", new)
        .endpoint(reports);
    let gateway = gateway(&tenant);
    for (name, version) in [(NAME, "15"), ("acme-reports.db.test", "18")] {
        for negotiation in ["postgres", "direct"] {
            let psycopg = gateway.psycopg(name).user("app", "secret", "postgres");
            let psycopg = psycopg.parameter("sslnegotiation", negotiation);
            let told = psycopg.query("select current_setting('server_version_num')::int / 10000");
            assert_eq!(told.ok(), version, "{name}, {negotiation}");
        }
    }
}

#[test]
fn gss_encryption_is_declined_and_the_client_goes_on_with_tls() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let mut plain = Dial::plain(gateway.address()).connect().unwrap();
    plain.send(&GSSENC_REQUEST).unwrap();
    assert_eq!(plain.read_exactly(1).unwrap(), b"N");
    plain.send(&SSL_REQUEST).unwrap();
    assert_eq!(plain.read_exactly(1).unwrap(), b"S");
    let psql = gateway.psql(NAME).user("app", "secret", "postgres");
    let told = psql.parameter("gssencmode", "prefer").run("select 1");
    assert_eq!(told.ok(), "1");
}

#[test]
fn inside_tls_a_second_request_for_encryption_is_declined_and_does_no_harm() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    for dial in [gateway.dial(NAME), gateway.dial(NAME).direct()] {
        let mut client = dial.connect().unwrap();
        for request in [SSL_REQUEST, GSSENC_REQUEST] {
            client.send(&request).unwrap();
            assert_eq!(client.read_exactly(1).unwrap(), b"N");
        }
        client
            .send(&startup(V3_0, &[("user", "app"), ("database", "postgres")]))
            .unwrap();
        assert!(
            client
                .authenticate("app", "secret", Binding::ServerEndPoint)
                .is_ok()
        );
    }
}

#[test]
fn a_second_sslrequest_in_clear_is_no_client_hello() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let mut client = Dial::plain(gateway.address()).connect().unwrap();
    let from = client.local_address();
    client.send(&SSL_REQUEST).unwrap();
    assert_eq!(client.read_exactly(1).unwrap(), b"S");
    client.send(&SSL_REQUEST).unwrap();
    assert_ne!(client.read_to_end().1, Ending::Silent);
    event(&gateway, "protocol.violation", "tls", from);
}

#[test]
fn direct_tls_needs_the_application_protocol_and_an_sslrequest_does_not() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let dial = || gateway.dial(NAME);
    for (dial, protocol) in [
        (dial().direct(), Some("postgresql")),
        (dial().direct().tls12_only(), Some("postgresql")),
        (
            dial().direct().alpn(&["h2", "postgresql"]),
            Some("postgresql"),
        ),
        (dial(), None),
        (dial().alpn(&["postgresql"]), Some("postgresql")),
    ] {
        let client = dial.sign_in("app", "secret", "postgres");
        assert_eq!(client.alpn().as_deref(), protocol);
    }
    for (port, dial, code) in [
        (41_001, dial().direct().alpn(&[]), "alpn"),
        (41_002, dial().direct().alpn(&["h2"]), "tls"),
        (
            41_003,
            dial().direct().alpn(&["h2", "http/1.1"]).tls12_only(),
            "tls",
        ),
        (41_004, dial().alpn(&["h2"]), "tls"),
        (41_005, dial().alpn(&["postgres"]), "tls"),
    ] {
        let from = std::net::SocketAddr::new(scene::here(7, 1), port);
        let error = dial.from_port(from).connect().unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        event(&gateway, "protocol.violation", code, from);
    }
}

#[test]
fn what_the_client_asks_for_is_negotiated_before_it_is_asked_to_sign_in() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let v = |minor: u8, options: &[&str]| {
        let count = u8::try_from(options.len()).unwrap();
        let mut body = vec![0, 3, 0, minor, 0, 0, 0, count];
        for option in options {
            body.extend(option.as_bytes());
            body.push(0);
        }
        Some(Message { kind: b'v', body })
    };
    let grease = "_pq_.test_protocol_negotiation";
    for (version, options, expected, secret) in [
        (V3_0, vec![], None, 4),
        (V3_2, vec![], None, 52),
        (0x0003_0001, vec![], v(0, &[]), 4),
        (0x0003_0003, vec![], v(2, &[]), 52),
        (0x0003_270F, vec![grease], v(2, &[grease]), 52),
        (
            0x0003_FFFF,
            vec!["_pq_.b", "_pq_.a"],
            v(2, &["_pq_.b", "_pq_.a"]),
            52,
        ),
        (V3_0, vec!["_pq_.x"], v(0, &["_pq_.x"]), 4),
        (V3_2, vec!["_pq_.x"], v(2, &["_pq_.x"]), 52),
    ] {
        let mut parameters = vec![("user", "app"), ("database", "postgres")];
        parameters.extend(options.iter().map(|name| (*name, "on")));
        let mut client = gateway.dial(NAME).connect().unwrap();
        client.send(&startup(version, &parameters)).unwrap();
        let told = format!("{version:#x} {options:?}");
        if let Some(expected) = expected {
            assert_eq!(client.read_message().unwrap(), expected, "{told}");
        }
        let messages = client.authenticate("app", "secret", Binding::None).unwrap();
        assert!(
            messages.iter().all(|message| message.kind != b'v'),
            "{told}: told twice"
        );
        assert_eq!(key(&messages).len(), 4 + secret, "{told}");
        assert_eq!(client.query("select 1").unwrap(), [[Some("1".to_owned())]]);
    }
}

#[test]
fn the_cancel_key_is_as_long_as_the_clients_protocol_says_whatever_the_database_speaks() {
    for version in BOTH {
        let server = server(version);
        let gateway = gateway(&acme(server, orders()));
        for (asked, length) in [(V3_0, 4), (V3_2, 52)] {
            let mut client = gateway.dial(NAME).connect().unwrap();
            client
                .send(&startup(
                    asked,
                    &[("user", "app"), ("database", "postgres")],
                ))
                .unwrap();
            let messages = client.authenticate("app", "secret", Binding::None).unwrap();
            let (ours, secret) = key(&messages).split_at(4);
            assert_eq!(secret.len(), length, "{version:?}");
            let pid = client
                .query("select pg_backend_pid()")
                .unwrap()
                .remove(0)
                .remove(0);
            let ours = u32::from_be_bytes(ours.try_into().unwrap());
            assert_ne!(
                pid,
                Some(ours.to_string()),
                "the database's own key stays with the gateway"
            );
        }
    }
}

#[test]
fn psycopg_speaks_3_2_and_node_begins_with_tls() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    for negotiation in ["postgres", "direct"] {
        for (least, most, full) in [
            ("3.2", "3.2", 30_002),
            ("3.0", "latest", 30_002),
            ("3.0", "3.0", 30_000),
        ] {
            let psycopg = gateway
                .psycopg(NAME)
                .user("app", "secret", "postgres")
                .parameter("sslnegotiation", negotiation)
                .parameter("channel_binding", "require")
                .parameter("min_protocol_version", least)
                .parameter("max_protocol_version", most);
            let told = psycopg.run("print(psycopg.connect(conninfo).pgconn.full_protocol_version)");
            assert_eq!(
                told.ok(),
                full.to_string(),
                "{negotiation}, {least} to {most}"
            );
        }
    }
    let node = gateway.node_pg(NAME).user("app", "secret", "postgres");
    let node = node
        .parameter("sslnegotiation", "'direct'")
        .parameter("enableChannelBinding", "true");
    assert_eq!(node.query("select 1").ok(), "1");
}

#[test]
fn old_versions_of_tls_are_not_spoken() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    for version in ["TLSv1", "TLSv1.1"] {
        let psql = gateway.psql(NAME).user("app", "secret", "postgres");
        let psql = psql.parameter("ssl_min_protocol_version", "TLSv1");
        let told = psql
            .parameter("ssl_max_protocol_version", version)
            .run("select 1");
        assert!(told.refused().contains("SSL error"), "{told}");
    }
}

fn key(messages: &[Message]) -> &[u8] {
    let keys: Vec<&Message> = messages
        .iter()
        .filter(|message| message.kind == b'K')
        .collect();
    assert_eq!(keys.len(), 1);
    &keys[0].body
}

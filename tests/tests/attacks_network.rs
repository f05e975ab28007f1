//! Attacks on where a connection seems to come from, and on the lists that say who may come:
//! addresses in disguise, lists that mean everybody, every door for one who is on no list, and
//! headers that claim another caller.

mod scene;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::client::{SSL_REQUEST, V3_0, V3_2, startup};
use portcullis_tests::{
    Dial, Ending, EndpointText, Gateway, Listener, Message, Version, ports, process, requires_root,
};
use scene::{NAME, Trap, acme, clients, event, event_of, gateway, here, new_server, server};

#[test]
fn an_ipv4_client_is_judged_by_its_ipv4_address_whatever_socket_it_meets() {
    let server = server(Version::V15);
    let listed = EndpointText::new("orders", NAME).allow("127.0.1.0/24", "public");
    let (port, alone) = (ports::free(), ports::free());
    let on = |ip: IpAddr, port| Listener::public().on(ip).port(port);
    let gateway = Gateway::builder()
        .listener(on(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
        .listener(on(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        .listener(on(IpAddr::V6(Ipv6Addr::UNSPECIFIED), alone))
        .tenant(&acme(server, listed))
        .signs_in_at("acme", clients())
        .start();
    scene::assert_in_force(&gateway, 1);
    let trusted = gateway.authorities_pem();
    let plain = SocketAddr::new(here(0, 1), port);
    let disguised: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 @ IpAddr::V6(_) => v6,
    };
    for (to, allowed, denied) in [
        (plain, here(1, 1), here(2, 1)),
        (disguised, mapped(here(1, 1)), mapped(here(2, 1))),
    ] {
        let dial = Dial::tls(to, NAME, &trusted);
        let _ = dial
            .clone()
            .from(allowed)
            .sign_in("app", "secret", "postgres");
        let told = dial
            .from(denied)
            .start(&[("user", "app")])
            .unwrap()
            .refusal();
        let event = event_of(&gateway, "connection.denied", &told);
        assert_eq!(
            (&event["code"], &event["address"]),
            (&"address_not_listed".into(), &"127.0.2.1".into()),
            "{to}"
        );
    }
    // A listener for IPv6 is one for IPv6.
    let wrong = Dial::plain(SocketAddr::new(here(0, 1), alone)).connect();
    assert!(wrong.is_err(), "{wrong:?}");
}

#[test]
fn a_list_that_means_more_than_it_says_is_refused_and_what_is_in_force_stays() {
    let server = server(Version::V15);
    let tenant = acme(server, listed("127.0.1.0/24"));
    let gateway = gateway(&tenant);
    let mut live = gateway
        .dial(NAME)
        .from(here(1, 1))
        .sign_in("app", "secret", "postgres");
    let yaml = tenant.yaml();
    let entry = "{prefix: \"127.0.1.0/24\", origin: \"public\", note: a test, owner: tests}";
    assert!(yaml.contains(entry));
    let prefix = |prefix: &str| yaml.replace("127.0.1.0/24", prefix);
    let more = |entries: &[&str]| {
        let entries = entries.iter().map(|it| entry.replace("127.0.1.0/24", it));
        let lines: Vec<String> = entries.map(|it| format!("      - {it}")).collect();
        yaml.replace(&format!("      - {entry}"), &lines.join("\n"))
    };
    let allow = |text: &str| yaml.replace(&format!("    allow:\n      - {entry}\n"), text);
    let mut rejections = 0;
    for (what, text) in [
        ("IPv4 in IPv6", prefix("::ffff:10.0.0.0/104")),
        ("all of IPv4 in IPv6", prefix("::ffff:0:0/96")),
        (
            "IPv4 in IPv6 by a short prefix",
            prefix("::ffff:10.0.0.0/8"),
        ),
        (
            "IPv4 in IPv6 as it was once written",
            prefix("::10.0.0.1/128"),
        ),
        ("host bits", prefix("203.0.113.9/24")),
        ("everybody", prefix("0.0.0.0/0")),
        ("everybody of IPv6", prefix("::/0")),
        ("everybody in halves", more(&["0.0.0.0/1", "128.0.0.0/1"])),
        (
            "everybody in quarters",
            more(&["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"]),
        ),
        ("everybody of IPv6 in halves", more(&["::/1", "8000::/1"])),
        ("a length past the end", prefix("10.0.0.0/33")),
        ("octal", prefix("010.0.0.1")),
        ("a number", prefix("2130706433")),
        ("a short form", prefix("127.1")),
        ("hexadecimal", prefix("0x7f.0.0.1")),
        ("a zone", prefix("fe80::1%eth0")),
        ("a netmask", prefix("10.0.0.0/255.0.0.0")),
        ("a range", prefix("10.0.0.1-10.0.0.9")),
        ("a blank", prefix("10.0.0.1 ")),
        ("full-width digits", prefix("\u{ff11}0.0.0.1")),
        ("a name", prefix("office.acme.test")),
        ("no list", allow("")),
        ("null for a list", allow("    allow: null\n")),
        ("a word for a list", allow("    allow: anywhere\n")),
        ("an entry that is null", allow("    allow: [null]\n")),
        (
            "a key that nobody knows",
            allow("    allow: []\n    allow-all: true\n"),
        ),
        ("the list twice", format!("{}    allow: []\n", yaml)),
        ("a newer form", format!("{yaml}version: 2\n")),
    ] {
        gateway.write_policy_text("acme.yaml", &text);
        let told = gateway.command(&["apply", &gateway.policy_directory().display().to_string()]);
        assert!(!told.status.success(), "{what} was applied: {told}");
        rejections += 1;
    }
    let rejected = |gateway: &Gateway| {
        let events = gateway.events();
        events
            .iter()
            .filter(|event| event["kind"] == "policy.rejected")
            .count()
    };
    portcullis_tests::wait::wait_for("an event for each", scene::SOON, || {
        rejected(&gateway) == rejections
    });
    assert_eq!(gateway.ask(&["status"])["revision"], 1);
    assert_eq!(live.query("select 1").unwrap().len(), 1);
    let told = refused(&gateway.dial(NAME).from(here(2, 1)));
    assert_eq!(
        event_of(&gateway, "connection.denied", &told)["code"],
        "address_not_listed"
    );
}

#[test]
fn without_its_last_entry_a_list_is_nobody() {
    // Nobody else signs in there: its log is counted.
    let server = &new_server(Version::V15);
    let gateway = gateway(&acme(server, listed("127.0.0.0/8")));
    let mut live = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let before = server
        .log()
        .matches("connection authorized: user=app")
        .count();
    gateway.apply(&[acme(
        server,
        EndpointText::new("orders", NAME).door("public"),
    )]);
    assert_eq!(live.refusal().sqlstate(), "57P01");
    let told = refused(&gateway.dial(NAME));
    assert_eq!(
        event_of(&gateway, "connection.denied", &told)["code"],
        "empty_list"
    );
    // Nor is an endpoint without doors.
    gateway.apply(&[acme(server, EndpointText::new("orders", NAME))]);
    let told = refused(&gateway.dial(NAME));
    assert_eq!(
        event_of(&gateway, "connection.denied", &told)["code"],
        "public_blocked"
    );
    let applied = gateway.events();
    let applied = applied
        .iter()
        .filter(|event| event["kind"] == "policy.applied");
    assert_eq!(applied.count(), 3);
    let after = server
        .log()
        .matches("connection authorized: user=app")
        .count();
    assert_eq!(after, before);
}

#[test]
fn who_is_on_no_list_is_turned_away_at_every_door_and_each_time_it_is_written_down() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed("127.0.1.0/24")));
    let stranger = here(2, 1);
    let packet = startup(V3_0, &[("user", "app"), ("database", "postgres")]);
    for (what, dial) in [
        ("SSLRequest", gateway.dial(NAME)),
        ("direct TLS", gateway.dial(NAME).direct()),
        ("TLS 1.2", gateway.dial(NAME).tls12_only()),
    ] {
        for (what, packet) in [
            (what, packet.clone()),
            ("protocol 3.2", startup(V3_2, &[("user", "app")])),
            (
                "replication",
                startup(V3_0, &[("user", "app"), ("replication", "true")]),
            ),
        ] {
            let mut client = dial.clone().from(stranger).connect().unwrap();
            client.send(&packet).unwrap();
            let told = client.refusal();
            assert_eq!(told.sqlstate(), "28000", "{what}");
            let event = event_of(&gateway, "connection.denied", &told);
            assert_eq!(
                (&event["code"], &event["address"]),
                (&"address_not_listed".into(), &"127.0.2.1".into()),
                "{what}"
            );
        }
        let mut cancel = dial.from(stranger).connect().unwrap();
        let from = cancel.local_address();
        cancel
            .send(&[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2])
            .unwrap();
        assert_eq!(cancel.read_to_end(), (vec![], Ending::Closed), "{what}");
        gateway.event(what, |event| {
            event["kind"] == "cancel.denied" && event["port"] == from.port()
        });
    }
    let mut clear = Dial::plain(gateway.address())
        .from(stranger)
        .connect()
        .unwrap();
    let from = clear.local_address();
    clear.send(&packet).unwrap();
    assert_eq!(clear.refusal().sqlstate(), "28000");
    event(&gateway, "protocol.violation", "plaintext", from);
    // What it is told of health tells nothing of anybody.
    let page = gateway.metrics("/metrics");
    for word in ["acme", "127.0.2.1", NAME] {
        assert!(!page.contains(word), "{word}");
    }
    trap.assert_untouched();
}

#[test]
fn headers_that_claim_another_caller_change_nothing_at_the_admin_socket() {
    requires_root!();
    let trap = Trap::new();
    let tenant = trap.acme(listed("127.0.1.0/24"));
    let gateway = gateway(&tenant);
    let claims = "X-Forwarded-For: 127.0.0.1\r\nX_Forwarded_For: 127.0.0.1\r\nForwarded: for=127.0.0.1;by=root\r\n\
        X-Real-IP: 127.0.0.1\r\nCF-Connecting-IP: 127.0.0.1\r\nX-Forwarded-User: root\r\nX-User: root\r\n\
        X-User: root\r\nAuthorization: Basic cm9vdDo=\r\nX-HTTP-Method-Override: GET\r\n";
    let request = |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{claims}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    // Whoever may not, may not with them.
    let script = "$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; print $s $ARGV[1]; $s->flush; print while <$s>";
    for (method, path) in [
        ("GET", "/v1/status"),
        ("GET", "/v1/connections"),
        ("POST", "/v1/apply"),
    ] {
        let mut stranger = Command::new("setpriv");
        stranger.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
            "perl",
            "-MIO::Socket::UNIX",
            "-e",
            script,
        ]);
        stranger
            .arg(gateway.admin_socket())
            .arg(request(method, path, ""));
        let told = process::run(&stranger, Duration::from_secs(20));
        assert!(told.ok().starts_with("HTTP/1.1 403"), "{path}: {told}");
    }
    let refused = gateway.event("the refusal", |event| event["kind"] == "admin.refused");
    assert_eq!(refused["uid"], 65_534);
    // Whoever may, is who the kernel says.
    let files =
        serde_json::json!({"files": [{"path": "acme.yaml", "text": tenant.yaml()}]}).to_string();
    let mut socket = UnixStream::connect(gateway.admin_socket()).unwrap();
    socket
        .write_all(request("POST", "/v1/apply", &files).as_bytes())
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(!answer.starts_with("HTTP/1.1 403"), "{answer}");
    let mut socket = UnixStream::connect(gateway.admin_socket()).unwrap();
    socket
        .write_all(request("GET", "/v1/apply", "").as_bytes())
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(
        gateway
            .events()
            .iter()
            .all(|event| !event.to_string().contains("CF-Connecting"))
    );
}

#[test]
fn a_connection_that_begins_as_two_things_is_neither() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(listed("127.0.0.0/8")));
    // Claims of another address on a listener that believes nobody, before each kind of beginning.
    let mapped = "PROXY TCP6 ::ffff:127.0.1.1 ::1 1 2\r\n";
    for header in [
        "PROXY TCP4 127.0.1.1 127.0.0.1 1 2\r\n",
        mapped,
        "PROXY UNKNOWN\r\n",
    ] {
        for next in [
            &SSL_REQUEST[..],
            b"\x16\x03\x01\0\x05",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut client = Dial::plain(gateway.address())
                .from(here(2, 2))
                .connect()
                .unwrap();
            let from = client.local_address();
            client.send(&[header.as_bytes(), next].concat()).unwrap();
            let (told, ending) = client.read_to_end();
            assert_eq!(told, []);
            assert_ne!(ending, Ending::Silent);
            let event = event(&gateway, "protocol.violation", "proxy_unexpected", from);
            assert_eq!(event["address"], "127.0.2.2", "the socket's address");
        }
    }
    trap.assert_untouched();
}

fn listed(prefix: &str) -> EndpointText {
    EndpointText::new("orders", NAME).allow(prefix, "public")
}

fn refused(dial: &Dial) -> Message {
    let told = dial
        .start(&[("user", "app"), ("database", "postgres")])
        .unwrap()
        .refusal();
    assert_eq!(told.sqlstate(), "28000");
    told
}

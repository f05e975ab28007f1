//! Who may command a node, and on which addresses it can be reached at all.

mod scene;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::gateway::binary;
use portcullis_tests::{
    Dial, Finished, Gateway, Listener, Scratch, Version, process, requires_root, wait,
};
use scene::{NAME, SOON, Trap, acme, event, gateway, orders, server};

#[test]
fn another_user_is_refused_at_the_admin_socket_and_leaves_its_mark() {
    requires_root!();
    let trap = Trap::new();
    let mut gateway = gateway(&trap.acme(orders()));
    let stranger = Account::new(NOBODY);
    let directory = gateway.policy_directory().display().to_string();
    for arguments in [
        &["status"][..],
        &["connections"],
        &["apply", &directory],
        &["why", "PC-0000-0000-0000"],
    ] {
        let told = stranger.command(&gateway, arguments);
        assert!(
            told.refused()
                .contains("this user may not command this node"),
            "{told}"
        );
    }
    let event = gateway.event("the refusal", |event| event["kind"] == "admin.refused");
    assert_eq!(
        (&event["uid"], &event["by"]),
        (&NOBODY.into(), &"uid 65534 (nobody)".into())
    );
    portcullis_tests::wait::wait_for("an event for each", SOON, || {
        let events = gateway.events();
        let refusals = events
            .iter()
            .filter(|event| event["kind"] == "admin.refused");
        refusals.count() == 4
    });

    // Named in the configuration it may.
    let text = std::fs::read_to_string(gateway.configuration()).unwrap();
    let text = text.replace(
        "[admin]\n",
        &format!("[admin]\nallowed-uids = [{NOBODY}]\n"),
    );
    std::fs::write(gateway.configuration(), text).unwrap();
    gateway.terminate();
    gateway.start_again();
    assert!(stranger.command(&gateway, &["status"]).ok().contains("gw1"));
    let other = Account::new(1).command(&gateway, &["status"]);
    assert!(other.refused().contains("may not command"), "{other}");
}

#[test]
fn a_node_of_another_account_is_commanded_by_that_account_and_by_root() {
    requires_root!();
    let trap = Trap::new();
    let gateway = Gateway::builder()
        .unprivileged()
        .listener(Listener::public())
        .tenant(&trap.acme(orders()))
        .start();
    scene::assert_in_force(&gateway, 1);
    assert!(
        Account::new(NOBODY)
            .command(&gateway, &["status"])
            .ok()
            .contains("gw1")
    );
    let other = Account::new(1).command(&gateway, &["status"]);
    assert!(other.refused().contains("may not command"), "{other}");
}

#[test]
fn a_change_names_who_made_it() {
    let trap = Trap::new();
    let gateway = gateway(&trap.acme(orders()));
    gateway.apply(&[trap.acme(orders().name("acme-too.db.test"))]);
    let me = rustix::process::geteuid().as_raw();
    let event = gateway.event("the change", |event| {
        event["kind"] == "policy.applied" && event["revision"] == 2
    });
    let by = event["by"].as_str().unwrap();
    assert!(by.starts_with(&format!("uid {me}")), "{event}");
}

#[test]
fn nothing_listens_on_the_network_but_what_the_configuration_names() {
    requires_root!();
    let trap = Trap::new();
    let mut gateway = Gateway::builder()
        .listener(Listener::public())
        .listener(Listener::network("acme-vpc"))
        .tenant(&trap.acme(orders()).network("acme-vpc"))
        .start();
    let doors = BTreeSet::from([gateway.listener(0), gateway.listener(1)]);
    let all = doors
        .iter()
        .copied()
        .chain([gateway.metrics_address()])
        .collect();
    // Of the listeners the socket that the harness waits for is not the last.
    wait::wait_for("every listener and no other", SOON, || {
        listening(gateway.pid()) == all
    });
    // Not named, there are no metrics.
    let text = std::fs::read_to_string(gateway.configuration()).unwrap();
    let metrics = format!("[metrics]\nlisten = \"{}\"\n", gateway.metrics_address());
    assert!(text.contains(&metrics), "{text}");
    std::fs::write(gateway.configuration(), text.replace(&metrics, "")).unwrap();
    gateway.terminate();
    gateway.start_again();
    wait::wait_for("the doors alone", SOON, || {
        listening(gateway.pid()) == doors
    });
}

#[test]
fn metrics_and_health_are_on_their_own_address_and_nothing_else_is_there() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let _live = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    let denied = gateway
        .dial("nobodys.db.test")
        .start(&[("user", "app")])
        .unwrap()
        .refusal();
    assert_eq!(denied.sqlstate(), "28000");
    let page = gateway.metrics("/metrics");
    for line in [
        "portcullis_connections_open 1",
        "portcullis_connections_total{outcome=\"permitted\",code=\"permitted\"} 1",
        "portcullis_connections_total{outcome=\"connection.denied\",code=\"unknown_endpoint\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    for secret in ["app", "acme", "127.0.0.1"] {
        assert!(
            !page.contains(&format!("\"{secret}")),
            "{secret} is in\n{page}"
        );
    }
    assert_eq!(gateway.metrics("/healthz"), "ok\n");
    for request in [
        "GET /v1/status",
        "GET /v1/connections",
        "POST /v1/apply",
        "GET /",
    ] {
        let answer = http(gateway.metrics_address(), request);
        assert!(answer.starts_with("HTTP/1.1 40"), "{request}: {answer}");
    }
    // Never on a data listener.
    let mut client = Dial::plain(gateway.address()).connect().unwrap();
    let from = client.local_address();
    client
        .send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert!(client.read_to_end().0.is_empty());
    event(&gateway, "protocol.violation", "http_request", from);
}

#[test]
fn live_connections_are_listed_with_who_from_where_and_by_which_entry() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let dial = gateway.dial(NAME).from(scene::here(4, 2));
    let mut live = dial.sign_in("app", "secret", "postgres");
    live.query("select repeat('x', 1000)").unwrap();
    let listed = gateway.ask(&["connections"])["connections"][0].clone();
    for (name, value) in [
        ("tenant", "acme"),
        ("endpoint", "orders"),
        ("origin", "public"),
        ("address", "127.0.4.2"),
        ("user", "app"),
        ("database", "postgres"),
        ("state", "open"),
        ("entry", "allow[0] (127.0.0.0/8 via public)"),
    ] {
        assert_eq!(listed[name], value, "{listed}");
    }
    assert_eq!(listed["port"], live.local_address().port());
    let table = gateway.command(&["connections", "--tenant", "acme"]);
    assert!(
        table.ok().contains("127.0.4.2") && table.ok().contains("app"),
        "{table}"
    );
    let none = gateway.ask(&["connections", "--tenant", "globex"]);
    assert_eq!(none["connections"].as_array().unwrap().len(), 0);
    let reference = listed["reference"].as_str().unwrap();
    assert!(
        gateway
            .command(&["why", reference])
            .ok()
            .contains("connection.permitted")
    );
}

/// The uid of nobody on Debian.
const NOBODY: u32 = 65_534;
const LIMIT: Duration = Duration::from_secs(30);

/// Somebody else on this machine, with a copy of the program where they can run it.
struct Account {
    uid: u32,
    program: PathBuf,
    _scratch: Scratch,
}

impl Account {
    fn new(uid: u32) -> Self {
        let scratch = Scratch::new("account");
        let program = scratch.path().join("portcullis");
        // By cp, not by us: a file that this process had open for writing is "busy" for a while.
        let mut copy = Command::new("cp");
        copy.arg(binary()).arg(&program);
        let _ = process::run(&copy, LIMIT).ok();
        Self {
            uid,
            program,
            _scratch: scratch,
        }
    }

    fn command(&self, gateway: &Gateway, arguments: &[&str]) -> Finished {
        let mut command = Command::new("setpriv");
        command.args([
            &format!("--reuid={}", self.uid),
            &format!("--regid={}", self.uid),
        ]);
        command
            .args(["--clear-groups", "--"])
            .arg(&self.program)
            .args(arguments);
        command.env("PORTCULLIS_SOCKET", gateway.admin_socket());
        process::run(&command, LIMIT)
    }
}

/// The addresses on which a process listens, TCP and UDP.
fn listening(pid: u32) -> BTreeSet<SocketAddr> {
    let mut ss = Command::new("ss");
    ss.args([
        "--no-header",
        "--listening",
        "--tcp",
        "--udp",
        "--numeric",
        "--processes",
    ]);
    let told = process::run(&ss, LIMIT);
    let ours = format!("pid={pid},");
    let lines = told.ok().lines().filter(|line| line.contains(&ours));
    lines
        .map(|line| line.split_whitespace().nth(4).unwrap().parse().unwrap())
        .collect()
}

fn http(to: SocketAddr, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

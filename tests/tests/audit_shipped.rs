//! Entries of the audit logs, brought to where operators look: each arrives, in order, whatever is cut, full or killed meanwhile.

mod shipped;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use portcullis_tests::fleet::{Disk, Guests};
use portcullis_tests::{Fleet, Gateway, Listener, Scratch, TenantText, TestAuthority, wait};
use serde_json::{Map, Value};
use shipped::{Receiver, Rsyslog, SOON, entries, wait_for_all};

#[test]
fn a_file_has_every_entry_in_order_also_what_came_while_it_could_not_be_written() {
    let scratch = Scratch::new("ship-ocsf");
    let folder = scratch.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("events.jsonl");
    let gateway = start(&ocsf(&file));
    assert_eq!(file_has_all(&gateway.data_directory(), &file), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // The file's folder goes away, and comes back.
    let aside = scratch.path().join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    gateway.apply(&[tenant(5433)]);
    gateway.event("a sink that is stalled", |it| {
        it["kind"] == "ship.stalled" && it["sink"] == "ocsf"
    });
    // At least the change in both logs; how often heads are told besides depends on when it came.
    let logs = gateway.data_directory().join("audit/logs");
    let lag = wait::until(SOON, || {
        let there: usize = entries(&logs).values().map(Vec::len).sum();
        let lag = there - lines(&aside.join("events.jsonl")).len();
        let line = format!("portcullis_audit_ship_lag_entries{{sink=\"ocsf\"}} {lag}");
        let told = gateway.metrics("/metrics").lines().any(|it| it == line);
        (lag >= 2 && told).then_some(lag)
    });
    assert!(lag.is_some(), "the lag is not what the file lacks");
    shows(
        &gateway,
        "portcullis_audit_ship_failures_total{sink=\"ocsf\"}",
    );
    std::fs::rename(&aside, &folder).unwrap();
    assert_eq!(file_has_all(&gateway.data_directory(), &file), 0);
    gateway.event("a sink that has it again", |it| {
        it["kind"] == "ship.resumed"
    });

    let change = lines(&file)
        .into_iter()
        .rfind(|it| it["metadata"]["tenant_uid"] == "acme" && it["message"] == "policy.applied");
    let change = change.unwrap();
    assert_eq!(change["class_uid"], 3004);
    assert_eq!(change["entity"]["name"], "acme");
    assert!(
        change["unmapped"]["fields"]["document"].is_object(),
        "{change}"
    );
}

#[test]
fn a_node_that_is_killed_repeats_at_most_and_a_torn_line_is_gone() {
    let scratch = Scratch::new("ship-kill");
    let file = scratch.path().join("events.jsonl");
    let mut gateway = start(&ocsf(&file));
    let cursor = gateway.data_directory().join("audit/ship/ocsf.json");
    file_has_all(&gateway.data_directory(), &file);
    for round in 0..3_u16 {
        gateway.apply(&[tenant(round)]);
        gateway.kill();
        // As if it had died in the middle of a line, and before the cursor was kept.
        if round == 1 {
            let mut text = std::fs::read(&file).unwrap();
            text.extend_from_slice(b"{\"half\":");
            std::fs::write(&file, text).unwrap();
            std::fs::remove_file(&cursor).unwrap();
        }
        gateway.start_again();
        // All arrived before the cursor was lost, so the repeats are waited for apart.
        wait::wait_for("what has no cursor to be repeated", SOON, || {
            let again = file_has_all(&gateway.data_directory(), &file);
            round == 0 || again > 0
        });
    }
}

#[test]
fn a_full_disk_is_waited_out() {
    portcullis_tests::requires_root!();
    let scratch = Scratch::new("ship-full");
    let folder = scratch.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    let disk = Disk::new(&scratch, &folder, 1);
    let file = disk.path().join("events.jsonl");
    let gateway = start(&ocsf(&file));
    file_has_all(&gateway.data_directory(), &file);
    disk.fill();
    // Policy goes on being applied.
    for port in 5500..5510 {
        gateway.apply(&[tenant(port)]);
    }
    let told = gateway.event("a full disk", |it| it["kind"] == "ship.stalled");
    let why = told["why"].as_str().unwrap();
    assert!(why.contains("No space left on device"), "{why}");
    assert!(why.contains("events.jsonl"), "{why}");
    disk.make_room();
    assert_eq!(file_has_all(&gateway.data_directory(), &file), 0);
}

#[test]
fn otlp_has_every_entry_whatever_its_receiver_does() {
    let mut receiver = Receiver::new("otlp");
    let mut gateway = start(&receiver.table());
    assert_eq!(receiver.has_all(&gateway), 0);
    let mut port = 0;
    let mut change = |gateway: &Gateway| {
        port += 1;
        let _ = gateway.apply(&[tenant(port)]);
    };
    for mode in [
        "refuse", "cut", "stall", "html", "503 1", "429 1", "400 0", "302 0",
    ] {
        let times = if mode == "stall" { 1 } else { 2 };
        receiver.through(mode, times, || change(&gateway));
        receiver.has_all(&gateway);
    }
    receiver.kill();
    change(&gateway);
    receiver.start_again();
    receiver.has_all(&gateway);
    receiver.through("refuse", 1, || change(&gateway));
    gateway.kill();
    gateway.start_again();
    receiver.has_all(&gateway);

    let taken = receiver.taken();
    let last = taken.last().unwrap();
    assert_eq!(last["host"], "gw1");
    let line: Value = serde_json::from_str(last["line"].as_str().unwrap()).unwrap();
    assert_eq!(last["kind"], line["kind"]);
    shows(
        &gateway,
        "portcullis_audit_ship_lag_entries{sink=\"otlp\"} 0",
    );
}

#[test]
fn what_an_otlp_receiver_rejects_is_counted_and_told() {
    let receiver = Receiver::new("otlp");
    receiver.behave("partial 1");
    let gateway = start(&receiver.table());
    let told = gateway.event("a gap", |it| it["kind"] == "ship.gap");
    assert_eq!(
        (&told["sink"], &told["rejected"]),
        (&"otlp".into(), &1.into())
    );
    assert_eq!(told["why"], "too old");
    assert!(told["among"].is_object(), "{told}");
    shows(
        &gateway,
        "portcullis_audit_ship_rejected_total{sink=\"otlp\"}",
    );
    receiver.behave("take");
    // It goes on with what came after.
    let before = receiver.taken().len();
    let _ = gateway.apply(&[tenant(5433)]);
    wait::wait_for("what came after", SOON, || receiver.taken().len() > before);
}

#[test]
fn a_receiver_that_takes_little_at_once_is_sent_little_at_once() {
    let receiver = Receiver::new("otlp");
    receiver.behave("503 0");
    let gateway = start(&receiver.table());
    for port in 5500..5510 {
        let _ = gateway.apply(&[tenant(port)]);
    }
    receiver.behave("most 2");
    let before = receiver.met();
    assert_eq!(receiver.has_all(&gateway), 0);
    assert!(receiver.met() > before + 10);
}

#[test]
fn a_receiver_that_asks_for_time_is_given_it_within_bounds() {
    let receiver = Receiver::new("otlp");
    let gateway = start(&receiver.table());
    receiver.has_all(&gateway);
    receiver.behave("503 6");
    let before = receiver.met();
    let _ = gateway.apply(&[tenant(5433)]);
    wait::wait_for("a request", SOON, || receiver.met() > before);
    // Without being asked it would have come again after half a second, one and two.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(receiver.met(), before + 1);
    receiver.behave("take");
    receiver.has_all(&gateway);
}

#[test]
fn syslog_has_every_entry_whatever_its_receiver_does() {
    let mut receiver = Receiver::new("syslog");
    let mut gateway = start(&receiver.table());
    assert_eq!(receiver.has_all(&gateway), 0);
    let mut port = 0;
    let mut change = |gateway: &Gateway| {
        port += 1;
        let _ = gateway.apply(&[tenant(port)]);
    };
    for mode in ["refuse", "cut", "stall"] {
        let times = if mode == "stall" { 1 } else { 2 };
        receiver.through(mode, times, || {
            // Whoever is connected is cut off by the first message.
            change(&gateway);
        });
        receiver.has_all(&gateway);
        // It is taken to be well after two quiet looks; before that, pauses go on doubling.
        std::thread::sleep(Duration::from_secs(3));
    }
    receiver.kill();
    change(&gateway);
    receiver.start_again();
    assert!(receiver.has_all(&gateway) > 0);
    change(&gateway);
    gateway.kill();
    gateway.start_again();
    change(&gateway);
    receiver.has_all(&gateway);

    let taken = receiver.taken();
    let last = taken.last().unwrap();
    assert_eq!(
        (&last["sd"], &last["host"]),
        (&"portcullis@99999".into(), &"gw1".into())
    );
    // Log audit, informational.
    assert_eq!(last["priority"], 13 * 8 + 6);
    let line: Value = serde_json::from_str(last["line"].as_str().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["at"]), (&line["kind"], &line["at"]));
}

#[test]
fn rsyslog_reads_every_message_whole() {
    let Some(rsyslog) = Rsyslog::start() else {
        portcullis_tests::skip::skipped(
            module_path!(),
            line!(),
            "needs rsyslog and its OpenSSL driver",
        );
        return;
    };
    let gateway = start(&rsyslog.table());
    // A document of nearly the size that an entry has room for, and one in parts.
    for networks in [100, 990] {
        let names = (0..networks).map(|number| format!("net-{number:0>50}"));
        let tenant = names.fold(TenantText::new("acme"), |tenant, name| {
            tenant.network(&name)
        });
        let _ = gateway.apply(&[tenant]);
    }
    rsyslog.has_all(&gateway);
    let taken = rsyslog.taken();
    let longest = taken
        .iter()
        .map(|it| it["line"].as_str().unwrap().len())
        .max();
    assert!(longest > Some(7_000), "{longest:?}");
    let parts = |it: &&Value| it["kind"] == "policy.document";
    assert!(taken.iter().filter(parts).count() > 1);
    let last = taken.last().unwrap();
    assert_eq!(
        (&last["app"], &last["host"]),
        (&"portcullis".into(), &"gw1".into())
    );
}

#[test]
fn a_syslog_receiver_of_another_authority_is_sent_nothing() {
    let receiver = Receiver::new("syslog");
    let table = receiver.table();
    let other = receiver.ca_of_another();
    let table: String = table
        .lines()
        .map(|line| match line.starts_with("ca = ") {
            true => format!("ca = \"{}\"\n", other.display()),
            false => format!("{line}\n"),
        })
        .collect();
    let gateway = start(&table);
    let told = gateway.event("a sink that is stalled", |it| it["kind"] == "ship.stalled");
    let why = told["why"].as_str().unwrap();
    assert!(
        why.contains("TLS handshake") && why.contains("127.0.0.1:"),
        "{why}"
    );
    assert_eq!(receiver.taken(), Vec::<Value>::new());
}

#[test]
fn a_receiver_sees_the_token_and_the_certificate_that_it_wants() {
    let scratch = Scratch::new("ship-wants");
    let token = scratch.write_secret("token", "an0ther-token\n");
    let receiver = Receiver::that_wants("otlp", "TOKEN", "s3cret-token".to_owned());
    let table = format!("{}token-file = \"{}\"\n", receiver.table(), token.display());
    let gateway = start(&table);
    let told = gateway.event("a sink that is stalled", |it| it["kind"] == "ship.stalled");
    let why = told["why"].as_str().unwrap();
    assert!(
        why.contains("status 401") && why.contains("no such token: Bearer TOKEN"),
        "{why}"
    );
    // The token is replaced while the node runs; nothing was passed over.
    scratch.write_secret("token", "s3cret-token\n");
    assert_eq!(receiver.has_all(&gateway), 0);
    for secret in ["s3cret-token", "an0ther-token"] {
        assert!(!gateway.log_text().contains(secret));
        assert!(
            !receiver
                .taken()
                .iter()
                .any(|it| it.to_string().contains(secret))
        );
    }

    let authority = TestAuthority::new("Clients");
    let ca = scratch.write("clients.pem", authority.pem());
    let (chain, key) = authority
        .client("portcullis", &[])
        .write(&scratch, "client");
    let receiver = Receiver::that_wants("syslog", "CLIENT_CA", ca.display().to_string());
    let files = format!("certificate = {chain:?}\nkey = {key:?}\n");
    let gateway = start(&format!("{}{files}", receiver.table()));
    receiver.has_all(&gateway);
    // Each node has a fleet of its own: by its logs' name what it sent is known.
    let logs = || -> BTreeSet<String> {
        let taken = receiver.taken().into_iter();
        taken.map(|it| it["log"].to_string()).collect()
    };
    let before = logs();
    drop(gateway);
    let gateway = start(&receiver.table());
    gateway.event("a sink that is stalled", |it| it["kind"] == "ship.stalled");
    assert_eq!(logs(), before);
}

#[test]
fn plain_tcp_is_warned_about() {
    let receiver = Receiver::plain("syslog");
    let gateway = start(&receiver.table());
    receiver.has_all(&gateway);
    assert!(gateway.log_text().contains("without encryption"));
    let receiver = Receiver::plain("otlp");
    let gateway = start(&receiver.table());
    receiver.has_all(&gateway);
    assert!(gateway.log_text().contains("without encryption"));
}

#[test]
fn another_node_goes_on_when_the_one_that_leads_is_gone_and_each_has_the_file() {
    let receiver = Receiver::new("otlp");
    let mut fleet = Fleet::of(3);
    let tables = format!(
        "{}[audit.ocsf]\nfile = \"events.jsonl\"\n",
        receiver.table()
    );
    for node in &mut fleet.nodes {
        node.stop();
        node.rewrite("[admin]\n", &format!("{tables}[admin]\n"));
        node.start();
    }
    fleet.settled();
    let leader = fleet.leader();
    receiver.has_all_of(&fleet.nodes[leader].data());
    for node in &fleet.nodes {
        file_has_all(&node.data(), &node.folder().join("events.jsonl"));
    }
    receiver.through("stall", 1, || {
        let _ = fleet.nodes[leader]
            .apply(&[fleet.policy(Guests::Unwelcome)])
            .ok();
    });
    fleet.nodes[leader].kill();
    let next = fleet.leader_but(Some(leader));
    let _ = fleet.nodes[next]
        .apply(&[fleet.policy(Guests::Welcome)])
        .ok();
    let node = &fleet.nodes[next];
    receiver.has_all_of(&node.data());
    assert_eq!(
        file_has_all(&node.data(), &node.folder().join("events.jsonl")),
        0
    );
    // What nodes saw is among it.
    let started = |it: &Value| it["kind"] == "node.started";
    assert!(receiver.taken().iter().filter(|it| started(it)).count() >= 3);
}

fn start(more: &str) -> Gateway {
    let builder = Gateway::builder().listener(Listener::public());
    builder.tenant(&tenant(5432)).more(more).start()
}

/// Waits until its metrics have a line that begins so.
fn shows(gateway: &Gateway, line: &str) {
    let told = || gateway.metrics("/metrics");
    let there = wait::until(SOON, || {
        told().lines().any(|it| it.starts_with(line)).then_some(())
    });
    let lines = told();
    let lines: Vec<_> = lines.lines().filter(|it| it.contains("_ship_")).collect();
    assert!(there.is_some(), "no {line} among {lines:#?}");
}

fn ocsf(file: &Path) -> String {
    format!("[audit.ocsf]\nfile = {:?}\n", file.display().to_string())
}

fn tenant(number: u16) -> TenantText {
    TenantText::new("acme").network(&format!("net{number}"))
}

/// The whole lines of a file of events.
fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the file has all that is in the logs now, with everything that each entry says; how many lines came again.
fn file_has_all(data: &Path, file: &Path) -> usize {
    wait_for_all(&data.join("audit/logs"), || {
        let arrived = lines(file).into_iter().map(|event| {
            let metadata = &event["metadata"];
            let (log, index) = (&metadata["log_name"], &metadata["sequence"]);
            let (log, index) = (log.as_str().unwrap(), index.as_u64().unwrap());
            assert_eq!(metadata["uid"], format!("{log}:{index}"));
            (
                log.to_owned(),
                usize::try_from(index).unwrap(),
                entry(&event),
            )
        });
        arrived.collect()
    })
}

/// The entry that an event is made of: its head and its fields, with their names sorted.
fn entry(event: &Value) -> String {
    let unmapped = event["unmapped"].as_object().unwrap();
    let mut members: Map<String, Value> = unmapped["fields"].as_object().unwrap().clone();
    for name in ["kind", "node", "tenant", "reference", "revision"] {
        if let Some(value) = unmapped.get(name) {
            members.insert(name.to_owned(), value.clone());
        }
    }
    members.insert("at".to_owned(), event["metadata"]["original_time"].clone());
    Value::Object(members).to_string()
}

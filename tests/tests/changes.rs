//! Changes of policy as a whole: what closes everybody, what closes nobody, and what is refused
//! and changes nothing.

mod scene;

use portcullis_tests::{EndpointText, Gateway, RawClient, TenantText, Version, wait};
use scene::{NAME, SOON, acme, clients, gateway, orders, server};
use serde_json::Value;

#[test]
fn what_only_people_read_closes_nobody() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut client = open(&gateway);
    let more = |text: &str| acme(server, orders()).yaml().replace("note: a test", text);
    for text in [
        more("note: another note"),
        more("note: a test, except: [127.9.9.9]"),
        acme(server, orders().allow("10.0.0.0/8", "public")).yaml(),
        acme(server, orders().name("acme-too.db.test")).yaml(),
        acme(server, orders().more("    replication: allowed\n")).yaml(),
        format!(
            "{}limits: {{connections: 1}}\n",
            acme(server, orders()).yaml()
        ),
        acme(server, orders())
            .endpoint(EndpointText::new("more", "acme-more.db.test").cluster("orders"))
            .yaml(),
        acme(server, orders()).yaml(),
    ] {
        gateway.write_policy_text("acme.yaml", &text);
        let receipt = gateway.apply(&[]);
        assert_eq!(receipt["changed"], true, "{text}");
        assert_eq!(closed(&receipt), [] as [Value; 0], "{text}");
        assert_eq!(client.query("select 1").unwrap().len(), 1);
    }
    let again = gateway.apply(&[]);
    assert_eq!(again["changed"], false);
}

#[test]
fn what_a_connection_stands_on_closes_it_when_it_changes() {
    let server = server(Version::V15);
    let good = || acme(server, orders());
    let elsewhere = TenantText::new("acme")
        .cluster("orders", server)
        .cluster("other", server);
    let token = orders().authentication("relay");
    for (text, code) in [
        (
            format!("{}suspended: true\n", good().yaml()),
            "tenant_suspended",
        ),
        (
            acme(server, orders().more("    suspended: true\n")).yaml(),
            "endpoint_suspended",
        ),
        (
            acme(server, EndpointText::new("orders", NAME)).yaml(),
            "public_blocked",
        ),
        (
            acme(server, EndpointText::new("orders", NAME).door("public")).yaml(),
            "empty_list",
        ),
        (
            acme(
                server,
                EndpointText::new("orders", "acme-other.db.test").allow("127.0.0.0/8", "public"),
            )
            .yaml(),
            "unknown_endpoint",
        ),
        (
            TenantText::new("acme").cluster("orders", server).yaml(),
            "unknown_endpoint",
        ),
        (
            elsewhere.endpoint(orders().cluster("other")).yaml(),
            "endpoint_redirected",
        ),
        (acme(server, token).yaml(), "endpoint_redirected"),
    ] {
        let gateway = gateway(&good());
        let mut client = open(&gateway);
        gateway.write_policy_text("acme.yaml", &text);
        let receipt = gateway.apply(&[]);
        let [one] = closed(&receipt)
            .try_into()
            .unwrap_or_else(|_| panic!("{code}: {receipt}"));
        assert_eq!(one["code"], code);
        assert_eq!(one["backend"], "gone", "{one}");
        assert_eq!(client.refusal().sqlstate(), "57P01");
    }
}

#[test]
fn a_tenant_whose_file_is_missing_is_left_alone_unless_it_is_said() {
    let server = server(Version::V15);
    let globex = EndpointText::new("orders", "globex.db.test").allow("127.0.0.0/8", "public");
    let globex = TenantText::new("globex")
        .cluster("orders", server)
        .endpoint(globex);
    let gateway = Gateway::builder()
        .listener(portcullis_tests::Listener::public())
        .tenant(&acme(server, orders()))
        .tenant(&globex)
        .signs_in_at("acme", clients())
        .signs_in_at("globex", clients())
        .start();
    let trusted = gateway.authorities_pem();
    let other = portcullis_tests::Dial::tls(gateway.address(), "globex.db.test", &trusted);
    let (mut ours, mut theirs) = (open(&gateway), other.sign_in("app", "secret", "postgres"));
    std::fs::remove_file(gateway.policy_directory().join("acme.yaml")).unwrap();
    let receipt = gateway.apply(&[]);
    assert_eq!(receipt["changed"], false);
    assert_eq!(
        receipt["difference"]["left_alone"],
        serde_json::json!(["acme"])
    );
    assert_eq!(ours.query("select 1").unwrap().len(), 1);
    let directory = gateway.policy_directory().display().to_string();
    let receipt = gateway.ask(&["apply", &directory, "--prune", "--receipt"]);
    assert_eq!(
        receipt["difference"]["removed"],
        serde_json::json!(["acme"])
    );
    assert_eq!(closed(&receipt).len(), 1);
    assert_eq!(ours.refusal().sqlstate(), "57P01");
    assert_eq!(theirs.query("select 1").unwrap().len(), 1);
    // Everybody at once is more likely a wrong directory.
    std::fs::remove_file(gateway.policy_directory().join("globex.yaml")).unwrap();
    let refused = gateway.command(&["apply", &directory, "--prune"]);
    assert!(refused.refused().contains("every tenant"), "{refused}");
    assert_eq!(theirs.query("select 1").unwrap().len(), 1);
}

#[test]
fn sighup_reads_the_directory_again() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut client = open(&gateway);
    gateway.write_policy(&acme(
        server,
        EndpointText::new("orders", NAME).allow("127.0.9.9", "public"),
    ));
    gateway.hang_up();
    assert_eq!(client.refusal().sqlstate(), "57P01");
    let event = gateway.event("the change", |event| {
        event["kind"] == "policy.applied" && event["by"] == "SIGHUP"
    });
    assert_eq!(event["revision"], 2);
    // A bad file changes nothing and is told in the log and the audit events.
    gateway.write_policy(&acme(server, orders()));
    gateway.write_policy_text("broken.yaml", "tenant: broken\nendpoint: {}\n");
    gateway.hang_up();
    let event = gateway.event("the refusal", |event| event["kind"] == "policy.rejected");
    assert_eq!(
        (&event["by"], &event["revision"]),
        (&"SIGHUP".into(), &2.into())
    );
    let mistakes = event["mistakes"].to_string();
    assert!(mistakes.contains("broken.yaml:2:1"), "{event}");
    let refused = gateway
        .dial(NAME)
        .start(&[("user", "app")])
        .unwrap()
        .refusal();
    assert_eq!(
        refused.sqlstate(),
        "28000",
        "the good file beside it is not applied either"
    );
}

#[test]
fn a_refused_apply_changes_nothing_and_leaves_its_mark() {
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut client = open(&gateway);
    let revision = || gateway.ask(&["status"])["revision"].clone();
    let before = revision();
    // The good file beside it would close the connection.
    let shut = acme(
        server,
        EndpointText::new("orders", NAME).allow("127.0.9.9", "public"),
    );
    gateway.write_policy(&shut);
    let globex = |yaml: &str| yaml.replace("tenant: acme", "tenant: globex");
    let bad = |from: &str, to: &str| {
        globex(&shut.yaml().replace(NAME, "globex.db.test")).replace(from, to)
    };
    let mut rejections = 0;
    for (text, told) in [
        (
            "tenant: globex\nunknown-key: 1\n".to_owned(),
            "globex.yaml:2:1",
        ),
        ("tenant: globex\nclusters: [\n".to_owned(), "globex.yaml:"),
        ("tenant: other\n".to_owned(), "globex.yaml:1:"),
        (bad("127.0.9.9", "127.0.9.9/24"), "127.0.9.9/24"),
        (bad("127.0.9.9", "::ffff:127.0.9.9"), "::ffff:127.0.9.9"),
        (bad("127.0.9.9", "0.0.0.0/0"), "anywhere"),
        (bad("cluster: orders", "cluster: nowhere"), "nowhere"),
        (globex(&shut.yaml()), NAME),
        (
            globex(&shut.clone().network("acme-vpc").yaml()).replace(NAME, "globex.db.test"),
            "acme-vpc",
        ),
    ] {
        let claims = told == "acme-vpc";
        if claims {
            gateway.write_policy(&shut.clone().network("acme-vpc"));
        }
        gateway.write_policy_text("globex.yaml", &text);
        let directory = gateway.policy_directory().display().to_string();
        for command in ["plan", "apply"] {
            let refused = gateway.command(&[command, &directory]);
            assert!(refused.refused().contains(told), "{told}: {refused}");
        }
        rejections += 1;
        assert_eq!(revision(), before);
        assert_eq!(client.query("select 1").unwrap().len(), 1);
    }
    let rejected = || {
        gateway
            .events()
            .iter()
            .filter(|event| event["kind"] == "policy.rejected")
            .count()
    };
    wait::wait_for("an event for each apply and none for a plan", SOON, || {
        rejected() == rejections
    });
}

#[test]
fn a_restart_keeps_the_last_good_policy_though_the_directory_is_broken() {
    let server = server(Version::V18);
    let mut gateway = gateway(&acme(server, orders()));
    gateway.write_policy_text("acme.yaml", "tenant: acme\nendpoints: {orders: {}}\n");
    for end in [Gateway::terminate, Gateway::kill] {
        end(&mut gateway);
        gateway.start_again();
        assert_eq!(open(&gateway).query("select 1").unwrap().len(), 1);
        assert_eq!(gateway.ask(&["status"])["revision"], 1);
    }
    let refusals = gateway
        .events()
        .iter()
        .filter(|event| event["kind"] == "policy.rejected" && event["by"] == "start")
        .count();
    assert_eq!(refusals, 2);
}

#[test]
fn a_node_that_is_told_to_stop_lets_the_living_finish_and_one_that_is_interrupted_tells_them() {
    let server = server(Version::V15);
    let mut gateway = gateway(&acme(server, orders()));
    let mut last = open(&gateway);
    let pid = rustix::process::Pid::from_raw(i32::try_from(gateway.pid()).unwrap()).unwrap();
    let told = |signal| rustix::process::kill_process(pid, signal).unwrap();
    told(rustix::process::Signal::TERM);
    wait::wait_for("no new client is taken", SOON, || {
        gateway.dial(NAME).start(&[("user", "app")]).is_err()
    });
    assert_eq!(last.query("select 1").unwrap().len(), 1);
    drop(last);
    gateway.terminate();
    gateway.start_again();

    let mut live = open(&gateway);
    let pid = rustix::process::Pid::from_raw(i32::try_from(gateway.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let refusal = live.refusal();
    assert_eq!(refusal.sqlstate(), "57P01");
    assert!(refusal.text().contains("shutting down"), "{refusal:?}");
}

fn open(gateway: &Gateway) -> RawClient {
    gateway.dial(NAME).sign_in("app", "secret", "postgres")
}

fn closed(receipt: &Value) -> Vec<Value> {
    receipt["enforcement"]["closed"]
        .as_array()
        .unwrap_or_else(|| panic!("{receipt}"))
        .clone()
}

//! `portcullis dialer` as the process that it is: whom it serves, what it refuses, and what becomes
//! of a gateway when it is not there.

mod site;

use std::process::Command;

use portcullis_tests::gateway::binary;
use portcullis_tests::{
    Dial, EndpointText, Gateway, Listener, Namespace, process, requires_root, wait,
};
use serde_json::json;
use site::{Dialer, NAME, NOBODY, SOON, Site};

#[test]
fn a_user_whom_the_dialer_was_not_told_gets_no_socket_and_root_is_no_exception() {
    requires_root!();
    let site = Site::new();
    let dialer = Dialer::start(12_345, &["--allow-any"]);
    for (uid, builder) in [
        (0, site.gateway(&dialer)),
        (NOBODY, site.gateway(&dialer).unprivileged()),
    ] {
        let said = format!("user {uid} is not allowed; start the dialer with --allow-uid {uid}");
        let told = builder
            .clone()
            .listener(site.listener())
            .try_start()
            .unwrap_err();
        assert!(told.contains(&said), "{told}");
        let why = site.why_not_reached(&builder.start());
        assert!(why.contains(&said), "{why}");
    }
}

#[test]
fn a_place_that_is_not_on_the_dialers_list_is_refused_with_the_option_that_would_allow_it() {
    requires_root!();
    let site = Site::new();
    let place = format!("network-namespace:{}", site.host.name());
    for listed in [
        "network-namespace:other".to_owned(),
        "interface:lo".to_owned(),
        format!("{place}x"),
    ] {
        let dialer = Dialer::start(NOBODY, &["--allow", &listed]);
        let builder = site.gateway(&dialer).unprivileged();
        let said = format!("{place} is not on its list; start the dialer with --allow {place}");
        let told = builder
            .clone()
            .listener(site.listener())
            .try_start()
            .unwrap_err();
        assert!(told.contains(&said), "{told}");
        let why = site.why_not_reached(&builder.start());
        assert!(why.contains(&said), "{why}");
    }
}

#[test]
fn a_namespace_that_does_not_exist_or_not_any_more_is_named_with_what_shows_the_others() {
    requires_root!();
    let mut site = Site::new();
    let dialer = Dialer::start(NOBODY, &["--allow-any"]);
    let nowhere = Listener::network("acme-vpc").more("network-namespace = \"pct-nowhere\"\n");
    let told = site
        .gateway(&dialer)
        .unprivileged()
        .listener(nowhere)
        .try_start()
        .unwrap_err();
    for part in [
        "listener 127.0.0.1",
        "namespace pct-nowhere does not exist",
        "ip netns list",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }

    let gateway = site.gateway(&dialer).unprivileged().start();
    let mut live = site.sign_in(&gateway);
    let name = site.host.name().to_owned();
    // Only the name goes: the network lives on as long as a socket or a process is in it.
    drop(std::mem::replace(&mut site.host, Namespace::new("other")));
    let why = site.why_not_reached(&gateway);
    assert!(
        why.contains(&format!("namespace {name} does not exist")),
        "{why}"
    );
    assert_eq!(live.query("select 1").unwrap(), [[Some("1".to_owned())]]);
}

#[test]
fn a_name_that_is_a_path_is_refused_wherever_it_is_written() {
    requires_root!();
    let site = Site::new();
    let dialer = Dialer::start(0, &["--allow-any"]);
    let gateway = site.gateway(&dialer).start();
    let paths = [
        "../acme",
        "/proc/1/ns/net",
        "..",
        "a/b",
        "a\0b",
        "",
        &"n".repeat(65),
    ];
    for kind in ["network-namespace", "interface"] {
        for path in paths {
            let place = format!("{kind}:{path}");
            let request = json!({"make": {"socket": {"family": "v4"}}, "place": place});
            let reply = dialer.ask(&request.to_string());
            assert!(
                reply["refused"]["malformed"]["what"].is_string(),
                "{place:?}: {reply}"
            );
            if !path.contains('\0') {
                let mut command = Command::new(binary());
                command.args([
                    "dialer",
                    "--socket",
                    "/nonexistent/sock",
                    "--allow-uid",
                    "0",
                    "--allow",
                    &place,
                ]);
                let refused = process::run(&command, SOON);
                assert!(
                    refused.refused().contains("is not a name"),
                    "{place:?}: {refused}"
                );
            }
            let listener =
                Listener::network("acme-vpc").more(&format!("{kind} = {}\n", json!(path)));
            let told = site
                .gateway(&dialer)
                .listener(listener)
                .try_start()
                .unwrap_err();
            assert!(
                told.contains("node.toml:") && told.contains(kind),
                "{place:?}: {told}"
            );
            gateway.write_policy(&site.tenant(&format!("{kind}: {}", json!(path))));
            let directory = gateway.policy_directory().display().to_string();
            let refused = gateway.command(&["apply", &directory]);
            assert!(refused.refused().contains(kind), "{place:?}: {refused}");
        }
    }
    for request in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"make":"everything","place":"interface:lo"}"#,
    ] {
        let reply = dialer.ask(request);
        assert!(
            reply["refused"]["malformed"]["what"].is_string(),
            "{request:?}: {reply}"
        );
    }
    // It is none the worse for all that.
    let fine = format!(
        r#"{{"make":{{"socket":{{"family":"v4"}}}},"place":"network-namespace:{}"}}"#,
        site.host.name()
    );
    assert_eq!(dialer.ask(&fine), "made");
}

#[test]
fn without_the_dialer_live_connections_go_on_and_new_ones_fail_until_it_is_back() {
    requires_root!();
    let site = Site::new();
    let mut dialer = Dialer::start(NOBODY, &["--allow-any"]);
    let gateway = site
        .gateway(&dialer)
        .listener(site.listener())
        .unprivileged()
        .start();
    let inside =
        Dial::tls(gateway.listener(1), NAME, &gateway.authorities_pem()).inside(&site.host);
    let (mut live, mut withdrawn) = (
        inside.sign_in("app", "secret", "postgres"),
        site.sign_in(&gateway),
    );
    dialer.service_mut().kill();
    for _ in 0..2 {
        let why = site.why_not_reached(&gateway);
        let socket = dialer.socket.display();
        for part in [
            &format!("the dialer at {socket} cannot be reached"),
            "is `portcullis dialer` running?",
        ] {
            assert!(why.contains(part), "no {part:?} in {why}");
        }
        assert_eq!(live.query("select 1").unwrap(), [[Some("1".to_owned())]]);
    }
    let event = gateway.event("the failure", |event| event["kind"] == "upstream.failed");
    assert_eq!(event["code"], "dialer_unreachable", "{event}");
    // What needs no new socket works as ever: listeners in the namespace, denials, withdrawals.
    let stranger = Dial::tls(
        gateway.listener(1),
        "other.db.test",
        &gateway.authorities_pem(),
    );
    let refusal = stranger
        .inside(&site.host)
        .start(&[("user", "app")])
        .unwrap()
        .refusal();
    assert_eq!(refusal.sqlstate(), "28000");
    let network_only = site.tenant_with(
        &site.via(),
        EndpointText::new("orders", NAME).allow("anywhere", "network:acme-vpc"),
    );
    let receipt = gateway.apply(&[network_only]);
    assert_eq!(
        receipt["enforcement"]["closed"].as_array().unwrap().len(),
        1,
        "{receipt}"
    );
    assert_eq!(
        withdrawn.read_to_end().0.last().unwrap().sqlstate(),
        "57P01"
    );
    assert_eq!(live.query("select 1").unwrap(), [[Some("1".to_owned())]]);

    // The dead one's socket is in the way of nobody.
    dialer.start_again();
    let open = dialer.open_files();
    for _ in 0..10 {
        drop(inside.sign_in("app", "secret", "postgres"));
    }
    wait::wait_for("what it passed on to be closed", SOON, || {
        dialer.open_files() <= open
    });
}

#[test]
fn a_dialer_that_does_not_answer_is_waited_for_no_longer_than_its_limit() {
    requires_root!();
    let site = Site::new();
    let dialer = Dialer::start(NOBODY, &["--allow-any"]);
    let gateway = site.gateway(&dialer).unprivileged().start();
    let mut live = site.sign_in(&gateway);
    let service = dialer.service();
    service.freeze();
    let why = site.why_not_reached(&gateway);
    assert!(why.contains("did not answer within 2 s"), "{why}");
    assert_eq!(live.query("select 1").unwrap(), [[Some("1".to_owned())]]);
    service.thaw();
    drop(site.sign_in(&gateway));
}

#[test]
fn a_gateway_without_privilege_cannot_go_there_alone() {
    requires_root!();
    let site = Site::new();
    let without = || {
        Gateway::builder()
            .unprivileged()
            .tenant(&site.tenant(&site.via()))
            .signs_in_at("acme", &site.clients)
    };
    let told = without().listener(site.listener()).try_start().unwrap_err();
    assert!(
        told.contains("needs the privileged dialer; write [dialer]"),
        "{told}"
    );
    let gateway = without().listener(Listener::public()).start();
    let why = site.why_not_reached(&gateway);
    for part in [
        "Operation not permitted",
        "CAP_SYS_ADMIN",
        "run `portcullis dialer`",
    ] {
        assert!(why.contains(part), "no {part:?} in {why}");
    }
    // Nor does a dialer that is named but was never started let it, or make it, do so.
    let absent = Dialer::nowhere();
    let told = site
        .gateway(&absent)
        .unprivileged()
        .listener(site.listener())
        .try_start()
        .unwrap_err();
    assert!(told.contains("is `portcullis dialer` running?"), "{told}");
}

#[test]
fn a_dialer_needs_one_capability_for_namespaces_and_none_for_interfaces() {
    requires_root!();
    let site = Site::new();
    let place =
        |place: &str| format!(r#"{{"make":{{"socket":{{"family":"v4"}}}},"place":"{place}"}}"#);
    let namespace = place(&format!("network-namespace:{}", site.host.name()));
    let bare = Dialer::start_with("", 0, &["--allow-any"]);
    let refused = &bare.ask(&namespace)["refused"]["failed"];
    assert_eq!(
        (&refused["step"], &refused["errno"]),
        (&json!("enter"), &json!(1))
    );
    assert_eq!(bare.ask(&place("interface:lo")), "made");
    let able = Dialer::start_with(",+sys_admin", 0, &["--allow-any"]);
    assert_eq!(able.ask(&namespace), "made");
}

//! What reviews and attacks have found, each with the test that keeps it from coming back.

mod scene;

use std::time::Duration;

use portcullis_certs::authority::Purpose;
use portcullis_tests::client::{V3_0, startup};
use portcullis_tests::identities::{empty, validity};
use portcullis_tests::{EndpointText, Gateway, Message, RawClient, TestAuthority, Version, wait};
use rustix::process::Signal;
use scene::{NAME, SOON, acme, certificate_mode, event_of, gateway, orders, server};

#[test]
fn relay_does_not_take_the_databases_trust_in_our_certificate_for_the_clients_proof() {
    let gateway = gateway(&acme(
        server(Version::V15),
        orders().authentication("relay"),
    ));
    // The database lets this role in by the gateway's own certificate, without asking anything.
    let told = refusal(&gateway, "reports");
    assert_eq!(told.sqlstate(), "57P03");
    let event = event_of(&gateway, "upstream.failed", &told);
    assert_eq!(event["code"], "relay_not_asked");
}

#[test]
fn nobody_comes_as_the_gateways_own_role() {
    let vouching = TestAuthority::new("Acme clients");
    for mode in [
        "relay",
        &certificate_mode(&vouching.pem(), &[("cn:batch", "portcullis_service")]),
    ] {
        let gateway = gateway(&acme(server(Version::V15), orders().authentication(mode)));
        let client = vouching.client("batch", &[]);
        let dial = gateway.dial(NAME).credential(&client);
        let mut client = dial.start(&[("user", "portcullis_service")]).unwrap();
        let told = client.refusal();
        assert_eq!(told.sqlstate(), "28P01", "{mode}");
        let event = event_of(&gateway, "authentication.failed", &told);
        assert_eq!(event["code"], "reserved_role", "{mode}");
    }
}

#[test]
fn a_certificate_verified_before_its_authority_was_withdrawn_does_not_get_in_after() {
    let (old, new) = (TestAuthority::new("Old"), TestAuthority::new("New"));
    let by = |authority| {
        let text = batch_by(authority);
        acme(server(Version::V15), orders().authentication(&text))
    };
    let gateway = gateway(&by(&old));
    let holder = old.client("batch", &[]);
    let mut early = gateway.dial(NAME).credential(&holder).connect().unwrap();
    gateway.apply(&[by(&new)]);
    let packet = startup(V3_0, &[("user", "batch"), ("database", "postgres")]);
    early.send(&packet).unwrap();
    assert_eq!(early.refusal().sqlstate(), "57P03");
}

#[test]
fn a_session_ends_when_the_certificate_that_opened_it_does() {
    let authority = TestAuthority::new("Acme clients");
    let text = batch_by(&authority);
    let gateway = gateway(&acme(server(Version::V15), orders().authentication(&text)));
    let mut leaf = empty(Purpose::Client);
    leaf.common_name = "batch".to_owned();
    leaf.validity = validity(-1, 1);
    leaf.validity.not_after = now() + 3;
    let short = authority.issue(&leaf);
    let mut client = started(&gateway.dial(NAME).credential(&short), "batch");
    client.read_until(b'Z').unwrap();
    let told = client.refusal();
    assert_eq!(told.sqlstate(), "57P01");
    let event = event_of(&gateway, "connection.lapsed", &told);
    assert_eq!(event["code"], "proof_expired");
    assert!(now() >= leaf.validity.not_after, "it ended early");
}

#[test]
fn what_the_kernel_still_holds_of_a_result_is_not_delivered_after_the_receipt() {
    const SIZE: usize = 2_000_000;
    let server = server(Version::V15);
    let gateway = gateway(&acme(server, orders()));
    let mut slow = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    slow.send_query(&format!("select repeat('x', {SIZE})"))
        .unwrap();
    // The whole answer has left the gateway: it stands at a message boundary.
    wait::wait_for("the answer has passed", SOON, || {
        let live = gateway.ask(&["connections"]);
        live["connections"][0]["bytes_out"].as_u64().unwrap_or(0) > SIZE as u64
    });
    let elsewhere = EndpointText::new("orders", NAME).allow("127.0.9.9", "public");
    let receipt = gateway.apply(&[acme(server, elsewhere)]);
    let closed = &receipt["enforcement"]["closed"][0];
    assert_eq!(closed["told"], false, "{receipt}");
    let (arrived, ending) = slow.read_to_end();
    let rows = arrived.iter().filter(|message| message.kind == b'D');
    assert_eq!(rows.count(), 0, "the whole row arrived, then {ending:?}");
}

#[test]
fn a_client_that_comes_late_does_not_hold_up_a_drain() {
    let mut gateway = gateway(&acme(server(Version::V15), orders()));
    let mut late = gateway.dial(NAME).connect().unwrap();
    gateway.signal(Signal::TERM);
    wait::wait_for("the drain begins", SOON, || {
        gateway.log_text().contains("draining")
    });
    let packet = startup(V3_0, &[("user", "app"), ("database", "postgres")]);
    // It may find the door shut already; let in it must not be.
    if late.send(&packet).is_ok()
        && let Ok(told) = late.read_message()
    {
        assert_eq!(told.sqlstate(), "57P03");
    }
    wait::wait_for("the node has ended", Duration::from_secs(20), || {
        gateway.ended().is_some()
    });
}

fn refusal(gateway: &Gateway, user: &str) -> Message {
    started(&gateway.dial(NAME), user).refusal()
}

fn started(dial: &portcullis_tests::Dial, user: &str) -> RawClient {
    dial.start(&[("user", user), ("database", "postgres")])
        .unwrap()
}

/// `certificate` mode that maps the common name `batch` to the role of that name.
fn batch_by(authority: &TestAuthority) -> String {
    certificate_mode(&authority.pem(), &[("cn:batch", "batch")])
}

fn now() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

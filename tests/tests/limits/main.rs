//! What a node takes on at most, each limit at its edge, and who is turned away when it is
//! reached: whoever is too many, and nobody else.

mod caps;
mod deadlines;
mod opening;
#[path = "../scene/mod.rs"]
mod scene;
mod share;
mod shown;
mod six;
mod soak;

use std::net::IpAddr;

use portcullis_tests::gateway::Builder;
use portcullis_tests::{
    Dial, Ending, EndpointText, Gateway, Listener, Message, RawClient, TenantText, wait,
};
use scene::{NAME, SOON, TOKEN, Trap, asks_for_a_token};
use serde_json::Value;

/// A gateway with these limits, before a database that nobody must reach.
fn trapped(limits: &str) -> (Trap, Gateway) {
    let trap = Trap::new();
    let gateway = started(limited(limits).tenant(&trap.acme(asks_for_a_token())), 1);
    (trap, gateway)
}

/// A gateway to be with a public listener and these limits.
fn limited(limits: &str) -> Builder {
    Gateway::builder()
        .listener(Listener::public())
        .limits(limits)
}

fn started(builder: Builder, tenants: u64) -> Gateway {
    let gateway = builder.start();
    scene::assert_in_force(&gateway, tenants);
    gateway
}

/// A client in the middle of its sign-in: it was asked for a token and says nothing.
fn waiting(dial: &Dial) -> RawClient {
    let mut client = begun(dial);
    let asked = client.read_message().unwrap();
    assert_eq!(asked.authentication(), Some(3), "{asked:?}");
    client
}

/// A client that sent its start-up packet.
fn begun(dial: &Dial) -> RawClient {
    begun_as("app", dial)
}

fn begun_as(role: &str, dial: &Dial) -> RawClient {
    dial.start(&[("user", role), ("database", "postgres")])
        .unwrap()
}

/// What somebody hears who is turned away by a limit after its start-up packet.
fn turned_away(client: &mut RawClient) -> Message {
    let refusal = client.refusal();
    assert_eq!(refusal.sqlstate(), "53300", "{refusal:?}");
    refusal
}

/// A connection is closed without a word.
fn assert_shed(dial: &Dial) {
    match dial.connect() {
        Err(_) => {}
        Ok(mut client) => {
            let (heard, ending) = client.read_to_end();
            assert_eq!(heard, [], "not a word");
            assert_ne!(ending, Ending::Silent);
        }
    }
}

/// The bare connection of somebody who comes from there.
fn bare(gateway: &Gateway, from: IpAddr) -> Dial {
    Dial::plain(gateway.address()).from(from)
}

/// One limit, as `portcullis limits` shows it.
fn limit(gateway: &Gateway, name: &str) -> Value {
    let reply = gateway.ask(&["limits"]);
    let rows = reply["limits"].as_array().unwrap().iter();
    let row = rows.clone().find(|row| row["name"] == name);
    row.unwrap_or_else(|| panic!("no {name} in {reply}"))
        .clone()
}

fn used(gateway: &Gateway, name: &str) -> u64 {
    limit(gateway, name)["used"].as_u64().unwrap()
}

fn shed(gateway: &Gateway, name: &str) -> u64 {
    limit(gateway, name)["shed"].as_u64().unwrap()
}

/// Waits until the events that tell who was shed by this limit add up to what was.
fn assert_told_exactly(gateway: &Gateway, name: &str) {
    wait::wait_for(&format!("every shed by {name} told"), SOON, || {
        let told: u64 = shed_events(gateway)
            .iter()
            .map(|event| {
                let rest = event["limits"][name].as_u64().unwrap_or_default();
                let own = event["limit"] == name;
                rest + u64::from(own) * event["count"].as_u64().unwrap_or(1)
            })
            .sum();
        told == shed(gateway, name)
    });
}

fn shed_events(gateway: &Gateway) -> Vec<Value> {
    let mut events = gateway.events();
    events.retain(|event| event["kind"] == "limit.shed");
    events
}

/// The event that tells how many of this block were shed by this limit.
fn shed_event(gateway: &Gateway, name: &str, source: &str) -> Value {
    gateway.event(&format!("{name} of {source}"), |event| {
        event["kind"] == "limit.shed" && event["limit"] == name && event["source"] == source
    })
}

/// A second tenant with an endpoint of its own.
fn globex(trap: &Trap) -> TenantText {
    let endpoint = EndpointText::new("orders", "globex.db.test").allow("127.0.0.0/8", "public");
    trap.tenant("globex")
        .endpoint(endpoint.authentication(TOKEN))
}

fn at_globex(gateway: &Gateway) -> Dial {
    let trusted = gateway.authorities_pem();
    Dial::tls(gateway.address(), "globex.db.test", &trusted)
}

fn acme_dial(gateway: &Gateway, from: IpAddr) -> Dial {
    gateway.dial(NAME).from(from)
}

//! What strangers send cannot break an audit event into two, nor hide what is in it from who reads it.

use portcullis_tests::client::{Binding, V3_0, startup};
use portcullis_tests::{Ending, Fleet, fleet::Guests, wait};
use std::time::Duration;

/// What ends lines, quotes or colours somewhere, or turns the order of what is read.
const BREAKERS: [&str; 8] = [
    "a\n{\"kind\":\"forged.newline\"}",
    "b\r\n{\"kind\":\"forged.return\"}",
    "c\",\"kind\":\"forged.quote\",\"x\":\"",
    "d\\\",\"kind\":\"forged.escape",
    "e\u{1b}[2K\u{1b}[31mred",
    "f\u{2028}{\"kind\":\"forged.separator\"}\u{2029}",
    "g\u{202e}elor\u{2066}",
    "h\u{85}\u{7f}\u{9b}2K\u{feff}",
];

#[test]
fn one_attempt_is_one_line_whatever_its_user_and_application_are_called() {
    let fleet = Fleet::of(1);
    let _ = fleet.nodes[0]
        .apply(&[fleet.policy(Guests::Unwelcome)])
        .ok();
    for breaker in BREAKERS {
        let mut client = fleet.dial(0, fleet.guest()).connect().unwrap();
        let named = [("user", breaker), ("application_name", breaker)];
        client.send(&startup(V3_0, &named)).unwrap();
        match client.authenticate(breaker, "secret", Binding::None) {
            Err(Ending::Refused(_)) => {}
            other => panic!("{breaker:?} should have been refused: {other:?}"),
        }
    }
    let file = fleet.nodes[0].data().join("audit/events.jsonl");
    let denied = |text: &str| -> Vec<serde_json::Value> {
        let lines = text.lines();
        let events =
            lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        events
            .filter(|event: &serde_json::Value| event["kind"] == "connection.denied")
            .collect()
    };
    let text = wait::until(Duration::from_secs(60), || {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.ends_with('\n') && denied(&text).len() >= BREAKERS.len();
        whole.then_some(text)
    });
    let text = text.expect("an event for each");
    let events = denied(&text);
    assert_eq!(events.len(), BREAKERS.len(), "{text}");
    for breaker in BREAKERS {
        let of = events.iter().filter(|event| event["user"] == *breaker);
        assert_eq!(of.count(), 1, "{breaker:?}: {text}");
    }
    // Nothing of it is there as it came: neither for a terminal nor for who splits at other line ends.
    for event in text.lines() {
        let kind = serde_json::from_str::<serde_json::Value>(event).unwrap();
        assert!(
            !kind["kind"].as_str().unwrap().starts_with("forged"),
            "{event}"
        );
        let hidden = |c: &char| {
            c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{202e}' | '\u{2066}' | '\u{feff}'
                )
        };
        assert_eq!(event.chars().find(hidden), None, "{event}");
    }
}

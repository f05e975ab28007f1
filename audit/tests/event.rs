//! One event, one line: whatever strangers put into it.

use portcullis_audit::{
    Event, MAX_EVENT_BYTES, MAX_FIELD_BYTES, MAX_HEAD_BYTES, NotAnEvent, kinds,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const AT: i64 = 1_795_363_445_678;

#[test]
fn an_event_is_one_line_with_sorted_names() {
    let mut event = denied()
        .with("user", "app")
        .with("address", "203.0.113.7")
        .with("entry", json!({"index": 3, "addresses": "203.0.113.0/24"}));
    event.reference = Some("PC-0123-4567-89AB".into());
    event.tenant = Some("acme".into());
    event.revision = Some(812);
    assert_eq!(
        event.line(),
        concat!(
            r#"{"address":"203.0.113.7","at":"2026-11-22T16:04:05.678Z","#,
            r#""entry":{"addresses":"203.0.113.0/24","index":3},"kind":"connection.denied","node":"gw1","#,
            r#""reference":"PC-0123-4567-89AB","revision":812,"tenant":"acme","user":"app"}"#
        )
    );
    assert_eq!(Event::parse(&event.line()), Ok(event));
}

#[test]
fn what_a_stranger_sends_stays_inside_its_field() {
    for hostile in [
        "a\nb",
        "a\r\nb",
        "\",\"tenant\":\"other",
        "}\n{\"kind\":\"connection.permitted\"}",
        "\u{1b}[2J\u{1b}[31mroot",
        "a\u{2028}b\u{2029}c",
        "\u{202e}drowssap",
        "\u{85}\u{9b}31m",
        "\u{0}",
        "\\u0022",
    ] {
        let event = denied().with("user", hostile);
        let line = event.line();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line}"
        );
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["user"], hostile);
        assert_eq!(read.get("tenant"), None);
        assert_eq!(Event::parse(&line), Ok(event));
    }
}

#[test]
fn a_field_cannot_take_the_name_of_a_fact() {
    for name in [
        "at",
        "kind",
        "node",
        "reference",
        "revision",
        "tenant",
        "field_at",
    ] {
        let event = denied().with(name, "forged");
        let line = event.line();
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["kind"], "connection.denied");
        assert_eq!(read[format!("field_{name}")], "forged");
        assert_eq!(event.field(name), Some(&json!("forged")));
        assert_eq!(Event::parse(&line), Ok(event));
    }
}

#[test]
fn an_oversize_field_leaves_its_length_and_hash_at_the_edge() {
    // The two quotes count.
    let largest = "x".repeat(MAX_FIELD_BYTES - 2);
    let kept: Value = serde_json::from_str(&denied().with("sql", largest.clone()).line()).unwrap();
    assert_eq!(kept["sql"], largest);

    let over = format!("{largest}x");
    let line = denied()
        .with("sql", over.clone())
        .with("user", "app")
        .line();
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["sql"]["oversize"], over.len());
    // `python3 -c 'import hashlib; print(hashlib.sha256(b"x"*16383).hexdigest())'`
    assert_eq!(read["sql"]["sha256"], SHA256_OF_16383_X);
    assert_eq!(read["user"], "app");
    assert_eq!(Event::parse(&line).unwrap().line(), line);
}

const SHA256_OF_16383_X: &str = "d0f49ce40ce0b9625cb8bc972d093cb34b7a20f85e99f58cf0f38eddfbb15786";

#[test]
fn many_large_fields_still_make_one_line_that_names_each() {
    let mut event = denied().with("user", "app");
    for index in 0..10 {
        event = event.with(&format!("f{index}"), "y".repeat(10_000 + index));
    }
    let line = event.line();
    assert!(line.len() <= MAX_EVENT_BYTES);
    let read: Value = serde_json::from_str(&line).unwrap();
    let marked = (0..10).filter(|index| read[format!("f{index}")]["oversize"].is_number());
    // Six of ten thousand bytes fit beside the rest; the longest went first.
    assert_eq!(marked.collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert_eq!(read["user"], "app");
}

#[test]
fn names_too_long_for_a_line_become_one_mark() {
    let mut event = denied();
    event.reference = Some("PC-0123-4567-89AB".into());
    for index in 0..2_000 {
        event = event.with(&format!("name-{index:0>60}"), 1);
    }
    let line = event.line();
    let read: Value = serde_json::from_str(&line).unwrap();
    assert!(read["field_oversize"]["oversize"].as_u64() > Some(100_000));
    assert_eq!(read["reference"], "PC-0123-4567-89AB");
    assert_eq!(Event::parse(&line).unwrap().line(), line);
}

#[test]
fn an_oversize_fact_stays_a_text() {
    let mut event = denied();
    event.tenant = Some("t".repeat(MAX_HEAD_BYTES));
    assert_eq!(Event::parse(&event.line()).unwrap().tenant, event.tenant);
    event.tenant = Some("t".repeat(MAX_HEAD_BYTES + 1));
    let read = Event::parse(&event.line()).unwrap();
    assert!(read.tenant.unwrap().starts_with("oversize:257:"));
}

#[test]
fn a_line_in_other_words_is_not_an_event() {
    let line = denied().with("user", "app").line();
    assert!(Event::parse(&format!("{line}\n")).is_ok());
    for (other, problem) in [
        (format!("{line} "), NotAnEvent::OtherSpelling),
        (line.replace("\":", "\": "), NotAnEvent::OtherSpelling),
        (line.replace("app", "\\u0061pp"), NotAnEvent::OtherSpelling),
        (
            line.replace("\"user\"", "\"user\":1,\"user\""),
            NotAnEvent::OtherSpelling,
        ),
        (
            line.replace("\"node\"", "\"mode\""),
            NotAnEvent::Head("node"),
        ),
        (line.replace("\"gw1\"", "1"), NotAnEvent::Head("node")),
        (line.replace(".678Z", "Z"), NotAnEvent::Head("at")),
        (line.replacen('{', "", 1), NotAnEvent::NotJson),
        (line.trim_end_matches('}').to_owned(), NotAnEvent::NotJson),
        (format!("{line}{line}"), NotAnEvent::NotJson),
        ("[]".into(), NotAnEvent::NotJson),
        (String::new(), NotAnEvent::NotJson),
        (" ".repeat(MAX_EVENT_BYTES + 1), NotAnEvent::TooLong),
    ] {
        assert_eq!(Event::parse(&other), Err(problem), "{other}");
    }
}

#[test]
fn fractions_are_kept_as_text() {
    let event = denied()
        .with("seconds", 0.1 + 0.2)
        .with("nested", json!([1.5, {"a": 2.5}]));
    let read: Value = serde_json::from_str(&event.line()).unwrap();
    assert_eq!(read["seconds"], "0.30000000000000004");
    assert_eq!(read["nested"], json!(["1.5", {"a": "2.5"}]));
}

proptest! {
    #[test]
    fn every_event_comes_back_from_its_line(
        at_ms in 0..4_102_444_800_000i64,
        node in any::<String>(),
        reference in any::<Option<String>>(),
        revision in any::<Option<u64>>(),
        tenant in any::<Option<String>>(),
        fields in prop::collection::vec((any::<String>(), any::<String>()), 0..8),
    ) {
        let mut event = Event::new(at_ms, kinds::LIMIT_SHED, node);
        event.reference = reference;
        event.revision = revision;
        event.tenant = tenant;
        for (name, value) in fields {
            event = event.with(&name, value);
        }
        let line = event.line();
        prop_assert_eq!(line.lines().count(), 1);
        prop_assert!(line.len() <= MAX_EVENT_BYTES);
        prop_assert_eq!(Event::parse(&line), Ok(event));
    }

    #[test]
    fn every_line_that_is_an_event_is_its_only_spelling(line in any::<String>()) {
        if let Ok(event) = Event::parse(&line) {
            prop_assert_eq!(event.line(), line.trim_end_matches('\n'));
        }
    }
}

fn denied() -> Event {
    Event::new(AT, kinds::CONNECTION_DENIED, "gw1")
}

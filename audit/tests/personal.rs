//! Commitments: what they hide, and what opens them.

use portcullis_audit::personal::{Opening, Salt, commitment, shown};
use portcullis_audit::{Event, kinds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SALT: Salt = Salt([7; 16]);

fn event() -> Event {
    Event::new(1_799_999_000_000, kinds::EVIDENCE_READ, "n1")
        .with("asked", "why")
        .with("by", "operator anna")
        .with("uid", 1000)
        .with("nodes", json!(["n1"]))
}

fn concealed() -> (Event, Vec<Opening>) {
    let mut event = event();
    let openings = event.conceal(&["by", "uid", "nodes", "absent"], &SALT, "fleet", 12);
    (event, openings)
}

#[test]
fn a_concealed_event_is_one_still_and_names_nobody() {
    let (event, openings) = concealed();
    let line = event.line();
    assert_eq!(Event::parse(&line).unwrap(), event);
    assert!(!line.contains("anna") && !line.contains("1000"), "{line}");
    assert!(line.contains("\"asked\":\"why\"") && line.contains("[\"n1\"]"));
    let fields: Vec<&str> = openings.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["by", "uid"]);
    let told = shown(event.field("by").unwrap());
    assert!(
        told.starts_with("commitment:") && told.len() == 23,
        "{told}"
    );
    assert_eq!(shown(&json!("anna")), "anna");
}

/// From the text of the module alone.
#[test]
fn anybody_can_check_an_opening() {
    let (event, openings) = concealed();
    for opening in &openings {
        let Value::Object(said) = serde_json::from_str(&opening.line()).unwrap() else {
            panic!("{}", opening.line());
        };
        let salt = said["salt"].as_str().unwrap();
        let salt: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(salt.get(2 * at..2 * at + 2).unwrap(), 16).unwrap())
            .collect();
        let mut hash = Sha256::new();
        hash.update(b"portcullis commitment v1\0");
        hash.update(salt);
        hash.update(said["value"].to_string());
        let hex: String = hash
            .finalize()
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect();
        let field = event.field(said["field"].as_str().unwrap()).unwrap();
        assert_eq!(commitment(field), Some(hex.as_str()));
        assert!(opening.opens(&event));
    }
}

#[test]
fn an_opening_opens_its_own_commitment_and_no_other() {
    let (event, openings) = concealed();
    let by = &openings[0];
    let others = [
        Opening {
            value: json!("operator olga"),
            ..by.clone()
        },
        Opening {
            salt: Salt([8; 16]),
            ..by.clone()
        },
        Opening {
            salt: openings[1].salt,
            ..by.clone()
        },
        Opening {
            field: "uid".to_owned(),
            ..by.clone()
        },
        Opening {
            field: "asked".to_owned(),
            value: json!("why"),
            ..by.clone()
        },
        Opening {
            field: "absent".to_owned(),
            ..by.clone()
        },
    ];
    for other in others {
        assert!(!other.opens(&event), "{}", other.line());
    }
}

#[test]
fn the_same_value_is_another_commitment_in_every_entry_log_and_field() {
    let mut seen = std::collections::BTreeSet::new();
    for (salt, log, index) in [
        (SALT, "fleet", 12),
        (SALT, "fleet", 13),
        (SALT, "tenants/acme", 12),
        (Salt([9; 16]), "fleet", 12),
    ] {
        for field in ["by", "operator"] {
            let mut event = Event::new(0, kinds::EVIDENCE_READ, "n1").with(field, "anna");
            event.conceal(&[field], &salt, log, index);
            let committed = commitment(event.field(field).unwrap()).unwrap().to_owned();
            assert!(seen.insert(committed));
        }
    }
}

#[test]
fn a_line_that_is_not_an_opening_s_is_none() {
    let (_, openings) = concealed();
    let line = openings[0].line();
    assert_eq!(Opening::parse(&line).as_ref(), Some(&openings[0]));
    for at in 0..line.len() {
        assert_eq!(Opening::parse(line.get(..at).unwrap()), None);
    }
    for other in [
        line.replace("\"index\":12", "\"index\":-1"),
        line.replace("\"index\"", " \"index\""),
        line.replace("0", "O"),
        format!("{line}\n"),
        "[]".to_owned(),
    ] {
        assert_eq!(Opening::parse(&other), None, "{other}");
    }
    assert_eq!(commitment(&json!({"commitment": "zz"})), None);
    assert_eq!(commitment(&json!({"commitment": "AB".repeat(32)})), None);
}

#[test]
fn a_salt_is_not_printed() {
    assert_eq!(format!("{SALT:?}"), "Salt(..)");
}

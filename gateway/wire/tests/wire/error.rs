use portcullis_wire::Step;
use portcullis_wire::error::{ErrorFields, ErrorResponse, Severity, SqlState};
use portcullis_wire::message::Backend;
use proptest::prelude::*;

#[test]
fn an_error_carries_severity_twice_and_code_and_message() {
    let error = ErrorResponse::fatal(SqlState::INVALID_PASSWORD, "no");
    assert_eq!(
        error.encode(),
        b"E\0\0\0\x1ESFATAL\0VFATAL\0C28P01\0Mno\0\0"
    );
}

#[test]
fn detail_and_hint_follow_when_given() {
    let error = ErrorResponse::fatal(SqlState::TOO_MANY_CONNECTIONS, "m")
        .with_detail("d")
        .with_hint("h");
    let encoded = error.encode();
    assert!(
        encoded.ends_with(b"C53300\0Mm\0Dd\0Hh\0\0"),
        "{}",
        encoded.escape_ascii()
    );
}

#[test]
fn a_nul_in_a_text_begins_no_field() {
    let error = ErrorResponse::fatal(SqlState::PROTOCOL_VIOLATION, "a\0C00000\0");
    let encoded = error.encode();
    let Ok(Step::Done(Backend::Error(fields), _)) = Backend::read(&encoded) else {
        panic!("not an error");
    };
    assert_eq!(fields.code, Some(SqlState::PROTOCOL_VIOLATION));
    assert_eq!(fields.message.as_deref(), Some("a\u{FFFD}C00000\u{FFFD}"));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let error = ErrorResponse::fatal(
        SqlState::PROTOCOL_VIOLATION,
        "x".to_owned() + &"\u{e9}".repeat(1000),
    );
    let fields = ErrorFields::parse(&error.encode()[5..]);
    let message = fields.message.unwrap();
    assert_eq!(message.len(), 1023);
    assert!(message.ends_with('\u{e9}'));
}

#[test]
fn fields_are_read_as_far_as_they_are_there() {
    let fields =
        ErrorFields::parse(b"SFATALE\0VFATAL\0C28000\0Mgone\0Dd\0Hh\0Fauth.c\0L1\0Rauth\0\0");
    assert_eq!(fields.severity.as_deref(), Some("FATAL"));
    assert_eq!(
        fields.code,
        Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    );
    assert_eq!(fields.message.as_deref(), Some("gone"));
    assert_eq!(fields.detail.as_deref(), Some("d"));
    assert_eq!(fields.hint.as_deref(), Some("h"));
    assert_eq!(fields.to_string(), "FATAL: gone (28000)");
}

#[test]
fn a_localized_severity_counts_only_where_nothing_better_is() {
    assert_eq!(
        ErrorFields::parse(b"SFEHLER\0\0").severity.as_deref(),
        Some("FEHLER")
    );
}

#[test]
fn an_error_without_fields_is_still_an_error() {
    for body in [
        &b""[..],
        b"\0",
        b"M",
        b"Munterminated",
        b"\0Mafter the end\0",
    ] {
        assert_eq!(ErrorFields::parse(body), ErrorFields::default());
        assert_eq!(ErrorFields::parse(body).to_string(), "ERROR: no message");
    }
}

#[test]
fn the_first_of_a_repeated_field_counts_and_bad_codes_do_not() {
    let fields = ErrorFields::parse(b"Ma\0Mb\0C2800\0C28000\0\0");
    assert_eq!(fields.message.as_deref(), Some("a"));
    assert_eq!(
        fields.code,
        Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    );
    assert_eq!(SqlState::parse(b"28P01"), Some(SqlState::INVALID_PASSWORD));
    for bad in [&b"28p01"[..], b"28P0", b"28P011", b"28P0\n", b""] {
        assert_eq!(SqlState::parse(bad), None);
    }
}

#[test]
fn severities_are_spelled_as_the_protocol_does() {
    assert_eq!(Severity::Error.as_str(), "ERROR");
    assert_eq!(Severity::Fatal.as_str(), "FATAL");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_grow(body in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let fields = ErrorFields::parse(&body);
        let texts = [fields.severity, fields.message, fields.detail, fields.hint];
        prop_assert!(texts.into_iter().flatten().all(|text| text.len() <= 1024));
    }

    #[test]
    fn any_texts_survive_the_journey(message in "[^\0]{0,100}", detail in "[^\0]{0,100}", hint in "[^\0]{0,100}") {
        let error = ErrorResponse::fatal(SqlState::ADMIN_SHUTDOWN, &*message)
            .with_detail(&*detail)
            .with_hint(&*hint);
        let fields = ErrorFields::parse(&error.encode()[5..]);
        prop_assert_eq!(fields.message, Some(message));
        prop_assert_eq!(fields.detail, Some(detail));
        prop_assert_eq!(fields.hint, Some(hint));
    }
}

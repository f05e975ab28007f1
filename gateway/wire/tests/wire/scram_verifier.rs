use portcullis_wire::scram::{Verifier, VerifierError};

use crate::peer::{self, SALT};

const STORED: &str = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
const SERVER: &str = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn check(text: &str, expected: &str) {
    let error = Verifier::parse(text).unwrap_err();
    assert_eq!(error.reason(), expected, "{text}");
    assert!(!error.to_string().contains(STORED));
}

#[test]
fn postgresqls_own_spelling_is_read() {
    assert_eq!(
        peer::verifier(),
        format!("SCRAM-SHA-256$4096:{SALT}${STORED}:{SERVER}")
    );
    assert_eq!(
        Verifier::parse(&peer::verifier()).unwrap().iterations(),
        4096
    );
}

#[test]
fn other_secrets_are_refused_by_kind() {
    for text in [
        "",
        "md5c4ca4238a0b923820dcc509a6f75849b",
        "secret",
        "SCRAM-SHA-512$4096:x$y:z",
        "scram-sha-256$4096:x$y:z",
    ] {
        check(text, "verifier_not_scram");
    }
}

#[test]
fn malformed_verifiers_are_refused() {
    for text in [
        "SCRAM-SHA-256$".to_owned(),
        "SCRAM-SHA-256$4096".to_owned(),
        format!("SCRAM-SHA-256$4096:{SALT}"),
        format!("SCRAM-SHA-256$4096:{SALT}${STORED}"),
        format!("SCRAM-SHA-256$:{SALT}${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$+4096:{SALT}${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$04096:{SALT}${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$4096 :{SALT}${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$4096:${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gR==${STORED}:{SERVER}"),
        format!("SCRAM-SHA-256$4096:{SALT}$AAAA:{SERVER}"),
        format!("SCRAM-SHA-256$4096:{SALT}${STORED}:AAAA"),
        format!("SCRAM-SHA-256$4096:{SALT}${STORED}:{SERVER} "),
        format!("SCRAM-SHA-256$4096:{SALT}${STORED}:{SERVER}:x"),
        format!(
            "SCRAM-SHA-256$4096:{}${STORED}:{SERVER}",
            peer::encode(&[0; 65])
        ),
        format!("SCRAM-SHA-256$4096:{}${STORED}:{SERVER}", "A".repeat(1000)),
    ] {
        check(&text, "verifier_malformed");
    }
    let longest_salt = peer::encode(&[0; 64]);
    assert!(
        Verifier::parse(&format!(
            "SCRAM-SHA-256$4096:{longest_salt}${STORED}:{SERVER}"
        ))
        .is_ok()
    );
}

#[test]
fn iterations_are_4096_to_100000() {
    let with = |iterations: &str| format!("SCRAM-SHA-256${iterations}:{SALT}${STORED}:{SERVER}");
    for fits in ["4096", "100000"] {
        assert!(Verifier::parse(&with(fits)).is_ok());
    }
    for outside in [
        "1",
        "4095",
        "100001",
        "2147483647",
        "4294967296",
        "99999999999999999999",
    ] {
        assert_eq!(
            Verifier::parse(&with(outside)).unwrap_err(),
            VerifierError::Iterations
        );
    }
}

#[test]
fn debug_output_holds_no_key() {
    let verifier = Verifier::parse(&peer::verifier()).unwrap();
    assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
}

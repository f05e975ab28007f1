use portcullis_wire::error::SqlState;
use portcullis_wire::scram::{Binding, Challenged, Failure, NONCE, Server, Verifier};
use proptest::prelude::*;

use crate::peer::{self, PASSWORD, encode};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const HASH: [u8; 32] = [0xC5; 32];
const OURS: [u8; NONCE] = [1; NONCE];
const BARE: &str = "n=,r=fyko+d2lbbFgONRv9qkxdawL";
const PROOF: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn bound() -> Binding {
    Binding::TlsServerEndPoint(HASH.to_vec())
}

fn server(binding: Binding) -> Server {
    Server::new(Verifier::parse(&peer::verifier()).unwrap(), binding, OURS)
}

fn challenge(server: Server, mechanism: &str, first: &str) -> (Challenged, String) {
    let (challenged, server_first) = server.first(mechanism, first.as_bytes()).ok().unwrap();
    (challenged, String::from_utf8(server_first).unwrap())
}

/// One whole exchange of a client that knows a password; what it binds to is in `gs2` and `hash`.
fn exchange(
    server: Server,
    mechanism: &str,
    gs2: &str,
    hash: &[u8],
    password: &str,
) -> Result<(), Failure> {
    let (challenged, server_first) = challenge(server, mechanism, &format!("{gs2}{BARE}"));
    let bound = [gs2.as_bytes(), hash].concat();
    let client_final = peer::client_final(password, BARE, &server_first, &bound);
    let (server_final, _) = challenged.finish(client_final.as_bytes())?;
    assert_eq!(
        Some(String::from_utf8(server_final).unwrap()),
        peer::server_final(password, BARE, &server_first, &client_final)
    );
    Ok(())
}

fn check_first(binding: Binding, mechanism: &str, first: &[u8], expected: Failure) {
    let failure = server(binding).first(mechanism, first).err();
    assert_eq!(failure, Some(expected), "{}", first.escape_ascii());
}

/// client-final-message made from server-first-message, for the binding `n,,`.
fn check_final(make: impl FnOnce(&str) -> String, expected: Failure) {
    let (challenged, server_first) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
    let client_final = make(&server_first);
    let failure = challenged.finish(client_final.as_bytes()).err();
    assert_eq!(failure, Some(expected), "{client_final}");
}

#[test]
fn plus_is_offered_only_where_there_is_something_to_bind_to() {
    assert_eq!(server(bound()).mechanisms(), [PLUS, PLAIN]);
    assert_eq!(server(Binding::Unsupported).mechanisms(), [PLAIN]);
}

#[test]
fn whoever_knows_the_password_gets_in() {
    let gs2 = "p=tls-server-end-point,,";
    assert_eq!(
        exchange(server(bound()), PLUS, gs2, &HASH, PASSWORD),
        Ok(())
    );
    assert_eq!(
        exchange(server(bound()), PLAIN, "n,,", &[], PASSWORD),
        Ok(())
    );
    let unbound = || server(Binding::Unsupported);
    assert_eq!(exchange(unbound(), PLAIN, "n,,", &[], PASSWORD), Ok(()));
    assert_eq!(exchange(unbound(), PLAIN, "y,,", &[], PASSWORD), Ok(()));
}

#[test]
fn whoever_does_not_know_the_password_stays_out() {
    for password in ["", "Pencil", "pencil ", "wrong"] {
        let outcome = exchange(server(Binding::Unsupported), PLAIN, "n,,", &[], password);
        assert_eq!(outcome, Err(Failure::Proof));
    }
    assert_eq!(Failure::Proof.sqlstate(), SqlState::INVALID_PASSWORD);
    assert_eq!(
        Failure::Proof.response("app").message,
        "password authentication failed for user \"app\""
    );
}

#[test]
fn the_challenge_extends_the_clients_nonce_and_names_salt_and_iterations() {
    let (_, server_first) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
    let ours = encode(&OURS);
    assert_eq!(
        server_first,
        format!("r=fyko+d2lbbFgONRv9qkxdawL{ours},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    );
}

#[test]
fn another_certificate_is_noticed() {
    let gs2 = "p=tls-server-end-point,,";
    let outcome = exchange(server(bound()), PLUS, gs2, &[0xC6; 32], PASSWORD);
    assert_eq!(outcome, Err(Failure::BindingMismatch));
    assert_eq!(
        exchange(server(bound()), PLUS, gs2, &[], PASSWORD),
        Err(Failure::BindingMismatch)
    );
    assert_eq!(
        exchange(server(bound()), PLAIN, "n,,", &HASH, PASSWORD),
        Err(Failure::BindingMismatch)
    );
}

#[test]
fn a_stripped_offer_is_noticed() {
    check_first(
        bound(),
        PLAIN,
        format!("y,,{BARE}").as_bytes(),
        Failure::BindingDowngrade,
    );
    let response = Failure::BindingDowngrade.response("app");
    assert_eq!(response.code, SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    assert_eq!(response.message, "SCRAM channel binding negotiation error");
    assert_eq!(Failure::BindingDowngrade.reason(), "cbind");
}

#[test]
fn the_flag_and_the_mechanism_must_agree() {
    let first = |flag: &str| format!("{flag},,{BARE}").into_bytes();
    check_first(bound(), PLUS, &first("n"), Failure::BindingMissing);
    check_first(bound(), PLUS, &first("y"), Failure::BindingMissing);
    check_first(bound(), PLUS, &first("p=tls-unique"), Failure::BindingType);
    check_first(bound(), PLUS, &first("p="), Failure::BindingType);
    check_first(
        bound(),
        PLUS,
        &first("p=TLS-SERVER-END-POINT"),
        Failure::BindingType,
    );
    check_first(
        bound(),
        PLAIN,
        &first("p=tls-server-end-point"),
        Failure::BindingUnexpected,
    );
    let unbound = Binding::Unsupported;
    check_first(
        unbound,
        PLAIN,
        &first("p=tls-server-end-point"),
        Failure::BindingUnexpected,
    );
}

#[test]
fn only_what_was_offered_can_be_chosen() {
    let first = format!("p=tls-server-end-point,,{BARE}").into_bytes();
    check_first(Binding::Unsupported, PLUS, &first, Failure::Mechanism);
    let first = format!("n,,{BARE}").into_bytes();
    for mechanism in [
        "",
        "SCRAM-SHA-1",
        "scram-sha-256",
        "SCRAM-SHA-256-PLUS ",
        "OAUTHBEARER",
    ] {
        check_first(bound(), mechanism, &first, Failure::Mechanism);
    }
}

#[test]
fn bad_first_messages_are_refused() {
    use Failure::{AuthorizationIdentity, Extension, Malformed, NonceForm};
    let nonce = |length: usize| format!("n,,n=,r={}", "x".repeat(length)).into_bytes();
    for (first, expected) in [
        (&b"n,a=postgres,n=,r=x"[..], AuthorizationIdentity),
        (b"n,postgres,n=,r=x", AuthorizationIdentity),
        (b"n,,m=1,n=,r=x", Extension),
        (b"n,,n=,r=x,m=1", Extension),
        (b"n,,n=,r=", NonceForm),
        (b"n,,n=,r=a b", NonceForm),
        (b"n,,n=,r=a\x7Fb", NonceForm),
        (b"n,,n=,r=a\xC3\xA9", NonceForm),
        (&nonce(257), NonceForm),
        (b"", Malformed("no gs2 header")),
        (b"n", Malformed("no gs2 header")),
        (b"n,", Malformed("no gs2 header")),
        (b"z,,n=,r=x", Malformed("an unknown channel binding flag")),
        (b"N,,n=,r=x", Malformed("an unknown channel binding flag")),
        (b"n,,", Malformed("an attribute without a value")),
        (b"n,,n=", Malformed("an attribute is missing")),
        (b"n,,r=x", Malformed("an attribute in another's place")),
        (b"n,,n=,s=x", Malformed("an attribute in another's place")),
        (
            b"n,,n=,rr=x",
            Malformed("an attribute whose name is not one letter"),
        ),
        (b"n,,n=,r=x,", Malformed("an attribute without a value")),
        (
            b"n,,n=,r=x,1=y",
            Malformed("an attribute whose name is not one letter"),
        ),
        (b"n,,n=\0,r=x", Malformed("a NUL in the message")),
        (b"n,,n=\xFF,r=x", Malformed("the message is not UTF-8")),
        (&nonce(2041), Malformed("the message is too long")),
    ] {
        check_first(Binding::Unsupported, PLAIN, first, expected);
    }
    assert!(server(bound()).first(PLAIN, &nonce(256)).is_ok());
    assert!(
        server(bound())
            .first(PLAIN, b"n,,n=app,r=x,z=passed over")
            .is_ok()
    );
}

#[test]
fn bad_final_messages_are_refused() {
    use Failure::{BindingMismatch, Extension, Malformed, NonceMismatch, Proof};
    let nonce = |first: &str| peer::attribute(first, "r=").to_owned();
    check_final(|f| format!("c=biws,r={},p={PROOF}", nonce(f)), Proof);
    check_final(
        |f| format!("c=eSws,r={},p={PROOF}", nonce(f)),
        BindingMismatch,
    );
    check_final(|f| format!("c=,r={},p={PROOF}", nonce(f)), BindingMismatch);
    check_final(
        |f| format!("c=biws,r={}x,p={PROOF}", nonce(f)),
        NonceMismatch,
    );
    check_final(
        |f| format!("c=biws,r={},p={PROOF}", nonce(f).split_at(1).1),
        NonceMismatch,
    );
    check_final(|_| format!("c=biws,r=,p={PROOF}"), NonceMismatch);
    check_final(
        |f| format!("c=biws,r={},m=1,p={PROOF}", nonce(f)),
        Extension,
    );
    for (client_final, expected) in [
        (String::new(), "no proof at the end"),
        ("c=biws,r=x".to_owned(), "no proof at the end"),
        (format!("c=biws,r=x,p={PROOF},z=1"), "no proof at the end"),
        ("c=biws,r=x,p=".to_owned(), "the proof"),
        (format!("c=biws,r=x,p={}", PROOF.split_at(1).1), "the proof"),
        (
            format!("c=biws,r=x,p={}", PROOF.trim_end_matches('=')),
            "the proof",
        ),
        (format!("c=biws,r=x,p={PROOF}\n"), "the proof"),
        (format!("c=biws,r=x,p={}", encode(&[0; 31])), "the proof"),
        (format!("c=biws,r=x,p={}", encode(&[0; 33])), "the proof"),
        (format!("c=biw,r=x,p={PROOF}"), "the channel binding"),
        (format!("c=bi ws,r=x,p={PROOF}"), "the channel binding"),
        (
            format!("r=x,c=biws,p={PROOF}"),
            "an attribute in another's place",
        ),
        (format!("c=biws,p={PROOF}"), "an attribute is missing"),
        (
            format!("c=biws,r=x,p=x,p={PROOF}"),
            "a proof in another's place",
        ),
        (format!("c=biws,r=x\0,p={PROOF}"), "a NUL in the message"),
        (
            format!("c=biws,r={},p={PROOF}", "x".repeat(2048)),
            "the message is too long",
        ),
    ] {
        check_final(|_| client_final, Malformed(expected));
    }
}

#[test]
fn optional_extensions_are_signed_but_passed_over() {
    let (challenged, server_first) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
    let nonce = peer::attribute(&server_first, "r=");
    let without_proof = format!("c=biws,r={nonce},z=more");
    let client_final = peer::proof_for(PASSWORD, BARE, &server_first, &without_proof);
    assert!(challenged.finish(client_final.as_bytes()).is_ok());
}

#[test]
fn no_proof_is_right_for_a_mock() {
    let mock = || Verifier::mock(&[7; 32], "acme", "app");
    for password in [PASSWORD, "", "app"] {
        let server = Server::new(mock(), Binding::Unsupported, OURS);
        assert_eq!(
            exchange(server, PLAIN, "n,,", &[], password),
            Err(Failure::Proof)
        );
    }
}

#[test]
fn a_mock_is_the_same_everywhere_and_looks_like_postgresqls() {
    let first = |secret: &[u8; 32], tenant: &str, role: &str| {
        let server = Server::new(Verifier::mock(secret, tenant, role), bound(), OURS);
        challenge(server, PLAIN, &format!("n,,{BARE}")).1
    };
    let usual = first(&[7; 32], "acme", "app");
    assert_eq!(first(&[7; 32], "acme", "app"), usual);
    assert_eq!(peer::attribute(&usual, "i="), "4096");
    assert_eq!(peer::attribute(&usual, "s=").len(), 24);
    let (_, real) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
    assert_eq!(usual.len(), real.len());
    for other in [
        first(&[8; 32], "acme", "app"),
        first(&[7; 32], "acme", "apps"),
        first(&[7; 32], "acm", "app"),
        first(&[7; 32], "acmea", "pp"),
    ] {
        assert_ne!(other, usual);
    }
}

#[test]
fn a_mock_salt_is_the_hmac_of_tenant_and_role() {
    let server = Server::new(Verifier::mock(&[7; 32], "acme", "app"), bound(), OURS);
    let (_, server_first) = challenge(server, PLAIN, &format!("n,,{BARE}"));
    // python: base64(hmac.digest(b'\x07'*32, b'acme\0app', 'sha256')[:16])
    assert_eq!(
        peer::attribute(&server_first, "s="),
        "/qmiHO+ojOS9S5EUkt+hZg=="
    );
}

#[test]
fn every_failure_is_told_in_an_answer_that_holds_no_secret() {
    for failure in [
        Failure::Mechanism,
        Failure::Malformed("x"),
        Failure::BindingMissing,
        Failure::BindingUnexpected,
        Failure::BindingType,
        Failure::BindingDowngrade,
        Failure::BindingMismatch,
        Failure::AuthorizationIdentity,
        Failure::Extension,
        Failure::NonceForm,
        Failure::NonceMismatch,
        Failure::Proof,
    ] {
        assert_eq!(failure.response("app").code, failure.sqlstate());
        assert!(!failure.reason().is_empty() && !failure.to_string().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_get_in(first in proptest::collection::vec(any::<u8>(), 0..80), last in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = server(bound()).first(PLUS, &first);
        let (challenged, _) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
        prop_assert!(challenged.finish(&last).is_err());
    }

    #[test]
    fn any_printable_nonce_does(nonce in "[!-+\\--~]{1,40}", ours: [u8; NONCE]) {
        let bare = format!("n=,r={nonce}");
        let server = Server::new(Verifier::parse(&peer::verifier()).unwrap(), bound(), ours);
        let (challenged, server_first) = challenge(server, PLAIN, &format!("n,,{bare}"));
        let client_final = peer::client_final(PASSWORD, &bare, &server_first, b"n,,");
        prop_assert!(challenged.finish(client_final.as_bytes()).is_ok());
    }

    #[test]
    fn a_proof_with_one_bit_flipped_is_wrong(bit in 0..256_usize) {
        let (challenged, server_first) = challenge(server(bound()), PLAIN, &format!("n,,{BARE}"));
        let client_final = peer::client_final(PASSWORD, BARE, &server_first, b"n,,");
        let (without_proof, proof) = client_final.rsplit_once(",p=").unwrap();
        let mut proof = peer::decode(proof);
        proof[bit / 8] ^= 1 << (bit % 8);
        let client_final = format!("{without_proof},p={}", encode(&proof));
        prop_assert_eq!(challenged.finish(client_final.as_bytes()).err(), Some(Failure::Proof));
    }
}

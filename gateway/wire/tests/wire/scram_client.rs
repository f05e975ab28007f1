use portcullis_wire::scram::{
    Answered, Binding, Client, ClientFailure, ClientKey, NONCE, Server, Verifier,
};
use proptest::prelude::*;

use crate::peer::{self, ITERATIONS, PASSWORD, SALT, encode};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const OURS: [u8; NONCE] = [2; NONCE];

fn bound() -> Binding {
    Binding::TlsServerEndPoint(vec![0xC5; 48])
}

fn verifier() -> Verifier {
    Verifier::parse(&peer::verifier()).unwrap()
}

/// The key as it is really come by: from the proof of a client that knows the password.
fn client_key() -> ClientKey {
    let server = Server::new(verifier(), Binding::Unsupported, [1; NONCE]);
    let (challenged, server_first) = server.first(PLAIN, b"n,,n=,r=x").ok().unwrap();
    let server_first = String::from_utf8(server_first).unwrap();
    let client_final = peer::client_final(PASSWORD, "n=,r=x", &server_first, b"n,,");
    challenged.finish(client_final.as_bytes()).ok().unwrap().1
}

fn client(offered: &[&str], binding: &Binding) -> Result<Client, ClientFailure> {
    Client::new(&client_key(), &verifier(), offered, binding, OURS)
}

fn bare() -> String {
    format!("n=,r={}", encode(&OURS))
}

fn server_first() -> String {
    format!("r={}theirs,s={SALT},i={ITERATIONS}", encode(&OURS))
}

fn answered() -> (Answered, String) {
    let client = client(&[PLUS, PLAIN], &bound()).ok().unwrap();
    let (answered, client_final) = client.challenge(server_first().as_bytes()).ok().unwrap();
    (answered, String::from_utf8(client_final).unwrap())
}

fn check_challenge(server_first: &str, expected: ClientFailure) {
    let client = client(&[PLAIN], &Binding::Unsupported).ok().unwrap();
    let failure = client.challenge(server_first.as_bytes()).err();
    assert_eq!(failure, Some(expected), "{server_first}");
}

#[test]
fn a_recovered_key_signs_in_where_the_verifier_is_the_same() {
    for (offered, binding, mechanism, gs2) in [
        (
            &[PLUS, PLAIN][..],
            bound(),
            PLUS,
            "p=tls-server-end-point,,",
        ),
        (&[PLAIN, PLUS], bound(), PLUS, "p=tls-server-end-point,,"),
        (&[PLAIN], bound(), PLAIN, "y,,"),
        (&[PLAIN], Binding::Unsupported, PLAIN, "n,,"),
        (&[PLUS, PLAIN], Binding::Unsupported, PLAIN, "n,,"),
        (&["OAUTHBEARER", PLAIN], bound(), PLAIN, "y,,"),
    ] {
        let client = client(offered, &binding).ok().unwrap();
        assert_eq!(client.mechanism(), mechanism);
        assert_eq!(
            String::from_utf8(client.first()).unwrap(),
            format!("{gs2}{}", bare())
        );
        let (answered, client_final) = client.challenge(server_first().as_bytes()).ok().unwrap();
        let client_final = String::from_utf8(client_final).unwrap();
        let hash = if mechanism == PLUS {
            vec![0xC5; 48]
        } else {
            Vec::new()
        };
        let binding_data = peer::decode(peer::attribute(&client_final, "c="));
        assert_eq!(binding_data, [gs2.as_bytes(), &hash].concat());
        let server_final = peer::server_final(PASSWORD, &bare(), &server_first(), &client_final);
        assert_eq!(answered.verify(server_final.unwrap().as_bytes()), Ok(()));
    }
}

#[test]
fn our_client_and_our_server_understand_each_other() {
    let client = client(bound().mechanisms(), &bound()).ok().unwrap();
    let server = Server::new(verifier(), bound(), [1; NONCE]);
    let (challenged, server_first) = server
        .first(client.mechanism(), &client.first())
        .ok()
        .unwrap();
    let (answered, client_final) = client.challenge(&server_first).ok().unwrap();
    let (server_final, _) = challenged.finish(&client_final).ok().unwrap();
    assert_eq!(answered.verify(&server_final), Ok(()));
}

#[test]
fn without_a_usable_mechanism_nothing_is_sent() {
    for (offered, binding) in [
        (&[][..], bound()),
        (&["OAUTHBEARER"], bound()),
        (&["SCRAM-SHA-1", "scram-sha-256"], bound()),
        (&[PLUS], Binding::Unsupported),
    ] {
        assert_eq!(
            client(offered, &binding).err(),
            Some(ClientFailure::NoMechanism)
        );
    }
}

#[test]
fn the_server_must_hold_the_very_verifier() {
    let nonce = encode(&OURS);
    let other_salt = encode(&[9; 16]);
    for (salt, iterations) in [
        (other_salt.as_str(), ITERATIONS),
        (SALT, 4097),
        (SALT, 100_000),
    ] {
        let server_first = format!("r={nonce}x,s={salt},i={iterations}");
        check_challenge(&server_first, ClientFailure::VerifierMismatch);
    }
    assert_eq!(
        ClientFailure::VerifierMismatch.reason(),
        "verifier_mismatch"
    );
}

#[test]
fn iterations_are_bounded_before_they_are_compared() {
    let nonce = encode(&OURS);
    for iterations in [
        "1",
        "4095",
        "100001",
        "2147483647",
        "4294967296",
        "18446744073709551616",
    ] {
        let server_first = format!("r={nonce}x,s={SALT},i={iterations}");
        check_challenge(&server_first, ClientFailure::Iterations);
    }
}

#[test]
fn the_servers_nonce_must_extend_ours() {
    let nonce = encode(&OURS);
    let huge = format!("{nonce}{}", "x".repeat(512));
    for theirs in [
        "",
        "x",
        &nonce,
        nonce.split_at(1).1,
        &format!("x{nonce}y"),
        &format!("{nonce} y"),
        &huge,
    ] {
        check_challenge(&format!("r={theirs},s={SALT},i=4096"), ClientFailure::Nonce);
    }
    let longest = format!("r={nonce}{},s={SALT},i=4096", "x".repeat(512 - nonce.len()));
    let client = client(&[PLAIN], &Binding::Unsupported).ok().unwrap();
    assert!(client.challenge(longest.as_bytes()).is_ok());
}

#[test]
fn bad_challenges_are_refused() {
    use ClientFailure::{Extension, Malformed};
    let nonce = encode(&OURS);
    for (server_first, expected) in [
        (String::new(), Malformed("an attribute without a value")),
        (format!("m=1,r={nonce}x,s={SALT},i=4096"), Extension),
        (format!("r={nonce}x"), Malformed("an attribute is missing")),
        (
            format!("r={nonce}x,s={SALT}"),
            Malformed("an attribute is missing"),
        ),
        (
            format!("s={SALT},r={nonce}x,i=4096"),
            Malformed("an attribute in another's place"),
        ),
        (format!("r={nonce}x,s=!,i=4096"), Malformed("the salt")),
        (
            format!("r={nonce}x,s={SALT},i="),
            Malformed("the iterations"),
        ),
        (
            format!("r={nonce}x,s={SALT},i=+4096"),
            Malformed("the iterations"),
        ),
        (
            format!("r={nonce}x,s={SALT},i=04096"),
            Malformed("the iterations"),
        ),
        (
            format!("r={nonce}x,s={SALT},i=4096,"),
            Malformed("an attribute without a value"),
        ),
        (
            format!("r={nonce}x,s={SALT}\0,i=4096"),
            Malformed("a NUL in the message"),
        ),
        (
            format!("r={nonce}{},s={SALT},i=4096", "x".repeat(65_536)),
            Malformed("the message is too long"),
        ),
    ] {
        check_challenge(&server_first, expected);
    }
}

#[test]
fn a_server_that_does_not_hold_the_verifier_is_unmasked() {
    let (_, client_final) = answered();
    let right = peer::server_final(PASSWORD, &bare(), &server_first(), &client_final).unwrap();
    for (server_final, expected) in [
        (
            format!("v={}", encode(&[0; 32])),
            ClientFailure::ServerSignature,
        ),
        (
            format!("v={}", encode(&[0; 31])),
            ClientFailure::Malformed("the signature"),
        ),
        ("v=".to_owned(), ClientFailure::Malformed("the signature")),
        (
            right.replace('=', ""),
            ClientFailure::Malformed("an attribute without a value"),
        ),
        (
            String::new(),
            ClientFailure::Malformed("an attribute without a value"),
        ),
        (
            "x=1".to_owned(),
            ClientFailure::Malformed("neither a signature nor an error"),
        ),
        (
            "e=invalid-proof".to_owned(),
            ClientFailure::Refused("invalid-proof".to_owned()),
        ),
        (
            format!("e={}", "x".repeat(1500)),
            ClientFailure::Refused("x".repeat(1024)),
        ),
    ] {
        let (answered, _) = answered();
        assert_eq!(
            answered.verify(server_final.as_bytes()),
            Err(expected),
            "{server_final}"
        );
    }
    let (answered, _) = answered();
    assert_eq!(
        answered.verify(format!("{right},z=more").as_bytes()),
        Ok(())
    );
}

#[test]
fn every_failure_has_a_word_of_its_own() {
    let all = [
        ClientFailure::NoMechanism,
        ClientFailure::Malformed("x"),
        ClientFailure::Extension,
        ClientFailure::Nonce,
        ClientFailure::Iterations,
        ClientFailure::VerifierMismatch,
        ClientFailure::Refused(String::new()),
        ClientFailure::ServerSignature,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(ClientFailure::reason).collect();
    assert_eq!(words.len(), all.len());
    assert!(all.iter().all(|failure| !failure.to_string().is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_server_bytes_are_believed(
        first in proptest::collection::vec(any::<u8>(), 0..120),
        last in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let client = client(&[PLAIN], &Binding::Unsupported).ok().unwrap();
        prop_assert!(client.challenge(&first).is_err());
        prop_assert!(answered().0.verify(&last).is_err());
    }
}

//! Tokens as passwords: the one that is right, and every way that is known to be wrong.

mod attacks;
mod issuer;
mod key_sets;

use jsonwebtoken::Algorithm;
use portcullis_certs::token::{Claims, LEEWAY_SECONDS, MAX_TOKEN_BYTES, TokenRefusal, verify};
use proptest::prelude::*;
use serde_json::{Value, json};

use issuer::{EXPECTED, Issuer, Kind, NOW, claims};

#[test]
fn a_token_of_every_accepted_algorithm_verifies() {
    for (kind, algorithms) in [
        (Kind::P256, &["ES256"][..]),
        (Kind::P384, &["ES384"]),
        (Kind::Ed25519, &["EdDSA"]),
        (
            Kind::Rsa,
            &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
        ),
    ] {
        let issuer = Issuer::new(kind, Some("k1"));
        for algorithm in algorithms {
            let token = issuer.sign(
                json!({"alg": algorithm, "kid": "k1", "typ": "JWT"}),
                claims(),
            );
            assert_eq!(
                verify(&issuer.keys(), &token, &EXPECTED, NOW),
                Ok(Claims {
                    subject: "svc-orders".into(),
                    values: vec!["reporting".into()],
                    expires: NOW + 300,
                }),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn one_claim_gives_one_value_or_several() {
    for (claim, value, outcome) in [
        ("groups", json!("a"), Ok(vec!["a"])),
        ("groups", json!(["a", "b", "a"]), Ok(vec!["a", "b", "a"])),
        ("groups", json!([""]), Ok(vec![""])),
        ("groups", json!([]), Err(TokenRefusal::Claim)),
        ("groups", json!(["a", 1]), Err(TokenRefusal::Claim)),
        ("groups", json!(7), Err(TokenRefusal::Claim)),
        ("groups", json!(null), Err(TokenRefusal::Claim)),
        ("groups", json!({"a": true}), Err(TokenRefusal::Claim)),
        // A name, not a path.
        ("https://acme/roles", json!("a"), Ok(vec!["a"])),
        ("a.b", json!("a"), Ok(vec!["a"])),
    ] {
        let issuer = Issuer::new(Kind::P256, None);
        let expected = portcullis_certs::token::Expected { claim, ..EXPECTED };
        let token = issuer.sign(json!({"alg": "ES256"}), with(claim, value.clone()));
        let values = verify(&issuer.keys(), &token, &expected, NOW).map(|claims| claims.values);
        let outcome = outcome.map(|all| all.into_iter().map(str::to_owned).collect());
        assert_eq!(values, outcome, "{claim}: {value}");
    }
}

#[test]
fn a_token_holds_from_its_first_second_to_its_last_and_a_leeway() {
    let issuer = Issuer::new(Kind::P256, None);
    let at = |claims: Value, now| {
        let token = issuer.sign(json!({"alg": "ES256"}), claims);
        verify(&issuer.keys(), &token, &EXPECTED, now).map(|_| ())
    };
    let end = NOW + 300 + LEEWAY_SECONDS;
    assert_eq!(at(claims(), end - 1), Ok(()));
    assert_eq!(at(claims(), end), Err(TokenRefusal::Expired));
    for name in ["nbf", "iat"] {
        let begins = |moment| at(with(name, json!(moment)), NOW);
        assert_eq!(begins(NOW + LEEWAY_SECONDS), Ok(()), "{name}");
        assert_eq!(
            begins(NOW + LEEWAY_SECONDS + 1),
            Err(TokenRefusal::NotYet),
            "{name}"
        );
    }
    for (exp, outcome) in [
        (json!(NOW + 1), Ok(())),
        (json!(NOW as f64 + 0.9), Ok(())),
        (json!(i64::MAX), Ok(())),
        (json!(0), Err(TokenRefusal::Expired)),
        (json!(i64::MIN), Err(TokenRefusal::Expired)),
        (json!(-1e9), Err(TokenRefusal::Expired)),
        (json!(1e300), Err(TokenRefusal::Malformed)),
        (json!((NOW + 300).to_string()), Err(TokenRefusal::Malformed)),
        (json!(null), Err(TokenRefusal::Malformed)),
        (json!([NOW + 300]), Err(TokenRefusal::Malformed)),
    ] {
        assert_eq!(at(with("exp", exp.clone()), NOW), outcome, "{exp}");
    }
    assert_eq!(at(without("exp"), NOW), Err(TokenRefusal::NoExpiry));
    assert_eq!(
        at(with("nbf", json!("soon")), NOW),
        Err(TokenRefusal::Malformed)
    );
}

#[test]
fn the_size_of_a_token_is_limited_at_the_edge() {
    let issuer = Issuer::new(Kind::P256, None);
    let of = |filler: usize| {
        let token = issuer.sign(
            json!({"alg": "ES256"}),
            with("filler", json!("x".repeat(filler))),
        );
        let outcome = verify(&issuer.keys(), &token, &EXPECTED, NOW).map(|_| ());
        (token.len(), outcome)
    };
    // Four characters of base64 for three bytes: the exact edge may not be reachable, its two sides are.
    let (mut filler, mut largest) = (MAX_TOKEN_BYTES / 2, 0);
    loop {
        let (length, outcome) = of(filler);
        if length > MAX_TOKEN_BYTES {
            assert_eq!(outcome, Err(TokenRefusal::TooLarge));
            break;
        }
        assert_eq!(outcome, Ok(()));
        largest = length;
        filler += ((MAX_TOKEN_BYTES - length) / 2).max(1);
    }
    assert!(largest >= MAX_TOKEN_BYTES - 2, "{largest}");
}

#[test]
fn a_refusal_has_one_stable_word_each_and_tells_nothing_of_the_token() {
    use TokenRefusal::{
        Algorithm, AmbiguousKey, Audience, Bound, Claim, Expired, Extension, Issuer, Key,
        Malformed, NoExpiry, NotYet, Signature, Subject, TooLarge, Type,
    };
    let all = [
        TooLarge,
        Malformed,
        Algorithm,
        Extension,
        Type,
        Key,
        AmbiguousKey,
        Signature,
        Issuer,
        Audience,
        NoExpiry,
        Expired,
        NotYet,
        Bound,
        Subject,
        Claim,
    ];
    let mut words: Vec<_> = all.iter().map(|refusal| refusal.reason()).collect();
    assert!(words.iter().all(|word| word.starts_with("token_")));
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), all.len());
}

proptest! {
    #[test]
    fn no_header_and_no_claims_make_it_panic(header in "\\PC{0,40}", claims in "\\PC{0,40}", rest in "[.A-Za-z0-9_-]{0,90}") {
        let issuer = Issuer::new(Kind::P256, None);
        let signed = issuer.sign_text(Algorithm::ES256, &header, &claims);
        for token in [signed, rest] {
            prop_assert!(verify(&issuer.keys(), &token, &EXPECTED, NOW).is_err());
        }
    }
}

fn with(name: &str, value: Value) -> Value {
    let mut all = claims();
    all[name] = value;
    all
}

fn without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().remove(name);
    all
}

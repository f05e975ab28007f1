//! Tokens that must not be accepted, by the group of the attack.

use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis_certs::token::{TokenKeys, TokenRefusal, verify};
use serde_json::{Value, json};

use super::issuer::{EXPECTED, Issuer, Kind, NOW, claims, encode, sign_with};
use super::{with, without};

#[test]
fn algorithms_other_than_the_keys_are_refused() {
    let rsa = Issuer::new(Kind::Rsa, None);
    let ec = Issuer::new(Kind::P256, None);
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            encode(json!({"alg": alg}).to_string()),
            encode(claims().to_string())
        )
    };
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "hs256", "es256", "ES512", "ES256K",
        "RSA-OAEP", "dir",
    ] {
        refuse(&ec, &unsigned(alg), TokenRefusal::Algorithm);
    }
    let header = |value: Value| {
        format!(
            "{}.{}.AAAA",
            encode(value.to_string()),
            encode(claims().to_string())
        )
    };
    refuse(&ec, &header(json!({})), TokenRefusal::Algorithm);
    refuse(&ec, &header(json!({"alg": null})), TokenRefusal::Algorithm);
    refuse(
        &ec,
        &header(json!({"alg": ["ES256"]})),
        TokenRefusal::Algorithm,
    );

    // The public key as a shared secret (CVE-2016-5431 and its many successors).
    for public in [
        rsa.pair.public_key_pem().into_bytes(),
        rsa.pair.public_key_raw().to_vec(),
    ] {
        let secret = EncodingKey::from_secret(&public);
        for (algorithm, name) in [(Algorithm::HS256, "HS256"), (Algorithm::HS512, "HS512")] {
            let token = sign_with(
                &secret,
                algorithm,
                &json!({"alg": name}).to_string(),
                &claims().to_string(),
            );
            refuse(&rsa, &token, TokenRefusal::Algorithm);
        }
        // … and under the name of the algorithm that is expected.
        let token = sign_with(
            &secret,
            Algorithm::HS256,
            r#"{"alg":"RS256"}"#,
            &claims().to_string(),
        );
        refuse(&rsa, &token, TokenRefusal::Signature);
    }

    // One family's key under another family's name.
    let other = rsa.sign(json!({"alg": "RS256"}), claims());
    refuse(&ec, &other, TokenRefusal::Key);
    refuse(
        &rsa,
        &ec.sign(json!({"alg": "ES256"}), claims()),
        TokenRefusal::Key,
    );
    let lying = ec.sign_text(
        Algorithm::ES256,
        r#"{"alg":"RS256"}"#,
        &claims().to_string(),
    );
    refuse(&ec, &lying, TokenRefusal::Key);
    let p384 = Issuer::new(Kind::P384, None);
    refuse(
        &ec,
        &p384.sign(json!({"alg": "ES384"}), claims()),
        TokenRefusal::Key,
    );

    // A key that is for one algorithm verifies no other of its family.
    let mut only = Issuer::new(Kind::Rsa, None);
    only.jwk["alg"] = json!("PS256");
    refuse(
        &only,
        &only.sign(json!({"alg": "RS256"}), claims()),
        TokenRefusal::Key,
    );
    accept(&only, &only.sign(json!({"alg": "PS256"}), claims()));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let issuer = Issuer::new(Kind::P256, None);
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
    ] {
        let mut header = json!({"alg": "ES256"});
        header[name] = value;
        refuse(
            &issuer,
            &issuer.sign(header, claims()),
            TokenRefusal::Extension,
        );
    }
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "application/jwt",
    ] {
        accept(
            &issuer,
            &issuer.sign(json!({"alg": "ES256", "typ": typ}), claims()),
        );
    }
    for typ in [
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("JOSE"),
        json!(""),
        json!(1),
        json!(null),
    ] {
        let token = issuer.sign(json!({"alg": "ES256", "typ": typ}), claims());
        refuse(&issuer, &token, TokenRefusal::Type);
    }
}

#[test]
fn keys_that_a_token_offers_are_never_used() {
    let issuer = Issuer::new(Kind::P256, Some("k1"));
    let thief = Issuer::new(Kind::P256, Some("k1"));
    let certificate = rcgen::CertificateParams::new(vec!["evil.example".into()]).unwrap();
    let certificate = certificate.self_signed(&thief.pair).unwrap();
    use base64::Engine;
    let x5c = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    for (name, value) in [
        ("jwk", thief.jwk.clone()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("file:///dev/null")),
        ("x5c", json!([x5c])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k1"});
        header[name] = value;
        refuse(
            &issuer,
            &thief.sign(header.clone(), claims()),
            TokenRefusal::Signature,
        );
        // The issuer itself may write such things; they change nothing.
        accept(&issuer, &issuer.sign(header, claims()));
    }
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    let issuer = Issuer::new(Kind::P256, Some("k1"));
    for kid in [
        "k2",
        "",
        "K1",
        "k1 ",
        "../../dev/null",
        "' OR '1'='1",
        "k1\0",
    ] {
        let token = issuer.sign(json!({"alg": "ES256", "kid": kid}), claims());
        refuse(&issuer, &token, TokenRefusal::Key);
    }
    for kid in [json!(1), json!(null), json!(["k1"])] {
        let token = issuer.sign(json!({"alg": "ES256", "kid": kid}), claims());
        refuse(&issuer, &token, TokenRefusal::Key);
    }
    let long = issuer.sign(
        json!({"alg": "ES256", "kid": "k".repeat(1 << 20)}),
        claims(),
    );
    refuse(&issuer, &long, TokenRefusal::TooLarge);
    // A key without an id is not the one that a token names.
    let nameless = Issuer::new(Kind::P256, None);
    let token = nameless.sign(json!({"alg": "ES256", "kid": "k1"}), claims());
    refuse(&nameless, &token, TokenRefusal::Key);
}

#[test]
fn a_token_that_does_not_tell_which_key_needs_to_leave_no_choice() {
    let (first, second) = (
        Issuer::new(Kind::P256, Some("a")),
        Issuer::new(Kind::P256, Some("b")),
    );
    let rsa = Issuer::new(Kind::Rsa, Some("c"));
    let both = json!({"keys": [first.jwk, second.jwk, rsa.jwk]});
    let both = TokenKeys::from_jwks(&both.to_string()).unwrap();
    let check = |token: &str| verify(&both, token, &EXPECTED, NOW).map(|_| ());
    assert_eq!(
        check(&first.sign(json!({"alg": "ES256"}), claims())),
        Err(TokenRefusal::AmbiguousKey)
    );
    assert_eq!(check(&rsa.sign(json!({"alg": "RS256"}), claims())), Ok(()));
    assert_eq!(
        check(&second.sign(json!({"alg": "ES256", "kid": "b"}), claims())),
        Ok(())
    );
    assert_eq!(
        check(&second.sign(json!({"alg": "ES256", "kid": "a"}), claims())),
        Err(TokenRefusal::Signature)
    );

    let mut twin = second.jwk.clone();
    twin["kid"] = json!("a");
    let twins = json!({"keys": [first.jwk, twin]});
    let twins = TokenKeys::from_jwks(&twins.to_string()).unwrap();
    let token = first.sign(json!({"alg": "ES256", "kid": "a"}), claims());
    assert_eq!(
        verify(&twins, &token, &EXPECTED, NOW),
        Err(TokenRefusal::AmbiguousKey)
    );
}

#[test]
fn the_audience_is_us_alone() {
    let issuer = Issuer::new(Kind::P256, None);
    for audience in [json!("portcullis-acme"), json!(["portcullis-acme"])] {
        accept(
            &issuer,
            &issuer.sign(json!({"alg": "ES256"}), with("aud", audience)),
        );
    }
    for audience in [
        json!("other"),
        json!("portcullis"),
        json!("portcullis-acme-2"),
        json!("portcullis-acme "),
        json!("PORTCULLIS-ACME"),
        json!(["portcullis-acme", "other"]),
        json!(["other", "portcullis-acme"]),
        json!(["portcullis-acme", "portcullis-acme"]),
        json!([["portcullis-acme"]]),
        json!(["portcullis-acme", null]),
        json!([]),
        json!(""),
        json!(null),
        json!(true),
        json!({"portcullis-acme": true}),
    ] {
        let token = issuer.sign(json!({"alg": "ES256"}), with("aud", audience));
        refuse(&issuer, &token, TokenRefusal::Audience);
    }
    refuse(
        &issuer,
        &issuer.sign(json!({"alg": "ES256"}), without("aud")),
        TokenRefusal::Audience,
    );
}

#[test]
fn the_issuer_is_compared_to_the_letter() {
    let issuer = Issuer::new(Kind::P256, None);
    for name in [
        json!("https://idp.acme.example/"),
        json!("HTTPS://idp.acme.example"),
        json!("https://IDP.acme.example"),
        json!("http://idp.acme.example"),
        json!("https://idp.acme.example.evil.example"),
        json!("https://idp.acme.example/staging"),
        json!(""),
        json!(null),
        json!(["https://idp.acme.example"]),
    ] {
        let token = issuer.sign(json!({"alg": "ES256"}), with("iss", name));
        refuse(&issuer, &token, TokenRefusal::Issuer);
    }
    refuse(
        &issuer,
        &issuer.sign(json!({"alg": "ES256"}), without("iss")),
        TokenRefusal::Issuer,
    );
}

#[test]
fn tokens_bound_to_a_key_or_about_nobody_are_refused() {
    let issuer = Issuer::new(Kind::P256, None);
    let sign = |claims| issuer.sign(json!({"alg": "ES256"}), claims);
    for bound in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({}),
        json!(null),
    ] {
        refuse(&issuer, &sign(with("cnf", bound)), TokenRefusal::Bound);
    }
    for subject in [json!(""), json!(null), json!(7), json!(["svc-orders"])] {
        refuse(&issuer, &sign(with("sub", subject)), TokenRefusal::Subject);
    }
    refuse(&issuer, &sign(without("sub")), TokenRefusal::Subject);
    refuse(&issuer, &sign(without("groups")), TokenRefusal::Claim);
}

#[test]
fn other_shapes_and_spellings_are_refused() {
    let issuer = Issuer::new(Kind::P256, None);
    let token = issuer.sign(json!({"alg": "ES256"}), claims());
    let parts: Vec<_> = token.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    accept(&issuer, &token);
    for malformed in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.to_owned(),
        format!("{header}.{body}"),
        // JWE has five parts.
        format!("{token}.{signature}.{signature}"),
        format!("{token}.{signature}"),
        // The JSON serialisation.
        json!({"protected": header, "payload": body, "signature": signature}).to_string(),
        format!(" {token}"),
        format!("{token}\n"),
        format!("Bearer {token}"),
        format!("{token}="),
        format!("{header}=.{body}.{signature}"),
        format!("{}.{body}.{signature}", encode("[]")),
        format!("{}.{body}.{signature}", encode("null")),
        format!(
            "{}.{body}.{signature}",
            encode("\u{feff}{\"alg\":\"ES256\"}")
        ),
        format!("{}.{body}.{signature}", encode([0xff, 0xfe])),
        format!("{}.{body}.{signature}", encode(r#"{"alg":"ES256"} {}"#)),
        format!(
            "{}.{body}.{signature}",
            encode(r#"{"alg":"none","alg":"ES256"}"#)
        ),
        format!("{}.{body}.{signature}", encode("[".repeat(8_000))),
    ] {
        refuse(&issuer, &malformed, TokenRefusal::Malformed);
    }
    // Signed by the issuer, and still not claims.
    for claims in [
        "",
        "[]",
        "\"x\"",
        "{",
        r#"{"aud":"other","aud":"portcullis-acme"}"#,
    ] {
        let token = issuer.sign_text(Algorithm::ES256, r#"{"alg":"ES256"}"#, claims);
        refuse(&issuer, &token, TokenRefusal::Malformed);
    }
}

#[test]
fn a_changed_token_does_not_verify() {
    let issuer = Issuer::new(Kind::P256, None);
    let token = issuer.sign(json!({"alg": "ES256"}), claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let richer = encode(with("groups", json!(["admin"])).to_string());
    refuse(
        &issuer,
        &format!("{header}.{richer}.{signature}"),
        TokenRefusal::Signature,
    );
    refuse(&issuer, &format!("{message}."), TokenRefusal::Signature);
    refuse(
        &issuer,
        &format!("{message}.{}", encode([0; 64])),
        TokenRefusal::Signature,
    );
    refuse(
        &issuer,
        &format!("{message}.{}", encode([0; 63])),
        TokenRefusal::Signature,
    );
    let another = Issuer::new(Kind::P256, None);
    refuse(&another, &token, TokenRefusal::Signature);
}

#[track_caller]
fn refuse(issuer: &Issuer, token: &str, refusal: TokenRefusal) {
    let shown: String = token.chars().take(200).collect();
    assert_eq!(
        verify(&issuer.keys(), token, &EXPECTED, NOW),
        Err(refusal),
        "{shown}"
    );
}

#[track_caller]
fn accept(issuer: &Issuer, token: &str) {
    assert!(
        verify(&issuer.keys(), token, &EXPECTED, NOW).is_ok(),
        "{token}"
    );
}

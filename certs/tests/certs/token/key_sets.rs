//! Key sets as issuers publish them, and as they should not.

use portcullis_certs::token::{KeysError, MAX_KEY_SET_BYTES, MAX_KEYS, TokenKeys};
use serde_json::{Value, json};

use super::issuer::{Issuer, Kind};

#[test]
fn keys_that_cannot_verify_tokens_are_left_aside() {
    let good = Issuer::new(Kind::P256, Some("good")).jwk;
    let p384 = Issuer::new(Kind::P384, None).jwk;
    let ed = Issuer::new(Kind::Ed25519, None).jwk;
    let rsa = Issuer::new(Kind::Rsa, None).jwk;
    let (x, n) = (good["x"].clone(), rsa["n"].as_str().unwrap().to_owned());
    let changed = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    for (what, useless) in [
        ("for encryption", changed(&good, "use", json!("enc"))),
        ("for an odd use", changed(&good, "use", json!(1))),
        ("for signing", changed(&good, "key_ops", json!(["sign"]))),
        (
            "of another algorithm",
            changed(&good, "alg", json!("ES384")),
        ),
        (
            "of an encryption algorithm",
            changed(&rsa, "alg", json!("RSA-OAEP")),
        ),
        (
            "of a symmetric algorithm",
            changed(&rsa, "alg", json!("HS256")),
        ),
        ("of no algorithm", changed(&rsa, "alg", json!(null))),
        ("with an odd id", changed(&good, "kid", json!(7))),
        ("symmetric", json!({"kty": "oct", "k": "c2VjcmV0"})),
        ("of an unknown type", json!({"kty": "AKP", "pub": "AAAA"})),
        ("of no type", json!({"x": x})),
        ("on another curve", changed(&good, "crv", json!("P-521"))),
        ("on secp256k1", changed(&good, "crv", json!("secp256k1"))),
        (
            "on a curve of another size",
            changed(&p384, "crv", json!("P-256")),
        ),
        ("on X25519", changed(&ed, "crv", json!("X25519"))),
        ("without y", changed(&good, "y", json!(null))),
        ("with a short x", changed(&ed, "x", json!("AAAA"))),
        ("with padding", changed(&rsa, "e", json!("AQAB="))),
        ("of 1024 bits", changed(&rsa, "n", json!(n.get(..171)))),
        (
            "of 16384 bits",
            changed(&rsa, "n", json!("A".repeat(2_731))),
        ),
        (
            "with a long exponent",
            changed(&rsa, "e", json!("A".repeat(100))),
        ),
        ("with an RSA curve", changed(&rsa, "crv", json!("P-256"))),
    ] {
        let alone = read(&json!({"keys": [useless]}));
        assert_eq!(alone.err(), Some(KeysError::NothingUsable), "{what}");
        let both = read(&json!({"keys": [useless, good]})).unwrap();
        assert_eq!(both.ignored(), 1, "{what}");
    }
    for useful in [
        changed(&good, "use", json!("sig")),
        changed(&good, "key_ops", json!(["verify"])),
        changed(&good, "alg", json!("ES256")),
        changed(&good, "x5c", json!(["…"])),
        p384,
        ed,
        rsa,
    ] {
        assert_eq!(read(&json!({"keys": [useful]})).unwrap().ignored(), 0);
    }
}

#[test]
fn a_private_key_among_public_ones_is_refused_and_said() {
    let good = Issuer::new(Kind::P256, None).jwk;
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
        let mut private = good.clone();
        private[member] = json!("AAAA");
        let set = json!({"keys": [good, private]});
        assert_eq!(read(&set).err(), Some(KeysError::PrivateKey), "{member}");
    }
}

#[test]
fn what_is_not_a_key_set_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        "<html>",
    ] {
        assert_eq!(
            TokenKeys::from_jwks(text).err(),
            Some(KeysError::Malformed),
            "{text}"
        );
    }
    assert_eq!(
        read(&json!({"keys": []})).err(),
        Some(KeysError::NothingUsable)
    );
}

#[test]
fn the_set_is_limited_at_the_edge() {
    let good = Issuer::new(Kind::P256, None).jwk;
    let of = |count: usize| read(&json!({"keys": vec![good.clone(); count]})).err();
    assert_eq!(of(MAX_KEYS), None);
    assert_eq!(of(MAX_KEYS + 1), Some(KeysError::TooMany));

    let text = json!({"keys": [good]}).to_string();
    let full = format!("{text}{}", " ".repeat(MAX_KEY_SET_BYTES - text.len()));
    assert!(TokenKeys::from_jwks(&full).is_ok());
    let over = format!("{full} ");
    assert_eq!(TokenKeys::from_jwks(&over).err(), Some(KeysError::TooLarge));
}

fn read(set: &Value) -> Result<TokenKeys, KeysError> {
    TokenKeys::from_jwks(&set.to_string())
}

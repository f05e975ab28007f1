//! An issuer with a real key, who signs whatever it is asked to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use portcullis_certs::token::{Expected, TokenKeys};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

pub(crate) const NOW: i64 = 1_795_363_445;

pub(crate) const EXPECTED: Expected<'static> = Expected {
    issuer: "https://idp.acme.example",
    audience: "portcullis-acme",
    claim: "groups",
};

/// Claims that are right in everything.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://idp.acme.example",
        "aud": "portcullis-acme",
        "sub": "svc-orders",
        "groups": ["reporting"],
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 300,
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

pub(crate) struct Issuer {
    pub(crate) pair: KeyPair,
    key: EncodingKey,
    /// The public key as an issuer publishes it.
    pub(crate) jwk: Value,
}

impl Issuer {
    pub(crate) fn new(kind: Kind, kid: Option<&str>) -> Self {
        let algorithm = match kind {
            Kind::P256 => &PKCS_ECDSA_P256_SHA256,
            Kind::P384 => &PKCS_ECDSA_P384_SHA384,
            Kind::Ed25519 => &PKCS_ED25519,
            Kind::Rsa => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let pem = pair.serialize_pem();
        let key = match kind {
            Kind::P256 | Kind::P384 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            Kind::Ed25519 => EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
            Kind::Rsa => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        };
        let mut jwk = public(kind, pair.public_key_raw());
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        Self { pair, key, jwk }
    }

    pub(crate) fn keys(&self) -> TokenKeys {
        TokenKeys::from_jwks(&json!({"keys": [self.jwk]}).to_string()).unwrap()
    }

    /// A token with this header and these claims, signed as the header's `alg` says.
    pub(crate) fn sign(&self, header: Value, claims: Value) -> String {
        let algorithm: Algorithm = serde_json::from_value(header["alg"].clone()).unwrap();
        self.sign_text(algorithm, &header.to_string(), &claims.to_string())
    }

    /// The same with texts as they stand, and an algorithm that the header need not name.
    pub(crate) fn sign_text(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        sign_with(&self.key, algorithm, header, claims)
    }
}

pub(crate) fn sign_with(
    key: &EncodingKey,
    algorithm: Algorithm,
    header: &str,
    claims: &str,
) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn public(kind: Kind, raw: &[u8]) -> Value {
    let point = |curve: &str, size: usize| {
        let (x, y) = raw[1..].split_at(size);
        json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
    };
    match kind {
        Kind::P256 => point("P-256", 32),
        Kind::P384 => point("P-384", 48),
        Kind::Ed25519 => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}),
        Kind::Rsa => {
            let (_, key) = RSAPublicKey::from_der(raw).unwrap();
            let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
            json!({"kty": "RSA", "n": encode(modulus), "e": encode(key.exponent)})
        }
    }
}

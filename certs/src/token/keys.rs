//! An issuer's public keys (JWK Set, RFC 7517).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::TokenRefusal;
use super::json::Object;

/// The keys of one issuer that can verify tokens.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    keys: Vec<TokenKey>,
    ignored: usize,
}

impl TokenKeys {
    /// Reads a JWK Set.
    ///
    /// Keys for other uses, of other types, or too weak are left aside (RFC 7517 §5; [`TokenKeys::ignored`] counts them); one that can be
    /// used must be left over. A set that holds a private key is refused whole: its owner must hear of it before a thief does.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn from_jwks(json: &str) -> Result<Self, KeysError> {
        if json.len() > MAX_KEY_SET_BYTES {
            return Err(KeysError::TooLarge);
        }
        let set = Object::parse(json.as_bytes()).ok_or(KeysError::Malformed)?;
        let Some(Value::Array(members)) = set.get("keys") else {
            return Err(KeysError::Malformed);
        };
        if members.len() > MAX_KEYS {
            return Err(KeysError::TooMany);
        }
        let mut keys = Vec::with_capacity(members.len());
        for member in members {
            if !member.is_object() {
                return Err(KeysError::Malformed);
            }
            if PRIVATE_MEMBERS
                .iter()
                .any(|name| member.get(name).is_some())
            {
                return Err(KeysError::PrivateKey);
            }
            keys.extend(TokenKey::read(member));
        }
        if keys.is_empty() {
            return Err(KeysError::NothingUsable);
        }
        let ignored = members.len().saturating_sub(keys.len());
        Ok(Self { keys, ignored })
    }

    /// How many keys of the set cannot verify tokens and are left aside.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The only key that fits: its type the algorithm, its id the token's (if the token has one).
    pub(super) fn find(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<&DecodingKey, TokenRefusal> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (kid.is_none() || key.kid.as_deref() == kid)
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.key),
            (Some(_), Some(_)) => Err(TokenRefusal::AmbiguousKey),
            (None, _) => Err(TokenRefusal::Key),
        }
    }
}

/// Keys in one set.
pub const MAX_KEYS: usize = 100;

/// Bytes of one set's JSON.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;

/// The accepted signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1): asymmetric ones only, by their exact names.
pub(super) fn asymmetric(name: &str) -> Option<Algorithm> {
    ACCEPTED
        .iter()
        .find(|(accepted, _)| *accepted == name)
        .map(|(_, algorithm)| *algorithm)
}

const ACCEPTED: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Members that only a private key has (RFC 7518 §6.2.2, §6.3.2; RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

#[derive(Debug, Clone)]
struct TokenKey {
    kid: Option<String>,
    /// What this key's type, and its own `alg` if it has one, allow.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl TokenKey {
    /// `None` for a key that cannot verify tokens.
    fn read(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if !is_absent_or(jwk, "use", |usage| usage == "sig") {
            return None;
        }
        let verifies = |operations: &Value| {
            let operations = operations.as_array();
            operations.is_some_and(|all| all.iter().any(|operation| operation == "verify"))
        };
        if !is_absent_or(jwk, "key_ops", verifies) {
            return None;
        }
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let (mut algorithms, key) = match (text("kty")?, text("crv")) {
            ("RSA", None) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                if !(RSA_MODULUS_BYTES.contains(&modulus.len())
                    && RSA_EXPONENT_BYTES.contains(&exponent.len()))
                {
                    return None;
                }
                let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
                (RSA.to_vec(), key)
            }
            ("EC", Some("P-256")) => (vec![Algorithm::ES256], point(bytes("x")?, bytes("y")?, 32)?),
            ("EC", Some("P-384")) => (vec![Algorithm::ES384], point(bytes("x")?, bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => {
                let x = bytes("x").filter(|x| x.len() == 32)?;
                (vec![Algorithm::EdDSA], DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        if jwk.get("alg").is_some() {
            let only = asymmetric(text("alg")?)?;
            algorithms.retain(|algorithm| *algorithm == only);
            if algorithms.is_empty() {
                return None;
            }
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str()?.to_owned()),
        };
        Some(Self {
            kid,
            algorithms,
            key,
        })
    }
}

fn is_absent_or(jwk: &Value, name: &str, accepted: impl Fn(&Value) -> bool) -> bool {
    jwk.get(name).is_none_or(accepted)
}

/// An uncompressed point (SEC 1 §2.3.3) of two coordinates of exactly the curve's size (RFC 7518 §6.2.1.2).
fn point(x: Vec<u8>, y: Vec<u8>, size: usize) -> Option<DecodingKey> {
    if x.len() != size || y.len() != size {
        return None;
    }
    let mut point = vec![0x04];
    point.extend(x);
    point.extend(y);
    Some(DecodingKey::from_ec_der(&point))
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// An exponent is 65537 nearly everywhere; a long one only costs time.
const RSA_EXPONENT_BYTES: std::ops::RangeInclusive<usize> = 1..=8;

/// A JWK Set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysError {
    /// More than [`MAX_KEY_SET_BYTES`].
    TooLarge,
    /// More than [`MAX_KEYS`].
    TooMany,
    /// Not a JSON object with an array `keys` of objects, or with a repeated name.
    Malformed,
    /// A private key is in the set.
    PrivateKey,
    /// No key in the set can verify tokens.
    NothingUsable,
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the key set has more than {MAX_KEY_SET_BYTES} bytes"),
            Self::TooMany => write!(f, "the key set has more than {MAX_KEYS} keys"),
            Self::Malformed => f.write_str("not a JWK Set"),
            Self::PrivateKey => {
                f.write_str("the key set holds a private key: replace that key, it is public now")
            }
            Self::NothingUsable => f.write_str(
                "no key of the set can verify tokens (RSA of 2048 bits or more, P-256, P-384, Ed25519)",
            ),
        }
    }
}

impl std::error::Error for KeysError {}

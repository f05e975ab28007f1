//! Signed tokens (JWT, RFC 7519) as passwords: does the tenant's issuer say this, to us, now?
//!
//! jsonwebtoken checks signatures; what a token says is read here, strictly: one encoding, no repeated names, and nothing in a token
//! ever points at the key that should verify it. `azp` is not read (issuers disagree on what it names): the audience decides.

mod json;
mod keys;
mod refusal;

pub use keys::{KeysError, MAX_KEY_SET_BYTES, MAX_KEYS, TokenKeys};
pub use refusal::TokenRefusal;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::aws_lc;
use serde_json::Value;

use json::Object;

/// What a token must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The issuer (`iss`), to the letter.
    pub issuer: &'a str,
    /// The audience (`aud`), to the letter: alone, or the only member of an array.
    pub audience: &'a str,
    /// The claim whose values are mapped to roles: the name of a member of the claims, not a path.
    pub claim: &'a str,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whom the token is about (`sub`).
    pub subject: String,
    /// The values of the expected claim, in the token's order; at least one.
    pub values: Vec<String>,
    /// The last second of the token (`exp`), Unix seconds, leeway not included.
    pub expires: i64,
}

/// Verifies a token in the compact serialisation (RFC 7515 §3.1) at the moment `now` (Unix seconds).
///
/// In this order: size and shape; the header; the key, which is the only one of `keys` that fits the token's `alg` and `kid`; the
/// signature; then the claims, where `exp` is required and [`LEEWAY_SECONDS`] is granted to both clocks.
///
/// # Errors
/// [`TokenRefusal`], the first thing found wrong.
pub fn verify(
    keys: &TokenKeys,
    token: &str,
    expected: &Expected<'_>,
    now: i64,
) -> Result<Claims, TokenRefusal> {
    let parts = Parts::of(token)?;
    let header = Header::read(parts.header)?;
    let key = keys.find(header.algorithm, header.kid.as_deref())?;
    let signature = decode(parts.signature)?;
    (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&header.algorithm, key)
        .map_err(|_| TokenRefusal::Signature)?
        .verify(parts.signed.as_bytes(), &signature)
        .map_err(|_| TokenRefusal::Signature)?;
    let claims = Object::parse(&decode(parts.claims)?).ok_or(TokenRefusal::Malformed)?;
    check_claims(&claims, expected, now)
}

/// Bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How far the issuer's clock and ours may differ, in seconds, for `exp`, `nbf` and `iat`.
pub const LEEWAY_SECONDS: i64 = 30;

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// What the signature covers: the header, a dot, the claims.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, TokenRefusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenRefusal::TooLarge);
        }
        let malformed = TokenRefusal::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(malformed)?;
        if claims.contains('.') {
            // Five parts are an encrypted token (RFC 7516 §3.1).
            return Err(malformed);
        }
        Ok(Self {
            header,
            claims,
            signature,
            signed,
        })
    }
}

struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn read(encoded: &str) -> Result<Self, TokenRefusal> {
        let header = Object::parse(&decode(encoded)?).ok_or(TokenRefusal::Malformed)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => keys::asymmetric(name).ok_or(TokenRefusal::Algorithm)?,
            _ => return Err(TokenRefusal::Algorithm),
        };
        // `crit` says that what it lists must be understood, and we understand no extension (RFC 7515 §4.1.11); `b64` and `zip` change
        // what the signature covers, `enc` makes it another kind of token. `jku`, `jwk`, `x5u` and `x5c` offer a key: they are not read.
        if ["crit", "b64", "zip", "enc"]
            .iter()
            .any(|name| header.get(name).is_some())
        {
            return Err(TokenRefusal::Extension);
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(kind)) if is_access_token(kind) => {}
            Some(_) => return Err(TokenRefusal::Type),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenRefusal::Key),
        };
        Ok(Self { algorithm, kid })
    }
}

/// `JWT` (RFC 7519 §5.1) or `at+jwt` (RFC 9068 §2.1), as media types: without regard to case, `application/` left out or not. Other
/// types (log-out tokens, security events, proofs of possession) are signed by the same issuers and are no password.
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    kind == "jwt" || kind == "at+jwt"
}

fn check_claims(
    claims: &Object,
    expected: &Expected<'_>,
    now: i64,
) -> Result<Claims, TokenRefusal> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(TokenRefusal::Issuer);
    }
    let audience = match claims.get("aud") {
        Some(Value::String(audience)) => Some(audience.as_str()),
        // A token that others accept too could be one that another service was given, and plays back to us.
        Some(Value::Array(audiences)) => match audiences.as_slice() {
            [Value::String(audience)] => Some(audience.as_str()),
            _ => None,
        },
        _ => None,
    };
    if audience != Some(expected.audience) {
        return Err(TokenRefusal::Audience);
    }
    let expires = match claims.get("exp") {
        Some(moment) => seconds(moment).ok_or(TokenRefusal::Malformed)?,
        None => return Err(TokenRefusal::NoExpiry),
    };
    if now >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenRefusal::Expired);
    }
    for name in ["nbf", "iat"] {
        if let Some(moment) = claims.get(name) {
            let moment = seconds(moment).ok_or(TokenRefusal::Malformed)?;
            if moment > now.saturating_add(LEEWAY_SECONDS) {
                return Err(TokenRefusal::NotYet);
            }
        }
    }
    if claims.get("cnf").is_some() {
        // Bound to a key that its holder must prove (RFC 7800); a password exchange proves nothing of the kind.
        return Err(TokenRefusal::Bound);
    }
    let subject = match claims.get("sub") {
        Some(Value::String(subject)) if !subject.is_empty() => subject.clone(),
        _ => return Err(TokenRefusal::Subject),
    };
    let values = match claims.get(expected.claim) {
        Some(Value::String(value)) => vec![value.clone()],
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or(TokenRefusal::Claim)?,
        _ => return Err(TokenRefusal::Claim),
    };
    if values.is_empty() {
        return Err(TokenRefusal::Claim);
    }
    Ok(Claims {
        subject,
        values,
        expires,
    })
}

/// A NumericDate (RFC 7519 §2): seconds, possibly with a fraction, which is cut off.
fn seconds(moment: &Value) -> Option<i64> {
    moment.as_i64().or_else(|| {
        let moment = moment.as_f64()?;
        // Beyond this a float no longer counts single seconds, and no issuer means it.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be small just before"
        )]
        (moment.abs() < 1e15).then_some(moment.floor() as i64)
    })
}

/// base64url without padding, in its one canonical spelling (RFC 7515 §2).
fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenRefusal::Malformed)
}

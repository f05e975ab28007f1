//! Why a token is not accepted.

use std::fmt;

/// The first thing found wrong with a token. It carries nothing from the token: what a stranger sent stays out of logs by this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Longer than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    TooLarge,
    /// Not three parts of base64url holding JSON objects without repeated names, or a date that is none.
    Malformed,
    /// `alg` is missing, is `none`, is symmetric, or is unknown.
    Algorithm,
    /// The header has `crit`, `b64`, `zip` or `enc`.
    Extension,
    /// `typ` is that of another kind of token.
    Type,
    /// No key has the token's `kid` and fits its `alg`; or `kid` is not text.
    Key,
    /// More than one key fits, and the token does not say which.
    AmbiguousKey,
    /// The signature is not the key's.
    Signature,
    /// `iss` is another.
    Issuer,
    /// `aud` is missing, another, or names others besides.
    Audience,
    /// There is no `exp`.
    NoExpiry,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` lies in the future.
    NotYet,
    /// The token is bound to a key (`cnf`), which a password exchange cannot prove.
    Bound,
    /// `sub` is missing, empty, or not text.
    Subject,
    /// The claim that is mapped to roles is missing, empty, or neither text nor an array of texts.
    Claim,
}

impl TokenRefusal {
    /// The stable word for metrics and audit events.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_alg",
            Self::Extension => "token_crit",
            Self::Type => "token_typ",
            Self::Key => "token_kid",
            Self::AmbiguousKey => "token_kid_missing",
            Self::Signature => "token_signature",
            Self::Issuer => "token_iss",
            Self::Audience => "token_aud",
            Self::NoExpiry => "token_exp_missing",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet",
            Self::Bound => "token_bound",
            Self::Subject => "token_sub",
            Self::Claim => "token_claim",
        }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not an accepted signature",
            Self::Extension => "the token's header asks for an extension that is not supported",
            Self::Type => "the token is of another type (expected JWT or at+jwt)",
            Self::Key => "no key of the issuer has the token's key id and fits its algorithm",
            Self::AmbiguousKey => {
                "more than one key of the issuer fits, and the token does not tell which by a key id"
            }
            Self::Signature => "the token's signature does not verify",
            Self::Issuer => "the token is from another issuer",
            Self::Audience => "the token is not for this audience, or not for it alone",
            Self::NoExpiry => "the token has no expiry",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet, or is issued in the future",
            Self::Bound => "the token is bound to a key and cannot serve as a password",
            Self::Subject => "the token has no subject",
            Self::Claim => {
                "the token's claim for roles is missing, or not a text or an array of texts"
            }
        })
    }
}

impl std::error::Error for TokenRefusal {}

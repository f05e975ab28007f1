//! What a server keeps instead of a password: enough to check a proof, not enough to make one.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::crypto::{HASH, from_base64, hash_from_base64, hmac, to_base64};
use crate::limits::{
    MAX_SCRAM_ITERATIONS, MAX_SCRAM_SALT, MAX_SCRAM_VERIFIER, MIN_SCRAM_ITERATIONS,
};

/// A SCRAM-SHA-256 verifier, as in `pg_authid.rolpassword`, or a mock of one. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; HASH],
    pub(super) server_key: [u8; HASH],
    /// No proof is right, whatever it proves.
    pub(super) mock: bool,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in strict base64.
    ///
    /// # Errors
    /// Another kind of secret (MD5), a field that is not well formed, or iterations outside
    /// [`MIN_SCRAM_ITERATIONS`] to [`MAX_SCRAM_ITERATIONS`].
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        if text.len() > MAX_SCRAM_VERIFIER {
            return Err(VerifierError::Malformed("it is too long"));
        }
        let fields = text
            .strip_prefix("SCRAM-SHA-256$")
            .ok_or(VerifierError::NotScram)?;
        let fields = fields
            .split_once('$')
            .and_then(|(cost, keys)| Some((cost.split_once(':')?, keys.split_once(':')?)));
        let Some(((iterations, salt), (stored_key, server_key))) = fields else {
            return Err(VerifierError::Malformed("a field is missing"));
        };
        Ok(Self {
            iterations: read_iterations(iterations).map_err(|problem| match problem {
                IterationsProblem::NotANumber => {
                    VerifierError::Malformed("the iterations are not a number")
                }
                IterationsProblem::OutOfBounds => VerifierError::Iterations,
            })?,
            salt: from_base64(salt)
                .filter(|salt| (1..=MAX_SCRAM_SALT).contains(&salt.len()))
                .ok_or(VerifierError::Malformed("the salt"))?,
            stored_key: hash_from_base64(stored_key)
                .ok_or(VerifierError::Malformed("the stored key"))?,
            server_key: hash_from_base64(server_key)
                .ok_or(VerifierError::Malformed("the server key"))?,
            mock: false,
        })
    }

    /// A verifier for a role that does not exist or may not sign in. Every gateway with the same `secret` makes the
    /// same one, and it looks like PostgreSQL's: 16 bytes of salt, 4096 iterations. An exchange with it takes the same
    /// path as any other, and no proof is ever right.
    pub fn mock(secret: &[u8; 32], tenant: &str, role: &str) -> Self {
        let of = |purpose: &[u8]| {
            hmac(
                secret,
                &[tenant.as_bytes(), b"\0", role.as_bytes(), purpose],
            )
        };
        Self {
            iterations: MIN_SCRAM_ITERATIONS,
            salt: of(b"").iter().take(MOCK_SALT).copied().collect(),
            stored_key: of(b"\0stored key"),
            server_key: of(b"\0server key"),
            mock: true,
        }
    }

    /// PBKDF2 rounds, within [`MIN_SCRAM_ITERATIONS`] and [`MAX_SCRAM_ITERATIONS`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt in base64, as it stands in server-first.
    pub(super) fn salt_text(&self) -> String {
        to_base64(&self.salt)
    }
}

/// Hides the keys: StoredKey lets its holder guess the password offline, ServerKey lets it pose as the server.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Why a role's secret cannot serve as a verifier. Never holds any part of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifierError {
    /// Not SCRAM-SHA-256: an MD5 hash, say.
    NotScram,
    /// SCRAM-SHA-256, but this field is not well formed.
    Malformed(&'static str),
    /// The iterations are outside our limits.
    Iterations,
}

impl VerifierError {
    /// The stable word for metrics and audit events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotScram => "verifier_not_scram",
            Self::Malformed(_) => "verifier_malformed",
            Self::Iterations => "verifier_iterations",
        }
    }
}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotScram => f.write_str("the role's secret is not a SCRAM-SHA-256 verifier"),
            Self::Malformed(field) => write!(f, "the role's SCRAM verifier is malformed: {field}"),
            Self::Iterations => write!(
                f,
                "the role's SCRAM verifier has iterations outside {MIN_SCRAM_ITERATIONS} to {MAX_SCRAM_ITERATIONS}"
            ),
        }
    }
}

impl std::error::Error for VerifierError {}

/// Bytes of salt that PostgreSQL makes (`SCRAM_DEFAULT_SALT_LEN`).
const MOCK_SALT: usize = 16;

pub(super) enum IterationsProblem {
    NotANumber,
    OutOfBounds,
}

/// A `posit-number` of RFC 5802 section 7 (no sign, no leading zero) within our limits.
pub(super) fn read_iterations(text: &str) -> Result<u32, IterationsProblem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return Err(IterationsProblem::NotANumber);
    }
    text.parse()
        .ok()
        .filter(|iterations| (MIN_SCRAM_ITERATIONS..=MAX_SCRAM_ITERATIONS).contains(iterations))
        .ok_or(IterationsProblem::OutOfBounds)
}

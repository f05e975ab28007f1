//! What a person carries to a new node so that it can join: where the fleet is, how to know it, and a secret that the fleet knows by its hash.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::FleetId;

/// A token for one node to join once. Its text is `pcj1.` and base64url; it is secret as a whole. `Debug` hides the secret.
#[derive(Clone)]
pub struct JoinToken {
    fleet: FleetId,
    fingerprint: [u8; 32],
    addresses: Vec<String>,
    secret: Zeroizing<[u8; 32]>,
}

impl JoinToken {
    /// A token from its parts; `secret` is 32 random bytes.
    ///
    /// # Errors
    /// [`JoinTokenError`] if the addresses are too many or too few, or one is not printable ASCII.
    pub fn new(
        fleet: FleetId,
        fingerprint: [u8; 32],
        addresses: Vec<String>,
        secret: [u8; 32],
    ) -> Result<Self, JoinTokenError> {
        let secret = Zeroizing::new(secret);
        let printable = |text: &String| {
            (1..=MAX_JOIN_ADDRESS).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !(1..=MAX_JOIN_ADDRESSES).contains(&addresses.len()) || !addresses.iter().all(printable)
        {
            return Err(JoinTokenError::Addresses);
        }
        Ok(Self {
            fleet,
            fingerprint,
            addresses,
            secret,
        })
    }

    /// Reads a token's text; white space around it is what terminals add.
    ///
    /// # Errors
    /// [`JoinTokenError`], which repeats nothing of the text.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        if text.len() > MAX_JOIN_TOKEN_TEXT {
            return Err(JoinTokenError::TooLarge);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(JoinTokenError::NotAToken)?;
        let bytes = Zeroizing::new(
            URL_SAFE_NO_PAD
                .decode(encoded)
                .map_err(|_| JoinTokenError::Damaged)?,
        );
        let (body, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(JoinTokenError::Damaged)?;
        if *sum != checksum(body) {
            return Err(JoinTokenError::Damaged);
        }
        let (fleet, rest) = body.split_first_chunk().ok_or(JoinTokenError::Damaged)?;
        let (fingerprint, rest) = rest.split_first_chunk().ok_or(JoinTokenError::Damaged)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(JoinTokenError::Damaged)?;
        Self::new(FleetId(*fleet), *fingerprint, addresses(rest)?, *secret)
    }

    /// The token's text, for the person who carries it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_JOIN_TOKEN_TEXT));
        bytes.extend_from_slice(&self.fleet.0);
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(self.secret.as_slice());
        for address in &self.addresses {
            // No address is longer than MAX_JOIN_ADDRESS.
            bytes.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(address.as_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let mut text = Zeroizing::new(String::with_capacity(MAX_JOIN_TOKEN_TEXT));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        text
    }

    /// The fleet to join.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// SHA-256 of the certificate of the fleet's authority ([`super::FleetTrust::fingerprint`]).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Where to ask, best first: host and port.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// What is shown to the fleet, inside the handshake by [`super::join_client_config`] and nowhere else.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// How the fleet's state knows the token.
    pub fn hash(&self) -> [u8; 32] {
        hash_of_secret(&self.secret)
    }
}

/// How the fleet's state knows the token with this secret: SHA-256. The secret is 32 random bytes, so that nothing slower is needed.
pub fn hash_of_secret(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Addresses in a token.
pub const MAX_JOIN_ADDRESSES: usize = 8;

/// Bytes of an address: a byte holds its length.
pub const MAX_JOIN_ADDRESS: usize = 255;

/// Bytes of a token's text: a token with the most and longest addresses has fewer.
pub const MAX_JOIN_TOKEN_TEXT: usize = 3 * 1024;

const PREFIX: &str = "pcj1.";

/// Enough to tell a token that was cut or mistyped; forgery is what the secret is against.
const CHECKSUM_BYTES: usize = 4;

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::digest(body);
    hash.first_chunk().copied().unwrap_or_default()
}

fn addresses(mut rest: &[u8]) -> Result<Vec<String>, JoinTokenError> {
    let mut found = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (address, after) = after
            .split_at_checked(usize::from(*length))
            .ok_or(JoinTokenError::Damaged)?;
        if found.len() >= MAX_JOIN_ADDRESSES {
            return Err(JoinTokenError::Addresses);
        }
        let address = str::from_utf8(address).map_err(|_| JoinTokenError::Addresses)?;
        found.push(address.to_owned());
        rest = after;
    }
    Ok(found)
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("fleet", &self.fleet)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// A text is no join token, or its parts make none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinTokenError {
    /// More than [`MAX_JOIN_TOKEN_TEXT`].
    TooLarge,
    /// It does not begin as a token of this version does.
    NotAToken,
    /// It was cut or changed on its way.
    Damaged,
    /// Not 1 to [`MAX_JOIN_ADDRESSES`] addresses, each of 1 to [`MAX_JOIN_ADDRESS`] printable ASCII characters.
    Addresses,
}

impl fmt::Display for JoinTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the join token is longer than any",
            Self::NotAToken => "this is no join token: one begins with `pcj1.`",
            Self::Damaged => "the join token is damaged: copy the whole of it",
            Self::Addresses => "the join token's addresses cannot be used",
        })
    }
}

impl std::error::Error for JoinTokenError {}

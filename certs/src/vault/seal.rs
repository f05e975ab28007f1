//! Sealing: AES-256-GCM under a key that is used once.
//!
//! Sealed bytes are `salt (32) ‖ ciphertext ‖ tag (16)`. The salt makes a key of its own out of the sealing key (HKDF-SHA256, RFC 5869),
//! so that the nonce can be zero: a state that is restored from a back-up and goes on draws new salts and repeats no nonce. The name is
//! authenticated: what was sealed under one cannot be passed off as another.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

/// Bytes of randomness that each sealing takes.
pub const SALT_BYTES: usize = 32;

/// A key that seals others. `Debug` hides it; it is wiped when it is dropped.
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// One of these 32 bytes, which must be random.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// One of a passphrase (Argon2id, RFC 9106). Takes as long as `cost` says.
    ///
    /// # Errors
    /// [`SealError`] if the cost is none that Argon2 knows.
    pub fn of_passphrase(
        passphrase: &str,
        salt: &[u8; SALT_BYTES],
        cost: PassphraseCost,
    ) -> Result<Self, SealError> {
        let PassphraseCost {
            memory_kib,
            passes,
            lanes,
        } = cost;
        if memory_kib > PassphraseCost::MOST.memory_kib || passes > PassphraseCost::MOST.passes {
            return Err(SealError);
        }
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| SealError)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
            .map_err(|_| SealError)?;
        Ok(Self(key))
    }

    /// Seals `secret` under `name`. The salt is random and used for nothing else.
    ///
    /// # Errors
    /// [`SealError`], which no input is known to cause.
    pub fn seal(
        &self,
        name: &str,
        secret: &[u8],
        salt: [u8; SALT_BYTES],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.once(&salt)?;
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(zero_nonce(), Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| SealError)?;
        Ok([salt.as_slice(), &sealed].concat())
    }

    /// What was sealed under `name`.
    ///
    /// # Errors
    /// [`NotOpened`]: another key sealed it, under another name, or it was changed. Which of these, nobody can tell.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let (salt, body) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(NotOpened)?;
        let key = self.once(salt).map_err(|_| NotOpened)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = key
            .open_in_place(zero_nonce(), Aad::from(name.as_bytes()), &mut body)
            .map_err(|_| NotOpened)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Its bytes, to be sealed under another key.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn once(&self, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, SealError> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.0.as_slice());
        let mut key = Zeroizing::new([0; 32]);
        derived
            .expand(&[INFO], hkdf::HKDF_SHA256)
            .and_then(|key_material| key_material.fill(key.as_mut_slice()))
            .map_err(|_| SealError)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| SealError)?;
        Ok(LessSafeKey::new(key))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

const INFO: &[u8] = b"portcullis sealed key 1";

/// Unique because the key is.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What finding a key from a passphrase costs, and with it each guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PassphraseCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Independent lanes.
    pub lanes: u32,
}

impl PassphraseCost {
    /// The second choice of RFC 9106 section 4: 64 MiB, three passes, four lanes.
    pub const USUAL: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 4,
    };
    /// The most that is believed of a file.
    pub const MOST: Self = Self {
        memory_kib: 4 * 1024 * 1024,
        passes: 64,
        lanes: 64,
    };
}

/// Nothing could be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key cannot be sealed")
    }
}

impl std::error::Error for SealError {}

/// Sealed bytes do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOpened;

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another key sealed it, or under another name, or it was changed since")
    }
}

impl std::error::Error for NotOpened {}

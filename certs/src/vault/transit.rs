//! A key on its way from one node to another: HPKE (RFC 9180, base mode, X25519, HKDF-SHA256, AES-256-GCM) for a key pair that the
//! receiver draws for one exchange. Who the receiver is, the mesh's own handshake has proved; this keeps what travels out of every buffer
//! and dump on its way.
//!
//! Wrapped bytes are `encapsulated key (32) ‖ ciphertext ‖ tag (16)`.

use std::fmt;

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

/// The longest wrapped secret, in bytes.
pub const MAX_WRAPPED: usize = 16 * 1024;

/// Who is given a secret: a key pair for one exchange. `Debug` hides it.
pub struct Recipient {
    public: HpkePublicKey,
    private: HpkePrivateKey,
}

impl Recipient {
    /// A new one.
    ///
    /// # Errors
    /// [`NotWrapped`] if the operating system gives no randomness.
    pub fn new() -> Result<Self, NotWrapped> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| NotWrapped)?;
        Ok(Self { public, private })
    }

    /// The public key, 32 bytes, for [`wrap`].
    pub fn public(&self) -> &[u8] {
        &self.public.0
    }

    /// What was wrapped for this recipient under `name`.
    ///
    /// # Errors
    /// [`NotWrapped`]: for another, under another name, or it was changed.
    pub fn open(&self, name: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotWrapped> {
        let (encapsulated, body) = wrapped
            .split_first_chunk::<ENCAPSULATED>()
            .ok_or(NotWrapped)?;
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        SUITE
            .open(&encapsulated, INFO, name.as_bytes(), body, &self.private)
            .map(Zeroizing::new)
            .map_err(|_| NotWrapped)
    }
}

/// Wraps `secret` for the holder of this public key alone, under `name`.
///
/// # Errors
/// [`NotWrapped`]: those bytes are no public key.
pub fn wrap(public: &[u8], name: &str, secret: &[u8]) -> Result<Vec<u8>, NotWrapped> {
    if public.len() != ENCAPSULATED {
        return Err(NotWrapped);
    }
    let public = HpkePublicKey(public.to_vec());
    let (encapsulated, body) = SUITE
        .seal(INFO, name.as_bytes(), secret, &public)
        .map_err(|_| NotWrapped)?;
    Ok([encapsulated.0, body].concat())
}

static SUITE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_256;
const INFO: &[u8] = b"portcullis key for a node 1";
/// Bytes of a public key, and of an encapsulated one, on X25519.
const ENCAPSULATED: usize = 32;

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(..)")
    }
}

/// A secret could not be wrapped, or does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWrapped;

impl fmt::Display for NotWrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was wrapped for another exchange, under another name, or was changed")
    }
}

impl std::error::Error for NotWrapped {}

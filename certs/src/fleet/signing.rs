//! Signatures under what nodes are told (by those who vote), under a recovery (by the key that is kept apart) and under checkpoints of
//! the audit log: Ed25519 (RFC 8032).
//!
//! What one key may sign begins with a prefix of its kind, so that no signature of one kind is one of another; the log's key signs one
//! kind only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::pem;

/// A public key of either kind.
pub type PublicSigningKey = [u8; 32];

/// A signature of either kind.
pub type Signature = [u8; 64];

macro_rules! signing_key {
    ($(#[$meaning:meta])* $name:ident) => {
        $(#[$meaning])*
        pub struct $name(Ed25519);

        impl $name {
            /// The key that these 32 random bytes make.
            ///
            /// # Errors
            /// [`SigningKeyError`]
            pub fn from_seed(seed: [u8; 32]) -> Result<Self, SigningKeyError> {
                Ed25519::from_seed(Zeroizing::new(seed)).map(Self)
            }

            /// Reads a key as [`Self::to_pem`] writes it.
            ///
            /// # Errors
            /// [`SigningKeyError`], which repeats nothing of the text.
            pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
                Ed25519::from_pem(text).map(Self)
            }

            /// The key as PEM: PKCS#8, not encrypted. For a file that only its owner can read.
            pub fn to_pem(&self) -> Zeroizing<String> {
                self.0.to_pem()
            }

            /// The public half.
            pub fn public(&self) -> PublicSigningKey {
                self.0.public
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

signing_key! {
    /// The key by which a control node signs what others are told. `Debug` hides it.
    ViewKey
}

signing_key! {
    /// The key by which a fleet is carried on after most of those who vote are lost; kept apart from every node. `Debug` hides it.
    RecoveryKey
}

signing_key! {
    /// The key of a fleet's audit logs, which every control node holds: it signs checkpoints and nothing else. `Debug` hides it.
    LogKey
}

signing_key! {
    /// The key of a witness of logs: it cosigns checkpoints and nothing else. `Debug` hides it.
    WitnessKey
}

impl WitnessKey {
    /// Signs the message of a cosignature, as [`ViewKey::cosign`] does.
    pub fn cosign(&self, message: &[u8]) -> Option<Signature> {
        let cosigns = message.starts_with(COSIGNATURE);
        cosigns.then(|| self.0.sign(&[], message))
    }
}

impl ViewKey {
    /// Signs what is told.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(VIEW, message)
    }

    /// Signs the message of a cosignature (C2SP tlog-cosignature, v1), which brings its own prefix; nothing for one without it.
    pub fn cosign(&self, message: &[u8]) -> Option<Signature> {
        let cosigns = message.starts_with(COSIGNATURE);
        cosigns.then(|| self.0.sign(&[], message))
    }
}

impl RecoveryKey {
    /// Signs a recovery.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(RECOVERY, message)
    }
}

impl LogKey {
    /// Signs the text of a checkpoint (C2SP signed-note), as it is.
    pub fn sign(&self, text: &[u8]) -> Signature {
        self.0.sign(&[], text)
    }
}

/// Whether the holder of this key has told `message`.
pub fn verify_view(key: &PublicSigningKey, message: &[u8], signature: &Signature) -> bool {
    verify(key, VIEW, message, signature)
}

/// Whether the holder of this recovery key has signed `message`.
pub fn verify_recovery(key: &PublicSigningKey, message: &[u8], signature: &Signature) -> bool {
    verify(key, RECOVERY, message, signature)
}

/// Who of those with `keys` has told `message`. A signature by somebody without a key, or a wrong one, counts for nothing; a key that two
/// should have counts once, for the first of them.
pub fn verified_signers<Id: Ord + Copy>(
    message: &[u8],
    signatures: &BTreeMap<Id, Signature>,
    keys: &BTreeMap<Id, PublicSigningKey>,
) -> BTreeSet<Id> {
    let mut counted = BTreeSet::new();
    let mut signers = BTreeSet::new();
    for (id, key) in keys {
        let Some(signature) = signatures.get(id) else {
            continue;
        };
        if !counted.contains(key) && verify_view(key, message, signature) {
            counted.insert(*key);
            signers.insert(*id);
        }
    }
    signers
}

const VIEW: &[u8] = b"portcullis view v1\0";

const RECOVERY: &[u8] = b"portcullis recovery v1\0";

/// What every message of a cosignature begins with; no text that starts otherwise is one.
const COSIGNATURE: &[u8] = b"cosignature/v1\n";

fn verify(key: &PublicSigningKey, prefix: &[u8], message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&[prefix, message].concat(), signature)
        .is_ok()
}

struct Ed25519 {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    public: PublicSigningKey,
}

impl Ed25519 {
    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, SigningKeyError> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| SigningKeyError)?;
        let public = pair.public_key().as_ref();
        let public = public.try_into().map_err(|_| SigningKeyError)?;
        Ok(Self { pair, seed, public })
    }

    fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        let PrivateKeyDer::Pkcs8(der) = pem::private_key(text).map_err(|_| SigningKeyError)? else {
            return Err(SigningKeyError);
        };
        let seed = der.secret_pkcs8_der().strip_prefix(PKCS8_PREFIX);
        let seed = seed.and_then(|seed| seed.try_into().ok());
        Self::from_seed(Zeroizing::new(seed.ok_or(SigningKeyError)?))
    }

    fn to_pem(&self) -> Zeroizing<String> {
        let der = Zeroizing::new([PKCS8_PREFIX, self.seed.as_slice()].concat());
        let mut text = Zeroizing::new(String::with_capacity(PEM_ROOM));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        // 48 bytes are one line of 64 characters.
        STANDARD.encode_string(der.as_slice(), &mut text);
        text.push_str("\n-----END PRIVATE KEY-----\n");
        text
    }

    fn sign(&self, prefix: &[u8], message: &[u8]) -> Signature {
        let signature = self.pair.sign(&[prefix, message].concat());
        // The library's type is wider than Ed25519's signatures; a signature of zeros verifies nowhere.
        signature.as_ref().try_into().unwrap_or([0; 64])
    }
}

/// A private key without its public half (RFC 8410 §7), as openssl writes it.
const PKCS8_PREFIX: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A text that grows would leave copies of itself behind.
const PEM_ROOM: usize = 128;

/// A text or bytes are no Ed25519 key as this program keeps one (PKCS#8, not encrypted, PEM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningKeyError;

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no Ed25519 key in PKCS#8 (PEM, not encrypted)")
    }
}

impl std::error::Error for SigningKeyError {}

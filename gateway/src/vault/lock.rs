//! The vault's own key: in `vault.json`, sealed under the root key.

use std::path::{Path, PathBuf};

use portcullis_certs::vault::{PassphraseCost, SALT_BYTES, SealingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{files, module};
use crate::config::node::{RootKey, read_secret};
use crate::runtime::files::write_private;
use crate::runtime::random;

/// `vault.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Lock {
    /// 1. What a later version writes, this one does not guess at.
    format: u32,
    root: Under,
    /// The vault's key, sealed; hexadecimal.
    sealed: String,
}

/// Under what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Under {
    File,
    #[serde(rename_all = "kebab-case")]
    Passphrase {
        /// Hexadecimal.
        salt: String,
        cost: PassphraseCost,
    },
    #[serde(rename_all = "kebab-case")]
    Pkcs11 {
        token: String,
        key: String,
    },
}

const FORMAT: u32 = 1;
/// What the vault's key is sealed under, beside the root key.
const NAME: &str = "vault";

/// The vault's key. The first time it is drawn, and with it a root key that is a file and not there.
pub(super) fn open(directory: &Path, root: &RootKey) -> Result<SealingKey, String> {
    let path = file(directory);
    let Some(text) = files::read_file(&path)? else {
        let key = SealingKey::new(random::bytes());
        files::make(directory)?;
        keep(directory, &key, root, Missing::Drawn)?;
        return Ok(key);
    };
    let lock: Lock =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    unlock(&path, &lock, root)
}

/// Whether a vault was ever made there.
pub(super) fn is_there(directory: &Path) -> bool {
    file(directory).exists()
}

/// Seals it under another root key.
pub(super) fn exchange(directory: &Path, before: &RootKey, after: &RootKey) -> Result<(), String> {
    if files::read_file(&file(directory))?.is_none() {
        return Err(format!("{} holds no vault", directory.display()));
    }
    let key = open(directory, before)?;
    keep(directory, &key, after, Missing::Drawn)?;
    open(directory, after).map(drop)
}

fn unlock(path: &Path, lock: &Lock, root: &RootKey) -> Result<SealingKey, String> {
    if lock.format != FORMAT {
        return Err(format!(
            "{}: format {} is a later version's",
            path.display(),
            lock.format
        ));
    }
    let broken = || format!("{}: not hexadecimal", path.display());
    let sealed = from_hex(&lock.sealed).ok_or_else(broken)?;
    let opened = match (&lock.root, root) {
        (Under::File, RootKey::File(file)) => root_of_file(file, Missing::Refused)?
            .open(NAME, &sealed)
            .map_err(|error| format!("{}: {error}", file.display()))?,
        (Under::Passphrase { salt, cost }, RootKey::Passphrase(file)) => {
            let salt = from_hex(salt).ok_or_else(broken)?;
            let salt = salt.try_into().map_err(|_| broken())?;
            root_of_passphrase(file, &salt, *cost)?
                .open(NAME, &sealed)
                .map_err(|_| format!("{}: not the passphrase", file.display()))?
        }
        (Under::Pkcs11 { .. }, RootKey::Pkcs11(module)) => module::decrypt(module, NAME, &sealed)?,
        (under, _) => {
            return Err(format!(
                "{} was sealed under {}, and node.toml names another kind of root key: name that one, or run `portcullis vault reseal`",
                path.display(),
                under.told()
            ));
        }
    };
    <[u8; 32]>::try_from(opened.as_slice())
        .map(SealingKey::new)
        .map_err(|_| format!("{}: not a key", path.display()))
}

fn keep(
    directory: &Path,
    key: &SealingKey,
    root: &RootKey,
    missing: Missing,
) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let salt = random::bytes();
    let (under, sealed) = match root {
        RootKey::File(file) => {
            let root = root_of_file(file, missing)?;
            let sealed = root.seal(NAME, key.bytes(), salt).map_err(|it| told(&it))?;
            (Under::File, sealed)
        }
        RootKey::Passphrase(file) => {
            let of_passphrase: [u8; SALT_BYTES] = random::bytes();
            let cost = PassphraseCost::USUAL;
            let root = root_of_passphrase(file, &of_passphrase, cost)?;
            let sealed = root.seal(NAME, key.bytes(), salt).map_err(|it| told(&it))?;
            let salt = to_hex(&of_passphrase);
            (Under::Passphrase { salt, cost }, sealed)
        }
        RootKey::Pkcs11(module) => {
            let sealed = module::encrypt(module, NAME, key.bytes(), random::bytes())?;
            let (token, key) = (module.token.clone(), module.key.clone());
            (Under::Pkcs11 { token, key }, sealed)
        }
    };
    let lock = Lock {
        format: FORMAT,
        root: under,
        sealed: to_hex(&sealed),
    };
    let text = serde_json::to_vec_pretty(&lock).map_err(|it| told(&it))?;
    files::write_file(&file(directory), &text)
}

/// What to do about a root key that is not there.
#[derive(Clone, Copy)]
enum Missing {
    /// Something is sealed under it.
    Refused,
    /// Nothing is yet.
    Drawn,
}

fn root_of_file(path: &Path, missing: Missing) -> Result<SealingKey, String> {
    if let (Missing::Drawn, Ok(false)) = (missing, path.try_exists()) {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(random::bytes());
        let text = Zeroizing::new(format!("{}\n", to_hex(key.as_slice())));
        write_private(path, text.as_bytes())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let text = read_secret(path, "a root key").map_err(|error| error.to_string())?;
    let bytes = from_hex(text.trim()).map(Zeroizing::new);
    bytes
        .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok())
        .map(SealingKey::new)
        .ok_or_else(|| {
            format!(
                "{}: a root key is 64 hexadecimal digits (`openssl rand -hex 32`)",
                path.display()
            )
        })
}

fn root_of_passphrase(
    path: &Path,
    salt: &[u8; SALT_BYTES],
    cost: PassphraseCost,
) -> Result<SealingKey, String> {
    let text = read_secret(path, "a passphrase").map_err(|error| error.to_string())?;
    let passphrase = text.trim_end_matches(['\r', '\n']);
    if passphrase.chars().count() < MIN_PASSPHRASE {
        return Err(format!(
            "{}: a passphrase has at least {MIN_PASSPHRASE} characters",
            path.display()
        ));
    }
    SealingKey::of_passphrase(passphrase, salt, cost)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Characters: twelve words of a list have more, and less is guessed.
const MIN_PASSPHRASE: usize = 16;

impl Under {
    fn told(&self) -> String {
        match self {
            Self::File => "a root key in a file".to_owned(),
            Self::Passphrase { .. } => "a passphrase".to_owned(),
            Self::Pkcs11 { token, key } => {
                format!("the key {key:?} of the PKCS #11 token {token:?}")
            }
        }
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("vault.json")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        })
        .collect()
}

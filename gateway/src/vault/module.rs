//! A root key in a PKCS #11 module: AES-256-GCM (`CKM_AES_GCM`, PKCS #11 v2.40 section 2.12.3), done by the module; the key never leaves
//! it. The one door for `cryptoki`.
//!
//! Sealed bytes are `nonce (12) ‖ ciphertext ‖ tag (16)`, with the name as associated data. The nonce is random: what is sealed here is
//! one small file, once in the life of a root key.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Module};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::config::node::{Pkcs11, read_secret};

/// Seals `secret` under the module's key.
pub(super) fn encrypt(
    of: &Pkcs11,
    name: &str,
    secret: &[u8],
    nonce: [u8; NONCE],
) -> Result<Vec<u8>, String> {
    with_key(of, |session, key| {
        let mut used = nonce;
        let params = GcmParams::new(&mut used, name.as_bytes(), TAG_BITS.into())
            .map_err(|error| problem(of, &error))?;
        let body = session
            .encrypt(&Mechanism::AesGcm(params), key, secret)
            .map_err(|error| problem(of, &error))?;
        // Some modules draw the nonce themselves, and write it where this one was.
        Ok([used.as_slice(), &body].concat())
    })
}

/// What was sealed under the module's key.
pub(super) fn decrypt(
    of: &Pkcs11,
    name: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let (nonce, body) = sealed
        .split_first_chunk::<NONCE>()
        .ok_or("the vault's key is cut short")?;
    with_key(of, |session, key| {
        let mut nonce = *nonce;
        let params = GcmParams::new(&mut nonce, name.as_bytes(), TAG_BITS.into())
            .map_err(|error| problem(of, &error))?;
        session
            .decrypt(&Mechanism::AesGcm(params), key, body)
            .map(Zeroizing::new)
            .map_err(|error| {
                format!(
                    "the key {:?} of the token {:?} does not open the vault: {error}",
                    of.key, of.token
                )
            })
    })
}

const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
/// A module is initialised once in a process, and asked by one at a time.
static ASKING: Mutex<()> = Mutex::new(());

fn with_key<T>(
    of: &Pkcs11,
    work: impl FnOnce(&Session, ObjectHandle) -> Result<T, String>,
) -> Result<T, String> {
    let _one = ASKING.lock();
    let told = |error: &cryptoki::error::Error| problem(of, error);
    let pin = read_secret(&of.pin, "a PIN").map_err(|error| error.to_string())?;
    let module = Module::new(&of.module).map_err(|error| told(&error))?;
    module
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(|error| told(&error))?;
    let asked = (|| {
        let slots = module.get_slots_with_token();
        let slots = slots.map_err(|error| told(&error))?;
        let named = slots.into_iter().find(|slot| {
            let info = module.get_token_info(*slot);
            info.is_ok_and(|info| info.label() == of.token)
        });
        let slot = named.ok_or_else(|| {
            format!(
                "{}: no token is labelled {:?}",
                of.module.display(),
                of.token
            )
        })?;
        let session = module.open_ro_session(slot).map_err(|error| told(&error))?;
        session
            .login(UserType::User, Some(&AuthPin::from(pin.trim().to_owned())))
            .map_err(|error| told(&error))?;
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(of.key.clone().into_bytes()),
        ];
        let found = session
            .find_objects(&wanted)
            .map_err(|error| told(&error))?;
        match found.as_slice() {
            [one] => work(&session, *one),
            [] => Err(format!(
                "the token {:?} has no AES key labelled {:?}",
                of.token, of.key
            )),
            _ => Err(format!(
                "the token {:?} has several AES keys labelled {:?}",
                of.token, of.key
            )),
        }
    })();
    drop(module.finalize());
    asked
}

fn problem(of: &Pkcs11, error: &cryptoki::error::Error) -> String {
    format!("{} (token {:?}): {error}", of.module.display(), of.token)
}

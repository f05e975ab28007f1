//! The files by which an operator is known: a key that was made here, the certificate for it, and
//! the authority by which nodes are known.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use portcullis_certs::authority::Key;
use portcullis_certs::fleet::{FleetTrust, JoinRequest, OperatorIdentity, api_client_config};
use portcullis_certs::generate_key;
use tokio_rustls::rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::fleet::home::write_private;

const CERTIFICATE: &str = "operator.pem";
const KEY: &str = "operator.key";
const AUTHORITY: &str = "authority.pem";

/// A request for a certificate for the key in this directory; a key is drawn if there is none.
pub(in crate::cli) fn request(directory: &Path) -> Result<String, String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let path = directory.join(KEY);
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let key = if path.exists() {
        Key::from_pem(&secret(&path)?).map_err(|error| told(&error))?
    } else {
        let key = generate_key().map_err(|error| told(&error))?;
        let pem = Zeroizing::new(key.to_pem());
        write_private(&path, pem.as_bytes()).map_err(|error| error.to_string())?;
        key
    };
    JoinRequest::pem_of(&key).map_err(|error| told(&error))
}

/// Puts what was issued beside the key.
pub(in crate::cli) fn keep(directory: &Path, chain: &str, authority: &str) -> Result<(), String> {
    write_private(&directory.join(AUTHORITY), authority.as_bytes())
        .and_then(|()| write_private(&directory.join(CERTIFICATE), chain.as_bytes()))
        .map_err(|error| error.to_string())
}

/// How the operator whose files these are calls a node.
pub(in crate::cli) fn client(directory: &Path) -> Result<Arc<ClientConfig>, String> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
    let trust = FleetTrust::from_pem(&read(AUTHORITY)?).map_err(|error| told(&error))?;
    let key = secret(&directory.join(KEY))?;
    let identity =
        OperatorIdentity::from_pem(&read(CERTIFICATE)?, &key).map_err(|error| told(&error))?;
    api_client_config(&identity, &trust).map_err(|error| told(&error))
}

/// The content of a key file, which nobody else may be able to read.
fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mode = fs::metadata(path).map_err(|error| told(&error))?.mode();
    if mode & 0o077 != 0 {
        return Err(told(&"others can read this key; run chmod 600"));
    }
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_drawn_once_private_and_refused_when_others_can_read_it() {
        let directory =
            std::env::temp_dir().join(format!("portcullis-identity-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let first = JoinRequest::from_pem(&request(&directory).unwrap()).unwrap();
        let again = JoinRequest::from_pem(&request(&directory).unwrap()).unwrap();
        assert_eq!(first.key(), again.key());
        let path = directory.join(KEY);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(request(&directory).unwrap_err().contains("chmod 600"));
        fs::remove_dir_all(&directory).unwrap();
    }
}

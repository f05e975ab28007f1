//! What lies in a control node's vault.

use portcullis::config::node::RootKey;
use portcullis::vault::{KeyName, Vault};
use std::path::{Path, PathBuf};

/// The files of its keys.
///
/// # Panics
/// When there is no vault.
#[must_use]
pub fn sealed_files(data: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(data.join("vault")).expect("a vault");
    let all = all.map(|entry| entry.expect("an entry").path());
    all.filter(|path| path.extension().is_some_and(|it| it == "sealed"))
        .collect()
}

/// The one key in it, by its name and as PEM, opened with the root key beside the data.
///
/// # Panics
/// When it does not open, or holds another number of keys.
#[must_use]
pub fn only_key(data: &Path) -> (KeyName, String) {
    let vault = Vault::at(data, &RootKey::beside(data));
    assert_eq!(vault.unseal(), None);
    let files = sealed_files(data);
    let [file] = files.as_slice() else {
        panic!("not one key: {files:?}");
    };
    let name = file.file_stem().and_then(|name| name.to_str());
    let name = KeyName::new(name.expect("text")).expect("a name");
    let key = vault.get(&name).expect("readable").expect("there");
    (name, key.as_str().to_owned())
}

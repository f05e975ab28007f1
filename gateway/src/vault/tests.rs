//! What a vault gives back, to whom, and what it says when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn opened(data: &Path, root: &RootKey) -> Arc<Vault> {
    let vault = Vault::at(data, root);
    vault.unseal();
    vault
}

/// A directory of one test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let suffix = u64::from_be_bytes(random::bytes());
        let path = std::env::temp_dir().join(format!("portcullis-vault-{name}-{suffix:x}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        crate::runtime::files::write_private(&path, text.as_bytes()).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

fn assert_keeps(vault: &Vault) {
    assert_eq!(vault.sealed(), None);
    vault.put(&name("fleet-1"), "a secret").unwrap();
    let kept = vault.get(&name("fleet-1")).unwrap().unwrap();
    assert_eq!(kept.as_str(), "a secret");
}

#[test]
fn a_key_comes_back_after_a_restart_and_lies_nowhere_in_the_clear() {
    let place = Place::new("file");
    let root = RootKey::beside(&place.0);
    assert_keeps(&opened(&place.0, &root));
    let again = opened(&place.0, &root);
    assert_eq!(
        again.get(&name("fleet-1")).unwrap().unwrap().as_str(),
        "a secret"
    );
    assert!(again.get(&name("fleet-2")).unwrap().is_none());
    for entry in fs::read_dir(place.0.join("vault")).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(8).any(|it| it == b"a secret"));
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    again.remove(&name("fleet-1")).unwrap();
    assert!(again.get(&name("fleet-1")).unwrap().is_none());
}

#[test]
fn without_its_root_key_a_vault_is_sealed_and_opens_once_it_is_back() {
    let place = Place::new("gone");
    let root = RootKey::File(place.0.join("root.key"));
    assert_keeps(&opened(&place.0, &root));
    fs::rename(place.0.join("root.key"), place.0.join("aside")).unwrap();
    let vault = opened(&place.0, &root);
    let problem = vault.sealed().unwrap();
    assert!(problem.contains("root.key"), "{problem}");
    assert!(matches!(
        vault.get(&name("fleet-1")),
        Err(VaultError::Sealed(_))
    ));
    assert!(matches!(
        vault.put(&name("fleet-1"), "x"),
        Err(VaultError::Sealed(_))
    ));
    assert!(vault.has(&name("fleet-1")));
    fs::rename(place.0.join("aside"), place.0.join("root.key")).unwrap();
    assert_eq!(vault.unseal(), None);
    assert!(vault.get(&name("fleet-1")).unwrap().is_some());
}

#[test]
fn another_root_key_opens_nothing_and_says_so() {
    let place = Place::new("other");
    assert_keeps(&opened(&place.0, &RootKey::beside(&place.0)));
    let wrong = place.secret("wrong.key", &"ab".repeat(32));
    let short = place.secret("short.key", "abcd");
    let open = place.secret("open.key", &"ab".repeat(32));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let words = place.secret("words", "sixteen characters at least");
    for (root, expected) in [
        (RootKey::File(wrong), "another key sealed it"),
        (RootKey::File(short), "64 hexadecimal digits"),
        (RootKey::File(open), "chmod 600"),
        (RootKey::Passphrase(words), "another kind of root key"),
    ] {
        let problem = opened(&place.0, &root).sealed().unwrap();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let place = Place::new("words");
    let words = place.secret("words", "sixteen characters at least\n");
    let root = RootKey::Passphrase(words.clone());
    assert_keeps(&opened(&place.0, &root));
    assert_eq!(opened(&place.0, &root).sealed(), None);
    crate::runtime::files::write_private(&words, b"sixteen characters at leasT").unwrap();
    let problem = opened(&place.0, &root).sealed().unwrap();
    assert!(problem.contains("not the passphrase"), "{problem}");
    crate::runtime::files::write_private(&words, b"short").unwrap();
    let problem = opened(&place.0, &root).sealed().unwrap();
    assert!(problem.contains("at least 16"), "{problem}");
}

#[test]
fn a_root_key_is_exchanged_for_one_of_another_kind_and_every_key_stays() {
    let place = Place::new("reseal");
    let before = RootKey::beside(&place.0);
    assert_keeps(&opened(&place.0, &before));
    let after = RootKey::Passphrase(place.secret("words", "sixteen characters at least"));
    reseal(&place.0, &before, &after).unwrap();
    assert!(opened(&place.0, &before).sealed().is_some());
    let vault = opened(&place.0, &after);
    assert!(vault.get(&name("fleet-1")).unwrap().is_some());
    // The wrong one of before changes nothing.
    reseal(&place.0, &before, &after).unwrap_err();
    assert_eq!(opened(&place.0, &after).sealed(), None);
}

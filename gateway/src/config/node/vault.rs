//! `[vault]`: what this node's keys are sealed under.

use super::Checker;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// What opens the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKey {
    /// A key in a file that its owner alone can read.
    File(PathBuf),
    /// A passphrase in such a file, which systemd's credentials can be.
    Passphrase(PathBuf),
    /// A key that never leaves a module.
    Pkcs11(Pkcs11),
}

/// A key in a module that speaks PKCS #11.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11 {
    /// The module's library.
    pub module: PathBuf,
    /// The label of its token.
    pub token: String,
    /// The label of an AES key of 256 bits on it.
    pub key: String,
    /// The file with the user's PIN.
    pub pin: PathBuf,
}

/// Bytes of a token's label (PKCS #11 v2.40, `CK_TOKEN_INFO`).
const MAX_TOKEN_LABEL: usize = 32;
/// Bytes of a key's label here.
const MAX_KEY_LABEL: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawVault {
    root_key: Option<Spanned<String>>,
    passphrase: Option<Spanned<String>>,
    pkcs11: Option<Spanned<RawPkcs11>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPkcs11 {
    module: Spanned<String>,
    token: Spanned<String>,
    key: Spanned<String>,
    pin: Spanned<String>,
}

impl RootKey {
    /// Where the root key lies unless node.toml says otherwise.
    #[must_use]
    pub fn beside(data: &Path) -> Self {
        Self::File(data.join("root.key"))
    }

    /// Whether it lies in the directory of what it opens: whoever takes that away has both.
    #[must_use]
    pub fn is_beside(&self, data: &Path) -> bool {
        matches!(self, Self::File(path) | Self::Passphrase(path) if path.starts_with(data))
    }
}

pub(super) fn check(checker: &mut Checker<'_>, raw: &Spanned<RawVault>) -> Option<RootKey> {
    let RawVault {
        root_key,
        passphrase,
        pkcs11,
    } = raw.get_ref();
    match (root_key, passphrase, pkcs11) {
        (Some(path), None, None) => Some(RootKey::File(checker.path("vault.root-key", path)?)),
        (None, Some(path), None) => Some(RootKey::Passphrase(
            checker.path("vault.passphrase", path)?,
        )),
        (None, None, Some(module)) => of_module(checker, module.get_ref()).map(RootKey::Pkcs11),
        (_, _, _) => checker.complain(
            raw.span(),
            "[vault] is opened in one way: write root-key (a file), passphrase (a file), or [vault.pkcs11]",
        ),
    }
}

fn of_module(checker: &mut Checker<'_>, raw: &RawPkcs11) -> Option<Pkcs11> {
    let module = checker.path("vault.pkcs11.module", &raw.module);
    let token = label(checker, "vault.pkcs11.token", &raw.token, MAX_TOKEN_LABEL);
    let key = label(checker, "vault.pkcs11.key", &raw.key, MAX_KEY_LABEL);
    let pin = checker.path("vault.pkcs11.pin", &raw.pin);
    Some(Pkcs11 {
        module: module?,
        token: token?,
        key: key?,
        pin: pin?,
    })
}

fn label(
    checker: &mut Checker<'_>,
    name: &str,
    written: &Spanned<String>,
    most: usize,
) -> Option<String> {
    let text = written.get_ref();
    match (1..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        true => Some(text.clone()),
        false => checker.complain(
            written.span(),
            format!("{name}: a label has 1 to {most} bytes"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::NodeConfig;

    const REST: &str = "name = \"n1\"\ndata = \"data\"\n[admin]\nsocket = \"s\"\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n[[listener]]\naddress = \"127.0.0.1:5433\"\norigin = \"public\"\n";

    fn read(vault: &str) -> Result<RootKey, String> {
        let text = format!("{REST}{vault}");
        NodeConfig::parse(&text, Path::new("/etc/p/node.toml"))
            .map(|config| config.root_key)
            .map_err(|errors| errors[0].message.clone())
    }

    #[test]
    fn a_vault_is_opened_in_one_way() {
        assert_eq!(read("").unwrap(), RootKey::beside(Path::new("/etc/p/data")));
        assert_eq!(
            read("[vault]\nroot-key = \"/k\"\n").unwrap(),
            RootKey::File("/k".into())
        );
        assert_eq!(
            read("[vault]\npassphrase = \"p\"\n").unwrap(),
            RootKey::Passphrase("/etc/p/p".into())
        );
        let module = "[vault.pkcs11]\nmodule = \"m\"\ntoken = \"t\"\nkey = \"k\"\npin = \"p\"\n";
        let RootKey::Pkcs11(module) = read(module).unwrap() else {
            panic!("another kind");
        };
        assert_eq!(module.module, Path::new("/etc/p/m"));
        for (text, expected) in [
            ("[vault]\n", "in one way"),
            (
                "[vault]\nroot-key = \"a\"\npassphrase = \"b\"\n",
                "in one way",
            ),
            ("[vault]\nroot-key = \"\"\n", "is empty"),
            ("[vault]\nrootkey = \"a\"\n", "unknown field"),
            (
                "[vault.pkcs11]\nmodule = \"m\"\ntoken = \"\"\nkey = \"k\"\npin = \"p\"\n",
                "1 to 32 bytes",
            ),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}

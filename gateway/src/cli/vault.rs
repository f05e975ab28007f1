//! `vault`: whether a node's vault opens, and another root key for it. Works on the files of a node, running or not.

use clap::{Args, Subcommand};
use std::path::PathBuf;

use super::exit::Exit;
use super::fleet::{failed, read};
use super::output::say;
use crate::config::node::RootKey;
use crate::vault::{self, Vault};

/// Commands about a node's vault.
#[derive(Subcommand, Clone, Debug)]
pub enum VaultCommand {
    /// Say whether the vault of a node opens with the root key that its configuration names
    Check(CheckArgs),
    /// Seal the vault of a node under another root key
    Reseal(ResealArgs),
}

/// `vault check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `vault reseal`.
#[derive(Args, Clone, Debug)]
pub struct ResealArgs {
    /// The node's configuration, with the root key that opens the vault now
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The configuration that is to take its place: the same data, another root key
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// Opens it and says so.
pub(super) fn check(args: &CheckArgs) -> Exit {
    let config = match read(&args.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let vault = Vault::at(&config.data, &config.root_key);
    if !vault.is_made() {
        say("no vault yet: one is made when this node becomes a control node of a fleet");
        return Exit::Done;
    }
    match vault.unseal() {
        None => {
            say(&format!("opens with {}", told(&config.root_key)));
            if config.root_key.is_beside(&config.data) {
                say(
                    "this root key lies beside what it opens: whoever takes the disk, or a copy of it, has both",
                );
            }
            Exit::Done
        }
        Some(problem) => failed(&problem),
    }
}

/// Seals it anew.
pub(super) fn reseal(args: &ResealArgs) -> Exit {
    let (before, after) = match (read(&args.config), read(&args.to)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(exit), _) | (_, Err(exit)) => return exit,
    };
    if before.data != after.data {
        return failed(&format!(
            "{} names the data in {}, and {} names {}: both must be of the same node",
            args.config.display(),
            before.data.display(),
            args.to.display(),
            after.data.display()
        ));
    }
    if before.root_key == after.root_key {
        return failed("both name the same root key; write another [vault] in the second one");
    }
    match vault::reseal(&before.data, &before.root_key, &after.root_key) {
        Ok(()) => {
            say(&format!(
                "sealed under {}; what it was sealed under opens it no more\nnext: put {} in the place of {} before the node starts again, and destroy the old root key and copies of the old vault.json",
                told(&after.root_key),
                args.to.display(),
                args.config.display()
            ));
            Exit::Done
        }
        Err(problem) => failed(&problem),
    }
}

fn told(root: &RootKey) -> String {
    match root {
        RootKey::File(path) => format!("the root key in {}", path.display()),
        RootKey::Passphrase(path) => format!("the passphrase in {}", path.display()),
        RootKey::Pkcs11(module) => format!(
            "the key {:?} of the PKCS #11 token {:?}",
            module.key, module.token
        ),
    }
}

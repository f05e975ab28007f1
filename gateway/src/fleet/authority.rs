//! The key of the fleet's authority on a control node: sealed in its vault, and in memory once that is open.
//!
//! A node whose vault is sealed serves customers, votes and is known as before; it lets nobody in and renews nobody's certificate, and tries
//! to open it again.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use portcullis_certs::fleet::{FleetAuthority, FleetTrust};

use super::home::{Home, Piece};
use crate::vault::{KeyName, Vault};

/// The authority, as soon as its key can be had.
pub(super) struct HeldAuthority {
    home: Home,
    vault: Arc<Vault>,
    trust: FleetTrust,
    held: RwLock<Result<Arc<FleetAuthority>, String>>,
    /// One try at a time: one that hangs is not joined by others.
    trying: Mutex<()>,
}

impl HeldAuthority {
    /// Nothing on a node that does not hold the key. It is not read yet.
    pub(super) fn load(home: &Home, vault: &Arc<Vault>) -> Result<Option<Self>, String> {
        let Some(pem) = home.find(Piece::Authority).map_err(told)? else {
            return Ok(None);
        };
        let trust = FleetTrust::from_pem(&pem).map_err(told)?;
        let plain = home.find(Piece::AuthorityKey).map_err(told)?;
        if plain.is_none() && !vault.has(&name_of(&trust)?) {
            return Ok(None);
        }
        Ok(Some(Self {
            home: home.clone(),
            vault: Arc::clone(vault),
            trust,
            held: RwLock::new(Err("its key was not read yet".to_owned())),
            trying: Mutex::new(()),
        }))
    }

    /// Who signs certificates.
    ///
    /// # Errors
    /// In words, why its key cannot be had now.
    pub(super) fn authority(&self) -> Result<Arc<FleetAuthority>, String> {
        self.held.read().clone()
    }

    /// What everybody knows of it.
    pub(super) fn trust(&self) -> &FleetTrust {
        &self.trust
    }

    /// Tries to have the key, if it could not be had so far. Waits for the disk, and for a module.
    pub(super) fn unseal(&self) {
        let (Some(_trying), Err(before)) = (self.trying.try_lock(), self.authority()) else {
            return;
        };
        self.vault.unseal();
        let found = find(&self.home, &self.vault).and_then(|found| {
            let found = found.ok_or("the fleet's authority: its key is not there any more")?;
            Ok(Arc::new(found))
        });
        match &found {
            Ok(_) => tracing::info!("this node holds the key of the fleet's authority"),
            Err(problem) if *problem != before => tracing::error!(
                problem,
                "this node cannot use the key of the fleet's authority: it lets nobody in and renews no certificate; it is tried again"
            ),
            Err(_) => {}
        }
        *self.held.write() = found;
    }
}

/// The authority whose certificate is here, if its key is, too. A key in plain, of an earlier version, is sealed at once.
pub(super) fn find(home: &Home, vault: &Vault) -> Result<Option<FleetAuthority>, String> {
    let Some(pem) = home.find(Piece::Authority).map_err(told)? else {
        return Ok(None);
    };
    let trust = FleetTrust::from_pem(&pem).map_err(told)?;
    if let Some(key) = vault.get(&name_of(&trust)?).map_err(told)? {
        let authority = FleetAuthority::from_pem(&pem, &key).map_err(told)?;
        home.remove(Piece::AuthorityKey).map_err(told)?;
        return Ok(Some(authority));
    }
    let Some(key) = home.find(Piece::AuthorityKey).map_err(told)? else {
        return Ok(None);
    };
    let authority = FleetAuthority::from_pem(&pem, &key).map_err(told)?;
    seal(home, vault, &authority)?;
    Ok(Some(authority))
}

/// Seals its key on this node's disk.
pub(super) fn seal(home: &Home, vault: &Vault, authority: &FleetAuthority) -> Result<(), String> {
    let name = name_of(authority.trust())?;
    vault.put(&name, authority.key_pem()).map_err(told)?;
    home.remove(Piece::AuthorityKey).map_err(told)
}

/// Of each authority another one: when it is exchanged, a node holds two.
fn name_of(trust: &FleetTrust) -> Result<KeyName, String> {
    let fingerprint = trust.fingerprint();
    let short = fingerprint.iter().take(8);
    let short: String = short.map(|byte| format!("{byte:02x}")).collect();
    KeyName::new(&format!("fleet-authority-{short}")).map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    format!("the fleet's authority: {error}")
}

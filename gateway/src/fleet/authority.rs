//! The keys of the fleet's authorities on a control node: sealed in its vault, and in memory once that is open.
//!
//! There is one, and two while it is exchanged for another. A node whose vault is sealed serves customers, votes and is known as before; it
//! lets nobody in and renews nobody's certificate, and tries to open it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use portcullis_certs::fleet::{FleetAuthority, FleetTrust};

use super::home::{Home, Piece};
use crate::runtime::clock::{self, Duration, Instant};
use crate::vault::{KeyName, Vault};

/// SHA-256 of an authority's certificate.
pub(super) type Fingerprint = [u8; 32];

/// The authorities, as soon as their keys can be had.
pub(super) struct HeldAuthorities {
    home: Home,
    vault: Arc<Vault>,
    /// Who issues is the first that it believes.
    trust: FleetTrust,
    held: RwLock<Held>,
    /// One try at a time: one that hangs is not joined by others.
    trying: Mutex<()>,
}

struct Held {
    open: BTreeMap<Fingerprint, Arc<FleetAuthority>>,
    /// What was last put in the vault, and when: the state may not name it yet.
    kept: Option<(Fingerprint, Instant)>,
    problem: String,
}

/// An authority of which this node may hold the key: its certificate, and what leads to it from the one before, DER.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) certificate: Vec<u8>,
    pub(super) link: Option<Vec<u8>>,
}

impl HeldAuthorities {
    /// Nothing is read yet.
    pub(super) fn new(home: &Home, vault: &Arc<Vault>, trust: &FleetTrust) -> Self {
        Self {
            home: home.clone(),
            vault: Arc::clone(vault),
            trust: trust.clone(),
            held: RwLock::new(Held {
                open: BTreeMap::new(),
                kept: None,
                problem: "the fleet's authority: its key was not read yet".to_owned(),
            }),
            trying: Mutex::new(()),
        }
    }

    /// Who signs certificates.
    ///
    /// # Errors
    /// In words, why its key cannot be had now.
    pub(super) fn issuing(&self) -> Result<Arc<FleetAuthority>, String> {
        let held = self.held.read();
        let open = held.open.get(&self.trust.fingerprint());
        open.cloned().ok_or_else(|| held.problem.clone())
    }

    /// This one, if its key is here and open.
    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Arc<FleetAuthority>> {
        self.held.read().open.get(fingerprint).cloned()
    }

    /// Whom the fleet believes.
    pub(super) fn trust(&self) -> &FleetTrust {
        &self.trust
    }

    /// Tries to have the key of who issues, if it could not be had so far. Waits for the disk, and for a module.
    pub(super) fn unseal(&self) {
        let certificate = self.trust.der();
        let wanted = Wanted {
            certificate,
            link: None,
        };
        self.have(&wanted);
    }

    /// Tries to have this one's key from the vault, if it could not be had so far; whether it is had. Waits for the disk, and for a module.
    pub(super) fn have(&self, wanted: &Wanted) -> bool {
        let Ok(trust) = FleetTrust::from_der(&wanted.certificate) else {
            return false;
        };
        let fingerprint = trust.fingerprint();
        let complete = |held: Arc<FleetAuthority>| wanted.link.is_none() || held.has_link();
        if self.get(&fingerprint).is_some_and(complete) {
            return true;
        }
        let Some(_trying) = self.trying.try_lock() else {
            return false;
        };
        self.vault.unseal();
        let found = find(&self.home, &self.vault, &trust).and_then(|found| {
            found.ok_or_else(|| told("its key is not on this node; other control nodes are asked"))
        });
        let mut held = self.held.write();
        match found {
            Ok(authority) => {
                tracing::info!("this node holds the key of the fleet's authority");
                let authority = linked(authority, wanted);
                held.open.insert(fingerprint, Arc::new(authority));
                true
            }
            Err(problem) => {
                if problem != held.problem {
                    tracing::error!(
                        problem,
                        "this node cannot use the key of the fleet's authority: it lets nobody in and renews no certificate; it is tried again"
                    );
                }
                held.problem = problem;
                false
            }
        }
    }

    /// Keeps a key that was drawn, or that another node gave. Waits for the disk.
    ///
    /// # Errors
    /// In words: it does not belong to that certificate, or cannot be kept.
    pub(super) fn keep(&self, wanted: &Wanted, key_pem: &str) -> Result<(), String> {
        self.vault.unseal();
        let authority = FleetAuthority::from_der(&wanted.certificate, key_pem).map_err(told)?;
        let fingerprint = authority.trust().fingerprint();
        seal(&self.home, &self.vault, &authority)?;
        let authority = Arc::new(linked(authority, wanted));
        let mut held = self.held.write();
        held.open.insert(fingerprint, authority);
        held.kept = Some((fingerprint, clock::instant()));
        Ok(())
    }

    /// Forgets the keys of all but these, on the disk too, and but one that was kept a moment ago. Waits for the disk.
    pub(super) fn keep_only(&self, wanted: &[Wanted]) {
        let kept = |wanted: &Wanted| FleetTrust::from_der(&wanted.certificate).ok();
        let mut kept: Vec<Fingerprint> = wanted
            .iter()
            .filter_map(kept)
            .map(|it| it.fingerprint())
            .collect();
        // What cannot be told apart is not forgotten.
        if kept.len() != wanted.len() {
            return;
        }
        let mut held = self.held.write();
        let lately = |(_, at): &(Fingerprint, Instant)| {
            clock::instant().saturating_duration_since(*at) < NAMED_WITHIN
        };
        kept.extend(held.kept.filter(lately).map(|(fingerprint, _)| fingerprint));
        held.open.retain(|it, _| kept.contains(it));
        drop(held);
        let names: Vec<String> = kept.iter().map(name_text).collect();
        for name in self.vault.names() {
            let other =
                name.as_str().starts_with(PREFIX) && !names.iter().any(|it| it == name.as_str());
            if !other {
                continue;
            }
            match self.vault.remove(&name) {
                Ok(()) => {
                    tracing::info!(%name, "the key of an authority that is one no longer was removed")
                }
                Err(error) => {
                    tracing::warn!(%error, "the key of an authority that is one no longer could not be removed; it is tried again")
                }
            }
        }
    }
}

fn linked(authority: FleetAuthority, wanted: &Wanted) -> FleetAuthority {
    match &wanted.link {
        Some(link) => authority.with_link(link),
        None => authority,
    }
}

/// The authority whose certificate is here, if its key is, too.
pub(super) fn find_own(home: &Home, vault: &Vault) -> Result<Option<FleetAuthority>, String> {
    let Some(pem) = home.find(Piece::Authority).map_err(told)? else {
        return Ok(None);
    };
    find(home, vault, &FleetTrust::from_pem(&pem).map_err(told)?)
}

/// This authority, if its key is here. A key in plain, of an earlier version, is sealed at once.
fn find(home: &Home, vault: &Vault, trust: &FleetTrust) -> Result<Option<FleetAuthority>, String> {
    let der = trust.der();
    if let Some(key) = vault.get(&name_of(trust)?).map_err(told)? {
        let authority = FleetAuthority::from_der(&der, &key).map_err(told)?;
        home.remove(Piece::AuthorityKey).map_err(told)?;
        return Ok(Some(authority));
    }
    let Some(key) = home.find(Piece::AuthorityKey).map_err(told)? else {
        return Ok(None);
    };
    let authority = FleetAuthority::from_der(&der, &key).map_err(told)?;
    seal(home, vault, &authority)?;
    Ok(Some(authority))
}

/// Seals its key on this node's disk.
pub(super) fn seal(home: &Home, vault: &Vault, authority: &FleetAuthority) -> Result<(), String> {
    let name = name_of(authority.trust())?;
    vault.put(&name, authority.key_pem()).map_err(told)?;
    home.remove(Piece::AuthorityKey).map_err(told)
}

/// Within so long of a key's being drawn the state names its authority, or never does.
const NAMED_WITHIN: Duration = Duration::from_secs(60);
const PREFIX: &str = "fleet-authority-";

/// Of each authority another one: when it is exchanged, a node holds two.
fn name_of(trust: &FleetTrust) -> Result<KeyName, String> {
    KeyName::new(&name_text(&trust.fingerprint())).map_err(told)
}

fn name_text(fingerprint: &Fingerprint) -> String {
    let short = fingerprint.iter().take(8);
    let short: String = short.map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{short}")
}

fn told(error: impl std::fmt::Display) -> String {
    format!("the fleet's authority: {error}")
}

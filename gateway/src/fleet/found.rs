//! `portcullis init`: a fleet of one node, to which others can be invited.
//!
//! Every step leaves a file behind and finds it again, so that a run which was cut off anywhere is
//! finished by the next one. The last step is `membership.json`; until it is there, no fleet is.

use std::path::Path;

use portcullis_certs::authority::Key;
use portcullis_certs::fleet::{
    FleetAuthority, FleetId as NamedFleet, JoinRequest, LogKey, RecoveryKey, ViewKey,
};
use portcullis_certs::generate_key;
use portcullis_certs::schedule::Terms;
use portcullis_consensus::{Consensus, Draft, Settings};
use portcullis_policy::{
    Author, Command, FleetId, GuardRails, KeyHash, NodeId, NodeName, RequestId,
};

use super::authority::{find_own, seal};
use super::home::{Home, Membership, Piece, Seed, write_private};
use super::keeping::Keeping;
use super::opened::salt;
use super::renewing::valid_from_now;
use super::roles_of;
use crate::config::node::NodeConfig;
use crate::runtime::clock;
use crate::runtime::random;
use crate::vault::Vault;

/// What `init` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founded {
    /// There is a fleet now.
    Now,
    /// There was one, and this node is of it: nothing was changed.
    Before,
}

/// Founds a fleet on the node that `config` describes, which is not running. What it had in force
/// stays in force. The recovery key is written to `recovery`, unless one lies there.
///
/// # Errors
/// In words; the same call goes on where this one stopped.
pub async fn found(
    config: &NodeConfig,
    recovery: &Path,
    guard_rails: GuardRails,
) -> Result<(Founded, Membership), String> {
    let place = config
        .fleet
        .as_ref()
        .filter(|place| place.roles.control)
        .ok_or("node.toml has no [fleet] with the role control: a fleet begins with a node that votes; write [fleet] with `listen`")?;
    let address = place
        .address
        .clone()
        .ok_or("node.toml has no fleet.address")?;
    let home = Home::of(&config.data);
    if let Some(membership) = home.membership().map_err(|error| error.to_string())? {
        return Ok((Founded::Before, membership));
    }
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let vault = Vault::at(&config.data, &config.root_key);
    vault.unseal();
    let authority = drawn_authority(&home, &vault)?;
    let fleet = FleetId::new(authority.trust().fleet().0);
    let key = drawn(&home, Piece::Key)?;
    let view_key = drawn_view_key(&home, Piece::ViewKey)?;
    draw_log_key(&home)?;
    let recovery_key = recovery_key(recovery)?;
    let public = hex(recovery_key.public().as_ref());
    home.write(Piece::RecoveryPublic, &public)
        .map_err(|error| told(&error))?;
    let request = JoinRequest::new(&key).map_err(|error| told(&error))?;
    let certificate = authority
        .issue_node(NodeId::FIRST.get(), request.key(), valid_from_now())
        .map_err(|error| told(&error))?;
    home.write(Piece::Certificate, &certificate)
        .map_err(|error| told(&error))?;

    let name: NodeName = config
        .name
        .parse()
        .map_err(|error| format!("the node's name: {error}"))?;
    let command = Command::Found {
        fleet,
        name,
        roles: roles_of(place.roles),
        key: KeyHash::new(request.key().hash()),
        view_key: view_key.public(),
        address: address.clone(),
        recovery_key: recovery_key.public(),
        guard_rails,
    };
    let draft = Draft {
        // Of the fleet's own id: a repetition is the same request.
        request: Some(RequestId::new(*fleet.as_bytes())),
        author: Author::local("init"),
        command,
    };
    propose_alone(config, draft).await?;
    let membership = Membership {
        fleet,
        node: NodeId::FIRST,
        name: config.name.clone(),
        epoch: 1,
        seeds: vec![Seed {
            node: NodeId::FIRST,
            key: KeyHash::new(request.key().hash()),
            address: Some(address),
            view_key: Some(view_key.public()),
        }],
    };
    home.write_membership(&membership)
        .map_err(|error| told(&error))?;
    Ok((Founded::Now, membership))
}

/// Opens this node's state as its only voter, and executes one command.
async fn propose_alone(config: &NodeConfig, draft: Draft) -> Result<(), String> {
    let state = |error: &dyn std::fmt::Display| {
        format!("the node's state in {}: {error}", config.data.display())
    };
    let keeping = Keeping::open(&config.data)?;
    let consensus = Consensus::open(
        Settings::alone(&config.data)
            .with_leaves(keeping)
            .with_salts(salt),
    )
    .await
    .map_err(|error| state(&error))?;
    let outcome = consensus.propose(draft, clock::now).await;
    consensus.shutdown().await;
    outcome.map(drop).map_err(|error| state(&error))
}

fn drawn_authority(home: &Home, vault: &Vault) -> Result<FleetAuthority, String> {
    let told = |error: &dyn std::fmt::Display| format!("the fleet's authority: {error}");
    if let Some(kept) = find_own(home, vault)? {
        return Ok(kept);
    }
    let key = generate_key().map_err(|error| told(&error))?;
    let id = NamedFleet(*drawn_fleet_id(home)?.as_bytes());
    let authority = FleetAuthority::new(id, key, Terms::AUTHORITY.from(clock::unix_seconds()))
        .map_err(|error| told(&error))?;
    seal(home, vault, &authority)?;
    home.write(Piece::Authority, authority.authority_pem())
        .map_err(|error| told(&error))?;
    Ok(authority)
}

/// What signs the audit logs of a node that is a fleet by itself, drawn if it was not: the fleet's id,
/// which it keeps once it founds one.
pub(super) fn alone(home: &Home) -> Result<FleetId, String> {
    drawn_view_key(home, Piece::ViewKey)?;
    draw_log_key(home)?;
    drawn_fleet_id(home)
}

fn drawn_fleet_id(home: &Home) -> Result<FleetId, String> {
    let told = |error: &dyn std::fmt::Display| format!("the fleet's id: {error}");
    if let Some(text) = home.find(Piece::FleetId).map_err(|error| told(&error))? {
        return text.trim().parse().map_err(|error| told(&error));
    }
    let id = FleetId::new(random::bytes());
    home.write(Piece::FleetId, &format!("{id}\n"))
        .map_err(|error| told(&error))?;
    Ok(id)
}

/// The key in this file; drawn if there is none.
pub(super) fn drawn(home: &Home, piece: Piece) -> Result<Key, String> {
    let told = |error: &dyn std::fmt::Display| format!("the node's key: {error}");
    if let Some(pem) = home.find(piece).map_err(|error| told(&error))? {
        return Key::from_pem(&pem).map_err(|error| told(&error));
    }
    let key = generate_key().map_err(|error| told(&error))?;
    home.write(piece, &key.to_pem())
        .map_err(|error| told(&error))?;
    Ok(key)
}

/// The key for views in this file; drawn if there is none.
pub(super) fn drawn_view_key(home: &Home, piece: Piece) -> Result<ViewKey, String> {
    let told = |error: &dyn std::fmt::Display| format!("the node's key for views: {error}");
    if let Some(pem) = home.find(piece).map_err(|error| told(&error))? {
        return ViewKey::from_pem(&pem).map_err(|error| told(&error));
    }
    let key = ViewKey::from_seed(random::bytes()).map_err(|error| told(&error))?;
    home.write(piece, &key.to_pem())
        .map_err(|error| told(&error))?;
    Ok(key)
}

/// The key of the audit logs; none is drawn where there is one.
fn draw_log_key(home: &Home) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("the audit log's key: {error}");
    if home
        .find(Piece::LogKey)
        .map_err(|error| told(&error))?
        .is_some()
    {
        return Ok(());
    }
    let key = LogKey::from_seed(random::bytes()).map_err(|error| told(&error))?;
    home.write(Piece::LogKey, &key.to_pem())
        .map_err(|error| told(&error))
}

fn recovery_key(path: &Path) -> Result<RecoveryKey, String> {
    let told =
        |error: &dyn std::fmt::Display| format!("the recovery key {}: {error}", path.display());
    match std::fs::read_to_string(path) {
        Ok(pem) => RecoveryKey::from_pem(&pem).map_err(|error| told(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = RecoveryKey::from_seed(random::bytes()).map_err(|error| told(&error))?;
            write_private(path, key.to_pem().as_bytes()).map_err(|error| told(&error))?;
            Ok(key)
        }
        Err(error) => Err(told(&error)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! `portcullis join`: making a stranger a node, by a token.
//!
//! The stranger draws its key and keeps it; it shows the token to a control node that it knows by
//! the fingerprint in the token, and is given an id and a certificate. Cut off anywhere, it asks
//! again with the same key and is answered the same.

use std::path::Path;

use portcullis_certs::fleet::{
    FleetAuthority, FleetTrust, JoinRequest as Proof, JoinToken, NodeIdentity, join_client_config,
};
use portcullis_consensus::await_leader;
use portcullis_policy::FleetId;
use tokio::time::sleep;

use super::authority::seal;
use super::found::{drawn, drawn_view_key};
use super::home::{Home, Membership, Piece, write_private};
use super::words::{self, JoinReply, JoinRequest, Welcome};
use crate::config::node::NodeConfig;
use crate::mesh;
use crate::runtime::clock::{self, Duration};
use crate::vault::Vault;

/// How long a stranger asks, one address after the other.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// How long one control node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The pause before all addresses are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Joins the fleet of this token with the node that `config` describes, which is not running.
///
/// # Errors
/// In words; the same call goes on where this one stopped.
pub async fn join(config: &NodeConfig, token: &JoinToken) -> Result<Membership, String> {
    let place = config
        .fleet
        .as_ref()
        .ok_or("node.toml has no [fleet]: write one, with the roles that the token is for")?;
    let home = Home::of(&config.data);
    if let Some(membership) = home.membership().map_err(|error| error.to_string())? {
        if membership.fleet.as_bytes() == &token.fleet().0 {
            return Ok(membership);
        }
        return Err(format!(
            "this node is node {} of fleet {} already; another fleet takes another data directory",
            membership.node, membership.fleet
        ));
    }
    let state = config.data.join("state.redb");
    let begun = home
        .find(Piece::JoiningKey)
        .map_err(|error| error.to_string())?;
    if state.exists() && begun.is_none() {
        return Err(format!(
            "{} holds a state: a node joins with an empty data directory and is given the fleet's state; move it away",
            state.display()
        ));
    }
    // What it will be given must be sealed: better known before the token is used.
    let vault = place
        .roles
        .control
        .then(|| Vault::at(&config.data, &config.root_key));
    if let Some(problem) = vault.as_ref().and_then(|vault| vault.unseal()) {
        return Err(format!("this node's vault is sealed: {problem}"));
    }
    let key = drawn(&home, Piece::JoiningKey)?;
    let view_key = if place.roles.control {
        Some(drawn_view_key(&home, Piece::JoiningViewKey)?)
    } else {
        None
    };
    let proof = Proof::new(&key).map_err(|error| error.to_string())?;
    let request = JoinRequest {
        secret: *token.secret(),
        name: config.name.clone(),
        control: place.roles.control,
        gateway: place.roles.gateway,
        request: proof.der().to_vec(),
        view_key: view_key.as_ref().map(|key| key.public()),
        address: place.address.clone(),
    };
    let welcome = ask(token, &request).await?;
    settle(&home, config, vault.as_deref(), token, &welcome)
}

async fn ask(token: &JoinToken, request: &JoinRequest) -> Result<Box<Welcome>, String> {
    let tls = join_client_config(token).map_err(|error| error.to_string())?;
    let request = words::encode(request)?;
    let deadline = clock::instant() + JOIN_LIMIT;
    loop {
        let mut last = "the token names no address".to_owned();
        for address in token.addresses() {
            let asked =
                mesh::ask_as_stranger(address, tls.clone(), mesh::JOIN, &request, ANSWER_LIMIT);
            match asked
                .await
                .map_err(|error| error.to_string())
                .and_then(|joined| words::decode(&joined.answer))
            {
                Ok(JoinReply::Welcome(welcome)) => return Ok(welcome),
                Ok(JoinReply::Refused {
                    message,
                    again: false,
                    code,
                }) => {
                    return Err(format!("the fleet refuses this node ({code}): {message}"));
                }
                Ok(JoinReply::Refused { message, .. }) => last = format!("{address}: {message}"),
                Err(problem) => last = format!("{address}: {problem}"),
            }
        }
        if clock::instant() >= deadline {
            return Err(format!(
                "no control node let this one in within {} s; {last}",
                JOIN_LIMIT.as_secs()
            ));
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Checks what was given and writes it down, membership last.
fn settle(
    home: &Home,
    config: &NodeConfig,
    vault: Option<&Vault>,
    token: &JoinToken,
    welcome: &Welcome,
) -> Result<Membership, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let trust = FleetTrust::from_pem(&welcome.authority).map_err(|error| told(&error))?;
    if !trust.believes(token.fingerprint()) {
        return Err(
            "the fleet's authority is not the one that the token names; nothing was written"
                .to_owned(),
        );
    }
    let key = home.read(Piece::JoiningKey).map_err(|error| told(&error))?;
    let identity =
        NodeIdentity::from_pem(&welcome.certificate, &key).map_err(|error| told(&error))?;
    if identity.fleet() != token.fleet() || identity.node() != welcome.node.get() {
        return Err(
            "the certificate is for another node than the answer says; nothing was written"
                .to_owned(),
        );
    }
    if let (Some(vault), Some(key)) = (vault, &welcome.authority_key) {
        let authority =
            FleetAuthority::from_pem(&welcome.authority, key).map_err(|error| told(&error))?;
        seal(home, vault, &authority)?;
    }
    let write = || -> Result<(), super::home::HomeError> {
        home.write(Piece::Authority, &welcome.authority)?;
        if let Some(key) = welcome.log_key.as_deref().filter(|_| vault.is_some()) {
            home.write(Piece::LogKey, key)?;
        }
        if let Some(key) = home.find(Piece::JoiningViewKey)? {
            home.write(Piece::ViewKey, &key)?;
        }
        home.write(Piece::RecoveryPublic, &hex(&welcome.recovery_key))?;
        home.write(Piece::Key, &key)?;
        home.write(Piece::Certificate, &welcome.certificate)?;
        write_private(&secret_file(&config.data), &welcome.secret)
    };
    write().map_err(|error| told(&error))?;
    if vault.is_some() {
        await_leader(&config.data, welcome.node).map_err(|error| told(&error))?;
    }
    let membership = Membership {
        fleet: FleetId::new(token.fleet().0),
        node: welcome.node,
        name: config.name.clone(),
        epoch: welcome.epoch,
        seeds: welcome.seeds.clone(),
    };
    home.write_membership(&membership)
        .and_then(|()| home.remove(Piece::JoiningKey))
        .and_then(|()| home.remove(Piece::JoiningViewKey))
        .map_err(|error| told(&error))?;
    Ok(membership)
}

/// The secret that is the same on every node, called after its first use.
#[must_use]
pub fn secret_file(data: &Path) -> std::path::PathBuf {
    data.join("mock-secret")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
